"""What the compiled backends share: when float32 arithmetic is enough, and how moments of kind 'shared' are taken."""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod

import numpy as np

from mixtura.backends.base import Backend, Float, Rows, Rows2D
from mixtura.joint import Joint
from mixtura.layouts import LAYOUTS, Kind, Layout
from mixtura.moments import Moments, Parts
from mixtura.quadratics import Quadratics
from mixtura.threads import compiled_allowed, native, thread_limit, threads_for

# Largest width of a table, in spreads of a component along the rows of its factor, at which arithmetic on float32 rows
# is in float32. At this width a variance has a relative error of 256^2 float32 eps = 0.8% if all rounding errors have
# the same sign; with random signs the error over n rows is smaller by the square root of n.
_SINGLE_WIDTH = 256.0

# Range of a component's scales in which no square of its rows leaves the range of float32.
_SINGLE_SCALES = (1e-12, 1e12)

# Number of rows from which the width of a table is estimated; of a wide table fewer, so that they are so many numbers.
_SAMPLE_ROWS = 1 << 14
_SAMPLE_NUMBERS = 1 << 20
_LEAST_SAMPLE_ROWS = 1 << 9


def readable(X: Rows2D) -> Rows2D:
    """The array itself if kernels can read it as it is, otherwise a contiguous copy."""
    if X.dtype in (np.float32, np.float64) and X.flags.aligned and X.dtype.isnative:
        return X
    return np.ascontiguousarray(X, dtype=np.float32 if X.dtype == np.float32 else np.float64)


def _spread(rows: Rows) -> tuple[Float, Float]:
    """Mean and standard deviation of the columns, (D,) each, from a sample of the rows."""
    if rows.spread is None:
        wanted = min(_SAMPLE_ROWS, max(_SAMPLE_NUMBERS // rows.dims, _LEAST_SAMPLE_ROWS))
        step = max(1, len(rows) // wanted)
        parts = [np.asarray(part[::step], dtype=np.float64) for part in (rows.X, rows.y) if part is not None]
        sample = np.hstack(parts)
        rows.spread = sample.mean(axis=0), sample.std(axis=0)
    return rows.spread


def relative_width(rows: Rows, quadratics: Quadratics, pivot: Float) -> float:
    """Largest width of the table in units of a component's spread; infinity if a scale is outside float32's range.

    The relative rounding error of a whitened row is proportional to it. It is found once for the same quadratics.
    """
    known = rows.width
    if known is None or known[0]() is not quadratics or not np.array_equal(known[1], pivot):
        known = rows.width = weakref.ref(quadratics), pivot, _relative_width(rows, quadratics, pivot)
    return known[2]


def _relative_width(rows: Rows, quadratics: Quadratics, pivot: Float) -> float:
    q = quadratics
    mean, deviation = _spread(rows)
    around = deviation**2 + (mean - pivot) ** 2
    compiled = native is not None and compiled_allowed()
    if compiled and q.form in ("scalar", "diagonal") and not q.shared and q.linear is None:
        largest, least, most = native.elementwise_widths(
            q.factors, q.means, pivot, around, threads_for(q.means.size)
        )
        return _width_within(largest, least, most)
    away = q.elsewhere("factors")
    if away is not None:
        largest, least, most = away.widths(around, q.means - pivot)
        return _width_within(largest, math.sqrt(least), math.sqrt(most))
    width = around + (q.means - pivot) ** 2  # (K, D)
    if q.form in ("scalar", "diagonal"):
        scales = np.abs(q.factors)
        widths = width * (scales[:, None] if q.form == "scalar" else scales) ** 2
    elif q.shared or q.linear is not None or not compiled:
        squares = q.factors**2
        scales = np.sqrt(squares.sum(axis=-1))
        widths = width @ squares[0].T if q.shared else np.matmul(squares, width[:, :, None])[:, :, 0]
    else:
        largest, least, most = native.widths(np.ascontiguousarray(q.factors), width, thread_limit())
        return _width_within(largest, math.sqrt(least), math.sqrt(most))
    largest = float(widths.max())
    if q.linear is not None:
        # The rounding error of a linear term b . x is proportional to its size |b| times the width, too.
        largest = max(largest, float((q.linear**2 * width).sum(axis=1).max()))
        scales = np.append(scales[scales > 0.0], 1.0)  # a scale of 0, with a linear term, is exact
    return _width_within(largest, float(scales.min()), float(scales.max()))


def _width_within(square: float, least: float, most: float) -> float:
    """The root of the largest squared width, where the scales are within float32's range."""
    low, high = _SINGLE_SCALES
    return math.sqrt(square) if low < least and most < high else math.inf


def is_single(rows: Rows) -> bool:
    """Whether all of the table is float32."""
    return rows.X.dtype == np.float32 and (rows.y is None or rows.y.dtype == np.float32)


class CompiledBackend(Backend):
    """Kernels that compute in float32 or float64, and take the moments of kind 'shared' once per table."""

    @property
    def threads(self) -> int:
        """Number of threads for the kernels' driver, where 0 means the limit in force."""
        return 0 if self.n_threads is None else min(self.n_threads, 1 << 16)  # fits a C int

    @abstractmethod
    def _run_expect(
        self, rows: Rows, joint: Joint, kind: Kind, pivot: Float, single: bool
    ) -> tuple[Parts, float]:
        """Masses, first and second moments of each component, and the log-likelihood.

        ``kind`` is not 'shared'. ``single`` asks for float32 arithmetic.
        """

    @abstractmethod
    def _run_accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Parts:
        """Masses, first and second moments of each component; ``kind`` is not 'shared'."""

    def _single_enough(self, rows: Rows, joint: Joint, pivot: Float) -> bool:
        """Whether the rows are float32 and float32 arithmetic about the pivot is accurate enough for them."""
        if self.in_double or not is_single(rows) or joint.hard:
            return False
        return relative_width(rows, joint.quadratics, pivot) <= _SINGLE_WIDTH

    def rounding(self, rows: Rows, joint: Joint, pivot: Float) -> float:
        """See :meth:`mixtura.backends.base.Backend.rounding`."""
        return float(np.finfo(np.float32 if self._single_enough(rows, joint, pivot) else np.float64).eps)

    def accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.accumulate`."""
        layout = LAYOUTS[kind]
        resp = np.ascontiguousarray(resp, dtype=np.float64)
        parts = self._run_accumulate(rows, resp, layout.kernel.name, pivot)
        second = None
        if not layout.own:
            total = np.ascontiguousarray(resp.sum(axis=1, keepdims=True))
            second = self._run_accumulate(rows, total, layout.each.name, pivot)[2][0]
        return Moments.from_parts(kind, pivot, parts, 0.0, len(rows), second)

    def expect(self, rows: Rows, joint: Joint, kind: Kind, pivot: Float) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.expect`; reads the rows once and holds no N x K."""
        layout = LAYOUTS[kind]
        second = None if layout.own else self._scatter(rows, pivot, layout.each)
        single = self._single_enough(rows, joint, pivot)
        parts, log_likelihood = self._run_expect(rows, joint, layout.kernel.name, pivot, single)
        moments = Moments.from_parts(kind, pivot, parts, log_likelihood, len(rows), second)
        if not single or moments.is_finite():
            return moments
        # A square overflowed float32: compute again in float64.
        parts, log_likelihood = self._run_expect(rows, joint, layout.kernel.name, pivot, False)
        return Moments.from_parts(kind, pivot, parts, log_likelihood, len(rows), second)

    def _scatter(self, rows: Rows, pivot: Float, each: Layout) -> Float:
        """Packed sum of w_i (z_i - p)(z_i - p)', once per table and pivot."""
        key = pivot.tobytes()
        if key not in rows.scatter:
            rows.scatter[key] = self.expect(rows, Joint.of_all(pivot), each.name, pivot)
        return np.asarray(rows.scatter[key].second[0])
