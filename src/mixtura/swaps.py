"""Swaps of cluster centres: merge two that share a cluster, and split another that covers two.

Lloyd's algorithm moves centres by small steps, so that a centre never crosses over to a part of the table where one
is missing, and further starts rarely do better where clusters are many. A swap does it at once: for k-means the loss of
a merge follows from the centres alone, and the gain of a split from the largest eigenvalue of a cluster's covariance.

References
----------
Fränti (2018), Efficiency of random swap clustering. Fritzke (2020), The breathing k-means algorithm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixtura.components.centers import Centers, Metric
from mixtura.lloyd import lloyd
from mixtura.moments import Kind, Moments
from mixtura.table import Table

Float = NDArray[np.float64]

# Share of n times the largest eigenvalue by which a split lowers the sum of squares: of a Gaussian it is 2 / pi.
_SPLIT = 2.0 / np.pi

# A split must gain so many times what the merge loses.
_MARGIN = 1.2

# Most rounds of swaps, of iterations of Lloyd's algorithm after each, and of power iterations for an eigenvalue.
_ROUNDS = 12
_ITERATIONS = 4
_POWER = 8

# Number of columns up to which whole covariances are looked at; of wider tables, their diagonals.
_MOST_COLUMNS = 64

# Number of centres whose distances to all others are held at a time.
_BLOCK = 256

_TINY = float(np.finfo(np.float64).tiny)


def improved(table: Table, centers: Centers, tol: float) -> Centers:
    """Centres with a smaller sum of squares, after swaps for as long as these lower it.

    Parameters
    ----------
    table : Table
    centers : Centers
    tol : float
        As in :func:`mixtura.lloyd.lloyd`.
    """
    K = len(centers.means)
    if K < 3:
        return centers
    best, most = centers, K
    kind: Kind = "full" if table.dims <= _MOST_COLUMNS else "diagonal"
    # A split goes along a cluster's longest direction, which does not need the digits of its shortest one.
    moments = table.expect(best.joint, kind, closely=False)
    for _ in range(_ROUNDS):
        pairs = _pairs(best, moments)[:most]
        if not pairs:
            break
        swapped = best.means.copy()
        for (kept, freed), split, offset in pairs:
            mass = moments.mass[[kept, freed]]
            swapped[kept] = mass @ best.means[[kept, freed]] / mass.sum()
            swapped[split], swapped[freed] = best.means[split] - offset, best.means[split] + offset
        fit = lloyd(table, swapped, max_iter=_ITERATIONS, tol=tol, metric=best.metric)
        candidate = fit.parameters.components
        after = table.expect(candidate.joint, kind, closely=False)
        if after.log_likelihood > moments.log_likelihood:
            best, moments = candidate, after
        elif most == 1:
            break
        else:
            most = max(min(most, len(pairs)) // 4, 1)
    return best


def _pairs(centers: Centers, moments: Moments) -> list[tuple[tuple[int, int], int, Float]]:
    """Swaps that should lower the sum of squares, best first: two centres to merge, one to split, and by which offset.

    No centre takes part in two of them.
    """
    mass = moments.mass
    partner, loss = _partners(centers.metric.applied(centers.means), mass)
    values, vectors = _largest(moments, centers.metric)
    gains = _SPLIT * mass * values
    merges, splits = np.argsort(loss, kind="stable"), np.argsort(-gains, kind="stable")
    used: set[int] = set()
    out: list[tuple[tuple[int, int], int, Float]] = []
    waiting = iter(splits)
    for freed in merges:
        kept = int(partner[freed])
        if freed in used or kept in used:
            continue
        split = next((int(b) for b in waiting if b not in used and b not in (freed, kept)), None)
        if split is None or not gains[split] > _MARGIN * loss[freed]:
            break
        used |= {int(freed), kept, split}
        out.append(((kept, int(freed)), split, np.sqrt(_SPLIT) * vectors[split]))
    return out


def _partners(points: Float, mass: Float) -> tuple[NDArray[np.intp], Float]:
    """For each centre the other one whose merger loses least, and the loss: two arrays (K,).

    Merging a and b raises the sum of squares by ``n_a n_b / (n_a + n_b) |m_a - m_b|^2`` (Ward 1963).
    """
    K = len(points)
    partner, loss = np.empty(K, dtype=np.intp), np.empty(K)
    points = points - points.mean(axis=0)
    lengths = np.sum(points**2, axis=1)
    for start in range(0, K, _BLOCK):
        cut = slice(start, start + _BLOCK)
        squares = lengths[cut, None] + lengths - 2.0 * points[cut] @ points.T
        losses = np.maximum(squares, 0.0)
        losses *= mass[cut, None] * mass / np.maximum(mass[cut, None] + mass, _TINY)
        rows = np.arange(len(losses))
        losses[rows, start + rows] = np.inf
        partner[cut] = losses.argmin(axis=1)
        loss[cut] = losses[rows, partner[cut]]
    return partner, loss


def _largest(moments: Moments, metric: Metric) -> tuple[Float, Float]:
    """Largest variance of each cluster under the metric, (K,), and one standard deviation along it, (K, D)."""
    covariances = moments.covariances(np.maximum(moments.mass, _TINY))
    if covariances.ndim == 2:
        return _widest(covariances, metric)
    # Power iterations for F C F', kept in the coordinates of the rows: u <- C F' F u.
    K, D = moments.first.shape
    squared = metric.squared(D)
    widest = np.diagonal(covariances, axis1=1, axis2=2).argmax(axis=1)
    u = covariances @ squared @ np.ones(D) + covariances[np.arange(K), :, widest]
    length = np.zeros(K)
    for _ in range(_POWER):
        along = u @ squared
        length = np.sqrt(np.maximum(np.sum(along * u, axis=1), _TINY))
        u = np.matmul(covariances, (along / length[:, None])[:, :, None])[:, :, 0]
    value = np.sqrt(np.maximum(np.sum((u @ squared) * u, axis=1), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.where(value[:, None] > 0.0, u / np.sqrt(value)[:, None], 0.0)
    return value, deviation


def _widest(variances: Float, metric: Metric) -> tuple[Float, Float]:
    """As :func:`_largest`, among the columns alone, from their variances (K, D)."""
    K, D = variances.shape
    lengths = variances * np.diagonal(metric.squared(D))
    widest, rows = lengths.argmax(axis=1), np.arange(K)
    deviation = np.zeros((K, D))
    deviation[rows, widest] = np.sqrt(variances[rows, widest])
    return lengths[rows, widest], deviation
