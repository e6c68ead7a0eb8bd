"""The user's specification of a linear expert, and the priors on the experts' slopes.

``w_km ~ N(w0_km, A_k)``: K experts, M targets, D columns of x.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from mixtura.array_kinds import to_host
from mixtura.links import PriorLink

Float = NDArray[np.float64]

HYPERPARAMETERS = ("prior_mean", "prior_covariance")


@dataclass(frozen=True, eq=False)
class LinearExpert:
    """A linear regression as an expert: ``y ~ N(b + W x, s)``, with or without a prior on the slopes.

    Without a prior the slopes are those of maximum likelihood. With one they have the conjugate posterior
    ``q(w) = N(W, B)``, ``B = (A^-1 + X'X / s)^-1``, ``W = B (A^-1 w0 + X'y / s)``, where X'X and X'y are weighted with
    the responsibilities. The intercept has no prior: it is found by maximum likelihood.

    Parameters
    ----------
    prior_mean : float or array-like of shape (D,) or (M, D), default=None
        w0; None means 0 if there is a ``prior_covariance``.
    prior_covariance : float or array-like of shape (D,) or (D, D), default=None
        A: one variance for all slopes, one for each (a diagonal), or a matrix, in units of (y / x)^2. None: no prior.
    optimize : collection of {'prior_mean', 'prior_covariance'}, default=None
        Which hyperparameters of the prior are learnt. At each M-step w0 becomes W, and A becomes
        B + (W - w0)(W - w0)' (the diagonal of this, if A is diagonal). None follows
        ``MixtureOfExperts(empirical_bayes=...)``, which learns the covariance. If both are learnt, the prior contracts
        around the maximum-likelihood slopes until it has no effect.

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
            A shape is wrong, a number is not finite, or A is not symmetric and positive definite.
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
        Whether an expert has a prior.
    mean : ndarray of shape (K, M, D)
        w0; zeros without a prior.
    covariance : ndarray of shape (K, D, D)
        A; zeros without a prior.
    precision : ndarray of shape (K, D, D)
        The inverse of A; zeros without a prior.
    learnt : tuple of frozenset of str, length K
        The hyperparameters that are learnt.
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

    @cached_property
    def given(self) -> bool:
        """Whether any expert has a prior."""
        return bool(self.present.any())

    @classmethod
    def of(
        cls,
        experts: list[LinearExpert],
        targets: int,
        dims: int,
        empirical_bayes: bool,
        link: PriorLink | None,
    ) -> Priors:
        """The priors that the user's experts specify."""
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
        """Return these priors with the means and covariances of an earlier fit."""
        if mean.shape != self.mean.shape or covariance.shape != self.covariance.shape:
            raise ValueError(f"priors of shape {mean.shape}, not {self.mean.shape}")
        precision = np.zeros_like(covariance)
        precision[self.present] = np.linalg.inv(covariance[self.present])
        return replace(self, mean=mean, covariance=covariance, precision=precision)

    def same_kind(self, other: Priors) -> bool:
        """Whether other priors are these, but for what is learnt."""
        if not (
            np.array_equal(self.present, other.present)
            and np.array_equal(self.diagonal, other.diagonal)
            and self.learnt == other.learnt
            and type(self.link) is type(other.link)
        ):
            return False
        means = np.array([self.link is None and "prior_mean" not in learnt for learnt in self.learnt])
        covariances = np.array(["prior_covariance" not in learnt for learnt in self.learnt])
        return np.array_equal(self.mean[means], other.mean[means]) and np.array_equal(
            self.covariance[covariances], other.covariance[covariances]
        )

    def updated(self, slopes: Float, posterior: Float) -> Priors:
        """The M-step of the learnt hyperparameters: maximise over the means, then over the covariances."""
        if not self.given:
            return self
        mean = self.mean.copy()
        for k, learnt in enumerate(self.learnt):
            if self.present[k] and "prior_mean" in learnt:
                mean[k] = slopes[k]
        if self.link is not None:
            linked = self.present
            mean[linked] = self.link.maximize(self.mean[linked], self.precision[linked], slopes[linked])
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
        if not self.given:
            return 0.0
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
