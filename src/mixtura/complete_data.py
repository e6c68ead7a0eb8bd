"""Gradient and Hessian of a log-likelihood from moments: the part that does not grow with the number of rows.

Fisher's identity: the gradient of the log-likelihood is the expected gradient of the complete-data log-likelihood,
which for Gaussian components is a function of their moments. Louis' identity: its Hessian is the expected Hessian
of the complete-data log-likelihood, again a function of the moments, plus the covariance of the complete-data scores
over the components, summed over the rows.

Shapes: K components, M targets, B coefficients of a target, S numbers of a scale, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtura.moments import Moments
from mixtura.parametric import ParametricMixture, diagonal_places
from mixtura.table import Table
from mixtura.triangles import unpack_symmetric

Float = NDArray[np.float64]

# Relative error of a variance that rounding may cause in the moments: near the precision of the numbers themselves.
_PERMITTED = 1e-12


@dataclass(frozen=True)
class CompleteData:
    """Moments of the residuals ``e = y - C_k phi`` with phi = [1; x], weighted with the responsibilities.

    Parameters
    ----------
    log_likelihood : float
    mass : ndarray of shape (K,)
        Sum of the responsibilities.
    gram : ndarray of shape (K, B, B)
        Sum of ``phi phi'``.
    cross : ndarray of shape (K, M, B)
        Sum of ``e phi'``.
    scatter : ndarray
        Sum of ``e e'``: (n, M, M), its diagonals (n, M) or its traces (n,), as the form of the scales needs them,
        where n is K, or 1 if the scale is shared.
    gate : ndarray of shape (K - 1, 1) or (K - 1, 1 + Q)
        Sum of ``(r_k - pi_k)``, times [1; x] for a softmax gate.
    """

    log_likelihood: float
    mass: Float
    gram: Float
    cross: Float
    scatter: Float
    gate: Float

    @classmethod
    def of(cls, mixture: ParametricMixture, table: Table) -> CompleteData:
        """One pass over the rows, and another one for a softmax gate."""
        m, Q = mixture, mixture.covariates
        moments = table.expect(m.joint(table.pivot), m.kind, permitted=_PERMITTED)
        if not m.softmax:
            return cls.from_moments(m, moments)
        of_gate = table.expect(m.gate_joint(table.pivot), "mean")
        gate = (_sums(moments, Q) - _sums(of_gate, Q))[:-1]
        log_likelihood = moments.log_likelihood - of_gate.log_likelihood
        return cls(log_likelihood, moments.mass, *_of_components(m, moments), gate)

    @classmethod
    def from_moments(cls, mixture: ParametricMixture, moments: Moments) -> CompleteData:
        """From the moments of a pass under a mixture, of its kind, whose gate is the same for all rows."""
        mass = moments.mass
        gate = (mass - np.exp(mixture.log_weights) * mass.sum())[:-1, None]
        return cls(moments.log_likelihood, mass, *_of_components(mixture, moments), gate)

    def gradient(self, mixture: ParametricMixture) -> Float:
        """The gradient of the log-likelihood with respect to theta, (P,)."""
        m, inverse = mixture, mixture.inverse_choleskys
        precision = np.swapaxes(inverse, 1, 2) @ inverse
        coefficients = precision @ self.cross
        mass = np.array([self.mass.sum()]) if m.shared else self.mass
        if m.form == "triangle":
            i, j = np.tril_indices(m.targets)
            whitened = inverse @ self.scatter @ np.swapaxes(inverse, 1, 2)
            scales = (np.swapaxes(inverse, 1, 2) @ whitened)[:, i, j]
            diagonal = diagonal_places(m.targets)
            scales[:, diagonal] = scales[:, diagonal] * m.deviations - mass[:, None]
        elif m.form == "diagonal":
            scales = self.scatter / m.deviations**2 - mass[:, None]
        else:
            scales = (self.scatter / m.deviations[:, 0] ** 2 - m.targets * mass)[:, None]
        return np.concatenate([self.gate.ravel(), coefficients.ravel(), scales.ravel()])

    def hessian(self, mixture: ParametricMixture) -> Float:
        """The expected Hessian of the components' complete-data log-likelihood, without the gate, (P, P).

        With A = (L L')^-1, T = L^-1, W the sum of z z', U = T' W, and the sums Z and V of z phi' and u phi'::

            by C_mb, C_nc               - A_mn gram_bc
            by C_mb, L_ij               - (T_jm V_ib + A_mi Z_jb)
            by L_ij, L_ab               - (U_aj T_bi + U_ib T_ja + A_ai W_bj), + mass / L_ii^2 where both are L_ii

        The mixture's scales are not shared.
        """
        m = mixture
        H = np.zeros((m.size, m.size))
        M, B = m.targets, m.per_target
        for k in range(m.components):
            at, scale, T = m.of_coefficients(k), m.of_scale(k), m.inverse_choleskys[k]
            A = T.T @ T
            H[at, at] = -np.einsum("mn,bc->mbnc", A, self.gram[k]).reshape(M * B, M * B)
            mixed, both = self._of_scale(m, k, T, A)
            H[at, scale] = mixed.reshape(M * B, -1)
            H[scale, at] = H[at, scale].T
            H[scale, scale] = both
        return H

    def _of_scale(self, m: ParametricMixture, k: int, T: Float, A: Float) -> tuple[Float, Float]:
        """The second derivatives by coefficients and scale (M, B, S), and by the scale twice (S, S)."""
        M, cross = m.targets, self.cross[k]
        if m.form == "scalar":
            mixed = -2.0 * A[0, 0] * cross[:, :, None]
            return mixed, np.array([[-2.0 * A[0, 0] * self.scatter[k]]])
        if m.form == "diagonal":
            variances = np.diagonal(A)
            mixed = -2.0 * (variances[:, None] * cross)[:, :, None] * np.eye(M)[:, None, :]
            return mixed, np.diag(-2.0 * variances * self.scatter[k])
        W = T @ self.scatter[k] @ T.T
        U, Z, V = T.T @ W, T @ cross, A @ cross
        i, j = np.tril_indices(M)
        mixed = -(T[j].T[:, None, :] * V[i].T[None] + A[:, i][:, None, :] * Z[j].T[None])
        a, b = i, j
        both = -(
            U[np.ix_(a, j)].T * T[np.ix_(b, i)].T
            + U[np.ix_(i, b)] * T[np.ix_(j, a)]
            + A[np.ix_(i, a)] * W[np.ix_(j, b)]
        )
        # The diagonal of L is given by its logarithms: the chain rule, in which the masses cancel.
        lengths = np.ones(len(i))
        diagonal = diagonal_places(M)
        lengths[diagonal] = m.deviations[k]
        both *= lengths[:, None] * lengths
        both[diagonal, diagonal] += lengths[diagonal] * np.diagonal(U)
        return mixed * lengths, both


def _sums(moments: Moments, covariates: int) -> Float:
    """Sums of [1; x], (K, 1 + Q)."""
    x = moments.leading(covariates) if moments.pivot.shape[-1] != covariates else moments
    return np.column_stack([x.mass, x.first + x.mass[:, None] * x.pivot])


def _of_components(m: ParametricMixture, moments: Moments) -> tuple[Float, Float, Float]:
    """Gram, cross and scatter."""
    return _of_residuals(m, moments) if m.covariates else _of_targets(m, moments)


def _of_targets(m: ParametricMixture, moments: Moments) -> tuple[Float, Float, Float]:
    """Gram, cross and scatter where the only coefficients are the means."""
    about = moments.recenter(m.coefficients[:, :, 0])
    scatter = about.second
    if m.form == "triangle":
        scatter = unpack_symmetric(np.atleast_2d(scatter), m.targets)
    elif m.shared:
        scatter = scatter.sum(axis=0, keepdims=True)
    return moments.mass[:, None, None], about.first[:, :, None], scatter


def _of_residuals(m: ParametricMixture, moments: Moments) -> tuple[Float, Float, Float]:
    """Gram, cross and scatter from moments of kind 'full' of [x; y]."""
    Q, first = m.covariates, int(m.intercept)
    about = moments.mapped(*m.maps_to_residuals()).recenter(np.zeros(m.dims))
    second = unpack_symmetric(about.second, m.dims)
    gram = np.zeros((m.components, m.per_target, m.per_target))
    gram[:, first:, first:] = second[:, :Q, :Q]
    cross = np.zeros((m.components, m.targets, m.per_target))
    cross[:, :, first:] = second[:, Q:, :Q]
    if m.intercept:
        gram[:, 0, 0] = about.mass
        gram[:, 0, 1:] = gram[:, 1:, 0] = about.first[:, :Q]
        cross[:, :, 0] = about.first[:, Q:]
    scatter = second[:, Q:, Q:]
    if m.shared:
        scatter = scatter.sum(axis=0, keepdims=True)
    if m.form == "diagonal":
        scatter = np.diagonal(scatter, axis1=1, axis2=2)
    elif m.form == "scalar":
        scatter = np.trace(scatter, axis1=1, axis2=2)
    return gram, cross, np.asarray(scatter)
