"""Derivatives of a mixture's log-density at rows: the reference, in plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import Rows, normalize
from mixtura.dual import Dual
from mixtura.parametric import ParametricMixture, diagonal_places

Float = NDArray[np.float64]

# How many numbers are held at a time.
_HELD = 1 << 20


@dataclass(frozen=True)
class Adjoints:
    """Answers about rows, in reverse mode; None where they were not asked for.

    Parameters
    ----------
    density : ndarray of shape (N,)
        ``log p(y | x)``.
    resp : ndarray of shape (N, K)
        Responsibilities.
    scores : ndarray of shape (N, P)
        The density's gradient with respect to theta.
    gradient : ndarray of shape (N, D)
        Its gradient with respect to the row [x; y].
    hessian : ndarray of shape (N, D, D)
        Its second derivatives with respect to the row.
    """

    density: Float
    resp: Float | None = None
    scores: Float | None = None
    gradient: Float | None = None
    hessian: Float | None = None


class Derivatives:
    """Derivatives by their formulas (reverse mode) and by dual numbers (forward mode).

    Rows hold [x; y] in one array or in two.

    Parameters
    ----------
    n_threads : int
        Most threads, 0 for the limit in force.
    """

    def __init__(self, n_threads: int = 0) -> None:
        self.n_threads = n_threads

    # ------------------------------------------------------------------ reverse mode

    def adjoints(
        self,
        mixture: ParametricMixture,
        rows: Rows,
        *,
        resp: bool = False,
        scores: bool = False,
        gradient: bool = False,
        hessian: bool = False,
    ) -> Adjoints:
        """The log-densities of rows, and those of the derivatives that are asked for."""
        K, P, D = mixture.components, mixture.size, mixture.dims
        N = len(rows)
        out = Adjoints(
            np.empty(N),
            np.empty((N, K)) if resp else None,
            np.empty((N, P)) if scores else None,
            np.empty((N, D)) if gradient else None,
            np.empty((N, D, D)) if hessian else None,
        )
        for cut, z in _blocks(rows, max(P if scores else 0, K * D, D * D if hessian else 0)):
            _adjoints(mixture, z, cut, out)
        return out

    # ------------------------------------------------------------------ forward mode

    def tangent(self, mixture: ParametricMixture, rows: Rows, direction: Float) -> tuple[Float, Float]:
        """Log-densities (N,), and their derivatives along a direction of theta (P,), (N,)."""
        density, along = np.empty(len(rows)), np.empty(len(rows))
        for cut, z in _blocks(rows, mixture.components * mixture.dims):
            found = _density(mixture, Dual(mixture.theta, direction), list(z.T))
            density[cut], along[cut] = found.value, found.tangent
        return density, along

    def forward_rows(self, mixture: ParametricMixture, rows: Rows) -> tuple[Float, Float, Float]:
        """Log-densities (N,), their gradients (N, D) and Hessians (N, D, D) with respect to the rows."""
        N, D = len(rows), mixture.dims
        density, gradient, hessian = np.empty(N), np.empty((N, D)), np.empty((N, D, D))
        for cut, z in _blocks(rows, mixture.components * D):
            for i in range(D):
                for j in range(i + 1):
                    seeds = np.zeros((2, D))
                    seeds[0, i] = seeds[1, j] = 1.0
                    columns = [
                        Dual(
                            Dual(column, np.full_like(column, a)), Dual(np.full_like(column, b), 0.0 * column)
                        )
                        for column, a, b in zip(z.T, *seeds, strict=True)
                    ]
                    found = _density(mixture, mixture.theta, columns)
                    density[cut], gradient[cut, i] = found.value.value, found.value.tangent
                    hessian[cut, i, j] = hessian[cut, j, i] = found.tangent.tangent
        return density, gradient, hessian

    def forward_sums(
        self, mixture: ParametricMixture, rows: Rows, sample_weight: Float | None
    ) -> tuple[float, Float, Float]:
        """Weighted sums over the rows: of the log-densities, and their gradient (P,) and Hessian (P, P) by theta."""
        P = mixture.size
        value, gradient, hessian = 0.0, np.zeros(P), np.zeros((P, P))
        for cut, z in _blocks(rows, mixture.components * mixture.dims):
            weight = np.ones(len(z)) if sample_weight is None else sample_weight[cut]
            z, weight = z[weight != 0.0], weight[weight != 0.0]
            for i in range(P):
                for j in range(i + 1):
                    first, second = np.zeros(P), np.zeros(P)
                    first[i] = second[j] = 1.0
                    theta = Dual(Dual(mixture.theta, first), Dual(second, np.zeros(P)))
                    found = _density(mixture, theta, list(z.T))
                    hessian[i, j] += weight @ found.tangent.tangent
                gradient[i] += weight @ found.value.tangent
            value += float(weight @ found.value.value)
        return value, gradient, np.tril(hessian) + np.tril(hessian, -1).T


def _blocks(rows: Rows, held: int) -> Iterator[tuple[slice, Float]]:
    """The rows in blocks, in float64, and where they stand."""
    size = max(_HELD // max(held, 1), 64)
    for start in range(0, len(rows), size):
        cut = slice(start, start + size)
        parts = [np.asarray(part[cut], dtype=np.float64) for part in (rows.X, rows.y) if part is not None]
        yield cut, parts[0] if len(parts) == 1 else np.hstack(parts)


def _density(mixture: ParametricMixture, theta: Any, columns: list[Any]) -> Any:
    """``log p(y | x)`` by its definition, whatever numbers theta (P,) and the columns of [x; y] are."""
    m, K, M, Q = mixture, mixture.components, mixture.targets, mixture.covariates
    x, y = columns[:Q], columns[Q:]
    gate = []
    for k in range(K - 1):
        odds = theta[m.of_gate(k)]
        gate.append(sum((odds[1 + q] * x[q] for q in range(Q)), odds[0]) if m.softmax else odds[0])
    gate.append(0.0 * (gate[0] if gate else theta[0]))
    norm = _log_sum_exp(gate)
    joint = []
    for k in range(K):
        C, scale = theta[m.of_coefficients(k)], theta[m.of_scale(k)]
        value, z = gate[k] - norm - 0.5 * M * math.log(2.0 * math.pi), list[Any]()
        for i in range(M):
            first = i * m.per_target
            e = y[i] - C[first] if m.intercept else y[i]
            for q in range(Q):
                e = e - C[first + m.per_target - Q + q] * x[q]
            place = {"scalar": 0, "diagonal": i, "triangle": i * (i + 3) // 2}[m.form]
            if m.form == "triangle":
                for j in range(i):
                    e = e - scale[place - i + j] * z[j]
            z.append(e * np.exp(-scale[place]))
            value = value - scale[place] - 0.5 * z[i] * z[i]
        joint.append(value)
    return _log_sum_exp(joint)


def _log_sum_exp(terms: list[Any]) -> Any:
    top = terms[0]
    while isinstance(top, Dual):
        top = top.value
    for term in terms[1:]:
        while isinstance(term, Dual):
            term = term.value
        top = np.maximum(top, term)
    total = sum((np.exp(term - top) for term in terms[1:]), np.exp(terms[0] - top))
    return np.log(total) + top


def _adjoints(mixture: ParametricMixture, rows: Float, cut: slice, out: Adjoints) -> None:
    """The answers about a block of rows (n, D).

    With L' u = z, ``log p_k`` has the derivatives ``u [1; x]'`` by C_k; ``u_i z_j`` by L_ij and ``u_i z_i L_ii - 1`` by
    log L_ii; -u by y and ``C' u`` by x. The log-density's are their means under the responsibilities.
    """
    m, K, M, Q = mixture, mixture.components, mixture.targets, mixture.covariates
    x, y, n = rows[:, :Q], rows[:, Q:], len(rows)
    phi = np.hstack([np.ones((n, 1)), x])
    design = phi if m.intercept else x
    inverse = np.broadcast_to(m.inverse_choleskys, (K, M, M))
    e = y[:, None, :] - np.einsum("kmb,nb->nkm", m.coefficients, design)
    z = np.einsum("kij,nkj->nki", inverse, e)
    log_norm = -np.log(m.deviations).sum(axis=1) - 0.5 * M * math.log(2.0 * math.pi)
    log_gate = m.log_gate(x)
    resp, out.density[cut] = normalize(log_gate + log_norm - 0.5 * np.sum(z * z, axis=2))
    if out.resp is not None:
        out.resp[cut] = resp
    u = np.einsum("kji,nkj->nki", inverse, z)
    if out.scores is not None:
        out.scores[cut] = _scores(m, resp - np.exp(log_gate), resp, phi, design, z, u)
    if out.gradient is None and out.hessian is None:
        return
    slopes = m.coefficients[:, :, m.per_target - Q :]
    v = np.zeros((K, m.dims))
    if m.softmax:
        v[:-1, :Q] = m.log_odds[:, 1:]
    g = np.concatenate([np.einsum("kmq,nkm->nkq", slopes, u), -u], axis=2) + v
    pi = np.exp(log_gate)
    mean, of_gate = np.einsum("nk,nkd->nd", resp, g), pi @ v
    if out.gradient is not None:
        out.gradient[cut] = mean - of_gate
    if out.hessian is not None:
        E = np.concatenate([-slopes, np.broadcast_to(np.eye(M), (K, M, M))], axis=2)
        whitened = inverse @ E
        curvature = np.einsum("kid,kie->kde", whitened, whitened)
        # Centred: far from all components the products of g have no digits for their differences.
        apart = g - mean[:, None, :]
        hessian = np.einsum("nk,nkd,nke->nde", resp, apart, apart)
        hessian -= np.einsum("nk,kde->nde", resp, curvature)
        hessian -= np.einsum("nk,kd,ke->nde", pi, v, v) - of_gate[:, :, None] * of_gate[:, None, :]
        out.hessian[cut] = hessian


def _scores(
    m: ParametricMixture, away: Float, resp: Float, phi: Float, design: Float, z: Float, u: Float
) -> Float:
    """The gradient of the log-densities with respect to theta, (n, P)."""
    n, _, M = z.shape
    gate = away[:, :-1, None] * phi[:, None, : m.gate_row]
    coefficients = np.einsum("nk,nkm,nb->nkmb", resp, u, design)
    if m.form == "triangle":
        i, j = np.tril_indices(M)
        scales = u[:, :, i] * z[:, :, j]
        diagonal = diagonal_places(M)
        scales[:, :, diagonal] = scales[:, :, diagonal] * m.deviations - 1.0
    elif m.form == "diagonal":
        scales = z * z - 1.0
    else:
        scales = np.sum(z * z, axis=2, keepdims=True) - M
    scales = scales * resp[:, :, None]
    if m.shared:
        scales = scales.sum(axis=1)
    return np.hstack([part.reshape(n, -1) for part in (gate, coefficients, scales)])
