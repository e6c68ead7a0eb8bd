"""The log-likelihood of rows that come in blocks, as a sum of parabolas: one for each block.

Under parameters theta_t, block t has the log-likelihood

``l_t(theta) ~ l_t + g_t' (theta - theta_t) + (theta - theta_t)' H_t (theta - theta_t) / 2``

with its gradient g_t and Hessian H_t there. The sum over the blocks is a parabola too, and takes P^2 numbers however
many blocks there were. Its maximum is as good as the maximum of the likelihood of all rows, up to terms that vanish
faster, if all theta_t are near that. This is the one-step estimator of Le Cam (1956, On the asymptotic theory of
estimation and testing hypotheses), summed up as the rows come. Averages of EM's statistics get there only where
components hardly overlap: the more information is missing, the longer EM takes to forget where it came from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from mixtura.complete_data import CompleteData
from mixtura.found import Found
from mixtura.likelihood import Likelihood
from mixtura.mixture import Mixture
from mixtura.table import Table

Float = NDArray[np.float64]

# Parameters up to which a parabola is kept; of more, Hessians would take longer than the passes.
_MOST_PARAMETERS = 160

# Rows of a block, for each parameter, whose Hessian stands for that of the block: Hessians are summed over blocks, so
# that few of each will do. The first rows' Hessian stands alone for a while, and where components overlap it is the
# small difference of two matrices: it may take so many multiply-adds, P^2 a row.
_ROWS = 16
_WORK_OF_FIRST = 1 << 28

# A maximum is not trusted if a row's log-likelihood would gain more by it, or if a parameter would move by more, in
# units of a standard deviation or of a factor e: a parabola says little of what is so far away.
_FARTHEST_GAIN = 0.05
_FARTHEST = 0.5


@dataclass(frozen=True, eq=False)
class Expansion:
    """A sum of parabolas.

    Parameters
    ----------
    slope : ndarray of shape (P,)
        Sum of ``g_t - H_t theta_t``.
    curvature : ndarray of shape (P, P)
        Sum of ``H_t``.
    weight : float
        Sum of the rows' weights.
    """

    slope: Float
    curvature: Float
    weight: float

    @classmethod
    def of(
        cls,
        mixture: Mixture[Any, Any],
        found: Found,
        first: bool = False,
        average: Float | None = None,
    ) -> Expansion | None:
        """The parabola of one block, about the parameters of its E-step; None if these have no derivatives.

        Parameters
        ----------
        mixture : Mixture
        found : Found
        first : bool, default=False
            Whether these are the first rows, so that the Hessian is to be that of all or many of them.
        average : ndarray of shape (P, P), optional
            A Hessian per unit of weight that is good enough for this block.
        """
        table = found.table
        if not (mixture.gate.moments_suffice and mixture.likelihood_alone):
            return None
        if table.membership is not None or not isinstance(table.x, np.ndarray):
            return None
        if mixture.components.surface() is not None:
            return None
        try:
            m = mixture.parametric()
        except ValueError:  # a weight of 0, priors, a family without such a form
            return None
        if m.size > _MOST_PARAMETERS or m.kind != found.moments.kind:
            return None
        gradient = CompleteData.from_moments(m, found.moments).gradient(m)
        if average is None:
            some = _some(table, _WORK_OF_FIRST // m.size**2 if first else _ROWS * m.size)
            try:
                _, _, hessian = Likelihood(m, replace(some, backend=some.backend.doubled())).expanded()
            except np.linalg.LinAlgError:
                return None
            average = hessian / some.total_weight
        if not (np.isfinite(gradient).all() and np.isfinite(average).all()):
            return None
        hessian = average * table.total_weight
        return cls(gradient - hessian @ m.theta, hessian, table.total_weight)

    @property
    def average(self) -> Float:
        """The Hessian per unit of weight, (P, P)."""
        return self.curvature / self.weight

    def at_maximum(self, mixture: Mixture[Any, Any]) -> Expansion:
        """A parabola as high as this one, with its maximum at the mixture's parameters."""
        return replace(self, slope=-self.curvature @ mixture.parametric().theta)

    def __add__(self, other: Expansion) -> Expansion:
        return Expansion(
            self.slope + other.slope, self.curvature + other.curvature, self.weight + other.weight
        )

    def __mul__(self, factor: float) -> Expansion:
        return Expansion(self.slope * factor, self.curvature * factor, self.weight * factor)

    def maximum(self, mixture: Mixture[Any, Any]) -> tuple[Mixture[Any, Any], float] | None:
        """The mixture at the parabola's maximum, and what a row's log-likelihood gains; None if it is not trusted.

        Parameters
        ----------
        mixture : Mixture
            Present parameters, from which the maximum must not be far.
        """
        try:
            m = mixture.parametric()
            factor = linalg.cho_factor(-self.curvature, lower=True, check_finite=False)
        except (ValueError, np.linalg.LinAlgError):  # not concave
            return None
        step = linalg.cho_solve(factor, self.slope, check_finite=False) - m.theta
        gain = 0.5 * float(-step @ self.curvature @ step) / self.weight
        if not (gain <= _FARTHEST_GAIN and np.abs(step / m.sizes).max() <= _FARTHEST):
            return None
        moved = mixture.with_parametric(m.at(m.theta + step))
        return (moved, gain) if moved.components.within_bounds else None


def _some(table: Table, rows: int) -> Table:
    """So many rows of a table with positive weight, evenly spread."""
    candidates = np.arange(len(table)) if table.counted is None else table.counted
    if len(candidates) <= rows:
        return table
    return table.take(candidates[np.linspace(0, len(candidates) - 1, rows).astype(np.intp)])
