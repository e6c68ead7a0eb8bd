"""The cluster centres of k-means: Gaussians in the limit in which their common variance goes to zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.components.base import Components
from mixtura.found import Found
from mixtura.joint import Joint
from mixtura.moments import Kind
from mixtura.quadratics import Form, Quadratics
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Metric:
    """The squared distance ``|F (z - m)|^2`` by which k-means compares rows.

    Parameters
    ----------
    form : {'scalar', 'diagonal', 'triangle', 'rectangle'}
        See :class:`mixtura.quadratics.Quadratics`.
    factor : ndarray
        F, with a first axis of 1.
    """

    form: Form = "scalar"
    factor: Float = field(default_factory=lambda: np.ones(1))

    def applied(self, offsets: Float) -> Float:
        """F times vectors (K, D): (K, R)."""
        if self.form in ("scalar", "diagonal"):
            return np.asarray(offsets * self.factor)
        return np.asarray(offsets @ self.factor[0].T)

    def squared_length(self, offsets: Float) -> float:
        """Sum of the squared lengths of vectors (K, D)."""
        applied = (offsets if self is EUCLIDEAN else self.applied(offsets)).ravel()
        return float(applied @ applied)

    def squared(self, dims: int) -> Float:
        """F'F, (D, D)."""
        factor = self.applied(np.eye(dims)).T
        return np.asarray(factor.T @ factor)


EUCLIDEAN = Metric()


@dataclass(frozen=True)
class Centers(Components):
    """``log p_k(z) = -1/2 |F (z - m_k)|^2``, up to a constant that is the same for all; F is 1 by default.

    With hard assignment and equal weights, EM on these is Lloyd's algorithm, and the log-likelihood is minus
    half the inertia.

    Parameters
    ----------
    means : ndarray of shape (K, D)
    metric : Metric, optional
    """

    kind: ClassVar[Kind] = "mean"

    means: Float
    metric: Metric = EUCLIDEAN

    @property
    def quadratics(self) -> Quadratics:
        """The K quadratics, with one shared factor."""
        return Quadratics(self.metric.form, np.zeros(len(self.means)), self.means, self.metric.factor)

    @property
    def joint(self) -> Joint:
        """The joint that assigns each row to its nearest centre."""
        return Joint(self.quadratics, np.zeros(len(self.means)), hard=True)

    def squared_distances(self, table: Table) -> Float:
        """``|F (z_i - m_k)|^2``, (N, K), computed by the kernels that evaluate Gaussians."""
        distances = table.log_joint(self.joint)
        distances *= -2.0
        return distances

    def nearest(self, table: Table) -> tuple[NDArray[np.int32], Float]:
        """Label of each row's nearest centre and the squared distance to it, (N,) and (N,).

        Raises
        ------
        ValueError
            The squared distances of a row with positive weight to all centres overflow float64.
        """
        labels, density = table.assign(self.joint)
        distances = -2.0 * density
        far = np.flatnonzero(~np.isfinite(distances) & (table.weight > 0.0))
        if len(far):
            raise ValueError(
                f"row {far[0]} of X is so far from every centre that its squared distance cannot be represented "
                f"({len(far)} such rows). Scale the input data, or remove such rows."
            )
        return labels, distances

    def inertia(self, table: Table) -> float:
        """Weighted sum of squared distances to the nearest centre: one pass over the rows."""
        return -2.0 * table.expect(self.joint, "mass").log_likelihood

    def maximize(self, found: Found) -> Centers:
        """Means of the clusters; an empty cluster moves to a row that is far from its centre, as in scikit-learn."""
        moments = found.moments
        if moments.mass.min() > 0.0:
            return self._moved(moments.pivot + moments.first / moments.mass[:, None])
        return self._with_empty_ones_moved(found)

    def _moved(self, means: Float) -> Centers:
        return Centers(means, self.metric)

    def _with_empty_ones_moved(self, found: Found) -> Centers:
        moments, mass, first = found.moments, found.moments.mass.copy(), found.moments.first.copy()
        empty = np.flatnonzero(mass <= 0.0)
        # Only rows of positive weight: a cluster with a row of weight 0 would still be empty.
        table = found.table if found.table.counted is None else found.table.take(found.table.counted)
        labels, distances = self.nearest(table)
        if distances.max() > 0.0:
            far = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1]
            weights = table.weight[far]
            for k, i, weight, point in zip(empty, far, weights, table.points(far), strict=True):
                moved = weight * (point - moments.pivot)
                first[labels[i]] -= moved
                first[k] = moved
                mass[labels[i]] -= weight
                mass[k] = weight
        filled = mass > 0.0
        means = moments.pivot + first / np.where(filled, mass, 1.0)[:, None]
        means[~filled] = means[int(np.argmax(mass))]
        return self._moved(means)
