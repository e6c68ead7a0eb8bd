"""k-means whole, by the C++ kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixtura import _native
from mixtura.backends.base import Float, Rows
from mixtura.backends.clustering import Clustering, End, Iterated
from mixtura.quadratics import Quadratics


class NativeClustering(Clustering):
    """One call for all seeds, and one for all iterations.

    Parameters
    ----------
    threads : int
        Most threads; 0 is the limit in force.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def seed(
        self,
        rows: Rows,
        point: Quadratics,
        order: NDArray[np.intp],
        components: int,
        trials: int,
        uniforms: Float,
    ) -> NDArray[np.intp]:
        """See :meth:`Clustering.seed`."""
        return _native.seed(
            _native.Table(rows.X, rows.y),
            _native.Quadratics(point.form, point.offsets, point.means, point.factors),
            rows.sample_weight,
            order,
            components,
            trials,
            uniforms,
            self.threads,
        )

    def lloyd(
        self, rows: Rows, centers: Quadratics, pivot: Float, total_weight: float, max_iter: int, tol: float
    ) -> Iterated:
        """See :meth:`Clustering.lloyd`."""
        means, bounds, end = _native.lloyd(
            _native.Table(rows.X, rows.y),
            _native.Quadratics(centers.form, centers.offsets, centers.means, centers.factors),
            pivot,
            rows.sample_weight,
            total_weight,
            max_iter,
            tol,
            self.threads,
        )
        return Iterated(means, bounds, End(end))
