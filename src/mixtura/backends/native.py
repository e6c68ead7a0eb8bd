"""The C++ kernels, one fused pass per iteration on all cores."""

from __future__ import annotations

import numpy as np

from mixtura import _native
from mixtura.backends.base import Backend, Float, Rows, Rows2D
from mixtura.quadratics import Quadratics
from mixtura.statistics import Kind, Moments


def _packed(quadratics: Quadratics) -> _native.Quadratics:
    return _native.Quadratics(quadratics.form, quadratics.offsets, quadratics.means, quadratics.factors)


class NativeBackend(Backend):
    """C++ kernels for x86-64-v2, v3 and v4 (chosen at run time) and plain vectors elsewhere."""

    name = "native"

    def place(self, X: Rows2D) -> Rows:
        """Take the table as it lies, row-major, column-major or strided; only misaligned data are copied."""
        if X.dtype not in (np.float32, np.float64) or not X.flags.aligned or not X.dtype.isnative:
            X = np.ascontiguousarray(X, dtype=np.float32 if X.dtype == np.float32 else np.float64)
        return Rows(X)

    @property
    def _threads(self) -> int:
        return 0 if self.n_threads is None else min(self.n_threads, 1 << 16)  # fits a C int

    def log_joint(self, rows: Rows, quadratics: Quadratics, log_weights: Float) -> Float:
        """See :meth:`mixtura.backends.base.Backend.log_joint`."""
        pivot = quadratics.center
        return _native.log_joint(rows.X, _packed(quadratics), log_weights, pivot, self._threads)

    def accumulate(
        self, rows: Rows, resp: Float, kind: Kind, pivot: Float, sample_weight: Float | None = None
    ) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.accumulate`."""
        kernel_kind = "mean" if kind == "shared" else kind
        table, _ = _native.accumulate(
            rows.X,
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
                rows.X, np.ones((len(rows), 1)), "full", pivot, np.ascontiguousarray(inside), self._threads
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
        table, log_likelihood = _native.expect(
            rows.X,
            _packed(quadratics),
            np.ascontiguousarray(log_weights, dtype=np.float64),
            "mean" if kind == "shared" else kind,
            pivot,
            sample_weight,
            hard,
            self._threads,
        )
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
