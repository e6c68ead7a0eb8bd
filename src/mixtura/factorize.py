"""Factors of covariance matrices, by LAPACK."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import cython_lapack, lapack

from mixtura.errors import SingularError
from mixtura.threads import BLAS_ALONE, compiled_allowed, limit_blas, native, thread_limit

Float = NDArray[np.float64]


class IllDefinedCovarianceError(SingularError):
    """A covariance is not positive definite."""

    def __init__(self) -> None:
        super().__init__(
            "Fitting the mixture model failed because some components have "
            "ill-defined empirical covariance (for instance caused by singleton "
            "or collapsed samples). Try to decrease the number of components, "
            "increase reg_covar, or scale the input data."
        )


def inverse_cholesky(covariance: Float) -> Float:
    """Upper triangular U with U U' = inverse of the covariance (D, D).

    LAPACK's potrf and trtri are called directly: scipy's solve_triangular would start BLAS's threads for matrices
    of any size, and these then spin on the processors that the kernels need.
    """
    lower, failed = lapack.dpotrf(covariance, lower=1, clean=1)
    if not failed:
        inverse, failed = lapack.dtrtri(lower, lower=1)
    if failed or not np.isfinite(inverse).all():
        raise IllDefinedCovarianceError
    return np.ascontiguousarray(inverse.T)


# Eigenvalue of a correlation matrix, times the number of columns, below which it is rounding error.
_SINGULAR = 1e-12

# Number of elements of all covariance matrices from which on they are factorised on all threads.
_MANY = 1 << 16


def inverse_choleskys(covariances: Float) -> Float:
    """As :func:`inverse_cholesky`, for K matrices (K, D, D), on the compiled kernels' threads if they are available.

    These write the transposes side by side, which is how kernels read factors: the result is a view of them.
    """
    few, many = covariances.shape[-1] <= BLAS_ALONE, len(covariances) > 1 and covariances.size >= _MANY
    if native is None or not compiled_allowed() or not (few or many):
        return np.stack([inverse_cholesky(c) for c in covariances])
    routines = cython_lapack.__pyx_capi__
    with nullcontext() if few else limit_blas(1):
        threads = thread_limit() if many else 1
        inverse = native.inverse_cholesky(covariances, routines["dpotrf"], routines["dtrtri"], threads)
    if inverse is None:
        raise IllDefinedCovarianceError
    return np.swapaxes(inverse, -1, -2)


def transposes(matrices: Float) -> Float:
    """K matrices (K, R, C), each transposed, row by row; without a copy where that is how they lie."""
    turned = np.swapaxes(matrices, -1, -2)
    if native is None or not compiled_allowed() or matrices.size < _MANY or turned.flags.c_contiguous:
        return np.ascontiguousarray(turned)
    return native.transposed(matrices, thread_limit())


def cholesky_of_precision(precision: Float) -> Float:
    """Upper triangular U with U U' = precision (D, D): a Cholesky factorisation from the last row up."""
    flipped = linalg.cholesky(precision[::-1, ::-1], lower=True)
    return np.ascontiguousarray(flipped[::-1, ::-1])


def solve_right(rows: Float, upper: Float) -> Float:
    """``rows upper^-1``, for an upper triangle."""
    return np.asarray(linalg.solve_triangular(upper, rows.T, trans="T", check_finite=False).T)


def is_definite(matrix: Float) -> bool:
    """Whether a symmetric matrix is positive definite; the answer does not depend on the units of its columns."""
    _, failed = lapack.dpotrf(np.asarray(matrix, dtype=np.float64), lower=1)
    return not failed


def bounded_matrix(scaled: Float, spread: Float) -> tuple[Float, Float]:
    """A covariance whose eigenvalues, in units of ``spread``, are at least 1, and U with U U' = its inverse.

    U comes from the eigenvectors, not from the matrix, in which the least eigenvalue has lost digits to the largest.

    Parameters
    ----------
    scaled : ndarray of shape (D, D)
        The covariance without that bound, divided by ``spread`` in rows and columns.
    spread : ndarray of shape (D,)
    """
    values, vectors = np.linalg.eigh(scaled)
    values = np.maximum(values, 1.0)
    root = spread[:, None] * vectors * np.sqrt(values)
    upper, _ = linalg.rq(vectors / np.sqrt(values) / spread[:, None])
    signs = np.where(np.diagonal(upper) < 0.0, -1.0, 1.0)
    return root @ root.T, np.ascontiguousarray(upper * signs)


def whitened_by(covariance: Float) -> Float:
    """A (D, R) with A' C A = 1, for the R directions in which the covariance C (D, D) is not singular."""
    spread = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    varies = np.flatnonzero(spread > 0.0)
    scale = spread[varies]
    values, vectors = np.linalg.eigh(covariance[np.ix_(varies, varies)] / np.outer(scale, scale))
    regular = values > _SINGULAR * len(varies)
    whitening = np.zeros((len(covariance), int(regular.sum())))
    whitening[varies] = vectors[:, regular] / np.sqrt(values[regular]) / scale[:, None]
    return whitening


def rounded_matrix(matrix: Float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A positive definite matrix (D, D) in another type of number.

    Rounding by eps changes the correlations by up to eps, which can be more than their smallest eigenvalue. Then the
    diagonal is multiplied by 1 + eps, 1 + 2 eps, 1 + 4 eps, ... until the rounded matrix is definite by a margin that
    other programs' rounding does not exceed; a factor of 1 + D eps always suffices.
    """
    rounded, growth = matrix.astype(dtype), float(np.finfo(dtype).eps)
    i = np.arange(len(matrix))
    margin = 16.0 * len(matrix) * float(np.finfo(np.float64).eps)

    def definite() -> bool:
        exact = rounded.astype(np.float64)
        exact[i, i] *= 1.0 - margin
        return is_definite(exact)

    while np.isfinite(rounded).all() and not definite() and growth < 1.0:
        rounded[i, i] = (matrix[i, i] * (1.0 + growth)).astype(dtype)
        growth *= 2.0
    return rounded
