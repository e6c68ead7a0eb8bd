"""Noise: the same density everywhere in the region of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.components.beside import COMPONENTS, Component
from mixtura.parts import state
from mixtura.quadratics import Quadratics
from mixtura.table import Table

Float = NDArray[np.float64]

# Rows that are looked at together.
_BLOCK = 1 << 16

# By how many rounding errors an extent may differ from 0: of the numbers at its ends, which are two rows, their
# differences from the centre and the projection; and of the principal axes, which come from sums over all rows.
_ROUNDINGS, _OF_AXES = 4.0, 1000.0


@dataclass(frozen=True, eq=False)
class Uniform(Component):
    """Rows that belong to no cluster, spread evenly over the region of all rows.

    The region is the smaller of two boxes around the rows of positive weight: along the columns, and along the table's
    principal axes. A density is not limited to it: new rows that lie outside have the same.

    Parameters
    ----------
    density : float, default=None
        The density itself, in one over units of X to the power D; None takes one over the region's volume.

    Attributes
    ----------
    log_density : float
    center : ndarray of shape (D,)
    axes : ndarray of shape (D, D)
        Directions of the region's sides, as columns.
    low, high : ndarray of shape (D,)
        Where the region begins and ends along them, from the centre.

    References
    ----------
    Banfield, Raftery (1993), Model-based Gaussian and non-Gaussian clustering.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(400, 2)), rng.uniform(-20, 20, size=(100, 2))])
    >>> gm = GaussianMixture(1, noise=True, random_state=0).fit(X)
    >>> round(gm.noise_weight_, 1)
    0.2
    """

    name: ClassVar[str] = "uniform"

    density: float | None = None
    log_density: float = state()
    center: Float = state()
    axes: Float = state()
    low: Float = state()
    high: Float = state()

    def start(self, table: Table) -> Self:
        """See :meth:`Component.start`."""
        if self.density is not None and not (np.isfinite(self.density) and self.density > 0.0):
            raise ValueError(f"density must be positive and finite, got {self.density!r}")
        moments = table.moments("full")
        center, D = moments.means()[0], table.dims
        axes = np.linalg.eigh(moments.covariances()[0])[1] if D > 1 else np.eye(D)
        boxes = []
        for turn in (np.eye(D), axes):
            low, high = np.full(D, np.inf), np.full(D, -np.inf)
            size, spread = np.abs(center), np.zeros(D)
            for rows in _blocks(table):
                along = (rows - center) @ turn
                low, high = np.minimum(low, along.min(axis=0)), np.maximum(high, along.max(axis=0))
                size = np.maximum(size, np.abs(rows).max(axis=0))
                spread = np.maximum(spread, np.abs(rows - center).max(axis=0))
            # A constant column has no extent, nor has an axis along which rows differ by their rounding alone, as where
            # columns depend on each other: it counts as one unit.
            of_rows = _ROUNDINGS * float(np.finfo(table.x.dtype).eps) * size
            of_axes = _OF_AXES * float(np.finfo(np.float64).eps) * spread
            rounding = (of_rows + of_axes) @ np.abs(turn)
            extent = np.where(high - low > rounding, high - low, 1.0)
            boxes.append((float(np.log(extent).sum()), turn, low, high))
        log_volume, axes, low, high = min(boxes, key=lambda box: box[0])
        log_density = -log_volume if self.density is None else float(np.log(self.density))
        return replace(self, log_density=log_density, center=center, axes=axes, low=low, high=high)

    @property
    def quadratics(self) -> Quadratics:
        """See :attr:`Component.quadratics`: a constant."""
        return Quadratics("scalar", np.array([self.log_density]).ravel(), self.center[None], np.zeros(1))

    def n_parameters(self, dims: int) -> int:
        """The density, unless it is given."""
        return 1 if self.density is None else 0

    def sample(self, n: int, rng: np.random.RandomState) -> Float:
        """See :meth:`Component.sample`."""
        return np.asarray(
            self.center + rng.uniform(self.low, self.high, size=(n, len(self.low))) @ self.axes.T
        )


def _blocks(table: Table) -> Iterator[Float]:
    """The rows of positive weight, some at a time."""
    counted = np.arange(len(table)) if table.counted is None else table.counted
    for start in range(0, len(counted), _BLOCK):
        yield table.points(counted[start : start + _BLOCK])


COMPONENTS[Uniform.name] = Uniform
