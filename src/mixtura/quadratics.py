"""What a kernel evaluates: K quadratic log-densities.

::

    log p_k(z) = c_k - 1/2 || F_k (z - m_k) ||^2

Kernels know no covariance types, only the form of the factor F_k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["scalar", "diagonal", "triangle", "rectangle"]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Quadratics:
    """K quadratics in D dimensions.

    Parameters
    ----------
    form : {'scalar', 'diagonal', 'triangle', 'rectangle'}
        A multiple of the identity, a diagonal, a lower triangle, or any R x D matrix.
    offsets : ndarray of shape (K,)
        c_k.
    means : ndarray of shape (K, D)
        m_k.
    factors : ndarray
        F_k: (K,) 'scalar', (K, D) 'diagonal', (K, D, D) 'triangle' (zeros above the diagonal), (K, R, D)
        'rectangle'. A first axis of 1 with K > 1 is one factor shared by all.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura.quadratics import Quadratics
    >>> unit = Quadratics("scalar", np.zeros(1), np.zeros((1, 2)), np.ones(1))
    >>> unit.components, unit.dims, unit.shared
    (1, 2, False)
    """

    form: Form
    offsets: Float
    means: Float
    factors: Float

    def __post_init__(self) -> None:
        axes = {"scalar": 1, "diagonal": 2, "triangle": 3, "rectangle": 3}
        if self.form not in axes:
            raise ValueError(f"unknown form of factor {self.form!r}; known: {', '.join(axes)}")
        if self.means.ndim != 2 or self.offsets.shape != (len(self.means),):
            raise ValueError(
                f"offsets {self.offsets.shape} and means {self.means.shape} are not (K,) and (K, D)"
            )
        shape, K, D = self.factors.shape, self.components, self.dims
        good = len(shape) == axes[self.form] and shape[0] in (1, K)
        if self.form != "scalar":
            good = good and shape[-1] == D
        if self.form == "triangle":
            good = good and shape[-2] == D
        if not good:
            raise ValueError(f"factors of shape {shape} do not fit form {self.form!r} with K={K}, D={D}")

    @classmethod
    def constant(cls, point: Float) -> Quadratics:
        """One component whose density is 1 everywhere, and which takes all of every row; any point (D,) is its mean."""
        return cls("scalar", np.zeros(1), point[None], np.zeros(1))

    @property
    def components(self) -> int:
        """K."""
        return len(self.means)

    @property
    def dims(self) -> int:
        """D."""
        return int(self.means.shape[1])

    @property
    def center(self) -> Float:
        """A point among the means, (D,): column by column the middle one of them, which cannot overflow."""
        middle: Float = np.sort(self.means, axis=0)[self.components // 2]
        return middle

    @property
    def shared(self) -> bool:
        """Whether one factor serves all components."""
        return len(self.factors) == 1 and self.components > 1
