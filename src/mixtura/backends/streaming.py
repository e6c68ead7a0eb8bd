"""Passes over rows that are read block by block, each block by another backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import Backend, Float, Rows, Rows2D
from mixtura.backends.derivatives import Derivatives
from mixtura.joint import Joint
from mixtura.layouts import LAYOUTS
from mixtura.moments import Kind, Moments
from mixtura.streamed import Streamed


class StreamingBackend(Backend):
    """A backend for :class:`mixtura.streamed.Streamed` rows, which does each block's work with another one.

    Moments of blocks are added in the blocks' order, whose bounds depend on the table's shape and block size alone.

    Parameters
    ----------
    inner : Backend
    """

    name: ClassVar[str] = "streaming"
    summary: ClassVar[str] = "block by block"

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner.n_threads, inner.precision)
        self.inner = inner
        self.name = inner.name  # type: ignore[misc]
        self.compiled = inner.compiled  # type: ignore[misc]
        self.each_in_one_pass = inner.each_in_one_pass  # type: ignore[misc]

    def doubled(self) -> StreamingBackend:
        """See :meth:`Backend.doubled`."""
        return type(self)(self.inner.doubled())

    def derivatives(self) -> Derivatives:
        """See :meth:`Backend.derivatives`."""
        return self.inner.derivatives()

    def for_rows(self, X: Rows2D) -> Backend:
        """See :meth:`Backend.for_rows`: blocks and samples, which are in memory, are the other backend's."""
        return self if isinstance(X, Streamed) else self.inner

    def place(self, X: Any, y: Rows2D | None = None, sample_weight: Float | None = None) -> Rows:
        """Take a streamed table as it is, with what it tells of the spread of its columns."""
        survey = X.survey(sample_weight)
        mean, deviation = survey[:, 4], survey[:, 5]
        if y is not None:
            targets = np.asarray(y, dtype=np.float64)
            mean, deviation = np.append(mean, targets.mean(axis=0)), np.append(deviation, targets.std(axis=0))
        return Rows(X, y, sample_weight, spread=(mean, deviation))

    def _blocks(self, rows: Rows) -> Iterator[tuple[int, int, Rows]]:
        """Blocks as the other backend places them, and where they begin and end."""
        X: Any = rows.X
        for start, block in X.blocks(reuse=True):
            stop = start + len(block)
            y = None if rows.y is None else rows.y[start:stop]
            weights = None if rows.sample_weight is None else rows.sample_weight[start:stop]
            placed = self.inner.place(block, y, weights)
            # Which arithmetic is exact enough is decided for all blocks alike.
            yield start, stop, replace(placed, spread=rows.spread)

    def expect(self, rows: Rows, joint: Joint, kind: Kind, pivot: Float) -> Moments:
        """See :meth:`Backend.expect`."""
        layout = LAYOUTS[kind]
        summed = kind if layout.own else layout.kernel.name
        total = self._summed(rows, joint, summed, pivot)
        if layout.own:
            return total
        return replace(total, kind=kind, second=self._scatter(rows, pivot, layout.each.name))

    def _summed(self, rows: Rows, joint: Joint, kind: Kind, pivot: Float) -> Moments:
        """Moments of a kind that kernels sum."""
        total = Moments.zero(kind, joint.components, pivot)
        for start, stop, block in self._blocks(rows):
            total += self.inner.expect(block, joint.cut(start, stop), kind, pivot)
        return total

    def _scatter(self, rows: Rows, pivot: Float, each: Kind) -> Float:
        """The second moment that all components share, once per table and pivot: one more pass."""
        key = pivot.tobytes()
        if key not in rows.scatter:
            rows.scatter[key] = self.expect(rows, Joint.of_all(pivot), each, pivot)
        return np.asarray(rows.scatter[key].second[0])

    def expect_each(
        self, rows: Rows, joint: Joint, kind: Kind, pivots: Float, wanted: NDArray[np.bool_]
    ) -> Moments:
        """See :meth:`Backend.expect_each`."""
        total = Moments.zero(kind, joint.components, pivots)
        for start, stop, block in self._blocks(rows):
            total += self.inner.expect_each(block, joint.cut(start, stop), kind, pivots, wanted)
        return total

    def rounding(self, rows: Rows, joint: Joint, pivot: Float) -> float:
        """See :meth:`Backend.rounding`."""
        columns = np.empty((1, rows.X.shape[1]), dtype=rows.X.dtype)
        first = self.inner.place(columns, None if rows.y is None else rows.y[:1])
        return self.inner.rounding(replace(first, spread=rows.spread), joint, pivot)

    def log_joint(self, rows: Rows, joint: Joint) -> Float:
        """See :meth:`Backend.log_joint`."""
        out = np.empty((len(rows), joint.components))
        for start, stop, block in self._blocks(rows):
            out[start:stop] = self.inner.log_joint(block, joint.cut(start, stop))
        return out

    def accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Moments:
        """See :meth:`Backend.accumulate`."""
        total = Moments.zero(kind, resp.shape[1], pivot)
        for start, stop, block in self._blocks(rows):
            total += self.inner.accumulate(block, resp[start:stop], kind, pivot)
        return total

    def assign(self, rows: Rows, joint: Joint) -> tuple[NDArray[np.int32], Float]:
        """See :meth:`Backend.assign`."""
        labels, best = np.empty(len(rows), dtype=np.int32), np.empty(len(rows))
        for start, stop, block in self._blocks(rows):
            labels[start:stop], best[start:stop] = self.inner.assign(block, joint.cut(start, stop))
        return labels, best

    def posterior(self, rows: Rows, joint: Joint, resp: NDArray[np.floating] | None = None) -> Float:
        """See :meth:`Backend.posterior`."""
        density = np.empty(len(rows))
        for start, stop, block in self._blocks(rows):
            part = None if resp is None else resp[start:stop]
            density[start:stop] = self.inner.posterior(block, joint.cut(start, stop), part)
        return density

    def average(
        self, rows: Rows, resp: Float, slopes: Float, levels: Float, variances: Float
    ) -> tuple[Float, Float]:
        """See :meth:`Backend.average`."""
        return self.inner.average(rows, resp, slopes, levels, variances)
