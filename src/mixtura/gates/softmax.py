"""Multinomial logit as a gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.found import Found
from mixtura.gates.base import Gate, log_normalized, state
from mixtura.gates.quasi_newton import Curvature
from mixtura.joint import Joint
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
from mixtura.table import Table

if TYPE_CHECKING:
    from mixtura.interop.graph import Graph

Float = NDArray[np.float64]

_ROUNDING = 1e-15  # gain, as a share of A, that is lost in A's rounding error
_HALVINGS = 12  # how often a step is halved before it is given up
_DEFINITE = 1e-8  # multiple of the identity that keeps the curvature definite
_SUFFICIENT = 1e-4  # share of the gain that the gradient predicts which a step must achieve


@dataclass(frozen=True)
class _Partition:
    """``A(v) = sum_i w_i log sum_k exp(b_k + v_k'u_i)`` at the gate's parameters.

    value : A.
    gradient : (K, 1 + D), with respect to [b | v].
    """

    value: float
    gradient: Float


@dataclass(frozen=True, eq=False)
class SoftmaxGate(Gate):
    """Multinomial logit: ``pi_k(x) = exp(b_k + v_k' x) / sum_l exp(b_l + v_l' x)``.

    With u the standardised x, ``b_k + v_k'u`` is a quadratic with a linear term alone. It is therefore added to the
    experts' densities, and the kernels that evaluate these also give the log-partition function A and its gradient, so
    that no array of N x K is held. An M-step raises ``<T, [b | v]> - A(b, v) - lambda/2 |v|^2``, with T the moments of
    the responsibilities and ``lambda = l2 sum_i w_i``, by one quasi-Newton step. The curvature is A's alone and does
    not depend on T; it is approximated from Böhning's bound and the last steps. A step that would lower the objective
    is halved until it does not. Each trial of a step costs one pass over x.

    Parameters
    ----------
    l2 : float, default=1e-9
        Strength of the penalty on the coefficients of standardised columns, per unit of the rows' weight. It keeps the
        coefficients finite where the experts' regions can be separated without error.

    Attributes
    ----------
    center, scale : ndarray of shape (D,)
        Mean and standard deviation of the columns: ``u = (x - center) / scale``.
    level : ndarray of shape (K,)
        b, of standardised columns; sums to 0.
    slope : ndarray of shape (K, D)
        v, of standardised columns; sums to 0 over the components.

    References
    ----------
    Böhning (1992), Multinomial logistic regression algorithm. Jacobs, Jordan, Nowlan, Hinton (1991), Adaptive
    mixtures of local experts. Nocedal (1980), Updating quasi-Newton matrices with limited storage.

    Examples
    --------
    >>> from mixtura import SoftmaxGate, MixtureOfExperts
    >>> MixtureOfExperts(gate=SoftmaxGate(l2=0.001)).gate
    SoftmaxGate(l2=0.001)
    """

    name: ClassVar[str] = "softmax"
    looks_at_rows: ClassVar[bool] = True
    moments_suffice: ClassVar[bool] = False

    l2: float = 1e-9
    center: Float = state()
    scale: Float = state()
    level: Float = state()
    slope: Float = state()
    curvature: Curvature = state(saved=False)
    partition: _Partition = state(saved=False)
    strength: float = state(saved=False)

    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        if not (np.isfinite(self.l2) and self.l2 >= 0.0):
            raise ValueError(f"l2 must be finite and not negative, got {self.l2!r}")
        D = table.covariates
        moments = table.moments("full").leading(D)
        variances = np.diagonal(moments.covariances()[0])
        scale = np.sqrt(np.where(variances > 0.0, variances, 1.0))
        started = replace(
            self,
            center=moments.means()[0],
            scale=scale,
            level=np.zeros(components),
            slope=np.zeros((components, D)),
        )
        return started._for(table, moments, _DEFINITE)

    def resume(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.resume`."""
        moments = table.moments("full").leading(table.covariates)
        # A few rows do not tell the spread of all: as many more are taken to be like those of the standardised columns.
        return self._for(table, moments, (1 + table.covariates) / len(table))

    def _for(self, table: Table, moments: Moments, like_all: float) -> Self:
        """The gate with what its steps need of a table, of which the moments of x are given.

        Böhning's bound on the curvature is 1/2 of the moments of [1 | u], for each component. The multiple
        ``like_all`` of the identity keeps it definite if columns are copies of each other, or rows few.
        """
        D, strength = table.covariates, self.l2 * table.total_weight
        mean = (moments.means()[0] - self.center) / self.scale
        bound = np.eye(1 + D)
        bound[0, 1:] = bound[1:, 0] = mean
        bound[1:, 1:] = moments.covariances()[0] / np.outer(self.scale, self.scale) + np.outer(mean, mean)
        bound = 0.5 * table.total_weight * (bound + max(like_all, _DEFINITE) * np.eye(1 + D))
        bound[1:, 1:] += strength * np.eye(D)
        moved = replace(self, curvature=Curvature.bounded_by(bound, len(self.level)), strength=strength)
        return replace(moved, partition=moved._partition(table))

    def log_weights(self, block: Table) -> Float:
        """``b_k + v_k'u``, (n, K)."""
        return np.asarray(self.level + ((block.x - self.center) / self.scale) @ self.slope.T)

    def joint(self, quadratics: Quadratics, hard: bool = False) -> Joint:
        """See :meth:`Gate.joint`: the log-weights are a linear term beside the square."""
        tilted = quadratics.tilted(self.level, self.slope / self.scale, self.center)
        return Joint(tilted, np.zeros(len(self.level)), hard)

    @property
    def bound(self) -> float:
        """``-A - lambda/2 |v|^2``."""
        return -self.partition.value - 0.5 * self.strength * float(np.sum(self.slope**2))

    def _of_u(self, moments: Moments) -> Float:
        """Mass and first moment of u, (K, 1 + D)."""
        first = (moments.first + moments.mass[:, None] * (moments.pivot - self.center)) / self.scale
        return np.column_stack([moments.mass, first])

    def _partition(self, table: Table) -> _Partition:
        rows = table.unrestricted.without_targets  # whatever is known of the rows
        moments = rows.expect(self.joint(Quadratics.flat(len(self.level), rows.pivot)), "mean")
        return _Partition(moments.log_likelihood, self._of_u(moments.leading(table.covariates)))

    def _penalty(self) -> Float:
        """Gradient of ``lambda/2 |v|^2``, (K, 1 + D)."""
        return np.column_stack([np.zeros(len(self.level)), self.strength * self.slope])

    def maximize(self, found: Found) -> Self:
        """One quasi-Newton step that does not lower ``<T, [b | v]> - A - lambda/2 |v|^2``."""
        target = self._of_u(found.of_covariates)
        gradient = target - self.partition.gradient - self._penalty()
        gradient -= gradient.mean(axis=0)  # a change that all components share has no effect
        direction = self.curvature.solve(gradient)
        predicted = float(np.sum(gradient * direction))
        if not predicted > _ROUNDING * abs(self.partition.value):
            return self  # the gain would be lost in the rounding of the sums over the rows
        step = 1.0
        for _ in range(_HALVINGS):
            moved = replace(
                self, level=self.level + step * direction[:, 0], slope=self.slope + step * direction[:, 1:]
            )
            moved = replace(moved, partition=moved._partition(found.table))
            gain = step * float(np.sum(target * direction)) + moved.bound - self.bound
            if gain >= _SUFFICIENT * step * predicted:
                fallen = (
                    moved.partition.gradient + moved._penalty() - self.partition.gradient - self._penalty()
                )
                curvature = self.curvature.after(step * direction, fallen - fallen.mean(axis=0))
                return replace(moved, curvature=curvature)
            step *= 0.5
        return self

    @property
    def coordinates(self) -> Float:
        """``[b | v]``."""
        return np.column_stack([self.level, self.slope]).ravel()

    def at(self, coordinates: Float, table: Table) -> Self:
        """See :meth:`Gate.at`; the partition function there takes a pass over x."""
        both = coordinates.reshape(len(self.level), -1)
        moved = replace(self, level=both[:, 0].copy(), slope=both[:, 1:].copy())
        return replace(moved, partition=moved._partition(table))

    @property
    def log_odds(self) -> Float:
        """See :attr:`Gate.log_odds`; for columns as they are, not standardised."""
        slopes = self.slope / self.scale
        both = np.column_stack([self.level - slopes @ self.center, slopes])
        return np.asarray(both[:-1] - both[-1])

    @property
    def penalty(self) -> tuple[float, Float, Float]:
        """See :attr:`Gate.penalty`: ``-lambda/2 |v|^2``, with slopes that sum to 0 over the components."""
        K = len(self.slope)
        centering = np.eye(K - 1) - 1.0 / K
        weights = np.append(0.0, self.strength * self.scale**2)
        hessian = -np.kron(centering, np.diag(weights))
        odds = self.log_odds.ravel()
        gradient = hessian @ odds
        return 0.5 * float(odds @ gradient), np.asarray(gradient), np.asarray(hessian, dtype=np.float64)

    def with_log_odds(self, log_odds: Float) -> Self:
        """See :meth:`Gate.with_log_odds`."""
        both = np.vstack([log_odds, np.zeros((1, log_odds.shape[1]))])
        level, slope = both[:, 0] + both[:, 1:] @ self.center, both[:, 1:] * self.scale
        return replace(self, level=level - level.mean(), slope=slope - slope.mean(axis=0))

    def log_probabilities(self, block: Table) -> Float:
        """``log pi(x)``, (n, K)."""
        return log_normalized(self.log_weights(block))

    def symbolic(self, graph: Graph, rows: str) -> str:
        """See :meth:`Gate.symbolic`."""
        moved = graph.step("Sub", rows, graph.array(self.center))
        along = graph.step("MatMul", moved, graph.array((self.slope / self.scale).T))
        return graph.log_normalized(graph.step("Add", along, graph.array(self.level)))[0]

    def n_parameters(self, components: int, dims: int) -> int:
        """(K - 1) (D + 1)."""
        return (components - 1) * (dims + 1)
