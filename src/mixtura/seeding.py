"""Rows to begin k-means from: greedy k-means++, and AFK-MC² for large tables and many clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mixtura.components.centers import Centers
from mixtura.table import Table

Float = NDArray[np.float64]

# Indices of rows drawn with probability proportional to the masses (N,), one for each uniform number (J,).
Draw = Callable[[Float, Float], NDArray[np.intp]]

# Rows times clusters up to which k-means++ looks at every row for every cluster.
_GREEDY_WORK = 1 << 23

# Rows that are looked at for each cluster instead, on all chains together; and clusters whose candidates are drawn at
# once.
_CANDIDATES = 400
_DRAWN_TOGETHER = 64


def seed(table: Table, n_clusters: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Indices of K rows, (K,), by greedy k-means++ or, for large tables and many clusters, AFK-MC².

    The draws run through the rows in an order of their values, so the rows that are chosen do not depend on the
    order of the table, nor on whether a row of weight 2 stands there twice.
    """
    counted = table.counted
    if counted is not None:  # the others may lie beyond the range of a square
        return counted[seed(table.take(counted), n_clusters, rng)]
    order, weight = table.order(), table.weight

    def draw(mass: Float, uniforms: Float) -> NDArray[np.intp]:
        reached = np.cumsum(mass[order])
        # Never a row without mass: the first whose running sum exceeds the draw.
        at = np.searchsorted(reached, uniforms * reached[-1], side="right")
        return np.asarray(order[np.minimum(at, np.searchsorted(reached, reached[-1]))])

    search = _greedy if len(table) * n_clusters <= _GREEDY_WORK else _chains
    return search(table, weight, n_clusters, draw, rng)


def _greedy(
    table: Table, weight: Float, n_clusters: int, draw: Draw, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007).

    Each next row is drawn with probability proportional to its weight times its squared distance to the nearest
    row drawn so far; of 2 + log K draws the one that leaves the smallest sum is kept. N K (2 + log K) distances.
    """
    trials = 2 + int(np.log(n_clusters))
    chosen = np.empty(n_clusters, dtype=np.intp)
    chosen[0] = draw(weight, rng.uniform(size=1))[0]
    closest = _squared_distances(table, table.points(chosen[:1]))[:, 0]
    for k in range(1, n_clusters):
        mass = weight * closest
        # Fewer distinct rows than clusters: any row is as good as another.
        candidates = draw(mass if mass.sum() > 0.0 else weight, rng.uniform(size=trials))
        distances = _squared_distances(table, table.points(candidates))
        np.minimum(distances, closest[:, None], out=distances)
        best = int(np.argmin(weight @ distances))
        chosen[k], closest = candidates[best], np.ascontiguousarray(distances[:, best])
    return chosen


def _chains(
    table: Table, weight: Float, n_clusters: int, draw: Draw, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """k-means++ by Markov chains, AFK-MC² (Bachem, Lucic, Hassani and Krause 2016, algorithm 1), made greedy.

    Candidates are drawn half by squared distance to the first row and half uniformly. Each of 2 + log K Metropolis
    chains through its share of them ends near a draw of k-means++; of these ends the one is kept that leaves the
    smallest sum, which all the candidates, weighted by the inverse of their chance to be drawn, estimate. N distances,
    then K² / 2 times the number of candidates.
    """
    trials = 2 + int(np.log(n_clusters))
    length = -(-_CANDIDATES // trials)
    chosen = np.empty(n_clusters, dtype=np.intp)
    chosen[0] = draw(weight, rng.uniform(size=1))[0]
    distances = _squared_distances(table, table.points(chosen[:1]))[:, 0]
    total = float(weight @ distances)
    proposal = np.full(len(table), 0.5 / weight.sum())  # per unit of weight
    if total > 0.0:
        proposal += 0.5 / total * distances
    for k in range(1, n_clusters):
        if k % _DRAWN_TOGETHER == 1:
            batch = draw(weight * proposal, rng.uniform(size=_DRAWN_TOGETHER * trials * length))
            batch = batch.reshape(_DRAWN_TOGETHER, trials * length)
        candidates = batch[(k - 1) % _DRAWN_TOGETHER]
        some = table.take_few(candidates)
        closest = _squared_distances(some, table.points(chosen[:k])).min(axis=1)
        chance = proposal[candidates]
        ends = _chain_ends((closest / chance).reshape(trials, length), rng)
        after = _squared_distances(some, table.points(candidates[ends]))
        np.minimum(after, closest[:, None], out=after)
        chosen[k] = candidates[ends[np.argmin((1.0 / chance) @ after)]]
    return chosen


def _chain_ends(odds: Float, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Where Metropolis chains end, as flat indices of ``odds`` (chains, steps): target over proposal of each step."""
    at = np.zeros(len(odds), dtype=np.intp)
    chains = np.arange(len(odds))
    for step, uniform in enumerate(rng.uniform(size=odds.T.shape)):
        at = np.where(odds[:, step] > odds[chains, at] * uniform, step, at)
    return np.asarray(chains * odds.shape[1] + at)


def _squared_distances(table: Table, points: Float) -> Float:
    return Centers(points).squared_distances(table)
