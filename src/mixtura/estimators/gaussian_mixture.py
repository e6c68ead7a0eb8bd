"""Gaussian mixtures with scikit-learn's interface."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from mixtura import em, online
from mixtura.accelerated import ACCELERATED
from mixtura.array_kinds import in_kind
from mixtura.backends.base import PRECISIONS, Precision
from mixtura.components.beside import COMPONENTS, Beside, Component
from mixtura.components.covariances import COVARIANCES, Covariance
from mixtura.components.estimation import Estimation
from mixtura.components.families import check_columns
from mixtura.estimators.asked import check_together, estimation_of, first_values
from mixtura.estimators.callbacks import Tasks
from mixtura.estimators.failing import as_before_if_it_fails
from mixtura.estimators.fitted_gaussians import FittedGaussians, spec_of
from mixtura.estimators.gaussian_search import (
    Degenerate,
    Dropping,
    GaussianSearch,
    Parameters,
    apart,
    holding,
    kept,
)
from mixtura.estimators.known import check_fixed, check_fixed_values, check_labels
from mixtura.estimators.validation import check_fit, check_rows, check_weights
from mixtura.online import StandIn, drawn_like
from mixtura.starts import AUTO, INITIALIZERS
from mixtura.table import Table

Float = NDArray[np.float64]


def _by_weight(weights: Float, means: Float) -> NDArray[np.intp]:
    return np.lexsort((*means.T[::-1], -weights))


def _by_mean(weights: Float, means: Float) -> NDArray[np.intp]:
    return np.lexsort((-weights, *means.T[::-1]))


# What runs on the whole table.
ALGORITHMS: dict[str, Callable[..., em.Fit[Any]]] = {"em": em.run, "stepwise": online.run}

ORDERS: dict[str, Callable[[Float, Float], NDArray[np.intp]]] = {"weight": _by_weight, "mean": _by_mean}


class GaussianMixture(FittedGaussians):
    """Gaussian mixture, fitted by EM on native kernels.

    A drop-in replacement for :class:`sklearn.mixture.GaussianMixture`: the same parameters, attributes, semantics and
    errors. It reads X once per iteration, never holds an array of N x K numbers, and gives the same bits for any number
    of threads. In addition it takes sample weights and a choice of backend.

    Parameters
    ----------
    n_components : int, default=1
        K, the number of Gaussians.
    covariance_type : {'full', 'tied', 'diag', 'spherical', 'EII', ..., 'VVV'}, default='full'
        'full': a covariance matrix for each component; 'tied': one for all; 'diag': a variance for each
        component and column; 'spherical': a variance for each component. Or one of mclust's families, in which
        components share volume, shape or orientation (:mod:`mixtura.components.families`); or a user's own, by its name
        (:func:`mixtura.extension.register_covariance`) or as an object.
    tol : float, default=1e-3
        EM stops when the mean log-likelihood per unit of weight changes by less than this.
    reg_covar : float or 'auto', default=1e-6
        Added to the variances, in squared units of X. 'auto' adds a millionth of each column's variance to it, which
        fits tables in any units; to spherical covariances the mean of these.
    max_iter : int, default=100
        Most EM iterations; 0 leaves the initialisation as the result.
    n_init : int, default=1
        Number of initialisations; the run with the largest final bound is kept. For a large table all of them run on
        samples only, and the best goes on.
    init_params : {'kmeans', 'auto', 'hierarchical', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
        How the first responsibilities are chosen. 'kmeans' has ten searches on a short table (N K (D² + 20) up to
        100,000); those that end unlike each other race, and the fit starts where EM ends best. 'auto' takes several
        unlike starts, by k-means on columns as they are, standardised and whitened, and along the direction of least
        kurtosis, runs EM from each (of short tables until it has converged, else for a few iterations), and goes on
        from the best by likelihood: for clusters that are long, flat or correlated, or of unlike sizes. 'hierarchical'
        takes the groups of a tree of rows, of a sample if there are more than 2000, as R's mclust does. With 16
        components or more, 'auto' and 'kmeans' take one k-means, whose centres are then swapped: two that share a
        cluster are merged, and another that covers two is split, for as long as the sum of squares falls.
        A large table (32,768 rows, 512 for each component, and four for each parameter, or more) is fitted to random
        samples of it first, each four times as large as the one before; at least three starts by 'kmeans' run on the
        smallest sample, and the best goes on.
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
    noise : bool, float, str, Component or None, default=None
        One component beside the Gaussians, for rows that belong to none of them. True: the same density everywhere in
        the region of the rows (:class:`mixtura.components.Uniform`); a number: this density. Or a user's own component,
        by its name (:func:`mixtura.extension.register_component`) or as an instance. Its rows get the label -1, and its
        probability is in the last column of :meth:`predict_proba`.
    on_degenerate : {'raise', 'repair', 'drop'}, default='raise'
        What happens when a covariance becomes singular. 'raise': ValueError, as in scikit-learn. 'repair': no variance
        in any direction falls below ``reg_covar`` or 1e-14 of the table's, whichever is larger; ``reg_covar`` is then a
        bound, and nothing is added, so that the likelihood rises. 'drop': components that would be singular all the
        same are removed, and the fit goes on with fewer. With both a warning says what happened; see ``degenerate_``.
        Of families whose components share parts of their covariances the variances of each component's own rows rise
        by the bound, of families that may be turned by at least 3e-14 D of the widest column's, before the parts are
        shared, and the objective counts what that costs.
    prior : 'default', dict or None, default=None
        A conjugate prior of means and covariances, whose log-density, up to a constant, is part of the objective. A
        dict may have 'mean' (D,), by default that of X; 'shrinkage', the number of rows that it counts as, 0.01; 'dof',
        D + 2; and 'scale', a number, (D,) or (D, D), by default the covariance of X over K^(2/D), or for diagonal and
        spherical covariances its mean diagonal over that, as Fraley and Raftery (2007) propose.
    accelerate : {'squarem', 'anderson', 'newton'} or None, default=None
        'squarem' and 'anderson' extrapolate from EM's steps: fewer iterations where clusters overlap and EM is slow.
        'newton' goes on from where EM has converged to the maximum of the likelihood itself, by Newton's method with
        exact derivatives; it ignores ``reg_covar`` there, and does nothing with more than 3,000 parameters. The
        likelihood never falls: a step that would lower it is not taken, and costs one pass over the rows.
    algorithm : {'em', 'stepwise'}, default='em'
        'stepwise': after the starts on samples, two passes over the rows in which the parameters follow every block
        (Cappé and Moulines 2009), for tables of which every pass counts. See :meth:`partial_fit`.
    fixed : dict or None, default=None
        Parameters that keep their initial values: masks under the keys 'weights' (K,), 'means' (K,) or (K, D), and
        'covariances' (K,), or True for all; components that share parts of their covariances hold all or none. The
        values are those of ``weights_init``, ``means_init`` and ``precisions_init``, where entries that are not fixed
        may be NaN: these start from ``init_params``.
    order : {'weight', 'mean'} or None, default=None
        Sort the fitted components: by falling weight, or by their means, first column first.
    on_interrupt : {'raise', 'keep'}, default='raise'
        'keep': Ctrl-C during a fit ends it with the best parameters so far and a ConvergenceWarning.
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
        Mean log-likelihood per unit of weight at the best run's last E-step. In mclust's families that have no closed
        form it counts what ``reg_covar`` costs, as the M-step does, so that it never falls.
    lower_bounds_ : list of float
        The same at each of its iterations.
    degenerate_ : ndarray of bool of shape (K,)
        Which components were held by a bound or dropped (see ``on_degenerate``), or are spurious: narrow beside the
        others and on a few rows, which alone made them so. Of several runs, one without any is kept if there is one.
    backend_ : str
        The backend that did the work.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)
        Only if X had column names.

    References
    ----------
    Dempster, Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.
    Biernacki, Celeux, Govaert (2003), Choosing starting values for the EM algorithm, for 'auto'.
    Fraley, Raftery (2007), Bayesian regularization for normal mixture estimation and model-based clustering.
    Varadhan, Roland (2008), Simple and globally convergent methods for accelerating the convergence of any EM
    algorithm.

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
    _host_arrays = ("degenerate_",)
    _needed_values = ("converged_", "n_iter_", "lower_bound_", "backend_", "n_features_in_")
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
        "noise": [
            StrOptions(COMPONENTS.keys()),
            Component,
            "boolean",
            Interval(Real, 0, None, closed="neither"),
            None,
        ],
        "reg_covar": [Interval(Real, 0.0, None, closed="left"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions({AUTO, *INITIALIZERS})],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", Interval(Real, 0.0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "on_degenerate": [StrOptions({"raise", "repair", "drop"})],
        "prior": [StrOptions({"default"}), Mapping, None],
        "accelerate": [StrOptions(set(ACCELERATED)), None],
        "algorithm": [StrOptions(set(ALGORITHMS))],
        "fixed": [Mapping, None],
        "order": [StrOptions(set(ORDERS)), None],
        "on_interrupt": [StrOptions({"raise", "keep"})],
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
        reg_covar: float | str = 1e-6,
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
        noise: str | float | bool | Component | None = None,
        on_degenerate: str = "raise",
        prior: str | Mapping[str, Any] | None = None,
        accelerate: str | None = None,
        algorithm: str = "em",
        fixed: Mapping[str, Any] | None = None,
        order: str | None = None,
        on_interrupt: str = "raise",
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
        self.on_degenerate = on_degenerate
        self.prior = prior
        self.accelerate = accelerate
        self.algorithm = algorithm
        self.fixed = fixed
        self.order = order
        self.on_interrupt = on_interrupt
        self.backend = backend
        self.n_threads = n_threads
        self.precision = precision

    # ------------------------------------------------------------------ fit

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # As scikit-learn's own: its checks of sparse rows demand probabilities of four classes from `predict_proba`.
        tags.input_tags.sparse = False
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = 60.0,
    ) -> GaussianMixture:
        """Estimate the parameters by EM.

        Parameters
        ----------
        X : array-like of shape (N, D), source or path
            float32 and float64 are read as they are, in any memory order; other numbers become float64. More rows than
            memory holds are read block by block: see :func:`mixtura.data.as_source`. An array
            on a CUDA device (CuPy, torch, anything with DLPack or ``__cuda_array_interface__``) stays there, and the
            fitted arrays become of its kind.
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows, one of weight 0 as none. Without a prior only their ratios matter; a
            prior is worth so many rows, and weights that sum to 1 are one row beside it.
        labels : array-like of shape (N,) or (N, K), default=None
            What is known of the rows: the component of each, from 0 to K - 1, with -1 or NaN where it is not known; or
            whether each row may belong to each component.
        checkpoint : path-like, default=None
            A file to which the fit writes what it has reached. If it exists, the fit goes on from there, to the same
            bits as without an interruption; the file of another model or of other data is refused. It stays when the
            fit is over.
        every : float, default=60.0
            Seconds from one writing to the next; 0 writes after every iteration.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is not finite (the message says where), is not two-dimensional, or has fewer rows than components; weights
            are negative or all zero; a covariance became singular; labels, fixed parameters or a prior do not fit.
        ImportError
            The backend is not available; the message says why.
        """
        self._fit(X, sample_weight, labels, checkpoint, every)
        return self

    @in_kind
    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def fit_predict(
        self,
        X: ArrayLike,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        labels: ArrayLike | None = None,
    ) -> NDArray[np.int64]:
        """Fit, then label the same rows; equal to ``fit(X).predict(X)``.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), default=None
        labels : array-like of shape (N,) or (N, K), default=None
            As in :meth:`fit`. The model does not remember them: its label for a row may differ.

        Returns
        -------
        labels : ndarray of shape (N,), int64
        """
        return self._labels(self._fit(X, sample_weight, labels).unrestricted)

    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def partial_fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> GaussianMixture:
        """Go on with a block of rows, by stepwise EM.

        The first block is fitted by itself, unless the estimator is fitted already: then the rows of that fit, which
        are gone, count as what its parameters say of them. Later blocks change the parameters by less and less. The
        attributes are as good as those of a fit to all rows at once, if the blocks come in random order, components
        have at most 160 parameters together, and there is no prior, nothing fixed, and no family of mclust's; otherwise
        they are those of averaged statistics, which are nearly as good if components hardly overlap.

        Parameters
        ----------
        X : array-like of shape (n, D)
            A block; the first one should have at least a few hundred rows for each component. Of a streamed table
            (:func:`mixtura.data.as_source`) all blocks are taken.
        y : Ignored
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As for :meth:`fit`.

        References
        ----------
        Cappé, Moulines (2009), On-line expectation-maximization algorithm for latent data models. Le Cam (1956), On the
        asymptotic theory of estimation and testing hypotheses.

        Examples
        --------
        >>> import numpy as np
        >>> from mixtura import GaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> gm = GaussianMixture(2, random_state=0)
        >>> for _ in range(50):
        ...     _ = gm.partial_fit(rng.normal(size=(400, 1)) + 6.0 * rng.integers(0, 2, size=(400, 1)))
        >>> np.sort(gm.means_[:, 0]).round(1)
        array([0., 6.])
        """
        if (blocks := self._in_blocks(X, None, sample_weight)) is not None:
            for block in blocks:
                self.partial_fit(*block)
            return self
        if self._wants_noise or self.on_degenerate == "drop":
            raise ValueError("partial_fit does not go with noise or on_degenerate='drop'")
        self._check_unsorted("partial_fit")
        if hasattr(self, "means_"):
            self._check_resumable(self.means_, "partial_fit")  # the block's own columns are looked at with it
        state, table = self._stepped((X, None, sample_weight), hasattr(self, "means_"), self._block)
        if state is None:
            self.n_iter_ = self._n_steps
            return self
        with table.host_limits():
            estimate, found = state.estimate(table)
        fit = em.Fit(estimate, state.bound, [state.bound], False, found)
        attributes = self._attributes(fit, table.backend.name, table.x.dtype)
        self._learn(attributes | {"n_iter_": state.steps, "n_passes_": 1.0}, X)
        self._n_rows = state.rows
        self.__dict__.pop("_sampler", None)
        return self

    def _block(self, X: Any, y: Any, sample_weight: Any) -> Table:
        return self._table(X, sample_weight)

    def _to_go_on(self, table: Table) -> Parameters:
        K, D = self.means_.shape
        fixed_weights, fixed = check_fixed(self.fixed, K, D, self._covariance)
        given = first_values(self, D)
        check_fixed_values(given, fixed_weights, fixed, self._covariance.storage.shared, self._wants_noise)
        return holding(self._mixture(estimation_of(self, table, fixed)[0], fixed_weights), given)

    def _standing_for(self, mixture: Parameters, table: Table) -> StandIn:
        """See :meth:`MixtureEstimator._standing_for`: rows drawn from the density, and its own moments."""
        gaussians, _ = apart(mixture)
        weights, (K, D) = mixture.gate.weights, gaussians.means.shape
        like = drawn_like(table, weights, gaussians.sample)
        dense = gaussians.covariance.storage.dense(gaussians.covariances, K, D)
        rows, kind = int(getattr(self, "_n_rows", len(table))), self._covariance.kind
        return StandIn.of_components(like, rows, kind, weights, gaussians.means, dense)

    def _fit(
        self, X: Any, sample_weight: Any, labels: Any, checkpoint: Any = None, every: float = 60.0
    ) -> Table:
        """Fit, and return the rows as they were placed with the backend."""
        given_rows = X
        backend, X = self._opened(X)
        warm = self.warm_start and hasattr(self, "converged_")
        if warm:
            self._check_resumable(X)
        self.__dict__.pop("_fitted_type", None)  # of the last fit
        X = check_rows(self, X, reset=True, min_rows=2, backend=backend, finite=False)
        # A fit that goes on has the components that are left of the last one.
        K, D = np.shape(self.means_)[0] if warm else self.n_components, X.shape[1]
        if X.shape[0] < K:
            raise ValueError(
                f"Expected n_samples >= n_components but got n_components = {K}, n_samples = {X.shape[0]}"
            )
        weights = check_weights(sample_weight, X)
        check_fit(X, weights, K, getattr(self, "feature_names_in_", None))
        if weights is not None and self.prior is None:
            # Only their ratios matter; with a mean of 1 they are large beside the mass that is added to empty
            # components. A prior counts as so many rows, and does not grow with the weights.
            weights = weights / weights.max()
            weights *= np.count_nonzero(weights) / weights.sum()
        given = first_values(self, D)
        fixed_weights, fixed = check_fixed(self.fixed, K, D, self._covariance)
        check_fixed_values(given, fixed_weights, fixed, self._covariance.storage.shared, self._wants_noise)
        membership = check_labels(labels, X.shape[0], K, weights, all_needed=self.on_degenerate != "drop")
        if membership is not None and self.order is not None:
            raise ValueError("labels name the components, so they keep their order: set order=None")
        if warm:
            self._check_unsorted("warm_start")
        check_together(self, membership is not None)
        check_columns(self.covariance_type, D)
        table = Table.of(backend, X, weights, membership=membership)
        with table.host_limits():
            estimation, dropping = estimation_of(self, table, fixed)
            run = ALGORITHMS[self.algorithm] if self.accelerate is None else ACCELERATED[self.accelerate]
            with self._checkpointed(checkpoint, every, table) as (recorded, rng):
                # Newton's steps are for the end: where they led, EM with reg_covar would not stay.
                race = recorded(em.run if self.accelerate == "newton" else run)
                run = recorded(run)
                best, tasks = self._searched(
                    table, estimation, dropping, given, fixed_weights, run, race, rng, warm
                )
            bad = Degenerate.of(best, K)
            self._warn(best, bad)
            self._n_rows, self._fitted_type = len(table), self._covariance.name
            self._asked_for = self.n_components
            if not self._wants_noise:  # nothing of it stays from an earlier fit
                self.__dict__.pop("noise_", None)
                self.__dict__.pop("noise_weight_", None)
            self.__dict__.pop("_sampler", None)
            self._adopt(self._attributes(best, backend.name, X.dtype, bad), given_rows, table, tasks)
        return table

    def _least_change(self) -> float:
        return self.tol

    def _searched(
        self,
        table: Table,
        estimation: Estimation,
        dropping: Dropping | None,
        given: dict[str, Float],
        fixed_weights: NDArray[np.bool_] | None,
        run: Callable[..., em.Fit[Any]],
        race: Callable[..., em.Fit[Any]],
        rng: np.random.RandomState,
        warm: bool,
    ) -> tuple[em.Fit[Parameters], Tasks]:
        """The best fit, from the last one's parameters or from the best start."""
        K = np.shape(self.means_)[0] if warm else self.n_components
        D, backend, keep = table.dims, table.backend, self.on_interrupt == "keep"
        search = GaussianSearch(
            table=table,
            components=K,
            family=self._covariance,
            estimation=estimation,
            n_parameters=self._n_parameters_of_gaussians(K, D),
            init_params=self.init_params,
            given=given,
            fixed_weights=fixed_weights,
            noise=self._noise() if self._wants_noise else None,
            dropping=dropping,
            n_init=1 if warm else self.n_init,
            tol=self.tol,
            max_iter=self.max_iter,
            rng=rng,
            run=run,
            race=race,
            plain_em=self.algorithm == "em" and self.accelerate is None,
            keep=keep,
        )
        climbed = resumed = None
        if warm:
            resumed = (holding(self._mixture(estimation, fixed_weights), given), self.lower_bound_)
        else:
            climbed = search.best_start()

        def one(_: int, report: Callable[[em.Step[Any]], bool] | None) -> em.Fit[Parameters]:
            return search.one(climbed, resumed, report)

        return self._search(
            table,
            1 if climbed is not None else search.n_init,
            one,
            lambda fit: self._attributes(fit, backend.name, table.x.dtype),
            search.score,
            keep=keep,
        )

    def _warn(self, fit: em.Fit[Parameters], bad: Degenerate) -> None:
        """Warn of a fit that was interrupted, has not converged, or has degenerate components."""
        if fit.interrupted:
            warnings.warn(
                f"The fit was interrupted after {fit.n_iter} iterations: the best parameters so far are kept.",
                ConvergenceWarning,
                stacklevel=6,
            )
        elif not fit.converged and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. "
                "Try different init parameters, or increase max_iter, "
                "tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=6,
            )
        if bad.dropped.any():
            warnings.warn(
                f"{bad.dropped.sum()} of {len(bad.dropped)} components had become singular and were dropped: see "
                "degenerate_. The table may hold fewer clusters, or many equal rows.",
                ConvergenceWarning,
                stacklevel=6,
            )
        if bad.bounded.any():
            warnings.warn(
                f"Component {_numbers(bad.bounded)} would be narrower than the least variance allowed "
                "(reg_covar, or 1e-14 of the table's), which is kept as a bound: see degenerate_. Columns may be "
                "constant, copies of others, or rows equal.",
                ConvergenceWarning,
                stacklevel=6,
            )
        if (bad.spurious & ~bad.bounded).any():
            warnings.warn(
                f"Component {_numbers(bad.spurious & ~bad.bounded)} is spurious: it fits a few rows with a variance "
                "near 0, which raises the likelihood and says nothing about the data: see degenerate_. Try n_init > 1, "
                "fewer components, a larger reg_covar, or prior='default'.",
                ConvergenceWarning,
                stacklevel=6,
            )

    def _check_unsorted(self, how: str) -> None:
        """Raise ValueError if what is fixed names components by numbers that they lose when they are sorted."""
        if self.fixed is not None and self.order is not None:
            raise ValueError(
                f"{how}: fixed names components by number, and order={self.order!r} changes their numbers: set "
                "order=None"
            )

    def _goes_on_with(self, components: int) -> bool:
        """Whether a fit that dropped components goes on with those that are left: nothing names them by number."""
        unchanged = getattr(self, "_asked_for", self.n_components) == self.n_components
        return unchanged and self.fixed is None and self._may_have(components)

    def _check_resumable(self, X: Any, how: str = "warm_start") -> None:
        """Raise ValueError unless the last fit's parameters are a start for the present K, type and columns.

        It is called before any attribute changes, so that the last fit is kept if it raises.
        """
        K, D = np.shape(self.means_)
        fitted = {
            "components": K,
            "columns": D,
            "covariance type": getattr(self, "_fitted_type", self._wanted_covariance.name),
            "noise": spec_of(self.noise_) if self._has_noise else None,
        }
        columns = np.shape(X)[1] if len(np.shape(X)) == 2 else D  # other shapes are refused later
        wanted = {
            "components": K if self._goes_on_with(K) else self.n_components,
            "columns": columns,
            "covariance type": self._wanted_covariance.name,
            "noise": spec_of(self._noise()) if self._wants_noise else None,
        }
        differ = [
            f"{name} {fitted[name]}, this one {wanted[name]}"
            for name in fitted
            if fitted[name] != wanted[name]
        ]
        if differ:
            raise ValueError(
                f"{how}: the last fit had {'; '.join(differ)}. Set warm_start=False and fit, or clone the estimator, "
                "for a new start."
            )

    def _attributes(
        self,
        fit: em.Fit[Parameters],
        backend: str,
        dtype: np.dtype[Any],
        degenerate: Degenerate | None = None,
    ) -> dict[str, Any]:
        """Fitted attributes, in the type of X."""
        if degenerate is None:
            degenerate = Degenerate.of(fit, self.n_components)
        fit, bad = self._ordered(fit, degenerate.any)
        components, noise = apart(fit.parameters)
        weights = fit.parameters.gate.weights
        noise_attributes = {} if noise is None else {"noise_": noise, "noise_weight_": float(weights[-1])}
        weights = weights[: len(components.means)]
        storage, cholesky = components.covariance.storage, components.precisions_cholesky
        with np.errstate(over="ignore"):
            cast = {
                "weights_": weights.astype(dtype),
                "means_": components.means.astype(dtype),
                "covariances_": storage.rounded(components.covariances, dtype),
                "precisions_cholesky_": cholesky.astype(dtype, order="C"),
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
            "degenerate_": bad,
            "converged_": fit.converged,
            "n_iter_": fit.n_iter,
            "lower_bound_": fit.bound,
            "lower_bounds_": fit.bounds,
            "backend_": backend,
        }

    def _ordered(
        self, fit: em.Fit[Parameters], bad: NDArray[np.bool_]
    ) -> tuple[em.Fit[Parameters], NDArray[np.bool_]]:
        """The fit with its components in the order that the user wants, and so are the marks of degenerate ones."""
        if self.order is None:
            return fit, bad
        mixture = fit.parameters
        gaussians, noise = apart(mixture)
        K, left = len(gaussians.means), kept(mixture, self.n_components)
        order = ORDERS[self.order](mixture.gate.weights[:K], gaussians.means)
        marks = np.append(bad[left][order], bad[~left])  # those that were dropped come last
        extra = [] if noise is None else [K]
        ordered = gaussians.part(order)
        components = ordered if noise is None else Beside(ordered, noise)
        gate = mixture.gate.part(np.append(order, extra).astype(np.intp))
        return replace(fit, parameters=replace(mixture, gate=gate, components=components)), marks


def _numbers(marked: NDArray[np.bool_]) -> str:
    """The numbers of the marked components."""
    return ", ".join(map(str, np.flatnonzero(marked)))
