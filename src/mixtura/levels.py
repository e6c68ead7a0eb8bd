"""EM on nested samples before the whole table: few passes over many rows.

A sample of n rows tells a model of P parameters from the best one by about P / n in the log-likelihood per row: on a
level that is all there is to gain, and the rest is for the next one. So most iterations look at few rows, and several
starts can race: all of them run on the smallest level, and the better ones go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from mixtura import em
from mixtura.components.factorize import IllDefinedCovarianceError
from mixtura.table import Table

M = TypeVar("M", bound=em.Model)

# Rows of the smallest level, at least so many for each component, and one for each parameter; how many times as many
# the next one has; and how many times as many rows a table has at least, for a level to be worth its while.
_ROWS = 1 << 13
_ROWS_PER_COMPONENT = 512
_GROWTH = 4
_WORTH = 4

# Share of P / n that a gain must reach for a level to go on.
_SHARE = 0.01

# Of so many starts, one goes on to the next level.
_ONE_OF = 3


def nested(table: Table, components: int, n_parameters: int, rng: np.random.RandomState) -> list[Table]:
    """Samples of the table's rows, each part of the next, and the table itself, which is alone if it is not large.

    Rows are drawn with equal chances among those of positive weight, and keep their weights.
    """
    counted = table.counted
    candidates, sizes = len(table) if counted is None else len(counted), []
    size = max(_ROWS, _ROWS_PER_COMPONENT * components, n_parameters)
    while _WORTH * size <= candidates:
        sizes.append(size)
        size *= _GROWTH
    if not sizes:
        return [table]
    # Drawn with replacement, each row kept once: of a table that much longer, few come twice.
    drawn = np.unique(rng.randint(candidates, size=sizes[-1]))
    rng.shuffle(drawn)
    rows = drawn if counted is None else counted[drawn]
    return [*(table.take(np.sort(rows[:n])) for n in sizes), table]


def climb(
    levels: Sequence[Table],
    begin: Callable[[Table], M],
    starts: int,
    *,
    n_parameters: int,
    tol: float,
    max_iter: int,
) -> M | None:
    """The best of several starts after all levels but the last, which is the whole table's.

    Parameters
    ----------
    levels : sequence of Table
        From the smallest to the whole table.
    begin : callable
        Makes a start on a table.
    starts : int
    n_parameters : int
        P.
    tol : float
        Gain of the objective per unit of weight below which a fit has converged.
    max_iter : int
        Most iterations on a level.

    Returns
    -------
    Model or None
        None if every start became singular: a sample may be too small for what the table can tell.
    """
    models: list[M] = []
    for _ in range(starts):
        try:
            models.append(begin(levels[0]))
        except IllDefinedCovarianceError:
            continue
    for level in levels[:-1]:
        least = max(tol, _SHARE * n_parameters / len(level))
        fits: list[em.Fit[M]] = []
        for model in models:
            try:
                fits.append(em.run(model, level, max_iter=max_iter, stop=_gains_less_than(least)))
            except (IllDefinedCovarianceError, em.NotFiniteError):
                continue
        fits.sort(key=_bound, reverse=True)  # equals stay in the order of their starts
        models = [fit.parameters for fit in fits[: -(-len(fits) // _ONE_OF)]]
    return models[0] if models else None


def _gains_less_than(least: float) -> Callable[[em.Step[M]], bool]:
    def stop(step: em.Step[M]) -> bool:
        return abs(step.change) < least

    return stop


def _bound(fit: em.Fit[M]) -> float:
    return fit.bound
