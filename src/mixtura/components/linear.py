"""Linear experts: regressions of y on x, each with its own slopes.

``p_k(y | x) = N(y | b_k + W_k x, diag s_k)``, with W_k by maximum likelihood, or, under a prior
``w_km ~ N(w0_km, A_k)``, with its Gaussian posterior ``q(w_km) = N(W_km, B_km)``. Shapes: K experts, M targets, D
columns of x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.components.base import Components
from mixtura.components.normal_equations import (
    ROUNDING,
    Scatters,
    least_squares,
    least_squares_each,
    posterior_of,
    regressions,
    root_of,
)
from mixtura.components.priors import LinearExpert, Priors
from mixtura.found import Found
from mixtura.moments import Kind, Moments
from mixtura.parametric import ParametricMixture
from mixtura.quadratics import Quadratics
from mixtura.threads import compiled_allowed, native

__all__ = ["Baseline", "LinearExpert", "LinearExperts", "Priors", "least_squares"]

Float = NDArray[np.float64]

# An expert is delicate if its residual variance is below this share of the variance of y: computed from sums of
# squares, the noise would then be inaccurate.
_NEARLY_EXACT = 1e-6

# It is also delicate if its residual variance is below this multiple of the least noise variance.
_NEAR_FLOOR = 1e6

_TINY = float(np.finfo(np.float64).tiny)

# An expert is spurious if it has fewer than so many rows for each coefficient, and a noise variance below this share of
# the experts' average, or at its floor.
_FEW_ROWS = 2.0
_NARROW = 1e-4

# Share of the total mass up to which an expert counts as having no rows.
_EMPTY = 1e-12


@dataclass(frozen=True)
class Baseline:
    """Regressions that are subtracted from y before its moments are taken: ``y - level - slopes (x - anchor)``.

    Where a regression fits nearly exactly, or columns of x are nearly dependent, moments of y itself have too few
    digits.

    Parameters
    ----------
    slopes : ndarray of shape (K, M, D)
    anchor : ndarray of shape (K, D)
    level : ndarray of shape (K, M)
        All three are 0 for an expert whose targets are y itself.
    some : ndarray of int
        The experts whose targets are residuals.
    """

    slopes: Float
    anchor: Float
    level: Float
    some: NDArray[np.intp]

    def of(self, k: int, x: NDArray[np.floating]) -> Float:
        """The regression of expert k at rows (n, D) or at one row (D,): (n, M) or (M,)."""
        return np.asarray(self.level[k] + (x - self.anchor[k]) @ self.slopes[k].T)


@dataclass(frozen=True)
class LinearExperts(Components):
    """K linear experts with their slopes, noise and priors.

    Parameters
    ----------
    intercept : bool
    shared_noise : bool
        Whether all experts have the same noise variances, one for each target.
    priors : Priors
    noise_floor : ndarray of shape (M,)
        Least noise variance of each target.
    anchor : ndarray of shape (K, D)
        Mean of x among the expert's rows, where its intercept and slopes are independent; 0 without an intercept.
    level : ndarray of shape (K, M)
        The regression's value at the anchor. Anchor and level are parameters without a prior.
    slopes : ndarray of shape (K, M, D)
        W.
    posterior : ndarray of shape (K, M, D, D)
        B; without a prior the covariance of the estimate, ``s (X'X)^-1``.
    noise : ndarray of shape (K, M)
        s.
    dependent : ndarray of shape (K,), bool
        Whether an expert's rows do not determine its slopes.
    empty : ndarray of shape (K,), bool
        Whether an expert has no rows.
    delicate : ndarray of shape (K,), bool, optional
        Whether an expert's next slopes must be found from the residuals of these: see :class:`Baseline`.
    roots : ndarray of shape (K, M, D, D), optional
        C with B = C C', for experts with a prior. C also keeps small eigenvalues of B that B itself loses to rounding,
        when they are less than 1e-16 of the largest. If None, C is computed from B.
    """

    kind: ClassVar[Kind] = "full"

    intercept: bool
    shared_noise: bool
    priors: Priors
    noise_floor: Float
    anchor: Float
    level: Float
    slopes: Float
    posterior: Float
    noise: Float
    dependent: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    delicate: NDArray[np.bool_] | None = None
    roots: Float | None = None

    @classmethod
    def start(
        cls, priors: Priors, intercept: bool, shared_noise: bool, noise_floor: Float, noise: Float
    ) -> LinearExperts:
        """Experts with the slopes of the priors' means and a given noise variance (M,), before the first M-step."""
        K, M, D = priors.mean.shape
        return cls(
            intercept,
            shared_noise,
            priors,
            noise_floor,
            np.zeros((K, D)),
            np.zeros((K, M)),
            priors.mean,
            np.zeros((K, M, D, D)),
            np.broadcast_to(np.maximum(noise, noise_floor), (K, M)),
            np.zeros(K, dtype=bool),
            np.zeros(K, dtype=bool),
        )

    @property
    def quadratics(self) -> Quadratics:
        """``E_q log p_k(y | x)`` as K quadratics in z = [x; y].

        ``-1/2 sum_m log 2 pi s_m - 1/2 sum_m (y_m - l_m - W_m (x - a))^2 / s_m - 1/2 (x - a)' V (x - a)`` with
        ``V = sum_m B_m / s_m`` where there is a prior. The factor is a rectangle of M rows, one for each target, and D
        more for V.
        """
        K, M, D = self.slopes.shape
        means = np.hstack([self.anchor, self.level])
        if native is not None and compiled_allowed() and not self.priors.given:
            offsets, factors = native.quadratics_of_experts(self.slopes, self.noise)
            return Quadratics("rectangle", offsets, means, factors)
        factors = np.zeros((K, M + D * self.priors.given, D + M))
        deviations = np.sqrt(self.noise)
        factors[:, :M, :D] = -self.slopes / deviations[:, :, None]
        factors[:, np.arange(M), D + np.arange(M)] = 1.0 / deviations
        if self.priors.given:
            roots = self._roots()
            for k in np.flatnonzero(self.priors.present):
                rows = np.concatenate([C.T / d for C, d in zip(roots[k], deviations[k], strict=True)])
                factors[k, M:, :D] = rows if M == 1 else np.linalg.qr(rows, mode="r")
        offsets = -0.5 * np.sum(np.log(2.0 * math.pi * self.noise), axis=1)
        return Quadratics("rectangle", offsets, means, factors)

    def _roots(self) -> Float:
        """C with B = C C', (K, M, D, D)."""
        if self.roots is not None:
            return self.roots
        roots = np.zeros_like(self.posterior)
        for k in np.flatnonzero(self.priors.present):
            roots[k] = [root_of(B) for B in self.posterior[k]]
        return roots

    @property
    def bound(self) -> float:
        """The experts' own terms of the objective: divergences from the priors, the link."""
        return self.priors.bound(self.slopes, self._roots())

    def baseline(self) -> Baseline | None:
        """The baseline for the next M-step; None where y itself is accurate enough."""
        if self.delicate is None or not self.delicate.any():
            return None
        delicate = self.delicate
        return Baseline(
            np.where(delicate[:, None, None], self.slopes, 0.0),
            np.where(delicate[:, None], self.anchor, 0.0),
            np.where(delicate[:, None], self.level, 0.0),
            np.flatnonzero(delicate),
        )

    def maximize(self, found: Found) -> LinearExperts:
        """The M-step: slopes given the noise, noise given the slopes, then the learnt hyperparameters of the priors."""
        baseline = self.baseline()
        if baseline is None:
            return self.fitted(found.moments)
        return self.fitted(_of_residuals(found, baseline), baseline)

    def fitted(self, moments: Moments, baseline: Baseline | None = None) -> LinearExperts:
        """The M-step, given the moments of the rows.

        Parameters
        ----------
        moments : Moments
            The moments of kind 'full' of z = [x; y], weighted with the responsibilities.
        baseline : Baseline, optional
            The regressions that were subtracted from y; None if y is as it was given.
        """
        K, M, D = self.slopes.shape
        known = None
        if baseline is None and self.intercept and not self.priors.given:
            known = self._fitted_in_one(moments)
        if known is not None:
            return known
        s = Scatters.of(moments, D, self.intercept)
        least_mass = _EMPTY * float(moments.mass.sum())
        empty = moments.mass <= least_mass
        anchor, level = (s.x, s.y) if self.intercept else (np.zeros((K, D)), np.zeros((K, M)))
        slopes, posterior, squares = np.empty((K, M, D)), np.empty((K, M, D, D)), np.zeros((K, M))
        spread = s.yy  # the sum of squares of y itself, approximately
        roots = np.zeros_like(posterior)
        dependent, delicate = np.zeros(K, dtype=bool), np.zeros(K, dtype=bool)
        with_prior = self.priors.present
        for k in np.flatnonzero(with_prior).tolist() if self.priors.given else ():
            # The solution is the difference from these slopes.
            before = np.zeros((M, D)) if baseline is None else baseline.slopes[k]
            if empty[k]:
                # An expert without rows returns to its prior.
                slopes[k], roots[k] = self.priors.mean[k], np.linalg.cholesky(self.priors.covariance[k])
            else:
                w0 = self.priors.mean[k]
                for m in range(M):
                    away = s.xy[k, :, m] - s.xx[k] @ (w0[m] - before[m])
                    solved = posterior_of(self.priors.covariance[k], s.xx[k], self.noise[k, m], away)
                    slopes[k, m], roots[k, m], squares[k, m] = w0[m] + solved.step, solved.root, solved.spread
            posterior[k] = roots[k] @ roots[k].transpose(0, 2, 1)
            squares[k] += np.maximum(s.residual(k, slopes[k] - before), ROUNDING * s.yy[k])
        # A slice where it can be: to choose by numbers takes several times as long.
        without = np.flatnonzero(~with_prior) if self.priors.given else slice(None)
        if not (self.priors.given and with_prior.all()):
            # For a tiny mass the inverse of the sums could overflow, so means are used instead.
            n, yy = np.maximum(s.mass[without], _TINY), s.yy[without]
            each = n[:, None, None]
            fits = least_squares_each(s.xx[without] / each, s.xy[without] / each)
            dependent[without], delicate[without] = fits.dependent, fits.delicate
            slopes[without] = fits.slopes if baseline is None else fits.slopes + baseline.slopes[without]
            rows = np.maximum(n, least_mass)[:, None, None, None]
            posterior[without] = fits.inverse[:, None] / rows  # times the noise, once that is known
            explained, spoilt = n[:, None] * fits.explained, n[:, None] * fits.spoilt
            squares[without] = np.maximum(yy - explained, spoilt + ROUNDING * yy)
        if baseline is not None:
            spread = spread + np.einsum("kmd,kde,kme->km", baseline.slopes, s.xx, baseline.slopes)
            if self.intercept:
                level = level + np.stack([baseline.of(k, x) for k, x in enumerate(s.x)])
        least = np.maximum(_NEARLY_EXACT * spread, _NEAR_FLOOR * self.noise_floor * moments.mass[:, None])
        delicate |= (squares <= least).any(axis=1)
        pooled = squares.sum(axis=0) / moments.mass.sum()
        each = squares / np.where(empty, 1.0, moments.mass)[:, None]
        noise = np.where(self.shared_noise | empty[:, None], pooled, each)
        noise = np.maximum(noise, self.noise_floor)
        posterior[without] *= noise[without][:, :, None, None]
        return replace(
            self,
            priors=self.priors.updated(slopes, posterior),
            anchor=anchor,
            level=level,
            slopes=slopes,
            posterior=posterior,
            noise=noise,
            dependent=dependent & ~empty,
            empty=empty,
            delicate=delicate & ~empty,
            roots=roots,
        )

    def _fitted_in_one(self, moments: Moments) -> LinearExperts | None:
        """:meth:`fitted` in one native call; None where it is not to be had, or columns depend on each other."""
        _, _, D = self.slopes.shape
        numbers = _NEARLY_EXACT, _NEAR_FLOOR, _EMPTY
        found = regressions(moments, D, self.noise_floor, self.shared_noise, numbers)
        if found is None:
            return None
        means, slopes, noise, posterior, delicate, empty = found
        return replace(
            self,
            anchor=means[:, :D],
            level=means[:, D:],
            slopes=slopes,
            posterior=posterior,
            noise=noise,
            dependent=np.zeros(len(empty), dtype=bool),
            empty=empty,
            delicate=delicate,
            roots=np.zeros_like(posterior),
        )

    def joint_with(self, means: Float, covariances: Float) -> tuple[Float, Float]:
        """Means (K, D + M) and covariances of [x; y] if those of each expert's x are (K, D) and (K, D, D)."""
        of_targets = self.level + np.einsum("kmd,kd->km", self.slopes, means - self.anchor)
        across = self.slopes @ covariances
        noise = self.noise[:, :, None] * np.eye(self.noise.shape[1])
        within = across @ np.swapaxes(self.slopes, 1, 2) + noise
        joint = np.block([[covariances, np.swapaxes(across, 1, 2)], [across, within]])
        return np.hstack([means, of_targets]), joint

    @property
    def intercepts(self) -> Float:
        """The regressions' values at x = 0, (K, M)."""
        return np.asarray(self.level - np.einsum("kmd,kd->km", self.slopes, self.anchor))

    def means(self, X: NDArray[np.floating]) -> Float:
        """Each expert's mean of y at rows x (n, D): (n, K, M)."""
        K, M, D = self.slopes.shape
        rows = np.asarray(X, dtype=np.float64)
        shift = self.level - np.einsum("kmd,kd->km", self.slopes, self.anchor - self.anchor[0])
        flat = (rows - self.anchor[0]) @ self.slopes.reshape(K * M, D).T
        return np.asarray(flat.reshape(len(rows), K, M) + shift)

    def variances(self, X: NDArray[np.floating]) -> Float:
        """Predictive variances of y at rows x (n, D), from the noise and the slopes' posterior: (n, K, M)."""
        K, M, _ = self.slopes.shape
        out = np.empty((len(X), K, M))
        out[:] = self.noise
        for k in np.flatnonzero(self.priors.present):
            away = X - self.anchor[k]
            for m in range(M):
                # The slopes' covariance is not negative, but for rounding where the prior alone determines some.
                out[:, k, m] += np.maximum(np.einsum("nd,nd->n", away @ self.posterior[k, m], away), 0.0)
        return out

    def spurious(self, moments: Moments) -> NDArray[np.bool_]:
        """Which experts have hardly any noise beside the others and few rows, which alone made it so, (K,).

        Parameters
        ----------
        moments : Moments
            The moments from which the experts were estimated.
        """
        K, _, D = self.slopes.shape
        mass = moments.mass
        if self.shared_noise or K == 1:
            return np.zeros(K, dtype=bool)
        rows = mass * (moments.n_samples / mass.sum())
        typical = mass @ self.noise / mass.sum()
        narrow = np.any(self.noise < np.maximum(_NARROW * typical, 4.0 * self.noise_floor), axis=1)
        few = (rows < _FEW_ROWS * (D + 1 + int(self.intercept))) & ~self.empty
        exact = np.all(self.noise <= 4.0 * self.noise_floor)  # noiseless targets: every expert is as narrow
        return np.asarray(few & narrow & ~exact)

    @property
    def within_bounds(self) -> bool:
        """See :attr:`Components.within_bounds`: no noise is below its floor."""
        return bool(np.all(self.noise >= self.noise_floor))

    @property
    def likelihood_alone(self) -> bool:
        """See :attr:`Components.likelihood_alone`."""
        special = self.dependent | self.empty
        if self.delicate is not None:
            special = special | self.delicate
        return not self.priors.given and not special.any()

    def parametric(self, log_odds: Float) -> ParametricMixture:
        """See :meth:`Components.parametric`."""
        if self.priors.given:
            raise ValueError(
                "experts with a prior are known by a posterior of their slopes, not by parameters whose likelihood has "
                "derivatives: fit without priors"
            )
        K, M, D = self.slopes.shape
        parts = [self.intercepts[:, :, None], self.slopes] if self.intercept else [self.slopes]
        noise = 0.5 * np.log(self.noise[:1] if self.shared_noise else self.noise)
        coefficients = np.concatenate(parts, axis=2)
        return ParametricMixture(
            K,
            D,
            M,
            "diagonal",
            np.concatenate([part.ravel() for part in (log_odds, coefficients, noise)]),
            intercept=self.intercept,
            softmax=log_odds.shape[1] > 1,
            shared=self.shared_noise,
        )

    def with_parametric(self, mixture: ParametricMixture) -> LinearExperts:
        """See :meth:`Components.with_parametric`."""
        C = mixture.coefficients
        slopes = np.array(C[:, :, int(self.intercept) :])
        level = np.array(self.level)
        if self.intercept:
            level = C[:, :, 0] + np.einsum("kmd,kd->km", slopes, self.anchor)
        noise = np.array(np.broadcast_to(mixture.deviations**2, level.shape))
        return replace(self, slopes=slopes, level=level, noise=noise)

    @property
    def coordinates(self) -> Float:
        """Anchors, levels, slopes, logarithms of the noise, and roots of the posteriors of experts with a prior."""
        noise = self.noise[:1] if self.shared_noise else self.noise
        parts = [self.slopes, np.log(noise), self._roots()[self.priors.present]]
        if self.intercept:
            parts += [self.anchor, self.level]
        return np.concatenate([part.ravel() for part in parts])

    @property
    def scales(self) -> Float:
        """Differences between the experts, or sizes where these do not differ."""
        noise = self.noise[:1] if self.shared_noise else self.noise
        parts = [_sizes(self.slopes), np.ones_like(noise), _sizes(self._roots()[self.priors.present])]
        if self.intercept:
            parts += [_sizes(self.anchor), _sizes(self.level)]
        return np.concatenate([part.ravel() for part in parts])

    def at(self, coordinates: Float) -> LinearExperts:
        """See :meth:`Components.at`; the noise is not below its floor."""
        K, M, D = self.slopes.shape
        left, present = coordinates, self.priors.present

        def taken(*shape: int) -> Float:
            nonlocal left
            size = int(np.prod(shape))
            part, left = left[:size].reshape(shape), left[size:]
            return part

        slopes = taken(K, M, D)
        noise = np.broadcast_to(np.exp(taken(1 if self.shared_noise else K, M)), (K, M))
        roots, posterior = np.array(self._roots()), self.posterior.copy()
        roots[present] = taken(int(present.sum()), M, D, D)
        posterior[present] = roots[present] @ np.swapaxes(roots[present], -1, -2)
        moved = replace(
            self,
            slopes=slopes,
            noise=np.maximum(noise, self.noise_floor),
            roots=roots,
            posterior=posterior,
        )
        return replace(moved, anchor=taken(K, D), level=taken(K, M)) if self.intercept else moved

    def n_parameters(self) -> int:
        """Number of slopes, intercepts and noise variances."""
        K, M, D = self.slopes.shape
        return int(K * M * (D + int(self.intercept)) + (M if self.shared_noise else K * M))


def _sizes(values: Float) -> Float:
    """Sizes of a large step of values that experts have along the first axis; 1 for those that are all 0."""
    if not len(values):
        return values
    differences = np.abs(values - values.mean(axis=0)).max(axis=0)
    size = np.where(differences > 0.0, differences, np.abs(values).max(axis=0))
    return np.array(np.broadcast_to(np.where(size > 0.0, size, 1.0), values.shape))


def _of_residuals(found: Found, baseline: Baseline) -> Moments:
    """Moments with y replaced by its residuals for the experts in the baseline, from one more pass over the rows."""
    moments, table = found.moments, found.table
    K, x = len(moments.mass), slice(0, table.covariates)
    experts = [int(k) for k in baseline.some if moments.mass[k] > 0.0]
    pivot = np.array(np.broadcast_to(moments.pivot, (K, table.dims)))
    pivot[experts, x] = moments.means(np.maximum(moments.mass, _TINY))[experts, x]
    pivot[experts, table.covariates :] = 0.0
    of_residuals = table.accumulate_residuals(found.weighted_with, experts, pivot, baseline.of)
    first, second = moments.first.copy(), moments.second.copy()
    for k, residual in zip(experts, of_residuals, strict=True):
        first[k], second[k] = residual.first[0], residual.second[0]
    return replace(moments, pivot=pivot, first=first, second=second)
