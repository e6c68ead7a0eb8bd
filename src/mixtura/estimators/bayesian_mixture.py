"""Bayesian Gaussian mixtures with scikit-learn's interface."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import DensityMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from mixtura import em
from mixtura.array_kinds import in_kind, to_host
from mixtura.backends.base import PRECISIONS, Precision
from mixtura.components import COVARIANCES, Covariance
from mixtura.components.bayesian import BayesianGaussians, NormalWishart
from mixtura.components.precisions import precisions_of
from mixtura.estimators.base import LabellingEstimator
from mixtura.estimators.failing import as_before_if_it_fails
from mixtura.estimators.validation import check_fit, check_rows, check_weights, weighted_sum
from mixtura.found import Found
from mixtura.gates.dirichlet import DirichletGate
from mixtura.gates.sticks import StickGate
from mixtura.mixture import Mixture
from mixtura.report import summary
from mixtura.starts import INITIALIZERS
from mixtura.table import Table

Float = NDArray[np.float64]
BayesianGate = StickGate | DirichletGate
Parameters = Mixture[BayesianGate, BayesianGaussians]

# Rows whose densities are worked out together.
_BLOCK = 1 << 14

_PROCESS, _DISTRIBUTION = "dirichlet_process", "dirichlet_distribution"


class BayesianGaussianMixture(DensityMixin, LabellingEstimator):
    """Gaussian mixture whose parameters have posterior distributions, by variational inference.

    A drop-in replacement for :class:`sklearn.mixture.BayesianGaussianMixture`: the same parameters, attributes and
    errors. In addition it takes sample weights, and ``lower_bound_`` is the exact evidence lower bound, with all its
    constants, so that it compares numbers of components and priors. Components that the rows do not need lose them.

    Where scikit-learn takes the digamma and gamma functions of Wishart distributions for 'diag' and 'spherical', and a
    K-th part of the rows for 'tied', this has the distributions that belong to them.

    Parameters
    ----------
    n_components : int, default=1
        K, the most components.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    tol : float, default=1e-3
        A fit is over when the lower bound changes by less.
    reg_covar : float, default=1e-6
        Added to the variances of the prior's scale, where scikit-learn adds it to each component's own, so that the
        bound never falls.
    max_iter : int, default=100
    n_init : int, default=1
    init_params : {'kmeans', 'hierarchical', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
    weight_concentration_prior_type : {'dirichlet_process', 'dirichlet_distribution'}, default='dirichlet_process'
    weight_concentration_prior : float, default=None
        The larger, the more components keep rows; None is 1 / K.
    mean_precision_prior : float, default=None
        Rows for which the prior of a mean counts; None is 1.
    mean_prior : array-like of shape (D,), default=None
        None is the mean of the rows.
    degrees_of_freedom_prior : float, default=None
        Above D - 1; None is D.
    covariance_prior : array-like, default=None
        The inverse of the Wishart distributions' scale, as a covariance of the type is kept: (D, D), (D,) or a number.
        None is the rows' covariance.
    random_state : int, RandomState instance or None, default=None
    warm_start : bool, default=False
    verbose : int, default=0
    verbose_interval : int, default=10
    backend : {'auto', 'native', 'numba', 'reference', 'cuda'}, default='auto'
    n_threads : int, default=None
    precision : {'exact', 'fast'}, default='exact'
        As in :class:`GaussianMixture`.

    Attributes
    ----------
    weights_ : ndarray of shape (K,)
        Means of the weights.
    means_ : ndarray of shape (K, D)
    covariances_, precisions_, precisions_cholesky_ : ndarray
        Of the precisions' means, in the shapes of :class:`GaussianMixture`.
    weight_concentration_ : ndarray of shape (K,), or two of them
        Of the Dirichlet distribution, or of the beta distributions of the Dirichlet process.
    mean_precision_, degrees_of_freedom_ : ndarray of shape (K,)
        ``degrees_of_freedom_`` is one number for 'tied'.
    weight_concentration_prior_, mean_precision_prior_, mean_prior_, degrees_of_freedom_prior_, covariance_prior_
        The priors.
    converged_ : bool
    n_iter_ : int
    n_passes_ : float
    lower_bound_ : float
        Of all rows.
    lower_bounds_ : list of float
    backend_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)

    References
    ----------
    Bishop (2006), Pattern Recognition and Machine Learning, 10.2. Blei, Jordan (2006), Variational inference for
    Dirichlet process mixtures.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import BayesianGaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2)) + 8.0 * rng.integers(0, 2, size=(500, 1))
    >>> model = BayesianGaussianMixture(n_components=6, max_iter=500, random_state=0).fit(X)
    >>> int((model.weights_ > 0.01).sum())
    2
    """

    _saved_arrays = (
        "weights_",
        "means_",
        "covariances_",
        "precisions_",
        "precisions_cholesky_",
        "mean_precision_",
        "degrees_of_freedom_",
        "mean_prior_",
        "covariance_prior_",
        "_concentration",
    )
    _fitted_as: list[str]  # once fitted
    _needed_values = (
        "weight_concentration_prior_",
        "mean_precision_prior_",
        "degrees_of_freedom_prior_",
        "converged_",
        "n_iter_",
        "lower_bound_",
        "backend_",
        "n_features_in_",
    )
    _saved_values = (
        "weight_concentration_prior_",
        "mean_precision_prior_",
        "degrees_of_freedom_prior_",
        "converged_",
        "n_iter_",
        "n_passes_",
        "lower_bound_",
        "lower_bounds_",
        "backend_",
        "n_features_in_",
        "_n_rows",
        "_fitted_as",
    )
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions({"full", "tied", "diag", "spherical"})],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(INITIALIZERS))],
        "weight_concentration_prior_type": [StrOptions({_PROCESS, _DISTRIBUTION})],
        "weight_concentration_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "mean_precision_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "mean_prior": [None, "array-like"],
        "degrees_of_freedom_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "covariance_prior": [None, "array-like", Interval(Real, 0.0, None, closed="neither")],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "backend": [str],
        "n_threads": [None, Interval(Integral, 1, None, closed="left")],
        "precision": [StrOptions(set(PRECISIONS))],
    }

    def __init__(
        self,
        *,
        n_components: int = 1,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weight_concentration_prior_type: str = _PROCESS,
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: ArrayLike | None = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: ArrayLike | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        backend: str = "auto",
        n_threads: int | None = None,
        precision: Precision = "exact",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.backend = backend
        self.n_threads = n_threads
        self.precision = precision

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False  # as GaussianMixture: by mixtura.data.as_source
        return tags

    # ------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> BayesianGaussianMixture:
        """Find the posterior.

        Parameters
        ----------
        X : array-like of shape (N, D), source or path
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows. Unlike in :class:`GaussianMixture` a common factor matters, beside the
            priors.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is not finite, or has fewer rows than components; a prior has the wrong shape or is not positive definite.
        """
        self._fit(X, sample_weight)
        return self

    @in_kind
    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def fit_predict(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit, then label the same rows.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        labels : ndarray of shape (N,), int64
        """
        return self._labels(self._fit(X, sample_weight))

    def _fit(self, X: Any, sample_weight: Any) -> Table:
        given_rows = X
        backend, X = self._opened(X)
        X = check_rows(self, X, reset=True, min_rows=2, backend=backend, finite=False)
        K = self.n_components
        if X.shape[0] < K:
            raise ValueError(
                "Expected n_samples >= n_components "
                f"but got n_components = {self.n_components}, n_samples = {X.shape[0]}"
            )
        weights = check_weights(sample_weight, X)
        check_fit(X, weights, K, getattr(self, "feature_names_in_", None))
        table = Table.of(backend, X, weights)
        warm = self.warm_start and hasattr(self, "converged_") and np.shape(self.means_) == (K, X.shape[1])
        if warm and list(getattr(self, "_fitted_as", self._kinds)) != self._kinds:
            raise ValueError(
                f"warm_start: the last fit had covariance type and prior of weights {list(self._fitted_as)}, this one "
                f"{self._kinds}. Set warm_start=False, or clone the estimator, for a new start."
            )
        self.__dict__.pop("_fitted_as", None)  # of the last fit
        prior = self._prior(table)
        rng, total = check_random_state(self.random_state), table.total_weight
        last = (self._mixture(prior), self.lower_bound_ / total) if warm else None

        def one(_: int, report: Callable[[em.Step[Any]], bool] | None) -> em.Fit[Parameters]:
            if last is not None:
                start, bound = last
            else:
                first = Mixture(self._gate().start(K, table, rng), self._before(prior))
                moments = INITIALIZERS[self.init_params](table, K, first.components.kind, 0.0, rng)
                start, bound = first.maximize(Found(table, moments)), -math.inf
            return em.run(
                start,
                table,
                max_iter=self.max_iter,
                stop=lambda step: abs(step.change) * total < self.tol,
                report=report,
                bound=bound,
            )

        def attributes(fit: em.Fit[Parameters]) -> dict[str, Any]:
            return self._attributes(fit, table, prior)

        best, tasks = self._search(table, 1 if warm else self.n_init, one, attributes)
        if not best.converged and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. "
                "Try different init parameters, or increase max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=5,
            )
        self._adopt(attributes(best), given_rows, table, tasks)
        return table

    def _least_change(self) -> float:
        return self.tol

    @property
    def _covariance(self) -> Covariance:
        """The family of the covariances, of this fit or of the one that was made."""
        fitted = list(getattr(self, "_fitted_as", self._kinds))
        if fitted != self._kinds:
            raise ValueError(
                f"covariance_type or weight_concentration_prior_type was set after the fit, from {fitted} to "
                f"{self._kinds}: fit again, or set it back"
            )
        return COVARIANCES[self.covariance_type]

    def _gate(self) -> BayesianGate:
        """The gate before its first M-step."""
        given = self.weight_concentration_prior
        concentration = 1.0 / self.n_components if given is None else float(given)
        if self.weight_concentration_prior_type == _PROCESS:
            return StickGate(concentration)
        return DirichletGate(concentration)

    def _before(self, prior: NormalWishart) -> BayesianGaussians:
        """The components before their first M-step: ``reg_covar`` is part of the prior's scale."""
        scale = self._covariance.storage.regularized(np.array(prior.scale, dtype=np.float64), self.reg_covar)
        return BayesianGaussians.start(
            self._covariance, NormalWishart(prior.mean, prior.shrinkage, prior.dof, scale), self.n_components
        )

    def _prior(self, table: Table) -> NormalWishart:
        """The prior that the parameters ask for, or that follows from the rows."""
        D, storage = table.dims, self._covariance.storage
        shrinkage = 1.0 if self.mean_precision_prior is None else float(self.mean_precision_prior)
        dof = float(D if self.degrees_of_freedom_prior is None else self.degrees_of_freedom_prior)
        if not dof > D - 1.0:
            raise ValueError(
                f"The parameter 'degrees_of_freedom_prior' should be greater than {D - 1}, but got {dof:.3f}."
            )
        precisions = precisions_of(self._covariance)
        moments = table.moments(precisions.kind)
        if self.mean_prior is None:
            mean = moments.means()[0]
        else:
            mean = self._given(self.mean_prior, (D,), "means")
        if self.covariance_prior is not None:
            shape = storage.shape(1, D)[0 if storage.shared else 1 :]
            scale = self._given(self.covariance_prior, shape, f"{self.covariance_type} covariance_prior")
            storage.check_precisions(scale if storage.shared else scale[None], self.covariance_type)
            return NormalWishart(mean, shrinkage, dof, scale)
        n = table.total_weight
        scale = precisions.scale(moments.covariances()[0] * (n / max(n - 1.0, 1.0)))
        return NormalWishart(mean, shrinkage, dof, scale)

    def _given(self, value: Any, shape: tuple[int, ...], name: str) -> Float:
        """A parameter as an array of the right shape."""
        if shape == ():
            if np.size(value) != 1:
                raise ValueError(f"The parameter '{name}' should be one number, but got {np.shape(value)}")
            return np.asarray(value, dtype=np.float64).reshape(())
        # A copy: the caller may change his.
        array: Float = check_array(to_host(value), dtype=np.float64, ensure_2d=False, copy=True)
        if array.shape != shape:
            raise ValueError(
                f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}"
            )
        return array

    def _attributes(self, fit: em.Fit[Parameters], table: Table, prior: NormalWishart) -> dict[str, Any]:
        """Fitted attributes, in the type of X."""
        components, gate, total = fit.parameters.components, fit.parameters.gate, table.total_weight
        dtype, storage = table.x.dtype, components.covariance.storage
        cholesky = components.precisions_cholesky
        dof = components.dof[0] if storage.shared else components.dof
        concentration = self.weight_concentration_prior
        return {
            "weights_": gate.weights.astype(dtype),
            "means_": components.means.astype(dtype),
            "covariances_": storage.rounded(components.covariances, dtype),
            "precisions_": storage.rounded(storage.precisions(cholesky), dtype),
            "precisions_cholesky_": cholesky.astype(dtype, order="C"),
            "mean_precision_": components.shrinkage,
            "degrees_of_freedom_": np.asarray(dof),
            "weight_concentration_prior_": 1.0 / self.n_components
            if concentration is None
            else concentration,
            "mean_precision_prior_": prior.shrinkage,
            "mean_prior_": prior.mean,
            "degrees_of_freedom_prior_": prior.dof,
            "covariance_prior_": prior.scale if prior.scale.ndim else float(prior.scale),
            "_fitted_as": self._kinds,
            "_n_rows": len(table),
            "_concentration": gate.concentrations,
            "converged_": fit.converged,
            "n_iter_": fit.n_iter,
            "lower_bound_": fit.bound * total,
            "lower_bounds_": [bound * total for bound in fit.bounds],
            "backend_": table.backend.name,
        }

    @property
    def weight_concentration_(self) -> Any:
        """Of the Dirichlet distribution, or of the beta distributions of the Dirichlet process."""
        held = self._concentration
        return (held[0], held[1]) if held.ndim == 2 else held

    @property
    def _kinds(self) -> list[str]:
        """The parameters that say what fitted attributes there are."""
        return [self.covariance_type, self.weight_concentration_prior_type]

    def _mixture(self, prior: NormalWishart | None = None) -> Parameters:
        """The fitted attributes as parameters, with their prior or another one."""
        gate, held = self._gate(), self._host("_concentration")
        K = len(self.weights_)
        gate = gate.with_concentrations(held)
        if prior is None:
            prior = NormalWishart(
                self._host("mean_prior_"),
                self.mean_precision_prior_,
                self.degrees_of_freedom_prior_,
                np.asarray(to_host(self.covariance_prior_), dtype=np.float64),
            )
        components = replace(
            self._before(prior),
            means=self._host("means_").astype(np.float64),
            shrinkage=self._host("mean_precision_"),
            dof=np.broadcast_to(self._host("degrees_of_freedom_"), K),
            covariances=self._host("covariances_").astype(np.float64),
            precisions_cholesky=self._host("precisions_cholesky_").astype(np.float64),
        )
        return Mixture(gate, components)

    def _check_state(self) -> None:
        """Raise ValueError unless parameters and fitted attributes are consistent."""
        self._validate_params()
        K, D = np.shape(self.means_)
        shape = self._covariance.storage.shape(K, D)
        of_gate = (2, K) if self.weight_concentration_prior_type == _PROCESS else (K,)
        for name, wanted in (
            ("weights_", (K,)),
            ("means_", (self.n_components, self.n_features_in_)),
            ("covariances_", shape),
            ("precisions_", shape),
            ("precisions_cholesky_", shape),
            ("mean_precision_", (K,)),
            ("degrees_of_freedom_", () if self._covariance.storage.shared else (K,)),
            ("_concentration", of_gate),
        ):
            value = self._host(name)
            if value.shape != wanted or value.dtype not in (np.float32, np.float64):
                raise ValueError(f"{name} is {value.dtype} {value.shape}, not floating-point {wanted}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} is not finite")

    # ------------------------------------------------------------------ predict

    def _posterior(self, table: Table, resp: NDArray[np.floating] | None = None) -> Float:
        density = table.posterior(self._mixture().joint, resp)
        self._check_answers(table, density, "component", "log-density")
        return density

    def _labels(self, table: Table) -> NDArray[np.int64]:
        return self._most_likely(table, self._mixture().joint, np.int64, "component", "log-density")

    @in_kind
    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Probability of each component given a row.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        resp : ndarray of shape (N, K)
        """
        table = self._table(X, answers_checked=True)
        resp = np.empty((len(table), len(self.weights_)), dtype=table.x.dtype)
        self._posterior(table, resp)
        return resp

    @in_kind
    def score_samples(self, X: ArrayLike) -> NDArray[np.floating]:
        """Logarithm of the sum over the components of the exponential of expected log-densities, as in scikit-learn.

        It is a bound and no density, which does not integrate to 1: :meth:`predictive` is.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        values : ndarray of shape (N,)
        """
        table = self._table(X, answers_checked=True)
        return self._posterior(table).astype(table.x.dtype, copy=False)

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Mean of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
        """
        table = self._table(X, sample_weight, answers_checked=True)
        total, weight = weighted_sum(self._posterior(table).astype(table.x.dtype), table.sample_weight)
        return total / weight

    def predictive(self, X: ArrayLike) -> Float:
        """Log-density of rows, given the rows of the fit: a mixture of Student's t distributions.

        ``p(x) = sum_k E[pi_k] t_k(x)``, where means and precisions are integrated out.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        log_density : ndarray of shape (N,), float64
        """
        table, mixture = self._table(X), self._mixture()
        weights = self._host("weights_").astype(np.float64)
        out = np.empty(len(table))
        for start in range(0, len(table), _BLOCK):
            rows = table.points(np.arange(start, min(start + _BLOCK, len(table))))
            joint = mixture.components.log_predictive(rows)
            with np.errstate(divide="ignore"):
                out[start : start + len(rows)] = logsumexp(joint + np.log(weights), axis=1)
        return out

    def sample(self, n_samples: int = 1) -> tuple[Float, NDArray[np.int64]]:
        """Draw rows from the mixture of Gaussians with the means of the parameters, sorted by component.

        Parameters
        ----------
        n_samples : int, default=1

        Returns
        -------
        X : ndarray of shape (n_samples, D)
        components : ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample."
            )
        rng, c = check_random_state(self.random_state), self._mixture().components
        weights = self._host("weights_").astype(np.float64)
        counts = rng.multinomial(n_samples, weights / weights.sum())
        storage, D = c.covariance.storage, c.means.shape[1]
        parts = [
            c.means[k] + storage.color(rng.standard_normal((int(n), D)), c.precisions_cholesky, k)
            for k, n in enumerate(counts)
        ]
        return np.vstack(parts), np.repeat(np.arange(len(counts)), counts)

    def to_onnx(self, path: str | os.PathLike[str] | None = None, dtype: str = "float32") -> Any:
        """The predictions as a graph in ONNX: see :meth:`GaussianMixture.to_onnx`.

        Parameters
        ----------
        path : path-like, default=None
        dtype : {'float32', 'float64'}, default='float32'

        Returns
        -------
        onnx.ModelProto
        """
        from mixtura.interop import onnx

        return onnx.of_gaussian_mixture(self, path, dtype)

    def to_sklearn(self) -> Any:
        """The same model as scikit-learn's estimator, for programs that know only that.

        Parameters that only this class has are left out, and ``init_params='hierarchical'`` becomes scikit-learn's
        default. Predictions are the same for 'full' and 'tied'. For 'diag' and 'spherical' scikit-learn takes the
        digamma functions of other distributions: a component's log-densities then differ by about D (D - 1) / 4 and
        (D - 1) (D + 2) / 4 over its degrees of freedom. ``lower_bound_`` stays this class's.

        Returns
        -------
        sklearn.mixture.BayesianGaussianMixture

        Examples
        --------
        >>> import numpy as np
        >>> from mixtura import BayesianGaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> model = BayesianGaussianMixture(n_components=2, random_state=0, tol=10.0).fit(X)
        >>> bool((model.to_sklearn().predict(X) == model.predict(X)).all())
        True
        """
        from mixtura.interop import scikit_learn

        return scikit_learn.bayesian_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: Any) -> BayesianGaussianMixture:
        """A fitted estimator of scikit-learn as one of this class.

        Parameters
        ----------
        estimator : sklearn.mixture.BayesianGaussianMixture

        Returns
        -------
        BayesianGaussianMixture
            With scikit-learn's posterior and bound; predictions as in :meth:`to_sklearn`.

        Raises
        ------
        TypeError
            It is something else.

        Examples
        --------
        >>> import numpy as np, sklearn.mixture
        >>> from mixtura import BayesianGaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> theirs = sklearn.mixture.BayesianGaussianMixture(n_components=2, random_state=0, tol=10.0).fit(X)
        >>> bool((BayesianGaussianMixture.from_sklearn(theirs).predict(X) == theirs.predict(X)).all())
        True
        """
        from mixtura.interop import scikit_learn

        return cast(BayesianGaussianMixture, scikit_learn.bayesian_from_sklearn(cls, estimator))

    def summary(self) -> str:
        """The fit in a few lines of text.

        Returns
        -------
        text : str
        """
        check_is_fitted(self)
        K, D = self.means_.shape
        names = [str(n) for n in getattr(self, "feature_names_in_", [f"x{j}" for j in range(D)])]
        return summary(
            f"Bayesian Gaussian mixture, {K} components, {self.covariance_type} covariance",
            {
                "rows x columns": f"{self._n_rows} x {D}" if hasattr(self, "_n_rows") else f"? x {D}",
                "evidence lower bound": f"{self.lower_bound_:.8g}",
                "iterations": f"{self.n_iter_} ({'' if self.converged_ else 'not '}converged)",
                "backend": self.backend_,
            },
            names,
            {"weight": self._host("weights_").astype(np.float64)},
            {"mean": self._host("means_").astype(np.float64)},
        )
