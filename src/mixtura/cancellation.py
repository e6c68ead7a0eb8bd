"""Moments of components that lie far from the common pivot, taken once more where rounding has eaten their spread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mixtura.joint import Joint
from mixtura.moments import Kind, Moments

Float = NDArray[np.float64]

# Relative error of a variance, by rounding about the common pivot, above which it is taken once more: of sums in
# float64 where they lose half their digits, of sums in float32 where they lose most of them.
_LOST, _LOST_IN_SINGLE = 2e-8, 1e-3
_EPS = float(np.finfo(np.float64).eps)

# Mass up to which a component has a single row. Without regularisation it keeps the spread that a trace of mass at the
# pivot (Moments.kept_mass) gives it: scikit-learn fits such components, and only refuses those of equal rows.
_SINGLE_ROW = 1.5


def is_far(joint: Joint, pivot: Float, floor: float) -> bool:
    """Whether a component that is about to be evaluated lies so far from the pivot that its variance would be lost.

    That is foreseen by its present mean and spread: ``|F_k (m_k - p)|^2 eps`` against what may be lost, and
    ``|m_k - p|^2 eps`` against that share of the variance below which no digit matters. Hard assignment and log-weights
    of the row's own are left to what :func:`refined` finds afterwards.
    """
    if joint.hard or joint.held:
        return False
    q = joint.quadratics
    away = q.means - pivot
    if q.form in ("scalar", "diagonal"):
        spreads = away * (q.factors[:, None] if q.form == "scalar" else q.factors)
    else:
        spreads = np.matmul(q.factors, away[:, :, None])[:, :, 0]
    lost = np.einsum("kr,kr->k", spreads, spreads) * _EPS > _LOST
    return bool(np.any(lost & (np.einsum("kd,kd->k", away, away) * _EPS > _LOST * floor)))


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
    if moments.near_pivot(floor) or not moments.is_finite():
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
