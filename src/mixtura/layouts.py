"""The shapes in which second moments are kept: one small class each, with all code that depends on the shape.

Kernels are given a layout's name. Code above the kernels does not compare names: it uses the layout's methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mixtura.threads import compiled_allowed, native, threads_for
from mixtura.triangles import (
    pack_symmetric,
    packed_diagonal,
    packed_size,
    symmetric_product,
    unpack_symmetric,
)

Kind = Literal["mass", "mean", "trace", "diagonal", "full", "shared"]
Float = NDArray[np.float64]
Booleans = NDArray[np.bool_]


class Layout(ABC):
    """The shape of the second moments of K components in D columns.

    Attributes
    ----------
    name : str
    has_mean : bool
        Whether first moments are kept.
    has_second : bool
        Whether second moments are kept.
    has_matrices : bool
        Whether second moments hold products of different columns.
    own : bool
        Whether each component has second moments of its own.
    kernel : Layout
        The layout that a kernel sums in each pass.
    """

    name: ClassVar[Kind]
    has_mean: ClassVar[bool] = True
    has_second: ClassVar[bool] = True
    has_matrices: ClassVar[bool] = False
    own: ClassVar[bool] = True

    @property
    def kernel(self) -> Layout:
        """The layout that a kernel sums in each pass."""
        return self

    @property
    def each(self) -> Layout:
        """The layout that keeps for each component what this one keeps."""
        return self

    @abstractmethod
    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        """Shape of the second moments."""

    def size(self, dims: int) -> int:
        """How many statistics of a component a kernel sums, mass and first moment included."""
        second = self.kernel.shape(1, dims)
        return 1 + dims * self.has_mean + (int(np.prod(second)) if self.kernel.own else 0)

    @abstractmethod
    def of_rows(self, z: Float, resp: Float) -> Float:
        """Second moment of rows z (N, D) about 0 under responsibilities (N, K), by its definition."""

    @abstractmethod
    def symmetric(self, a: Float, b: Float) -> Float:
        """``a b' + b a'`` of (K, D) vectors in this shape: the term that a change of pivot adds."""

    @abstractmethod
    def covariances(self, scatter: Float, mass: Float, dims: int) -> Float:
        """Second moments about the means, divided by the masses (K,), in the shape that covariances have."""

    def about_means(self, second: Float, first: Float, mass: Float) -> Float:
        """:meth:`covariances` of moments about a pivot: ``S - n m m'`` over n for each, with ``m = first / n``."""
        scatter = second - self.symmetric(0.5 * first, first / mass[:, None])
        return self.covariances(scatter, mass, first.shape[-1])

    @abstractmethod
    def squares(self, second: Float, mass: Float, of_means: Float) -> tuple[Float, Float]:
        """Mean squares of the columns about the pivot, and the part of them that the means contribute.

        Both are (K, D), or have axes of 1 where less is kept. ``of_means`` (K, D) are the squares of the means.
        """

    def from_each(self, of_each: Float) -> Float:
        """Second moments from those in the layout :attr:`each`."""
        return of_each

    def replaced(self, second: Float, of_each: Float, selected: Booleans) -> Float:
        """Second moments, with those of the selected components (K,) from ``of_each``, of layout :attr:`each`."""
        out = second.copy()
        out[selected] = of_each[selected]
        return out

    @abstractmethod
    def touched(self, columns: Booleans) -> Booleans:
        """Which numbers of the second moment involve any of the given columns (K, D)."""

    def scatters(
        self, second: Float, first: Float, mass: Float, selected: NDArray[np.intp], dims: int
    ) -> Float:
        """Covariance matrices of selected components, (n, D, D), or the shared one; only for layouts with matrices."""
        raise NotImplementedError

    def of_matrices(self, matrices: Float) -> Float:
        """Symmetric matrices (K, D, D) in this shape: the second moments of rows whose products they are."""
        raise ValueError(f"moments of kind {self.name!r} hold no second moments")

    def leading(self, second: Float, dims: int) -> Float:
        """Second moments of the first ``dims`` columns alone; only for layouts that keep columns apart."""
        raise ValueError(f"moments of kind {self.name!r} do not tell columns apart")

    def transformed(self, second: Float, A: Float) -> Float:
        """``A S A'`` of the second moments, for maps A (D', D) or (K, D', D); only for layouts with matrices."""
        raise ValueError(
            f"moments of kind {self.name!r} hold too little for an affine map: 'full' and 'shared' do not"
        )


class _WithoutSecond(Layout):
    """No second moment is kept."""

    has_second = False

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (0,)

    def of_rows(self, z: Float, resp: Float) -> Float:
        return np.zeros(0)

    def symmetric(self, a: Float, b: Float) -> Float:
        return np.zeros(0)

    def covariances(self, scatter: Float, mass: Float, dims: int) -> Float:
        raise ValueError(f"moments of kind {self.name!r} know no covariances")

    def squares(self, second: Float, mass: Float, of_means: Float) -> tuple[Float, Float]:
        raise ValueError(f"moments of kind {self.name!r} know no squares")

    def touched(self, columns: Booleans) -> Booleans:
        return np.zeros(0, dtype=bool)

    def leading(self, second: Float, dims: int) -> Float:
        return second

    def transformed(self, second: Float, A: Float) -> Float:
        return second


class Mass(_WithoutSecond):
    """Masses alone."""

    name = "mass"
    has_mean = False


class Mean(_WithoutSecond):
    """Masses and first moments."""

    name = "mean"


class Trace(Layout):
    """The sum of the columns' squares, (K,)."""

    name = "trace"

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (components,)

    def of_rows(self, z: Float, resp: Float) -> Float:
        return np.asarray(resp.T @ np.sum(z * z, axis=1))

    def symmetric(self, a: Float, b: Float) -> Float:
        return np.asarray(2.0 * np.sum(a * b, axis=-1))

    def covariances(self, scatter: Float, mass: Float, dims: int) -> Float:
        return np.asarray(scatter / mass)

    def squares(self, second: Float, mass: Float, of_means: Float) -> tuple[Float, Float]:
        return (second / mass / of_means.shape[1])[:, None], of_means.mean(axis=1, keepdims=True)

    def touched(self, columns: Booleans) -> Booleans:
        return np.asarray(columns.all(axis=1))

    def of_matrices(self, matrices: Float) -> Float:
        return np.asarray(np.trace(matrices, axis1=1, axis2=2))


class Diagonal(Layout):
    """The squares of the columns, (K, D)."""

    name = "diagonal"

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (components, dims)

    def of_rows(self, z: Float, resp: Float) -> Float:
        return np.asarray(resp.T @ (z * z))

    def symmetric(self, a: Float, b: Float) -> Float:
        return np.asarray(2.0 * a * b)

    def covariances(self, scatter: Float, mass: Float, dims: int) -> Float:
        return np.asarray(scatter / mass[:, None])

    def squares(self, second: Float, mass: Float, of_means: Float) -> tuple[Float, Float]:
        return second / mass[:, None], of_means

    def touched(self, columns: Booleans) -> Booleans:
        return columns

    def of_matrices(self, matrices: Float) -> Float:
        return np.ascontiguousarray(np.diagonal(matrices, axis1=1, axis2=2))

    def leading(self, second: Float, dims: int) -> Float:
        return second[:, :dims]


class Full(Layout):
    """All products of columns, as packed triangles, (K, D (D + 1) / 2)."""

    name = "full"
    has_matrices = True

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (components, packed_size(dims))

    def of_rows(self, z: Float, resp: Float) -> Float:
        return pack_symmetric(np.stack([(z * r[:, None]).T @ z for r in resp.T]))

    def symmetric(self, a: Float, b: Float) -> Float:
        return symmetric_product(a, b)

    def covariances(self, scatter: Float, mass: Float, dims: int) -> Float:
        return unpack_symmetric(scatter / mass[:, None], dims)

    def about_means(self, second: Float, first: Float, mass: Float) -> Float:
        if native is None or not compiled_allowed():
            return super().about_means(second, first, mass)
        return native.covariances(second, first, mass, threads_for(second.size))

    def squares(self, second: Float, mass: Float, of_means: Float) -> tuple[Float, Float]:
        return packed_diagonal(second, of_means.shape[1]) / mass[:, None], of_means

    def leading(self, second: Float, dims: int) -> Float:
        return second[..., : packed_size(dims)]  # packed row by row

    def touched(self, columns: Booleans) -> Booleans:
        return np.asarray(pack_symmetric(columns[:, :, None] | columns[:, None, :]))

    def scatters(
        self, second: Float, first: Float, mass: Float, selected: NDArray[np.intp], dims: int
    ) -> Float:
        n, firsts = mass[selected, None], first[selected]
        return unpack_symmetric((second[selected] - symmetric_product(0.5 * firsts, firsts / n)) / n, dims)

    def of_matrices(self, matrices: Float) -> Float:
        return np.asarray(pack_symmetric(matrices))

    def transformed(self, second: Float, A: Float) -> Float:
        matrices = unpack_symmetric(second, A.shape[-1])
        return np.asarray(pack_symmetric(A @ matrices @ np.swapaxes(A, -1, -2)))


class Shared(Layout):
    """All products of columns, summed over the components, (D (D + 1) / 2,).

    Where responsibilities sum to 1 this sum does not depend on them, so kernels sum masses and first moments only.
    """

    name = "shared"
    has_matrices = True
    own = False

    @property
    def kernel(self) -> Layout:
        return LAYOUTS["mean"]

    @property
    def each(self) -> Layout:
        return LAYOUTS["full"]

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (packed_size(dims),)

    def of_rows(self, z: Float, resp: Float) -> Float:
        return pack_symmetric((z * resp.sum(axis=1)[:, None]).T @ z)

    def symmetric(self, a: Float, b: Float) -> Float:
        return np.asarray(symmetric_product(a, b).sum(axis=0))

    def covariances(self, scatter: Float, mass: Float, dims: int) -> Float:
        return unpack_symmetric(scatter / mass.sum(), dims)

    def squares(self, second: Float, mass: Float, of_means: Float) -> tuple[Float, Float]:
        total = mass.sum()
        return packed_diagonal(second, of_means.shape[1]) / total, mass @ of_means / total

    def from_each(self, of_each: Float) -> Float:
        return np.asarray(of_each.sum(axis=0))

    def replaced(self, second: Float, of_each: Float, selected: Booleans) -> Float:
        return self.from_each(of_each)

    def leading(self, second: Float, dims: int) -> Float:
        return second[..., : packed_size(dims)]  # packed row by row

    def touched(self, columns: Booleans) -> Booleans:
        either: NDArray[Any] = np.all(columns[:, :, None] | columns[:, None, :], axis=0)
        return np.asarray(pack_symmetric(either))

    def scatters(
        self, second: Float, first: Float, mass: Float, selected: NDArray[np.intp], dims: int
    ) -> Float:
        divisor = np.maximum(mass, np.finfo(np.float64).tiny)[:, None]  # a component may be empty
        of_means = symmetric_product(0.5 * first, first / divisor).sum(axis=0)
        return unpack_symmetric((second - of_means)[None] / mass.sum(), dims)

    def of_matrices(self, matrices: Float) -> Float:
        return np.asarray(pack_symmetric(matrices.sum(axis=0)))

    def transformed(self, second: Float, A: Float) -> Float:
        if A.ndim != 2:
            raise ValueError("moments of kind 'shared' take one map for all components")
        return np.asarray(pack_symmetric(A @ unpack_symmetric(second, A.shape[-1]) @ A.T))


LAYOUTS: dict[Kind, Layout] = {
    layout.name: layout for layout in (Mass(), Mean(), Trace(), Diagonal(), Full(), Shared())
}
