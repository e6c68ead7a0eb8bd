"""A table as a fit sees it: rows placed with a backend, their weights, and a pivot for their moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import Backend, Rows
from mixtura.backends.clustering import Iterated, PlainEm, Raced, Searched
from mixtura.cancellation import LOST, is_far, refined
from mixtura.joint import Joint
from mixtura.layouts import LAYOUTS
from mixtura.membership import Membership
from mixtura.moments import Kind, Moments
from mixtura.quadratics import Form, Quadratics
from mixtura.streamed import Streamed
from mixtura.threads import allow

Float = NDArray[np.float64]
Real = NDArray[np.floating]

# Rows whose mean is the pivot, enough for a point well inside the data: at most so many, at most so many numbers, and
# at least so many rows.
_PIVOT_ROWS, _PIVOT_NUMBERS, _FEW_PIVOT_ROWS = 1 << 12, 1 << 17, 1 << 8

# Most numbers of a sample of rows that is taken for a fit.
MOST_SAMPLED = 1 << 24

# Most numbers of a table on which whole runs of EM are made in one call: of a longer one, passes cost more than calls.
_MOST_RACED = 1 << 17

# Most work of an iteration of a single run of EM that is made in one call, on one thread: with more, threads save more
# than a call for each pass costs. It is N K times D^2, or 2 D where covariances are no matrices, and 20 besides; these
# are about a tenth of a millisecond, as a call is.
_MOST_WORK, _WORK_PER_PAIR = 1_500_000, 20

# How many numbers about the rows (responsibilities, log-weights) are held at a time, where they must be held.
_HELD = 1 << 20

# Responsibilities (n, K) of the rows of a block.
Responsibilities = Callable[["Table"], Float]


def drawn_rows(candidates: int, size: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Indices of about ``size`` of many more rows, drawn with replacement and each kept once, sorted."""
    drawn = np.sort(rng.randint(candidates, size=size))
    return np.asarray(drawn[np.append(True, drawn[1:] != drawn[:-1])])


@lru_cache(maxsize=64)
def _combination(columns: int) -> Float:
    """A fixed combination of columns, (D,), which hardly any two rows that differ have in common."""
    return np.asarray(np.random.RandomState(0).uniform(0.5, 1.5, size=columns))


def _point_inside(X: Real, counted: NDArray[np.intp] | None) -> Float:
    """A point inside the rows that count, (D,): the mean of some of them."""
    rows = min(_PIVOT_ROWS, max(_PIVOT_NUMBERS // X.shape[1], _FEW_PIVOT_ROWS))
    step = max(1, len(X) // rows)
    # Turned, since NumPy takes ten times as long for sums along columns that are short steps apart.
    sample = np.ascontiguousarray(np.asarray(X[::step] if counted is None else X[counted[::step]]).T)
    if not sample.shape[1]:
        return np.zeros(X.shape[1])  # no row counts
    with np.errstate(over="ignore", invalid="ignore"):
        pivot = sample.mean(axis=1, dtype=np.float64)
    # A sum may overflow, and rounding may move the mean of equal numbers away from them: clip it into their range.
    inside: Float = np.clip(pivot, sample.min(axis=1), sample.max(axis=1))
    return inside


@dataclass
class Tally:
    """How many rows passes have looked at, in a table and in all parts of it.

    Parameters
    ----------
    rows : int
    """

    rows: int = 0


@dataclass(frozen=True)
class Table:
    """Rows z, or z = [x; y] of covariates and targets, placed with a backend.

    Parameters
    ----------
    backend : Backend
    rows : Rows
    pivot : ndarray of shape (D,)
        A point inside the rows. Their moments are taken about it.
    all_x : ndarray of shape (whole N, D - M)
        The covariates of the whole table; without targets, its rows.
    all_y : ndarray of shape (whole N, M), optional
        Its targets.
    start : int, default=0
        If this is a block of a larger table, the index of its first row there.
    origin : int, default=0
        The index there of the first row that ``all_x`` holds, which is part of that table where it was read.
    tally : Tally, optional
        Counts the rows that passes look at. All parts of a table share its tally.
    sampled : bool, default=False
        Whether the rows were taken from a larger table.
    membership : Membership, optional
        Which components the rows of the whole table may belong to; every pass obeys it.
    """

    backend: Backend
    rows: Rows
    pivot: Float
    all_x: Real
    all_y: Real | None = None
    start: int = 0
    origin: int = 0
    tally: Tally = field(default_factory=Tally)
    sampled: bool = False
    membership: Membership | None = None

    @classmethod
    def of(
        cls,
        backend: Backend,
        X: Real,
        sample_weight: Float | None = None,
        y: Real | None = None,
        membership: Membership | None = None,
    ) -> Table:
        """Place an array X (N, D), or X and y (N, M), with the rows' weights (N,)."""
        backend = backend.for_rows(X)
        rows = backend.place(X, y, sample_weight)
        counted = None
        if sample_weight is not None and not sample_weight.all():
            counted = np.flatnonzero(sample_weight)
        pivot = _point_inside(X, counted)
        if y is not None:
            pivot = np.concatenate([pivot, _point_inside(y, counted)])
        return cls(backend, rows, pivot, rows.X if y is None else X, y, membership=membership)

    def __len__(self) -> int:
        return len(self.rows)

    # ------------------------------------------------------------------ properties of the rows

    @property
    def cut(self) -> slice:
        """Which rows of the whole table these are."""
        return slice(self.start, self.start + len(self))

    @property
    def _within(self) -> slice:
        """Which rows of ``all_x`` these are."""
        return slice(self.start - self.origin, self.start - self.origin + len(self))

    @property
    def x(self) -> Real:
        """The covariates, (N, D - M); without targets, the rows."""
        return self.all_x if len(self.all_x) == len(self) else self.all_x[self._within]

    @property
    def y(self) -> Real | None:
        """The targets, (N, M)."""
        y = self.all_y
        return y if y is None or len(y) == len(self) else y[self._within]

    def host_limits(self) -> AbstractContextManager[None]:
        """Hold NumPy's part of the work to the threads that the user allowed; the reference uses NumPy alone."""
        return allow(self.backend.n_threads, self.backend.compiled, self.dims)

    @property
    def dims(self) -> int:
        """D: number of columns of the rows, targets included."""
        return len(self.pivot)

    @property
    def targets(self) -> int:
        """M: number of targets, 0 if there are none."""
        return 0 if self.all_y is None else int(self.all_y.shape[1])

    @property
    def covariates(self) -> int:
        """Number of covariates, D - M."""
        return self.dims - self.targets

    @property
    def single(self) -> bool:
        """Whether the covariates are float32."""
        return bool(self.all_x.dtype == np.float32)

    @property
    def unrestricted(self) -> Table:
        """The same rows, each of which may belong to any component."""
        return self if self.membership is None else replace(self, membership=None)

    @cached_property
    def without_targets(self) -> Table:
        """The same rows without their targets, where a pass need not read them; else as they are."""
        rows = self.rows.without_targets()
        return (
            self
            if rows is self.rows
            else replace(self, rows=rows, pivot=self.pivot[: self.covariates], all_y=None)
        )

    @property
    def sample_weight(self) -> Float | None:
        """The rows' weights, (N,); None if all are 1."""
        return self.rows.sample_weight

    @property
    def weight(self) -> Float:
        """The rows' weights as an array, (N,)."""
        return np.ones(len(self)) if self.sample_weight is None else self.sample_weight

    @cached_property
    def total_weight(self) -> float:
        """Sum of the rows' weights; N if there are none."""
        return float(len(self)) if self.sample_weight is None else float(self.sample_weight.sum())

    @cached_property
    def counted(self) -> NDArray[np.intp] | None:
        """Indices of the rows whose weight is not 0; None if that is all of them."""
        weights = self.sample_weight
        return None if weights is None or weights.all() else np.flatnonzero(weights)

    def points(self, indices: NDArray[np.intp]) -> Float:
        """The rows z with these indices, (n, D), in float64."""
        x, y = np.asarray(self.x[indices], dtype=np.float64), self.y
        return x if y is None else np.hstack([x, np.asarray(y[indices], dtype=np.float64)])

    def order(self) -> NDArray[np.intp]:
        """Indices that sort the rows by their values: by the first column, ties by a fixed combination of all columns.

        To sort ties by one column after the other could take as many sorts as there are columns.
        """
        X = np.asarray(self.x[:])
        first = X[:, 0]
        order = np.argsort(first)
        if len(X) > 1 and np.any(first[order[1:]] == first[order[:-1]]):
            combination = _combination(X.shape[1]).astype(X.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                ties = X @ combination
            order = np.lexsort((ties, first))
        return order

    # ------------------------------------------------------------------ parts

    def _placed(self, x: Real, which: slice | NDArray[np.intp]) -> Table:
        """A table of rows of this one, whose covariates have been read or copied."""
        weights = None if self.sample_weight is None else self.sample_weight[which]
        y = None if self.y is None else self.y[which]
        backend = self.backend.for_rows(x)
        return replace(self, backend=backend, rows=backend.place(x, y, weights), all_x=x, all_y=y)

    def take(self, indices: NDArray[np.intp]) -> Table:
        """A table that holds a copy of the rows with these indices."""
        known = None if self.membership is None else self.membership.taken(indices + self.start)
        return replace(
            self._placed(self.x[indices], indices), start=0, origin=0, sampled=True, membership=known
        )

    def standardized(self, center: Float, scale: Float, indices: NDArray[np.intp] | None) -> Table:
        """A table of ``(z - center) / scale``, for the rows with these indices or for all."""
        rows = np.arange(len(self)) if indices is None else indices
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        return replace(
            Table.of(self.backend, (self.points(rows) - center) / scale, weights), tally=self.tally
        )

    def block(self, start: int, stop: int) -> Table:
        """Rows ``start`` to ``stop``, without a copy."""
        rows = self.rows.block(start, stop)
        return replace(self, rows=rows, start=self.start + start)

    @property
    def in_memory(self) -> bool:
        """Whether all rows are in memory, rather than read block by block."""
        return not isinstance(self.all_x, Streamed)

    @property
    def shuffled_blocks(self) -> Callable[[np.random.RandomState], Iterator[Table]] | None:
        """The table in blocks that are in memory, in random order, where the whole of it is not; else None."""
        X = self.all_x
        if not isinstance(X, Streamed):
            return None

        def blocks(rng: np.random.RandomState) -> Iterator[Table]:
            for rows, part in X.shuffled(rng):
                known = None if self.membership is None else self.membership.taken(rows)
                yield replace(self._placed(part, rows), membership=known)

        return blocks

    def joined(self, others: list[Table]) -> Table:
        """The rows of this table and of others, in memory."""
        parts = [self, *others]
        x = np.concatenate([part.x for part in parts])
        y = None if self.all_y is None else np.concatenate([part.y for part in parts if part.y is not None])
        weights = None
        if any(part.sample_weight is not None for part in parts):
            weights = np.concatenate([part.weight for part in parts])
        rows = self.backend.place(x, y, weights)
        known = self.membership
        if known is not None:
            known = known.joined([part.membership for part in others if part.membership is not None])
        return Table(self.backend, rows, self.pivot, x, y, tally=self.tally, membership=known)

    def blocks(self, held: int) -> Iterator[Table]:
        """The table in blocks, whose bounds depend on shapes alone.

        Parameters
        ----------
        held : int
            How many numbers the caller will hold for each row; 0 gives the whole table as one block.
        """
        size = max(_HELD // held // 1024, 1) * 1024 if held else len(self)
        if held and isinstance(self.all_x, Streamed):
            yield from self._read_blocks(self.all_x, size)
            return
        if size >= len(self):
            yield self
            return
        for start in range(0, len(self), size):
            yield self.block(start, min(start + size, len(self)))

    def _read_blocks(self, X: Streamed, size: int) -> Iterator[Table]:
        """Blocks of at most ``size`` rows of a table that is read block by block."""
        for first, whole in X.blocks(self.start, self.start + len(self)):
            for at in range(0, len(whole), size):
                part, start = whole[at : at + size], first + at
                within = slice(start - self.start, start - self.start + len(part))
                yield replace(self._placed(part, within), start=start, origin=start)

    def gathered(self, held: int, answer: Callable[[Table], Float]) -> Float:
        """Answers about blocks of rows, each with a first axis of the rows, one after the other.

        Parameters
        ----------
        held : int
            Numbers that are held for each row while an answer is worked out.
        answer : callable
        """
        parts = [answer(block) for block in self.blocks(held)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    # ------------------------------------------------------------------ passes

    def _permitted(self, joint: Joint) -> Joint:
        """The joint with what the rows' membership permits."""
        known = self.membership
        if known is None:
            return joint
        return joint.restricted(lambda block: known.log_weights(block.cut, joint.components))

    def expect(
        self, joint: Joint, kind: Kind, floor: float = 0.0, permitted: float = LOST, closely: bool = True
    ) -> Moments:
        """Moments of the rows, weighted with their responsibilities under ``joint``: one pass.

        They have about 7 correct digits however far apart the components lie, which may take a second pass: see
        :func:`mixtura.cancellation.refined`.

        Parameters
        ----------
        joint : Joint
        kind : str
            See :class:`mixtura.moments.Moments`.
        floor : float, default=0
            Variance below which no digit matters.
        permitted : float
            Relative rounding error of a variance that is permitted.
        closely : bool, default=True
            Whether that holds along all directions, or along the columns alone.
        """
        layout, joint = LAYOUTS[kind], self._permitted(joint)
        self.tally.rows += len(self)
        one_pass = layout.has_second and layout.own and self.backend.each_in_one_pass
        if one_pass and is_far(joint, self.pivot, floor, permitted):
            # About a common pivot the variances would lose digits, and a second pass would be needed.
            every = np.ones(joint.components, dtype=bool)
            means = joint.quadratics.means
            moments = self.backend.expect_each(self.rows, joint, kind, means, every).without_rounding()
        elif joint.held:
            moments = Moments.zero(kind, joint.components, self.pivot)
            for block in self.blocks(joint.held):
                moments += block.backend.expect(block.rows, joint.at(block), kind, self.pivot)
        else:
            moments = self.backend.expect(self.rows, joint, kind, self.pivot)
        if not layout.has_second:
            return moments

        def each(pivots: Float, wanted: NDArray[np.bool_], kind: Kind) -> Moments:
            total = Moments.zero(kind, joint.components, pivots)
            self.tally.rows += len(self)
            for block in self.blocks(joint.held):
                total += block.backend.expect_each(block.rows, joint.at(block), kind, pivots, wanted)
            return total

        eps = self.backend.rounding(self.rows, joint, self.pivot)
        return refined(moments, each, floor, eps, permitted, closely)

    def lloyd(self, joint: Joint, max_iter: int, tol: float) -> Iterated | None:
        """Lloyd's iterations from the means of ``joint``, in one call; None where that is not to be had."""
        clustering = self.backend.clustering(self.rows)
        if clustering is None or self.membership is not None:
            return None
        found = clustering.lloyd(self.rows, joint.quadratics, self.pivot, self.total_weight, max_iter, tol)
        self.tally.rows += len(self) * len(found.bounds)
        return found

    def seed(
        self, point: Quadratics, components: int, trials: int, rng: np.random.RandomState
    ) -> NDArray[np.intp] | None:
        """Rows that greedy k-means++ chooses, (K,), in one call; None where that is not to be had.

        Rows have positive weight, and may belong to any component.
        """
        clustering = self.backend.clustering(self.rows)
        if clustering is None:
            return None
        uniforms = rng.uniform(size=1 + (components - 1) * trials)
        self.tally.rows += len(self) * components
        return clustering.seed(self.rows, point, self.order(), components, trials, uniforms)

    def searches(
        self,
        point: Quadratics,
        components: int,
        trials: int,
        count: int,
        max_iter: int,
        tol: float,
        rng: np.random.RandomState,
    ) -> Searched | None:
        """So many searches of k-means in one call; None where that is not to be had.

        Rows have positive weight, and may belong to any component.
        """
        clustering = self.backend.clustering(self.rows)
        if clustering is None:
            return None
        uniforms = rng.uniform(size=(count, 1 + (components - 1) * trials))
        found = clustering.searches(
            self.rows,
            point,
            self.pivot,
            self.order(),
            components,
            trials,
            uniforms,
            self.total_weight,
            max_iter,
            tol,
        )
        # Once for each seed, each iteration, and the labels.
        self.tally.rows += len(self) * (count * (components + 1) + int(found.iterations.sum()))
        return found

    def may_advance(self, components: int, form: Form) -> bool:
        """Whether :meth:`advance` is to be had: as for :meth:`race`, but for fewer rows and components, in float64.

        Passes over float32 rows may sum in float32, which one call does not: fits to a table in memory and to the same
        one read block by block are to agree.
        """
        of_pair = self.dims**2 if form == "triangle" else 2 * self.dims
        return (
            self._plain
            and not self.single
            and len(self) * components * (of_pair + _WORK_PER_PAIR) <= _MOST_WORK
        )

    def advance(
        self, start: tuple[Float, Float, Float], how: PlainEm, labels: NDArray[np.int32] | None = None
    ) -> tuple[tuple[Float, Float, Float], list[float]] | None:
        """A run of EM but for its last M-step: see :meth:`mixtura.backends.clustering.Clustering.advance`."""
        clustering = self.backend.clustering(self.rows)
        assert clustering is not None
        found = clustering.advance(self.rows, start, how, labels)
        if found is not None:  # whoever called repeats the last pass
            self.tally.rows += len(self) * (len(found[1]) - (labels is None))
        return found

    @property
    def may_race(self) -> bool:
        """Whether :meth:`race` is to be had: for rows without weights, labels and targets, not too many."""
        return self._plain and len(self) * self.dims <= _MOST_RACED

    @property
    def _plain(self) -> bool:
        """Whether there are only rows, and a backend that makes whole runs."""
        rows_alone = self.membership is None and self.sample_weight is None and not self.targets
        return rows_alone and self.backend.clustering(self.rows) is not None

    def race(self, labels: NDArray[np.int32], components: int, how: PlainEm) -> Raced:
        """Whole runs of EM from several labellings (R, N): see :meth:`mixtura.backends.clustering.Clustering.race`."""
        clustering = self.backend.clustering(self.rows)
        assert clustering is not None
        found = clustering.race(self.rows, labels, components, how)
        self.tally.rows += len(self) * found.passes
        return found

    def moments(self, kind: Kind) -> Moments:
        """Moments of all rows, as of one component, accurate wherever the rows lie."""
        return self.unrestricted.expect(Joint.of_all(self.pivot), kind)

    def accumulate(self, resp: Responsibilities, components: int, kind: Kind) -> Moments:
        """Moments for given responsibilities, accurate wherever the components lie.

        Parameters
        ----------
        resp : callable
            Gives the responsibilities (n, K) of a block; may be called more than once for each block.
        components : int
            K.
        kind : str
        """

        def each(pivots: Float, wanted: NDArray[np.bool_], kind: Kind) -> Moments:
            total = Moments.zero(kind, components, pivots)
            for k in np.flatnonzero(wanted):
                about_k = self.accumulate_once(resp, components, kind, pivots[k])
                total.mass[k], total.first[k] = about_k.mass[k], about_k.first[k]
                total.second[k] = about_k.second[k]
            return total

        moments = self.accumulate_once(resp, components, kind)
        return refined(moments, each) if LAYOUTS[kind].has_second else moments

    def accumulate_once(
        self, resp: Responsibilities, components: int, kind: Kind, pivot: Float | None = None
    ) -> Moments:
        """Moments for given responsibilities about one pivot, in one pass that calls ``resp`` once for each block."""
        total = Moments.zero(kind, components, self.pivot if pivot is None else pivot)
        self.tally.rows += len(self)
        for block in self.blocks(components):
            total += block.backend.accumulate(block.rows, resp(block), kind, total.pivot)
        return total

    def accumulate_residuals(
        self,
        resp: Responsibilities,
        experts: list[int],
        pivots: Float,
        fitted: Callable[[int, Real], Float],
    ) -> list[Moments]:
        """Moments, of kind 'full', of ``[x; y - fitted_k(x)]`` for some experts k, each about its own pivot.

        Parameters
        ----------
        resp : callable
            Gives the responsibilities (n, K) of a block.
        experts : list of int
            The experts k.
        pivots : ndarray of shape (K, D)
        fitted : callable
            ``fitted(k, x)`` is the regression of expert k at rows x (n, D - M): (n, M).
        """
        moments = [Moments.zero("full", 1, pivots[k]) for k in experts]
        self.tally.rows += len(self)
        for block in self.blocks(len(pivots)):
            assert block.y is not None
            r = resp(block)
            if block.sample_weight is not None:
                r = np.where(block.sample_weight[:, None] > 0.0, r, 0.0)
            for i, k in enumerate(experts):
                placed = block.backend.place(block.x, block.y - fitted(k, block.x), block.sample_weight)
                moments[i] += block.backend.accumulate(placed, r[:, [k]], "full", pivots[k])
        return moments

    def log_joint(self, joint: Joint) -> Float:
        """``log pi_k + log p_k(z_i)``, (N, K)."""
        self.tally.rows += len(self)
        return self.backend.log_joint(self.rows, self._permitted(joint).at(self))

    def assign(self, joint: Joint) -> tuple[NDArray[np.int32], Float]:
        """Most likely component of each row, and its joint log-density: (N,) and (N,)."""
        self.tally.rows += len(self)
        joint = self._permitted(joint)
        parts = [b.backend.assign(b.rows, joint.at(b)) for b in self.blocks(joint.held)]
        labels, best = zip(*parts, strict=True)
        return (labels[0], best[0]) if len(parts) == 1 else (np.concatenate(labels), np.concatenate(best))

    def posterior(self, joint: Joint, resp: Real | None = None) -> Float:
        """Log-density of each row, (N,); its responsibilities are written to ``resp`` (N, K), if given."""
        parts, joint = [], self._permitted(joint)
        self.tally.rows += len(self)
        for block in self.blocks(joint.held):
            at = block.start - self.start
            block_resp = None if resp is None else resp[at : at + len(block)]
            parts.append(block.backend.posterior(block.rows, joint.at(block), block_resp))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def responsibilities(self, joint: Joint) -> tuple[Float, float]:
        """Responsibilities (N, K) of all rows, and the log-likelihood of those that count."""
        resp = np.empty((len(self), joint.components))
        density = self.posterior(joint, resp)
        if self.sample_weight is None:
            return resp, float(density.sum())
        weightless = self.sample_weight <= 0.0  # the log-density of such a row need not be finite
        resp[weightless], density[weightless] = 1.0 / joint.components, 0.0
        return resp, float((density * self.sample_weight).sum())

    def column_spread(self) -> tuple[Float, Float]:
        """Weighted mean and standard deviation of the columns, (D,) each."""
        moments = self.moments("diagonal")
        return moments.means()[0], np.sqrt(np.maximum(moments.covariances()[0], 0.0))
