"""A mixture's parameters, gate and components together, and its E- and M-steps on a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixtura.components.gaussian import Covariance, Gaussians
from mixtura.gates.constant import ConstantGate
from mixtura.quadratics import Quadratics
from mixtura.statistics import Kind, Moments
from mixtura.table import Table

Float = NDArray[np.float64]

# Largest (distance from the pivot / spread)^2 at which a component's covariance is taken from moments about
# the common pivot: its relative error there is about 1e8 eps = 2e-8.
_CANCELLATION = 1e8

# Mass up to which a component has a single row. Without regularisation it keeps the spread that a trace of mass at the
# pivot (Moments.kept_mass) gives it: scikit-learn fits such components, and only refuses those of equal rows.
_SINGLE_ROW = 1.5


@dataclass(frozen=True)
class GaussianMixtureParameters:
    """Parameters of a Gaussian mixture, in float64.

    Parameters
    ----------
    gate : ConstantGate
    components : Gaussians
    """

    gate: ConstantGate
    components: Gaussians

    @classmethod
    def from_moments(
        cls, covariance: Covariance, moments: Moments, reg_covar: float
    ) -> GaussianMixtureParameters:
        """The M-step."""
        return cls(ConstantGate.from_moments(moments), Gaussians.from_moments(covariance, moments, reg_covar))

    def expect(self, table: Table, reg_covar: float = 0.0) -> Moments:
        """The E-step: moments of the table under these parameters.

        Parameters
        ----------
        table : Table
        reg_covar : float, default=0
            What the M-step will add to the variances: below it, no digit of them matters.
        """
        return precise_moments(
            table, self.components.quadratics, self.gate.log_shares, self.components.kind, reg_covar
        )


def precise_moments(
    table: Table, quadratics: Quadratics, log_weights: Float, kind: Kind, floor: float, hard: bool = False
) -> Moments:
    """Moments of a table, good to about 8 digits however far apart the components lie: see :func:`refined`.

    Parameters
    ----------
    table : Table
    quadratics : Quadratics
    log_weights : ndarray of shape (K,)
    kind : str
        See :class:`mixtura.statistics.Moments`.
    floor : float
        Variance below which no digit matters.
    hard : bool, default=False
        Hard assignment.
    """

    def about(pivot: Float, kind: Kind) -> Moments:
        return table.backend.expect(
            table.rows, quadratics, log_weights, kind, pivot, table.sample_weight, hard
        )

    return refined(about(table.pivot, kind), about, floor)


def moments_of_all(table: Table, kind: Kind) -> Moments:
    """Moments of all rows, as of one component, exact wherever the rows lie."""
    return precise_moments(table, Quadratics.constant(table.pivot), np.zeros(1), kind, 0.0)


def refined(moments: Moments, about: Callable[[Float, Kind], Moments], floor: float = 0.0) -> Moments:
    """Moments with those of far components taken once more about their own means.

    A component whose spread would drown in rounding about the common pivot costs one more pass over the rows. Where
    it has no spread at all, all its rows being equal, that pass says so exactly.

    Parameters
    ----------
    moments : Moments
        About one pivot (D,).
    about : callable
        The same moments about a pivot (D,), of a kind.
    floor : float, default=0
        Variance below which no digit matters.
    """
    if not moments.is_finite():
        return moments
    far = np.flatnonzero(moments.cancellation(floor) > _CANCELLATION)
    if not len(far):
        return moments
    kind = moments.kind
    shared = kind == "shared"  # its second moment is one sum over all components: all must be taken again
    K = len(moments.mass)
    means = moments.means(np.maximum(moments.mass, np.finfo(np.float64).tiny))
    pivot, first, second = np.tile(moments.pivot, (K, 1)), moments.first.copy(), moments.second.copy()
    if shared:
        second = np.zeros_like(second)
    for k in range(K) if shared else far.tolist():
        if floor == 0.0 and moments.mass[k] < _SINGLE_ROW and not shared:
            continue
        own = about(means[k], "full" if shared else kind).without_rounding()
        pivot[k], first[k] = means[k], own.first[k]
        if shared:
            second += own.second[k]
        else:
            second[k] = own.second[k]
    return replace(moments, pivot=pivot, first=first, second=second)
