"""k-means: the limit of EM in which every row goes to one component.

Seeding, Lloyd's iterations and empty clusters, all on the backend's four methods.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mixtura import em
from mixtura.components.centers import Centers
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
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

# Rows for which densities of all K components are held at a time.
_BLOCK = 1 << 16


def blocks(n: int, size: int = _BLOCK) -> list[slice]:
    """Cuts of 0..n."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def squared_distances(table: Table, points: Float) -> Float:
    """|z_i - point_j|^2, (N, J), by the kernels that evaluate Gaussians."""
    quadratics = Quadratics("scalar", np.zeros(len(points)), points, np.ones(1))
    joint = table.backend.log_joint(table.rows, quadratics, np.zeros(len(points)))
    joint *= -2.0
    return joint


def nearest(table: Table, centers: Centers) -> tuple[NDArray[np.int32], Float]:
    """Label of each row's nearest centre and the squared distance to it, (N,) and (N,)."""
    labels, joint = table.backend.assign(table.rows, centers.quadratics, centers.log_weights)
    distances = -2.0 * joint
    lost = ~np.isfinite(distances)
    if table.sample_weight is not None:
        lost &= table.sample_weight > 0.0
    far = np.flatnonzero(lost)
    if len(far):
        raise ValueError(
            f"row {far[0]} of X is so far from every centre that its squared distance cannot be represented "
            f"({len(far)} such rows). Scale the input data, or remove such rows."
        )
    return labels, distances


def seed(table: Table, n_clusters: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Indices of K rows, (K,), by greedy k-means++ or, for large tables and many clusters, AFK-MC².

    The draws run through the rows in an order of their values, so the rows that are chosen do not depend on the
    order of the table, nor on whether a row of weight 2 stands there twice.
    """
    if table.sample_weight is not None and not table.sample_weight.all():
        counted = np.flatnonzero(table.sample_weight)  # the others may lie beyond the range of a square
        return counted[seed(table.take(counted), n_clusters, rng)]
    X = table.rows.X
    order = _order(np.asarray(X))
    weight = np.ones(len(X)) if table.sample_weight is None else table.sample_weight

    def draw(mass: Float, uniforms: Float) -> NDArray[np.intp]:
        reached = np.cumsum(mass[order])
        # Never a row without mass: the first whose running sum exceeds the draw.
        at = np.searchsorted(reached, uniforms * reached[-1], side="right")
        return np.asarray(order[np.minimum(at, np.searchsorted(reached, reached[-1]))])

    search = _greedy if len(X) * n_clusters <= _GREEDY_WORK else _chains
    return search(table, weight, n_clusters, draw, rng)


def _greedy(
    table: Table, weight: Float, n_clusters: int, draw: Draw, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007).

    Each next row is drawn with probability proportional to its weight times its squared distance to the nearest
    row drawn so far; of 2 + log K draws the one that leaves the smallest sum is kept. N K (2 + log K) distances.
    """
    X = table.rows.X
    trials = 2 + int(np.log(n_clusters))
    chosen = np.empty(n_clusters, dtype=np.intp)
    chosen[0] = draw(weight, rng.uniform(size=1))[0]
    closest = squared_distances(table, np.asarray(X[chosen[:1]], dtype=np.float64))[:, 0]
    for k in range(1, n_clusters):
        mass = weight * closest
        # Fewer distinct rows than clusters: any row is as good as another.
        candidates = draw(mass if mass.sum() > 0.0 else weight, rng.uniform(size=trials))
        distances = squared_distances(table, np.asarray(X[candidates], dtype=np.float64))
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
    X = table.rows.X
    trials = 2 + int(np.log(n_clusters))
    length = -(-_CANDIDATES // trials)
    chosen = np.empty(n_clusters, dtype=np.intp)
    chosen[0] = draw(weight, rng.uniform(size=1))[0]
    distances = squared_distances(table, np.asarray(X[chosen[:1]], dtype=np.float64))[:, 0]
    total = float(weight @ distances)
    proposal = np.full(len(X), 0.5 / weight.sum())  # per unit of weight
    if total > 0.0:
        proposal += 0.5 / total * distances
    for k in range(1, n_clusters):
        if k % _DRAWN_TOGETHER == 1:
            batch = draw(weight * proposal, rng.uniform(size=_DRAWN_TOGETHER * trials * length))
            batch = batch.reshape(_DRAWN_TOGETHER, trials * length)
        candidates = batch[(k - 1) % _DRAWN_TOGETHER]
        some = table.take_few(candidates)
        closest = squared_distances(some, np.asarray(X[chosen[:k]], dtype=np.float64)).min(axis=1)
        chance = proposal[candidates]
        ends = _chain_ends((closest / chance).reshape(trials, length), rng)
        after = squared_distances(some, np.asarray(X[candidates[ends]], dtype=np.float64))
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


def _order(X: NDArray[np.floating]) -> NDArray[np.intp]:
    """An order of the rows that depends on their values only: by the first column, ties by the next ones."""
    order = np.argsort(X[:, 0], kind="stable")
    first = X[order, 0]
    if len(X) > 1 and np.any(first[1:] == first[:-1]):
        order = np.lexsort(X.T[::-1])
    return order


def _expect(table: Table, centers: Centers) -> Moments:
    """Hard moments of the rows about the present centres."""
    return table.backend.expect(
        table.rows,
        centers.quadratics,
        centers.log_weights,
        centers.kind,
        table.pivot,
        table.sample_weight,
        hard=True,
    )


def inertia(table: Table, centers: Centers) -> float:
    """Weighted sum of squared distances to the nearest centre: one pass over the rows."""
    return -2.0 * _expect(table, centers).log_likelihood


def lloyd(
    table: Table,
    start: Float,
    *,
    max_iter: int,
    tol: float,
    report: Callable[[em.Step[Centers]], bool] | None = None,
) -> em.Fit[Centers]:
    """Lloyd's algorithm: EM with hard assignment, until the centres move by at most ``tol`` in all.

    Parameters
    ----------
    table : Table
    start : ndarray of shape (K, D)
        The first centres.
    max_iter : int
    tol : float
        Largest sum of squared shifts of the centres that counts as standing still. Unchanged labels give
        unchanged centres, so 0 waits for those.
    report : callable, optional
        See :func:`mixtura.em.run`.

    Returns
    -------
    em.Fit
        Its bound is minus half the inertia, per unit of weight, before the centres moved for the last time.
    """

    def stop(step: em.Step[Centers]) -> bool:
        shift = (step.after.means - step.before.means).ravel()
        return float(shift @ shift) <= tol

    return em.run(
        Centers(np.asarray(start, dtype=np.float64)),
        lambda centers: _expect(table, centers),
        lambda centers, moments: _recentre(table, centers, moments),
        table.total_weight,
        max_iter=max_iter,
        stop=stop,
        report=report,
    )


def _recentre(table: Table, centers: Centers, moments: Moments) -> Centers:
    """Means of the clusters; an empty one moves to a row that is far from its centre, as in scikit-learn."""
    mass, first = moments.mass, moments.first
    if mass.min() > 0.0:
        return Centers(moments.pivot + first / mass[:, None])
    empty = np.flatnonzero(mass <= 0.0)
    # Only rows that count: one of weight 0 would leave the cluster as empty as it was.
    some = table
    if table.sample_weight is not None and not table.sample_weight.all():
        some = table.take(np.flatnonzero(table.sample_weight))
    labels, distances = nearest(some, centers)
    if distances.max() > 0.0:
        mass, first = mass.copy(), first.copy()
        far = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1]
        for k, i in zip(empty, far, strict=True):
            weight = 1.0 if some.sample_weight is None else some.sample_weight[i]
            moved = weight * (np.asarray(some.rows.X[i], dtype=np.float64) - moments.pivot)
            first[labels[i]] -= moved
            first[k] = moved
            mass[labels[i]] -= weight
            mass[k] = weight
    heaviest = int(np.argmax(mass))
    filled = mass > 0.0
    means = moments.pivot + first / np.where(filled, mass, 1.0)[:, None]
    means[~filled] = means[heaviest]
    return Centers(means)
