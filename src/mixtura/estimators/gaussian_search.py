"""From first parameters to the best fit of a Gaussian mixture: starts, samples, restarts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mixtura import em
from mixtura.backends.clustering import PlainEm
from mixtura.components.beside import Beside, Component
from mixtura.components.covariances import Covariance
from mixtura.components.estimation import Estimation
from mixtura.components.gaussian import Gaussians, few_rows
from mixtura.gates.constant import ConstantGate
from mixtura.levels import climb, least_gain, nested
from mixtura.mixture import Mixture
from mixtura.moments import Moments
from mixtura.shrinking import Shrinking
from mixtura.starts import (
    AUTO,
    INITIALIZERS,
    MANY_COMPONENTS,
    SEARCHES_OF_SHORT,
    Clustered,
    Initializer,
    UnderMetric,
    candidates,
    clustering,
    clusterings,
    is_short,
    is_whole,
    labelled_means,
    labelled_moments,
    labellings,
)
from mixtura.table import Table

Float = NDArray[np.float64]
Parameters = Mixture[ConstantGate, Gaussians | Beside]
Run = Callable[..., em.Fit[Any]]

# Least number of starts by k-means that race on samples of a large table.
_SEARCHES = 3

# Iterations after which bounded fits are compared.
_JUDGED = 3

# Weight of the noise component at the start of a fit.
_NOISE_SHARE = 0.05

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Dropping:
    """Components that become singular are to be dropped: see :class:`mixtura.shrinking.Shrinking`.

    Parameters
    ----------
    scale : ndarray
        Covariance of the whole table, in the shape in which one component keeps its own.
    reg_covar : float or ndarray of shape (D,)
    """

    scale: Float
    reg_covar: float | Float


@dataclass(frozen=True)
class GaussianSearch:
    """A search for the best Gaussian mixture for a table.

    Parameters
    ----------
    table : Table
    components : int
        K.
    family : Covariance
    estimation : Estimation
    n_parameters : int
        P.
    init_params : str
    given : dict
        Weights, means and precisions with which every run starts, as far as the user gave them.
    fixed_weights : ndarray of bool of shape (K,), optional
    noise : Component, optional
        The component beside the Gaussians, not yet fitted.
    dropping : Dropping, optional
    n_init, tol, max_iter
        As in :class:`mixtura.GaussianMixture`.
    run : callable
        :func:`mixtura.em.run`, or an accelerated version of it.
    race : callable
        What runs where several starts are compared: the same, or EM where it is not for that.
    plain_em : bool
        Whether that is EM itself, recorded or not.
    keep : bool
        Whether a KeyboardInterrupt ends the search with the best parameters so far.
    rng : RandomState
    """

    table: Table
    components: int
    family: Covariance
    estimation: Estimation
    n_parameters: int
    init_params: str
    given: dict[str, Float]
    fixed_weights: NDArray[np.bool_] | None
    noise: Component | None
    dropping: Dropping | None
    n_init: int
    tol: float
    max_iter: int
    rng: np.random.RandomState
    run: Run = field(default=em.run)
    race: Run = field(default=em.run)
    plain_em: bool = True
    keep: bool = False

    @property
    def complete(self) -> bool:
        """Whether the user gave all parameters of the start."""
        return len(self.given) == 3 and not any(np.isnan(value).any() for value in self.given.values())

    # ------------------------------------------------------------------ starts

    def _known(self, table: Table) -> Float | None:
        """Means that labels or the user tell beforehand, (K, D), with NaN for others; None if there are none."""
        means = labelled_means(table, self.components)
        given, fixed = self.given.get("means"), self.estimation.fixed
        held = fixed is not None and bool(fixed.means.any())
        if given is not None and (held or np.isnan(given).any()):
            means = np.where(np.isnan(given), means, given)
        return means if np.isfinite(means).any() else None

    def ways(self, level: Table, n: int) -> list[Initializer]:
        """``n`` ways, or ``n`` times those that 'auto' knows, to start on a table."""
        if self.init_params != AUTO or self.complete:
            return [INITIALIZERS["kmeans" if self.init_params == AUTO else self.init_params]] * n
        return [way for _ in range(n) for way in candidates(level, self.components, self.rng)]

    def _start(self, table: Table, initialize: Any) -> Parameters:
        """First parameters on a table, with those that the user gave in the place of others.

        Noise starts from the whole table, of which the other may be a sample: its box holds all rows.
        """
        given, storage = self.given, self.family.storage
        if self.complete:
            components = Gaussians.from_precisions(
                self.family, given["means"], given["precisions"], self.estimation
            )
            weights = given["weights"]
        else:
            moments = labelled_moments(table, self.components, self.family.kind)
            if moments is None:
                known = self._known(table)
                moments = initialize(
                    table, self.components, self.family.kind, self.estimation.floor, self.rng, known
                )
                if known is None and moments.is_finite():
                    moments = self._matched(moments)
            if not moments.is_finite():
                raise em.NotFiniteError
            # Fixed parameters are put in below; before that there are no values for them.
            components = Gaussians.from_moments(self.family, moments, replace(self.estimation, fixed=None))
            weights = _filled(given.get("weights"), ConstantGate.from_moments(moments).weights)
            components = replace(
                components,
                estimation=self.estimation,
                means=_filled(given.get("means"), components.means),
            )
            if "precisions" in given:
                precisions = _filled(given["precisions"], storage.precisions(components.precisions_cholesky))
                components = Gaussians.from_precisions(
                    self.family, components.means, precisions, self.estimation
                )
        gate = ConstantGate(weights=weights, fixed=self.fixed_weights).sharing(weights)
        if self.noise is not None and not self.complete:
            # Components that start from single rows are so narrow that noise would take all other rows from them: they
            # have one iteration without it.
            plain = Mixture(gate, components)
            plain = plain.maximize(plain.expect(table))
            gate, components = plain.gate, plain.components
        if self.noise is None:
            return self._shrinking(Mixture(gate, components))
        free = np.ones(self.components, dtype=bool) if gate.fixed is None else ~gate.fixed
        room = float(gate.weights[free].sum())
        weights = np.append(np.where(free, 1.0 - _NOISE_SHARE, 1.0) * gate.weights, _NOISE_SHARE * room)
        fixed = None if gate.fixed is None else np.append(gate.fixed, False)
        gate = ConstantGate(weights=weights, fixed=fixed)
        return self._shrinking(Mixture(gate, Beside(components, self.noise.start(self.table))))

    def _matched(self, moments: Moments) -> Moments:
        """The moments of first clusters, in the order that makes them most likely under fixed weights and covariances.

        Of a component with a fixed weight w and a fixed precision P, n rows with covariance S have the log-likelihood
        ``n (log w + (log |P| - tr P S) / 2)``, up to a constant; free weights and covariances are the rows' own.
        """
        fixed, storage = self.estimation.fixed, self.family.storage
        held = np.zeros(self.components, dtype=bool)
        if fixed is not None and not storage.shared:
            held = fixed.covariances
        if not held.any() and self.fixed_weights is None:
            return moments
        K, D = self.components, moments.first.shape[1]
        gain = np.zeros((K, K))  # of cluster k as component j
        if self.fixed_weights is not None:
            weights = np.maximum(self.given["weights"], _TINY)
            shares = np.maximum(moments.mass / moments.mass.sum(), _TINY)
            gain += np.where(self.fixed_weights, np.log(weights), np.log(shares)[:, None])
        if held.any():
            dense = storage.dense(moments.covariances(moments.kept_mass()), K, D)
            dense = dense + (self.estimation.floor + _TINY) * np.eye(D)
            own = np.linalg.slogdet(dense)[1] + D
            gain -= 0.5 * own[:, None]
            given = self.given["precisions"]  # NaN where a covariance is free
            precisions = storage.dense(np.where(np.isnan(given), 1.0, given), K, D)
            for j in np.flatnonzero(held):
                traces = np.einsum("ij,kij->k", precisions[j], dense)
                gain[:, j] = gain[:, j] + 0.5 * own + 0.5 * (np.linalg.slogdet(precisions[j])[1] - traces)
        _, order = linear_sum_assignment(-(moments.mass[:, None] * gain).T)
        return moments.part(order)

    def _shrinking(self, mixture: Parameters) -> Parameters:
        """The mixture, which drops components if it is to."""
        if self.dropping is None:
            return mixture
        kept = np.ones(self.components, dtype=bool)
        dropping = self.dropping
        return Shrinking(
            mixture.gate, mixture.components, scale=dropping.scale, reg_covar=dropping.reg_covar, kept=kept
        )

    # ------------------------------------------------------------------ the search

    def best_start(self) -> em.Fit[Parameters] | None:
        """The best of several starts after runs on samples of the table; None where one start goes straight on."""
        levels = nested(self.table, self.components, self.n_parameters, self.rng)
        auto = self.init_params == AUTO
        if self.complete or self.max_iter == 0:
            return None
        if not auto and (self.given or len(levels) == 1):
            return None
        n = self.n_init if auto else max(self.n_init, _SEARCHES if self.init_params == "kmeans" else 1)
        first, alone = levels[0], len(levels) == 1
        ways = self.ways(first, n)
        raced = self._raced(
            first, ways, self.tol if alone else least_gain(self.n_parameters, first, self.table)
        )
        if raced is not None and alone:
            return raced
        return climb(
            levels,
            [partial(self._start, first, way) for way in ways]
            if raced is None
            else [lambda: raced.parameters],
            self.race,
            n_parameters=self.n_parameters,
            tol=self.tol,
            max_iter=self.max_iter,
            score=self.score,
            keep=self.keep,
        )

    def _raced(self, table: Table, ways: Sequence[Initializer], tol: float) -> em.Fit[Parameters] | None:
        """The best of several starts by k-means, each with a whole run of EM, all of them in one call.

        None where that is not to be had, or every run became singular.
        """
        searches = [way for way in ways if isinstance(way, UnderMetric)]
        if len(searches) < max(len(ways), 2) or self.given or not self._simple or not table.may_race:
            return None
        storage, labels = self.family.storage, labellings(table, searches, self.components, self.rng)
        if not len(labels):
            return None
        found = table.race(labels, self.components, self._plain_em_until(tol))
        bounded, fits = self.estimation.least is not None, list[em.Fit[Parameters]]()
        for r in np.argsort(-found.bounds, kind="stable"):
            if not found.good[r]:
                continue
            covariances = np.reshape(found.covariances[r], storage.shape(self.components, table.dims))
            try:
                gaussians = Gaussians(
                    self.family, found.means[r], covariances, storage.cholesky(covariances), self.estimation
                )
                mixture: Parameters = Mixture(ConstantGate(weights=found.weights[r]), gaussians)
                # One iteration tells whether a component is spurious, a few what bounds do that the race has not.
                fit = em.run(mixture, table, max_iter=_JUDGED if bounded else 1, stop=lambda step: False)
            except (em.SingularError, em.NotFiniteError):
                continue
            fits.append(fit)
            if not bounded and self.score(fit)[0]:
                return fit  # all others are worse
        return max(fits, key=self.score, default=None)

    @property
    def _simple(self) -> bool:
        """Whether there is nothing but rows, a family that kernels know, and one number that is added or a bound."""
        e = self.estimation
        beside = self.fixed_weights is not None or self.noise is not None or self.dropping is not None
        plain = e.prior is None and e.fixed is None and np.ndim(e.reg_covar) == 0
        return self.family.direct and not beside and plain

    def _plain_em_until(self, tol: float) -> PlainEm:
        storage = self.family.storage
        return PlainEm(storage.form, storage.shared, float(self.estimation.reg_covar), tol, self.max_iter)

    def one(
        self,
        climbed: em.Fit[Parameters] | None,
        resumed: tuple[Parameters, float] | None,
        report: Callable[[em.Step[Any]], bool] | None,
    ) -> em.Fit[Parameters]:
        """One run on the whole table, from what :meth:`best_start` found or from earlier parameters and their bound.

        Without either it begins at a new start.
        """
        bound = -math.inf
        if climbed is not None and climbed.interrupted:
            return climbed
        if climbed is not None:
            start = climbed.parameters
        elif resumed is not None:
            start, bound = self._shrinking(resumed[0]), resumed[1]
        else:
            return self._begun(self._beginning(), report)
        bounds = list[float]()
        if report is None and bound == -math.inf:
            start, bounds = self._advanced(start)
        return self._run_on(start, bounds, bound, report)

    def _begun(self, way: Initializer, report: Callable[[em.Step[Any]], bool] | None) -> em.Fit[Parameters]:
        """One run from a way to start."""
        if report is None and isinstance(way, Clustered) and self._may_advance:
            K, D, storage = self.components, self.table.dims, self.family.storage
            shapes = np.zeros(K), np.zeros((K, D)), np.zeros(storage.shape(K, D))
            found = self.table.advance(shapes, self._plain_em_until(self.tol), way.labelled(self.table))
            moved = None if found is None else self._mixture_of(found[0])
            if moved is not None and found is not None:
                return self._run_on(moved, found[1][:-1], -math.inf, report)
        start, bounds = self._start(self.table, way), list[float]()
        if report is None:
            start, bounds = self._advanced(start)
        return self._run_on(start, bounds, -math.inf, report)

    def _run_on(
        self,
        start: Parameters,
        bounds: list[float],
        bound: float,
        report: Callable[[em.Step[Any]], bool] | None,
    ) -> em.Fit[Parameters]:
        """The run after iterations that had these bounds, or from a bound that is given."""
        fit = self.run(
            start,
            self.table,
            max_iter=self.max_iter - len(bounds),
            stop=lambda step: abs(step.change) < self.tol,
            report=report,
            bound=bounds[-1] if bounds else bound,
            keep=self.keep,
        )
        return replace(fit, bounds=[*bounds, *fit.bounds]) if bounds else fit

    def _beginning(self) -> Initializer:
        """How a run on the whole table starts.

        On a short table several searches of k-means are made, and the run starts where EM will end best.
        """
        table, K = self.table, self.components
        by_kmeans = self.init_params == "kmeans" and K < MANY_COMPONENTS and self.max_iter > 0
        if not (by_kmeans and self._simple and not self.given and table.membership is None):
            return self.ways(table, 1)[0]
        count = -(-SEARCHES_OF_SHORT // self.n_init) if K > 1 and is_short(table, K) else 1
        if count == 1:
            in_one_call = self._may_advance and is_whole(table, K, self.family.kind)
            return clustering(table, K, self.rng) if in_one_call else self.ways(table, 1)[0]
        ways = clusterings(table, K, count, self.rng)
        if len(ways) == 1:
            return ways[0]
        if table.may_race:
            return ways[self._best_of_race(ways)]
        fits = [self._tried(way) for way in ways]
        ends = [(False, -math.inf) if fit is None else self.score(fit) for fit in fits]
        return ways[max(range(len(ways)), key=lambda r: ends[r])]

    def _tried(self, way: Initializer) -> em.Fit[Parameters] | None:
        """The run from a way to start; None if it becomes singular."""
        try:
            return self._begun(way, None)
        except (em.SingularError, em.NotFiniteError):
            return None

    def _best_of_race(self, ways: Sequence[Clustered]) -> int:
        """The clustering from which EM ends best, all runs in one call."""
        table, K = self.table, self.components
        labels = np.stack([way.labelled(table) for way in ways])
        found = table.race(labels, K, self._plain_em_until(self.tol))
        order = [int(r) for r in np.argsort(-found.bounds, kind="stable") if found.good[r]]
        for r in order:
            few = found.weights[r] * len(table) < few_rows(table.dims)
            if not few.any():
                return r
            fit = self._tried(ways[r])
            if fit is not None and self.score(fit)[0]:
                return r
        return order[0] if order else 0

    @property
    def _may_advance(self) -> bool:
        """Whether a run of EM on the whole table may be made in one call."""
        known = self.plain_em and self._simple and self.estimation.least is None
        form = self.family.storage.form
        return known and self.max_iter > 1 and self.table.may_advance(self.components, form)

    def _mixture_of(self, parameters: tuple[Float, Float, Float]) -> Parameters | None:
        """The mixture with weights, means and covariances; None if one is singular."""
        weights, means, covariances = parameters
        try:
            cholesky = self.family.storage.cholesky(covariances)
        except em.SingularError:
            return None
        return Mixture(
            ConstantGate(weights=weights),
            Gaussians(self.family, means, covariances, cholesky, self.estimation),
        )

    def _advanced(self, start: Parameters) -> tuple[Parameters, list[float]]:
        """The parameters of a run's last E-step, and the bounds of those before it: on short tables, in one call.

        So the last iteration, with all that it tells, is a pass like any other. Where one call is not to be had these
        are the start, and no bounds.
        """
        table, gaussians = self.table, start.components
        if not self._may_advance:
            return start, []
        if not isinstance(gaussians, Gaussians) or not start.gate.weights.min() > 0.0:
            return start, []
        parameters = start.gate.weights, gaussians.means, gaussians.covariances
        found = table.advance(parameters, self._plain_em_until(self.tol))
        if found is None:  # passes one by one will say what is wrong
            return start, []
        parameters, bounds = found
        moved = self._mixture_of(parameters)
        return (start, []) if moved is None else (moved, bounds[:-1])

    def score(self, fit: em.Fit[Parameters]) -> tuple[bool, float]:
        """Runs compare by this: those without spurious or dropped components first, then by their bounds.

        A bounded component with many rows is no reason to prefer another run: such rows may well be equal.
        """
        bad = Degenerate.of(fit, self.components)
        return not (bad.spurious.any() or bad.dropped.any()), fit.bound


def _filled(given: Float | None, found: Float) -> Float:
    """The user's numbers, and what was found where they are NaN or there are none."""
    return found if given is None else np.where(np.isnan(given), found, given)


def holding(mixture: Parameters, given: dict[str, Float]) -> Parameters:
    """The mixture with the values of what is fixed, which a fit that goes on from other ones is to have."""
    gaussians, noise = apart(mixture)
    fixed, storage, gate = gaussians.estimation.fixed, gaussians.covariance.storage, mixture.gate
    if fixed is not None and fixed.means.any():
        gaussians = replace(gaussians, means=np.where(fixed.means, given["means"], gaussians.means))
    if fixed is not None and fixed.covariances.any():
        precisions = storage.precisions(gaussians.precisions_cholesky)
        if storage.shared:
            precisions = given["precisions"]
        else:
            precisions = precisions.copy()
            precisions[fixed.covariances] = given["precisions"][fixed.covariances]
        gaussians = Gaussians.from_precisions(
            gaussians.covariance, gaussians.means, precisions, gaussians.estimation
        )
    if gate.fixed is not None:
        held = gate.fixed[: len(gaussians.means)]
        weights = gate.weights.copy()
        weights[: len(held)][held] = given["weights"][held]
        gate = replace(gate, weights=weights).sharing(weights)
    return replace(mixture, gate=gate, components=gaussians if noise is None else Beside(gaussians, noise))


def apart(mixture: Parameters) -> tuple[Gaussians, Component | None]:
    """The Gaussians, and the component beside them or None."""
    components = mixture.components
    return (components.main, components.extra) if isinstance(components, Beside) else (components, None)


def kept(mixture: Parameters, components: int) -> NDArray[np.bool_]:
    """Which of the components at the start are left, (K,)."""
    return mixture.kept if isinstance(mixture, Shrinking) else np.ones(components, dtype=bool)


def spurious(fit: em.Fit[Parameters]) -> NDArray[np.bool_]:
    """Which of the fitted components are spurious: see :meth:`Gaussians.spurious`."""
    gaussians, _ = apart(fit.parameters)
    K = len(gaussians.means)
    if fit.found is None or len(fit.found.moments.mass) != len(fit.parameters.gate.weights):
        return np.zeros(K, dtype=bool)  # no iteration, or components were dropped in the last one
    return gaussians.spurious(fit.found.moments.part(slice(0, K)))


@dataclass(frozen=True)
class Degenerate:
    """What is wrong with a fit's components, each (K,): counted as at the start.

    Parameters
    ----------
    dropped, bounded, spurious : ndarray of bool
        Those that were dropped, are kept from being narrower by a bound, or are spurious.
    """

    dropped: NDArray[np.bool_]
    bounded: NDArray[np.bool_]
    spurious: NDArray[np.bool_]

    @classmethod
    def of(cls, fit: em.Fit[Parameters], components: int) -> Degenerate:
        """Look at a fit that began with K components."""
        gaussians, _ = apart(fit.parameters)
        left = kept(fit.parameters, components)
        bounded, bad = np.zeros(components, dtype=bool), np.zeros(components, dtype=bool)
        if gaussians.bounded is not None:
            bounded[left] = gaussians.bounded
        bad[left] = spurious(fit)
        return cls(~left, bounded, bad)

    @property
    def any(self) -> NDArray[np.bool_]:
        """Components with any of the three, (K,)."""
        return np.asarray(self.dropped | self.bounded | self.spurious)
