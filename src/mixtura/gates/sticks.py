"""Mixing weights by breaking a stick: a Dirichlet process, cut off at K components."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, psi

from mixtura.found import Found
from mixtura.gates.base import Gate, state
from mixtura.table import Table

if TYPE_CHECKING:
    from mixtura.interop.graph import Graph

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StickGate(Gate):
    """``pi_k = v_k prod_(j<k) (1 - v_j)`` with ``v_k ~ Beta(1, concentration)``, by variational inference.

    ``q(v_k) = Beta(1 + n_k, concentration + sum_(j>k) n_j)``. Later components get the less, so that those that are not
    needed lose their rows.

    Parameters
    ----------
    concentration : float, default=1
        The larger, the more components have rows.

    Attributes
    ----------
    broken, left : ndarray of shape (K,)
        Parameters of the posterior beta distributions; None before a fit.

    References
    ----------
    Blei, Jordan (2006), Variational inference for Dirichlet process mixtures.

    Examples
    --------
    >>> from mixtura.gates.sticks import StickGate
    >>> StickGate(0.5)
    StickGate(concentration=0.5)
    """

    name: ClassVar[str] = "sticks"

    concentration: float = 1.0
    broken: Float = state()
    left: Float = state()

    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        if not (np.isfinite(self.concentration) and self.concentration > 0.0):
            raise ValueError(f"concentration must be positive and finite, got {self.concentration!r}")
        return replace(self, broken=np.ones(components), left=np.full(components, float(self.concentration)))

    def log_weights(self, block: Table) -> Float:
        """``E log pi``, (K,)."""
        both = psi(self.broken + self.left)
        rest = psi(self.left) - both
        return np.asarray(psi(self.broken) - both + np.concatenate([[0.0], np.cumsum(rest[:-1])]))

    @property
    def bound(self) -> float:
        """``-sum_k KL(q(v_k) || p(v_k))``."""
        a, b, g = self.broken, self.left, float(self.concentration)
        terms = betaln(1.0, g) - betaln(a, b) + (a - 1.0) * psi(a) + (b - g) * psi(b)
        return -float(np.sum(terms + (1.0 - a + g - b) * psi(a + b)))

    def maximize(self, found: Found) -> Self:
        """See the class's text."""
        mass = found.moments.mass
        after = np.concatenate([np.cumsum(mass[::-1])[-2::-1], [0.0]])
        return replace(self, broken=1.0 + mass, left=float(self.concentration) + after)

    @property
    def weights(self) -> Float:
        """Means of the weights, divided by their sum, (K,)."""
        share = self.broken / (self.broken + self.left)
        left = np.concatenate([[1.0], np.cumprod(1.0 - share[:-1])])
        return np.asarray(share * left / np.sum(share * left))

    @property
    def concentrations(self) -> Float:
        """``[broken, left]``, (2, K)."""
        return np.stack([self.broken, self.left])

    def with_concentrations(self, held: Float) -> Self:
        """The gate whose :attr:`concentrations` are these."""
        return replace(self, broken=held[0], left=held[1])

    def log_probabilities(self, block: Table) -> Float:
        """Logarithms of the weights, (K,)."""
        with np.errstate(divide="ignore"):
            return np.log(self.weights)

    def symbolic(self, graph: Graph, rows: str) -> str:
        """See :meth:`Gate.symbolic`."""
        return self._symbolic_constant(graph, rows)

    def n_parameters(self, components: int, dims: int) -> int:
        """K - 1."""
        return components - 1
