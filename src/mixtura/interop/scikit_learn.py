"""Fitted mixtures and centres as scikit-learn's estimators, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.mixture import BayesianGaussianMixture as SklearnBayesianGaussianMixture
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture
from sklearn.utils.validation import check_is_fitted

from mixtura.array_kinds import to_host

# Attributes of a fit that both have, under the same names and with the same meaning.
_OF_MIXTURES = (
    "weights_",
    "means_",
    "covariances_",
    "precisions_",
    "precisions_cholesky_",
    "converged_",
    "n_iter_",
    "lower_bound_",
    "lower_bounds_",
    "n_features_in_",
    "feature_names_in_",
)
_OF_POSTERIORS = (
    *_OF_MIXTURES,
    "mean_precision_",
    "degrees_of_freedom_",
    "weight_concentration_prior_",
    "mean_precision_prior_",
    "mean_prior_",
    "degrees_of_freedom_prior_",
    "covariance_prior_",
)
_OF_CENTRES = ("cluster_centers_", "labels_", "inertia_", "n_iter_", "n_features_in_", "feature_names_in_")


def _moved(one: Any, other: Any, names: tuple[str, ...]) -> None:
    """Copy fitted attributes, arrays as NumPy's."""
    for name in names:
        if hasattr(one, name):
            value = to_host(getattr(one, name))
            setattr(other, name, np.array(value) if isinstance(value, np.ndarray) else value)


def _shared_parameters(one: Any, kind: type[Any]) -> dict[str, Any]:
    """The parameters of an estimator that another class has too."""
    known = set(kind().get_params(deep=False))
    return {name: value for name, value in one.get_params(deep=False).items() if name in known}


def mixture_to_sklearn(model: Any) -> SklearnGaussianMixture:
    """See ``GaussianMixture.to_sklearn``."""
    check_is_fitted(model)
    parameters = _shared_parameters(model, SklearnGaussianMixture)
    theirs = SklearnGaussianMixture(**parameters)
    if model._has_noise or model._covariance.name not in ("full", "tied", "diag", "spherical"):
        what = "a noise component" if model._has_noise else f"covariance_type={model._covariance.name!r}"
        raise ValueError(f"scikit-learn's GaussianMixture has no mixture with {what}")
    theirs.set_params(n_components=len(model.weights_), covariance_type=model._covariance.name)
    defaults = SklearnGaussianMixture().get_params(deep=False)
    for name in ("init_params", "reg_covar", "weights_init", "means_init", "precisions_init"):
        if not _valid(theirs, name) or np.isnan(_numbers(getattr(theirs, name))).any():
            theirs.set_params(**{name: defaults[name]})  # a value that only our own class knows
    _moved(model, theirs, _OF_MIXTURES)
    for name in _OF_MIXTURES[:5]:  # scikit-learn's formulas lose digits, of which float32 has few
        setattr(theirs, name, getattr(theirs, name).astype(np.float64))
    return theirs


def _numbers(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64) if isinstance(value, np.ndarray | list) else np.zeros(0)


def _valid(estimator: Any, name: str) -> bool:
    """Whether a parameter is one of those that its estimator takes."""
    from sklearn.utils._param_validation import make_constraint

    constraints = estimator._parameter_constraints.get(name, [])
    value = getattr(estimator, name)
    return any(make_constraint(c).is_satisfied_by(value) for c in constraints)


def mixture_from_sklearn(kind: type[Any], theirs: Any) -> Any:
    """See ``GaussianMixture.from_sklearn``."""
    if not isinstance(theirs, SklearnGaussianMixture):
        raise TypeError(f"expected a GaussianMixture of scikit-learn, got {type(theirs).__name__}")
    check_is_fitted(theirs)
    model = kind(**_shared_parameters(theirs, kind))
    _moved(theirs, model, _OF_MIXTURES)
    model.backend_ = "scikit-learn"
    model._fitted_type = theirs.covariance_type
    if not hasattr(model, "lower_bounds_"):  # older versions keep only the last
        model.lower_bounds_ = [theirs.lower_bound_]
    model._check_state()
    return model


def bayesian_to_sklearn(model: Any) -> SklearnBayesianGaussianMixture:
    """See ``BayesianGaussianMixture.to_sklearn``."""
    check_is_fitted(model)
    theirs = SklearnBayesianGaussianMixture(**_shared_parameters(model, SklearnBayesianGaussianMixture))
    if not _valid(theirs, "init_params"):
        theirs.set_params(init_params="kmeans")
    _moved(model, theirs, _OF_POSTERIORS)
    for name in _OF_POSTERIORS[:5]:
        setattr(theirs, name, getattr(theirs, name).astype(np.float64))
    held = np.array(to_host(model._concentration))
    theirs.weight_concentration_ = (held[0], held[1]) if held.ndim == 2 else held
    return theirs


def bayesian_from_sklearn(kind: type[Any], theirs: Any) -> Any:
    """See ``BayesianGaussianMixture.from_sklearn``."""
    if not isinstance(theirs, SklearnBayesianGaussianMixture):
        raise TypeError(f"expected a BayesianGaussianMixture of scikit-learn, got {type(theirs).__name__}")
    check_is_fitted(theirs)
    model = kind(**_shared_parameters(theirs, kind))
    _moved(theirs, model, _OF_POSTERIORS)
    model._concentration = np.array(theirs.weight_concentration_)
    model.degrees_of_freedom_ = np.asarray(theirs.degrees_of_freedom_, dtype=np.float64)
    model.backend_ = "scikit-learn"
    model.lower_bound_ = np.asarray(theirs.lower_bound_).item()  # of 'tied' an array of one number
    # Older versions keep only the last.
    model.lower_bounds_ = [
        np.asarray(b).item() for b in getattr(theirs, "lower_bounds_", [theirs.lower_bound_])
    ]
    model._check_state()
    return model


def kmeans_to_sklearn(model: Any) -> SklearnKMeans:
    """See ``KMeans.to_sklearn``."""
    check_is_fitted(model)
    theirs = SklearnKMeans(**_shared_parameters(model, SklearnKMeans))
    if not _valid(theirs, "init") or (isinstance(theirs.init, str) and theirs.init == "auto"):
        theirs.set_params(init="k-means++")
    _moved(model, theirs, _OF_CENTRES)
    theirs._n_features_out = len(theirs.cluster_centers_)
    theirs._n_threads = 1
    return theirs


def kmeans_from_sklearn(kind: type[Any], theirs: Any) -> Any:
    """See ``KMeans.from_sklearn``."""
    if not isinstance(theirs, SklearnKMeans):
        raise TypeError(f"expected a KMeans of scikit-learn, got {type(theirs).__name__}")
    check_is_fitted(theirs)
    model = kind(**_shared_parameters(theirs, kind))
    _moved(theirs, model, _OF_CENTRES)
    bound = -0.5 * theirs.inertia_ / max(len(theirs.labels_), 1)
    model.backend_, model.converged_ = "scikit-learn", theirs.n_iter_ < theirs.max_iter
    model.lower_bound_, model.lower_bounds_ = bound, [bound]
    model._n_features_out = theirs.n_clusters
    model._sizes = np.bincount(theirs.labels_, minlength=theirs.n_clusters)
    model._check_state()
    return model
