"""A Dirichlet of each row's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from mixtura.found import Found
from mixtura.gates.base import Gate, state
from mixtura.gates.dirichlet import divergence, positive
from mixtura.table import Table

Float = NDArray[np.float64]

# Least mean of a component.
_LEAST = 1e-9

# Rows whose digammas are held at a time.
_BLOCK = 1 << 15


def inverse_digamma(y: Float) -> Float:
    """X with digamma(x) = y, by Newton's method from Minka's start (Estimating a Dirichlet distribution, 2000)."""
    x = np.where(y >= -2.22, np.exp(y) + 0.5, -1.0 / (np.minimum(y, -2.22) - digamma(1.0)))
    for _ in range(6):
        x = x - (digamma(x) - y) / polygamma(1, x)
    return np.asarray(x)


@dataclass(frozen=True, eq=False)
class SparseGate(Gate):
    """Mixing weights of each row's own, ``pi_i ~ Dir(gamma mu)``, by variational inference.

    ``q(pi_i) = Dir(alpha_i)`` with ``alpha_i = gamma mu + r_i``; the E-step takes
    ``E log pi_ik = psi(alpha_ik) - psi(gamma + 1)``, which pushes rows towards one expert the harder, the
    smaller gamma is. A row that was not in the fit has the prior's mean, mu. Holds N x K numbers while fitting.

    Parameters
    ----------
    gamma : float, default=1
        The prior's concentration.
    mu : array-like of shape (K,), default=None
        The prior's mean, scaled to sum to 1; None learns it: the mu of the largest bound.

    Attributes
    ----------
    mean : ndarray of shape (K,)
        mu; None before a fit.
    alpha : ndarray of shape (N, K)
        While fitting.

    Examples
    --------
    >>> from mixtura import SparseGate, MixtureOfExperts
    >>> MixtureOfExperts(gate=SparseGate(gamma=0.5)).gate
    SparseGate(gamma=0.5, mu=None)
    """

    name: ClassVar[str] = "sparse"
    looks_at_rows: ClassVar[bool] = True
    needs_responsibilities: ClassVar[bool] = True

    gamma: float = 1.0
    mu: ArrayLike | None = None
    mean: Float = state()
    alpha: Float = state(saved=False)
    divergence: float = state(saved=False)

    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        gamma = float(positive(self.gamma, 1, "gamma")[0])
        mean = positive(1.0 if self.mu is None else self.mu, components, "mu")
        mean = mean / mean.sum()
        alpha = np.broadcast_to(gamma * mean, (len(table), components))
        return replace(self, mean=mean, alpha=alpha, divergence=0.0)

    def resume(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.resume`: rows begin at the prior."""
        begun = super().resume(components, table, rng)
        return replace(begun, alpha=np.broadcast_to(self.gamma * begun.mean, begun.alpha.shape))

    def log_weights(self, block: Table) -> Float:
        """``E log pi_i``, (n, K)."""
        alpha = self.alpha[block.cut]
        return np.asarray(digamma(alpha) - digamma(alpha.sum(axis=1, keepdims=True)))

    @property
    def bound(self) -> float:
        """``-sum_i KL(q(pi_i) || p(pi_i))``."""
        return -self.divergence

    def maximize(self, found: Found) -> Self:
        """``alpha_i = gamma mu + r_i``; then mu, where it is learnt, for these alpha."""
        assert found.resp is not None
        alpha, weights = self.gamma * self.mean + found.resp, found.table.weight
        cuts = [slice(i, i + _BLOCK) for i in range(0, len(alpha), _BLOCK)]
        mean = self.mean
        if self.mu is None:
            expected = np.zeros(len(mean))
            for cut in cuts:
                total = digamma(alpha[cut].sum(axis=1, keepdims=True))
                expected += weights[cut] @ (digamma(alpha[cut]) - total)
            mean = self._best_mean(expected / weights.sum())
        prior = self.gamma * mean
        lost = sum(float(weights[cut] @ divergence(alpha[cut], prior)) for cut in cuts)
        return replace(self, mean=mean, alpha=alpha, divergence=lost)

    def _best_mean(self, expected: Float) -> Float:
        """The mu that maximises ``sum gamma mu_k e_k - log Γ(gamma mu_k)``, given e = mean E log pi.

        ``digamma(gamma mu_k) = e_k - c``, with c such that mu sums to 1.
        """

        def excess(c: float) -> float:
            return float(inverse_digamma(expected - c).sum() - self.gamma)

        # No gamma mu_k exceeds gamma, and the largest is at least gamma / K: that brackets c.
        top = float(expected.max())
        low, high = top - float(digamma(self.gamma)), top - float(digamma(self.gamma / len(expected)))
        if excess(low) <= 0.0:
            c = low  # but for rounding, one component has everything
        elif excess(high) >= 0.0:
            c = high  # but for rounding, all components have the same
        else:
            c = brentq(excess, low, high, xtol=1e-14 * max(1.0, abs(high)))
        best = inverse_digamma(expected - c)
        step = best / best.sum() - self.mean
        # The objective is concave: any point on the way is better than its beginning.
        down = step < 0.0
        room = (self.mean[down] - _LEAST) / -step[down]
        return np.asarray(self.mean + max(min(1.0, room.min(initial=1.0)), 0.0) * step)

    def log_probabilities(self, block: Table) -> Float:
        """Log mu, (K,)."""
        return np.log(self.mean)

    def n_parameters(self, components: int, dims: int) -> int:
        """K - 1 where mu is learnt, else 0."""
        return components - 1 if self.mu is None else 0
