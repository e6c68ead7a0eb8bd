"""Gaussian components with a conjugate prior, by variational inference.

A component's precision L and mean m have the prior ``L ~ W(W_0, v_0)``, ``m | L ~ N(m_0, (b_0 L)^-1)`` and a posterior
of the same form, with ``b = b_0 + n``, ``v = v_0 + n``, and so on. The E-step needs

    E log N(x | m, L^-1) = 1/2 E log|L| - D/2 log 2 pi - 1/2 (D / b + v (x - m)' W (x - m)),

which is a quadratic of x: no kernel knows the difference. What the precisions of a family have in the place of the
Wishart distribution is in :mod:`mixtura.components.precisions`.

References
----------
Bishop (2006), Pattern Recognition and Machine Learning, 10.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixtura.components.base import Components
from mixtura.components.covariances import Covariance
from mixtura.components.precisions import Precisions, precisions_of
from mixtura.found import Found
from mixtura.moments import Kind, Moments
from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NormalWishart:
    """The prior of means and precisions.

    Parameters
    ----------
    mean : ndarray of shape (D,)
        m_0.
    shrinkage : float
        b_0: rows for which the prior of a mean counts.
    dof : float
        v_0, above D - 1.
    scale : ndarray
        The inverse of W_0, as one covariance of the family is kept: v_0 times the covariance that the prior expects.
    """

    mean: Float
    shrinkage: float
    dof: float
    scale: Float


@dataclass(frozen=True, eq=False)
class BayesianGaussians(Components):
    """K Gaussians, each known up to a posterior distribution.

    Parameters
    ----------
    covariance : Covariance
        One of the four families of scikit-learn: how precisions are kept.
    prior : NormalWishart
    means : ndarray of shape (K, D)
        m.
    shrinkage : ndarray of shape (K,)
        b.
    dof : ndarray of shape (K,)
        v; all the same where one covariance is shared.
    covariances : ndarray
        ``(v W)^-1``, the inverses of the precisions that are expected, as the family keeps them.
    precisions_cholesky : ndarray
        U with ``U U' = v W``.
    """

    covariance: Covariance
    prior: NormalWishart
    means: Float
    shrinkage: Float
    dof: Float
    covariances: Float
    precisions_cholesky: Float

    @classmethod
    def start(cls, covariance: Covariance, prior: NormalWishart, components: int) -> BayesianGaussians:
        """Components as the prior has them, before their first M-step."""
        K, storage = components, covariance.storage
        one = np.asarray(prior.scale / prior.dof, dtype=np.float64)
        covariances = one if storage.shared else np.repeat(one[None], K, axis=0)
        return cls(
            covariance,
            prior,
            np.repeat(prior.mean[None], K, axis=0),
            np.full(K, prior.shrinkage),
            np.full(K, prior.dof),
            covariances,
            storage.cholesky(covariances),
        )

    @property
    def kind(self) -> Kind:
        """The kind of moments that the family needs."""
        return self.covariance.kind

    @property
    def precisions(self) -> Precisions:
        """What is known of the precisions."""
        return precisions_of(self.covariance)

    @property
    def quadratics(self) -> Quadratics:
        """See the module's text."""
        D, storage = self.means.shape[1], self.covariance.storage
        log_determinants = self.precisions.log_determinants(self.precisions_cholesky, self.dof, D)
        offsets = 0.5 * (log_determinants - D / self.shrinkage) - 0.5 * D * math.log(2.0 * math.pi)
        return Quadratics(storage.form, offsets, self.means, storage.factors(self.precisions_cholesky))

    def maximize(self, found: Found) -> BayesianGaussians:
        """The posterior, given the responsibilities."""
        return self.updated(found.moments)

    def updated(self, moments: Moments) -> BayesianGaussians:
        """The posterior, given moments."""
        prior, precisions = self.prior, self.precisions
        mass = moments.kept_mass()
        means = moments.means(mass)
        shrinkage = prior.shrinkage + mass
        posterior_means = (prior.shrinkage * prior.mean + mass[:, None] * means) / shrinkage[:, None]
        pull = prior.shrinkage * mass / shrinkage
        scatter = precisions.scatter(moments.covariances(mass), mass, means - prior.mean, pull)
        dof = precisions.dof(prior.dof, mass)
        covariances = precisions.covariances(prior.scale + scatter, dof)
        return replace(
            self,
            means=posterior_means,
            shrinkage=shrinkage,
            dof=dof,
            covariances=covariances,
            precisions_cholesky=self.covariance.storage.cholesky(covariances),
        )

    @property
    def bound(self) -> float:
        """Minus the divergences of the posteriors from their priors."""
        prior, D = self.prior, self.means.shape[1]
        of_precisions = self.precisions.divergence(
            self.covariances, self.precisions_cholesky, self.dof, prior.scale, prior.dof, D
        )
        return -self._of_means() - of_precisions

    def _of_means(self) -> float:
        """``sum_k E KL(N(m, (b L)^-1) || N(m_0, (b_0 L)^-1))``."""
        (K, D), prior, storage = self.means.shape, self.prior, self.covariance.storage
        ratio = prior.shrinkage / self.shrinkage
        precisions = storage.dense(storage.precisions(self.precisions_cholesky), K, D)
        away = self.means - prior.mean
        distances = np.einsum("ki,kij,kj->k", away, precisions, away)
        return float(0.5 * np.sum(D * (ratio - 1.0 - np.log(ratio)) + prior.shrinkage * distances))

    def log_predictive(self, rows: Float) -> Float:
        """Log-densities of rows (n, D) under each component, (n, K), where means and precisions are integrated out."""
        K, D = self.means.shape
        dense = self.covariance.storage.dense(self.covariances, K, D)
        spread = (1.0 + self.shrinkage) / self.shrinkage
        return np.stack(
            [
                self.precisions.log_predictive(rows - mean, covariance, float(dof), float(wider))
                for mean, covariance, dof, wider in zip(self.means, dense, self.dof, spread, strict=True)
            ],
            axis=1,
        )
