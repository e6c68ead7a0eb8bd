"""The C++ kernels, one fused pass per iteration on all cores."""

from __future__ import annotations

import numpy as np

from mixtura import _native
from mixtura.backends.base import Backend, Float, Rows, Rows2D
from mixtura.quadratics import Quadratics
from mixtura.statistics import Kind, Moments


def _packed(quadratics: Quadratics) -> _native.Quadratics:
    return _native.Quadratics(quadratics.form, quadratics.offsets, quadratics.means, quadratics.factors)


# Largest width of a table, in spreads of a component along the rows of its factor, at which float32 rows are
# computed with in float32. If all rounding errors were of one sign, a variance would be good to 256^2 float32 eps =
# 0.8% there; they are not, and over n rows it is good to that over the root of n.
_SINGLE_WIDTH = 256.0

# Scales of a component at which no square of its rows leaves the range of float32.
_SINGLE_SCALES = (1e-12, 1e12)

# Rows that tell how wide a table is.
_SAMPLE_ROWS = 1 << 14


def _spread(rows: Rows) -> tuple[Float, Float]:
    """Mean and standard deviation of the columns, (D,) each, from some of the rows."""
    if rows.spread is None:
        step = max(1, len(rows) // _SAMPLE_ROWS)
        parts = [np.asarray(part[::step], dtype=np.float64) for part in (rows.X, rows.y) if part is not None]
        sample = np.hstack(parts)
        rows.spread = sample.mean(axis=0), sample.std(axis=0)
    return rows.spread


def _fits_single(rows: Rows, quadratics: Quadratics, pivot: Float) -> bool:
    """Whether float32 arithmetic about the pivot loses nothing that matters of float32 rows."""
    q = quadratics
    mean, deviation = _spread(rows)
    width = deviation**2 + (mean - pivot) ** 2 + (q.means - pivot) ** 2  # (K, D)
    if q.form in ("scalar", "diagonal"):
        scales = np.abs(q.factors)
        widths = width * (scales[:, None] if q.form == "scalar" else scales) ** 2
    else:
        squares = q.factors**2
        scales = np.sqrt(squares.sum(axis=-1))
        widths = width @ squares[0].T if q.shared else np.matmul(squares, width[:, :, None])[:, :, 0]
    low, high = _SINGLE_SCALES
    return bool(low < scales.min() and scales.max() < high and widths.max() <= _SINGLE_WIDTH**2)


def _readable(X: Rows2D) -> Rows2D:
    """The array itself, if the kernels can read it where it lies."""
    if X.dtype in (np.float32, np.float64) and X.flags.aligned and X.dtype.isnative:
        return X
    return np.ascontiguousarray(X, dtype=np.float32 if X.dtype == np.float32 else np.float64)


def _table(rows: Rows) -> _native.Table:
    return _native.Table(rows.X, rows.y)


def _is_single(rows: Rows) -> bool:
    return rows.X.dtype == np.float32 and (rows.y is None or rows.y.dtype == np.float32)


class NativeBackend(Backend):
    """C++ kernels for x86-64-v2, v3 and v4 (chosen at run time) and plain vectors elsewhere."""

    name = "native"

    def place(self, X: Rows2D, y: Rows2D | None = None) -> Rows:
        """Take the table as it lies, row-major, column-major or strided; only misaligned data are copied."""
        return Rows(_readable(X), None if y is None else _readable(y))

    @property
    def _threads(self) -> int:
        return 0 if self.n_threads is None else min(self.n_threads, 1 << 16)  # fits a C int

    def log_joint(self, rows: Rows, quadratics: Quadratics, log_weights: Float) -> Float:
        """See :meth:`mixtura.backends.base.Backend.log_joint`."""
        pivot = quadratics.center
        return _native.log_joint(_table(rows), _packed(quadratics), log_weights, pivot, self._threads)

    def accumulate(
        self, rows: Rows, resp: Float, kind: Kind, pivot: Float, sample_weight: Float | None = None
    ) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.accumulate`."""
        kernel_kind = "mean" if kind == "shared" else kind
        table, _ = _native.accumulate(
            _table(rows),
            np.ascontiguousarray(resp, dtype=np.float64),
            kernel_kind,
            pivot,
            sample_weight,
            self._threads,
        )
        second = None
        if kind == "shared":
            inside = resp.sum(axis=1) if sample_weight is None else resp.sum(axis=1) * sample_weight
            scatter, _ = _native.accumulate(
                _table(rows),
                np.ones((len(rows), 1)),
                "full",
                pivot,
                np.ascontiguousarray(inside),
                self._threads,
            )
            second = scatter[0, 1 + rows.dims :]
        return Moments.from_table(kind, pivot, table, 0.0, len(rows), second)

    def expect(
        self,
        rows: Rows,
        quadratics: Quadratics,
        log_weights: Float,
        kind: Kind,
        pivot: Float,
        sample_weight: Float | None = None,
        hard: bool = False,
    ) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.expect`; reads the rows once and holds no N x K."""
        second = self._scatter(rows, pivot, sample_weight) if kind == "shared" else None

        def run(single: bool) -> tuple[Float, float]:
            return _native.expect(
                _table(rows),
                _packed(quadratics),
                np.ascontiguousarray(log_weights, dtype=np.float64),
                "mean" if kind == "shared" else kind,
                pivot,
                sample_weight,
                hard,
                single,
                self._threads,
            )

        single = _is_single(rows) and not hard and _fits_single(rows, quadratics, pivot)
        table, log_likelihood = run(single)
        if single and not (np.isfinite(log_likelihood) and np.isfinite(table).all()):
            table, log_likelihood = run(False)  # a row whose square only float64 holds
        return Moments.from_table(kind, pivot, table, log_likelihood, len(rows), second)

    def _scatter(self, rows: Rows, pivot: Float, sample_weight: Float | None) -> Float:
        """Packed sum of w_i (z_i - p)(z_i - p)', once per table, pivot and weights."""
        key = (pivot.tobytes(), id(sample_weight))
        if key not in rows.scatter:
            one = Quadratics("scalar", np.zeros(1), pivot[None], np.zeros(1))
            rows.scatter[key] = (
                sample_weight,
                self.expect(rows, one, np.zeros(1), "full", pivot, sample_weight),
            )
        _, moments = rows.scatter[key]
        return np.asarray(moments.second[0])
