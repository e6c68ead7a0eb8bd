"""The covariances of a family as a smooth surface among all covariances: its tangent, and how it bends.

A family that shares volume, shape or orientation leaves some of the parameters of
:class:`mixtura.parametric.ParametricMixture` free, and they decide the others. Near given covariances

    S_k = R_k Q(W_k) diag(exp(s_k)) Q(W_k)' R_k',   Q(W) = (I - W)^-1 (I + W),

with R_k their axes, W skew-symmetric and s_k the logarithms of the variances along the axes: a logarithm of a volume,
and D - 1 contrasts for the shape. The coordinates of the surface are volumes, contrasts and W, each once for all
components or once for each. A function of all parameters with gradient g and Hessian H has in these coordinates the
gradient ``T' g`` and the Hessian ``T' H T + sum_i g_i B_i``, with T the tangent and B_i the second derivatives of the
i-th parameter.

References
----------
Cayley (1846), for Q. Amari, Nagaoka (2000), Methods of information geometry: models that are curved in a larger one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert

from mixtura.parametric import diagonal_places

Float = NDArray[np.float64]

# Step of derivatives along the imaginary axis, which no rounding disturbs; and of central differences of fourth order,
# whose error is near its fourth power.
_IMAGINARY = 1e-40
_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class Surface:
    """The covariances of a family near given ones.

    Parameters
    ----------
    logs : ndarray of shape (K, D)
        Logarithms of the variances along the axes.
    axes : ndarray of shape (K, D, D) or None
        Each component's axes, in columns; None if they are the columns of the table.
    one_volume, one_shape, one_orientation : bool
        What the components share.
    """

    logs: Float
    axes: Float | None
    one_volume: bool
    one_shape: bool
    one_orientation: bool

    @property
    def turning(self) -> int:
        """How many orientations there are: 0, 1 or K."""
        if self.axes is None:
            return 0
        return 1 if self.one_orientation else int(self.logs.shape[0])

    @cached_property
    def stretching(self) -> Float:
        """The linear map from volumes and contrasts to the logarithms of variances, (K D, coordinates)."""
        K, D = self.logs.shape
        contrasts = helmert(D).T
        volumes = np.ones((K * D, 1)) if self.one_volume else np.kron(np.eye(K), np.ones((D, 1)))
        shapes = np.tile(contrasts, (K, 1)) if self.one_shape else np.kron(np.eye(K), contrasts)
        return np.hstack([volumes, shapes])

    @property
    def size(self) -> int:
        """Number of coordinates."""
        D = self.logs.shape[1]
        return int(self.stretching.shape[1] + self.turning * (D * (D - 1) // 2))

    def names(self) -> list[str]:
        """A name for each coordinate."""
        K, D = self.logs.shape

        def of(shared: bool) -> list[list[str]]:
            return [[] if shared else [str(k)] for k in range(1 if shared else K)]

        found = ["".join(["volume", *(f"[{k}]" for k in who)]) for who in of(self.one_volume)]
        for who in of(self.one_shape):
            found += [f"shape[{', '.join([*who, str(d)])}]" for d in range(1, D)]
        for who in of(self.one_orientation) if self.turning else []:
            found += [
                f"orientation[{', '.join([*who, str(i), str(j)])}]" for i in range(1, D) for j in range(i)
            ]
        return found

    def at(self, place: NDArray[Any]) -> NDArray[Any]:
        """The scales (K, S) at a place of the surface (coordinates,), which is 0 for the given covariances."""
        K, D = self.logs.shape
        logs = self.logs + (self.stretching @ place[: self.stretching.shape[1]]).reshape(K, D)
        if self.axes is None:
            return np.asarray(0.5 * logs)
        axes = self.axes @ self._turn(place)[1]
        L = _cholesky((axes * np.exp(logs)[:, None, :]) @ np.swapaxes(axes, 1, 2))
        i, j = np.tril_indices(D)
        packed = L[:, i, j]
        diagonal = diagonal_places(D)
        packed[:, diagonal] = np.log(packed[:, diagonal])
        return packed

    def tangent(self) -> Float:
        """Derivatives of the scales by the coordinates, (K S, coordinates)."""
        return self._tangent

    @cached_property
    def _tangent(self) -> Float:
        if self.axes is None:
            return np.asarray(0.5 * self.stretching)
        columns = (self.at(step).imag.ravel() for step in 1j * _IMAGINARY * np.eye(self.size))
        return np.stack(list(columns), axis=1) / _IMAGINARY

    def bend(self, gradient: Float) -> Float:
        """``sum_i g_i B_i`` for a gradient by the scales (K S,), to eleven digits: (coordinates, coordinates)."""
        if self.axes is None:
            return np.zeros((self.size, self.size))
        rows = [
            8.0 * (self._pulled(gradient, step) - self._pulled(gradient, -step))
            - (self._pulled(gradient, 2.0 * step) - self._pulled(gradient, -2.0 * step))
            for step in _STEP * np.eye(self.size)
        ]
        bend = np.stack(rows) / (12.0 * _STEP)
        return np.asarray(0.5 * (bend + bend.T))

    def among(self, others: int) -> Float:
        """The tangent of all parameters, of which so many ``others``, all free, come before the scales."""
        tangent = self.tangent()
        whole = np.zeros((others + tangent.shape[0], others + self.size))
        whole[:others, :others] = np.eye(others)
        whole[others:, others:] = tangent
        return whole

    def moved(self, theta: Float, step: Float) -> Float:
        """All parameters (P,) after a step of those that are free."""
        others = len(step) - self.size
        return np.concatenate([theta[:others] + step[:others], self.at(step[others:]).ravel()])

    def hessian(self, gradient: Float, hessian: Float) -> Float:
        """The Hessian in the free parameters from gradient (P,) and Hessian (P, P) by all parameters."""
        others = len(gradient) - self.tangent().shape[0]
        along = self.among(others)
        found = along.T @ hessian @ along
        found[others:, others:] += self.bend(gradient[others:])
        return np.asarray(found)

    def _turn(self, place: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """I - W and Q at a place, (1, D, D) or (K, D, D)."""
        D = self.logs.shape[1]
        angles = place[self.stretching.shape[1] :].reshape(self.turning, -1)
        W = np.zeros((self.turning, D, D), dtype=place.dtype)
        i, j = np.tril_indices(D, -1)
        W[:, i, j], W[:, j, i] = angles, -angles
        minus = np.eye(D) - W
        return minus, np.linalg.solve(minus, np.eye(D) + W)

    def _pulled(self, gradient: Float, place: Float) -> Float:
        """The gradient by the coordinates at a place, from one by the scales there, without the tangent.

        It goes back step by step from the packed triangle to the covariance (Murray 2016, Differentiation of the
        Cholesky decomposition), and from there to variances and axes.
        """
        assert self.axes is not None
        K, D = self.logs.shape
        n = self.stretching.shape[1]
        minus, Q = self._turn(place)
        axes, variances = (
            self.axes @ Q,
            np.exp(self.logs + (self.stretching @ place[:n]).reshape(K, D)),
        )
        L = np.linalg.cholesky((axes * variances[:, None, :]) @ np.swapaxes(axes, 1, 2))
        of_L = np.zeros((K, D, D))
        i, j = np.tril_indices(D)
        of_L[:, i, j] = gradient.reshape(K, -1)
        d = np.arange(D)
        of_L[:, d, d] /= L[:, d, d]
        half = np.tril(np.swapaxes(L, 1, 2) @ of_L)
        half[:, d, d] *= 0.5
        inverse = np.linalg.inv(L)
        of_S = np.swapaxes(inverse, 1, 2) @ half @ inverse
        of_S = 0.5 * (of_S + np.swapaxes(of_S, 1, 2))
        of_logs = np.einsum("kia,kij,kja->ka", axes, of_S, axes) * variances
        of_Q = np.swapaxes(self.axes, 1, 2) @ (2.0 * of_S @ axes * variances[:, None, :])
        of_W = np.linalg.solve(np.swapaxes(minus, 1, 2), of_Q @ np.swapaxes(np.eye(D) + Q, 1, 2))
        i, j = np.tril_indices(D, -1)
        turns = of_W[:, i, j] - of_W[:, j, i]
        if self.one_orientation:
            turns = turns.sum(axis=0)
        return np.concatenate([self.stretching.T @ of_logs.ravel(), turns.ravel()])


def _cholesky(S: NDArray[Any]) -> NDArray[Any]:
    """Lower triangles L with ``L L' = S``, (K, D, D), of real or complex numbers, which are not conjugated."""
    L = np.zeros_like(S)
    for j in range(S.shape[1]):
        rest = S[:, j:, j] - np.einsum("kic,kc->ki", L[:, j:, :j], L[:, j, :j])
        L[:, j:, j] = rest / np.sqrt(rest[:, :1])
    return L
