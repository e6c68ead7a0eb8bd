"""Mixing weights that are the same for all rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.found import Found
from mixtura.gates.base import Gate, state
from mixtura.moments import Moments
from mixtura.table import Table

if TYPE_CHECKING:
    from mixtura.interop.graph import Graph

Float = NDArray[np.float64]

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class ConstantGate(Gate):
    """Mixing weights, the same for all rows, by maximum likelihood: ``pi_k(x) = weights_k``.

    Attributes
    ----------
    weights : ndarray of shape (K,)
        Non-negative, summing to 1; None before a fit.
    fixed : ndarray of bool of shape (K,), optional
        Which weights keep their values; the others share what is left.

    Examples
    --------
    >>> from mixtura import ConstantGate, MixtureOfExperts
    >>> MixtureOfExperts(gate=ConstantGate()).gate
    ConstantGate()
    """

    name: ClassVar[str] = "constant"

    weights: Float = state()
    fixed: NDArray[np.bool_] | None = state(saved=False)

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
        return self.sharing(self.from_moments(found.moments).weights)

    def sharing(self, shares: Float) -> Self:
        """The gate with these shares (K,); weights that are fixed stay, and the others share what those leave."""
        if self.fixed is None:
            return replace(self, weights=shares)
        left = max(1.0 - float(self.weights[self.fixed].sum()), 0.0)
        free = np.where(self.fixed, 0.0, shares)
        weights = np.where(self.fixed, self.weights, free * left / max(float(free.sum()), _TINY))
        return replace(self, weights=weights)

    @property
    def likelihood_alone(self) -> bool:
        """See :attr:`Gate.likelihood_alone`."""
        return self.fixed is None

    @property
    def coordinates(self) -> Float:
        """Log pi."""
        return self.log_shares

    def at(self, coordinates: Float, table: Table) -> Self:
        """See :meth:`Gate.at`: any multiple of the weights will do, but fixed ones are kept."""
        weights = np.exp(coordinates - coordinates.max())
        return self.sharing(weights / weights.sum())

    @property
    def log_odds(self) -> Float:
        """See :attr:`Gate.log_odds`."""
        if not np.all(self.weights > 0.0):
            raise ValueError(
                f"the weight of component {int(np.argmin(self.weights))} is 0, on the boundary of its range, where the "
                "log-likelihood has no derivative: fit with fewer components"
            )
        return np.asarray(np.log(self.weights[:-1, None] / self.weights[-1]))

    def with_log_odds(self, log_odds: Float) -> Self:
        """See :meth:`Gate.with_log_odds`."""
        odds = np.append(log_odds[:, 0], 0.0)
        weights = np.exp(odds - odds.max())
        return replace(self, weights=weights / weights.sum())

    def part(self, kept: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """The gate for some of the components, or for all in another order."""
        weights = self.weights[kept]
        fixed = None if self.fixed is None else self.fixed[kept]
        return replace(self, weights=weights / weights.sum(), fixed=fixed)

    def log_probabilities(self, block: Table) -> Float:
        """Log pi, (K,)."""
        return self.log_shares

    def symbolic(self, graph: Graph, rows: str) -> str:
        """See :meth:`Gate.symbolic`."""
        return self._symbolic_constant(graph, rows)

    def n_parameters(self, components: int, dims: int) -> int:
        """K - 1."""
        return components - 1
