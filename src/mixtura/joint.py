"""What a pass over rows evaluates: the joint log-densities of rows and components."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Joint:
    """``log pi_k + log p_k(z)`` for K components, and how rows are assigned to them.

    Parameters
    ----------
    quadratics : Quadratics
        The densities p_k, times the part of the weights that is itself a quadratic of the row.
    log_weights : ndarray of shape (K,) or (N, K)
        Log pi: the same for all rows, or one for each row and component.
    hard : bool, default=False
        Assign each row wholly to its most likely component (the first of equals). The log-likelihood is then the sum of
        the joint log-densities of these components: the limit in which EM becomes k-means.
    """

    quadratics: Quadratics
    log_weights: Float
    hard: bool = False

    @classmethod
    def of_all(cls, point: Float) -> Joint:
        """One component that takes all of every row, so its moments are those of the table. Any point (D,) will do."""
        return cls(Quadratics.constant(point), np.zeros(1))

    @property
    def components(self) -> int:
        """K."""
        return self.quadratics.components

    @property
    def held(self) -> int:
        """How many numbers must be held for each row while it is evaluated."""
        return 0

    def at(self, block: Any) -> Joint:
        """The joint log-densities for a block of a table."""
        return self

    def restricted(self, log_weights: Callable[[Any], Float]) -> Joint:
        """The same with further log-weights (n, K) added for the rows of each block."""
        return RowwiseJoint(
            self.quadratics,
            np.zeros(self.components),
            self.hard,
            lambda block: self.at(block).log_weights + log_weights(block),
        )

    def cut(self, start: int, stop: int) -> Joint:
        """The joint log-densities for rows ``start`` to ``stop``."""
        if self.log_weights.ndim == 1:
            return self
        return Joint(self.quadratics, self.log_weights[start:stop], self.hard)


@dataclass(frozen=True)
class RowwiseJoint(Joint):
    """A joint whose log-weights are a function of the row: they are computed block by block, never as N x K.

    Parameters
    ----------
    quadratics, log_weights, hard
        As for :class:`Joint`; the log-weights here are zeros.
    of_block : callable
        Log-weights (n, K) of a block of n rows, a :class:`mixtura.table.Table`.
    """

    of_block: Callable[[Any], Float] = None  # type: ignore[assignment]

    @property
    def held(self) -> int:
        """K."""
        return self.components

    def at(self, block: Any) -> Joint:
        """The joint log-densities of a block, with its log-weights computed."""
        return Joint(self.quadratics, self.of_block(block), self.hard)
