"""Local maxima of a mixture's density."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixtura.autodiff import grad_x, hessian_x

if TYPE_CHECKING:
    from mixtura.distributions.mixture import Mixture

Float = NDArray[np.float64]

# Most mean-shift steps, and Newton steps after them, from each mean to a mode.
_SHIFTS, _NEWTON = 1000, 50

# Modes closer than this, in standard deviations of the narrowest component, are one.
_SAME = 1e-4

# A mean that is a saddle or a minimum is left in the directions in which the density rises, by this many deviations.
_PUSH = 1e-2


def modes(mixture: Mixture) -> Float:
    """Maxima to which the density leads uphill from the means, (n, D), the highest first.

    With r the responsibilities at x and A_k the precisions, a mean-shift step goes to
    ``(sum_k r_k A_k)^-1 sum_k r_k A_k m_k``: it is the gradient in another metric, and never lowers the density.

    Parameters
    ----------
    mixture : Mixture
        Without components of weight 0.
    """
    inverse = np.linalg.inv(mixture.choleskys)
    precisions = np.swapaxes(inverse, 1, 2) @ inverse
    narrow = np.sqrt(np.einsum("kij,kij->ki", mixture.choleskys, mixture.choleskys)).min(axis=0)
    x = _newton(mixture, _uphill(mixture, np.array(mixture.means), precisions, narrow), narrow)
    curvature, directions = np.linalg.eigh(_scaled(hessian_x(mixture, x), narrow))
    stuck = curvature[:, -1] >= 0.0
    if stuck.any():  # symmetric mixtures have means at saddles
        push = _PUSH * narrow * directions[stuck, :, -1]
        pushed = np.concatenate([x[stuck] + push, x[stuck] - push])
        x = np.concatenate(
            [x[~stuck], _newton(mixture, _uphill(mixture, pushed, precisions, narrow), narrow)]
        )
    maxima = np.linalg.eigvalsh(_scaled(hessian_x(mixture, x), narrow))[:, -1] < 0.0
    x = x[maxima]
    density = np.atleast_1d(mixture.log_prob(x if mixture.dims > 1 else x[:, 0]))
    found: list[int] = []
    for i in np.argsort(-density, kind="stable"):
        if all(np.any(np.abs(x[i] - x[j]) > _SAME * narrow) for j in found):
            found.append(int(i))
    return np.asarray(x[found])


def _scaled(hessian: Float, narrow: Float) -> Float:
    """Hessians (n, D, D) for x in units of the narrowest component, so that columns of unlike units compare."""
    return hessian * narrow * narrow[:, None]


def _uphill(mixture: Mixture, x: Float, precisions: Float, narrow: Float) -> Float:
    """Mean-shift steps from points (n, D) until they are short."""
    for _ in range(_SHIFTS):
        resp = mixture.responsibilities(x if mixture.dims > 1 else x[:, 0])
        A = np.einsum("nk,kij->nij", resp, precisions)
        step = np.linalg.solve(A, grad_x(mixture, x)[:, :, None])[:, :, 0]
        x = x + step
        if np.all(np.abs(step) <= 1e-9 * narrow):
            break
    return x


def _newton(mixture: Mixture, x: Float, narrow: Float) -> Float:
    """Newton's steps where the density is concave, as long as they are short and do not lower it."""
    for _ in range(_NEWTON):
        H, g = hessian_x(mixture, x), grad_x(mixture, x)
        concave = np.linalg.eigvalsh(_scaled(H, narrow))[:, -1] < 0.0
        step = np.zeros_like(x)
        step[concave] = -np.linalg.solve(H[concave], g[concave][:, :, None])[:, :, 0]
        step[np.any(np.abs(step) > narrow, axis=1)] = 0.0
        x = x + step
        if np.all(np.abs(step) <= 1e-14 * (narrow + np.abs(x))):
            break
    return x
