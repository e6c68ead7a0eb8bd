"""The multinomial logit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from mixtura.gates.base import Gate, log_normalized, state
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
from mixtura.table import Table

Float = NDArray[np.float64]

# Pairs of steps and changes of the gradient that tell the curvature; halvings of a step before it is given up; the
# share of the gain that the gradient promises which a step must bring.
_MEMORY = 8
_HALVINGS = 12
_SUFFICIENT = 1e-4


@dataclass(frozen=True)
class _Partition:
    """``A(v) = sum_i w_i log sum_k exp(b_k + v_k . u_i)`` at the gate's parameters.

    value : A, less the constant 1/2 sum_i w_i |u_i|^2.
    gradient : (K, 1 + D), with respect to [b | v].
    """

    value: float
    gradient: Float


@dataclass(frozen=True, eq=False)
class SoftmaxGate(Gate):
    """Multinomial logit: ``pi_k(x) = exp(b_k + v_k . x) / sum_l exp(b_l + v_l . x)``.

    With u the standardised x, ``exp(b_k + v_k . u)`` is, up to a factor that all components share, the density of a
    unit Gaussian at v_k. So the kernels that evaluate Gaussians give log-weights, the log-partition function A and its
    gradient, and no array of N x K is held. An M-step maximises ``T . [b | v] - A(b, v) - lambda/2 |v|^2``, with T the
    moments of the responsibilities and ``lambda = l2 sum_i w_i``: one quasi-Newton step, whose curvature (A's alone, it
    does not depend on T) is learnt from all steps before and starts from Böhning's bound. A step that would lower the
    objective is halved until it does not. One pass over x each.

    Parameters
    ----------
    l2 : float, default=1e-9
        Strength of the penalty on the coefficients of standardised columns, per unit of the rows' weight: where
        experts' regions can be told apart without error, it keeps the coefficients finite.

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

    l2: float = 1e-9
    center: Float = state()
    scale: Float = state()
    level: Float = state()
    slope: Float = state()
    curvature: Float = state(saved=False)
    partition: _Partition = state(saved=False)
    memory: tuple[tuple[Float, Float], ...] = state(saved=False)
    strength: float = state(saved=False)

    @property
    def quadratics(self) -> Quadratics:
        """``b_k + v_k . u - 1/2 |u|^2`` as K quadratics in x with one shared diagonal factor."""
        offsets = self.level + 0.5 * np.sum(self.slope**2, axis=1)
        return Quadratics("diagonal", offsets, self.center + self.scale * self.slope, 1.0 / self.scale[None])

    def start(self, components: int, covariates: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        if not (np.isfinite(self.l2) and self.l2 >= 0.0):
            raise ValueError(f"l2 must be finite and not negative, got {self.l2!r}")
        D = covariates.rows.dims
        moments = covariates.moments("full")
        covariance = moments.covariances()[0]
        variances = np.diagonal(covariance)
        scale = np.sqrt(np.where(variances > 0.0, variances, 1.0))
        # Böhning's bound on the curvature: 1/2 of the moments of [1 | u], for each component. A share of the
        # identity for columns that are copies of each other.
        bound = np.eye(1 + D)
        bound[1:, 1:] = covariance / np.outer(scale, scale)
        bound = 0.5 * covariates.total_weight * (bound + 1e-8 * np.eye(1 + D))
        strength = self.l2 * covariates.total_weight
        bound[1:, 1:] += strength * np.eye(D)
        begun = replace(
            self,
            center=moments.means()[0],
            scale=scale,
            level=np.zeros(components),
            slope=np.zeros((components, D)),
            curvature=linalg.cholesky(bound, lower=True),
            memory=(),
            strength=strength,
        )
        return replace(begun, partition=begun._partition(covariates))

    def resume(self, components: int, covariates: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.resume`."""
        begun = super().resume(components, covariates, rng)
        return replace(begun, partition=begun._partition(covariates))

    def log_weights(self, covariates: Table, cut: slice) -> Float:
        """``b_k + v_k . u - 1/2 |u|^2``, (n, K)."""
        rows = covariates.rows.block(cut.start, cut.stop)
        return covariates.backend.log_joint(rows, self.quadratics, np.zeros(len(self.level)))

    @property
    def bound(self) -> float:
        """``-A - lambda/2 |v|^2``."""
        return -self.partition.value - 0.5 * self.strength * float(np.sum(self.slope**2))

    def _of_u(self, moments: Moments) -> Float:
        """Mass and first moment of u, (K, 1 + D)."""
        first = (moments.first + moments.mass[:, None] * (moments.pivot - self.center)) / self.scale
        return np.column_stack([moments.mass, first])

    def _partition(self, covariates: Table) -> _Partition:
        moments = covariates.backend.expect(
            covariates.rows,
            self.quadratics,
            np.zeros(len(self.level)),
            "mean",
            covariates.pivot,
            covariates.sample_weight,
        )
        return _Partition(moments.log_likelihood, self._of_u(moments))

    def _penalty(self) -> Float:
        """Gradient of ``lambda/2 |v|^2``, (K, 1 + D)."""
        return np.column_stack([np.zeros(len(self.level)), self.strength * self.slope])

    def maximize(self, covariates: Table, moments: Moments, resp: Float | None) -> Self:
        """One quasi-Newton step that does not lower ``T . [b | v] - A - lambda/2 |v|^2``."""
        target = self._of_u(moments)
        gradient = target - self.partition.gradient - self._penalty()
        gradient -= gradient.mean(axis=0)  # what all components share changes nothing
        direction = self._direction(gradient)
        promised = float(np.sum(gradient * direction))
        if not promised > 0.0:
            return self
        step = 1.0
        for _ in range(_HALVINGS):
            moved = replace(
                self, level=self.level + step * direction[:, 0], slope=self.slope + step * direction[:, 1:]
            )
            moved = replace(moved, partition=moved._partition(covariates))
            gain = step * float(np.sum(target * direction)) + moved.bound - self.bound
            if gain >= _SUFFICIENT * step * promised:
                change = (
                    moved.partition.gradient + moved._penalty() - self.partition.gradient - self._penalty()
                )
                return replace(moved, memory=self._remember(step * direction, change - change.mean(axis=0)))
            step *= 0.5
        return self

    def _remember(self, step: Float, change: Float) -> tuple[tuple[Float, Float], ...]:
        bent = float(np.sum(step * change))
        if not bent > 1e-10 * float(np.linalg.norm(step) * np.linalg.norm(change)):
            return self.memory
        return (*self.memory, (step, change))[-_MEMORY:]

    def _direction(self, gradient: Float) -> Float:
        """The inverse of the remembered curvature times the gradient, (K, 1 + D): Nocedal's two loops."""
        q, back = gradient.copy(), []
        for step, change in reversed(self.memory):
            along = float(np.sum(step * q) / np.sum(step * change))
            q -= along * change
            back.append(along)
        q = linalg.cho_solve((self.curvature, True), q.T).T
        for (step, change), along in zip(self.memory, reversed(back), strict=True):
            q += (along - float(np.sum(change * q) / np.sum(step * change))) * step
        return q

    def log_probabilities(self, covariates: Table, cut: slice) -> Float:
        """``log pi(x)``, (n, K)."""
        u = (covariates.rows.X[cut] - self.center) / self.scale
        return log_normalized(self.level + u @ self.slope.T)

    def n_parameters(self, components: int, dims: int) -> int:
        """(K - 1) (D + 1)."""
        return (components - 1) * (dims + 1)
