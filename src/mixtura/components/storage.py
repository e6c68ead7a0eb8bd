"""How covariances are kept: matrices, diagonals or single numbers; one for each component, or one for all.

Factors, inverses and determinants depend only on how covariances are kept. Which covariances the components share, and
how they are estimated, is the subject of :mod:`mixtura.components.covariances`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.factorize import (
    IllDefinedCovarianceError,
    bounded_matrix,
    cholesky_of_precision,
    inverse_choleskys,
    is_definite,
    rounded_matrix,
    solve_right,
    transposes,
    whitened_by,
)
from mixtura.quadratics import Form
from mixtura.threads import compiled_allowed, native, threads_for

Float = NDArray[np.float64]
Booleans = NDArray[np.bool_]


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
    def regularized(self, covariances: Float, reg_covar: float | Float) -> Float:
        """Covariances with ``reg_covar``, one number or one for each column (D,), added to the variances."""

    def added(self, reg_covar: float | Float, dims: int) -> Float:
        """What :meth:`regularized` adds to the variance of each column, (D,)."""
        none = self.regularized(np.zeros(self.shape(1, dims)), reg_covar)
        return np.array(np.diagonal(self.dense(none, 1, dims)[0]))

    @abstractmethod
    def bounded(self, covariances: Float, least: Float) -> tuple[Float, Float, Booleans]:
        """The most likely covariances of which none is narrower than ``least`` in any direction.

        Parameters
        ----------
        covariances : ndarray
            The most likely ones without that bound.
        least : ndarray of shape (D,)
            Variances L: a covariance C is bounded if C - diag(L) has no negative eigenvalue.

        Returns
        -------
        covariances, cholesky : ndarray
        bounded : ndarray of bool
            Which covariances have changed, with a first axis of 1 if all components share one.
        """

    @abstractmethod
    def narrowest(self, covariances: Float, scale: Float, below: float) -> Float:
        """The least variance of each covariance in any direction, relative to that of ``scale`` there.

        Parameters
        ----------
        covariances : ndarray
            As they are kept.
        scale : ndarray
            One covariance, in the shape of one that is kept. Directions in which it has no variance do not count.
        below : float
            Values above this need not be exact.
        """

    @abstractmethod
    def of_matrix(self, covariance: Float) -> Float:
        """A covariance matrix (D, D) in the shape of one that is kept, without its other entries."""

    @abstractmethod
    def prior_scale(self, scale: Float) -> Float:
        """What a prior with scale matrix ``scale`` (D, D) adds to a component's scatter, (D, D)."""

    @abstractmethod
    def prior_rows(self, dof: float, dims: int) -> float:
        """What a prior of so many degrees of freedom adds to the divisor of a component's scatter, its mean apart."""

    def deviations(self, covariances: Float, components: int, dims: int) -> Float:
        """Standard deviations of the columns, (K, D), or of fewer numbers where these are equal."""
        dense = self.dense(covariances, components, dims)
        return np.asarray(np.sqrt(np.diagonal(dense, axis1=1, axis2=2)))

    def close(self, covariances: Float, others: Float, within: float) -> bool:
        """Whether no entry differs by more than ``within`` times the two columns' standard deviations.

        By default, whether all are equal.
        """
        return bool((covariances == others).all())

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
    def roots(self, cholesky: Float, dims: int) -> Float:
        """Lower triangles L with L L' = covariance, (K, D, D), or (1, D, D) where one is shared."""

    @abstractmethod
    def of_roots(self, roots: Float) -> Float:
        """U from :meth:`roots`."""

    @abstractmethod
    def coordinates(self, cholesky: Float) -> Float:
        """U as one vector, with the logarithms of what must be positive."""

    @abstractmethod
    def at(self, coordinates: Float, components: int, dims: int) -> Float:
        """U from :meth:`coordinates`."""

    @abstractmethod
    def scales(self, cholesky: Float, deviations: Float) -> Float:
        """Sizes of a large step of each coordinate, where the columns have these standard deviations (D,)."""

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

    def regularized(self, covariances: Float, reg_covar: float | Float) -> Float:
        diagonals = np.einsum("...ii->...i", covariances)  # a view
        diagonals += reg_covar
        return covariances

    def bounded(self, covariances: Float, least: Float) -> tuple[Float, Float, Booleans]:
        """See :meth:`Storage.bounded`: eigenvalues in units of ``least`` that are below 1 become 1."""
        stacked, spread = self.stacked(covariances), np.sqrt(least)
        scaled = stacked / np.outer(spread, spread)
        narrow = np.array([not is_definite(c - np.eye(len(least))) for c in scaled])
        out = np.array(stacked)
        cholesky = np.empty_like(out)
        for k in np.flatnonzero(narrow):
            out[k], cholesky[k] = bounded_matrix(scaled[k], spread)
        if not narrow.all():
            cholesky[~narrow] = inverse_choleskys(out[~narrow])
        return np.asarray(self.kept(out)), np.asarray(self.kept(cholesky)), narrow

    def narrowest(self, covariances: Float, scale: Float, below: float) -> Float:
        """See :meth:`Storage.narrowest`: the least eigenvalue after whitening by ``scale``.

        It is above ``below`` if the covariance less ``below`` times the scale is definite, which is quicker to find.
        """
        stacked = self.stacked(covariances)
        out = np.full(len(stacked), np.inf)
        suspects = [k for k, c in enumerate(stacked) if not is_definite(c - below * scale)]
        if suspects:
            whitening = whitened_by(scale)
            if whitening.shape[1]:
                within = whitening.T @ stacked[suspects] @ whitening
                out[suspects] = np.linalg.eigvalsh(within)[:, 0]
        return out

    def of_matrix(self, covariance: Float) -> Float:
        return covariance

    def close(self, covariances: Float, others: Float, within: float) -> bool:
        for one, other in zip(self.stacked(covariances), self.stacked(others), strict=True):
            deviations = np.sqrt(np.diagonal(one))
            if not (np.abs(other - one) <= within * np.outer(deviations, deviations)).all():
                return False
        return True

    def prior_scale(self, scale: Float) -> Float:
        return scale

    def prior_rows(self, dof: float, dims: int) -> float:
        return dof + dims + 1.0

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
        return transposes(self.stacked(cholesky))

    def roots(self, cholesky: Float, dims: int) -> Float:
        return np.tril(np.swapaxes(np.linalg.inv(self.stacked(cholesky)), -1, -2))

    def of_roots(self, roots: Float) -> Float:
        return np.asarray(self.kept(np.triu(np.swapaxes(np.linalg.inv(roots), -1, -2))))

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        log_det = np.log(np.diagonal(self.stacked(cholesky), axis1=1, axis2=2)).sum(axis=1)
        return np.asarray(np.broadcast_to(log_det, components) if self.shared else log_det)

    def color(self, noise: Float, cholesky: Float, k: int) -> Float:
        return solve_right(noise, cholesky if self.shared else cholesky[k])

    def coordinates(self, cholesky: Float) -> Float:
        stacked = np.array(self.stacked(cholesky))
        D = stacked.shape[-1]
        i, j = np.triu_indices(D)
        diagonal = np.arange(D)
        stacked[:, diagonal, diagonal] = np.log(stacked[:, diagonal, diagonal])
        return np.asarray(stacked[:, i, j].ravel())

    def at(self, coordinates: Float, components: int, dims: int) -> Float:
        n = 1 if self.shared else components
        i, j = np.triu_indices(dims)
        stacked = np.zeros((n, dims, dims))
        stacked[:, i, j] = coordinates.reshape(n, -1)
        diagonal = np.arange(dims)
        stacked[:, diagonal, diagonal] = np.exp(stacked[:, diagonal, diagonal])
        return np.asarray(self.kept(stacked))

    def scales(self, cholesky: Float, deviations: Float) -> Float:
        n, D = len(self.stacked(cholesky)), len(deviations)
        i, j = np.triu_indices(D)
        return np.asarray(np.tile(np.where(i == j, 1.0, 1.0 / deviations[i]), n))

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

    def regularized(self, covariances: Float, reg_covar: float | Float) -> Float:
        return np.asarray(covariances + self._of_columns(np.asarray(reg_covar)))

    def deviations(self, covariances: Float, components: int, dims: int) -> Float:
        stacked = self.stacked(np.asarray(covariances))
        return np.asarray(np.sqrt(stacked.reshape(len(stacked), -1)))

    def close(self, covariances: Float, others: Float, within: float) -> bool:
        return bool((np.abs(others - covariances) <= within * covariances).all())

    @abstractmethod
    def _of_columns(self, variances: Float) -> Float:
        """Variances of the columns, (D,), or one for all, in the shape of one covariance."""

    def bounded(self, covariances: Float, least: Float) -> tuple[Float, Float, Booleans]:
        """See :meth:`Storage.bounded`: a smaller variance becomes the least one."""
        bound = self._least_of_columns(least)
        raised = np.maximum(covariances, bound)
        changed = self.stacked(np.asarray(covariances < bound))
        each = np.logical_or.reduce(changed.reshape(len(changed), -1), axis=1)
        return np.asarray(raised), self.cholesky(raised), np.asarray(each)

    @abstractmethod
    def _least_of_columns(self, least: Float) -> Float:
        """The bound of :meth:`bounded` in the shape of one covariance."""

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

    def coordinates(self, cholesky: Float) -> Float:
        return np.log(np.asarray(cholesky)).ravel()

    def at(self, coordinates: Float, components: int, dims: int) -> Float:
        return np.exp(coordinates).reshape(self.shape(components, dims))

    def scales(self, cholesky: Float, deviations: Float) -> Float:
        return np.ones(np.size(cholesky))

    def factors(self, cholesky: Float) -> Float:
        return np.asarray(self.stacked(np.asarray(cholesky)))

    def roots(self, cholesky: Float, dims: int) -> Float:
        stacked = self.stacked(np.asarray(cholesky))
        return np.asarray((1.0 / stacked).reshape(len(stacked), -1)[:, :, None] * np.eye(dims))

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

    def _of_columns(self, variances: Float) -> Float:
        return variances

    def prior_scale(self, scale: Float) -> Float:
        return np.diag(np.diagonal(scale))

    def prior_rows(self, dof: float, dims: int) -> float:
        return dof + 2.0

    def _least_of_columns(self, least: Float) -> Float:
        return least

    def of_matrix(self, covariance: Float) -> Float:
        return np.array(np.diagonal(covariance))

    def of_roots(self, roots: Float) -> Float:
        return np.asarray(self.kept(1.0 / np.diagonal(roots, axis1=1, axis2=2)))

    def narrowest(self, covariances: Float, scale: Float, below: float) -> Float:
        """See :meth:`Storage.narrowest`: of the columns."""
        varies = scale > 0.0
        shares = self.stacked(covariances)[:, varies] / scale[varies]
        return np.asarray(shares.min(axis=1, initial=np.inf))

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        stacked = self.stacked(cholesky)
        if native is None or not compiled_allowed():
            sums = np.log(stacked).sum(axis=1)
        else:
            sums = native.sums_of_logarithms(stacked, threads_for(stacked.size))
        return np.asarray(np.broadcast_to(sums, components))

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        matrices = self.stacked(covariances)[:, :, None] * np.eye(dims)
        return np.broadcast_to(matrices, (components, dims, dims))


class Scalars(_Elementwise):
    """One variance for all columns, (K,) or ()."""

    form = "scalar"

    def _inner(self, dims: int) -> tuple[int, ...]:
        return ()

    def _of_columns(self, variances: Float) -> Float:
        return np.asarray(variances.mean())

    def prior_scale(self, scale: Float) -> Float:
        # The trace of what is returned is the one variance's scale.
        return np.asarray(np.eye(len(scale)) * (np.trace(scale) / len(scale) ** 2))

    def prior_rows(self, dof: float, dims: int) -> float:
        return (dof + 2.0) / dims

    def _least_of_columns(self, least: Float) -> Float:
        return np.asarray(least.max())

    def of_matrix(self, covariance: Float) -> Float:
        return np.asarray(np.trace(covariance) / len(covariance))

    def of_roots(self, roots: Float) -> Float:
        return np.asarray(self.kept(1.0 / roots[:, 0, 0]))

    def narrowest(self, covariances: Float, scale: Float, below: float) -> Float:
        """See :meth:`Storage.narrowest`: the one variance over the other."""
        variance = float(scale)
        stacked = self.stacked(np.asarray(covariances))
        return np.asarray(stacked / variance if variance > 0.0 else np.full(len(stacked), np.inf))

    def log_determinants(self, cholesky: Float, components: int, dims: int) -> Float:
        return np.asarray(np.broadcast_to(dims * np.log(self.stacked(np.asarray(cholesky))), components))

    def dense(self, covariances: Float, components: int, dims: int) -> Float:
        matrices = self.stacked(np.asarray(covariances))[:, None, None] * np.eye(dims)
        return np.broadcast_to(matrices, (components, dims, dims))
