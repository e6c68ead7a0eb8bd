"""k-means whole, by the C++ kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixtura import _native
from mixtura.backends.base import Float, Rows
from mixtura.backends.clustering import (
    CONVERGED,
    FIRST_FAILURE,
    Clustering,
    End,
    Iterated,
    PlainEm,
    Raced,
    Searched,
)
from mixtura.quadratics import Quadratics

# Most iterations of EM that one call makes, about a tenth of a second.
_MOST_ITERATIONS = 500


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

    def searches(
        self,
        rows: Rows,
        point: Quadratics,
        pivot: Float,
        order: NDArray[np.intp],
        components: int,
        trials: int,
        uniforms: Float,
        total_weight: float,
        max_iter: int,
        tol: float,
    ) -> Searched:
        """See :meth:`Clustering.searches`."""
        return Searched(
            *_native.searches(
                _native.Table(rows.X, rows.y),
                _native.Quadratics(point.form, point.offsets, point.means, point.factors),
                pivot,
                rows.sample_weight,
                order,
                components,
                trials,
                uniforms,
                total_weight,
                max_iter,
                tol,
                self.threads,
            )
        )

    def race(
        self,
        rows: Rows,
        labels: NDArray[np.int32],
        components: int,
        how: PlainEm,
    ) -> Raced:
        """See :meth:`Clustering.race`: each run is a group of its own, with a copy of the rows."""
        R, N = labels.shape
        weights, means, covariances, bounds, iterations, outcome = _native.fit_many(
            _native.Table(np.tile(rows.X, (R, 1)), None),
            N * np.arange(R + 1, dtype=np.int64),
            components,
            how.form,
            how.shared,
            how.tol,
            how.reg_covar,
            how.max_iter,
            0,
            np.ascontiguousarray(labels.ravel(), dtype=np.int32),
            None,
            self.threads,
        )
        return Raced(weights, means, covariances, bounds, outcome < FIRST_FAILURE, int(iterations.sum()) + R)

    def advance(
        self,
        rows: Rows,
        start: tuple[Float, Float, Float],
        how: PlainEm,
        labels: NDArray[np.int32] | None = None,
    ) -> tuple[tuple[Float, Float, Float], list[float]] | None:
        """See :meth:`Clustering.advance`."""
        table, bounds = _native.Table(rows.X, None), list[float]()
        while True:  # between calls an interrupt may come
            most = min(how.max_iter - len(bounds), _MOST_ITERATIONS)
            weights, means, covariances, more, outcome = _native.advance(
                table, how.form, how.shared, how.tol, how.reg_covar, most, *start, labels
            )
            if outcome >= FIRST_FAILURE:
                return None
            start, labels = (weights, means, covariances), None
            if outcome == CONVERGED or len(bounds) + len(more) >= how.max_iter:
                return start, [*bounds, *more]
            bounds += more[:-1]  # the next call begins with the last E-step of this one

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
