"""A Gaussian mixture on the covariates as a gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.components.gaussian import COVARIANCES, Gaussians
from mixtura.gates.base import Gate, log_normalized, state
from mixtura.gates.constant import ConstantGate
from mixtura.moments import Moments
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GaussianGate(Gate):
    """Experts live where their Gaussian lies: ``pi_k(x) = w_k N(x | m_k, S_k) / sum_l w_l N(x | m_l, S_l)``.

    The model is fitted to the joint density of x and y, so that its M-step is closed: the objective is
    ``sum_i log sum_k w_k N(x_i | m_k, S_k) p_k(y_i | x_i)``.

    Parameters
    ----------
    reg : float, default=1e-6
        Strength of a prior that keeps covariances positive definite, as a share of the columns' variances:
        the covariance of a component with the mean share of the rows grows by this much of them.

    Attributes
    ----------
    weights : ndarray of shape (K,)
    means : ndarray of shape (K, D)
    covariances : ndarray of shape (K, D, D)

    References
    ----------
    Xu, Jordan, Hinton (1994), An alternative model for mixtures of experts.

    Examples
    --------
    >>> from mixtura import GaussianGate, MixtureOfExperts
    >>> MixtureOfExperts(gate=GaussianGate(reg=1e-06)).gate
    GaussianGate(reg=1e-06)
    """

    name: ClassVar[str] = "gaussian"
    looks_at_rows: ClassVar[bool] = True

    reg: float = 1e-6
    weights: Float = state()
    means: Float = state()
    covariances: Float = state()
    precisions_cholesky: Float = state()
    scatter: Float = state()

    @property
    def gaussians(self) -> Gaussians:
        """The K Gaussians."""
        return Gaussians(COVARIANCES["full"], self.means, self.covariances, self.precisions_cholesky)

    def start(self, components: int, covariates: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        if not (np.isfinite(self.reg) and self.reg >= 0.0):
            raise ValueError(f"reg must be finite and not negative, got {self.reg!r}")
        D = covariates.rows.dims
        whole = covariates.moments("full")
        variances = np.diagonal(whole.covariances()[0])
        # A constant column has no scale of its own: any will do.
        scale = np.where(variances > 0.0, variances, 1.0)
        scatter = self.reg * covariates.total_weight / components * scale
        begun = replace(self, scatter=scatter)
        each = replace(
            whole,
            mass=np.tile(whole.mass / components, components),
            first=np.tile(whole.first / components, (components, 1)),
            second=np.tile(whole.second / components, (components, 1)),
        )
        assert each.first.shape == (components, D)
        return begun.maximize(covariates, each, None)

    def log_weights(self, covariates: Table, cut: slice) -> Float:
        """``log w_k + log N(x | m_k, S_k)``, (n, K)."""
        gaussians, gate = self.gaussians, ConstantGate(weights=self.weights)
        rows = covariates.rows.block(cut.start, cut.stop)
        return covariates.backend.log_joint(rows, gaussians.quadratics, gate.log_shares)

    @property
    def bound(self) -> float:
        """``-1/2 sum_k tr(scatter S_k^-1)``: the log of the covariances' prior."""
        return -0.5 * float(np.einsum("d,kde,kde->", self.scatter, *(self.precisions_cholesky,) * 2))

    def maximize(self, covariates: Table, moments: Moments, resp: Float | None) -> Self:
        """Weighted means and covariances, with the prior's scatter on the diagonal."""
        D = len(self.scatter)
        diagonal = np.arange(D)
        second = moments.second.copy()
        second[:, diagonal * (diagonal + 3) // 2] += self.scatter
        found = Gaussians.from_moments(COVARIANCES["full"], replace(moments, second=second), 0.0)
        return replace(
            self,
            weights=ConstantGate.from_moments(moments).weights,
            means=found.means,
            covariances=found.covariances,
            precisions_cholesky=found.precisions_cholesky,
        )

    def log_probabilities(self, covariates: Table, cut: slice) -> Float:
        """``log pi(x)``, (n, K)."""
        return log_normalized(self.log_weights(covariates, cut))

    def n_parameters(self, components: int, dims: int) -> int:
        """Weights, means and covariances."""
        return components - 1 + components * dims + components * dims * (dims + 1) // 2
