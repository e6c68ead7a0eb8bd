"""A covariance, a component and a gate of one's own: the file that docs/extending.md explains."""

from dataclasses import dataclass, replace

import numpy as np

from mixtura.extension import (
    Component,
    Covariance,
    Diagonals,
    Gate,
    Quadratics,
    register_component,
    register_covariance,
    register_gate,
    state,
)


class TiedDiagonal(Covariance):
    name = "common_diag"
    kind = "diagonal"  # moments: masses, means and squares of the columns
    storage = Diagonals(shared=True)  # kept as (D,)

    def estimate(self, moments, mass):
        return mass @ moments.covariances(mass) / mass.sum()

    def n_parameters(self, components, dims):
        return dims


register_covariance(TiedDiagonal())


@register_component
@dataclass(frozen=True, eq=False)
class Box(Component):
    """Noise with a uniform density over a box around the rows, and a share of its width on either side."""

    name = "box"

    margin: float = 0.0  # a parameter: the user's
    low: np.ndarray = state()  # what a fit finds, and model files keep
    high: np.ndarray = state()

    def start(self, table):
        x = np.asarray(table.x[table.weight > 0.0], dtype=np.float64)  # the other rows may lie anywhere
        low, high = x.min(axis=0), x.max(axis=0)
        width = np.where(high > low, high - low, 1.0)
        return replace(self, low=low - self.margin * width, high=low + (1.0 + self.margin) * width)

    @property
    def quadratics(self):
        offset = -np.log(self.high - self.low).sum()
        middle = 0.5 * (self.low + self.high)
        return Quadratics("scalar", np.array([offset]), middle[None], np.zeros(1))

    def n_parameters(self, dims):
        return 2 * dims

    def sample(self, n, rng):
        return rng.uniform(self.low, self.high, size=(n, len(self.low)))


@register_gate
@dataclass(frozen=True, eq=False)
class BinnedGate(Gate):
    """Weights of their own in each of some bins of the first column."""

    name = "binned"
    looks_at_rows = True  # log-weights differ from row to row
    needs_responsibilities = True  # moments of x do not tell which bin a row was in

    bins: int = 4
    edges: np.ndarray = state()
    weights: np.ndarray = state()  # (bins, K)

    def start(self, components, table, rng):
        order = np.argsort(table.x[:, 0], kind="stable")
        share = np.cumsum(table.weight[order]) / table.total_weight  # a weight of 2 is two rows
        inner = np.searchsorted(share, np.arange(1, self.bins) / self.bins)
        edges = np.asarray(table.x[order[inner], 0], dtype=np.float64)
        return replace(self, edges=edges, weights=np.full((self.bins, components), 1.0 / components))

    def _bin(self, block):
        return np.searchsorted(self.edges, np.asarray(block.x[:, 0], dtype=np.float64))

    def log_weights(self, block):
        return np.log(self.weights[self._bin(block)])

    def log_probabilities(self, block):
        return self.log_weights(block)

    def maximize(self, found):
        mass = np.full_like(self.weights, 1e-10)  # so that no logarithm is infinite
        np.add.at(mass, self._bin(found.table), found.resp * found.table.weight[:, None])
        return replace(self, weights=mass / mass.sum(axis=1, keepdims=True))

    def n_parameters(self, components, dims):
        return self.bins * (components - 1)
