"""Mixing weights with a Dirichlet prior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, gammaln

from mixtura.found import Found
from mixtura.gates.base import Gate, state
from mixtura.table import Table

if TYPE_CHECKING:
    from mixtura.interop.graph import Graph

Float = NDArray[np.float64]


def divergence(posterior: Float, prior: Float) -> Float:
    """Kullback-Leibler divergence KL(Dir(posterior) || Dir(prior)) along the last axis.

    ``log Γ(Σa) - Σ log Γ(a) - log Γ(Σb) + Σ log Γ(b) + Σ (a - b)(ψ(a) - ψ(Σa))``.
    """
    total = posterior.sum(axis=-1, keepdims=True)
    out = gammaln(total[..., 0]) - gammaln(posterior).sum(axis=-1)
    out = out - gammaln(prior.sum(axis=-1)) + gammaln(prior).sum(axis=-1)
    return np.asarray(out + np.sum((posterior - prior) * (digamma(posterior) - digamma(total)), axis=-1))


def positive(value: ArrayLike, components: int, name: str) -> Float:
    """Check positive numbers, one for each component or one for all; returns (K,)."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim > 1 or array.shape not in ((), (components,)):
        raise ValueError(f"{name} has shape {array.shape}, not one number or ({components},)")
    if not np.all(np.isfinite(array) & (array > 0.0)):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return np.ascontiguousarray(np.broadcast_to(array, components))


@dataclass(frozen=True, eq=False)
class DirichletGate(Gate):
    """Mixing weights with a Dirichlet prior, ``pi ~ Dir(concentration)``, by variational inference.

    ``q(pi) = Dir(m)`` with ``m_k = concentration_k + sum_i r_ik``; the E-step uses
    ``E log pi_k = psi(m_k) - psi(sum m)``, predictions use ``m_k / sum m``.

    Parameters
    ----------
    concentration : float or array-like of shape (K,), default=1
        The prior's weight, in rows, for each expert. Below 1, experts that are not needed lose their rows.

    Attributes
    ----------
    posterior : ndarray of shape (K,)
        m; None before a fit.

    References
    ----------
    Bishop (2006), Pattern Recognition and Machine Learning, 10.2.

    Examples
    --------
    >>> from mixtura import DirichletGate, MixtureOfExperts
    >>> MixtureOfExperts(gate=DirichletGate(concentration=0.5)).gate
    DirichletGate(concentration=0.5)
    """

    name: ClassVar[str] = "dirichlet"

    concentration: ArrayLike = 1.0
    posterior: Float = state()

    def _prior(self, components: int) -> Float:
        return positive(self.concentration, components, "concentration")

    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        return replace(self, posterior=self._prior(components))

    def log_weights(self, block: Table) -> Float:
        """``E log pi``, (K,)."""
        return np.asarray(digamma(self.posterior) - digamma(self.posterior.sum()))

    @property
    def bound(self) -> float:
        """``-KL(q(pi) || p(pi))``."""
        return -float(divergence(self.posterior, self._prior(len(self.posterior))))

    def maximize(self, found: Found) -> Self:
        """``m = concentration + mass``."""
        mass = found.moments.mass
        return replace(self, posterior=self._prior(len(mass)) + mass)

    @property
    def coordinates(self) -> Float:
        """Log m."""
        return np.log(self.posterior)

    def at(self, coordinates: Float, table: Table) -> Self:
        """See :meth:`Gate.at`."""
        return replace(self, posterior=np.exp(coordinates))

    @property
    def weights(self) -> Float:
        """Posterior means, (K,)."""
        return np.asarray(self.posterior / self.posterior.sum())

    @property
    def concentrations(self) -> Float:
        """m, (K,)."""
        return self.posterior

    def with_concentrations(self, held: Float) -> Self:
        """The gate whose :attr:`concentrations` are these."""
        return replace(self, posterior=held)

    def log_probabilities(self, block: Table) -> Float:
        """Log of the posterior mean, (K,)."""
        return np.asarray(np.log(self.weights))

    def symbolic(self, graph: Graph, rows: str) -> str:
        """See :meth:`Gate.symbolic`."""
        return self._symbolic_constant(graph, rows)

    def n_parameters(self, components: int, dims: int) -> int:
        """K - 1."""
        return components - 1
