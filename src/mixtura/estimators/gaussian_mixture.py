"""Gaussian mixtures with scikit-learn's interface."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import DensityMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from mixtura import em
from mixtura.array_kinds import in_kind, like, to_host
from mixtura.backends.base import PRECISIONS, Precision
from mixtura.components.beside import COMPONENTS, Beside, Component
from mixtura.components.covariances import COVARIANCES, Covariance
from mixtura.components.gaussian import Gaussians
from mixtura.estimators.base import LabellingEstimator
from mixtura.estimators.saved import arrays_of, restored
from mixtura.estimators.validation import check_fit, check_rows, check_weights, unmasked, weighted_sum
from mixtura.gates.constant import ConstantGate
from mixtura.levels import climb, nested
from mixtura.mixture import Mixture
from mixtura.report import summary
from mixtura.starts import INITIALIZERS
from mixtura.table import Table
from mixtura.threads import allow

Float = NDArray[np.float64]
Parameters = Mixture[ConstantGate, Gaussians | Beside[Gaussians]]

# Least number of starts by k-means that race on samples of a large table.
_SEARCHES = 3

# Weight of the noise component at the start of a fit.
_NOISE_SHARE = 0.05


# Largest error of the sum of log-likelihoods that counts as no difference.
_NO_DIFFERENCE = 1e-3


class GaussianMixture(DensityMixin, LabellingEstimator):
    """Gaussian mixture, fitted by EM on native kernels.

    A drop-in replacement for :class:`sklearn.mixture.GaussianMixture`: the same parameters, attributes, semantics and
    errors. It reads X once per iteration, never holds an array of N x K numbers, and gives the same bits for any number
    of threads. In addition it takes sample weights and a choice of backend.

    Parameters
    ----------
    n_components : int, default=1
        K, the number of Gaussians.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        'full': a covariance matrix for each component; 'tied': one for all; 'diag': a variance for each
        component and column; 'spherical': a variance for each component; or a user's own family, by its name
        (:func:`mixtura.extension.register_covariance`) or as an object.
    tol : float, default=1e-3
        EM stops when the mean log-likelihood per unit of weight changes by less than this.
    reg_covar : float, default=1e-6
        Added to the variances, in squared units of X.
    max_iter : int, default=100
        Most EM iterations; 0 leaves the initialisation as the result.
    n_init : int, default=1
        Number of initialisations; the run with the largest final bound is kept. For a large table all of them run on
        samples only, and the best goes on.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
        How the first responsibilities are chosen. A large table (32,768 rows, 2048 for each component, and four for
        each parameter, or more) is fitted to random samples of it first, each four times as large as the one before;
        at least three starts by 'kmeans' run on the smallest sample, and the best goes on.
    weights_init : array-like of shape (K,), default=None
        First weights; None takes them from ``init_params``. The same holds for the next two parameters.
    means_init : array-like of shape (K, D), default=None
        First means.
    precisions_init : array-like, default=None
        First inverse covariances: (K, D, D) 'full', (D, D) 'tied', (K, D) 'diag', (K,) 'spherical'.
    random_state : int, RandomState instance or None, default=None
        Seed of the initialisation, and of :meth:`sample`.
    warm_start : bool, default=False
        Start from the last fit's parameters; ``n_init`` is then ignored.
    verbose : int, default=0
        1: a progress bar if the ``rich`` package is installed (``mixtura[progress]``), lines otherwise. 2: lines
        with times.
    verbose_interval : int, default=10
        Number of iterations from one line to the next.
    noise : str, Component or None, default=None
        One component beside the Gaussians, for rows that belong to none of them: the name of a user's own component
        (:func:`mixtura.extension.register_component`), or an instance of its class. Its rows get the label -1, and its
        probability is in the last column of :meth:`predict_proba`.
    backend : {'auto', 'native', 'numba', 'reference', 'cuda'}, default='auto'
        What does the arithmetic. 'auto' takes the first available backend that reads host memory, or 'cuda' if X is on
        a CUDA device. See :func:`mixtura.backends.available`.
    n_threads : int, default=None
        Most threads to use; None obeys OMP_NUM_THREADS and threadpoolctl, and else takes all processors. The
        result does not depend on it.
    precision : {'exact', 'fast'}, default='exact'
        'exact': IEEE arithmetic. 'fast': where the backend is 'cuda' and X is float32, products of matrices run on
        tensor cores; log-densities are good to 1e-5, and components too narrow for that are computed exactly.

    Attributes
    ----------
    weights_ : ndarray of shape (K,)
        Mixing weights. They sum to 1, or with ``noise`` to 1 minus its weight.
    noise_ : Component
        The fitted component beside the Gaussians; only with ``noise``.
    noise_weight_ : float
        Its weight; only with ``noise``.
    means_ : ndarray of shape (K, D)
    covariances_ : ndarray
        (K, D, D) 'full', (D, D) 'tied', (K, D) 'diag', (K,) 'spherical'.
    precisions_ : ndarray
        Inverse covariances, in the same shape.
    precisions_cholesky_ : ndarray
        U with U U' = precision: upper triangles, or square roots.
    converged_ : bool
    n_iter_ : int
        EM iterations of the best run on all rows.
    n_passes_ : float
        Rows that the fit looked at, initialisation included, over the number of rows.
    lower_bound_ : float
        Mean log-likelihood per unit of weight at the best run's last E-step.
    lower_bounds_ : list of float
        The same at each of its iterations.
    backend_ : str
        The backend that did the work.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)
        Only if X had column names.

    References
    ----------
    Dempster, Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> gm = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> gm.means_[gm.means_[:, 0].argsort()].round(3)
    array([[ 1.,  2.],
           [10.,  2.]])
    >>> bool(gm.predict([[0, 0]])[0] == gm.predict([[1, 1]])[0])
    True
    """

    _saved_arrays = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
    _saved_values = (
        "converged_",
        "n_iter_",
        "lower_bound_",
        "lower_bounds_",
        "n_passes_",
        "backend_",
        "n_features_in_",
        "noise_weight_",
        "_n_rows",
        "_fitted_type",
    )
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(COVARIANCES.keys()), Covariance],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "noise": [StrOptions(COMPONENTS.keys()), Component, None],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(INITIALIZERS))],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", Interval(Real, 0.0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "backend": [str],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "precision": [StrOptions(set(PRECISIONS))],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str | Covariance = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        noise: str | Component | None = None,
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
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.noise = noise
        self.backend = backend
        self.n_threads = n_threads
        self.precision = precision

    # ------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> GaussianMixture:
        """Estimate the parameters by EM.

        Parameters
        ----------
        X : array-like of shape (N, D)
            float32 and float64 are read as they are, in any memory order; other numbers become float64. An array
            on a CUDA device (CuPy, torch, anything with DLPack or ``__cuda_array_interface__``) stays there, and the
            fitted arrays become of its kind.
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows, one of weight 0 as none.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is not finite (the message says where), is not two-dimensional, or has fewer rows than components; weights
            are negative or all zero; a covariance became singular.
        ImportError
            The backend is not available; the message says why.
        """
        self._fit(X, sample_weight)
        return self

    @in_kind
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_predict(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit, then label the same rows; equal to ``fit(X).predict(X)``.

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
        """Fit, and return the rows as they were placed with the backend."""
        backend, given_rows = self._backend(X), X
        warm = self.warm_start and hasattr(self, "converged_")
        if warm:
            self._check_resumable(X)
        X = check_rows(self, X, reset=True, min_rows=2, backend=backend)
        if X.shape[0] < self.n_components:
            raise ValueError(
                "Expected n_samples >= n_components "
                f"but got n_components = {self.n_components}, n_samples = {X.shape[0]}"
            )
        weights = check_weights(sample_weight, X)
        check_fit(X, weights, self.n_components)
        if weights is not None:
            # Only their ratios matter; with a mean of 1 they are large beside the mass that is added to empty
            # components.
            weights = weights / weights.max()
            weights *= np.count_nonzero(weights) / weights.sum()
        given = self._check_given(X.shape[1])

        n_init = 1 if warm else self.n_init
        rng = check_random_state(self.random_state)
        table = Table.of(backend, X, weights)

        climbed = None
        if not (warm or given) and self.max_iter > 0:
            with allow(self.n_threads, backend.compiled):
                climbed = self._climbed(table, rng)
        if climbed is not None:
            n_init = 1

        def one(_: int, report: Callable[[em.Step[Any]], bool]) -> em.Fit[Parameters]:
            start = climbed
            if start is None:
                start = self._mixture() if warm else self._start(table, given, rng, table)
            return em.run(
                start,
                table,
                max_iter=self.max_iter,
                stop=lambda step: abs(step.change) < self.tol,
                report=report,
                bound=self.lower_bound_ if warm else -math.inf,
            )

        best, tasks = self._search(
            table, n_init, one, lambda fit: self._attributes(fit, backend.name, X.dtype)
        )
        if not best.converged and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. "
                "Try different init parameters, or increase max_iter, "
                "tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self._n_rows, self._fitted_type = len(table), self._covariance.name
        if self.noise is None:  # nothing of it stays from an earlier fit
            self.__dict__.pop("noise_", None)
            self.__dict__.pop("noise_weight_", None)
        self.__dict__.pop("_sampler", None)
        self._adopt(self._attributes(best, backend.name, X.dtype), given_rows, table, tasks)
        return table

    def _climbed(self, table: Table, rng: np.random.RandomState) -> Parameters | None:
        """The best of the first parameters after EM on samples of a large table; None for other tables."""
        K, D = self.n_components, table.dims
        n_parameters = self._n_parameters_of_gaussians(K, D)
        levels = nested(table, K, n_parameters, rng)
        if len(levels) == 1:
            return None
        searches = _SEARCHES if self.init_params == "kmeans" else 1
        return climb(
            levels,
            lambda level: self._start(level, {}, rng, table),
            max(self.n_init, searches),
            n_parameters=n_parameters,
            tol=self.tol,
            max_iter=self.max_iter,
        )

    def _start(
        self, table: Table, given: dict[str, Float], rng: np.random.RandomState, whole: Table
    ) -> Parameters:
        """First parameters from ``init_params`` on a table, replaced by those that the user gave.

        Noise starts from the whole table, of which the other may be a sample: its box holds all rows.
        """
        covariance, reg_covar = self._covariance, self.reg_covar
        if len(given) == 3:
            initial = None
        else:
            initialize = INITIALIZERS[self.init_params]
            moments = initialize(table, self.n_components, covariance.kind, reg_covar, rng)
            if not moments.is_finite():
                raise em.NotFiniteError
            initial = Gaussians.from_moments(covariance, moments, reg_covar)
            given = {"weights": ConstantGate.from_moments(moments).weights, "means": initial.means, **given}
        if initial is None or "precisions" in given:
            components = Gaussians.from_precisions(covariance, given["means"], given["precisions"], reg_covar)
        else:
            components = replace(initial, means=given["means"])
        weights = given["weights"]
        if self.noise is not None and initial is not None:
            # Components that start from single rows are so narrow that noise would take all other rows from them: they
            # have one iteration without it.
            plain = Mixture(ConstantGate(weights=weights), components)
            plain = plain.maximize(plain.expect(table))
            weights, components = plain.gate.weights, plain.components
        if self.noise is None:
            return Mixture(ConstantGate(weights=weights), components)
        weights = np.append(weights * (1.0 - _NOISE_SHARE), _NOISE_SHARE)
        return Mixture(ConstantGate(weights=weights), Beside(components, self._noise().start(whole)))

    @property
    def _covariance(self) -> Covariance:
        """The family that ``covariance_type`` names or is."""
        family = self.covariance_type
        return family if isinstance(family, Covariance) else COVARIANCES[family]

    @property
    def _has_noise(self) -> bool:
        """Whether noise is part of what was fitted."""
        return hasattr(self, "noise_")

    def _noise(self) -> Component:
        """The component that ``noise`` names, not yet fitted."""
        return self.noise if isinstance(self.noise, Component) else COMPONENTS[str(self.noise)]()

    def _check_resumable(self, X: Any) -> None:
        """Raise ValueError unless the last fit's parameters are a start for the present K, type and columns.

        It is called before any attribute changes, so that the last fit is kept if it raises.
        """
        K, D = np.shape(self.means_)
        fitted = {
            "components": K,
            "columns": D,
            "covariance type": getattr(self, "_fitted_type", self._covariance.name),
            "noise": _spec_of(self.noise_) if self._has_noise else None,
        }
        columns = np.shape(X)[1] if len(np.shape(X)) == 2 else D  # other shapes are refused later
        wanted = {
            "components": self.n_components,
            "columns": columns,
            "covariance type": self._covariance.name,
            "noise": None if self.noise is None else _spec_of(self._noise()),
        }
        differ = [
            f"{name} {fitted[name]}, this one {wanted[name]}"
            for name in fitted
            if fitted[name] != wanted[name]
        ]
        if differ:
            raise ValueError(
                f"warm_start: the last fit had {'; '.join(differ)}. Set warm_start=False for a new start, or clone the "
                "estimator."
            )

    def _check_given(self, dims: int) -> dict[str, Float]:
        """The user's initial weights, means and precisions, as float64 copies."""
        K, covariance = self.n_components, self._covariance
        given: dict[str, Float] = {}
        for name, value, shape, called in (
            ("weights", self.weights_init, (K,), "weights"),
            ("means", self.means_init, (K, dims), "means"),
            (
                "precisions",
                self.precisions_init,
                covariance.storage.shape(K, dims),
                f"{covariance.name} precision",
            ),
        ):
            if value is None:
                continue
            value = unmasked(to_host(value), f"{name}_init")
            array = check_array(
                np.atleast_1d(value) if np.ndim(value) == 0 else value,
                dtype=[np.float64, np.float32],
                ensure_2d=False,
                allow_nd=name == "precisions",
            )
            array = array.reshape(shape) if array.size == 1 and shape == () else array
            if array.shape != shape:
                raise ValueError(
                    f"The parameter '{called}' should have the shape of {shape}, but got {array.shape}"
                )
            given[name] = np.array(array, dtype=np.float64)
            if name == "weights":
                _check_proportions(array)
        if "precisions" in given:
            covariance.storage.check_precisions(given["precisions"], covariance.name)
        return given

    def _attributes(self, fit: em.Fit[Parameters], backend: str, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Fitted attributes, in the type of X."""
        components, noise = _apart(fit.parameters)
        weights = fit.parameters.gate.weights
        noise_attributes = {} if noise is None else {"noise_": noise, "noise_weight_": float(weights[-1])}
        weights = weights[: len(components.means)]
        storage, cholesky = components.covariance.storage, components.precisions_cholesky
        with np.errstate(over="ignore"):
            cast = {
                "weights_": weights.astype(dtype),
                "means_": components.means.astype(dtype),
                "covariances_": storage.rounded(components.covariances, dtype),
                "precisions_cholesky_": cholesky.astype(dtype),
                "precisions_": storage.rounded(storage.precisions(cholesky), dtype),
            }
        for name, value in cast.items():
            if not np.isfinite(value).all():
                raise ValueError(
                    f"{name} cannot be represented in {dtype}: pass float64 data, or scale the input data"
                )
        return {
            **cast,
            **noise_attributes,
            "converged_": fit.converged,
            "n_iter_": fit.n_iter,
            "lower_bound_": fit.bound,
            "lower_bounds_": fit.bounds,
            "backend_": backend,
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of :class:`Saved`, and the state of the noise."""
        return super()._arrays() | (arrays_of(self.noise_, "noise") if self._has_noise else {})

    def _restore(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Set what was saved."""
        super()._restore(arrays, values)
        if self.noise is not None:
            self.noise_ = restored(self._noise(), "noise", arrays)

    def _check_state(self) -> None:
        """Raise ValueError unless parameters and fitted attributes are consistent."""
        self._validate_params()
        K, D = np.shape(self.means_)
        shape = self._covariance.storage.shape(K, D)
        for name, wanted in (
            ("weights_", (K,)),
            ("means_", (self.n_components, self.n_features_in_)),
            ("covariances_", shape),
            ("precisions_", shape),
            ("precisions_cholesky_", shape),
        ):
            value = self._host(name)
            if value.shape != wanted or value.dtype not in (np.float32, np.float64):
                raise ValueError(f"{name} is {value.dtype} {value.shape}, not floating-point {wanted}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} is not finite")
        weights = self._host("weights_")
        if self._has_noise != (self.noise is not None):
            raise ValueError("noise was set after the fit: fit again")
        if self._has_noise:
            if _spec_of(self.noise_) != _spec_of(self._noise()) or not 0.0 <= self.noise_weight_ <= 1.0:
                raise ValueError("noise is not what was fitted: fit again")
            weights = np.append(weights, np.asarray(self.noise_weight_, dtype=weights.dtype))
        _check_proportions(weights)

    # -------------------------------------------------------------- predict

    def _mixture(self) -> Parameters:
        """The fitted attributes as parameters."""
        weights, means, covariances, cholesky = (
            self._host(name).astype(np.float64)
            for name in ("weights_", "means_", "covariances_", "precisions_cholesky_")
        )
        gaussians = Gaussians(self._covariance, means, covariances, cholesky, self.reg_covar)
        if not self._has_noise:
            return Mixture(ConstantGate(weights=weights), gaussians)
        weights = np.append(weights, self.noise_weight_)
        return Mixture(ConstantGate(weights=weights), Beside(gaussians, self.noise_))

    def _posterior(self, table: Table, resp: NDArray[np.floating] | None = None) -> Float:
        """Log-likelihood of each row, in float64 so that sums are accurate. Responsibilities are put into ``resp``."""
        density = table.posterior(self._mixture().joint, resp)
        self._check_answers(table, density, "component", "log-density")
        return density

    def _labels(self, table: Table) -> NDArray[np.int64]:
        labels, density = table.assign(self._mixture().joint)
        self._check_answers(table, density, "component", "log-density")
        components = labels.astype(np.int64)
        if self._has_noise:
            components[labels == len(self.means_)] = -1
        return components

    @in_kind
    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Responsibilities: the probability of each component given the row.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        resp : ndarray of shape (N, K), in the type of X
            (N, K + 1) with ``noise``.
        """
        table = self._table(X, answers_checked=True)
        K = self.means_.shape[0] + self._has_noise
        resp = np.empty((len(table), K), dtype=table.x.dtype)
        self._posterior(table, resp)
        return resp

    @in_kind
    def score_samples(self, X: ArrayLike) -> NDArray[np.floating]:
        """Log-likelihood of each row.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        log_likelihood : ndarray of shape (N,), in the type of X
        """
        table = self._table(X, answers_checked=True)
        return self._posterior(table).astype(table.x.dtype, copy=False)

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Mean log-likelihood per row, or per unit of weight.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        log_likelihood : float
        """
        table = self._table(X, sample_weight, answers_checked=True)
        log_densities = self._posterior(table)
        log_likelihood, total = weighted_sum(log_densities, table.sample_weight)
        exact = log_likelihood / total
        if table.single and sample_weight is None:
            # Return the mean of score_samples(X) where it is as accurate as the sum in float64, so that code which
            # compares the two finds no difference.
            mean = float(log_densities.astype(np.float32).mean())
            if abs(mean - exact) * total <= _NO_DIFFERENCE:
                return mean
        return exact

    def sample(
        self, n_samples: int = 1, random_state: Any = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows from the fitted mixture.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None
            None uses one stream of random numbers, which the estimator's ``random_state`` seeds at the first call after
            a fit, so that two calls give different draws.

        Returns
        -------
        X : ndarray of shape (n_samples, D), float64
        y : ndarray of shape (n_samples,), int64
            The component of each row, -1 for noise. Rows are sorted by component, with noise last.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample."
            )
        if random_state is not None:
            rng = check_random_state(random_state)
        else:
            if not hasattr(self, "_sampler"):
                self._sampler = check_random_state(self.random_state)
            rng = self._sampler
        parameters = self._mixture()
        counts = rng.multinomial(n_samples, parameters.gate.weights / parameters.gate.weights.sum())
        convert = like(self.means_)
        labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        gaussians, noise = _apart(parameters)
        K = len(gaussians.means)
        X = gaussians.sample(counts[:K], rng)
        if noise is not None:
            X = np.vstack([X, noise.sample(int(counts[K]), rng)])
        return convert(X), convert(np.where(labels == K, -1, labels))

    # ------------------------------------------------------------ criteria

    def _n_parameters(self) -> int:
        """Number of free parameters of the model."""
        K, D = self.means_.shape
        of_gaussians = self._n_parameters_of_gaussians(K, D)
        return of_gaussians + 1 + self.noise_.n_parameters(D) if self._has_noise else of_gaussians

    def _n_parameters_of_gaussians(self, K: int, D: int) -> int:
        """Those of weights, means and covariances."""
        return self._covariance.n_parameters(K, D) + K * D + K - 1

    def _log_likelihood(self, X: Any, sample_weight: Any) -> tuple[float, float]:
        """Weighted sum of the rows' log-likelihoods, and sum of their weights."""
        table = self._table(X, sample_weight, answers_checked=True)
        return weighted_sum(self._posterior(table), table.sample_weight)

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion on X: -2 log-likelihood + parameters * log N. Lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows; N is then the sum of the weights.

        Returns
        -------
        bic : float
        """
        log_likelihood, total = self._log_likelihood(X, sample_weight)
        return -2.0 * log_likelihood + self._n_parameters() * math.log(total)

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Akaike information criterion on X: -2 log-likelihood + 2 * parameters. Lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows.

        Returns
        -------
        aic : float
        """
        log_likelihood, _ = self._log_likelihood(X, sample_weight)
        return -2.0 * log_likelihood + 2.0 * self._n_parameters()

    def summary(self) -> str:
        """The fitted model in a few lines of text: how the fit went, then weights, means and spreads.

        Returns
        -------
        text : str
        """
        check_is_fitted(self)
        K, D = self.means_.shape
        variances = np.diagonal(
            self._covariance.storage.dense(self._host("covariances_"), K, D),
            axis1=1,
            axis2=2,
        )
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(D)])
        return summary(
            f"Gaussian mixture, {K} component{'s' if K > 1 else ''}, {self._covariance.name} covariance",
            {
                "rows x columns": f"{self._n_rows} x {D}" if hasattr(self, "_n_rows") else f"? x {D}",
                "log-likelihood per row": f"{self.lower_bound_:.8g}",
                "parameters": str(self._n_parameters()),
                "iterations": f"{self.n_iter_} ({'' if self.converged_ else 'not '}converged)",
                "passes over the rows": f"{self.n_passes_:.4g}" if hasattr(self, "n_passes_") else "?",
                **({"weight of noise": f"{self.noise_weight_:.4g}"} if self._has_noise else {}),
                "backend": self.backend_,
            },
            [str(name) for name in names],
            {"weight": self._host("weights_")},
            {"mean": self._host("means_"), "sd": np.sqrt(variances)},
        )


def _spec_of(noise: Component) -> str:
    """A component's class and the user's parameters of it."""
    return f"{type(noise).__qualname__}({noise.parameters})"


def _apart(mixture: Parameters) -> tuple[Gaussians, Component | None]:
    """The Gaussians, and the component beside them or None."""
    components = mixture.components
    return (components.main, components.extra) if isinstance(components, Beside) else (components, None)


def _check_proportions(weights: NDArray[np.floating]) -> None:
    """Raise ValueError unless the weights lie in [0, 1] and sum to 1."""
    if np.any(weights < 0.0) or np.any(weights > 1.0):
        # scikit-learn's message swaps the smallest and the largest weight, and its tests expect that.
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{np.min(weights):.5f}, min value {np.max(weights):.5f}"
        )
    if not np.isclose(weights.sum(), 1.0, rtol=0.0, atol=1e-6 if weights.dtype == np.float32 else 1e-8):
        raise ValueError(
            f"The parameter 'weights' should be normalized, but got sum(weights) = {np.sum(weights):.5f}"
        )
