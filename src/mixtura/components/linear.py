"""Linear experts: regressions of y on x, each with its own slopes.

``p_k(y | x) = N(y | b_k + W_k x, diag s_k)``, with W_k by maximum likelihood, or, under a prior
``w_km ~ N(w0_km, A_k)``, with its Gaussian posterior ``q(w_km) = N(W_km, B_km)``. Shapes: K experts, M targets, D
columns of x.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from mixtura.array_kinds import to_host
from mixtura.components.base import Components
from mixtura.found import Found
from mixtura.links import PriorLink
from mixtura.moments import Kind, Moments
from mixtura.quadratics import Quadratics
from mixtura.triangles import unpack_symmetric

Float = NDArray[np.float64]

HYPERPARAMETERS = ("prior_mean", "prior_covariance")

# Eigenvalue of the correlations of columns below which, times the number of columns, they count as dependent: moments
# are good to about 1e-15 of their size.
_DEPENDENT = 1e-12

# Eigenvalues above rounding, but so small that sums of squares alone do not tell the slopes along them well enough: the
# slopes' error is the machine's epsilon over the eigenvalue.
_DELICATE = (1e-14, 1e-7)

# Slopes along a direction are good to this over its eigenvalue: residuals must not be thought smaller than they are.
_SOLVED = 8 * float(np.finfo(np.float64).eps)

# Share of the variance of y that is left of it, below which sums of squares do not tell the noise well enough.
_NEARLY_EXACT = 1e-6

# The same of residuals, in units of the least noise variance.
_NEAR_FLOOR = 1e6

# Variance of a column among an expert's rows, as a share of its variance in the table, that tells of no slope: where
# the column varies among rows of no account alone, slopes would be so large that rounding elsewhere drowned them.
_CONSTANT = 1e-20

# Share of the largest eigenvalue of second moments, and of sums of squares, that is rounding.
_ROUNDING = 64 * float(np.finfo(np.float64).eps)

_TINY = float(np.finfo(np.float64).tiny)

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
        if np.ma.is_masked(self.prior_mean) or np.ma.is_masked(self.prior_covariance):
            raise ValueError("prior_mean and prior_covariance must have no masked values, which are missing")
        mean = np.asarray(0.0 if self.prior_mean is None else to_host(self.prior_mean), dtype=np.float64)
        if mean.shape not in ((), (dims,), (targets, dims)):
            raise ValueError(
                f"prior_mean has shape {mean.shape}; with {dims} columns and {targets} target(s) it is one number, "
                f"({dims},) or ({targets}, {dims})"
            )
        covariance = np.asarray(to_host(self.prior_covariance), dtype=np.float64)
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
            np.array([np.ndim(to_host(e.prior_covariance)) < 2 for e in experts]),
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

    def bound(self, slopes: Float, roots: Float) -> float:
        """``-sum_km KL(N(W, B) || N(w0, A)) + R(w0)``, with B = C C' given by its roots C (K, M, D, D)."""
        total = 0.0
        for k in np.flatnonzero(self.present):
            _, log_prior = np.linalg.slogdet(self.precision[k])
            for W, C, w0 in zip(slopes[k], roots[k], self.mean[k], strict=True):
                _, log_root = np.linalg.slogdet(C)
                away = W - w0
                total -= 0.5 * float(
                    np.sum(C * (self.precision[k] @ C))
                    + away @ self.precision[k] @ away
                    - len(W)
                    - 2.0 * log_root
                    - log_prior
                )
        if self.link is not None:
            total += self.link.value(self.mean[self.present])
        return total


@dataclass(frozen=True)
class Baseline:
    """Regressions that the targets of each expert were measured from: ``y - level - slopes (x - anchor)``.

    Of nearly exact or nearly dependent regressions, sums of squares of y itself would hold too few digits.

    Parameters
    ----------
    slopes : ndarray of shape (K, M, D)
    anchor : ndarray of shape (K, D)
    level : ndarray of shape (K, M)
        All 0 for an expert whose targets are y itself.
    some : ndarray of int
        The other experts.
    """

    slopes: Float
    anchor: Float
    level: Float
    some: NDArray[np.intp]

    @classmethod
    def none(cls, components: int, targets: int, dims: int) -> Baseline:
        """The targets are y itself."""
        return cls(
            np.zeros((components, targets, dims)),
            np.zeros((components, dims)),
            np.zeros((components, targets)),
            np.zeros(0, dtype=np.intp),
        )

    def of(self, k: int, x: NDArray[np.floating]) -> Float:
        """The regression of expert k at rows (n, D) or at one row (D,): (n, M) or (M,)."""
        return np.asarray(self.level[k] + (x - self.anchor[k]) @ self.slopes[k].T)


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
        mass = np.maximum(moments.mass, _TINY)
        centers = moments.means(mass)
        whole = moments.covariances(mass) * mass[:, None, None]
        squares = np.diagonal(whole, axis1=1, axis2=2)
        weight = mass.sum()
        away = centers - mass @ centers / weight
        total = (squares + mass[:, None] * away**2).sum(axis=0) / weight
        constant = squares <= _CONSTANT * total * mass[:, None]
        constant[:, dims:] = False
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


@dataclass(frozen=True)
class _Solution:
    """Least squares.

    slopes : (M, D).
    inverse : of xx, (D, D).
    explained : what of yy the slopes explain, (M,).
    spoilt : what of that rounding may have left in the residuals, (M,).
    dependent : whether columns are dependent.
    delicate : whether some are so nearly dependent that sums of squares tell the slopes with few digits.
    """

    slopes: Float
    inverse: Float
    explained: Float
    spoilt: Float
    dependent: bool
    delicate: bool


@cache
def _below(dims: int) -> NDArray[np.bool_]:
    """The lower triangle of a matrix, its diagonal included."""
    return np.tri(dims, dtype=bool)


def least_squares(xx: Float, xy: Float) -> _Solution:
    """Slopes that solve ``xx W' = xy``.

    Columns are standardised first, so that their units matter to nothing. Dependent columns (copies, constants, too few
    rows) leave many solutions: the one of least norm is taken, and the pseudo-inverse.
    """
    scale = np.sqrt(np.maximum(np.diag(xx), 0.0))
    scale[scale <= 0.0] = 1.0
    correlation = xx / np.outer(scale, scale)
    target = xy / scale[:, None]
    factor, failed = lapack.dpotrf(correlation, lower=1, clean=0)
    if not failed:
        condition, _ = lapack.dpocon(factor, np.abs(correlation).sum(axis=0).max(), uplo="L")
        if condition > _DELICATE[1]:
            inverse, _ = lapack.dpotri(factor, lower=1)
            inverse = np.where(_below(len(scale)), inverse, inverse.T) / np.outer(scale, scale)
            half, _ = lapack.dtrtrs(factor, target, lower=1)
            solved, _ = lapack.dtrtrs(factor, half, lower=1, trans=1)
            slopes = np.ascontiguousarray((solved / scale[:, None]).T)
            explained = np.sum(half**2, axis=0)
            return _Solution(slopes, inverse, explained, explained * (_SOLVED / condition) ** 2, False, False)
    values, vectors = np.linalg.eigh(correlation)
    kept = values > _DEPENDENT * len(values)
    parts = vectors[:, kept].T @ target / np.sqrt(values[kept])[:, None]
    slopes = vectors[:, kept] @ (parts / np.sqrt(values[kept])[:, None]) / scale[:, None]
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)
    low, high = _DELICATE
    return _Solution(
        np.ascontiguousarray(slopes.T),
        inverse,
        np.sum(parts**2, axis=0),
        np.sum((parts * (_SOLVED / values[kept])[:, None]) ** 2, axis=0),
        bool(not kept.all()),
        bool(np.any((low * len(values) < values) & (values < high))),
    )


@dataclass(frozen=True)
class LinearExperts(Components):
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
    delicate : ndarray of shape (K,), bool, optional
        Whether an expert's next slopes must be found from the residuals of these: see :class:`Baseline`.
    roots : ndarray of shape (K, M, D, D), optional
        C with B = C C', of experts with a prior: of a matrix whose eigenvalues differ by more than 1e16, B itself keeps
        the large ones alone. None: B is what there is.
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
        deviations = np.sqrt(self.noise)
        factors[:, :M, :D] = -self.slopes / deviations[:, :, None]
        factors[:, np.arange(M), D + np.arange(M)] = 1.0 / deviations
        roots = self._roots()
        for k in np.flatnonzero(self.priors.present):
            rows = np.concatenate([C.T / d for C, d in zip(roots[k], deviations[k], strict=True)])
            factors[k, M:, :D] = rows if M == 1 else np.linalg.qr(rows, mode="r")
        offsets = -0.5 * np.sum(np.log(2.0 * math.pi * self.noise), axis=1)
        return Quadratics("rectangle", offsets, np.hstack([self.anchor, self.level]), factors)

    def _roots(self) -> Float:
        """C with B = C C', (K, M, D, D)."""
        if self.roots is not None:
            return self.roots
        roots = np.zeros_like(self.posterior)
        for k in np.flatnonzero(self.priors.present):
            roots[k] = [_root(B) for B in self.posterior[k]]
        return roots

    @property
    def bound(self) -> float:
        """The experts' own terms of the objective: divergences from the priors, the link."""
        return self.priors.bound(self.slopes, self._roots())

    def baseline(self) -> Baseline | None:
        """Regressions to measure the targets of the next M-step from; None: y itself will do."""
        if self.delicate is None or not self.delicate.any():
            return None
        some = self.delicate
        return Baseline(
            np.where(some[:, None, None], self.slopes, 0.0),
            np.where(some[:, None], self.anchor, 0.0),
            np.where(some[:, None], self.level, 0.0),
            np.flatnonzero(some),
        )

    def maximize(self, found: Found) -> LinearExperts:
        """The M-step: slopes given the noise, noise given the slopes, then what of the priors is learnt."""
        baseline = self.baseline()
        if baseline is None:
            return self.fitted(found.moments)
        return self.fitted(_of_residuals(found, baseline), baseline)

    def fitted(self, moments: Moments, baseline: Baseline | None = None) -> LinearExperts:
        """The M-step, given all that it needs of the rows.

        Parameters
        ----------
        moments : Moments
            Of kind 'full', of z = [x; y], weighted with the responsibilities.
        baseline : Baseline, optional
            What y was measured from.
        """
        K, M, D = self.slopes.shape
        base = Baseline.none(K, M, D) if baseline is None else baseline
        scatters = _scatters(moments, D, self.intercept)
        least_mass = _EMPTY * float(moments.mass.sum())
        empty = moments.mass <= least_mass
        anchor, level = np.zeros((K, D)), np.zeros((K, M))
        slopes, posterior, squares = np.empty((K, M, D)), np.empty((K, M, D, D)), np.zeros((K, M))
        roots = np.zeros_like(posterior)
        dependent, delicate = np.zeros(K, dtype=bool), np.zeros(K, dtype=bool)
        for k, s in enumerate(scatters):
            before = base.slopes[k]  # slopes are found as steps from these
            if self.intercept:
                anchor[k], level[k] = s.x, s.y
            if self.priors.present[k] and empty[k]:
                # An expert without rows returns to its prior.
                slopes[k], roots[k] = self.priors.mean[k], np.linalg.cholesky(self.priors.covariance[k])
            elif self.priors.present[k]:
                w0 = self.priors.mean[k]
                for m in range(M):
                    away = s.xy[:, m] - s.xx @ (w0[m] - before[m])
                    found = _posterior(self.priors.covariance[k], s.xx, self.noise[k, m], away)
                    slopes[k, m], roots[k, m], squares[k, m] = w0[m] + found.step, found.root, found.spread
            else:
                # Of all but no rows, the inverse of sums would leave float64's range: means do not.
                n = max(s.mass, _TINY)
                fitted = least_squares(s.xx / n, s.xy / n)
                slopes[k], dependent[k], delicate[k] = (
                    before + fitted.slopes,
                    fitted.dependent,
                    fitted.delicate,
                )
                posterior[k] = fitted.inverse / max(n, least_mass)  # times the noise, once that is known
                squares[k] = np.maximum(s.yy - n * fitted.explained, n * fitted.spoilt + _ROUNDING * s.yy)
            if self.priors.present[k]:
                posterior[k] = roots[k] @ roots[k].transpose(0, 2, 1)
                squares[k] += np.maximum(s.residual(slopes[k] - before), _ROUNDING * s.yy)
            spread = s.yy  # of y itself, about
            if baseline is not None:
                spread = spread + np.einsum("md,de,me->m", before, s.xx, before)
                level[k] += base.of(k, s.x) if self.intercept else 0.0
            least = np.maximum(_NEARLY_EXACT * spread, _NEAR_FLOOR * self.noise_floor * s.mass)
            delicate[k] |= bool(np.any(squares[k] <= least))
        pooled = squares.sum(axis=0) / moments.mass.sum()
        own = squares / np.where(empty, 1.0, moments.mass)[:, None]
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
            delicate=delicate & ~empty,
            roots=roots,
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


@dataclass(frozen=True)
class _Posterior:
    """``N(w0 + step, C C')``: step (D,), root C (D, D), and ``tr(C C' xx)``, the spread."""

    step: Float
    root: Float
    spread: float


def _posterior(covariance: Float, xx: Float, noise: float, away: Float) -> _Posterior:
    """Slopes given the noise s: ``C C' = (A^-1 + xx / s)^-1``, ``step = C C' away / s`` with ``away = xy - xx w0``.

    By eigenvectors of R' xx R with A = R R': of a plain inverse, rounding would be 1 / s times as large in
    directions that the rows determine, where s is small. Eigenvalues of the size of rounding are 0: no row tells of
    these directions, and were the noise smaller still, the prior would be lost there.
    """
    root = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(root.T @ xx @ root)
    values[values < _ROUNDING * values[-1]] = 0.0
    root = root @ vectors
    seen = root[:, values > 0.0]
    step = seen @ (seen.T @ away / (noise + values[values > 0.0]))
    return _Posterior(
        step, root * np.sqrt(noise / (noise + values)), float(np.sum(noise * (values / (noise + values))))
    )


def _root(positive: Float) -> Float:
    """C with C C' = a positive semidefinite matrix (D, D)."""
    factor, failed = lapack.dpotrf(positive, lower=1, clean=1)
    if failed:
        values, vectors = np.linalg.eigh(positive)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
    return np.ascontiguousarray(factor)


def _of_residuals(found: Found, baseline: Baseline) -> Moments:
    """Moments with y measured from the present regressions, for the experts that need it: one more pass."""
    moments, table = found.moments, found.table
    K, x = len(moments.mass), slice(0, table.covariates)
    some = [int(k) for k in baseline.some if moments.mass[k] > 0.0]
    pivot = np.array(np.broadcast_to(moments.pivot, (K, table.dims)))
    pivot[some, x] = moments.means(np.maximum(moments.mass, _TINY))[some, x]
    pivot[some, table.covariates :] = 0.0
    own = table.accumulate_residuals(found.weighted_with, some, pivot, baseline.of)
    first, second = moments.first.copy(), moments.second.copy()
    for k, of_one in zip(some, own, strict=True):
        first[k], second[k] = of_one.first[0], of_one.second[0]
    return replace(moments, pivot=pivot, first=first, second=second)
