"""Mixing weights that are the same for all rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.found import Found
from mixtura.gates.base import Gate, state
from mixtura.moments import Moments
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ConstantGate(Gate):
    """Mixing weights, the same for all rows, by maximum likelihood: ``pi_k(x) = weights_k``.

    Attributes
    ----------
    weights : ndarray of shape (K,)
        Non-negative, summing to 1; None before a fit.

    Examples
    --------
    >>> from mixtura import ConstantGate, MixtureOfExperts
    >>> MixtureOfExperts(gate=ConstantGate()).gate
    ConstantGate()
    """

    name: ClassVar[str] = "constant"

    weights: Float = state()

    @property
    def log_shares(self) -> Float:
        """Log pi, (K,); minus infinity for a weight of 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.weights)

    @classmethod
    def from_moments(cls, moments: Moments) -> ConstantGate:
        """Maximum likelihood: each component's share of the mass."""
        mass = moments.kept_mass()
        return cls(weights=mass / mass.sum())

    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        return replace(self, weights=np.full(components, 1.0 / components))

    def log_weights(self, block: Table) -> Float:
        """Log pi, (K,)."""
        return self.log_shares

    def maximize(self, found: Found) -> Self:
        """Each component's share of the mass."""
        return replace(self, weights=self.from_moments(found.moments).weights)

    def log_probabilities(self, block: Table) -> Float:
        """Log pi, (K,)."""
        return self.log_shares

    def n_parameters(self, components: int, dims: int) -> int:
        """K - 1."""
        return components - 1
