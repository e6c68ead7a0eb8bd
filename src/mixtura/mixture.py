"""A mixture's parameters, gate and components together, and its E- and M-steps on a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import Backend, Rows
from mixtura.components.gaussian import Covariance, Gaussians
from mixtura.gates.constant import MASS_FLOOR, ConstantGate
from mixtura.quadratics import Quadratics
from mixtura.statistics import Kind, Moments

Float = NDArray[np.float64]

# Largest (distance from the pivot / spread)^2 at which a component's covariance is taken from moments about
# the common pivot: its relative error there is about 1e8 eps = 2e-8.
_CANCELLATION = 1e8

# Rows whose mean is the pivot: enough to be well inside the data.
_PIVOT_ROWS = 1 << 12


@dataclass(frozen=True)
class Table:
    """Rows placed with a backend, their weights, and the pivot that their moments are taken about."""

    backend: Backend
    rows: Rows
    pivot: Float
    sample_weight: Float | None = None

    @classmethod
    def of(cls, backend: Backend, X: NDArray[np.floating], sample_weight: Float | None = None) -> Table:
        """Place an array (N, D)."""
        step = max(1, len(X) // _PIVOT_ROWS)
        if sample_weight is None or sample_weight.all():
            sample = np.asarray(X[::step])
        else:
            sample = np.asarray(X[np.flatnonzero(sample_weight)[::step]])
        with np.errstate(over="ignore", invalid="ignore"):
            pivot = sample.mean(axis=0, dtype=np.float64)
        # A sum may overflow, and the mean of equal numbers need not be that number: then nothing would cancel.
        pivot = np.clip(pivot, sample.min(axis=0), sample.max(axis=0))
        return cls(backend, backend.place(X), pivot, sample_weight)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total_weight(self) -> float:
        """Sum of the weights; N without."""
        return float(len(self)) if self.sample_weight is None else float(self.sample_weight.sum())

    def take(self, indices: NDArray[np.intp]) -> Table:
        """A table of some of the rows, copied."""
        weights = None if self.sample_weight is None else self.sample_weight[indices]
        return Table(self.backend, self.backend.place(self.rows.X[indices]), self.pivot, weights)


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
            table, self.components.quadratics, self.gate.log_weights, self.components.kind, reg_covar
        )


def precise_moments(
    table: Table, quadratics: Quadratics, log_weights: Float, kind: Kind, floor: float, hard: bool = False
) -> Moments:
    """Moments of a table, good to about 8 digits however far apart the components lie.

    One pass over the rows about the table's pivot. A component whose spread would drown in rounding there has
    its moments taken once more about its own mean: one more pass for each such component.

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

    moments = about(table.pivot, kind)
    if not moments.is_finite():
        return moments
    far = np.flatnonzero(moments.cancellation(floor) > _CANCELLATION)
    if not len(far):
        return moments
    shared = kind == "shared"  # its second moment is one sum over all components: all must be taken again
    K = quadratics.components
    means = moments.means(np.maximum(moments.mass, MASS_FLOOR))
    pivot, first, second = np.tile(table.pivot, (K, 1)), moments.first.copy(), moments.second.copy()
    if shared:
        second = np.zeros_like(second)
    for k in range(K) if shared else far.tolist():
        own = about(means[k], "full" if shared else kind)
        if not shared and _collapsed(own, k):
            continue
        pivot[k], first[k] = means[k], own.first[k]
        if shared:
            second += own.second[k]
        else:
            second[k] = own.second[k]
    return replace(moments, pivot=pivot, first=first, second=second)


def _collapsed(own: Moments, k: int) -> bool:
    """Whether component k has no spread about its own mean that float64 could resolve: nothing is to be gained."""
    spread, _ = own.squares()
    resolution = 4.0 * np.finfo(np.float64).eps * np.abs(own.pivot)
    return bool(np.all(spread[k] <= resolution**2))
