"""The result of an E-step, from which the M-steps of gate and components compute new parameters."""

from __future__ import annotations

import math
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
    """The result of an E-step: moments of the rows under the parameters, and the objective.

    Parameters
    ----------
    table : Table
        The rows.
    moments : Moments
        Moments of the rows z, weighted with the responsibilities, of the kind that the components need.
    objective : float
        What EM maximises, summed over the rows, under the parameters of the E-step: the log-likelihood, or, where gate
        or components have priors, its lower bound.
    joint : Joint, optional
        The joint log-densities that were evaluated; None where responsibilities were given.
    resp : ndarray of shape (N, K), optional
        The responsibilities of all rows, where the gate needs them.
    given : ndarray of shape (N, K), optional
        The weights of the rows in the moments, if they are held: the responsibilities, or a draw from them.
    """

    table: Table
    moments: Moments
    objective: float = -np.inf
    joint: Joint | None = None
    resp: Float | None = None
    given: Float | None = None

    def is_finite(self) -> bool:
        """Whether every sum is finite."""
        return math.isfinite(self.objective) and self.moments.is_finite()

    @cached_property
    def of_covariates(self) -> Moments:
        """The moments of the covariates x alone, for gates."""
        return self.moments.leading(self.table.covariates)

    def weighted_with(self, block: Table) -> Float:
        """The weights that the rows of a block had in the moments, (n, K)."""
        if self.given is not None:
            return self.given[block.cut]
        assert self.joint is not None
        with np.errstate(invalid="ignore"):  # a row of weight 0 may have density 0 everywhere
            return normalize(block.log_joint(self.joint), self.joint.hard)[0]
