"""Distances under which k-means finds clusters of unlike shapes: in standard and own units, whitened, in one direction.

k-means looks for round clusters of like size. Long, flat or correlated ones are round in other coordinates: a start in
each of several, judged by the likelihood afterwards, finds what one alone misses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixtura.components.centers import EUCLIDEAN, Metric
from mixtura.factorize import whitened_by
from mixtura.table import Table, drawn_rows

Float = NDArray[np.float64]

# Number of columns from which on no matrices of their products are looked at.
_MANY_COLUMNS = 256

# Ratio of the columns' standard deviations from which on their own units are another metric than standard ones.
_UNLIKE = 2.0

# Rows among which directions are compared; how many descents look for one, for each column and at most; and how many
# steps all of them take, before one of four takes more.
_ROWS = 4096
_DESCENTS, _MOST_DESCENTS = 4, 32
_STEPS, _MORE_STEPS, _ONE_OF = 10, 20, 4


def standardizing(table: Table) -> Metric:
    """Columns are divided by their standard deviations; constant ones do not count."""
    _, spread = table.column_spread()
    with np.errstate(divide="ignore"):
        scales = np.where(spread > 0.0, 1.0 / spread, 0.0)
    return Metric("diagonal", scales[None]) if scales.any() else Metric()


def several(table: Table, rng: np.random.RandomState) -> list[Metric]:
    """The metrics under which starts are looked for: the standardising one and, where they differ, the others."""
    standard = standardizing(table)
    if table.dims == 1 or standard.form == "scalar":
        return [standard]
    scales = standard.factor[standard.factor > 0.0]
    plain = [standard, EUCLIDEAN] if scales.max() > _UNLIKE * scales.min() else [standard]
    if table.dims > _MANY_COLUMNS:
        return plain
    whitening = whitened_by(table.moments("full").covariances()[0])
    if not whitening.shape[1]:
        return plain
    direction = whitening @ least_kurtosis(table, whitening, rng)
    return [
        *plain,
        Metric("rectangle", np.ascontiguousarray(whitening.T)[None]),
        Metric("rectangle", direction[None, None]),
    ]


def least_kurtosis(table: Table, whitening: Float, rng: np.random.RandomState) -> Float:
    """The direction in whitened coordinates, (R,), in which the rows have the least kurtosis that descents find.

    A mixture of two clusters far apart has a kurtosis of 1 along the line through their centres, a Gaussian one of 3
    in every direction (Peña and Prieto 2001, Cluster identification using projections). The descents are fixed-point
    iterations, ``w <- E[z (w'z)^3] - 3 w``, normalised, in the direction that lowers the kurtosis.
    """
    counted = np.arange(len(table)) if table.counted is None else table.counted
    rows = counted if len(counted) <= _ROWS else counted[drawn_rows(len(counted), _ROWS, rng)]
    X, weight = table.points(rows), table.weight[rows]
    weight = weight / weight.sum()
    Z = (X - weight @ X) @ whitening

    def descended(W: Float, steps: int) -> tuple[Float, Float]:
        """Directions (R, n) after so many steps, and their kurtosis (n,)."""
        for _ in range(steps):
            along = Z @ W
            W = 3.0 * W - Z.T @ (
                weight[:, None] * along * along * along
            )  # a power would take ten times as long
            W /= np.maximum(np.linalg.norm(W, axis=0), np.finfo(np.float64).tiny)
        return W, weight @ ((Z @ W) ** 2) ** 2

    W = rng.standard_normal((Z.shape[1], min(_DESCENTS * Z.shape[1], _MOST_DESCENTS)))
    W, kurtosis = descended(W / np.linalg.norm(W, axis=0), _STEPS)
    best = np.argsort(kurtosis, kind="stable")[: -(-W.shape[1] // _ONE_OF)]
    W, kurtosis = descended(W[:, best], _MORE_STEPS)
    return np.asarray(W[:, int(np.argmin(kurtosis))])
