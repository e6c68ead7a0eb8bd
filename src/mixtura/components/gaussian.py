"""Gaussian components."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.components.base import Components
from mixtura.components.covariances import Covariance
from mixtura.found import Found
from mixtura.moments import Kind, Moments
from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussians(Components):
    """K Gaussian components.

    ``log p_k(z) = log |U_k| - D/2 log 2 pi - 1/2 |U_k' (z - m_k)|^2`` with U_k U_k' the precision.

    Parameters
    ----------
    covariance : Covariance
        The family of the covariances.
    means : ndarray of shape (K, D)
    covariances : ndarray
        In the shape that the family keeps.
    precisions_cholesky : ndarray
        U_k, in the same shape.
    reg_covar : float, default=0
        The M-step adds this to the variances.
    """

    covariance: Covariance
    means: Float
    covariances: Float
    precisions_cholesky: Float
    reg_covar: float = 0.0

    @property
    def kind(self) -> Kind:
        """The kind of moments that the M-step needs."""
        return self.covariance.kind

    @property
    def floor(self) -> float:
        """Digits of a variance below ``reg_covar`` do not matter, since that is added to it."""
        return self.reg_covar

    @property
    def quadratics(self) -> Quadratics:
        """The components' log-densities."""
        K, D = self.means.shape
        log_norm = self.covariance.storage.log_determinants(self.precisions_cholesky, K, D)
        return Quadratics(
            self.covariance.storage.form,
            log_norm - 0.5 * D * math.log(2.0 * math.pi),
            self.means,
            self.covariance.storage.factors(self.precisions_cholesky),
        )

    def maximize(self, found: Found) -> Gaussians:
        """The M-step: maximum likelihood with ``reg_covar`` added to the variances."""
        return Gaussians.from_moments(self.covariance, found.moments, self.reg_covar)

    @classmethod
    def from_moments(cls, covariance: Covariance, moments: Moments, reg_covar: float) -> Gaussians:
        """Maximum likelihood with ``reg_covar`` added to the variances."""
        mass, storage = moments.kept_mass(), covariance.storage
        covariances = storage.regularized(covariance.estimate(moments, mass), reg_covar)
        return cls(covariance, moments.means(mass), covariances, storage.cholesky(covariances), reg_covar)

    @classmethod
    def from_precisions(
        cls, covariance: Covariance, means: Float, precisions: Float, reg_covar: float = 0.0
    ) -> Gaussians:
        """Components with the given means and precisions."""
        storage = covariance.storage
        cholesky = storage.cholesky_of_precisions(precisions)
        return cls(covariance, means, storage.covariances_of(cholesky), cholesky, reg_covar)

    def sample(self, counts: NDArray[Any], rng: np.random.RandomState) -> Float:
        """Draw counts[k] rows of each component, (sum counts, D), component by component."""
        D = self.means.shape[1]
        return np.vstack(
            [
                mean
                + self.covariance.storage.color(rng.standard_normal((int(n), D)), self.precisions_cholesky, k)
                for k, (mean, n) in enumerate(zip(self.means, counts, strict=True))
            ]
        )
