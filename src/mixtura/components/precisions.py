"""What is known of precisions: Wishart distributions of matrices, gamma distributions of single precisions.

Each has v degrees of freedom and an expected precision ``v W``, whose inverse stands where a family keeps covariances.
A gamma distribution of one column's precision has shape ``v / 2``; one of a precision that D columns share ``D v / 2``.

References
----------
Bishop (2006), Pattern Recognition and Machine Learning, 10.2 and appendix B.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, psi

from mixtura.components.covariances import Covariance
from mixtura.moments import Kind

Float = NDArray[np.float64]


class Precisions(ABC):
    """The distributions of the precisions of a family's components.

    Parameters
    ----------
    covariance : Covariance

    Attributes
    ----------
    kind : str
        The kind of moments of a table from which the prior's scale is taken.
    """

    kind: ClassVar[Kind]

    def __init__(self, covariance: Covariance) -> None:
        self.storage = covariance.storage

    @abstractmethod
    def scale(self, covariance: Float) -> Float:
        """A table's covariance, from its moments of :attr:`kind`, in the shape of one component's."""

    def dof(self, prior: float, mass: Float) -> Float:
        """Degrees of freedom, (K,), given those of the prior and the components' masses."""
        return np.asarray(prior + mass)

    @abstractmethod
    def scatter(self, own: Float, mass: Float, away: Float, pull: Float) -> Float:
        """Scatter of the rows about the components' means, and of these about the prior's mean.

        Parameters
        ----------
        own : ndarray
            Covariances from moments.
        mass : ndarray of shape (K,)
        away : ndarray of shape (K, D)
            The means of the rows less the prior's.
        pull : ndarray of shape (K,)
            For how many rows ``away`` counts.
        """

    def covariances(self, scatter: Float, dof: Float) -> Float:
        """``(v W)^-1`` from ``W^-1``, of each component."""
        return np.asarray(scatter / dof.reshape(-1, *[1] * (scatter.ndim - 1)))

    @abstractmethod
    def log_spread(self, dof: Float, dims: int) -> Float:
        """``E log|L| - log|v W|``, (K,): what not knowing a precision L takes from its log-determinant."""

    def log_determinants(self, cholesky: Float, dof: Float, dims: int) -> Float:
        """``E log|L|``, (K,), where U with ``U U' = v W`` is known."""
        known = self.storage.log_determinants(cholesky, len(dof), dims)
        return np.asarray(2.0 * known + self.log_spread(dof, dims))

    @abstractmethod
    def divergence(
        self, covariances: Float, cholesky: Float, dof: Float, prior_scale: Float, prior_dof: float, dims: int
    ) -> float:
        """The Kullback-Leibler divergence of all posteriors from their prior, of scale ``W_0^-1``."""

    @abstractmethod
    def log_predictive(self, away: Float, covariance: Float, dof: float, spread: float) -> Float:
        """Log-density of rows whose mean and precision are integrated out, (n,): Student's t.

        Parameters
        ----------
        away : ndarray of shape (n, D)
            Rows less the posterior mean.
        covariance : ndarray of shape (D, D)
            ``(v W)^-1``, dense.
        dof : float
        spread : float
            ``(1 + b) / b``, for a mean that counts as b rows.
        """


class Wishart(Precisions):
    """A precision matrix for each component."""

    kind = "full"

    def scale(self, covariance: Float) -> Float:
        return covariance

    def scatter(self, own: Float, mass: Float, away: Float, pull: Float) -> Float:
        outer = away[:, :, None] * away[:, None, :]
        return np.asarray(mass[:, None, None] * own + pull[:, None, None] * outer)

    def log_spread(self, dof: Float, dims: int) -> Float:
        halves = 0.5 * (dof[:, None] - np.arange(dims))
        return np.asarray(psi(halves).sum(axis=1) - dims * np.log(0.5 * dof))

    def _once(self, each: Float) -> Float:
        """Of what is known of each component, (K,), as much as there are precisions."""
        return each

    def divergence(
        self, covariances: Float, cholesky: Float, dof: Float, prior_scale: Float, prior_dof: float, dims: int
    ) -> float:
        expected = self._once(self.log_determinants(cholesky, dof, dims))
        volumes = self._once(2.0 * self.storage.log_determinants(cholesky, len(dof), dims))
        dof = self._once(dof)
        _, log_prior = np.linalg.slogdet(prior_scale)
        precisions = self.storage.stacked(self.storage.precisions(cholesky))
        traces = np.einsum("ij,kji->k", prior_scale, precisions)
        own = _log_wishart(volumes - dims * np.log(dof), dof, dims)
        before = _log_wishart(-log_prior, np.array(prior_dof), dims)
        return float(np.sum(own - before + 0.5 * (dof - prior_dof) * expected + 0.5 * (traces - dof * dims)))

    def log_predictive(self, away: Float, covariance: Float, dof: float, spread: float) -> Float:
        free = dof + 1.0 - away.shape[1]
        return _log_t_of_matrix(away, covariance * spread * (dof / free), free)


class SharedWishart(Wishart):
    """One precision matrix for all components."""

    def dof(self, prior: float, mass: Float) -> Float:
        return np.full(len(mass), prior + mass.sum())

    def scatter(self, own: Float, mass: Float, away: Float, pull: Float) -> Float:
        return np.asarray(mass.sum() * own + np.einsum("k,ki,kj->ij", pull, away, away))

    def covariances(self, scatter: Float, dof: Float) -> Float:
        return np.asarray(scatter / dof[0])

    def _once(self, each: Float) -> Float:
        return each[:1]


class Gammas(Precisions):
    """A precision for each column of each component."""

    kind = "diagonal"

    def scale(self, covariance: Float) -> Float:
        return covariance

    def scatter(self, own: Float, mass: Float, away: Float, pull: Float) -> Float:
        return np.asarray(mass[:, None] * own + pull[:, None] * away**2)

    def _shapes(self, dof: Any, dims: int) -> Any:
        """Shapes of the gamma distributions."""
        return 0.5 * dof

    def log_spread(self, dof: Float, dims: int) -> Float:
        shapes = self._shapes(dof, dims)
        return np.asarray(dims * (psi(shapes) - np.log(shapes)))

    def divergence(
        self, covariances: Float, cholesky: Float, dof: Float, prior_scale: Float, prior_dof: float, dims: int
    ) -> float:
        a, a0 = self._shapes(dof, dims)[:, None], self._shapes(prior_dof, dims)
        # A rate is the shape times the inverse of the expected precision.
        b = a * covariances.reshape(len(dof), -1)
        b0 = a0 * np.asarray(prior_scale / prior_dof, dtype=np.float64).reshape(1, -1)
        terms = (a - a0) * psi(a) - gammaln(a) + gammaln(a0) + a0 * np.log(b / b0) + a * (b0 / b - 1.0)
        return float(terms.sum())

    def log_predictive(self, away: Float, covariance: Float, dof: float, spread: float) -> Float:
        # A t distribution for each column.
        scale = spread * np.diagonal(covariance)
        return np.asarray((_log_t(away**2 / scale, dof, 1) - 0.5 * np.log(scale)).sum(axis=1))


class Gamma(Gammas):
    """One precision for all columns of a component."""

    def scale(self, covariance: Float) -> Float:
        return np.asarray(covariance.mean())

    def scatter(self, own: Float, mass: Float, away: Float, pull: Float) -> Float:
        return np.asarray((mass * own + pull * np.sum(away**2, axis=1)) / away.shape[1])

    def _shapes(self, dof: Any, dims: int) -> Any:
        return 0.5 * dof * dims

    def log_predictive(self, away: Float, covariance: Float, dof: float, spread: float) -> Float:
        return _log_t_of_matrix(away, covariance * spread, dof * away.shape[1])


_OF_FAMILIES: dict[str, type[Precisions]] = {
    "full": Wishart,
    "tied": SharedWishart,
    "diag": Gammas,
    "spherical": Gamma,
}


def precisions_of(covariance: Covariance) -> Precisions:
    """The distributions of the precisions of a family."""
    return _OF_FAMILIES[covariance.name](covariance)


def _log_wishart(log_volume: Any, dof: Float, dims: int) -> Float:
    """The logarithm of a Wishart density's normalising factor, ``log B(W, v)``, given log|W|."""
    halves = gammaln(0.5 * (np.asarray(dof)[..., None] - np.arange(dims))).sum(axis=-1)
    constant = 0.25 * dims * (dims - 1) * math.log(math.pi)
    return np.asarray(-0.5 * dof * log_volume - 0.5 * dof * dims * math.log(2.0) - constant - halves)


def _log_t(squares: Float, dof: float, dims: int) -> Float:
    """Log-density of Student's t distribution of unit scale, given squared distances."""
    constant = gammaln(0.5 * (dof + dims)) - gammaln(0.5 * dof) - 0.5 * dims * math.log(dof * math.pi)
    return np.asarray(constant - 0.5 * (dof + dims) * np.log1p(squares / dof))


def _log_t_of_matrix(away: Float, scale: Float, dof: float) -> Float:
    """Log-density of Student's t distribution with a scale matrix (D, D)."""
    root = np.linalg.cholesky(scale)
    squares = np.sum(np.linalg.solve(root, away.T) ** 2, axis=0)
    return np.asarray(_log_t(squares, dof, len(scale)) - np.log(np.diagonal(root)).sum())
