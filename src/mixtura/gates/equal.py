"""Equal weights: components differ only in their densities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.found import Found
from mixtura.gates.base import Gate, state
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EqualGate(Gate):
    """The same weight for every component, which is not learnt: the gate of k-means.

    Attributes
    ----------
    components : int
        K; None before a fit.
    """

    name: ClassVar[str] = "equal"

    components: int = state()

    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        return replace(self, components=components)

    def log_weights(self, block: Table) -> Float:
        """Zeros, (K,)."""
        return np.zeros(self.components)

    def maximize(self, found: Found) -> Self:
        """The same gate: there is nothing to learn."""
        return self

    def log_probabilities(self, block: Table) -> Float:
        """``-log K``, (K,)."""
        return np.full(self.components, -np.log(self.components))

    def n_parameters(self, components: int, dims: int) -> int:
        """0: there are no free parameters."""
        return 0
