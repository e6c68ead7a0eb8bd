"""The C++ kernels, one fused pass per iteration on all cores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixtura import _native
from mixtura.backends.base import Float, Rows, Rows2D
from mixtura.backends.compiled import CompiledBackend, readable
from mixtura.moments import Kind, Moments
from mixtura.quadratics import Quadratics


def _packed(quadratics: Quadratics) -> _native.Quadratics:
    return _native.Quadratics(quadratics.form, quadratics.offsets, quadratics.means, quadratics.factors)


def _table(rows: Rows) -> _native.Table:
    return _native.Table(rows.X, rows.y)


class NativeBackend(CompiledBackend):
    """C++ kernels for x86-64-v2, v3 and v4 (chosen at run time) and plain vectors elsewhere."""

    name = "native"
    summary = "C++ kernels"

    def place(self, X: Rows2D, y: Rows2D | None = None) -> Rows:
        """Take the table as it lies, row-major, column-major or strided; only misaligned data are copied."""
        return Rows(readable(X), None if y is None else readable(y))

    def log_joint(self, rows: Rows, quadratics: Quadratics, log_weights: Float) -> Float:
        """See :meth:`mixtura.backends.base.Backend.log_joint`."""
        return _native.log_joint(
            _table(rows), _packed(quadratics), log_weights, quadratics.center, self.threads
        )

    def expect_each(
        self,
        rows: Rows,
        quadratics: Quadratics,
        log_weights: Float,
        kind: Kind,
        pivots: Float,
        wanted: NDArray[np.bool_],
        sample_weight: Float | None = None,
        hard: bool = False,
    ) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.expect_each`; one pass, in float64."""
        table, log_likelihood = _native.expect_each(
            _table(rows),
            _packed(quadratics),
            np.ascontiguousarray(log_weights, dtype=np.float64),
            kind,
            quadratics.center,
            pivots,
            wanted,
            sample_weight,
            hard,
            self.threads,
        )
        return Moments.from_table(kind, pivots, table, log_likelihood, len(rows))

    def assign(
        self, rows: Rows, quadratics: Quadratics, log_weights: Float
    ) -> tuple[NDArray[np.int32], Float]:
        """See :meth:`mixtura.backends.base.Backend.assign`."""
        return _native.assign(_table(rows), _packed(quadratics), log_weights, quadratics.center, self.threads)

    def posterior(
        self,
        rows: Rows,
        quadratics: Quadratics,
        log_weights: Float,
        resp: NDArray[np.floating] | None = None,
    ) -> Float:
        """See :meth:`mixtura.backends.base.Backend.posterior`."""
        return _native.posterior(
            _table(rows), _packed(quadratics), log_weights, quadratics.center, resp, self.threads
        )

    def _run_expect(
        self,
        rows: Rows,
        quadratics: Quadratics,
        log_weights: Float,
        kind: Kind,
        pivot: Float,
        sample_weight: Float | None,
        hard: bool,
        single: bool,
    ) -> tuple[Float, float]:
        return _native.expect(
            _table(rows),
            _packed(quadratics),
            log_weights,
            kind,
            pivot,
            sample_weight,
            hard,
            single,
            self.threads,
        )

    def _run_accumulate(
        self, rows: Rows, resp: Float, kind: Kind, pivot: Float, sample_weight: Float | None
    ) -> Float:
        table, _ = _native.accumulate(_table(rows), resp, kind, pivot, sample_weight, self.threads)
        return table
