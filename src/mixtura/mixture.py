"""A mixture's parameters, gate and components together, and its E- and M-steps on a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixtura.components.gaussian import Covariance, Gaussians
from mixtura.gates.constant import ConstantGate
from mixtura.moments import Kind, Moments
from mixtura.quadratics import Quadratics
from mixtura.table import Table

Float = NDArray[np.float64]

# Relative error of a variance, by rounding about the common pivot, above which it is taken once more: of sums in
# float64 where they lose half their digits, of sums in float32 where they lose most of them.
_LOST, _LOST_IN_SINGLE = 2e-8, 1e-3
_EPS = float(np.finfo(np.float64).eps)

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
        See :class:`mixtura.moments.Moments`.
    floor : float
        Variance below which no digit matters.
    hard : bool, default=False
        Hard assignment.
    """
    arguments = table.rows, quadratics, log_weights
    moments = table.backend.expect(*arguments, kind, table.pivot, table.sample_weight, hard)

    def each(pivots: Float, wanted: NDArray[np.bool_], kind: Kind) -> Moments:
        return table.backend.expect_each(*arguments, kind, pivots, wanted, table.sample_weight, hard)

    return refined(moments, each, floor, table.backend.rounding(table.rows, quadratics, table.pivot, hard))


def moments_of_all(table: Table, kind: Kind) -> Moments:
    """Moments of all rows, as of one component, exact wherever the rows lie."""
    return precise_moments(table, Quadratics.constant(table.pivot), np.zeros(1), kind, 0.0)


Each = Callable[[Float, NDArray[np.bool_], Kind], Moments]


def refined(moments: Moments, each: Each, floor: float = 0.0, eps: float = _EPS) -> Moments:
    """Moments with those of far components taken once more about their own means.

    However many components' spread would drown in rounding about the common pivot, together they cost one more pass
    over the rows. Where a component has no spread at all, all its rows being equal, that pass says so exactly.

    Parameters
    ----------
    moments : Moments
        About one pivot (D,).
    each : callable
        The same moments of wanted components (K,), about pivots (K, D) of their own, of a kind.
    floor : float, default=0
        Variance below which no digit matters.
    eps : float
        Unit of rounding in the moments.
    """
    if not moments.is_finite():
        return moments
    far = moments.cancellation(floor) * eps > (_LOST_IN_SINGLE if eps > _EPS else _LOST)
    layout = moments.layout
    if floor == 0.0 and layout.own:
        far &= moments.mass >= _SINGLE_ROW
    if not far.any():
        return moments
    if not layout.own:  # one sum over all components: all must be taken again
        far[:] = True
    means = moments.means(np.maximum(moments.mass, np.finfo(np.float64).tiny))
    own = each(means, far, layout.each.name).without_rounding()
    return replace(
        moments,
        pivot=np.where(far[:, None], means, moments.pivot),
        first=np.where(far[:, None], own.first, moments.first),
        second=layout.replaced(moments.second, own.second, far),
    )
