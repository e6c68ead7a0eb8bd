"""Stepwise EM: the statistics of each block of rows are mixed into those of the blocks before, and parameters follow.

With s the mean statistics of a block's rows under the present parameters, and S the running ones,
``S <- (1 - g) S + g s`` with the step ``g = (t + 1)^-0.6`` at block t, and new parameters are the M-step of S (Cappé
and Moulines 2009). The parameters wander as blocks come. The average of S over the blocks, in which block t has weight
t^0.3, does not, and where components hardly overlap its M-step is nearly as good as a fit to all rows at once. Where
blocks are of unlike weight, t is the weight of all rows so far in units of the first block's, and a smaller block makes
a step as much smaller: many short blocks are worth as much as one long one.

Where they overlap, S forgets slowly where it came from. So the log-likelihood of each block is kept as well, as a
parabola (see :mod:`mixtura.expansion`), where it has derivatives and parameters are few enough: the maximum of the sum
of all parabolas is as good as a fit to all rows whatever the overlap. It is the estimate that is reported, and the
parameters under which the next block is looked at, as long as it is near the present ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura import em
from mixtura.expansion import Expansion
from mixtura.found import Found
from mixtura.joint import Joint
from mixtura.mixture import Mixture
from mixtura.moments import Kind, Moments
from mixtura.table import Table

Float = NDArray[np.float64]

# The exponents of the steps and of the averages' weights.
DECAY, _FAVOUR_LATE = 0.6, 0.3

# The exponent of the parabolas' weights, which costs 2 percent of the precision and forgets a bad start sooner.
_FAVOUR_LATE_PARABOLAS = 0.15

# A block's Hessian is worked out anew when there are so many times as many blocks as when one was last.
_ANEW = math.log(1.1)

# Newton steps on the first rows, and the gain for each row below which there is none to take.
_FIRST_STEPS, _LITTLE_GAIN = 6, 1e-7

# Passes of a whole fit, and rows of a block of a table in memory: a share of the table, within bounds.
_PASSES = 2
_BLOCKS, _LEAST_ROWS, _MOST_ROWS = 256, 1 << 10, 1 << 16

# Rows that are drawn to stand for those of an earlier fit: their curvature is wanted, which takes a few for each of the
# parameters of which there may be 160.
DRAWN = 1 << 13

# Iterations of EM on the first block.
_FIRST_ITERATIONS = 20

# Blocks whose rows are shuffled together, so that the order of the rows matters little.
_POOLED = 4


@dataclass(frozen=True)
class Online:
    """A fit that goes on as rows come.

    Parameters
    ----------
    mixture : Mixture
        The present parameters, under which the next block is looked at.
    running, averaged : Moments
        S and its average, per unit of weight.
    steps : int
        Blocks so far.
    unit : float
        The weight that counts as one block in the sizes of steps.
    weight, rows : float and int
        Weight and number of all rows so far.
    share : float
        Sum of the weights in the average.
    bound : float
        Objective per unit of weight of the last block, before its step.
    parabolas : Expansion, optional
        The sum of the blocks' log-likelihoods, where they have derivatives.
    """

    mixture: Mixture[Any, Any]
    running: Moments
    averaged: Moments
    steps: int
    unit: float
    weight: float
    rows: int
    share: float
    bound: float
    parabolas: Expansion | None = None

    @classmethod
    def begin(
        cls,
        mixture: Mixture[Any, Any],
        table: Table,
        steps: int = 1,
        rows: int | None = None,
        moments: Moments | None = None,
    ) -> Online:
        """Start with the statistics of first rows under given parameters.

        Parameters
        ----------
        mixture : Mixture
        table : Table
        steps : int, default=1
            For how many blocks these parameters stand.
        rows : int, optional
            To how many rows they were fitted, if not to these, which then stand for them.
        moments : Moments, optional
            The statistics of the rows to which they were fitted, per unit of weight, if not those of ``table``.

        Raises
        ------
        ValueError
            The gate needs all responsibilities at once.
        """
        if mixture.gate.needs_responsibilities:
            raise ValueError(
                f"the {mixture.gate.name} gate needs the responsibilities of all rows at once: it cannot be fitted "
                "block by block"
            )
        if not mixture.gate.moments_suffice:
            gate = mixture.gate.resume(len(mixture.joint.quadratics.means), table, np.random.RandomState(0))
            mixture = replace(mixture, gate=gate)
        own, found = _of_block(mixture, table)
        alone = moments is None
        moments = own if moments is None else moments
        total = table.total_weight
        times = 1.0 if rows is None else rows / len(table)
        weight, count = total * times, len(table) if rows is None else rows
        unit = max(weight / steps, min(weight, _LEAST_ROWS * weight / count))
        t = weight / unit
        # The average's share of these rows: about the sum of t^0.3, or of one block where the table is only that.
        share = (
            t ** (1.0 + _FAVOUR_LATE) / (1.0 + _FAVOUR_LATE)
            if rows is None or not alone
            else t**_FAVOUR_LATE * min(total / unit, 1.0)
        )
        begun = cls(mixture, moments, moments, steps, unit, weight, count, share, found.objective / total)
        begun = replace(begun, mixture=begun._maximized(found, moments, 1.0))
        parabola = Expansion.of(mixture, found, first=True)
        if parabola is None:
            return begun
        if rows is not None:  # what these parameters were fitted to is at its maximum there
            parabola = parabola.at_maximum(mixture)
        else:
            parabola = _climbed(parabola, mixture, table)
        share = t**_FAVOUR_LATE_PARABOLAS / (1.0 + _FAVOUR_LATE_PARABOLAS)
        return replace(begun, parabolas=parabola * (share * times))._settled()

    def step(self, table: Table) -> Online:
        """The state after one more block."""
        moments, found = _of_block(self.mixture, table)
        own_weight = table.total_weight
        steps, weight, rows = self.steps + 1, self.weight + own_weight, self.rows + len(table)
        size, t = own_weight / self.unit, weight / self.unit
        least = own_weight / weight  # a block counts for no less than its share of the rows
        g = max(min(size * (t + 1.0) ** -DECAY, (weight / own_weight + 1.0) ** -DECAY), least)
        running = self.running * (1.0 - g) + moments * g
        own = t**_FAVOUR_LATE * size
        share = self.share + own
        part = max(own / share, min(least / g, 1.0))
        averaged = self.averaged * (1.0 - part) + running * part
        bound = found.objective / own_weight
        parabolas = self._with_parabola(found, t)
        moved = replace(
            self,
            running=running,
            averaged=averaged,
            steps=steps,
            weight=weight,
            rows=rows,
            share=share,
            bound=bound,
            parabolas=parabolas,
        )
        return replace(moved, mixture=moved._maximized(found, running, g))._settled()

    def _with_parabola(self, found: Found, t: float) -> Expansion | None:
        """The parabolas with that of a block, whose Hessian is worked out anew for ever fewer blocks."""
        so_far, steps = self.parabolas, self.steps + 1
        if so_far is None:
            return None
        anew = int(math.log(steps) / _ANEW) > int(math.log(steps - 1) / _ANEW)
        parabola = Expansion.of(self.mixture, found, average=None if anew else so_far.average)
        if parabola is not None and found.table.total_weight > self.weight:
            # The block tells more than all before it, whose parameters may be far from its own.
            parabola = _climbed(parabola, self.mixture, found.table)
        return None if parabola is None else so_far + parabola * t**_FAVOUR_LATE_PARABOLAS

    def _settled(self) -> Online:
        """The same at the maximum of all parabolas, if it is to be trusted."""
        best = None if self.parabolas is None else self.parabolas.maximum(self.mixture)
        return self if best is None else replace(self, mixture=best[0])

    def _maximized(self, found: Found, moments: Moments, g: float) -> Mixture[Any, Any]:
        """The M-step of statistics per unit of weight, as if they were those of all rows so far."""
        gate, components = self.mixture.gate, self.mixture.components
        whole = self._whole(found.table, moments, found.joint)
        if gate.moments_suffice:
            gate = gate.maximize(whole)
        else:
            # This gate's step depends on the rows themselves: it takes a part of the block's own step.
            gate = gate.resume(found.moments.mass.size, found.table, np.random.RandomState(0))
            before = gate.coordinates
            gate = gate.at(before + g * (gate.maximize(found).coordinates - before), found.table)
        return replace(self.mixture, gate=gate, components=components.maximize(whole))

    def _whole(self, table: Table, moments: Moments, joint: Joint | None) -> Found:
        whole = replace(moments * self.weight, n_samples=self.rows)
        return Found(table, whole, self.bound * self.weight, joint)

    def estimate(self, table: Table) -> tuple[Mixture[Any, Any], Found]:
        """Parameters from all blocks, and the averaged statistics; ``table`` is any block."""
        found = self._whole(table, self.averaged, self.mixture.joint)
        if self.parabolas is not None and self.parabolas.maximum(self.mixture) is not None:
            return self.mixture, found  # it is there already
        gate = self.mixture.gate
        gate = gate.maximize(found) if gate.moments_suffice else gate
        return replace(self.mixture, gate=gate, components=self.mixture.components.maximize(found)), found


def _climbed(parabola: Expansion, mixture: Mixture[Any, Any], table: Table) -> Expansion:
    """The parabola of the rows of a table about parameters near their maximum, by Newton's method."""
    last = math.inf
    for _ in range(_FIRST_STEPS):
        best = parabola.maximum(mixture)
        if best is None or not _LITTLE_GAIN < best[1] < 0.5 * last:
            break
        mixture, last = best
        nearer = Expansion.of(mixture, _of_block(mixture, table)[1], first=True)
        if nearer is None:
            break
        parabola = nearer
    return parabola


def _of_block(mixture: Mixture[Any, Any], table: Table) -> tuple[Moments, Found]:
    """A block's statistics per unit of weight, and what its E-step found."""
    found: Found = em.expected(mixture, table)
    return found.moments * (1.0 / table.total_weight), found


def drawn_like(
    block: Table, shares: Float, draw: Callable[[NDArray[np.intp], np.random.RandomState], Float]
) -> Table:
    """Rows z = [x; y] in the place of those that are gone, as heavy as those of a block.

    Parameters
    ----------
    block : Table
    shares : ndarray of shape (K,)
        The components' shares of the rows.
    draw : callable
        Draws so many rows of each component, one component after the other.
    """
    counts = np.maximum(np.round(shares * DRAWN), block.dims + 1).astype(np.intp)
    drawn, Q = draw(counts, np.random.RandomState(0)), block.covariates
    # Of the weights of rows only the ratios are known.
    each = np.repeat(shares / counts, counts) * counts.sum() * (block.total_weight / len(block))
    y = None if block.y is None else drawn[:, Q:].astype(block.y.dtype)
    return Table.of(block.backend, drawn[:, :Q].astype(block.x.dtype), each, y)


@dataclass(frozen=True)
class StandIn:
    """What stands for rows that are gone, to which parameters were fitted.

    Attributes
    ----------
    table : Table
        Rows like them.
    rows : int
        How many there were.
    moments : Moments, optional
        Their statistics per unit of weight, as far as the parameters tell: an M-step gives the parameters back.
    """

    table: Table
    rows: int
    moments: Moments | None = None

    @classmethod
    def of_components(
        cls,
        table: Table,
        rows: int,
        kind: Kind,
        shares: Float,
        means: Float,
        covariances: Float | None = None,
    ) -> StandIn:
        """The statistics of components with shares (K,) of the rows, means (K, D) and covariances (K, D, D)."""
        K = len(means)
        moments = Moments.of(means, kind, resp=np.eye(K), sample_weight=shares, pivot=table.pivot)
        if covariances is not None:
            moments = moments.added(shares[:, None, None] * covariances)
        return cls(table, rows, moments)


@dataclass(frozen=True)
class State:
    """Where a run is between two blocks, from which it goes on as if it had not stopped.

    Attributes
    ----------
    online : Online
    bounds : list of float
        One for each pass that is over.
    random : tuple
        The random numbers at the start of the present pass, which give its order of the rows.
    blocks : int
        Blocks of the present pass so far.
    objective, weight : float
        Sums over these blocks.
    """

    online: Online | None
    bounds: list[float]
    random: Any
    blocks: int = 0
    objective: float = 0.0
    weight: float = 0.0


def run(
    start: Any,
    table: Table,
    *,
    max_iter: int,
    stop: Callable[[em.Step[Any]], bool],
    report: Callable[[em.Step[Any]], bool] | None = None,
    bound: float = -math.inf,
    keep: bool = False,
    state: Any = None,
    save: Callable[[Any], None] | None = None,
) -> em.Fit[Any]:
    """As :func:`mixtura.em.run`, by stepwise EM in two passes, or one if ``max_iter`` is 1; on samples EM itself."""
    if table.sampled or max_iter == 0:
        return em.run(
            start,
            table,
            max_iter=max_iter,
            stop=stop,
            report=report,
            bound=bound,
            keep=keep,
            state=state,
            save=save,
        )
    rng = np.random.RandomState(0)
    at = State(None, [], rng.get_state()) if state is None else state
    fit: em.Fit[Any] = em.Fit(start)
    try:
        while len(at.bounds) < min(_PASSES, max_iter):
            rng.set_state(at.random)
            for number, block in enumerate(shuffled(table, rng)):
                if number < at.blocks:
                    continue  # an earlier process had come further
                at = _after(at, start, block, stop)
                if save is not None:
                    save(at)
            assert at.online is not None
            estimate, found = at.online.estimate(block)
            bounds = [*at.bounds, at.objective / at.weight]
            change = bounds[-1] - (at.bounds[-1] if at.bounds else -math.inf)
            fit = em.Fit(estimate, bounds[-1], bounds, True, found)
            at = State(at.online, bounds, rng.get_state())
            if report is not None and report(
                em.Step(len(bounds), estimate, estimate, bounds[-1], change, found)
            ):
                break
    except KeyboardInterrupt:
        if not keep or not fit.bounds:
            raise
        return replace(fit, interrupted=True)
    return fit


def _after(at: State, start: Any, block: Table, stop: Callable[[em.Step[Any]], bool]) -> State:
    """The state after one more block."""
    if at.online is None:
        # The start may be a rough one, which few steps would not mend.
        first = em.run(start, block, max_iter=_FIRST_ITERATIONS, stop=stop).parameters
        online = Online.begin(first, block)
    else:
        online = at.online.step(block)
    return replace(
        at,
        online=online,
        blocks=at.blocks + 1,
        objective=at.objective + online.bound * block.total_weight,
        weight=at.weight + block.total_weight,
    )


def shuffled(table: Table, rng: np.random.RandomState) -> Iterator[Table]:
    """The rows in blocks, in random order: of rows in memory all, of others those that are read together."""
    blocks = table.shuffled_blocks
    if blocks is None:
        size = int(np.clip(len(table) // _BLOCKS, _LEAST_ROWS, _MOST_ROWS))
        order = rng.permutation(len(table)) if table.counted is None else rng.permutation(table.counted)
        for start in range(0, len(order), size):
            yield table.take(np.sort(order[start : start + size]))
        return
    pool: list[Table] = []
    for block in blocks(rng):
        pool.append(block)
        if len(pool) == _POOLED:
            yield from _mixed(pool, rng)
            pool = []
    yield from _mixed(pool, rng)


def _mixed(pool: list[Table], rng: np.random.RandomState) -> Iterator[Table]:
    """The rows of several blocks, in as many blocks, each with rows of all of them."""
    if not pool:
        return
    whole = pool[0].joined(pool[1:])
    order = rng.permutation(len(whole))
    for part in np.array_split(order, len(pool)):
        block = whole.take(np.sort(part))
        if block.total_weight > 0.0:
            yield block
