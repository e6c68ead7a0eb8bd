"""What an E-step finds, and hands to the M-steps of gate and components."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import normalize
from mixtura.joint import Joint
from mixtura.moments import Moments
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Moments of the rows under some parameters, and the objective there.

    Parameters
    ----------
    table : Table
        The rows.
    moments : Moments
        Of the rows z, weighted with the responsibilities, of the kind that the components ask for.
    objective : float
        What EM maximises, summed over the rows, under the parameters of the E-step: the log-likelihood, or, where gate
        or components have priors, its lower bound.
    joint : Joint, optional
        What was evaluated; None where responsibilities were given.
    resp : ndarray of shape (N, K), optional
        The responsibilities, where the gate needs them all.
    given : ndarray of shape (N, K), optional
        What the moments were weighted with, if that is held: the responsibilities, or a draw from them.
    """

    table: Table
    moments: Moments
    objective: float = -np.inf
    joint: Joint | None = None
    resp: Float | None = None
    given: Float | None = None

    def is_finite(self) -> bool:
        """Whether every sum is finite."""
        return bool(np.isfinite(self.objective)) and self.moments.is_finite()

    @cached_property
    def of_covariates(self) -> Moments:
        """The moments of the covariates x alone, for gates."""
        return self.moments.leading(self.table.covariates)

    def weighted_with(self, block: Table) -> Float:
        """What the rows of a block were weighted with, (n, K)."""
        if self.given is not None:
            return self.given[block.cut]
        assert self.joint is not None
        with np.errstate(invalid="ignore"):  # of a row of weight 0 that no component reaches
            return normalize(block.log_joint(self.joint), self.joint.hard)[0]
