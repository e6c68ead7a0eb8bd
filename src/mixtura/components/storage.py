"""How covariances are kept: matrices, diagonals or single numbers; one for each component, or one for all.

Factors, inverses and determinants depend only on how covariances are kept. Which covariances the components share, and
how they are estimated, is the subject of :mod:`mixtura.components.covariances`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.components.factorize import (
    IllDefinedCovarianceError,
    cholesky_of_precision,
    inverse_choleskys,
    is_definite,
    rounded_matrix,
    solve_right,
)
from mixtura.quadratics import Form

Float = NDArray[np.float64]


class Storage(ABC):
    """A way to keep covariances, precisions and the precisions' Cholesky factors; all three have the same shape.

    Parameters
    ----------
    shared : bool, default=False
        Whether one covariance serves all components, without a first axis, or each has its own along the first axis.

    Attributes
    ----------
    form : str
        The form of the quadratics' factors.
    """

    form: ClassVar[Form]

    def __init__(self, shared: bool = False) -> None:
        self.shared = shared

    def stacked(self, array: NDArray[Any]) -> NDArray[Any]:
        """Add a first axis of length 1 if one covariance serves all components."""
        return array[None] if self.shared else array

    def kept(self, array: NDArray[Any]) -> NDArray[Any]:
        """Remove the first axis that :meth:`stacked` added."""
        return array[0] if self.shared else array

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        """Shape of the covariances, and of precisions and their Cholesky factors."""
        inner = self._inner(dims)
        return inner if self.shared else (components, *inner)

    @abstractmethod
    def _inner(self, dims: int) -> tuple[int, ...]:
        """Shape of one component's covariance."""

    @abstractmethod
    def regularized(self, covariances: Float, reg_covar: float) -> Float:
        """Covariances with ``reg_covar`` added to the variances."""

    @abstractmethod
    def cholesky(self, covariances: Float) -> Float:
        """U with U U' = precision (an upper triangle, or square roots); raises IllDefinedCovarianceError."""

    @abstractmethod
    def cholesky_of_precisions(self, precisions: Float) -> Float:
        """U with U U' = the given precisions."""

    @abstractmethod
    def precisions(self, cholesky: Float) -> Float:
        """U U'."""

    @abstractmethod
    def covariances_of(self, cholesky: Float) -> Float:
        """Covariances from U."""

    @abstractmethod
    def factors(self, cholesky: Float) -> Float:
        """F_k of the quadratics."""

    @abstractmethod
    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        """Log |U_k|, (K,)."""

    @abstractmethod
    def color(self, noise: Float, cholesky: Float, k: int) -> Float:
        """Give white noise (n, D) the covariance of component k: ``noise U_k^-1``."""

    @abstractmethod
    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        """The covariances as (K, D, D)."""

    def rounded(self, matrices: Float, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Covariances or precisions in another floating-point type, in which they are still positive definite."""
        return matrices.astype(dtype)

    @abstractmethod
    def check_precisions(self, precisions: Float, name: str) -> None:
        """Raise ValueError if precisions of the right shape are not positive definite."""


class Matrices(Storage):
    """Covariance matrices, (K, D, D) or (D, D)."""

    form = "triangle"

    def _inner(self, dims: int) -> tuple[int, ...]:
        return dims, dims

    def regularized(self, covariances: Float, reg_covar: float) -> Float:
        i = np.arange(covariances.shape[-1])
        covariances[..., i, i] += reg_covar
        return covariances

    def cholesky(self, covariances: Float) -> Float:
        return np.asarray(self.kept(inverse_choleskys(self.stacked(covariances))))

    def cholesky_of_precisions(self, precisions: Float) -> Float:
        return np.asarray(self.kept(np.stack([cholesky_of_precision(p) for p in self.stacked(precisions)])))

    def precisions(self, cholesky: Float) -> Float:
        return np.asarray(cholesky @ np.swapaxes(cholesky, -1, -2))

    def covariances_of(self, cholesky: Float) -> Float:
        inverse = np.linalg.inv(cholesky)
        return np.asarray(np.swapaxes(inverse, -1, -2) @ inverse)

    def factors(self, cholesky: Float) -> Float:
        return np.ascontiguousarray(np.swapaxes(self.stacked(cholesky), -1, -2))

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        log_det = np.log(np.diagonal(self.stacked(cholesky), axis1=1, axis2=2)).sum(axis=1)
        return np.asarray(np.broadcast_to(log_det, components))

    def color(self, noise: Float, cholesky: Float, k: int) -> Float:
        return solve_right(noise, cholesky if self.shared else cholesky[k])

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        return np.broadcast_to(covariances, (components, dims, dims))

    def rounded(self, matrices: Float, dtype: np.dtype[Any]) -> NDArray[Any]:
        if dtype != np.float32:
            return matrices
        return self.kept(np.stack([rounded_matrix(m, dtype) for m in self.stacked(matrices)]))

    def check_precisions(self, precisions: Float, name: str) -> None:
        for precision in self.stacked(precisions):
            if not (np.allclose(precision, precision.T) and is_definite(precision)):
                raise ValueError(f"'{name} precision' should be symmetric, positive-definite")


class _Elementwise(Storage):
    """Covariances whose inverse is taken element by element."""

    def regularized(self, covariances: Float, reg_covar: float) -> Float:
        return np.asarray(covariances + reg_covar)

    def cholesky(self, covariances: Float) -> Float:
        if not np.all(covariances > 0.0):
            raise IllDefinedCovarianceError
        with np.errstate(over="ignore"):
            cholesky = 1.0 / np.sqrt(covariances)
        if not np.isfinite(cholesky * cholesky).all():
            raise IllDefinedCovarianceError
        return np.asarray(cholesky)

    def cholesky_of_precisions(self, precisions: Float) -> Float:
        return np.sqrt(precisions)

    def precisions(self, cholesky: Float) -> Float:
        return np.asarray(cholesky**2)

    def covariances_of(self, cholesky: Float) -> Float:
        return np.asarray(1.0 / cholesky**2)

    def factors(self, cholesky: Float) -> Float:
        return np.asarray(self.stacked(np.asarray(cholesky)))

    def color(self, noise: Float, cholesky: Float, k: int) -> Float:
        return np.asarray(noise / (cholesky if self.shared else cholesky[k]))

    def check_precisions(self, precisions: Float, name: str) -> None:
        if np.any(precisions <= 0.0):
            raise ValueError(f"'{name} precision' should be positive")


class Diagonals(_Elementwise):
    """A variance for each column, (K, D) or (D,)."""

    form = "diagonal"

    def _inner(self, dims: int) -> tuple[int, ...]:
        return (dims,)

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        return np.asarray(np.broadcast_to(np.log(self.stacked(cholesky)).sum(axis=1), components))

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        matrices = self.stacked(covariances)[:, :, None] * np.eye(dims)
        return np.broadcast_to(matrices, (components, dims, dims))


class Scalars(_Elementwise):
    """One variance for all columns, (K,) or ()."""

    form = "scalar"

    def _inner(self, dims: int) -> tuple[int, ...]:
        return ()

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        return np.asarray(np.broadcast_to(dims * np.log(self.stacked(np.asarray(cholesky))), components))

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        matrices = self.stacked(np.asarray(covariances))[:, None, None] * np.eye(dims)
        return np.broadcast_to(matrices, (components, dims, dims))
