"""Rows as first centres for k-means: greedy k-means++, and draws in batches for large tables and many clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mixtura.components.centers import EUCLIDEAN, Centers, Metric
from mixtura.table import Table

Float = NDArray[np.float64]

# Draws rows with probability proportional to masses (N,): one index for each of the given uniform numbers (J,).
Draw = Callable[[Float, Float], NDArray[np.intp]]

# Squared distances (N, J) of a table's rows from J points (J, D).
Distances = Callable[[Table, Float], Float]

# Number of rows times clusters up to which k-means++ computes the distance of every row for every cluster.
_GREEDY_WORK = 1 << 23

# Number of batches in which rows are drawn where they are drawn in batches.
_BATCHES = 16


def seed(
    table: Table,
    n_clusters: int,
    rng: np.random.RandomState,
    metric: Metric = EUCLIDEAN,
    beside: Float | None = None,
    greedy: bool | None = None,
) -> NDArray[np.intp]:
    """Indices of K rows, (K,), by greedy k-means++ or, for large tables and many clusters, k-means++ in batches.

    With ``beside`` (n, D), rows are chosen as if n centres stood there already. ``greedy`` decides between the two.

    The draws go through the rows sorted by value, so the choice does not depend on the order of the table, nor on
    whether a row of weight 2 is written as two rows.
    """
    counted = table.counted
    if counted is not None:  # squared distances of rows of weight 0 may overflow
        return counted[seed(table.take(counted), n_clusters, rng, metric, beside, greedy)]
    table = table.unrestricted
    if greedy is None:
        greedy = is_small(table, n_clusters)
    if greedy and beside is None:
        whole = table.seed(Centers(table.pivot[None], metric).quadratics, n_clusters, trials(n_clusters), rng)
        if whole is not None:
            return whole
    order, weight = table.order(), table.weight

    def squared_distances(table: Table, points: Float) -> Float:
        return Centers(points, metric).squared_distances(table)

    def draw(mass: Float, uniforms: Float) -> NDArray[np.intp]:
        cumulative = np.cumsum(mass[order])
        # The first row whose cumulative mass exceeds the draw; this never chooses a row without mass.
        drawn = np.searchsorted(cumulative, uniforms * cumulative[-1], side="right")
        return np.asarray(order[np.minimum(drawn, np.searchsorted(cumulative, cumulative[-1]))])

    if beside is None and not greedy:
        return _batches(table, weight, n_clusters, draw, rng, metric)
    return _greedy(table, weight, n_clusters, trials(n_clusters), draw, rng, squared_distances, beside)


def trials(n_clusters: int) -> int:
    """How many rows greedy k-means++ draws for each centre, as in scikit-learn."""
    return 2 + int(np.log(n_clusters))


def is_small(table: Table, n_clusters: int) -> bool:
    """Whether a table and the number of clusters are small enough for greedy k-means++."""
    return len(table) * n_clusters <= _GREEDY_WORK


def _greedy(
    table: Table,
    weight: Float,
    n_clusters: int,
    trials: int,
    draw: Draw,
    rng: np.random.RandomState,
    squared_distances: Distances,
    beside: Float | None,
) -> NDArray[np.intp]:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007).

    Each next row is drawn with probability proportional to its weight times its squared distance to the nearest
    row drawn so far; of ``trials`` draws the one that leaves the smallest sum is kept. Costs N K trials distances.
    """
    chosen = np.empty(n_clusters, dtype=np.intp)
    first = 0
    if beside is None:
        chosen[0] = draw(weight, rng.uniform(size=1))[0]
        first, beside = 1, table.points(chosen[:1])
    closest = squared_distances(table, beside).min(axis=1)
    for k in range(first, n_clusters):
        mass = weight * closest
        # If all distances are 0 there are fewer distinct rows than clusters, and any row will do.
        candidates = draw(mass if mass.sum() > 0.0 else weight, rng.uniform(size=trials))
        distances = squared_distances(table, table.points(candidates))
        np.minimum(distances, closest[:, None], out=distances)
        best = int(np.argmin(weight @ distances))
        chosen[k], closest = candidates[best], np.ascontiguousarray(distances[:, best])
    return chosen


def _batches(
    table: Table,
    weight: Float,
    n_clusters: int,
    draw: Draw,
    rng: np.random.RandomState,
    metric: Metric,
) -> NDArray[np.intp]:
    """As k-means++ draws them, but many at a time (as in Bahmani et al. 2012, Scalable k-means++).

    Rows of a batch are drawn with the same probabilities, so that two may come from one cluster; swaps of centres mend
    that: see :mod:`mixtura.swaps`. Batches grow from 1 row to a share of K. Costs N K distances in few passes.
    """
    batch = -(-n_clusters // _BATCHES)
    chosen = draw(weight, rng.uniform(size=1))
    closest = -2.0 * table.assign(Centers(table.points(chosen), metric).joint)[1]
    while len(chosen) < n_clusters:
        size = min(batch, n_clusters - len(chosen), len(chosen))
        mass = weight * closest
        # If all distances are 0 there are fewer distinct rows than clusters, and any row will do.
        drawn = draw(mass if mass.sum() > 0.0 else weight, rng.uniform(size=size))
        chosen = np.append(chosen, drawn)
        np.minimum(closest, -2.0 * table.assign(Centers(table.points(drawn), metric).joint)[1], out=closest)
    return chosen
