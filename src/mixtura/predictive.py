"""What a fitted mixture of experts says of y, given rows of covariates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import normalize
from mixtura.components.linear import LinearExperts
from mixtura.gates.base import Gate
from mixtura.mixture import Mixture
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Predictive:
    """``p(y | x) = sum_k pi_k(x) p_k(y | x)``, where p_k knows how well the slopes are known.

    Shapes: N rows of a table of covariates, K experts, M targets.

    Parameters
    ----------
    mixture : Mixture
        A gate and linear experts.
    """

    mixture: Mixture[Gate, LinearExperts]

    @property
    def _experts(self) -> LinearExperts:
        return self.mixture.components

    def _held(self, table: Table) -> int:
        """Numbers that an answer holds for each row while it is worked out."""
        K, M, _ = self._experts.slopes.shape
        return int(4 * max(K * M, table.dims))

    def _gathered(self, table: Table, answer: Callable[[Table], Float]) -> Float:
        """Answers about blocks of rows, one after the other; not finite where a row is too far from everything."""
        with np.errstate(over="ignore", invalid="ignore"):
            return table.gathered(self._held(table), answer)

    def _log_gate(self, block: Table) -> Float:
        """Log pi, (n, K)."""
        return np.broadcast_to(
            self.mixture.gate.log_probabilities(block), (len(block), len(self._experts.slopes))
        )

    def gate(self, table: Table) -> Float:
        """Probability of each expert given x alone, (N, K)."""
        return self._gathered(table, lambda block: np.exp(self._log_gate(block)))

    def experts(self, table: Table) -> Float:
        """Each expert's mean of y, (N, K, M)."""
        return self._gathered(table, lambda block: self._experts.means(block.x))

    def mean(self, table: Table) -> Float:
        """Mean of y, (N, M)."""

        def of_block(block: Table) -> Float:
            pi, means = np.exp(self._log_gate(block)), self._experts.means(block.x)
            return np.asarray(np.einsum("nk,nkm->nm", pi, means))

        return self._gathered(table, of_block)

    def deviation(self, table: Table) -> Float:
        """Standard deviation of y, (N, M): noise, what is not known of the slopes, and the experts' disagreement."""

        def of_block(block: Table) -> Float:
            pi, means = np.exp(self._log_gate(block)), self._experts.means(block.x)
            away = means - np.einsum("nk,nkm->nm", pi, means)[:, None, :]
            variance = np.einsum("nk,nkm->nm", pi, self._experts.variances(block.x) + away**2)
            return np.asarray(np.sqrt(variance))

        return self._gathered(table, of_block)

    def _log_joint(self, block: Table, y: Float) -> Float:
        """``log pi_k(x) + log p_k(y | x)``, (n, K)."""
        variance = self._experts.variances(block.x)
        squares = (y[block.cut, None, :] - self._experts.means(block.x)) ** 2 / variance
        return np.asarray(
            self._log_gate(block) - 0.5 * np.sum(np.log(2.0 * math.pi * variance) + squares, axis=2)
        )

    def log_density(self, table: Table, y: Float) -> Float:
        """``log p(y | x)`` at targets y (N, M), (N,)."""
        return self._gathered(table, lambda block: normalize(self._log_joint(block, y))[1])

    def responsibilities(self, table: Table, y: Float) -> Float:
        """Probability of each expert given x and y, (N, K)."""
        return self._gathered(table, lambda block: normalize(self._log_joint(block, y))[0])

    def sample(self, table: Table, rng: np.random.RandomState) -> Float:
        """Draw y, (N, M): an expert from the gate, y from the expert."""

        def of_block(block: Table) -> Float:
            below, every = np.cumsum(np.exp(self._log_gate(block)), axis=1), np.arange(len(block))
            drawn = (rng.uniform(size=(len(block), 1)) * below[:, -1:] >= below[:, :-1]).sum(axis=1)
            mean = self._experts.means(block.x)[every, drawn]
            deviation = np.sqrt(self._experts.variances(block.x)[every, drawn])
            return np.asarray(mean + deviation * rng.normal(size=mean.shape))

        return self._gathered(table, of_block)
