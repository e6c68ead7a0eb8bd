"""Linear experts: regressions of y on x, each with its own slopes.

``p_k(y | x) = N(y | b_k + W_k x, diag s_k)``, with W_k by maximum likelihood, or, under a prior
``w_km ~ N(w0_km, A_k)``, with its Gaussian posterior ``q(w_km) = N(W_km, B_km)``. Shapes: K experts, M targets, D
columns of x.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from mixtura.links import PriorLink
from mixtura.quadratics import Quadratics
from mixtura.statistics import MASS_FLOOR, Moments, pack_symmetric, unpack_symmetric

Float = NDArray[np.float64]

HYPERPARAMETERS = ("prior_mean", "prior_covariance")

# Reciprocal condition number of standardised columns below which they count as dependent: moments are good to about
# 1e-15 of their size.
_DEPENDENT = 1e-12

# Variance of a column, as a share of its mean square about the pivot, that is rounding: the column is constant.
_ROUNDING = 64 * float(np.finfo(np.float64).eps)

# Share of the rows below which an expert has none.
_EMPTY = 1e-12


@dataclass(frozen=True, eq=False)
class LinearExpert:
    """A linear regression as an expert: ``y ~ N(b + W x, s)``, with or without a prior on the slopes.

    Without a prior: maximum likelihood. With one: the conjugate posterior ``q(w) = N(W, B)``,
    ``B = (A^-1 + X'X / s)^-1``, ``W = B (A^-1 w0 + X'y / s)``, where X'X and X'y are weighted with the
    responsibilities. The intercept has no prior: it is found by maximum likelihood.

    Parameters
    ----------
    prior_mean : float or array-like of shape (D,) or (M, D), default=None
        w0; None is 0 if there is a ``prior_covariance``.
    prior_covariance : float or array-like of shape (D,) or (D, D), default=None
        A: a variance for all slopes, one for each (a diagonal), or a matrix, in units of (y / x)^2. None: no prior.
    optimize : collection of {'prior_mean', 'prior_covariance'}, default=None
        What of the prior is learnt: w0 becomes W, and A becomes B + (W - w0)(W - w0)' (its diagonal, if A is one), at
        each M-step. None follows ``MixtureOfExperts(empirical_bayes=...)``, which learns the covariance. To learn
        both lets the prior shrink around the maximum-likelihood slopes until it no longer matters.

    References
    ----------
    Bishop (2006), Pattern Recognition and Machine Learning, 3.3.

    Examples
    --------
    >>> from mixtura import LinearExpert, MixtureOfExperts
    >>> ridge = LinearExpert(prior_covariance=10.0)
    >>> MixtureOfExperts(2, experts=ridge).experts.prior_covariance
    10.0
    """

    prior_mean: ArrayLike | None = None
    prior_covariance: ArrayLike | None = None
    optimize: Any = None

    def prior(self, targets: int, dims: int) -> tuple[Float, Float]:
        """w0 (M, D) and A (D, D).

        Raises
        ------
        ValueError
            Wrong shapes, not finite, or A not symmetric and positive definite.
        """
        mean = np.asarray(0.0 if self.prior_mean is None else self.prior_mean, dtype=np.float64)
        if mean.shape not in ((), (dims,), (targets, dims)):
            raise ValueError(
                f"prior_mean has shape {mean.shape}; with {dims} columns and {targets} target(s) it is one number, "
                f"({dims},) or ({targets}, {dims})"
            )
        covariance = np.asarray(self.prior_covariance, dtype=np.float64)
        if covariance.shape not in ((), (dims,), (dims, dims)):
            raise ValueError(
                f"prior_covariance has shape {covariance.shape}; with {dims} columns it is one number, ({dims},) or "
                f"({dims}, {dims})"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError("prior_mean and prior_covariance must be finite")
        if covariance.ndim < 2:
            covariance = np.diag(np.broadcast_to(covariance, (dims,)))
        if not np.allclose(covariance, covariance.T, rtol=1e-10, atol=0.0):
            raise ValueError("prior_covariance is not symmetric")
        _, failed = lapack.dpotrf(covariance, lower=1)
        if failed:
            raise ValueError(
                "prior_covariance is not positive definite: its smallest eigenvalue is "
                f"{np.linalg.eigvalsh(covariance)[0]:.3g}"
            )
        return np.ascontiguousarray(np.broadcast_to(mean, (targets, dims))), covariance

    def learnt(self, empirical_bayes: bool) -> frozenset[str]:
        """Which hyperparameters the M-step learns."""
        names = (("prior_covariance",) if empirical_bayes else ()) if self.optimize is None else self.optimize
        names = {names} if isinstance(names, str) or not isinstance(names, Collection) else set(names)
        if not names <= set(HYPERPARAMETERS):
            raise ValueError(f"optimize takes names of {HYPERPARAMETERS}, got {self.optimize!r}")
        return frozenset(names)


@dataclass(frozen=True)
class Priors:
    """The experts' priors.

    Parameters
    ----------
    present : ndarray of shape (K,), bool
        Whether an expert has one.
    mean : ndarray of shape (K, M, D)
        w0; zeros without a prior.
    covariance : ndarray of shape (K, D, D)
        A; zeros without a prior.
    precision : ndarray of shape (K, D, D)
        Its inverse; zeros without a prior.
    learnt : tuple of frozenset of str, length K
    diagonal : ndarray of shape (K,), bool
        Whether A stays diagonal when it is learnt.
    link : PriorLink, optional
    """

    present: NDArray[np.bool_]
    mean: Float
    covariance: Float
    precision: Float
    learnt: tuple[frozenset[str], ...]
    diagonal: NDArray[np.bool_]
    link: PriorLink | None = None

    @classmethod
    def of(
        cls,
        experts: list[LinearExpert],
        targets: int,
        dims: int,
        empirical_bayes: bool,
        link: PriorLink | None,
    ) -> Priors:
        """From what the user asked for."""
        K = len(experts)
        present = np.array([e.prior_covariance is not None for e in experts])
        for e in experts:
            if e.prior_covariance is None and e.prior_mean is not None:
                raise ValueError("a prior_mean needs a prior_covariance")
        if link is not None and np.count_nonzero(present) < 2:
            raise ValueError(
                "prior_link links the means of priors, so at least two experts need one: "
                "LinearExpert(prior_covariance=...)"
            )
        mean, covariance = np.zeros((K, targets, dims)), np.zeros((K, dims, dims))
        for k in np.flatnonzero(present):
            mean[k], covariance[k] = experts[k].prior(targets, dims)
        precision = np.zeros_like(covariance)
        precision[present] = np.linalg.inv(covariance[present])
        return cls(
            present,
            mean,
            covariance,
            precision,
            tuple(e.learnt(empirical_bayes) for e in experts),
            np.array([np.asarray(e.prior_covariance, dtype=np.float64).ndim < 2 for e in experts]),
            link,
        )

    def restored(self, mean: Float, covariance: Float) -> Priors:
        """These priors with means and covariances as once learnt."""
        if mean.shape != self.mean.shape or covariance.shape != self.covariance.shape:
            raise ValueError(f"priors of shape {mean.shape}, not {self.mean.shape}")
        precision = np.zeros_like(covariance)
        precision[self.present] = np.linalg.inv(covariance[self.present])
        return replace(self, mean=mean, covariance=covariance, precision=precision)

    def updated(self, slopes: Float, posterior: Float) -> Priors:
        """The M-step of what is learnt: first the means, then the covariances, each at its best."""
        mean = self.mean.copy()
        for k, learnt in enumerate(self.learnt):
            if self.present[k] and "prior_mean" in learnt:
                mean[k] = slopes[k]
        if self.link is not None:
            who = self.present
            mean[who] = self.link.maximize(self.mean[who], self.precision[who], slopes[who])
        covariance, precision = self.covariance.copy(), self.precision.copy()
        for k, learnt in enumerate(self.learnt):
            if not (self.present[k] and "prior_covariance" in learnt):
                continue
            away = slopes[k] - mean[k]
            best = posterior[k].mean(axis=0) + away.T @ away / len(away)
            if self.diagonal[k]:
                best = np.diag(np.diag(best))
            covariance[k], precision[k] = best, np.linalg.inv(best)
        return replace(self, mean=mean, covariance=covariance, precision=precision)

    def bound(self, slopes: Float, posterior: Float) -> float:
        """``-sum_km KL(N(W, B) || N(w0, A)) + R(w0)``."""
        total = 0.0
        for k in np.flatnonzero(self.present):
            _, log_prior = np.linalg.slogdet(self.precision[k])
            for W, B, w0 in zip(slopes[k], posterior[k], self.mean[k], strict=True):
                _, log_posterior = np.linalg.slogdet(B)
                away = W - w0
                total -= 0.5 * float(
                    np.sum(self.precision[k] * B)
                    + away @ self.precision[k] @ away
                    - len(W)
                    - log_posterior
                    - log_prior
                )
        if self.link is not None:
            total += self.link.value(self.mean[self.present])
        return total


@dataclass(frozen=True)
class _Scatter:
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


def _scatters(moments: Moments, dims: int, intercept: bool) -> list[_Scatter]:
    """One for each expert, from moments of kind 'full' of z = [x; y]."""
    size = moments.first.shape[1]
    if intercept:
        mass = moments.mass + MASS_FLOOR
        centers = moments.means(mass)
        whole = moments.covariances(mass) * mass[:, None, None]
        about_pivot, _ = moments.squares()
        constant = np.diagonal(whole, axis1=1, axis2=2) <= _ROUNDING * about_pivot * mass[:, None]
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
        _Scatter(
            float(n), c[:dims], c[dims:], S[:dims, :dims], S[:dims, dims:], np.maximum(np.diag(S)[dims:], 0.0)
        )
        for n, c, S in zip(moments.mass, centers, whole, strict=True)
    ]


def least_squares(xx: Float, xy: Float) -> tuple[Float, Float, bool]:
    """Slopes (M, D) that solve ``xx W' = xy``, the inverse of xx, and whether columns are dependent.

    Dependent columns (copies, constants, too few rows) leave many solutions: the one of least norm is taken, and the
    pseudo-inverse. Columns are standardised before their dependence is judged.
    """
    scale = np.sqrt(np.maximum(np.diag(xx), 0.0))
    scale[scale <= 0.0] = 1.0
    correlation = xx / np.outer(scale, scale)
    factor, failed = lapack.dpotrf(correlation, lower=1, clean=0)
    if not failed:
        condition, _ = lapack.dpocon(factor, np.abs(correlation).sum(axis=0).max(), uplo="L")
        if condition > _DEPENDENT:
            inverse, _ = lapack.dpotri(factor, lower=1)
            inverse = np.tril(inverse) + np.tril(inverse, -1).T
            inverse /= np.outer(scale, scale)
            solved, _ = lapack.dpotrs(factor, xy / scale[:, None], lower=1)
            return np.ascontiguousarray((solved / scale[:, None]).T), inverse, False
    values, vectors = np.linalg.eigh(correlation)
    kept = values > _DEPENDENT * len(values)
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)
    slopes = inverse @ xy
    null, _ = np.linalg.qr(vectors[:, ~kept] / scale[:, None])  # directions that no row can tell of
    slopes -= null @ (null.T @ slopes)
    inverse -= null @ (null.T @ inverse)
    inverse -= (inverse @ null) @ null.T
    return np.ascontiguousarray(slopes.T), inverse, True


@dataclass(frozen=True)
class LinearExperts:
    """K linear experts with their slopes, noise and priors.

    Parameters
    ----------
    intercept : bool
    shared_noise : bool
        One noise variance a target for all experts.
    priors : Priors
    noise_floor : ndarray of shape (M,)
        Least noise variance.
    anchor : ndarray of shape (K, D)
        Mean of x among the expert's rows, where its intercept and slopes are independent; 0 without an intercept.
    level : ndarray of shape (K, M)
        The regression's value there. Both are parameters without a prior: slopes vary about this point.
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
    """

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

    @classmethod
    def start(
        cls, priors: Priors, intercept: bool, shared_noise: bool, noise_floor: Float, noise: Float
    ) -> LinearExperts:
        """Flat experts with a given noise variance (M,), to be maximised."""
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
        ``V = sum_m B_m / s_m`` where there is a prior: a rectangle of M rows, one a target, and D more for V.
        """
        K, M, D = self.slopes.shape
        uncertain = bool(self.priors.present.any())
        factors = np.zeros((K, M + (D if uncertain else 0), D + M))
        roots = np.sqrt(self.noise)
        factors[:, :M, :D] = -self.slopes / roots[:, :, None]
        factors[:, np.arange(M), D + np.arange(M)] = 1.0 / roots
        for k in np.flatnonzero(self.priors.present):
            V = np.sum(self.posterior[k] / self.noise[k][:, None, None], axis=0)
            factors[k, M:, :D] = _root(V)
        offsets = -0.5 * np.sum(np.log(2.0 * math.pi * self.noise), axis=1)
        return Quadratics("rectangle", offsets, np.hstack([self.anchor, self.level]), factors)

    @property
    def bound(self) -> float:
        """The experts' own terms of the objective: divergences from the priors, the link."""
        return self.priors.bound(self.slopes, self.posterior)

    def maximize(self, moments: Moments) -> LinearExperts:
        """The M-step: slopes given the noise, noise given the slopes, then what of the priors is learnt.

        Parameters
        ----------
        moments : Moments
            Of kind 'full', of z = [x; y], weighted with the responsibilities.
        """
        K, M, D = self.slopes.shape
        scatters = _scatters(moments, D, self.intercept)
        empty = moments.mass <= _EMPTY * moments.mass.sum()
        anchor, level = np.zeros((K, D)), np.zeros((K, M))
        slopes, posterior, squares = np.empty((K, M, D)), np.empty((K, M, D, D)), np.zeros((K, M))
        dependent = np.zeros(K, dtype=bool)
        for k, s in enumerate(scatters):
            anchor[k], level[k] = s.x, s.y
            if self.priors.present[k] and empty[k]:
                # What it believed of its rows goes with them: only the prior is left.
                slopes[k], posterior[k] = self.priors.mean[k], self.priors.covariance[k]
                spread = np.einsum("mde,de->m", posterior[k], s.xx)
            elif self.priors.present[k]:
                w0 = self.priors.mean[k]
                for m in range(M):
                    posterior[k, m], gain = _posterior(self.priors.covariance[k], s.xx, self.noise[k, m])
                    slopes[k, m] = w0[m] + gain @ (s.xy[:, m] - s.xx @ w0[m])
                spread = np.einsum("mde,de->m", posterior[k], s.xx)
            else:
                slopes[k], inverse, dependent[k] = least_squares(s.xx, s.xy)
                posterior[k] = inverse  # times the noise, once that is known
                spread = np.zeros(M)
            squares[k] = s.residual(slopes[k]) + spread
        pooled = squares.sum(axis=0) / moments.mass.sum()
        own = squares / np.maximum(moments.mass, MASS_FLOOR)[:, None]
        noise = np.where(self.shared_noise | empty[:, None], pooled, own)
        noise = np.maximum(noise, self.noise_floor)
        plain = ~self.priors.present
        posterior[plain] *= noise[plain][:, :, None, None]
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
        )

    @property
    def intercepts(self) -> Float:
        """The regressions' values at x = 0, (K, M)."""
        return np.asarray(self.level - np.einsum("kmd,kd->km", self.slopes, self.anchor))

    def means(self, X: NDArray[np.floating]) -> Float:
        """What each expert says of rows x (n, D): (n, K, M)."""
        K, M, D = self.slopes.shape
        away = np.asarray(X, dtype=np.float64)
        shift = self.level - np.einsum("kmd,kd->km", self.slopes, self.anchor - self.anchor[0])
        flat = (away - self.anchor[0]) @ self.slopes.reshape(K * M, D).T
        return np.asarray(flat.reshape(len(away), K, M) + shift)

    def variances(self, X: NDArray[np.floating]) -> Float:
        """Predictive variances of y at rows x (n, D), noise and what is not known of the slopes: (n, K, M)."""
        K, M, _ = self.slopes.shape
        out = np.empty((len(X), K, M))
        out[:] = self.noise
        for k in np.flatnonzero(self.priors.present):
            away = X - self.anchor[k]
            for m in range(M):
                out[:, k, m] += np.einsum("nd,nd->n", away @ self.posterior[k, m], away)
        return out

    def n_parameters(self) -> int:
        """Slopes, intercepts and noise variances."""
        K, M, D = self.slopes.shape
        return int(K * M * (D + int(self.intercept)) + (M if self.shared_noise else K * M))


def _posterior(covariance: Float, xx: Float, noise: float) -> tuple[Float, Float]:
    """``B = (A^-1 + xx / s)^-1`` and ``B / s``, (D, D).

    By eigenvectors of C' xx C with A = C C': of a plain inverse, rounding would be 1 / s times as large in
    directions that the rows determine, where s is small.
    """
    root = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(root.T @ xx @ root)
    root = root @ vectors
    gain = (root / (noise + np.maximum(values, 0.0))) @ root.T
    return noise * gain, gain


def _root(positive: Float) -> Float:
    """L with L'L = a positive semidefinite matrix (D, D)."""
    factor, failed = lapack.dpotrf(positive, lower=1, clean=1)
    if failed:
        values, vectors = np.linalg.eigh(positive)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))).T)
    return np.ascontiguousarray(factor.T)


def leading(moments: Moments, dims: int) -> Moments:
    """Moments, of kind 'full', of the first columns alone."""
    size = moments.first.shape[1]
    inner = unpack_symmetric(moments.second, size)[:, :dims, :dims]
    return replace(
        moments,
        pivot=moments.pivot[..., :dims],
        first=np.ascontiguousarray(moments.first[:, :dims]),
        second=pack_symmetric(inner),
    )
