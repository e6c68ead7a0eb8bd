"""A table as a fit sees it: rows placed with a backend, their weights, and a pivot for their moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtura import backends
from mixtura.backends.base import Backend, Rows
from mixtura.moments import Kind, Moments
from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]

# Rows whose mean is the pivot: enough to be well inside the data.
_PIVOT_ROWS = 1 << 12


def pivot_of(X: NDArray[np.floating], sample_weight: Float | None = None) -> Float:
    """A point inside the rows that count, (D,): the mean of some of them."""
    step = max(1, len(X) // _PIVOT_ROWS)
    if sample_weight is None or sample_weight.all():
        sample = np.asarray(X[::step])
    else:
        sample = np.asarray(X[np.flatnonzero(sample_weight)[::step]])
    with np.errstate(over="ignore", invalid="ignore"):
        pivot = sample.mean(axis=0, dtype=np.float64)
    # A sum may overflow, and the mean of equal numbers need not be that number: then nothing would cancel.
    inside: Float = np.clip(pivot, sample.min(axis=0), sample.max(axis=0))
    return inside


@dataclass(frozen=True)
class Table:
    """Rows placed with a backend, their weights, and the pivot that their moments are taken about."""

    backend: Backend
    rows: Rows
    pivot: Float
    sample_weight: Float | None = None

    @classmethod
    def of(cls, backend: Backend, X: NDArray[np.floating], sample_weight: Float | None = None) -> Table:
        """Place an array (N, D)."""
        return cls(backend, backend.place(X), pivot_of(X, sample_weight), sample_weight)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total_weight(self) -> float:
        """Sum of the weights; N without."""
        return float(len(self)) if self.sample_weight is None else float(self.sample_weight.sum())

    def moments(self, kind: Kind) -> Moments:
        """Moments of all rows, as of one component."""
        constant = Quadratics.constant(self.pivot)
        return self.backend.expect(self.rows, constant, np.zeros(1), kind, self.pivot, self.sample_weight)

    def take(self, indices: NDArray[np.intp]) -> Table:
        """A table of some of the rows, copied."""
        return self._taken(indices, self.backend)

    def take_few(self, indices: NDArray[np.intp]) -> Table:
        """The same of some hundreds of rows, for which a device would be too slow to start."""
        slow = self.backend.slow_to_start
        quick = backends.create("auto", self.backend.n_threads) if slow else self.backend
        return self._taken(indices, quick)

    def _taken(self, indices: NDArray[np.intp], backend: Backend) -> Table:
        weights = None if self.sample_weight is None else self.sample_weight[indices]
        return Table(backend, backend.place(self.rows.X[indices]), self.pivot, weights)
