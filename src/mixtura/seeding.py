"""Rows as first centres for k-means: greedy k-means++, and AFK-MC² for large tables and many clusters."""

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

# With Markov chains: number of candidate rows for each cluster, of all chains together, and number of clusters whose
# candidates are drawn together.
_CANDIDATES = 400
_DRAWN_TOGETHER = 64


def seed(
    table: Table,
    n_clusters: int,
    rng: np.random.RandomState,
    metric: Metric = EUCLIDEAN,
    beside: Float | None = None,
) -> NDArray[np.intp]:
    """Indices of K rows, (K,), by greedy k-means++ or, for large tables and many clusters, AFK-MC².

    With ``beside`` (n, D), rows are chosen as if n centres stood there already.

    The draws go through the rows sorted by value, so the choice does not depend on the order of the table, nor on
    whether a row of weight 2 is written as two rows.
    """
    counted = table.counted
    if counted is not None:  # squared distances of rows of weight 0 may overflow
        return counted[seed(table.take(counted), n_clusters, rng, metric, beside)]
    table = table.unrestricted
    order, weight = table.order(), table.weight

    def squared_distances(table: Table, points: Float) -> Float:
        return Centers(points, metric).squared_distances(table)

    def draw(mass: Float, uniforms: Float) -> NDArray[np.intp]:
        cumulative = np.cumsum(mass[order])
        # The first row whose cumulative mass exceeds the draw; this never chooses a row without mass.
        drawn = np.searchsorted(cumulative, uniforms * cumulative[-1], side="right")
        return np.asarray(order[np.minimum(drawn, np.searchsorted(cumulative, cumulative[-1]))])

    if beside is None and len(table) * n_clusters > _GREEDY_WORK:
        return _chains(table, weight, n_clusters, draw, rng, squared_distances)
    return _greedy(table, weight, n_clusters, draw, rng, squared_distances, beside)


def _greedy(
    table: Table,
    weight: Float,
    n_clusters: int,
    draw: Draw,
    rng: np.random.RandomState,
    squared_distances: Distances,
    beside: Float | None,
) -> NDArray[np.intp]:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007).

    Each next row is drawn with probability proportional to its weight times its squared distance to the nearest
    row drawn so far; of 2 + log K draws the one that leaves the smallest sum is kept. Costs N K (2 + log K)
    distances.
    """
    trials = 2 + int(np.log(n_clusters))
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


def _chains(
    table: Table,
    weight: Float,
    n_clusters: int,
    draw: Draw,
    rng: np.random.RandomState,
    squared_distances: Distances,
) -> NDArray[np.intp]:
    """k-means++ by Markov chains, AFK-MC² (Bachem, Lucic, Hassani and Krause 2016, algorithm 1), made greedy.

    Candidates are drawn half by squared distance to the first row and half uniformly. They are divided among 2 + log K
    Metropolis chains, each of which ends in approximately a draw of k-means++. Of these ends the one that leaves the
    smallest sum is kept. The sum is estimated from all candidates, weighted by the inverse of their probability to be
    drawn. Costs N distances, then K² / 2 times the number of candidates.
    """
    trials = 2 + int(np.log(n_clusters))
    length = -(-_CANDIDATES // trials)
    chosen = np.empty(n_clusters, dtype=np.intp)
    chosen[0] = draw(weight, rng.uniform(size=1))[0]
    distances = squared_distances(table, table.points(chosen[:1]))[:, 0]
    total = float(weight @ distances)
    proposal = np.full(len(table), 0.5 / weight.sum())  # per unit of weight
    if total > 0.0:
        proposal += 0.5 / total * distances
    for k in range(1, n_clusters):
        if k % _DRAWN_TOGETHER == 1:
            batch = draw(weight * proposal, rng.uniform(size=_DRAWN_TOGETHER * trials * length))
            batch = batch.reshape(_DRAWN_TOGETHER, trials * length)
        candidates = batch[(k - 1) % _DRAWN_TOGETHER]
        candidate_table = table.take_few(candidates)
        closest = squared_distances(candidate_table, table.points(chosen[:k])).min(axis=1)
        probability = proposal[candidates]
        ends = _chain_ends((closest / probability).reshape(trials, length), rng)
        after = squared_distances(candidate_table, table.points(candidates[ends]))
        np.minimum(after, closest[:, None], out=after)
        chosen[k] = candidates[ends[np.argmin((1.0 / probability) @ after)]]
    return chosen


def _chain_ends(odds: Float, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Where Metropolis chains end, as flat indices; ``odds`` (chains, steps) is target over proposal at each step."""
    at = np.zeros(len(odds), dtype=np.intp)
    chains = np.arange(len(odds))
    for step, uniform in enumerate(rng.uniform(size=odds.T.shape)):
        at = np.where(odds[:, step] > odds[chains, at] * uniform, step, at)
    return np.asarray(chains * odds.shape[1] + at)
