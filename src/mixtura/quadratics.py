"""What a kernel evaluates: K quadratic log-densities.

::

    log p_k(z) = c_k + b_k . (z - m_k) - 1/2 || F_k (z - m_k) ||^2

Kernels know no covariance types, only the form of the factor F_k. A product of such densities has the same form, so a
gate and an expert, or a gate and a Gaussian, are one quadratic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mixtura.elsewhere import PartlyElsewhere
from mixtura.threads import compiled_allowed, native

Form = Literal["scalar", "diagonal", "triangle", "rectangle"]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Quadratics(PartlyElsewhere):
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
        'rectangle', R > 0. A first axis of 1 with K > 1 is one factor shared by all.
    linear : ndarray of shape (K, D), optional
        b_k; None for zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura.quadratics import Quadratics
    >>> unit = Quadratics("scalar", np.zeros(1), np.zeros((1, 2)), np.ones(1))
    >>> unit.components, unit.dims, unit.shared
    (1, 2, False)
    """

    _may_be_elsewhere: ClassVar[tuple[str, ...]] = ("factors",)

    form: Form
    offsets: Float
    means: Float
    factors: Float
    linear: Float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.elsewhere("factors") is not None:  # made of the components' own statistics
            return
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
        if self.form == "rectangle":
            good = good and shape[-2] > 0
        if not good:
            raise ValueError(f"factors of shape {shape} do not fit form {self.form!r} with K={K}, D={D}")
        if self.linear is not None and self.linear.shape != self.means.shape:
            raise ValueError(f"linear terms of shape {self.linear.shape} are not (K, D) = {self.means.shape}")

    @classmethod
    def constant(cls, point: Float) -> Quadratics:
        """One component whose density is 1 everywhere, so it takes all of every row. Its mean may be any point (D,)."""
        return cls.flat(1, point)

    @classmethod
    def flat(cls, components: int, point: Float) -> Quadratics:
        """K components whose density is 1 everywhere; their mean may be any point (D,)."""
        return cls("scalar", np.zeros(components), np.tile(point, (components, 1)), np.zeros(1))

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
        """A point among the means, (D,): the middle value of each column. Unlike an average it cannot overflow."""
        middle: Float = np.sort(self.means, axis=0)[self.components // 2]
        return middle

    @property
    def shared(self) -> bool:
        """Whether all components share one factor."""
        return self.elsewhere("factors") is None and len(self.factors) == 1 and self.components > 1

    def any_far(self, point: Float, lengths: float, distance: float) -> bool:
        """Whether some component has ``|F_k (m_k - point)|^2`` and ``|m_k - point|^2`` above these two numbers."""
        if native is not None and compiled_allowed() and self.elsewhere("factors") is None:
            return native.any_far(self.form, self.factors, self.means, point, lengths, distance)
        away = self.means - point
        far = self.lengths(away) > lengths
        return bool(far.any() and np.any(far & (np.einsum("kd,kd->k", away, away) > distance)))

    def lengths(self, vectors: Float) -> Float:
        """``|F_k v_k|^2`` for vectors v (K, D), (K,)."""
        away = self.elsewhere("factors")
        if away is not None:
            return np.asarray(away.lengths(vectors))
        if self.form in ("scalar", "diagonal"):
            turned = vectors * (self.factors[:, None] if self.form == "scalar" else self.factors)
        else:
            turned = np.matmul(self.factors, vectors[:, :, None])[:, :, 0]
        return np.asarray(np.einsum("kr,kr->k", turned, turned))

    def rows(self) -> Float:
        """The factors as (K, R, D) rectangles, or (1, R, D) where one is shared."""
        if self.form == "scalar":
            return np.asarray(self.factors[:, None, None] * np.eye(self.dims))
        return np.asarray(
            self.factors[:, :, None] * np.eye(self.dims) if self.form == "diagonal" else self.factors
        )

    def beside(self, other: Quadratics) -> Quadratics:
        """These components followed by others of the same columns, in a form that can hold the factors of both."""
        forms: tuple[Form, ...] = ("scalar", "diagonal", "triangle", "rectangle")
        form = max(self.form, other.form, key=forms.index)
        parts = [part._as(form) for part in (self, other)]
        if form == "rectangle":  # numbers of rows may differ: fill up with rows of zeros, which add nothing
            height = max(part.shape[1] for part in parts)
            parts = [np.pad(part, ((0, 0), (0, height - part.shape[1]), (0, 0))) for part in parts]
        linear = None
        if self.linear is not None or other.linear is not None:
            linear = np.vstack(
                [np.zeros_like(q.means) if q.linear is None else q.linear for q in (self, other)]
            )
        return Quadratics(
            form,
            np.concatenate([self.offsets, other.offsets]),
            np.vstack([self.means, other.means]),
            np.concatenate(parts),
            linear,
        )

    def _as(self, form: Form) -> Float:
        """The factors in ``form``, which must be able to hold them, with one for each component."""
        factors = np.broadcast_to(self.factors, (self.components, *self.factors.shape[1:]))
        if form == self.form:
            return factors
        if form == "diagonal":
            return np.repeat(factors[:, None], self.dims, axis=1)
        return np.broadcast_to(self.rows(), (self.components, *self.rows().shape[1:]))

    def tilted(self, level: Float, slope: Float, about: Float) -> Quadratics:
        """The same densities times ``exp(level_k + slope_k . (x - about))``, with x the first columns of z.

        Parameters
        ----------
        level : ndarray of shape (K,)
        slope : ndarray of shape (K, d)
        about : ndarray of shape (d,)
        """
        d = len(about)
        linear = np.zeros_like(self.means) if self.linear is None else self.linear.copy()
        linear[:, :d] += slope
        moved = np.sum(slope * (self.means[:, :d] - about), axis=1)
        return replace(self, offsets=self.offsets + level + moved, linear=linear)

    def times(self, other: Quadratics) -> Quadratics:
        """The product of these densities of z and those of its first columns x: ``p_k(z) q_k(x)``.

        ``|A (x - m)|^2 + |B (z - n)|^2`` is ``|S (z - s) - r|^2`` with S = [[A, 0], [B]], s = [m; the rest of n] and
        r = [0; B (n - s)]. With S = Q T, where Q has orthonormal columns and T is a lower triangle, this is
        ``|T (z - s - T^-1 Q' r)|^2`` plus the square of the part of r that is orthogonal to the columns of S.
        """
        K, D, d = self.components, self.dims, other.dims
        A, B = other.rows(), self.rows()
        S = np.zeros((K, A.shape[1] + B.shape[1], D))
        S[:, : A.shape[1], :d] = A
        S[:, A.shape[1] :] = B
        center = np.hstack([other.means, self.means[:, d:]])
        r = np.zeros(S.shape[:2])
        r[:, A.shape[1] :] = (B @ (self.means - center)[:, :, None])[:, :, 0]
        form: Form = "triangle"
        if S.shape[1] < D:
            form, shift = "rectangle", np.einsum("kdr,kr->kd", np.linalg.pinv(S), r)
            r = r - np.einsum("krd,kd->kr", S, shift)
            remainder = np.sum(r * r, axis=1)
        else:
            # One row below a triangle makes a larger triangle; of several it must be seen.
            triangle = other.form != "rectangle" and (B.shape[1] == 1 or not np.triu(B[:, :, d:], 1).any())
            if S.shape[1] > D or not triangle:
                # Upper triangles for the columns in reverse order are lower triangles for the columns in order.
                Q, T = np.linalg.qr(S[:, :, ::-1])
                projected = np.einsum("krd,kr->kd", Q, r)
                remainder = np.sum((r - np.einsum("krd,kd->kr", Q, projected)) ** 2, axis=1)
                S, r = np.ascontiguousarray(T[:, ::-1, ::-1]), projected[:, ::-1]
                shift = np.linalg.solve(S, r[:, :, None])[:, :, 0]
            else:  # S is a triangle already, and r is 0 in its first rows
                remainder, shift = np.zeros(K), np.zeros((K, D))
                corner = S[:, d:, d:]  # of one number, as for experts of one target, needs no solver
                shift[:, d:] = (
                    r[:, d:] / corner[:, 0]
                    if corner.shape[1] == 1
                    else np.linalg.solve(corner, r[:, d:, None])[:, :, 0]
                )
        means = center + shift
        offsets = self.offsets + other.offsets - 0.5 * remainder
        linear = None
        for part, width in ((self, D), (other, d)):
            if part.linear is not None:
                linear = np.zeros_like(means) if linear is None else linear
                linear[:, :width] += part.linear
                offsets = offsets + np.sum(part.linear * (means[:, :width] - part.means), axis=1)
        return Quadratics(form, offsets, means, S, linear)
