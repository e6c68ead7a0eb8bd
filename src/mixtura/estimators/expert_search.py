"""From first responsibilities to the best fit of a mixture of experts: starts, samples, restarts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from mixtura import em
from mixtura.components.linear import LinearExperts
from mixtura.gates import Gate
from mixtura.levels import climb, nested
from mixtura.mixture import Mixture
from mixtura.moments import Moments
from mixtura.starts import AUTO
from mixtura.starts_of_experts import CANDIDATES, RESPONSIBILITIES, given_labels, nearly_equal
from mixtura.table import Responsibilities, Table

Float = NDArray[np.float64]
Experts = Mixture[Gate, LinearExperts]
Report = Callable[[em.Step[Any]], bool]
Choice = Callable[..., Responsibilities]

# Least standard deviation of the noise, as a share of the target's: the rounding error of an evaluated regression,
# times a factor that makes its effect on the objective negligible. Without this floor a regression that fits its rows
# exactly would have an infinite likelihood.
_NOISE_FLOOR = 2.0**20 * float(np.finfo(np.float64).eps)

# Change of the objective that rounding alone may cause if rows are float32.
_SINGLE_TOL = 1e-6

# Multiple of the least noise variance up to which a regression may be exact.
_NEARLY_EXACT = 1e8

# Shortfall of the objective per unit of weight, beside that of one regression, that is more than rounding.
_BELOW = 1e-9


@dataclass
class ExpertSearch:
    """A search for the best mixture of experts for a table.

    Parameters
    ----------
    table : Table
    gate : Gate
        Not yet started.
    experts : LinearExperts
        Before their first M-step.
    spread : tuple of ndarray
        Mean and standard deviation of the columns of [x, y].
    init : str or array-like
        How first responsibilities are chosen, or labels.
    n_init, tol, max_iter
        As in :class:`mixtura.MixtureOfExperts`.
    stochastic : bool
    run_on_sample : callable
        :func:`mixtura.em.run`, which looks for the best start.
    run : callable
        :func:`mixtura.best_step.run`, which goes on from there.
    keep : bool
        Whether a KeyboardInterrupt ends the search with the best parameters so far.
    rng : RandomState
    """

    table: Table
    gate: Gate
    experts: LinearExperts
    spread: tuple[Float, Float]
    init: str | ArrayLike
    n_init: int
    tol: float | None
    max_iter: int
    stochastic: bool
    run_on_sample: Callable[..., em.Fit[Experts]]
    run: Callable[..., em.Fit[Experts]]
    keep: bool
    rng: np.random.RandomState

    def __post_init__(self) -> None:
        self._has_floor = False

    @property
    def components(self) -> int:
        """K."""
        return len(self.experts.slopes)

    # ------------------------------------------------------------------ starts

    def start(self, table: Table, resp: Responsibilities) -> Experts:
        """Parameters after the M-step from first responsibilities on a table."""
        start = Mixture(self.gate.start(self.components, table, self.rng), self.experts)
        found = start.begun(table, _permitted(table, resp, self.components), self.components)
        if not self._has_floor:  # the same floor for all runs, so that their objectives can be compared
            floor = noise_floor(table, _spread_within(found.moments)[table.covariates :])
            self.experts = replace(self.experts, noise_floor=floor)
            start, self._has_floor = replace(start, components=self.experts), True
        return start.maximize(found)

    def _responsibilities(self, run: int) -> Responsibilities:
        """First responsibilities of run number ``run``, on the whole table."""
        if not isinstance(self.init, str):
            return given_labels(self.init, self.components, self.table)
        # 'auto' comes here if there is no iteration, or all its starts have failed: the last one says why.
        chosen = "kmeans" if self.init == AUTO else self.init
        init = "random" if chosen == "kmeans" and run % 2 else chosen
        return _matched(self.table, self._chosen(RESPONSIBILITIES[init], self.table), self.components)

    def _chosen(self, choose: Choice, table: Table) -> Responsibilities:
        return choose(table, self.components, *self.spread, self.rng)

    def best_start(self) -> em.Fit[Experts] | None:
        """With 'auto', the best of several unlike starts after short runs, on samples of a large table; else None."""
        if not isinstance(self.init, str) or self.init != AUTO or self.max_iter == 0:
            return None
        K, _, D = self.experts.slopes.shape
        n_parameters = self.experts.n_parameters() + self.gate.n_parameters(K, D)
        # A gate with state for each row cannot go from one table to another.
        levels = [self.table]
        if not self.gate.needs_responsibilities:
            levels = nested(self.table, K, n_parameters, self.rng)

        def begin(choose: Choice) -> Callable[[], Experts]:
            return lambda: self.start(levels[0], _matched(levels[0], self._chosen(choose, levels[0]), K))

        starts = [begin(choose) for _ in range(self.n_init) for choose in CANDIDATES]
        return climb(
            levels,
            starts,
            self._run_on_level,
            n_parameters=n_parameters,
            tol=self._tol(self.gate),
            max_iter=self.max_iter,
            score=self.score,
            keep=self.keep,
        )

    def _run_on_level(self, start: Experts, level: Table, **how: Any) -> em.Fit[Experts]:
        """Plain EM on a level, or on the whole table for a few iterations."""
        return self.run_on_sample(self._moved(start, level), level, **how)

    def _moved(self, mixture: Experts, table: Table) -> Experts:
        """The mixture, whose gate may have come from another table."""
        if mixture.gate.needs_responsibilities:
            return mixture
        return replace(mixture, gate=mixture.gate.resume(self.components, table, self.rng))

    # ------------------------------------------------------------------ runs

    def one(
        self, run: int, climbed: em.Fit[Experts] | None, resumed: Experts | None, report: Report | None
    ) -> em.Fit[Experts]:
        """Run number ``run``, from what :meth:`best_start` found, earlier parameters, or a new start."""
        if climbed is not None and climbed.interrupted:
            moved = self._moved(climbed.parameters, self.table)
            return replace(climbed, parameters=moved, found=moved.expect(self.table))
        if climbed is not None:
            start = self._moved(climbed.parameters, self.table)
        elif resumed is not None:
            start = resumed
        else:
            start = self.start(self.table, self._responsibilities(run))
        return self._run(start, report)

    def not_below_one_regression(self, fit: em.Fit[Experts]) -> em.Fit[Experts]:
        """The fit, or a better one if a single regression, as all experts at once, has a larger objective.

        From responsibilities that are nearly equal, the experts begin as nearly that regression, and EM rises from
        there. Should that end lower, the experts are that regression itself.
        """
        if self.components == 1 or fit.interrupted or self.max_iter == 0:
            return fit
        one = self.start(self.table, nearly_equal(self.components, 0.0, self.rng))
        least = one.expect(self.table).objective / self.table.total_weight
        if np.any(one.components.noise < _NEARLY_EXACT * one.components.noise_floor):
            # Its noise has few digits at first: further steps find that there is none, and nothing is better.
            settled = self._run(one, None)
            return max(fit, settled, key=self.score)
        if fit.bound >= least - _BELOW * (1.0 + abs(least)):
            return fit
        start = self.start(self.table, nearly_equal(self.components, 0.1, self.rng))
        other = self._run(start, None)
        if other.bound < least:
            other = self._run(one, None)
        return max(fit, other, key=self.score)

    def score(self, fit: em.Fit[Experts]) -> tuple[bool, float]:
        """Runs compare by this: those without a spurious expert first, then by their objectives."""
        return not spurious(fit).any(), fit.bound

    def _tol(self, gate: Gate) -> float:
        if self.tol is not None:
            return self.tol
        return max(gate.tol, _SINGLE_TOL if self.table.single else 0.0)

    def _run(self, start: Experts, report: Report | None) -> em.Fit[Experts]:
        """Run EM until it converges."""
        # Each run draws from numbers of its own, so that it does not matter what the runs before it drew.
        drawn = {"rng": np.random.RandomState(self.rng.randint(1 << 31))} if self.stochastic else {}
        return self.run(
            start,
            self.table,
            max_iter=self.max_iter,
            tol=self._tol(start.gate),
            report=report,
            keep=self.keep,
            **drawn,
        )


def _matched(table: Table, resp: Responsibilities, components: int) -> Responsibilities:
    """Responsibilities with their columns in the order that agrees best with what is known of rows beforehand."""
    known = table.membership
    if known is None:
        return resp
    agreement = np.zeros((components, components))  # of first guess k with component j
    for block in table.blocks(components):
        allowed = np.exp(known.log_weights(block.cut, components))
        agreement += resp(block.unrestricted).T @ (allowed * block.weight[:, None])
    _, order = linear_sum_assignment(-agreement.T)
    return lambda block: resp(block.unrestricted)[:, order]


def _permitted(table: Table, resp: Responsibilities, components: int) -> Responsibilities:
    """Responsibilities, of rows whose experts are known within what is known."""
    known = table.membership
    if known is None:
        return resp

    def permitted(block: Table) -> Float:
        allowed = np.exp(known.log_weights(block.cut, components))
        inside = resp(block) * allowed
        total = inside.sum(axis=1, keepdims=True)
        # Where nothing of the first guess is allowed, all that is allowed is as likely.
        shares = np.where(total > 0.0, inside, allowed)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    return permitted


def spurious(fit: em.Fit[Experts]) -> NDArray[np.bool_]:
    """Which experts are spurious: see :meth:`LinearExperts.spurious`."""
    experts = fit.parameters.components
    if fit.found is None:
        return np.zeros(len(experts.slopes), dtype=bool)
    return experts.spurious(fit.found.moments)


def noise_floor(table: Table, spread: Float) -> Float:
    """Least noise variance (M,) of targets whose standard deviation within an expert is about ``spread`` (M,).

    It is negligible for data with any real noise: it is the rounding error of y in its floating-point type, at the
    largest |y|, or that of sums over numbers of size ``spread``, whichever is larger. Both scale with the units of y as
    the noise does. For targets that are all 0 the scale is taken as 1.
    """
    y = table.y
    assert y is not None
    counted = y if table.counted is None else y[table.counted]
    largest = np.abs(counted).max(axis=0).astype(np.float64)
    rounding = float(np.finfo(y.dtype).eps) / math.sqrt(12.0) * np.where(largest > 0.0, largest, 1.0)
    return np.maximum(np.maximum(rounding, _NOISE_FLOOR * spread) ** 2, np.finfo(np.float64).tiny)


def _spread_within(moments: Moments) -> Float:
    """Standard deviation of the columns within an expert's rows, pooled over the experts, (D + M,)."""
    mass = np.maximum(moments.mass, np.finfo(np.float64).tiny)
    variances = np.diagonal(moments.covariances(mass), axis1=1, axis2=2)
    return np.sqrt(np.maximum(mass @ variances / mass.sum(), 0.0))
