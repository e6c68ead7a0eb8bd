"""A mixture that loses the components that become singular."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.found import Found
from mixtura.mixture import Mixture
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Shrinking(Mixture[Any, Any]):
    """A mixture whose M-step leaves out components that would be singular, as long as one is left.

    Parameters
    ----------
    scale : ndarray
        Covariance of the whole table, in the shape in which one component keeps its own. Beside it a component is
        singular or not.
    reg_covar : float or ndarray of shape (D,)
        What is added to the variances before that is decided.
    kept : ndarray of bool
        Which of the components at the start are left.
    """

    scale: Float = None  # type: ignore[assignment]
    reg_covar: float | Float = 0.0
    kept: NDArray[np.bool_] = None  # type: ignore[assignment]

    def expect(self, table: Table, rng: np.random.RandomState | None = None) -> Found:
        """The E-step: see :meth:`Mixture.expect`."""
        if table.membership is not None and not self.kept.all():
            table = replace(table, membership=table.membership.part(self.kept))
        return super().expect(table, rng)

    def maximize(self, found: Found) -> Self:
        """The M-step of the components that are not singular."""
        lost = self.components.singular(found.moments, self.scale, self.reg_covar)
        gaussians = lost[: int(self.kept.sum())]
        if gaussians.all():
            gaussians[int(np.argmax(found.moments.mass[: len(gaussians)]))] = False
        if not lost.any():
            return super().maximize(found)
        still = self.kept.copy()
        still[np.flatnonzero(self.kept)[gaussians]] = False
        rest = replace(self, gate=self.gate.part(~lost), components=self.components.part(~lost), kept=still)
        moments = found.moments.part(~lost)
        if len(moments.mass) == 1 and self.kept.sum() > 1:  # all rows are those of the only one that is left
            moments = found.table.moments(self.components.kind)
        return Mixture.maximize(rest, replace(found, moments=moments))
