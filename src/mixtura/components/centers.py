"""Cluster centres: Gaussians whose common spread has gone to zero, as k-means sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.moments import Kind
from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Centers:
    """``log p_k(z) = -1/2 |z - m_k|^2``, up to a constant that all share.

    With hard assignment and equal weights, EM on these is Lloyd's algorithm, and the log-likelihood is minus
    half the inertia.

    Parameters
    ----------
    means : ndarray of shape (K, D)
    """

    kind: ClassVar[Kind] = "mean"  # the moments that new centres are made of

    means: Float

    @property
    def quadratics(self) -> Quadratics:
        """The K quadratics, with one shared scalar factor."""
        return Quadratics("scalar", np.zeros(len(self.means)), self.means, np.ones(1))

    @property
    def log_weights(self) -> Float:
        """Zeros, (K,): no cluster is more likely than another."""
        return np.zeros(len(self.means))
