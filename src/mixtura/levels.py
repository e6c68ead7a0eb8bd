"""EM on nested samples before the whole table: few passes over many rows.

A sample of n rows tells a model of P parameters from the best one by about P / n in the log-likelihood per row: on a
level that is all there is to gain, and the rest is for the next one. So most iterations look at few rows, and several
starts can race: all of them run on the smallest level, and the better ones go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from mixtura import em
from mixtura.table import MOST_SAMPLED, Table, drawn_rows

M = TypeVar("M", bound=em.Model)

# Rows of the smallest level, at least so many for each component, and one for each parameter; how many times as many
# the next one has; and how many times as many rows a table has at least, for a level to be worth its while.
_ROWS = 1 << 13
_ROWS_PER_COMPONENT = 128
_GROWTH = 4
_WORTH = 4

# Shares of P / n, of the level's n rows, and of P / N, of the table's, that a gain must reach for a level to go on.
_SHARE, _SHARE_OF_TABLE = 0.01, 0.4

# Of so many starts, one goes on to the next level.
_ONE_OF = 3

# Of more starts than that, and of all where the table is the only level, each has so many iterations at first; those
# that are left share the iterations that all had.
_SHORT = 8


def nested(table: Table, components: int, n_parameters: int, rng: np.random.RandomState) -> list[Table]:
    """Samples of the table's rows, each part of the next, and the table itself, which is alone if it is not large.

    Rows are drawn with equal chances among those of positive weight, and keep their weights.
    """
    counted = table.counted
    candidates, sizes = len(table) if counted is None else len(counted), list[int]()
    size = max(_ROWS, _ROWS_PER_COMPONENT * components, n_parameters)
    while _WORTH * size <= candidates and (not sizes or size * table.dims <= MOST_SAMPLED):
        sizes.append(size)
        size *= _GROWTH
    if not sizes:
        return [table]
    # Drawn with replacement, each row kept once: of a table that much longer, few come twice.
    drawn = drawn_rows(candidates, sizes[-1], rng)
    rng.shuffle(drawn)
    rows = drawn if counted is None else counted[drawn]
    # The largest sample is read from the table, the others from it: a table may be slow to read.
    largest = np.sort(rows[: sizes[-1]])
    whole = table.take(largest)
    smaller = (whole.take(np.searchsorted(largest, np.sort(rows[:n]))) for n in sizes[:-1])
    return [*smaller, whole, table]


def climb(
    levels: Sequence[Table],
    starts: Sequence[Callable[[], M]],
    run: Callable[..., em.Fit[M]],
    *,
    n_parameters: int,
    tol: float,
    max_iter: int,
    score: Callable[[em.Fit[M]], Any],
    keep: bool = False,
) -> em.Fit[M] | None:
    """The best of several starts after all levels but the last, which is the whole table's.

    If the table is the only level, the starts race there for a few iterations.

    Parameters
    ----------
    levels : sequence of Table
        From the smallest to the whole table.
    starts : sequence of callables
        Each makes first parameters, on the smallest level.
    run : callable
        Runs EM: see :func:`mixtura.em.run`.
    n_parameters : int
        P.
    tol : float
        Gain of the objective per unit of weight below which a fit has converged.
    max_iter : int
        Most iterations on a level.
    score : callable
        The score of a run.
    keep : bool, default=False
        Whether a KeyboardInterrupt ends the climb with the best run so far.

    Returns
    -------
    em.Fit or None
        None if every start became singular: a sample may be too small for what the table can tell.
    """
    fits = list[em.Fit[M]]()
    try:
        fits = _begun(starts)
        while len(fits) > _ONE_OF or (len(fits) > 1 and len(levels) == 1):
            iterations = min(_SHORT * len(starts) // len(fits), max_iter)
            fits = _better(fits, levels[0], run, score, iterations, tol, keep)
        for level in levels[:-1]:
            least = max(tol, least_gain(n_parameters, level, levels[-1]))
            fits = _better(fits, level, run, score, max_iter, least, keep)
    except _InterruptedError as interrupted:
        return replace(interrupted.best, interrupted=True)
    except KeyboardInterrupt:
        if not keep or not fits or not fits[0].bounds:
            raise
        return replace(fits[0], interrupted=True)
    return fits[0] if fits else None


def least_gain(n_parameters: int, level: Table, table: Table) -> float:
    """The gain of an iteration, per unit of weight, below which EM on a level stops.

    It is a hundredth of P / n, the sampling error that n rows leave, or two fifths of P / N if that is more: what is
    left then takes few iterations on the whole table, of which the level is a large part.
    """
    return n_parameters * max(_SHARE / len(level), _SHARE_OF_TABLE / len(table))


def _begun(starts: Sequence[Callable[[], M]]) -> list[em.Fit[M]]:
    """The starts that are not singular."""
    fits: list[em.Fit[M]] = []
    for begin in starts:
        try:
            fits.append(em.Fit(begin()))
        except em.SingularError:
            continue
    return fits


class _InterruptedError(Exception):
    """A KeyboardInterrupt came, and this is the best run so far."""

    def __init__(self, best: em.Fit[Any]) -> None:
        super().__init__()
        self.best = best


def _better(
    fits: Sequence[em.Fit[M]],
    level: Table,
    run: Callable[..., em.Fit[M]],
    score: Callable[[em.Fit[M]], Any],
    max_iter: int,
    tol: float,
    keep: bool,
) -> list[em.Fit[M]]:
    """The better ones of several fits after more iterations on a level, from the best on.

    If a KeyboardInterrupt comes and runs are to be kept, the best of those that have begun goes with the exception.
    """
    after: list[em.Fit[M]] = []
    for fit in fits:
        try:
            after.append(run(fit.parameters, level, max_iter=max_iter, stop=_gains_less_than(tol), keep=keep))
        except (em.SingularError, em.NotFiniteError):
            continue
        except KeyboardInterrupt:
            if keep and after:
                raise _InterruptedError(max(after, key=score)) from None
            raise
        if after[-1].interrupted:
            raise _InterruptedError(max(after, key=score))
    after.sort(key=score, reverse=True)  # equals stay in the order of their starts
    return after[: -(-len(after) // _ONE_OF)]


def _gains_less_than(least: float) -> Callable[[em.Step[M]], bool]:
    def stop(step: em.Step[M]) -> bool:
        return abs(step.change) < least

    return stop
