"""Weighted least squares from moments: one expert's slopes and their accuracy, with or without a prior."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from mixtura.moments import Moments
from mixtura.threads import compiled_allowed, native
from mixtura.triangles import unpack_symmetric

Float = NDArray[np.float64]
Booleans = NDArray[np.bool_]

# Columns count as dependent if an eigenvalue of their correlations is below this times the number of columns: moments
# have a relative error of about 1e-15.
_DEPENDENT = 1e-12

# Range of eigenvalues that are above rounding, but so small that slopes along their directions are inaccurate when they
# are computed from sums of squares: the slopes' error is machine epsilon over the eigenvalue.
_DELICATE = (1e-14, 1e-7)

# Relative error of slopes along a direction, times its eigenvalue. Residuals are taken to be at least as large as this
# error makes them.
_SOLVED = 8 * float(np.finfo(np.float64).eps)

# Variance of a column among an expert's rows, as a share of its variance in the table, up to which the column counts as
# constant. If it varies only among rows of negligible weight, its slope would be so large that rounding would dominate.
_CONSTANT = 1e-20

# Rounding error of second moments, as a share of their largest eigenvalue, and of sums of squares, as a share of them.
ROUNDING = 64 * float(np.finfo(np.float64).eps)

# Number of columns up to which the equations of all experts are solved together.
_TOGETHER_COLUMNS = 32

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Scatters:
    """Second moments of each expert's rows about a point: their mean, or 0 if there is no intercept.

    The moments are xx (K, D, D), xy (K, D, M) and yy (K, M); the points are x (K, D) and y (K, M).
    """

    mass: Float
    x: Float
    y: Float
    xx: Float
    xy: Float
    yy: Float

    @classmethod
    def of(cls, moments: Moments, dims: int, intercept: bool) -> Scatters:
        """From moments of kind 'full' of z = [x; y]."""
        size = moments.first.shape[1]
        if intercept and native is not None and compiled_allowed():
            centers, whole = native.scatters(
                moments.mass, moments.first, moments.second, moments.pivot, dims, _CONSTANT
            )
        elif intercept:
            mass = np.maximum(moments.mass, _TINY)
            centers = moments.means(mass)
            whole = moments.covariances(mass)
            whole *= mass[:, None, None]
            squares = np.diagonal(whole, axis1=1, axis2=2)
            weight = mass.sum()
            offset = centers - mass @ centers / weight
            total = (squares + mass[:, None] * offset**2).sum(axis=0) / weight
            constant = squares <= _CONSTANT * total * mass[:, None]
            constant[:, dims:] = False
            if constant.any():
                whole[constant[:, :, None] | constant[:, None, :]] = 0.0
        else:
            centers = np.zeros_like(moments.first)
            if moments.pivot.ndim == 2:  # each component has its own pivot, so they are recentred one by one
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
        own = np.maximum(np.diagonal(whole, axis1=1, axis2=2)[:, dims:], 0.0)
        x, y = centers[:, :dims], centers[:, dims:]
        return cls(moments.mass, x, y, whole[:, :dims, :dims], whole[:, :dims, dims:], own)

    def residual(self, k: int, slopes: Float) -> Float:
        """Sums of squared residuals of given slopes (M, D) of expert k, (M,)."""
        fitted = np.einsum("md,de,me->m", slopes, self.xx[k], slopes)
        return np.asarray(
            np.maximum(self.yy[k] - 2.0 * np.einsum("md,dm->m", slopes, self.xy[k]) + fitted, 0.0)
        )


@dataclass(frozen=True)
class Solution:
    """A least-squares solution, or several, along a first axis.

    slopes : (M, D).
    inverse : the inverse of xx, (D, D).
    explained : the part of yy that the slopes explain, (M,).
    spoilt : the sum of squares that rounding errors of the slopes may leave in the residuals, (M,).
    dependent : whether columns are dependent.
    delicate : whether columns are so nearly dependent that slopes from sums of squares have few correct digits.
    """

    slopes: Float
    inverse: Float
    explained: Float
    spoilt: Float
    dependent: bool | NDArray[np.bool_]
    delicate: bool | NDArray[np.bool_]


def least_squares_each(xx: Float, xy: Float) -> Solution:
    """As :func:`least_squares`, for K experts (K, D, D) and (K, D, M), which cost less together."""
    regular = _regular(xx, xy) if xx.shape[1] <= _TOGETHER_COLUMNS else None
    if regular is not None:
        return regular
    alone = [least_squares(*both) for both in zip(xx, xy, strict=True)]
    return Solution(*(np.stack([getattr(one, f.name) for one in alone]) for f in fields(Solution)))


def regressions(
    moments: Moments, dims: int, noise_floor: Float, shared_noise: bool, numbers: tuple[float, float, float]
) -> tuple[Float, Float, Float, Float, Booleans, Booleans] | None:
    """Regressions with intercepts of all experts, in one native call; None where that is not to be had.

    Parameters
    ----------
    moments : Moments
        Of kind 'full', of z = [x; y].
    dims : int
        Number of covariates.
    noise_floor : ndarray of shape (M,)
    shared_noise : bool
    numbers : tuple of float
        Shares of a sum of squares, of the floor of the noise and of the mass that are rounding.

    Returns
    -------
    tuple of ndarray
        Means (K, D + M), slopes (K, M, D), noise (K, M), covariances of the slopes (K, M, D, D), and which experts'
        residuals hold too few digits and which have no rows, (K,).
    """
    if native is None or not compiled_allowed() or dims > _TOGETHER_COLUMNS:
        return None
    nearly_exact, near_floor, empty = numbers
    return native.regress(
        moments.mass,
        moments.first,
        moments.second,
        moments.pivot,
        dims,
        _CONSTANT,
        _DELICATE[1],
        _SOLVED,
        noise_floor,
        shared_noise,
        ROUNDING,
        nearly_exact,
        near_floor,
        empty,
    )


def _regular(xx: Float, xy: Float) -> Solution | None:
    """The solutions where all are far from dependent; None otherwise."""
    if native is not None and compiled_allowed():
        solved = native.solve(xx, xy, _DELICATE[1], _SOLVED)
        no = np.zeros(len(xx), dtype=bool)
        return None if solved is None else Solution(*solved, no, no)
    variances = np.diagonal(xx, axis1=1, axis2=2)
    if not (variances > 0.0).all():
        return None
    scale = np.sqrt(variances)
    scales = scale[:, :, None] * scale[:, None, :]
    correlation = xx / scales
    try:
        root = np.linalg.inv(np.linalg.cholesky(correlation))
    except np.linalg.LinAlgError:
        return None
    turned = root.transpose(0, 2, 1)
    inverse = turned @ root
    norms = np.abs(correlation).sum(axis=1).max(axis=1) * np.abs(inverse).sum(axis=1).max(axis=1)
    if not (norms * _DELICATE[1] < 1.0).all():
        return None
    half = root @ (xy / scale[:, :, None])
    slopes = np.ascontiguousarray((turned @ half / scale[:, :, None]).transpose(0, 2, 1))
    explained = np.square(half).sum(axis=1)
    spoilt = explained * ((_SOLVED * norms) ** 2)[:, None]
    no = np.zeros(len(xx), dtype=bool)
    return Solution(slopes, inverse / scales, explained, spoilt, no, no)


def least_squares(xx: Float, xy: Float) -> Solution:
    """Slopes that solve ``xx W' = xy``.

    Columns are standardised first, so that the result does not depend on their units. With dependent columns (copies,
    constants, too few rows) there are many solutions: the slopes are those of least norm, from the pseudo-inverse.
    """
    variances = xx.diagonal()
    scale = np.sqrt(np.where(variances > 0.0, variances, 1.0))
    scales = scale[:, None] * scale
    correlation = xx / scales
    target = xy / scale[:, None]
    factor, failed = lapack.dpotrf(correlation, lower=1, clean=1)
    if not failed:
        condition, _ = lapack.dpocon(factor, np.abs(correlation).sum(axis=0).max(), uplo="L")
        if condition > _DELICATE[1]:
            # Not by potri, which wakes BLAS's threads for matrices of any size: they spin beside the kernels.
            root, _ = lapack.dtrtri(factor, lower=1)
            inverse = root.T @ root / scales
            half, _ = lapack.dtrtrs(factor, target, lower=1)
            solution, _ = lapack.dtrtrs(factor, half, lower=1, trans=1)
            slopes = np.ascontiguousarray((solution / scale[:, None]).T)
            explained = np.square(half).sum(axis=0)
            return Solution(slopes, inverse, explained, explained * (_SOLVED / condition) ** 2, False, False)
    values, vectors = np.linalg.eigh(correlation)
    independent = values > _DEPENDENT * len(values)
    parts = vectors[:, independent].T @ target / np.sqrt(values[independent])[:, None]
    slopes = vectors[:, independent] @ (parts / np.sqrt(values[independent])[:, None]) / scale[:, None]
    inverse = (vectors[:, independent] / values[independent]) @ vectors[:, independent].T / scales
    low, high = _DELICATE
    return Solution(
        np.ascontiguousarray(slopes.T),
        inverse,
        np.sum(parts**2, axis=0),
        np.sum((parts * (_SOLVED / values[independent])[:, None]) ** 2, axis=0),
        bool(not independent.all()),
        bool(np.any((low * len(values) < values) & (values < high))),
    )


@dataclass(frozen=True)
class Posterior:
    """``N(w0 + step, C C')``, with step (D,), root C (D, D) and spread ``tr(C C' xx)``."""

    step: Float
    root: Float
    spread: float


def posterior_of(covariance: Float, xx: Float, noise: float, away: Float) -> Posterior:
    """Posterior of the slopes given the noise s: ``C C' = (A^-1 + xx / s)^-1``, ``step = C C' away / s``.

    Here ``away = xy - xx w0``.

    Computed from the eigenvectors of R' xx R with A = R R': with a plain inverse and small s, rounding errors would be
    1 / s times as large in directions that the rows determine. Eigenvalues of the size of rounding are set to 0: no row
    informs about these directions, and for still smaller noise rounding would override the prior there.
    """
    root = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(root.T @ xx @ root)
    values[values < ROUNDING * values[-1]] = 0.0
    root = root @ vectors
    informed = root[:, values > 0.0]
    step = informed @ (informed.T @ away / (noise + values[values > 0.0]))
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
