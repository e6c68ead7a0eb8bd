"""How the M-step estimates Gaussians: maximum likelihood, with priors, bounds and fixed values if the user wants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtura.components.covariances import Covariance, Estimates
from mixtura.components.storage import Storage
from mixtura.moments import Moments

Float = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ConjugatePrior:
    """The conjugate prior of a Gaussian's mean and covariance, normal-inverse-Wishart.

    ``m_k | C_k ~ N(mean, C_k / shrinkage)`` and ``C_k ~ inverse Wishart(dof, scale)``. Diagonal covariances have an
    inverse gamma distribution for each variance, with the same numbers, and spherical ones one for the only variance.

    Parameters
    ----------
    mean : ndarray of shape (D,)
    shrinkage : float
        Number of rows that the prior of the mean counts as, 0 or more.
    dof : float
        Degrees of freedom.
    scale : ndarray of shape (D, D)
        Positive definite. Diagonal covariances use its diagonal, spherical ones its mean diagonal.

    References
    ----------
    Fraley and Raftery (2007), Bayesian regularization for normal mixture estimation and model-based clustering.
    """

    mean: Float
    shrinkage: float
    dof: float
    scale: Float

    def means(self, moments: Moments, mass: Float) -> Float:
        """The most likely means a posteriori, (K, D)."""
        sums = mass[:, None] * moments.means(mass) + self.shrinkage * self.mean
        return np.asarray(sums / (mass + self.shrinkage)[:, None])

    def scatter(self, means: Float, storage: Storage) -> Float:
        """What the prior adds to the scatter of each component about its mean, (K, D, D)."""
        offsets = means - self.mean
        shared = len(means) if storage.shared else 1
        of_mean = self.shrinkage * offsets[:, :, None] * offsets[:, None, :]
        return np.asarray(of_mean + storage.prior_scale(self.scale) / shared)

    def rows(self, components: int, dims: int, storage: Storage) -> float:
        """The number of rows that the prior adds to the divisor of each component's scatter."""
        own = storage.prior_rows(self.dof, dims)
        return own / components + 1.0 if storage.shared else own + 1.0

    def log_density(self, means: Float, precisions_cholesky: Float, storage: Storage) -> float:
        """The log-density of means and covariances, up to a constant: the penalty of the objective."""
        K, D = means.shape
        log_det = storage.log_determinants(precisions_cholesky, K, D)
        precisions = storage.dense(storage.precisions(precisions_cholesky), K, D)
        distances = np.einsum("kij,kij->k", precisions, self.scatter(means, storage))
        return float(np.sum(self.rows(K, D, storage) * log_det - 0.5 * distances))


@dataclass(frozen=True, eq=False)
class Fixed:
    """Which parameters keep the values that they start with.

    Parameters
    ----------
    means : ndarray of bool of shape (K, D)
    covariances : ndarray of bool of shape (K,)
        All or none where the components share one.
    """

    means: Booleans
    covariances: Booleans

    def part(self, kept: Booleans | NDArray[np.intp]) -> Fixed:
        """The same for some of the components, or in another order."""
        return Fixed(self.means[kept], self.covariances[kept])

    def means_beside(self, means: Float, before: Estimates, storage: Storage) -> Float:
        """The most likely means of which some entries are fixed, given the covariances before.

        Where a mean is fixed in some columns x only, the others f become ``mean_f + P_ff^-1 P_fx (mean_x - fixed_x)``,
        with P the precision: the conditional maximum.
        """
        out = np.where(self.means, before.means, means)
        partly = np.flatnonzero(self.means.any(axis=1) & ~self.means.all(axis=1))
        if len(partly):
            K, D = means.shape
            precisions = storage.dense(storage.precisions(before.precisions_cholesky), K, D)
        for k in partly:
            held = self.means[k]
            P = precisions[k]
            pull = P[np.ix_(~held, held)] @ (means[k, held] - out[k, held])
            out[k, ~held] += np.linalg.solve(P[np.ix_(~held, ~held)], pull)
        return out


@dataclass(frozen=True, eq=False)
class Estimation:
    """The M-step of Gaussian components.

    Parameters
    ----------
    reg_covar : float or ndarray of shape (D,), default=0
        Is added to the variances.
    least : ndarray of shape (D,), optional
        Bounds covariances from below: see :meth:`mixtura.components.storage.Storage.bounded`. The M-step gives the most
        likely covariances within the bound, so the likelihood rises. To those of families in which components depend
        on each other it is added instead, and what that costs is counted.
    prior : ConjugatePrior, optional
        The M-step then gives the mode of the posterior.
    fixed : Fixed, optional
    """

    reg_covar: float | Float = 0.0
    least: Float | None = None
    prior: ConjugatePrior | None = None
    fixed: Fixed | None = None

    @property
    def floor(self) -> float:
        """Variance below which no digit of a moment matters."""
        smallest = float(np.min(self.reg_covar))
        return smallest if self.least is None else max(smallest, float(self.least.min()))

    def added(self, covariance: Covariance) -> float | Float:
        """What is added to the variances of a family."""
        return self.least if covariance.constrained and self.least is not None else self.reg_covar

    def part(self, kept: Booleans | NDArray[np.intp]) -> Estimation:
        """The same for some of the components, or in another order."""
        fixed = None if self.fixed is None else self.fixed.part(kept)
        return Estimation(self.reg_covar, self.least, self.prior, fixed)

    def estimate(
        self, covariance: Covariance, moments: Moments, before: Estimates | None
    ) -> tuple[Float, Float, Float, Booleans | None]:
        """Means, covariances, Cholesky factors of the precisions, and which covariances the bound has changed."""
        mass, storage = moments.kept_mass(), covariance.storage
        means = moments.means(mass)
        K, D = means.shape
        if self.prior is None and self.fixed is None and self.least is None:
            return means, *covariance.factorized(moments, mass, self.reg_covar, before), None
        if self.prior is not None:
            means = self.prior.means(moments, mass)
        if self.fixed is not None and before is not None:
            means = self.fixed.means_beside(means, before, storage)
        if self.prior is not None or self.fixed is not None:
            moments = moments.about(means)
        if self.prior is not None:
            moments = moments.added(self.prior.scatter(means, storage))
            mass = mass + self.prior.rows(K, D, storage)
        start = None if before is None else before.covariances
        if self.fixed is not None and start is not None and self.fixed.covariances.all():
            covariances = start
        else:
            covariances = covariance.estimated(moments, mass, self.added(covariance), start)
        if self.fixed is not None and before is not None:
            # Also before the factorisation, which the rows of a fixed covariance need not allow.
            covariances = self._held(covariances, before.covariances, storage)
        bounded = None
        if self.least is None:
            cholesky = storage.cholesky(covariances)
        elif covariance.constrained:
            cholesky = storage.cholesky(covariances)
            # Half of a variance or more is what was added.
            bounded = storage.bounded(covariances, 2.0 * self.least)[2]
        else:
            covariances, cholesky, changed = storage.bounded(covariances, self.least)
            bounded = np.broadcast_to(changed, K)
        if self.fixed is not None and before is not None:
            covariances = self._held(covariances, before.covariances, storage)
            cholesky = self._held(cholesky, before.precisions_cholesky, storage)
            bounded = None if bounded is None else bounded & ~self.fixed.covariances
        return means, covariances, cholesky, bounded

    def kept_within(
        self, moved: Estimates, before: Estimates, covariance: Covariance
    ) -> tuple[Float, Float, Float]:
        """Means, covariances and factors of components that have moved anywhere, with bound and fixed values kept."""
        means, covariances, cholesky = moved.means, moved.covariances, moved.precisions_cholesky
        storage = covariance.storage
        if self.least is not None and not covariance.constrained:
            covariances, cholesky, _ = storage.bounded(covariances, self.least)
        if self.fixed is not None:
            means = np.where(self.fixed.means, before.means, means)
            covariances = self._held(covariances, before.covariances, storage)
            cholesky = self._held(cholesky, before.precisions_cholesky, storage)
        return means, covariances, cholesky

    def _held(self, values: Float, before: Float, storage: Storage) -> Float:
        """Covariances, or the factors of their inverses, with the fixed ones as before."""
        assert self.fixed is not None
        held = self.fixed.covariances
        if storage.shared:
            return before if held.all() else values
        return np.where(held.reshape(-1, *[1] * (values.ndim - 1)), before, values)
