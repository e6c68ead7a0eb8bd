"""Moments of components that lie far from the common pivot: recomputed where rounding has spoilt their variances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixtura.joint import Joint
from mixtura.moments import Kind, Moments

Float = NDArray[np.float64]

# Largest relative rounding error of a variance about the common pivot, by a bound that holds for the worst signs of the
# errors, above which it is recomputed: for sums in float64, and for sums in float32.
LOST, _LOST_IN_SINGLE = 2e-7, 1e-3
_EPS = float(np.finfo(np.float64).eps)

# Ratio of a variance to what an iteration makes of it from which on that is sudden.
_SUDDEN = 1e4

# Mass below which a component is taken to have a single row. Without regularisation its variance is left as it
# is: the small mass at the pivot that Moments.kept_mass adds makes it positive. scikit-learn also fits such components,
# and only refuses components of several equal rows.
_SINGLE_ROW = 1.5


@dataclass(frozen=True)
class Predicted:
    """How far components that are about to be evaluated lie from the pivot, in their present spreads.

    Parameters
    ----------
    squares : ndarray of shape (K,)
        ``|F_k (m_k - p)|^2``: the factor by which rounding errors are magnified along the worst direction.
    lengths : ndarray of shape (K,)
        ``|m_k - p|^2``.
    """

    squares: Float
    lengths: Float

    @classmethod
    def of(cls, joint: Joint, pivot: Float) -> Predicted | None:
        """None for hard assignment and for log-weights computed row by row."""
        if joint.hard or joint.held:
            return None
        q = joint.quadratics
        away = q.means - pivot
        if q.form in ("scalar", "diagonal"):
            spreads = away * (q.factors[:, None] if q.form == "scalar" else q.factors)
        else:
            spreads = np.matmul(q.factors, away[:, :, None])[:, :, 0]
        return cls(np.einsum("kr,kr->k", spreads, spreads), np.einsum("kd,kd->k", away, away))

    def lost(self, floor: float, permitted: float = LOST) -> bool:
        """Whether a component's variance would be lost about the pivot.

        It would if the factor times eps exceeds the permitted loss, and ``|m_k - p|^2 eps`` exceeds that loss times
        ``floor``, the variance below which no digit matters.
        """
        if not self.squares.max() * _EPS > permitted:
            return False
        far = (self.squares * _EPS > permitted) & (self.lengths * _EPS > permitted * floor)
        return bool(far.any())

    def calm(self, eps: float = _EPS, permitted: float = LOST) -> NDArray[np.bool_]:
        """Components (K,) of which nothing is lost unless they become 10^4 times narrower in this very iteration."""
        return self.squares * eps < _most(eps, permitted) / _SUDDEN


def _most(eps: float, permitted: float) -> float:
    """The loss that is permitted where the unit of rounding is ``eps``."""
    return _LOST_IN_SINGLE if eps > _EPS else permitted


Each = Callable[[Float, NDArray[np.bool_], Kind], Moments]


def refined(
    moments: Moments,
    each: Each,
    floor: float = 0.0,
    eps: float = _EPS,
    permitted: float = LOST,
    predicted: Predicted | None = None,
    closely: bool = True,
) -> Moments:
    """Moments in which those of far components are recomputed about the components' own means.

    However many components that is, ``each`` is called once. Where all rows of a component are equal, the result is a
    variance of exactly 0.

    Parameters
    ----------
    moments : Moments
        Moments about one pivot (D,).
    each : callable
        ``each(pivots, wanted, kind)``: moments of the wanted components (K,), each about its own pivot (K, D).
    floor : float, default=0
        Variance below which no digit matters.
    eps : float
        Unit of rounding in the moments.
    permitted : float
        Relative error of a variance that is permitted in sums in float64.
    predicted : Predicted, optional
        Of the components that were evaluated; those that were calm need no close look.
    closely : bool, default=True
        Whether variances along other directions than the columns are looked at.
    """
    if moments.near_pivot(floor) or not moments.is_finite():
        return moments
    calm = None if predicted is None else predicted.calm(eps, permitted)
    calm = calm if closely else np.ones(len(moments.mass), dtype=bool)
    far = moments.cancellation(floor, calm) * eps > _most(eps, permitted)
    layout = moments.layout
    if floor == 0.0 and layout.own:
        far &= moments.mass >= _SINGLE_ROW
    if not far.any():
        return moments
    if not layout.own:  # one sum over all components, so all must be recomputed
        far[:] = True
    means = moments.means(np.maximum(moments.mass, np.finfo(np.float64).tiny))
    recomputed = each(means, far, layout.each.name).without_rounding()
    return replace(
        moments,
        pivot=np.where(far[:, None], means, moments.pivot),
        first=np.where(far[:, None], recomputed.first, moments.first),
        second=layout.replaced(moments.second, recomputed.second, far),
    )
