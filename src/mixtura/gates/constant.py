"""Mixing weights that do not look at the row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtura.statistics import Moments

Float = NDArray[np.float64]

# Keeps the mass of an empty component positive, as scikit-learn does: its weight is then 1e-15 / N, not 0.
MASS_FLOOR = 10 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class ConstantGate:
    """``pi_k(x) = weights_k``.

    Parameters
    ----------
    weights : ndarray of shape (K,)
        Non-negative, summing to 1.
    """

    weights: Float

    @property
    def log_weights(self) -> Float:
        """Log pi, (K,); minus infinity for a weight of 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.weights)

    @classmethod
    def from_moments(cls, moments: Moments) -> ConstantGate:
        """Maximum likelihood: each component's share of the mass."""
        mass = moments.mass + MASS_FLOOR
        return cls(mass / mass.sum())
