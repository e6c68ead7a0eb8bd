"""Derivatives of a mixture's log-density at rows, by the C++ kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixtura import _native
from mixtura.backends.base import Rows
from mixtura.backends.compiled import readable
from mixtura.backends.derivatives import Adjoints, Derivatives
from mixtura.parametric import ParametricMixture

Float = NDArray[np.float64]


def _packed(m: ParametricMixture) -> _native.Parametric:
    return _native.Parametric(
        m.components, m.covariates, m.targets, m.intercept, m.softmax, m.shared, m.form, m.theta
    )


def _table(rows: Rows) -> _native.Table:
    return _native.Table(readable(rows.X), None if rows.y is None else readable(rows.y))


class NativeDerivatives(Derivatives):
    """Reverse mode by adjoint kernels, forward mode by one template over the type of number."""

    def adjoints(
        self,
        mixture: ParametricMixture,
        rows: Rows,
        *,
        resp: bool = False,
        scores: bool = False,
        gradient: bool = False,
        hessian: bool = False,
    ) -> Adjoints:
        """See :meth:`Derivatives.adjoints`."""
        answers = _native.adjoint(
            _table(rows), _packed(mixture), resp, scores, gradient, hessian, self.n_threads
        )
        return Adjoints(*answers)

    def tangent(self, mixture: ParametricMixture, rows: Rows, direction: Float) -> tuple[Float, Float]:
        """See :meth:`Derivatives.tangent`."""
        return _native.tangent(_table(rows), _packed(mixture), direction, self.n_threads)

    def forward_rows(self, mixture: ParametricMixture, rows: Rows) -> tuple[Float, Float, Float]:
        """See :meth:`Derivatives.forward_rows`."""
        return _native.forward_rows(_table(rows), _packed(mixture), self.n_threads)

    def forward_sums(
        self, mixture: ParametricMixture, rows: Rows, sample_weight: Float | None
    ) -> tuple[float, Float, Float]:
        """See :meth:`Derivatives.forward_sums`."""
        weight = None if sample_weight is None else np.ascontiguousarray(sample_weight, dtype=np.float64)
        return _native.forward_sums(_table(rows), _packed(mixture), weight, self.n_threads)
