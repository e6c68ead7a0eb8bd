"""Gaussian components."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.components.base import Components
from mixtura.components.covariances import Covariance
from mixtura.components.estimation import Estimation
from mixtura.components.surfaces import Surface
from mixtura.elsewhere import PartlyElsewhere
from mixtura.errors import SingularError
from mixtura.found import Found
from mixtura.moments import Kind, Moments
from mixtura.parametric import Form, ParametricMixture, packed_scales
from mixtura.parts import ROUNDING, unchanged
from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]

# A component is spurious if it has fewer than so many rows for each dimension, and a variance below this share of
# what is typical of the mixture's components.
_FEW_ROWS = 2.0
_NARROW = 1e-4

# Share of a variance up to which what is added to it may be neglected.
_LITTLE_ADDED = 1e-3

# Share of the rows below which a component has none.
_EMPTY = 1e-14

# Share of a column's variance, for each column, that is rounding: a few roundings of the largest sums.
_NO_DIGITS = 64.0 * float(np.finfo(np.float64).eps)


def few_rows(dims: int) -> float:
    """Number of rows below which a component may be spurious: see :meth:`Gaussians.spurious`."""
    return _FEW_ROWS * (dims + 1)


@dataclass(frozen=True)
class Gaussians(PartlyElsewhere, Components):
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
    estimation : Estimation, optional
        How the M-step estimates them; by default by maximum likelihood.
    bounded : ndarray of bool of shape (K,), optional
        Which of them the last M-step kept from being narrower.
    """

    _may_be_elsewhere: ClassVar[tuple[str, ...]] = ("covariances", "precisions_cholesky")

    covariance: Covariance
    means: Float
    covariances: Float
    precisions_cholesky: Float
    estimation: Estimation = field(default_factory=Estimation)
    bounded: NDArray[np.bool_] | None = None

    @property
    def kind(self) -> Kind:
        """The kind of moments that the M-step needs."""
        return self.covariance.kind

    @property
    def floor(self) -> float:
        """Digits of a variance below ``reg_covar`` do not matter, since that is added to it."""
        return self.estimation.floor

    @property
    def bound(self) -> float:
        """The log-density of the prior, if there is one.

        The rows that it counts as also lose what each row loses to ``reg_covar``.
        """
        prior, storage, (K, D) = self.estimation.prior, self.covariance.storage, self.means.shape
        if prior is None:
            return 0.0
        log_density = prior.log_density(self.means, self.precisions_cholesky, storage)
        return log_density - prior.rows(K, D, storage) * float(self._penalties.sum())

    @property
    def quadratics(self) -> Quadratics:
        """The components' log-densities."""
        (K, D), storage = self.means.shape, self.covariance.storage
        away = self.elsewhere("precisions_cholesky")
        if away is None:
            log_norm = storage.log_determinants(self.precisions_cholesky, K, D)
            factors = storage.factors(self.precisions_cholesky)
        else:
            log_norm, factors = away.factors.log_determinants, away.factors
        offsets = log_norm - 0.5 * D * math.log(2.0 * math.pi) - self._penalties
        return Quadratics(storage.form, offsets, self.means, factors)

    @property
    def without_digits(self) -> bool:
        """Whether some covariance is singular but for rounding errors.

        That is so if a column has hardly any variance given those before it: with L the Cholesky factor,
        ``L_dd^2 < 64 D eps S_dd``. Sums over rows that depend linearly leave as much.
        """
        K, D = self.means.shape
        dense = self.covariance.storage.dense(self.covariances, K, D)
        try:
            pivots = np.diagonal(np.linalg.cholesky(dense), axis1=1, axis2=2)
        except np.linalg.LinAlgError:
            return True
        variances = np.diagonal(dense, axis1=1, axis2=2)
        return bool(np.any(pivots**2 < _NO_DIGITS * D * variances))

    def has_maximum(self, moments: Moments) -> bool:
        """See :meth:`Components.has_maximum`: no component's rows lie in fewer dimensions than there are.

        They do where a column is constant, or depends on others. What is added to variances hides it.
        """
        try:
            alone = Gaussians.from_moments(self.covariance, moments, Estimation())
        except SingularError:
            return False
        K, D = self.means.shape
        variances = np.diagonal(self.covariance.storage.dense(alone.covariances, K, D), axis1=1, axis2=2)
        shares = moments.mass / moments.mass.sum()
        whole = shares @ (variances + (alone.means - shares @ alone.means) ** 2)
        return not alone.without_digits and bool(np.all(variances > _NO_DIGITS * D * whole))

    @property
    def _penalties(self) -> Float:
        """What the log-density of each component loses to ``reg_covar``, (K,): 0 outside of fits.

        A family whose covariances are found together has ``reg_covar``, or the least variance allowed, R added to its
        rows' scatters. That is the M-step of densities times ``exp(-tr(S_k^-1 R) / 2)``, whose bound therefore never
        falls. The other families have it added to covariances, and not counted, as in scikit-learn.
        """
        K, D = self.means.shape
        if not self.covariance.constrained:
            return np.zeros(K)
        added = np.broadcast_to(self.estimation.added(self.covariance), D)
        if not added.any():
            return np.zeros(K)
        storage = self.covariance.storage
        precisions = storage.dense(storage.precisions(self.precisions_cholesky), K, D)
        return np.asarray(0.5 * np.diagonal(precisions, axis1=1, axis2=2) @ added)

    def maximize(self, found: Found) -> Gaussians:
        """The M-step: see :class:`mixtura.components.estimation.Estimation`."""
        return Gaussians.from_moments(self.covariance, found.moments, self.estimation, self)

    def stays(self, after: Components) -> bool:
        """See :meth:`Components.stays`: means and covariances, in units of each component's standard deviations."""
        if (
            not isinstance(after, Gaussians)
            or self.elsewhere("covariances")
            or after.elsewhere("covariances")
        ):
            return False
        storage = self.covariance.storage
        deviations = storage.deviations(self.covariances, *self.means.shape)
        return (
            bool((np.abs(after.means - self.means) <= ROUNDING * deviations).all())
            and storage.close(self.covariances, after.covariances, ROUNDING)
            and unchanged(self.bounded, after.bounded)
        )

    @classmethod
    def from_moments(
        cls,
        covariance: Covariance,
        moments: Moments,
        estimation: Estimation | None = None,
        before: Gaussians | None = None,
    ) -> Gaussians:
        """Gaussians estimated from moments; ``before`` has the values of parameters that are fixed."""
        estimation = Estimation() if estimation is None else estimation
        means, covariances, cholesky, bounded = estimation.estimate(covariance, moments, before)
        return cls(covariance, means, covariances, cholesky, estimation, bounded)

    @property
    def likelihood_alone(self) -> bool:
        """See :attr:`Components.likelihood_alone`; what is added to variances may be a thousandth of the least one."""
        estimation = self.estimation
        if estimation.prior is not None or estimation.fixed is not None:
            return False
        if self.bounded is not None and self.bounded.any():
            return False
        # The largest element of U is at most one over the least deviation.
        steepest = float(np.abs(self.precisions_cholesky).max())
        return float(np.max(estimation.reg_covar)) * steepest**2 < _LITTLE_ADDED

    @property
    def within_bounds(self) -> bool:
        """See :attr:`Components.within_bounds`: no covariance is narrower than the least one."""
        least = self.estimation.least
        return least is None or not self.covariance.storage.bounded(self.covariances, least)[2].any()

    def parametric(self, log_odds: Float) -> ParametricMixture:
        """See :meth:`Components.parametric`."""
        (K, D), family, storage = self.means.shape, self.covariance, self.covariance.storage
        roots = storage.roots(self.precisions_cholesky, D)
        form: Form = "triangle" if storage.form == "rectangle" else storage.form
        scales = packed_scales(form, roots)
        if family.n_parameters(K, D) != scales.size and not family.constrained:
            raise ValueError(
                f"there are no derivatives for covariances of type {family.name!r}, which constrain what is kept"
            )
        theta = np.concatenate([log_odds.ravel(), self.means.ravel(), scales.ravel()])
        return ParametricMixture(K, 0, D, form, theta, shared=storage.shared)

    def with_parametric(self, mixture: ParametricMixture) -> Gaussians:
        """See :meth:`Components.with_parametric`."""
        cholesky = self.covariance.storage.of_roots(mixture.choleskys)
        covariances = self.covariance.storage.covariances_of(cholesky)
        return replace(
            self,
            means=np.array(mixture.coefficients[:, :, 0]),
            covariances=covariances,
            precisions_cholesky=cholesky,
        )

    def surface(self) -> Surface | None:
        """See :meth:`Components.surface`."""
        return self.covariance.surface(self.covariances)

    @property
    def coordinates(self) -> Float:
        """Means, then factors of the precisions with the logarithms of their diagonals."""
        factors = self.covariance.storage.coordinates(self.precisions_cholesky)
        return np.concatenate([self.means.ravel(), factors])

    @property
    def scales(self) -> Float:
        """Typical standard deviations of the columns for the means, and sizes of the factors."""
        K, D = self.means.shape
        storage = self.covariance.storage
        variances = np.diagonal(storage.dense(self.covariances, K, D), axis1=1, axis2=2)
        deviations = np.sqrt(variances.mean(axis=0))
        return np.concatenate([np.tile(deviations, K), storage.scales(self.precisions_cholesky, deviations)])

    def at(self, coordinates: Float) -> Gaussians:
        """See :meth:`Components.at`: the bound and fixed parameters are kept."""
        K, D = self.means.shape
        storage = self.covariance.storage
        means = coordinates[: K * D].reshape(K, D)
        cholesky = storage.at(coordinates[K * D :], K, D)
        covariances = storage.covariances_of(cholesky)
        if not self.covariance.direct:
            covariances = self.covariance.nearest(covariances, self.covariances)
            cholesky = storage.cholesky(covariances)
        moved = replace(self, means=means, covariances=covariances, precisions_cholesky=cholesky)
        means, covariances, cholesky = self.estimation.kept_within(moved, self, self.covariance)
        return replace(moved, means=means, covariances=covariances, precisions_cholesky=cholesky)

    def spurious(self, moments: Moments) -> NDArray[np.bool_]:
        """Which components are narrow beside the others and sit on a few rows, which alone made them so, (K,).

        Their likelihood grows without bound as their variance vanishes, and says nothing about the data.

        Parameters
        ----------
        moments : Moments
            The moments from which the components were estimated.
        """
        K, D = self.means.shape
        rows = moments.mass * (moments.n_samples / moments.mass.sum())
        few = rows < few_rows(D)
        if K == 1 or self.covariance.storage.shared or not few.any():
            return np.zeros(K, dtype=bool)
        typical = np.tensordot(moments.mass / moments.mass.sum(), self.covariances, axes=1)
        narrowest = self.covariance.storage.narrowest(self.covariances[few], typical, _NARROW)
        spurious = np.zeros(K, dtype=bool)
        spurious[few] = narrowest < _NARROW
        return spurious

    def singular(self, moments: Moments, scale: Float, reg_covar: float | Float) -> NDArray[np.bool_]:
        """Which components would be singular if they were estimated with ``reg_covar``, (K,).

        A direction in which the whole table, of covariance ``scale``, has no spread does not count.
        """
        storage, mass = self.covariance.storage, moments.kept_mass()
        empty = moments.mass <= _EMPTY * moments.mass.sum()
        if storage.shared:
            return np.asarray(empty)
        return np.asarray(empty | self.covariance.singular(moments, mass, reg_covar, self.covariances, scale))

    def part(self, kept: NDArray[np.bool_] | NDArray[np.intp]) -> Gaussians:
        """Some of the components, by a mask (K,), or all of them in another order."""
        shared = self.covariance.storage.shared
        return Gaussians(
            self.covariance,
            self.means[kept],
            self.covariances if shared else self.covariances[kept],
            self.precisions_cholesky if shared else self.precisions_cholesky[kept],
            self.estimation.part(kept),
            None if self.bounded is None else self.bounded[kept],
        )

    @classmethod
    def from_precisions(
        cls, covariance: Covariance, means: Float, precisions: Float, estimation: Estimation | None = None
    ) -> Gaussians:
        """Components with the given means and precisions."""
        storage, estimation = covariance.storage, Estimation() if estimation is None else estimation
        cholesky = storage.cholesky_of_precisions(precisions)
        return cls(covariance, means, storage.covariances_of(cholesky), cholesky, estimation)

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
