"""The C++ kernels: one fused pass per iteration, on all cores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixtura import _native
from mixtura.backends.base import Float, Rows, Rows2D
from mixtura.backends.clustering import Clustering
from mixtura.backends.compiled import CompiledBackend, readable
from mixtura.backends.derivatives import Derivatives
from mixtura.backends.native_clustering import NativeClustering
from mixtura.backends.native_derivatives import NativeDerivatives
from mixtura.joint import Joint
from mixtura.moments import Kind, Moments, Parts, parts_of
from mixtura.quadratics import Quadratics


def _packed(quadratics: Quadratics) -> _native.Quadratics:
    q = quadratics
    return _native.Quadratics(q.form, q.offsets, q.means, q.factors, q.linear)


def _table(rows: Rows) -> _native.Table:
    return _native.Table(rows.X, rows.y)


class NativeBackend(CompiledBackend):
    """C++ kernels for x86-64-v2, v3 and v4 (chosen at run time) and plain vectors elsewhere."""

    name = "native"
    summary = "C++ kernels"
    each_in_one_pass = True

    def place(self, X: Rows2D, y: Rows2D | None = None, sample_weight: Float | None = None) -> Rows:
        """Take the table without a copy, row-major, column-major or strided; only misaligned data are copied."""
        return Rows(readable(X), None if y is None else readable(y), sample_weight)

    def clustering(self, rows: Rows) -> Clustering:
        """See :meth:`mixtura.backends.base.Backend.clustering`."""
        return NativeClustering(self.threads)

    def derivatives(self) -> Derivatives:
        """See :meth:`mixtura.backends.base.Backend.derivatives`."""
        return NativeDerivatives(self.threads)

    def log_joint(self, rows: Rows, joint: Joint) -> Float:
        """See :meth:`mixtura.backends.base.Backend.log_joint`."""
        q = joint.quadratics
        return _native.log_joint(_table(rows), _packed(q), joint.log_weights, q.center, self.threads)

    def expect_each(
        self, rows: Rows, joint: Joint, kind: Kind, pivots: Float, wanted: NDArray[np.bool_]
    ) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.expect_each`; one pass, in float64."""
        q = joint.quadratics
        statistics, log_likelihood = _native.expect_each(
            _table(rows),
            _packed(q),
            joint.log_weights,
            kind,
            q.center,
            pivots,
            wanted,
            rows.sample_weight,
            joint.hard,
            self.threads,
        )
        return Moments.from_table(kind, pivots, statistics, log_likelihood, len(rows))

    def assign(self, rows: Rows, joint: Joint) -> tuple[NDArray[np.int32], Float]:
        """See :meth:`mixtura.backends.base.Backend.assign`."""
        q = joint.quadratics
        return _native.assign(_table(rows), _packed(q), joint.log_weights, q.center, self.threads)

    def posterior(self, rows: Rows, joint: Joint, resp: NDArray[np.floating] | None = None) -> Float:
        """See :meth:`mixtura.backends.base.Backend.posterior`."""
        q = joint.quadratics
        return _native.posterior(_table(rows), _packed(q), joint.log_weights, q.center, resp, self.threads)

    def average(
        self, rows: Rows, resp: Float, slopes: Float, levels: Float, variances: Float
    ) -> tuple[Float, Float]:
        """See :meth:`mixtura.backends.base.Backend.average`."""
        return _native.average(_table(rows), resp, slopes, levels, variances, self.threads)

    def _run_expect(
        self, rows: Rows, joint: Joint, kind: Kind, pivot: Float, single: bool
    ) -> tuple[Parts, float]:
        statistics, log_likelihood = _native.expect(
            _table(rows),
            _packed(joint.quadratics),
            joint.log_weights,
            kind,
            pivot,
            rows.sample_weight,
            joint.hard,
            single,
            self.threads,
        )
        return parts_of(kind, rows.dims, statistics), log_likelihood

    def _run_accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Parts:
        statistics, _ = _native.accumulate(_table(rows), resp, kind, pivot, rows.sample_weight, self.threads)
        return parts_of(kind, rows.dims, statistics)
