"""Mixtures of regressions and of experts with scikit-learn's interface."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from types import NoneType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from mixtura import best_step, em, online
from mixtura.accelerated import ACCELERATED
from mixtura.array_kinds import in_kind, to_host, unmasked
from mixtura.backends.base import PRECISIONS, Precision
from mixtura.components.linear import LinearExpert, LinearExperts, Priors
from mixtura.estimators.callbacks import Tasks
from mixtura.estimators.expert_search import ExpertSearch, noise_floor, spurious
from mixtura.estimators.failing import as_before_if_it_fails
from mixtura.estimators.fitted_experts import Experts, FittedExperts
from mixtura.estimators.known import check_labels
from mixtura.estimators.validation import (
    check_fit,
    check_rows,
    check_targets,
    check_weights,
    weighted_sum,
)
from mixtura.gates import GATES, Gate
from mixtura.links import EqualMeans, PriorLink
from mixtura.mixture import Mixture
from mixtura.online import StandIn, drawn_like
from mixtura.predictive import Predictive
from mixtura.report import summary
from mixtura.starts import AUTO
from mixtura.starts_of_experts import RESPONSIBILITIES, given_labels
from mixtura.table import Table

Float = NDArray[np.float64]


def _goes_block_by_block(estimator: MixtureOfExperts) -> bool:
    """Whether there is a `partial_fit`; otherwise AttributeError that says why."""
    gate = estimator._gate()
    if gate.needs_responsibilities:
        raise AttributeError(
            f"the {gate.name} gate needs the responsibilities of all rows at once: it cannot be fitted block by block"
        )
    return True


class MixtureOfExperts(MultiOutputMixin, RegressorMixin, FittedExperts):
    """Mixture of linear regressions with a gate, fitted by EM on native kernels.

    ``p(y | x) = sum_k pi_k(x) N(y | b_k + W_k x, s_k)``: K linear experts, and a gate that gives their probabilities
    for a row of x. If the gate does not depend on x, the model is a mixture of regressions. Without priors EM maximises
    the likelihood; with them, its evidence lower bound. No array of N x K numbers is held, unless the gate is neural or
    sparse or the algorithm stochastic.

    Parameters
    ----------
    n_experts : int, default=2
        K. Ignored if ``experts`` is a list.
    experts : LinearExpert or list of LinearExpert, default=None
        One specification for all experts, or a list with one for each. None: linear regressions without priors.
    gate : {'constant', 'dirichlet', 'sparse', 'softmax', 'gaussian', 'neural'} or gate, default='constant'
        :class:`ConstantGate`, :class:`DirichletGate`, :class:`SparseGate`, :class:`SoftmaxGate`,
        :class:`GaussianGate` or :class:`NeuralGate`.
    prior_link : EqualMeans or LinkFunction, default=None
        Ties the means of the experts' priors to each other; these means are then learnt.
    algorithm : {'em', 'stochastic', 'stepwise'}, default='em'
        'em': each expert is fitted to all rows, weighted with their responsibilities. 'stochastic': at each iteration
        each row goes to one expert drawn from its responsibilities, which helps to leave poor local maxima; the best
        parameters seen are kept.
        'stepwise': after the starts, two passes in which the parameters follow every block of rows: see
        :meth:`partial_fit`.
    fit_intercept : bool, default=True
        Whether experts have an intercept; without it, their planes go through the origin.
    noise : {'shared', 'per-expert'}, default='shared'
        Whether all experts have the same noise variance (one for each target).
    empirical_bayes : bool, default=False
        Learn the covariances of the experts' priors.
    tol : float, default=None
        EM stops when the objective changes by less than this per unit of weight. None: 1e-9, but 1e-6 with a neural
        gate, whose gradient steps are small, and for float32 rows, whose
        rounding errors may change the objective by as much.
    max_iter : int, default=1000
        Most EM iterations; 0 leaves the initialisation as the result.
    n_init : int, default=1
        Number of initialisations; the run with the largest objective is kept. Mixtures of regressions have many
        local maxima, so 5 or more are advisable if a fit takes little time.
    init : {'kmeans', 'auto', 'random'} or array-like of int of shape (N,), default='kmeans'
        First responsibilities. 'kmeans': clusters of the standardised rows [x, y]. 'auto': several unlike starts (these
        clusters, bands of the residuals of one regression, regressions through a few rows, random numbers) have a few
        iterations each, and the best goes on; on samples of a large table first. 'random': drawn from a flat Dirichlet
        distribution. An array holds labels from 0 to K - 1. With ``n_init`` > 1 and 'kmeans', every second
        run starts from 'random'.
    random_state : int, RandomState instance or None, default=None
    warm_start : bool, default=False
        Start from the last fit's parameters; ``n_init`` is then ignored.
    verbose : int, default=0
        1: a progress bar if the ``rich`` package is installed, lines otherwise. 2: lines with times.
    verbose_interval : int, default=10
    accelerate : {'squarem', 'anderson', 'newton'} or None, default=None
        Extrapolate from EM's steps, as in :class:`GaussianMixture`: with the gates 'constant', 'dirichlet', 'softmax'
        and 'gaussian', and without priors that are learnt. 'newton': from where EM has converged to the maximum of
        the likelihood; with the gates 'constant' and 'softmax' and without priors.
    on_interrupt : {'raise', 'keep'}, default='raise'
        'keep': Ctrl-C during a fit ends it with the best parameters so far and a ConvergenceWarning.
    backend : {'auto', 'native', 'numba', 'reference', 'cuda'}, default='auto'
    n_threads : int, default=None
        Most threads to use; the result does not depend on it.
    precision : {'exact', 'fast'}, default='exact'
        'exact': IEEE arithmetic. 'fast': where the backend is 'cuda' and X is float32, products of matrices run on
        tensor cores; log-densities are good to 1e-5, and components too narrow for that are computed exactly.

    Attributes
    ----------
    coef_ : ndarray of shape (K, D), or (K, M, D) if y had two dimensions
        Slopes W; with a prior, the means of their posterior.
    intercept_ : ndarray of shape (K,) or (K, M)
    noise_variance_ : ndarray of shape (K,) or (K, M)
        s, in squared units of y; the same for all experts if ``noise`` is 'shared'.
    coef_covariance_ : ndarray of shape (K, D, D) or (K, M, D, D)
        Covariances of the slopes' posteriors B; without a prior, of their estimates given the responsibilities.
    prior_mean_ : ndarray of shape (K, D) or (K, M, D)
    prior_covariance_ : ndarray of shape (K, D, D)
        Covariances of the experts' priors, as learnt or given; zeros for an expert without a prior.
    weights_ : ndarray of shape (K,)
        Each expert's share of the responsibilities.
    gate_ : gate
        The fitted gate.
    converged_ : bool
    n_iter_ : int
    n_passes_ : float
        Rows that the fit looked at, initialisation included, over the number of rows.
    lower_bound_ : float
        The objective per unit of weight at the last E-step.
    lower_bounds_ : list of float
        The same at each iteration; with 'em' it does not fall.
    degenerate_ : ndarray of bool of shape (K,)
        Which experts are spurious: they fit a few rows with hardly any noise beside the others, which raises the
        likelihood without bound. Of several runs, one without any is kept if there is one.
    backend_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (D,)

    References
    ----------
    Jacobs, Jordan, Nowlan, Hinton (1991), Adaptive mixtures of local experts. DeSarbo, Cron (1988), A maximum
    likelihood methodology for clusterwise linear regression. Bishop, Svensén (2003), Bayesian hierarchical mixtures of
    experts.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import MixtureOfExperts
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1.0, 1.0, size=(300, 1))
    >>> y = np.where(X[:, 0] < 0.0, -2.0 * X[:, 0], 3.0 * X[:, 0]) + 0.05 * rng.normal(size=300)
    >>> model = MixtureOfExperts(2, gate="softmax", n_init=3, random_state=0).fit(X, y)
    >>> np.sort(model.coef_[:, 0]).round(1)
    array([-2.,  3.])
    >>> model.predict([[-0.5], [0.5]]).round(1)
    array([1. , 1.5])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_experts": [Interval(Integral, 1, None, closed="left")],
        "experts": [LinearExpert, list, tuple, None],
        "gate": [StrOptions(GATES.keys()), Gate],
        "prior_link": [PriorLink, None],
        "algorithm": [StrOptions({"em", "stochastic", "stepwise"})],
        "fit_intercept": ["boolean"],
        "noise": [StrOptions({"shared", "per-expert"})],
        "empirical_bayes": ["boolean"],
        "tol": [Interval(Real, 0.0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({AUTO, *RESPONSIBILITIES}), "array-like"],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "accelerate": [StrOptions(set(ACCELERATED)), None],
        "on_interrupt": [StrOptions({"raise", "keep"})],
        "backend": [str],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "precision": [StrOptions(set(PRECISIONS))],
    }

    def __init__(
        self,
        n_experts: int = 2,
        *,
        experts: LinearExpert | Sequence[LinearExpert] | None = None,
        gate: str | Gate = "constant",
        prior_link: PriorLink | None = None,
        algorithm: str = "em",
        fit_intercept: bool = True,
        noise: str = "shared",
        empirical_bayes: bool = False,
        tol: float | None = None,
        max_iter: int = 1000,
        n_init: int = 1,
        init: str | ArrayLike = "kmeans",
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        accelerate: str | None = None,
        on_interrupt: str = "raise",
        backend: str = "auto",
        n_threads: int | None = None,
        precision: Precision = "exact",
    ) -> None:
        self.n_experts = n_experts
        self.experts = experts
        self.gate = gate
        self.prior_link = prior_link
        self.algorithm = algorithm
        self.fit_intercept = fit_intercept
        self.noise = noise
        self.empirical_bayes = empirical_bayes
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init = init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.accelerate = accelerate
        self.on_interrupt = on_interrupt
        self.backend = backend
        self.n_threads = n_threads
        self.precision = precision

    # ------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = 60.0,
    ) -> MixtureOfExperts:
        """Estimate experts and gate by EM.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, D), source or path
            float32 and float64 are read as they are; other numbers become float64. More rows than memory holds are read
            block by block: see :func:`mixtura.data.as_source`.
        y : array-like of shape (N,) or (N, M)
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows, one of weight 0 as none. A common factor of all weights
            matters only if there is a prior, whose strength corresponds to a number of rows.
        labels : array-like of shape (N,) or (N, K), default=None
            What is known of the rows: the expert of each, from 0 to K - 1, with -1 or NaN where it is not known; or
            whether each row may belong to each expert. Unlike labels in ``init``, they hold throughout the fit.
        checkpoint : path-like, default=None
            A file to which the fit writes what it has reached. If it exists, the fit goes on from there, to the same
            bits as without an interruption; the file of another model or of other data is refused. It stays when the
            fit is over. With a gate that keeps numbers for each row, as 'sparse' does, so does the file.
        every : float, default=60.0
            Seconds from one writing to the next; 0 writes after every iteration.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X or y is not finite, shapes do not fit, there are fewer rows than experts, a prior's covariance is not
            positive definite, or labels leave an expert without rows.
        ImportError
            The backend, or torch for a neural gate or a link function, is not available; the message says why.
        """
        given_rows, keep = X, self.on_interrupt == "keep"
        backend, X = self._opened(X)
        specs = self._specs()
        warm = self.warm_start and hasattr(self, "_parameters")
        if warm:
            self._check_resumable(len(specs), X, y)
        X, y = check_targets(self, X, y)
        weights = check_weights(sample_weight, X)
        K, (N, D), M = len(specs), X.shape, y.shape[1]
        if max(K, 2) > N:
            raise ValueError(
                f"n_samples={N} is too few for {K} experts: at least {max(K, 2)} rows are needed"
            )
        check_fit(X, weights, K)
        check_fit(y, weights, K, array="y")
        priors = Priors.of(specs, M, D, self.empirical_bayes, self.prior_link)
        self._check_accelerate(priors, labels is not None)
        membership = check_labels(labels, N, K, weights, "expert")
        table = Table.of(backend, X, weights, y, membership)
        center, spread = table.column_spread()
        initial_experts = LinearExperts.start(
            priors,
            self.fit_intercept,
            self.noise == "shared",
            noise_floor(table, spread[D:]),
            spread[D:] ** 2,
        )

        n_init = 1 if warm else self.n_init

        if not isinstance(self.init, str):
            given_labels(unmasked(to_host(self.init), "init"), K, table)  # to refuse them before any work
        with self._checkpointed(checkpoint, every, table) as (recorded, rng):
            search = ExpertSearch(
                table=table,
                gate=self._gate(),
                experts=initial_experts,
                spread=(center, spread),
                init=self.init if isinstance(self.init, str) else unmasked(to_host(self.init), "init"),
                n_init=n_init,
                tol=self.tol,
                max_iter=self.max_iter,
                stochastic=self.algorithm == "stochastic",
                run_on_sample=recorded(em.run),
                run=recorded(partial(best_step.run, self._algorithm())),
                keep=keep,
                rng=rng,
            )
            best, tasks = self._searched(search, initial_experts if warm else None)
            if isinstance(self.init, str) and not warm and membership is None:
                with table.host_limits():
                    best = search.not_below_one_regression(best)
        if best.found is None:  # max_iter is 0
            best = replace(best, found=best.parameters.expect(table))
        self._warn(best)
        attributes = self._attributes(best)
        self._type = str(np.result_type(X, y))
        attributes["weights_"] = self._in_type_of(given_rows, attributes["weights_"])
        attributes |= {"backend_": backend.name, "_n_rows": N}
        self._adopt(attributes, given_rows, table, tasks)
        return self

    def _searched(self, search: ExpertSearch, initial: LinearExperts | None) -> tuple[em.Fit[Experts], Tasks]:
        """The best fit; with ``initial`` from the last one's parameters, else from the best start."""
        table, climbed, resumed = search.table, None, None
        with table.host_limits():
            if initial is not None:
                resumed = self._resumed(initial, table, search.rng)
            else:
                climbed = search.best_start()

        def one(run: int, report: Callable[[em.Step[Any]], bool] | None) -> em.Fit[Experts]:
            return search.one(run, climbed, resumed, report)

        n_init = 1 if climbed is not None else search.n_init
        return self._search(table, n_init, one, self._attributes, search.score, keep=search.keep)

    def _least_change(self) -> float:
        return self._gate().tol if self.tol is None else self.tol

    def _check_recordable(self, every: Any, seed: Any) -> None:
        super()._check_recordable(every, seed)
        if not isinstance(self.prior_link, NoneType | EqualMeans):
            raise ValueError(
                f"checkpoint does not go with prior_link={self.prior_link!r}: a file cannot hold functions"
            )

    def _algorithm(self) -> Callable[..., em.Fit[Any]]:
        """What runs on the whole table."""
        if self.algorithm == "stepwise":
            return online.run
        return em.run if self.accelerate is None else ACCELERATED[self.accelerate]

    @available_if(_goes_block_by_block)
    @_fit_context(prefer_skip_nested_validation=True)
    @as_before_if_it_fails
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> MixtureOfExperts:
        """Go on with a block of rows, by stepwise EM: see :meth:`mixtura.GaussianMixture.partial_fit`.

        Parameters
        ----------
        X : array-like of shape (n, D)
            A block; the first one should have at least a few hundred rows for each expert.
        y : array-like of shape (n,) or (n, M)
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As for :meth:`fit`.
        AttributeError
            The gate needs the responsibilities of all rows at once, as 'sparse' and 'neural' do: then there is no such
            method.

        Examples
        --------
        >>> import numpy as np
        >>> from mixtura import MixtureOfExperts
        >>> rng = np.random.default_rng(0)
        >>> model = MixtureOfExperts(2, random_state=0)
        >>> for _ in range(30):
        ...     x = rng.normal(size=(300, 1))
        ...     y = np.where(rng.uniform(size=300) < 0.5, 2.0 * x[:, 0], -x[:, 0] + 1.0) + 0.1 * rng.normal(size=300)
        ...     _ = model.partial_fit(x, y)
        >>> np.sort(model.coef_[:, 0]).round(1)
        array([-1.,  2.])
        """
        if (blocks := self._in_blocks(X, y, sample_weight)) is not None:
            for part in blocks:
                self.partial_fit(*part)
            return self
        block = (X, y, sample_weight)
        if hasattr(self, "_parameters"):
            self._check_unchanged("partial_fit")
        state, table = self._stepped(block, hasattr(self, "_parameters"), self._rows_to_differentiate)
        if state is None:
            self.n_iter_ = self._n_steps
            return self
        with table.host_limits():
            estimate, found = state.estimate(table)
        fit = em.Fit(estimate, state.bound, [state.bound], False, found)
        attributes = self._attributes(fit) | {"n_iter_": state.steps, "n_passes_": 1.0}
        attributes["weights_"] = self._in_type_of(X, attributes["weights_"])
        self._learn(attributes, X)
        self._n_rows = state.rows
        return self

    def _to_go_on(self, table: Table) -> Experts:
        return self._parameters

    def _standing_for(self, mixture: Experts, table: Table) -> StandIn:
        """See :meth:`MixtureEstimator._standing_for`: rows drawn from the experts, where each had its covariates."""
        if not hasattr(self, "_x_means"):  # as in a file of an earlier version
            return super()._standing_for(mixture, table)
        experts, weights = mixture.components, self._host("weights_")
        means, covariances = experts.joint_with(self._x_means, self._x_covariances)
        values, vectors = np.linalg.eigh(covariances)
        factors = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]

        def draw(counts: NDArray[np.intp], rng: np.random.RandomState) -> Float:
            noise = (rng.standard_normal((n, table.dims)) for n in counts)
            parts = zip(means, noise, factors, strict=True)
            return np.concatenate([mean + white @ factor.T for mean, white, factor in parts])

        like = drawn_like(table, weights, draw)
        rows = int(getattr(self, "_n_rows", len(table)))
        return StandIn.of_components(like, rows, experts.kind, weights, means, covariances)

    def _answers_of(self, table: Table) -> Any:
        assert table.y is not None
        return table.y[:, 0] if self._one_target else table.y

    def _attributes(self, fit: em.Fit[Experts]) -> dict[str, Any]:
        """Fitted attributes by name."""
        mixture, mass, of_x = fit.parameters, fit.found.moments.mass, fit.found.of_covariates
        kept = of_x.kept_mass()
        return {
            "_parameters": Mixture(mixture.gate.without_rows(), mixture.components),
            "weights_": mass / mass.sum(),
            "converged_": fit.converged,
            "n_iter_": fit.n_iter,
            "lower_bound_": fit.bound,
            "lower_bounds_": fit.bounds,
            "degenerate_": spurious(fit),
            "_x_means": of_x.means(kept),
            "_x_covariances": of_x.covariances(kept),
        }

    def _check_resumable(self, experts: int, X: Any, y: Any) -> None:
        """Raise ValueError unless the last fit's parameters are a start for so many experts and such X and y.

        It is called before any attribute changes, so that the last fit is kept if it raises.
        """
        before = self._parameters.components.slopes.shape
        of_x, of_y = np.shape(X), np.shape(y)
        # Other shapes are refused later.
        now = experts, of_y[1] if len(of_y) == 2 else 1, of_x[1] if len(of_x) == 2 else before[2]
        if now != before:
            raise ValueError(
                f"warm_start: the last fit had experts, targets and columns {before}, this one has {now}. Set "
                "warm_start=False for a new start, or clone the estimator."
            )

    def _check_accelerate(self, priors: Priors, labelled: bool) -> None:
        """Raise ValueError if the parts of the model have no coordinates in which to extrapolate."""
        if self.accelerate is None:
            return
        gate = self._gate()
        reasons = {
            "algorithm='stochastic', whose steps are random": self.algorithm == "stochastic",
            "algorithm='stepwise'": self.algorithm == "stepwise",
            f"the {gate.name} gate": type(gate).coordinates is Gate.coordinates,
            "priors whose means or covariances are learnt": any(priors.learnt) or priors.link is not None,
        }
        if self.accelerate == "newton":
            reasons |= {
                f"the {gate.name} gate": type(gate).log_odds is Gate.log_odds,
                "priors": priors.given,
                "labels": labelled,
            }
        for reason, holds in reasons.items():
            if holds:
                raise ValueError(
                    f"accelerate={self.accelerate!r} does not go with {reason}: set accelerate=None"
                )

    def _resumed(self, initial: LinearExperts, table: Table, rng: np.random.RandomState) -> Experts:
        """The last fit's parameters, as far as they still apply under the estimator's present parameters."""
        last, gate = self._parameters, self._gate()
        K = len(initial.slopes)
        gate = (last.gate.resume if gate.same_as(last.gate) else gate.start)(K, table, rng)
        previous, noise = last.components, last.components.noise
        if initial.shared_noise:
            noise = np.broadcast_to(self._host("weights_") @ noise, noise.shape)
        experts = replace(
            initial,
            noise=np.maximum(noise, initial.noise_floor),
            slopes=previous.slopes,
            posterior=previous.posterior,
            anchor=previous.anchor if initial.intercept else initial.anchor,
            level=previous.level if initial.intercept else initial.level,
        )
        learnt = any(experts.priors.learnt) or experts.priors.link is not None
        if learnt and np.array_equal(experts.priors.present, last.components.priors.present):
            priors = experts.priors.restored(previous.priors.mean, previous.priors.covariance)
            experts = replace(experts, priors=priors)
        return Mixture(gate, experts)

    def _warn(self, fit: em.Fit[Experts]) -> None:
        experts = fit.parameters.components
        narrow = spurious(fit)
        if fit.interrupted:
            warnings.warn(
                f"The fit was interrupted after {fit.n_iter} iterations: the best parameters so far are kept.",
                ConvergenceWarning,
                stacklevel=5,
            )
        elif not fit.converged and self.max_iter > 0:
            warnings.warn(
                f"The objective still changed after {self.max_iter} iterations: increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if narrow.any():
            names = ", ".join(str(k) for k in np.flatnonzero(narrow))
            warnings.warn(
                f"Expert {names} is spurious: it fits a few rows with hardly any noise, which raises the likelihood "
                "and says nothing about the data: see degenerate_. Try n_init > 1, fewer experts, or noise='shared'.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if experts.empty.any():
            names = ", ".join(str(k) for k in np.flatnonzero(experts.empty))
            warnings.warn(
                f"No rows are left for expert {names}: it is dropped (weight 0). Try fewer experts, n_init > 1, "
                "or another init.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if experts.dependent.any():
            names = ", ".join(str(k) for k in np.flatnonzero(experts.dependent))
            warnings.warn(
                f"The rows of expert {names} do not determine its slopes: columns of X are constant or copies "
                "of others there, or the rows are too few"
                + (
                    ""
                    if self.fit_intercept
                    else ", or far from 0 beside their spread, where there is no intercept"
                )
                + ". The slopes of least norm were taken; a prior, LinearExpert(prior_covariance=...), would "
                "determine them.",
                ConvergenceWarning,
                stacklevel=5,
            )

    # -------------------------------------------------------------- predict

    def _answers(self, X: ArrayLike, probabilities: bool) -> dict[str, NDArray[Any]]:
        """Mean and standard deviation of each target, and the gate's probabilities if they are wanted."""
        mean, std = self.predict(X, return_std=True)
        if self._one_target:
            answers = {"mean": mean, "std": std}
        else:
            answers = {f"mean_{m}": column for m, column in enumerate(mean.T)}
            answers |= {f"std_{m}": column for m, column in enumerate(std.T)}
        if probabilities:
            answers |= {f"gate_{k}": column for k, column in enumerate(self.predict_gate(X).T)}
        return answers

    def _table(self, X: Any, sample_weight: Any = None, answers_checked: bool = False) -> Table:
        """Check and place rows for a prediction, on the host, where the experts' predictions are computed."""
        check_is_fitted(self)
        backend, X = self._opened(X)
        return Table.of(backend, check_rows(self, X, reset=False))

    def _predictive(self, X: Any) -> tuple[Predictive, Table]:
        """The predictive distribution, and the checked rows."""
        table = self._table(X)
        return Predictive(self._parameters), table

    @in_kind
    def predict(
        self, X: ArrayLike, return_std: bool = False
    ) -> NDArray[np.floating] | tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Mean of y given x, ``sum_k pi_k(x) (b_k + W_k x)``.

        Parameters
        ----------
        X : array-like of shape (N, D)
        return_std : bool, default=False
            Also return the standard deviation of y given x. It includes the noise, the uncertainty of the slopes, and
            the differences between the experts.

        Returns
        -------
        mean : ndarray of shape (N,) or (N, M)
        std : ndarray of the same shape
            Only if ``return_std``.
        """
        predictive, table = self._predictive(X)
        mean = self._in_type_of(
            X, self._without_axis(self._finite(table, predictive.mean(table), "prediction"))
        )
        if not return_std:
            return mean
        deviation = self._finite(table, predictive.deviation(table), "deviation")
        return mean, self._in_type_of(X, self._without_axis(deviation))

    def _finite(self, table: Table, answers: Float, quantity: str) -> Float:
        """Answers (N, ...), which are checked to be finite."""
        finite = np.isfinite(answers).reshape(len(answers), -1).all(axis=1)
        self._check_answers(table, np.where(finite, 0.0, np.nan), "expert", quantity)
        return answers

    def _without_axis(self, answer: Float) -> Float:
        """Answers (N, M) as (N,) if y had one dimension."""
        return answer[:, 0] if self._one_target else answer

    @in_kind
    def predict_gate(self, X: ArrayLike) -> NDArray[np.floating]:
        """Probability of each expert given x alone.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        pi : ndarray of shape (N, K)
        """
        predictive, table = self._predictive(X)
        return self._in_type_of(X, self._finite(table, predictive.gate(table), "probability"))

    @in_kind
    def predict_expert(self, X: ArrayLike) -> NDArray[np.floating]:
        """Each expert's mean of y given x.

        Parameters
        ----------
        X : array-like of shape (N, D)

        Returns
        -------
        means : ndarray of shape (N, K, M)
            M is 1 if y had one dimension.
        """
        predictive, table = self._predictive(X)
        return self._in_type_of(X, self._finite(table, predictive.experts(table), "prediction"))

    @in_kind
    def responsibilities(self, X: ArrayLike, y: ArrayLike) -> NDArray[np.floating]:
        """Probability of each expert given x and y.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : array-like of shape (N,) or (N, M)

        Returns
        -------
        resp : ndarray of shape (N, K)
        """
        predictive, table = self._predictive(X)
        resp = predictive.responsibilities(table, self._check_y(y, len(table)))
        return self._in_type_of(X, self._finite(table, resp, "responsibility"))

    @in_kind
    def score_samples(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.floating]:
        """``log p(y | x)`` of each row: the predictive density, which includes the uncertainty of the slopes.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : array-like of shape (N,) or (N, M), default=None
            None takes the predictions, which gives the density at the predicted mean.

        Returns
        -------
        log_likelihood : ndarray of shape (N,)
        """
        return self._in_type_of(X, self._log_densities(X, y))

    def _log_densities(self, X: Any, y: Any) -> Float:
        """``log p(y | x)`` of each row, in float64."""
        predictive, table = self._predictive(X)
        y = self.predict(X) if y is None else y
        return self._finite(table, predictive.log_density(table, self._check_y(y, len(table))), "log-density")

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Share of the variance of y that predictions explain, R².

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : array-like of shape (N,) or (N, M)
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        score : float
        """
        y = unmasked(to_host(y), "y")
        return float(super().score(to_host(X), y, check_weights(sample_weight, y)))

    @in_kind
    def sample(self, X: ArrayLike, random_state: Any = None) -> NDArray[np.floating]:
        """Draw y for rows of x: first an expert from the gate, then y from the expert.

        Parameters
        ----------
        X : array-like of shape (N, D)
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        y : ndarray of shape (N,) or (N, M)
        """
        predictive, table = self._predictive(X)
        drawn = self._finite(table, predictive.sample(table, check_random_state(random_state)), "draw")
        return self._in_type_of(X, self._without_axis(drawn))

    # ------------------------------------------------------------- criteria

    def _n_parameters(self) -> int:
        """Number of free parameters of the model."""
        K, _, D = self._parameters.components.slopes.shape
        return self._parameters.components.n_parameters() + self._parameters.gate.n_parameters(K, D)

    def aic(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Akaike information criterion, -2 log-likelihood + 2 * parameters. Lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : array-like of shape (N,) or (N, M)
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows.

        Returns
        -------
        aic : float
        """
        log_likelihood, _ = weighted_sum(self._log_densities(X, y), sample_weight)
        return -2.0 * log_likelihood + 2.0 * self._n_parameters()

    def bic(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion, -2 log-likelihood + parameters * log N. Lower is better.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : array-like of shape (N,) or (N, M)
        sample_weight : array-like of shape (N,), default=None
            A row of weight 2 counts as two rows; N is then the sum of the weights.

        Returns
        -------
        bic : float
        """
        log_likelihood, total = weighted_sum(self._log_densities(X, y), sample_weight)
        return -2.0 * log_likelihood + self._n_parameters() * math.log(total)

    def summary(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> str:
        """The fitted model in a few lines of text: how the fit went, then weights, noise and coefficients.

        Parameters
        ----------
        X : array-like of shape (N, D), default=None
        y : array-like of shape (N,) or (N, M), default=None
            The rows that were fitted: the text then has a table of all parameters with standard errors, by
            :func:`mixtura.standard_errors`.
        sample_weight : array-like of shape (N,), default=None

        Returns
        -------
        text : str
        """
        check_is_fitted(self)
        experts = self._parameters.components
        K, M, D = experts.slopes.shape
        names = [str(n) for n in getattr(self, "feature_names_in_", [f"x{j}" for j in range(D)])]

        def of(what: str, m: int) -> str:
            return what if M == 1 else f"{what}[{m}]"

        spread = np.sqrt(np.maximum(np.diagonal(experts.posterior, axis1=2, axis2=3), 0.0))
        text = summary(
            f"Mixture of {K} linear expert{'s' if K > 1 else ''}, {self._parameters.gate.name} gate",
            {
                "rows x columns": f"{getattr(self, '_n_rows', '?')} x {D}" + (f" -> {M}" if M > 1 else ""),
                "objective per row": f"{self.lower_bound_:.8g}",
                "parameters": str(self._n_parameters()),
                "iterations": f"{self.n_iter_} ({'' if self.converged_ else 'not '}converged)",
                "passes over the rows": f"{self.n_passes_:.4g}" if hasattr(self, "n_passes_") else "?",
                "backend": self.backend_,
            },
            names,
            {
                "weight": self._host("weights_"),
                **{of("noise sd", m): np.sqrt(experts.noise[:, m]) for m in range(M)},
                **{of("intercept", m): experts.intercepts[:, m] for m in range(M) if self.fit_intercept},
            },
            {
                f"{of(what, m)}": array[:, m]
                for m in range(M)
                for what, array in (("coef", experts.slopes), ("se", spread))
            },
        )
        if X is None:
            return text
        from mixtura.uncertainty import errors_in_words

        return f"{text}\n\n{errors_in_words(self, X, y, sample_weight)}"
