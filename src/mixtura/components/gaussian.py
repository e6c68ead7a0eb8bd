"""Gaussian components; one small class for each shape of covariance.

Everything that depends on the covariance type is a method here: adding a type is adding a class to
:data:`COVARIANCES`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import cython_lapack, lapack

from mixtura.moments import Kind, Moments
from mixtura.quadratics import Form, Quadratics
from mixtura.threads import blas, compiled_allowed, native, thread_limit

Float = NDArray[np.float64]


class IllDefinedCovarianceError(ValueError):
    """A covariance is not positive definite."""

    def __init__(self) -> None:
        super().__init__(
            "Fitting the mixture model failed because some components have "
            "ill-defined empirical covariance (for instance caused by singleton "
            "or collapsed samples). Try to decrease the number of components, "
            "increase reg_covar, or scale the input data."
        )


def _inverse_cholesky(covariance: Float) -> Float:
    """Upper triangular U with U U' = inverse of the covariance (D, D).

    LAPACK's potrf and trtri, called directly: scipy's solve_triangular would wake BLAS's threads for
    matrices of any size, and they then spin beside the kernels'.
    """
    lower, failed = lapack.dpotrf(covariance, lower=1, clean=1)
    if not failed:
        inverse, failed = lapack.dtrtri(lower, lower=1)
    if failed or not np.isfinite(inverse).all():
        raise IllDefinedCovarianceError
    return np.ascontiguousarray(inverse.T)


# Numbers in covariance matrices from which on they are factorised on all threads.
_MANY = 1 << 16


def _inverse_choleskys(covariances: Float) -> Float:
    """The same of many, (K, D, D): SciPy's LAPACK, called by the kernels' threads where they are here."""
    if native is None or not compiled_allowed() or covariances.size < _MANY:
        return np.stack([_inverse_cholesky(c) for c in covariances])
    routines = cython_lapack.__pyx_capi__
    with blas().limit(limits=1, user_api="blas"):
        inverse = native.inverse_cholesky(covariances, routines["dpotrf"], routines["dtrtri"], thread_limit())
    if inverse is None or not np.isfinite(inverse).all():
        raise IllDefinedCovarianceError
    return inverse


def _cholesky_of_precision(precision: Float) -> Float:
    """Upper triangular U with U U' = precision (D, D): a Cholesky factorisation from the last row up."""
    flipped = linalg.cholesky(precision[::-1, ::-1], lower=True)
    return np.ascontiguousarray(flipped[::-1, ::-1])


class Covariance(ABC):
    """The shape of the covariances of K Gaussians in D dimensions."""

    name: ClassVar[str]
    kind: ClassVar[Kind]  # the moments that an M-step needs
    form: ClassVar[Form]  # the factors that an E-step gets

    @abstractmethod
    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        """Shape of the covariances, and of precisions and their Cholesky factors."""

    @abstractmethod
    def n_parameters(self, components: int, dims: int) -> int:
        """Free parameters of the covariances."""

    @abstractmethod
    def estimate(self, moments: Moments, mass: Float, reg_covar: float) -> Float:
        """Maximum likelihood for given masses (K,), plus ``reg_covar`` on the diagonal."""

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
        """Covariances from U: the way back from given precisions."""

    @abstractmethod
    def factors(self, cholesky: Float) -> Float:
        """F_k of the quadratics."""

    @abstractmethod
    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        """Log |U_k|, (K,)."""

    @abstractmethod
    def color(self, noise: Float, cholesky: Float, k: int) -> Float:
        """White noise (n, D) with the covariance of component k: ``noise U_k^-1``."""

    @abstractmethod
    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        """The covariances as (K, D, D)."""

    def rounded(self, matrices: Float, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Covariances or precisions in another type of number, such that they stay positive definite."""
        return matrices.astype(dtype)

    @abstractmethod
    def check_precisions(self, precisions: Float) -> None:
        """Raise ValueError if precisions of the right shape are not positive definite."""


def _solve_right(rows: Float, upper: Float) -> Float:
    """``rows upper^-1``."""
    return np.asarray(linalg.solve_triangular(upper, rows.T, trans="T", check_finite=False).T)


def _is_definite(matrix: Float) -> bool:
    """Whether a symmetric matrix is positive definite, whatever the units of its columns."""
    _, failed = lapack.dpotrf(np.asarray(matrix, dtype=np.float64), lower=1)
    return not failed


def _check_matrix(precision: Float, name: str) -> None:
    if not (np.allclose(precision, precision.T) and _is_definite(precision)):
        raise ValueError(f"'{name} precision' should be symmetric, positive-definite")


def _rounded_matrix(matrix: Float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A positive definite matrix (D, D) in another type of number.

    Rounding by eps changes the correlations by up to eps, which can be more than their smallest eigenvalue. Then the
    diagonal grows by as few eps of itself as make the rounded matrix definite; D of them always do.
    """
    rounded, growth = matrix.astype(dtype), float(np.finfo(dtype).eps)
    i = np.arange(len(matrix))
    while np.isfinite(rounded).all() and not _is_definite(rounded) and growth < 1.0:
        rounded[i, i] = (matrix[i, i] * (1.0 + growth)).astype(dtype)
        growth *= 2.0
    return rounded


class Full(Covariance):
    """Each component has a covariance matrix of its own, (K, D, D)."""

    name = "full"
    kind = "full"
    form = "triangle"

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (components, dims, dims)

    def n_parameters(self, components: int, dims: int) -> int:
        return components * dims * (dims + 1) // 2

    def estimate(self, moments: Moments, mass: Float, reg_covar: float) -> Float:
        covariances = moments.covariances(mass)
        i = np.arange(covariances.shape[-1])
        covariances[:, i, i] += reg_covar
        return covariances

    def cholesky(self, covariances: Float) -> Float:
        return _inverse_choleskys(covariances)

    def cholesky_of_precisions(self, precisions: Float) -> Float:
        return np.stack([_cholesky_of_precision(p) for p in precisions])

    def precisions(self, cholesky: Float) -> Float:
        return np.asarray(cholesky @ cholesky.transpose(0, 2, 1))

    def covariances_of(self, cholesky: Float) -> Float:
        inverse = np.linalg.inv(cholesky)
        return np.asarray(inverse.transpose(0, 2, 1) @ inverse)

    def factors(self, cholesky: Float) -> Float:
        return np.ascontiguousarray(cholesky.transpose(0, 2, 1))

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        return np.asarray(np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1))

    def color(self, noise: Float, cholesky: Float, k: int) -> Float:
        return _solve_right(noise, cholesky[k])

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        return covariances

    def rounded(self, matrices: Float, dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.stack([_rounded_matrix(m, dtype) for m in matrices]) if dtype == np.float32 else matrices

    def check_precisions(self, precisions: Float) -> None:
        for precision in precisions:
            _check_matrix(precision, self.name)


class Tied(Covariance):
    """All components share one covariance matrix, (D, D)."""

    name = "tied"
    kind = "shared"
    form = "triangle"

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (dims, dims)

    def n_parameters(self, components: int, dims: int) -> int:
        return dims * (dims + 1) // 2

    def estimate(self, moments: Moments, mass: Float, reg_covar: float) -> Float:
        covariance = moments.covariances(mass)
        covariance[np.diag_indices(len(covariance))] += reg_covar
        return covariance

    def cholesky(self, covariances: Float) -> Float:
        return _inverse_cholesky(covariances)

    def cholesky_of_precisions(self, precisions: Float) -> Float:
        return _cholesky_of_precision(precisions)

    def precisions(self, cholesky: Float) -> Float:
        return np.asarray(cholesky @ cholesky.T)

    def covariances_of(self, cholesky: Float) -> Float:
        inverse = np.linalg.inv(cholesky)
        return np.asarray(inverse.T @ inverse)

    def factors(self, cholesky: Float) -> Float:
        return np.ascontiguousarray(cholesky.T[None])

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        return np.full(components, np.log(np.diagonal(cholesky)).sum())

    def color(self, noise: Float, cholesky: Float, k: int) -> Float:
        return _solve_right(noise, cholesky)

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        return np.broadcast_to(covariances, (components, dims, dims))

    def rounded(self, matrices: Float, dtype: np.dtype[Any]) -> NDArray[Any]:
        return _rounded_matrix(matrices, dtype) if dtype == np.float32 else matrices

    def check_precisions(self, precisions: Float) -> None:
        _check_matrix(precisions, self.name)


class _Elementwise(Covariance):
    """Covariances that are inverted number by number."""

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
        return cholesky

    def color(self, noise: Float, cholesky: Float, k: int) -> Float:
        return np.asarray(noise / cholesky[k])

    def check_precisions(self, precisions: Float) -> None:
        if np.any(precisions <= 0.0):
            raise ValueError(f"'{self.name} precision' should be positive")


class Diagonal(_Elementwise):
    """Each component has a variance for each column, (K, D)."""

    name = "diag"
    kind = "diagonal"
    form = "diagonal"

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (components, dims)

    def n_parameters(self, components: int, dims: int) -> int:
        return components * dims

    def estimate(self, moments: Moments, mass: Float, reg_covar: float) -> Float:
        return np.asarray(moments.covariances(mass) + reg_covar)

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        return np.asarray(np.log(cholesky).sum(axis=1))

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        return np.asarray(covariances[:, :, None] * np.eye(dims))


class Spherical(_Elementwise):
    """Each component has one variance for all columns, (K,)."""

    name = "spherical"
    kind = "trace"
    form = "scalar"

    def shape(self, components: int, dims: int) -> tuple[int, ...]:
        return (components,)

    def n_parameters(self, components: int, dims: int) -> int:
        return components

    def estimate(self, moments: Moments, mass: Float, reg_covar: float) -> Float:
        return np.asarray(moments.covariances(mass) / moments.first.shape[1] + reg_covar)

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        return np.asarray(dims * np.log(cholesky))

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        return np.asarray(covariances[:, None, None] * np.eye(dims))


COVARIANCES: dict[str, Covariance] = {c.name: c for c in (Full(), Tied(), Diagonal(), Spherical())}


@dataclass(frozen=True)
class Gaussians:
    """K Gaussian components.

    ``log p_k(z) = log |U_k| - D/2 log 2 pi - 1/2 |U_k' (z - m_k)|^2`` with U_k U_k' the precision.

    Parameters
    ----------
    covariance : Covariance
        The shape of the covariances.
    means : ndarray of shape (K, D)
    covariances : ndarray
        In the shape that ``covariance`` says.
    precisions_cholesky : ndarray
        U, in the same shape.
    """

    covariance: Covariance
    means: Float
    covariances: Float
    precisions_cholesky: Float

    @property
    def kind(self) -> Kind:
        """The moments that :meth:`from_moments` needs."""
        return self.covariance.kind

    @property
    def quadratics(self) -> Quadratics:
        """What a backend evaluates."""
        K, D = self.means.shape
        log_norm = self.covariance.log_determinants(self.precisions_cholesky, K, D)
        return Quadratics(
            self.covariance.form,
            log_norm - 0.5 * D * math.log(2.0 * math.pi),
            self.means,
            self.covariance.factors(self.precisions_cholesky),
        )

    @classmethod
    def from_moments(cls, covariance: Covariance, moments: Moments, reg_covar: float) -> Gaussians:
        """The M-step: maximum likelihood with ``reg_covar`` added to the variances."""
        mass = moments.kept_mass()
        covariances = covariance.estimate(moments, mass, reg_covar)
        return cls(covariance, moments.means(mass), covariances, covariance.cholesky(covariances))

    @classmethod
    def from_precisions(cls, covariance: Covariance, means: Float, precisions: Float) -> Gaussians:
        """Components with the given means and precisions."""
        cholesky = covariance.cholesky_of_precisions(precisions)
        return cls(covariance, means, covariance.covariances_of(cholesky), cholesky)

    def sample(self, counts: NDArray[Any], rng: np.random.RandomState) -> Float:
        """Draw counts[k] rows of each component, (sum counts, D), component by component."""
        D = self.means.shape[1]
        return np.vstack(
            [
                mean + self.covariance.color(rng.standard_normal((int(n), D)), self.precisions_cholesky, k)
                for k, (mean, n) in enumerate(zip(self.means, counts, strict=True))
            ]
        )
