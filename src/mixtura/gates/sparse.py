"""Mixing weights of each row's own, with a Dirichlet prior that favours one component."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from mixtura.found import Found
from mixtura.gates.base import Gate, state
from mixtura.gates.dirichlet import divergence, positive
from mixtura.table import Table

if TYPE_CHECKING:
    from mixtura.interop.graph import Graph

Float = NDArray[np.float64]

# Least mean mu_k of a component.
_LEAST = 1e-9

# Number of rows whose digammas are held at a time.
_BLOCK = 1 << 15


def inverse_digamma(y: Float) -> Float:
    """Solve digamma(x) = y for x, by Newton's method from Minka's start (Estimating a Dirichlet distribution, 2000)."""
    x = np.where(y >= -2.22, np.exp(y) + 0.5, -1.0 / (np.minimum(y, -2.22) - digamma(1.0)))
    for _ in range(6):
        x = x - (digamma(x) - y) / polygamma(1, x)
    return np.asarray(x)


@dataclass(frozen=True, eq=False)
class SparseGate(Gate):
    """Mixing weights of each row's own, ``pi_i ~ Dir(gamma mu)``, by variational inference.

    ``q(pi_i) = Dir(alpha_i)`` with ``alpha_i = gamma mu + r_i``; the E-step uses
    ``E log pi_ik = psi(alpha_ik) - psi(gamma + 1)``. The smaller gamma is, the more this favours one expert for each
    row. For rows that were not in the fit the weights are the prior's mean, mu. A fit holds N x K numbers.

    Parameters
    ----------
    gamma : float, default=1
        The prior's concentration.
    mu : array-like of shape (K,), default=None
        The prior's mean, scaled to sum to 1. None: it is learnt by maximising the bound.

    Attributes
    ----------
    mean : ndarray of shape (K,)
        mu; None before a fit.
    alpha : ndarray of shape (N, K)
        The parameters of q; only while fitting.

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
        """See :meth:`Gate.resume`: alpha starts from the prior."""
        started = super().resume(components, table, rng)
        return replace(started, alpha=np.broadcast_to(self.gamma * started.mean, started.alpha.shape))

    def log_weights(self, block: Table) -> Float:
        """``E log pi_i``, (n, K)."""
        alpha = self.alpha[block.cut]
        return np.asarray(digamma(alpha) - digamma(alpha.sum(axis=1, keepdims=True)))

    @property
    def bound(self) -> float:
        """``-sum_i KL(q(pi_i) || p(pi_i))``."""
        return -self.divergence

    def maximize(self, found: Found) -> Self:
        """``alpha_i = gamma mu + r_i``; then, if mu is learnt, the best mu for these alpha."""
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
        total_divergence = sum(float(weights[cut] @ divergence(alpha[cut], prior)) for cut in cuts)
        return replace(self, mean=mean, alpha=alpha, divergence=total_divergence)

    def _best_mean(self, expected: Float) -> Float:
        """The mu that maximises ``sum gamma mu_k e_k - log Γ(gamma mu_k)``, given e = mean E log pi.

        ``digamma(gamma mu_k) = e_k - c``, with c such that mu sums to 1.
        """

        def excess(c: float) -> float:
            return float(inverse_digamma(expected - c).sum() - self.gamma)

        # The largest gamma mu_k lies between gamma / K and gamma, which brackets c.
        top = float(expected.max())
        low, high = top - float(digamma(self.gamma)), top - float(digamma(self.gamma / len(expected)))
        if excess(low) <= 0.0:
            c = low  # up to rounding, one component has all the weight
        elif excess(high) >= 0.0:
            c = high  # up to rounding, all components have equal weights
        else:
            c = brentq(excess, low, high, xtol=1e-14 * max(1.0, abs(high)))
        best = inverse_digamma(expected - c)
        step = best / best.sum() - self.mean
        # The objective is concave, so every point between the present mean and the best one is an improvement.
        falling = step < 0.0
        largest_share = (self.mean[falling] - _LEAST) / -step[falling]
        return np.asarray(self.mean + max(min(1.0, largest_share.min(initial=1.0)), 0.0) * step)

    def log_probabilities(self, block: Table) -> Float:
        """Log mu, (K,)."""
        return np.log(self.mean)

    def symbolic(self, graph: Graph, rows: str) -> str:
        """See :meth:`Gate.symbolic`."""
        return self._symbolic_constant(graph, rows)

    def n_parameters(self, components: int, dims: int) -> int:
        """K - 1 where mu is learnt, else 0."""
        return components - 1 if self.mu is None else 0
