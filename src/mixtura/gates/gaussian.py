"""A Gaussian mixture on the covariates as a gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.components.covariances import COVARIANCES
from mixtura.components.gaussian import Gaussians
from mixtura.found import Found
from mixtura.gates.base import Gate, log_normalized, state
from mixtura.gates.constant import ConstantGate
from mixtura.joint import Joint
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
from mixtura.table import Table
from mixtura.triangles import diagonal_places

if TYPE_CHECKING:
    from mixtura.interop.graph import Graph

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GaussianGate(Gate):
    """Each expert has a Gaussian in x: ``pi_k(x) = w_k N(x | m_k, S_k) / sum_l w_l N(x | m_l, S_l)``.

    The model is fitted to the joint density of x and y, so that its M-step has a closed form: the objective is
    ``sum_i log sum_k w_k N(x_i | m_k, S_k) p_k(y_i | x_i)``.

    Parameters
    ----------
    reg : float, default=1e-6
        Strength of a prior that keeps covariances positive definite. To the covariance of a component with an average
        number of rows it adds this share of the columns' variances.

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

    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        if not (np.isfinite(self.reg) and self.reg >= 0.0):
            raise ValueError(f"reg must be finite and not negative, got {self.reg!r}")
        whole = table.moments("full").leading(table.covariates)
        variances = np.diagonal(whole.covariances()[0])
        # A constant column has no scale, so 1 is as good as any.
        scale = np.where(variances > 0.0, variances, 1.0)
        scatter = self.reg * table.total_weight / components * scale
        of_components = replace(
            whole,
            pivot=whole.pivot[0] if whole.pivot.ndim == 2 else whole.pivot,
            mass=np.tile(whole.mass / components, components),
            first=np.tile(whole.first / components, (components, 1)),
            second=np.tile(whole.second / components, (components, 1)),
        )
        return replace(self, scatter=scatter)._fitted(of_components)

    @property
    def _joint_of_x(self) -> Joint:
        """``log w_k + log N(x | m_k, S_k)``, for rows x."""
        return Joint(self.gaussians.quadratics, ConstantGate(weights=self.weights).log_shares)

    def log_weights(self, block: Table) -> Float:
        """``log w_k + log N(x | m_k, S_k)``, (n, K)."""
        return block.log_joint(self._joint_of_x)

    def joint(self, quadratics: Quadratics, hard: bool = False) -> Joint:
        """See :meth:`Gate.joint`: Gaussians of x times densities of z are quadratics of z."""
        of_x = self._joint_of_x
        return Joint(quadratics.times(of_x.quadratics), of_x.log_weights, hard)

    @property
    def bound(self) -> float:
        """``-1/2 sum_k tr(scatter S_k^-1)``: the log of the covariances' prior."""
        return -0.5 * float(np.einsum("d,kde,kde->", self.scatter, *(self.precisions_cholesky,) * 2))

    def maximize(self, found: Found) -> Self:
        """Weighted means and covariances, with the prior's scatter on the diagonal."""
        return self._fitted(found.of_covariates)

    def _fitted(self, moments: Moments) -> Self:
        second = moments.second.copy()
        second[:, diagonal_places(len(self.scatter))] += self.scatter
        gaussians = Gaussians.from_moments(COVARIANCES["full"], replace(moments, second=second))
        return replace(
            self,
            weights=ConstantGate.from_moments(moments).weights,
            means=gaussians.means,
            covariances=gaussians.covariances,
            precisions_cholesky=gaussians.precisions_cholesky,
        )

    @property
    def coordinates(self) -> Float:
        """Logarithms of the weights, then the Gaussians' coordinates."""
        return np.concatenate([ConstantGate(weights=self.weights).log_shares, self.gaussians.coordinates])

    @property
    def scales(self) -> Float:
        """See :attr:`Gate.scales`."""
        return np.concatenate([np.ones(len(self.weights)), self.gaussians.scales])

    def at(self, coordinates: Float, table: Table) -> Self:
        """See :meth:`Gate.at`."""
        K = len(self.weights)
        gaussians = self.gaussians.at(coordinates[K:])
        return replace(
            self,
            weights=ConstantGate(weights=self.weights).at(coordinates[:K], table).weights,
            means=gaussians.means,
            covariances=gaussians.covariances,
            precisions_cholesky=gaussians.precisions_cholesky,
        )

    def log_probabilities(self, block: Table) -> Float:
        """``log pi(x)``, (n, K)."""
        return log_normalized(self.log_weights(block))

    def symbolic(self, graph: Graph, rows: str) -> str:
        """See :meth:`Gate.symbolic`."""
        of_x = self._joint_of_x
        joint = graph.step("Add", graph.joint(rows, of_x.quadratics), graph.array(of_x.log_weights))
        return graph.log_normalized(joint)[0]

    def n_parameters(self, components: int, dims: int) -> int:
        """Number of weights, means and covariances."""
        return components - 1 + components * dims + components * dims * (dims + 1) // 2
