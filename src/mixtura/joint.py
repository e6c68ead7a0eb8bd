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
    """``log pi_k + log p_k(z)`` for K components, and how rows are given to them.

    Parameters
    ----------
    quadratics : Quadratics
        The densities p_k, and whatever of the weights is a quadratic of the row as well.
    log_weights : ndarray of shape (K,) or (N, K)
        Log pi: the same for all rows, or one for each row and component.
    hard : bool, default=False
        Give all of a row to its most likely component (the first of equals), and count its joint log-density in the
        log-likelihood: the limit that makes EM k-means.
    """

    quadratics: Quadratics
    log_weights: Float
    hard: bool = False

    @classmethod
    def of_all(cls, point: Float) -> Joint:
        """One component that takes all of every row: moments are then those of the table. Any point (D,) will do."""
        return cls(Quadratics.constant(point), np.zeros(1))

    @property
    def components(self) -> int:
        """K."""
        return self.quadratics.components

    @property
    def held(self) -> int:
        """Numbers that must be held for each row while it is evaluated."""
        return 0

    def at(self, block: Any) -> Joint:
        """The same for a block of a table."""
        return self

    def cut(self, start: int, stop: int) -> Joint:
        """The same for some of the rows."""
        if self.log_weights.ndim == 1:
            return self
        return Joint(self.quadratics, self.log_weights[start:stop], self.hard)


@dataclass(frozen=True)
class RowwiseJoint(Joint):
    """The same with log-weights that are a function of the row: they are worked out block by block, never N x K.

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
        """The joint log-densities of a block, whose log-weights are now known."""
        return Joint(self.quadratics, self.of_block(block), self.hard)
