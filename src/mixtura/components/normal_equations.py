"""Weighted least squares out of moments: one expert's slopes, with or without a prior, and how well they are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from mixtura.moments import Moments
from mixtura.triangles import unpack_symmetric

Float = NDArray[np.float64]

# Eigenvalue of the correlations of columns below which, times the number of columns, they count as dependent: moments
# are good to about 1e-15 of their size.
_DEPENDENT = 1e-12

# Eigenvalues above rounding, but so small that sums of squares alone do not tell the slopes along them well enough: the
# slopes' error is the machine's epsilon over the eigenvalue.
_DELICATE = (1e-14, 1e-7)

# Slopes along a direction are good to this over its eigenvalue: residuals must not be thought smaller than they are.
_SOLVED = 8 * float(np.finfo(np.float64).eps)

# Variance of a column among an expert's rows, as a share of its variance in the table, that tells of no slope: where
# the column varies among rows of no account alone, slopes would be so large that rounding elsewhere drowned them.
_CONSTANT = 1e-20

# Share of the largest eigenvalue of second moments, and of sums of squares, that is rounding.
ROUNDING = 64 * float(np.finfo(np.float64).eps)

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Scatter:
    """Second moments of one expert's rows about a point: its mean, or 0 without an intercept.

    xx (D, D), xy (D, M), yy (M,), and the point as x (D,) and y (M,).
    """

    mass: float
    x: Float
    y: Float
    xx: Float
    xy: Float
    yy: Float

    def residual(self, slopes: Float) -> Float:
        """Sums of squared residuals of given slopes (M, D), (M,)."""
        fitted = np.einsum("md,de,me->m", slopes, self.xx, slopes)
        return np.asarray(np.maximum(self.yy - 2.0 * np.einsum("md,dm->m", slopes, self.xy) + fitted, 0.0))


def scatters(moments: Moments, dims: int, intercept: bool) -> list[Scatter]:
    """One for each expert, from moments of kind 'full' of z = [x; y]."""
    size = moments.first.shape[1]
    if intercept:
        mass = np.maximum(moments.mass, _TINY)
        centers = moments.means(mass)
        whole = moments.covariances(mass) * mass[:, None, None]
        squares = np.diagonal(whole, axis1=1, axis2=2)
        weight = mass.sum()
        away = centers - mass @ centers / weight
        total = (squares + mass[:, None] * away**2).sum(axis=0) / weight
        constant = squares <= _CONSTANT * total * mass[:, None]
        constant[:, dims:] = False
        whole[constant[:, :, None] | constant[:, None, :]] = 0.0
    else:
        centers = np.zeros_like(moments.first)
        if moments.pivot.ndim == 2:  # a pivot for each component: moved one by one
            seconds = [
                replace(
                    moments,
                    pivot=moments.pivot[k],
                    mass=moments.mass[[k]],
                    first=moments.first[[k]],
                    second=moments.second[[k]],
                )
                .recenter(np.zeros(size))
                .second
                for k in range(len(moments.mass))
            ]
            whole = unpack_symmetric(np.concatenate(seconds), size)
        else:
            whole = unpack_symmetric(moments.recenter(np.zeros(size)).second, size)
    return [
        Scatter(
            float(n), c[:dims], c[dims:], S[:dims, :dims], S[:dims, dims:], np.maximum(np.diag(S)[dims:], 0.0)
        )
        for n, c, S in zip(moments.mass, centers, whole, strict=True)
    ]


@dataclass(frozen=True)
class Solution:
    """Least squares.

    slopes : (M, D).
    inverse : of xx, (D, D).
    explained : what of yy the slopes explain, (M,).
    spoilt : what of that rounding may have left in the residuals, (M,).
    dependent : whether columns are dependent.
    delicate : whether some are so nearly dependent that sums of squares tell the slopes with few digits.
    """

    slopes: Float
    inverse: Float
    explained: Float
    spoilt: Float
    dependent: bool
    delicate: bool


@cache
def _below(dims: int) -> NDArray[np.bool_]:
    """The lower triangle of a matrix, its diagonal included."""
    return np.tri(dims, dtype=bool)


def least_squares(xx: Float, xy: Float) -> Solution:
    """Slopes that solve ``xx W' = xy``.

    Columns are standardised first, so that their units matter to nothing. Dependent columns (copies, constants, too few
    rows) leave many solutions: the one of least norm is taken, and the pseudo-inverse.
    """
    scale = np.sqrt(np.maximum(np.diag(xx), 0.0))
    scale[scale <= 0.0] = 1.0
    correlation = xx / np.outer(scale, scale)
    target = xy / scale[:, None]
    factor, failed = lapack.dpotrf(correlation, lower=1, clean=0)
    if not failed:
        condition, _ = lapack.dpocon(factor, np.abs(correlation).sum(axis=0).max(), uplo="L")
        if condition > _DELICATE[1]:
            inverse, _ = lapack.dpotri(factor, lower=1)
            inverse = np.where(_below(len(scale)), inverse, inverse.T) / np.outer(scale, scale)
            half, _ = lapack.dtrtrs(factor, target, lower=1)
            solved, _ = lapack.dtrtrs(factor, half, lower=1, trans=1)
            slopes = np.ascontiguousarray((solved / scale[:, None]).T)
            explained = np.sum(half**2, axis=0)
            return Solution(slopes, inverse, explained, explained * (_SOLVED / condition) ** 2, False, False)
    values, vectors = np.linalg.eigh(correlation)
    kept = values > _DEPENDENT * len(values)
    parts = vectors[:, kept].T @ target / np.sqrt(values[kept])[:, None]
    slopes = vectors[:, kept] @ (parts / np.sqrt(values[kept])[:, None]) / scale[:, None]
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)
    low, high = _DELICATE
    return Solution(
        np.ascontiguousarray(slopes.T),
        inverse,
        np.sum(parts**2, axis=0),
        np.sum((parts * (_SOLVED / values[kept])[:, None]) ** 2, axis=0),
        bool(not kept.all()),
        bool(np.any((low * len(values) < values) & (values < high))),
    )


@dataclass(frozen=True)
class Posterior:
    """``N(w0 + step, C C')``: step (D,), root C (D, D), and ``tr(C C' xx)``, the spread."""

    step: Float
    root: Float
    spread: float


def posterior_of(covariance: Float, xx: Float, noise: float, away: Float) -> Posterior:
    """Slopes given the noise s: ``C C' = (A^-1 + xx / s)^-1``, ``step = C C' away / s`` with ``away = xy - xx w0``.

    By eigenvectors of R' xx R with A = R R': of a plain inverse, rounding would be 1 / s times as large in
    directions that the rows determine, where s is small. Eigenvalues of the size of rounding are 0: no row tells of
    these directions, and were the noise smaller still, the prior would be lost there.
    """
    root = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(root.T @ xx @ root)
    values[values < ROUNDING * values[-1]] = 0.0
    root = root @ vectors
    seen = root[:, values > 0.0]
    step = seen @ (seen.T @ away / (noise + values[values > 0.0]))
    return Posterior(
        step, root * np.sqrt(noise / (noise + values)), float(np.sum(noise * (values / (noise + values))))
    )


def root_of(positive: Float) -> Float:
    """C with C C' = a positive semidefinite matrix (D, D)."""
    factor, failed = lapack.dpotrf(positive, lower=1, clean=1)
    if failed:
        values, vectors = np.linalg.eigh(positive)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
    return np.ascontiguousarray(factor)
