"""First parameters of a mixture: k-means, k-means++, rows of the data, random responsibilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.random import sample_without_replacement

from mixtura.backends.base import Float
from mixtura.backends.clustering import End
from mixtura.components.centers import EUCLIDEAN, Centers, Metric
from mixtura.errors import NotFiniteError
from mixtura.hierarchical import MOST_ROWS, Tree, scaled, tree
from mixtura.layouts import LAYOUTS
from mixtura.lloyd import lloyd
from mixtura.metrics import several, standardizing
from mixtura.moments import Kind, Moments
from mixtura.seeding import is_small, seed, trials
from mixtura.swaps import improved
from mixtura.table import Table, drawn_rows


class Initializer(Protocol):
    """Makes the moments from which first parameters are estimated."""

    def __call__(
        self,
        table: Table,
        components: int,
        kind: Kind,
        floor: float,
        rng: np.random.RandomState,
        known: Float | None = None,
    ) -> Moments:
        """Moments for K components.

        Parameters
        ----------
        table : Table
        components : int
            K.
        kind : str
        floor : float
            Variance below which no digit matters.
        rng : RandomState
        known : ndarray of shape (K, D), optional
            Means at which the components' first rows lie; NaN where that is not known.
        """


# k-means searches for the first means in a sample of this many rows, or this many per component if that is more: a
# larger sample would cost more than the EM iterations that it saves. A table up to twice as long is taken whole. The
# smaller sample is for fits whose iterations do little work per row and so cost little themselves.
_SAMPLE_ROWS = 1 << 16
_SAMPLE_ROWS_OF_QUICK = 1 << 13
_SAMPLE_ROWS_PER_COMPONENT = 128
_SAMPLE_NUMBERS = 1 << 23  # of a table with many columns, as many rows as make up so many numbers
_QUICK = 1024  # number of statistics, of all components, below which an iteration does little work per row

# Most iterations of k-means on the whole table, and on a sample, for which full convergence would be wasted.
_MAX_ITER = 300
_MAX_ITER_OF_SAMPLE = 60
_MAX_ITER_OF_QUICK_SAMPLE = 20
_MAX_ITER_OF_FIRST = 2  # before swaps
_TOL = 1e-4

# Number of searches in a sample, of which the one with the least inertia is kept. Together they cost less than five EM
# iterations on the table, and averaged over seeds they lead to a better likelihood than one search in the whole table.
_SEARCHES = 3

# A table is short if its rows times components times so many operations, for each pair of columns and besides, are at
# most so many. On a short table so many searches are made, and the run of EM counts that ends best; if the first few
# end alike, no more are made.
_SHORT, _PER_PAIR = 100_000, 20
SEARCHES_OF_SHORT, _FIRST_SEARCHES = 10, 3

_EMPTY, _NOT_FINITE = int(End.EMPTY), int(End.NOT_FINITE)

# Relative difference of inertias up to which two searches have ended alike, given that they end with a tolerance.
_SAME = 1e-5

# Rows with a known component, for each dimension, from which a component can be estimated.
_LABELLED_ROWS = 2

# Number of components from which on one start, with swaps of centres, does better than several without, and costs less.
# With fewer rows for each component swaps cost more than they save.
MANY_COMPONENTS = 16
_MANY_ROWS = 16


def _quick(table: Table, components: int, kind: Kind) -> bool:
    """Whether an EM iteration does little work per row."""
    return components * LAYOUTS[kind].size(table.dims) < _QUICK


def _many(table: Table, components: int) -> bool:
    """Whether there are so many components, and rows for them, that centres are to be swapped."""
    return components >= MANY_COMPONENTS and len(table) >= _MANY_ROWS * components


def sample(table: Table, components: int, rng: np.random.RandomState, kind: Kind = "mean") -> Table:
    """The table itself or, if it is long, a random sample of its rows that is large enough to find K means."""
    if is_whole(table, components, kind):
        return table
    # Drawn with replacement, and duplicates dropped: in a table so much longer than the sample there are few.
    counted = table.counted
    candidates = len(table) if counted is None else len(counted)
    drawn = drawn_rows(candidates, _sample_size(table, components, kind), rng)
    return table.take(drawn if counted is None else counted[drawn])


def is_whole(table: Table, components: int, kind: Kind) -> bool:
    """Whether k-means searches all rows of a table, which is not much longer than a sample would be."""
    counted = table.counted
    candidates = len(table) if counted is None else len(counted)
    return candidates <= 2 * _sample_size(table, components, kind)


def _sample_size(table: Table, components: int, kind: Kind) -> int:
    """Number of rows of a sample that is large enough to find K means."""
    rows = _SAMPLE_ROWS_OF_QUICK if _quick(table, components, kind) else _SAMPLE_ROWS
    return max(min(rows, _SAMPLE_NUMBERS // table.dims), _SAMPLE_ROWS_PER_COMPONENT * components)


def seed_rows(
    table: Table,
    components: int,
    rng: np.random.RandomState,
    metric: Metric = EUCLIDEAN,
    known: Float | None = None,
    greedy: bool | None = None,
) -> Float:
    """K rows of the table, (K, D), that k-means++ chose beside the means that are known."""
    if known is None:
        return table.points(seed(table, components, rng, metric, greedy=greedy))
    means = known.copy()
    missing = np.isnan(means).any(axis=1)
    if missing.any():
        beside = None if missing.all() else means[~missing]
        chosen = table.points(seed(table, int(missing.sum()), rng, metric, beside))
        means[missing] = np.where(np.isnan(means[missing]), chosen, means[missing])
    return means


def labelled_means(table: Table, components: int) -> Float:
    """Means of the rows of which it is known that they belong to each component, (K, D); NaN for one without any."""
    means = np.full((components, table.dims), np.nan)
    if table.membership is not None:
        labels = table.membership.labels
        for k in np.unique(labels[(labels >= 0) & (table.weight > 0.0)]):
            rows = np.flatnonzero(labels == k)
            means[k] = np.average(table.points(rows), axis=0, weights=table.weight[rows])
    return means


def labelled_moments(table: Table, components: int, kind: Kind) -> Moments | None:
    """Moments of the rows whose component is known; None unless these are enough for every component."""
    if table.membership is None:
        return None
    labels = np.where(table.weight > 0.0, table.membership.labels, -1)
    counts = np.bincount(labels[labels >= 0], minlength=components)
    if counts.min() < _LABELLED_ROWS * (table.dims + 1):
        return None

    def resp(block: Table) -> Float:
        return np.asarray(labels[block.cut, None] == np.arange(components), dtype=np.float64)

    return table.accumulate(resp, components, kind)


def column_variance(table: Table) -> float:
    """Weighted variance of the columns, averaged over them: the scale of k-means' tolerance."""
    moments = table.moments("diagonal")
    return float(np.maximum(moments.covariances(), 0.0).mean()) if moments.mass[0] > 0.0 else 0.0


def _assigned(table: Table, centers: Centers, kind: Kind, floor: float) -> Moments:
    """Moments of the rows, each given to its nearest centre."""
    return table.expect(centers.joint, kind, floor)


def first_centers(
    table: Table,
    components: int,
    rng: np.random.RandomState,
    metric: Metric = EUCLIDEAN,
    known: Float | None = None,
    swap: bool | None = None,
) -> Centers:
    """Centres by k-means++ or, with ``swap``, by k-means++ in batches and swaps, which many clusters and rows need."""
    if swap is None:
        swap = not is_small(table, components)
    # A swap would take a centre away from the component that the rows are known to belong to.
    swap = swap and table.membership is None and known is None
    centers = Centers(seed_rows(table, components, rng, metric, known, greedy=not swap), metric)
    if not swap:
        return centers
    tol = _TOL * _variance(table, metric)
    fit = lloyd(table, centers.means, max_iter=_MAX_ITER_OF_FIRST, tol=tol, metric=metric)
    return improved(table, fit.parameters.components, tol)


def _variance(table: Table, metric: Metric) -> float:
    """Scale of the tolerance of k-means."""
    return column_variance(table) if metric is EUCLIDEAN else 1.0


@dataclass(frozen=True, eq=False)
class UnderMetric:
    """As :func:`kmeans`, with distances of another metric and one quick search: an :class:`Initializer`.

    Parameters
    ----------
    metric : Metric
    """

    metric: Metric

    def __call__(
        self,
        table: Table,
        components: int,
        kind: Kind,
        floor: float,
        rng: np.random.RandomState,
        known: Float | None = None,
    ) -> Moments:
        """See :class:`Initializer`."""
        return _assigned(table, self.centers(table, components, rng, known), kind, floor)

    def centers(
        self, table: Table, components: int, rng: np.random.RandomState, known: Float | None = None
    ) -> Centers:
        """The centres that k-means finds."""
        subset = sample(table, components, rng, "mean")
        start = first_centers(subset, components, rng, self.metric, known, swap=_many(subset, components))
        fit = lloyd(subset, start.means, max_iter=_MAX_ITER_OF_QUICK_SAMPLE, tol=_TOL, metric=self.metric)
        return fit.parameters.components


def kmeans(
    table: Table,
    components: int,
    kind: Kind,
    floor: float,
    rng: np.random.RandomState,
    known: Float | None = None,
) -> Moments:
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
    swap = _many(subset, components)
    if swap:
        searches = 1
    tol = _TOL * column_variance(subset)
    starts = [first_centers(subset, components, rng, known=known, swap=swap) for _ in range(searches)]
    runs = [lloyd(subset, start.means, max_iter=max_iter, tol=tol) for start in starts]
    ends = [fit.parameters.components for fit in runs]
    best = ends[0] if len(ends) == 1 else min(ends, key=lambda centers: centers.inertia(subset))
    return _assigned(table, best, kind, floor)


@dataclass(frozen=True, eq=False)
class Clustered:
    """Each component begins with the rows of a cluster: an :class:`Initializer`.

    Parameters
    ----------
    centers : Centers
    labels : ndarray of shape (N,), optional
        The nearest centre of each row, if it is known.
    """

    centers: Centers
    labels: NDArray[np.int32] | None = None

    def __call__(
        self,
        table: Table,
        components: int,
        kind: Kind,
        floor: float,
        rng: np.random.RandomState,
        known: Float | None = None,
    ) -> Moments:
        """See :class:`Initializer`."""
        return _assigned(table, self.centers, kind, floor)

    def labelled(self, table: Table) -> NDArray[np.int32]:
        """The nearest centre of each row, (N,)."""
        return self.centers.nearest(table)[0] if self.labels is None else self.labels


def labellings(
    table: Table, ways: Sequence[UnderMetric], components: int, rng: np.random.RandomState
) -> NDArray[np.int32]:
    """The unlike clusterings (R, N) of a table in memory that searches under several metrics end with, as labels.

    Under each metric k-means is made of rows in its coordinates, which are those of the kernels for plain distances.
    Many components need swaps of centres, and have one search after the other.
    """
    if components >= MANY_COMPONENTS:
        centers = [way.centers(table, components, rng) for way in ways]
        return np.stack([found.nearest(table)[0] for found in centers])
    found = dict[bytes, NDArray[np.int32]]()
    points = table.points(np.arange(len(table))) - table.pivot
    for metric, group in groupby(ways, key=lambda way: way.metric):
        count = len(list(group))
        rows = replace(Table.of(table.backend, metric.applied(points)), tally=table.tally)
        point, tol = Centers(rows.pivot[None]).quadratics, _TOL * _variance(table, metric)
        whole = rows.searches(
            point, components, trials(components), count, _MAX_ITER_OF_QUICK_SAMPLE, tol, rng
        )
        assert whole is not None  # the backend has whole searches
        for labels, end in zip(whole.labels, whole.ends.tolist(), strict=True):
            if end not in (_EMPTY, _NOT_FINITE):
                found.setdefault(_partition(labels, components), labels)
    return np.stack(list(found.values())) if found else np.empty((0, len(table)), dtype=np.int32)


def _partition(labels: NDArray[np.int32], components: int) -> bytes:
    """What labels say of which rows belong together, whatever the clusters are called."""
    first = [int(np.argmax(labels == k)) for k in range(components)]
    return bytes(np.argsort(np.argsort(first, kind="stable"), kind="stable").astype(np.uint8)[labels])


def is_short(table: Table, components: int) -> bool:
    """Whether passes over a table take less time than all around them, so that a few runs of EM cost little."""
    return len(table) * components * (table.dims**2 + _PER_PAIR) <= _SHORT


def clustering(table: Table, components: int, rng: np.random.RandomState) -> Clustered:
    """The end of one search of k-means on all rows of a table."""
    return clusterings(table, components, 1, rng)[0]


def clusterings(table: Table, components: int, count: int, rng: np.random.RandomState) -> list[Clustered]:
    """The unlike ends of so many searches of k-means, in the order in which they are found: for short tables."""
    tol, found = _TOL * column_variance(table), list[tuple[float, Clustered]]()
    for some in (min(count, _FIRST_SEARCHES), max(count - _FIRST_SEARCHES, 0)):
        if some and len(found) != 1:
            _add_searches(found, table, components, some, tol, rng)
    return [clustered for _, clustered in found]


def _add_searches(
    found: list[tuple[float, Clustered]],
    table: Table,
    components: int,
    count: int,
    tol: float,
    rng: np.random.RandomState,
) -> None:
    """Add those of several searches of k-means, with their inertias, that end unlike all before."""

    def ended(start: Float) -> None:
        centers = lloyd(table, start, max_iter=_MAX_ITER, tol=tol).parameters.components
        add(centers.inertia(table), centers, None)

    def add(inertia: float, centers: Centers, labels: NDArray[np.int32] | None) -> None:
        if all(abs(inertia - other) > _SAME * other for other, _ in found):
            found.append((inertia, Clustered(centers, labels)))

    whole = None
    if table.counted is None and table.membership is None:
        point = Centers(table.pivot[None]).quadratics
        whole = table.searches(point, components, trials(components), count, _MAX_ITER, tol, rng)
    if whole is None:
        for _ in range(count):
            ended(first_centers(table, components, rng, swap=False).means)
        return
    for r, (end, inertia) in enumerate(zip(whole.ends.tolist(), whole.inertia.tolist(), strict=True)):
        if end == _NOT_FINITE:
            raise NotFiniteError
        if end == _EMPTY:  # iterations one by one move centres without rows
            ended(whole.means[r])
        else:
            add(inertia, Centers(whole.means[r]), whole.labels[r])


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
    table: Table,
    components: int,
    kind: Kind,
    floor: float,
    rng: np.random.RandomState,
    known: Float | None = None,
) -> Moments:
    """Each component starts from one row that k-means++ chose."""
    subset = sample(table, components, rng, kind)
    return _single_rows(subset, seed(subset, components, rng), kind)


def random_from_data(
    table: Table,
    components: int,
    kind: Kind,
    floor: float,
    rng: np.random.RandomState,
    known: Float | None = None,
) -> Moments:
    """Each component starts from one row, drawn by weight."""
    return _single_rows(table, random_rows(table, components, rng), kind)


def random(
    table: Table,
    components: int,
    kind: Kind,
    floor: float,
    rng: np.random.RandomState,
    known: Float | None = None,
) -> Moments:
    """Responsibilities are drawn uniformly and normalised."""

    def resp(block: Table) -> Float:
        drawn = rng.uniform(size=(len(block), components))
        return np.asarray(drawn / drawn.sum(axis=1)[:, None])

    return table.accumulate_once(resp, components, kind)


def hierarchical(
    table: Table,
    components: int,
    kind: Kind,
    floor: float,
    rng: np.random.RandomState,
    known: Float | None = None,
) -> Moments:
    """Groups of a tree of rows that join where the likelihood falls least; of many rows, a sample makes the tree."""
    subset = rows_of_tree(table, rng)
    labels = tree_of(subset).labels(components)
    return subset.accumulate(lambda block: _one_of(labels[block.cut], components), components, kind)


def _one_of(labels: NDArray[np.intp], components: int) -> Float:
    return np.asarray(labels[:, None] == np.arange(components), dtype=np.float64)


def rows_of_tree(table: Table, rng: np.random.RandomState) -> Table:
    """The rows of positive weight of a table, or a sample of as many as a tree can have."""
    rows = np.arange(len(table)) if table.counted is None else table.counted
    if len(rows) > MOST_ROWS:
        rows = np.sort(rows[rng.choice(len(rows), MOST_ROWS, replace=False)])
    return table if len(rows) == len(table) else table.take(rows)


def tree_of(table: Table) -> Tree:
    """The tree of all rows of a short table, half-way to white, by Gaussians or, where columns are many, by squares."""
    rows = table.points(np.arange(len(table)))
    return tree(scaled(rows, "svd"), "VVV" if len(rows) > table.dims else "EII")


INITIALIZERS: dict[str, Initializer] = {
    "kmeans": kmeans,
    "hierarchical": hierarchical,
    "k-means++": kmeans_plusplus,
    "random": random,
    "random_from_data": random_from_data,
}

# The name of starts by all candidates, of which the best by likelihood after a few iterations goes on.
AUTO = "auto"

# Number of starts under each metric.
_SEEDS = 3


def candidates(table: Table, components: int, rng: np.random.RandomState) -> list[Initializer]:
    """Unlike ways to start: k-means from several seeds under several metrics."""
    if components == 1:
        return [kmeans]
    if components >= MANY_COMPONENTS:
        return [UnderMetric(standardizing(table))]
    return [UnderMetric(metric) for metric in several(table, rng) for _ in range(_SEEDS)]
