"""First parameters of a mixture: k-means, k-means++, rows of the data, random responsibilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.random import sample_without_replacement

from mixtura.backends.base import Float
from mixtura.components.centers import Centers
from mixtura.layouts import LAYOUTS
from mixtura.lloyd import lloyd
from mixtura.moments import Kind, Moments
from mixtura.seeding import seed
from mixtura.table import Table

Initializer = Callable[[Table, int, Kind, float, np.random.RandomState], Moments]

# k-means searches for the first means in a sample of this many rows, or this many per component if that is more: a
# larger sample would cost more than the EM iterations that it saves. A table up to twice as long is taken whole. The
# smaller sample is for fits whose iterations do little work per row and so cost little themselves.
_SAMPLE_ROWS = 1 << 16
_SAMPLE_ROWS_OF_QUICK = 1 << 13
_SAMPLE_ROWS_PER_COMPONENT = 128
_QUICK = 1024  # number of statistics, of all components, below which an iteration does little work per row

# Most iterations of k-means on the whole table, and on a sample, for which full convergence would be wasted.
_MAX_ITER = 300
_MAX_ITER_OF_SAMPLE = 60
_MAX_ITER_OF_QUICK_SAMPLE = 20
_TOL = 1e-4

# Number of searches in a sample, of which the one with the least inertia is kept. Together they cost less than five EM
# iterations on the table, and averaged over seeds they lead to a better likelihood than one search in the whole table.
_SEARCHES = 3


def _quick(table: Table, components: int, kind: Kind) -> bool:
    """Whether an EM iteration does little work per row."""
    return components * LAYOUTS[kind].size(table.dims) < _QUICK


def sample(table: Table, components: int, rng: np.random.RandomState, kind: Kind = "mean") -> Table:
    """The table itself or, if it is long, a random sample of its rows that is large enough to find K means."""
    rows = _SAMPLE_ROWS_OF_QUICK if _quick(table, components, kind) else _SAMPLE_ROWS
    size = max(rows, _SAMPLE_ROWS_PER_COMPONENT * components)
    counted = table.counted
    candidates = len(table) if counted is None else len(counted)
    if candidates <= 2 * size:
        return table
    # Drawn with replacement, and duplicates dropped: in a table so much longer than the sample there are few.
    drawn = np.unique(rng.randint(candidates, size=size))
    return table.take(drawn if counted is None else counted[drawn])


def seed_rows(table: Table, components: int, rng: np.random.RandomState) -> Float:
    """K rows of the table, (K, D), that k-means++ chose."""
    return table.points(seed(table, components, rng))


def column_variance(table: Table) -> float:
    """Weighted variance of the columns, averaged over them: the scale of k-means' tolerance."""
    moments = table.moments("diagonal")
    return float(np.maximum(moments.covariances(), 0.0).mean()) if moments.mass[0] > 0.0 else 0.0


def _assigned(table: Table, means: Float, kind: Kind, floor: float) -> Moments:
    """Moments of the rows, each given to its nearest mean."""
    return table.expect(Centers(means).joint, kind, floor)


def kmeans(table: Table, components: int, kind: Kind, floor: float, rng: np.random.RandomState) -> Moments:
    """Each row is assigned to the cluster that k-means, seeded by k-means++, gives it."""
    subset = sample(table, components, rng, kind)
    if table.sampled:
        searches, max_iter = 1, _MAX_ITER_OF_QUICK_SAMPLE
    elif subset is table:
        searches, max_iter = 1, _MAX_ITER
    elif _quick(table, components, kind):
        searches, max_iter = 1, _MAX_ITER_OF_QUICK_SAMPLE
    else:
        searches, max_iter = _SEARCHES, _MAX_ITER_OF_SAMPLE
    tol = _TOL * column_variance(subset)
    runs = [
        lloyd(subset, seed_rows(subset, components, rng), max_iter=max_iter, tol=tol) for _ in range(searches)
    ]
    best = min((fit.parameters.components for fit in runs), key=lambda centers: centers.inertia(subset))
    return _assigned(table, best.means, kind, floor)


def random_rows(table: Table, components: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Indices of K different rows, (K,), drawn by weight."""
    weights = table.sample_weight
    if weights is None:
        return np.asarray(sample_without_replacement(len(table), components, random_state=rng))
    return np.asarray(rng.choice(len(table), components, replace=False, p=weights / weights.sum()))


def _single_rows(table: Table, indices: NDArray[np.intp], kind: Kind) -> Moments:
    """Moments of components of which each has one row: component k has row ``indices[k]``."""
    X = table.points(indices)
    # About the rows themselves, first and second moments are exactly zero.
    zero = Moments.zero(kind, len(indices), table.pivot)
    return Moments(kind, X, np.ones(len(X)), zero.first, zero.second, 0.0, len(X))


def kmeans_plusplus(
    table: Table, components: int, kind: Kind, floor: float, rng: np.random.RandomState
) -> Moments:
    """Each component starts from one row that k-means++ chose."""
    subset = sample(table, components, rng, kind)
    return _single_rows(subset, seed(subset, components, rng), kind)


def random_from_data(
    table: Table, components: int, kind: Kind, floor: float, rng: np.random.RandomState
) -> Moments:
    """Each component starts from one row, drawn by weight."""
    return _single_rows(table, random_rows(table, components, rng), kind)


def random(table: Table, components: int, kind: Kind, floor: float, rng: np.random.RandomState) -> Moments:
    """Responsibilities are drawn uniformly and normalised."""

    def resp(block: Table) -> Float:
        drawn = rng.uniform(size=(len(block), components))
        return np.asarray(drawn / drawn.sum(axis=1)[:, None])

    return table.accumulate_once(resp, components, kind)


INITIALIZERS: dict[str, Initializer] = {
    "kmeans": kmeans,
    "k-means++": kmeans_plusplus,
    "random": random,
    "random_from_data": random_from_data,
}
