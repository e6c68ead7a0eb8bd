"""Gaussian components with a conjugate prior, by variational inference.

A component's precision L and mean m have the prior ``L ~ W(W_0, v_0)``, ``m | L ~ N(m_0, (b_0 L)^-1)`` and a posterior
of the same form, with ``b = b_0 + n``, ``v = v_0 + n``, and so on. The E-step needs

    E log N(x | m, L^-1) = 1/2 E log|L| - D/2 log 2 pi - 1/2 (D / b + v (x - m)' W (x - m)),

which is a quadratic of x: no kernel knows the difference. Diagonal covariances have a gamma distribution for each
precision, of shape v / 2; spherical ones have one of shape D v / 2; tied ones have one Wishart distribution for all
components.

References
----------
Bishop (2006), Pattern Recognition and Machine Learning, 10.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, psi

from mixtura.components.base import Components
from mixtura.components.covariances import Covariance
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
    def _matrices(self) -> bool:
        return self.covariance.storage.form == "triangle"

    def _shapes(self, dof: Any) -> Any:
        """Shape of the gamma distributions of single precisions."""
        D = self.means.shape[1]
        return 0.5 * dof * (D if self.covariance.storage.form == "scalar" else 1.0)

    def _log_spread(self, dof: Float) -> Float:
        """``E log|L| - log|v W|``, (K,): what not knowing L takes from its log-determinant."""
        D = self.means.shape[1]
        if self._matrices:
            halves = 0.5 * (dof[:, None] - np.arange(D))
            return np.asarray(psi(halves).sum(axis=1) - D * np.log(0.5 * dof))
        shapes = self._shapes(dof)
        return np.asarray(D * (psi(shapes) - np.log(shapes)))

    @property
    def _log_determinants(self) -> Float:
        """``E log|L|``, (K,)."""
        K, D = self.means.shape
        known = self.covariance.storage.log_determinants(self.precisions_cholesky, K, D)
        return np.asarray(2.0 * known + self._log_spread(self.dof))

    @property
    def quadratics(self) -> Quadratics:
        """See the module's text."""
        D, storage = self.means.shape[1], self.covariance.storage
        offsets = 0.5 * (self._log_determinants - D / self.shrinkage) - 0.5 * D * math.log(2.0 * math.pi)
        return Quadratics(storage.form, offsets, self.means, storage.factors(self.precisions_cholesky))

    def maximize(self, found: Found) -> BayesianGaussians:
        """The posterior, given the responsibilities."""
        return self.updated(found.moments)

    def updated(self, moments: Moments) -> BayesianGaussians:
        """The posterior, given moments."""
        prior, storage = self.prior, self.covariance.storage
        mass = moments.kept_mass()
        means, D = moments.means(mass), moments.first.shape[1]
        shrinkage = prior.shrinkage + mass
        posterior_means = (prior.shrinkage * prior.mean + mass[:, None] * means) / shrinkage[:, None]
        away = means - prior.mean
        pull = prior.shrinkage * mass / shrinkage
        own = moments.covariances(mass)  # (K, D, D), (D, D) if shared, (K, D), or traces (K,)
        if storage.shared:  # what the components' rows have in common is summed already
            dof = np.full(len(mass), prior.dof + mass.sum())
            scatter = mass.sum() * own + np.einsum("k,ki,kj->ij", pull, away, away)
            covariances = (prior.scale + scatter) / dof[0]
        elif self._matrices:
            scatter = mass[:, None, None] * own + pull[:, None, None] * away[:, :, None] * away[:, None, :]
        elif storage.form == "diagonal":
            scatter = mass[:, None] * own + pull[:, None] * away**2
        else:
            scatter = (mass * own + pull * np.sum(away**2, axis=1)) / D
        if not storage.shared:
            dof = prior.dof + mass
            covariances = (prior.scale + scatter) / dof.reshape(-1, *[1] * (scatter.ndim - 1))
        cholesky = storage.cholesky(covariances)
        return replace(
            self,
            means=posterior_means,
            shrinkage=shrinkage,
            dof=dof,
            covariances=covariances,
            precisions_cholesky=cholesky,
        )

    @property
    def bound(self) -> float:
        """Minus the divergences of the posteriors from their priors."""
        return -self._of_means() - (self._of_matrices() if self._matrices else self._of_numbers())

    def _of_means(self) -> float:
        """``sum_k E KL(N(m, (b L)^-1) || N(m_0, (b_0 L)^-1))``."""
        (K, D), prior, storage = self.means.shape, self.prior, self.covariance.storage
        ratio = prior.shrinkage / self.shrinkage
        precisions = storage.dense(storage.precisions(self.precisions_cholesky), K, D)
        away = self.means - prior.mean
        distances = np.einsum("ki,kij,kj->k", away, precisions, away)
        return float(0.5 * np.sum(D * (ratio - 1.0 - np.log(ratio)) + prior.shrinkage * distances))

    def _of_matrices(self) -> float:
        """``KL(W(W, v) || W(W_0, v_0))``, of each component, or of the one that all share."""
        (K, D), prior, storage = self.means.shape, self.prior, self.covariance.storage
        once = slice(0, 1) if storage.shared else slice(None)
        dof, expected = self.dof[once], self._log_determinants[once]
        log_volume = 2.0 * storage.log_determinants(self.precisions_cholesky, K, D)[once] - D * np.log(dof)
        _, log_prior = np.linalg.slogdet(prior.scale)
        precisions = storage.stacked(storage.precisions(self.precisions_cholesky))
        traces = np.einsum("ij,kji->k", prior.scale, precisions)
        own, before = _log_wishart(log_volume, dof, D), _log_wishart(-log_prior, np.array(prior.dof), D)
        return float(np.sum(own - before + 0.5 * (dof - prior.dof) * expected + 0.5 * (traces - dof * D)))

    def _of_numbers(self) -> float:
        """``KL(Gamma(a, b) || Gamma(a_0, b_0))`` of each precision."""
        prior = self.prior
        a, a0 = self._shapes(self.dof), self._shapes(prior.dof)
        covariances = self.covariances.reshape(len(self.means), -1)  # b = a / precision
        a = a[:, None]
        scale = np.asarray(prior.scale / prior.dof, dtype=np.float64).reshape(1, -1)
        b, b0 = a * covariances, a0 * scale
        terms = (a - a0) * psi(a) - gammaln(a) + gammaln(a0) + a0 * np.log(b / b0) + a * (b0 / b - 1.0)
        return float(terms.sum())


def _log_wishart(log_volume: Any, dof: Float, dims: int) -> Float:
    """The logarithm of a Wishart density's normalising factor, ``log B(W, v)``, given log|W|."""
    halves = gammaln(0.5 * (np.asarray(dof)[..., None] - np.arange(dims))).sum(axis=-1)
    constant = 0.25 * dims * (dims - 1) * math.log(math.pi)
    return np.asarray(-0.5 * dof * log_volume - 0.5 * dof * dims * math.log(2.0) - constant - halves)
