"""Moments of components that lie far from the common pivot: recomputed where rounding has spoilt their variances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mixtura.joint import Joint
from mixtura.moments import Kind, Moments

Float = NDArray[np.float64]

# Largest relative rounding error of a variance about the common pivot, by a bound that holds for the worst signs of the
# errors, above which it is recomputed: for sums in float64, and for sums in float32.
LOST, _LOST_IN_SINGLE = 2e-7, 1e-3
_EPS = float(np.finfo(np.float64).eps)

# Mass below which a component is taken to have a single row. Without regularisation its variance is left as it
# is: the small mass at the pivot that Moments.kept_mass adds makes it positive. scikit-learn also fits such components,
# and only refuses components of several equal rows.
_SINGLE_ROW = 1.5


def is_far(joint: Joint, pivot: Float, floor: float, permitted: float = LOST) -> bool:
    """Whether a component that is about to be evaluated lies so far from the pivot that its variance would be lost.

    This is predicted from its present mean and spread: it is far if ``|F_k (m_k - p)|^2 eps`` exceeds the permitted
    loss, and ``|m_k - p|^2 eps`` exceeds that loss times ``floor``, the variance below which no digit matters. It is
    false for hard assignment and for log-weights computed row by row, where :func:`refined` checks afterwards.
    """
    if joint.hard or joint.held:
        return False
    return joint.quadratics.any_far(pivot, permitted / _EPS, permitted * floor / _EPS)


Each = Callable[[Float, NDArray[np.bool_], Kind], Moments]


def refined(
    moments: Moments,
    each: Each,
    floor: float = 0.0,
    eps: float = _EPS,
    permitted: float = LOST,
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
    closely : bool, default=True
        Whether variances along other directions than the columns are looked at.
    """
    if moments.near_pivot(floor) or not moments.is_finite():
        return moments
    most = (_LOST_IN_SINGLE if eps > _EPS else permitted) / eps
    far = moments.cancellation(floor, most, closely) > most
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
