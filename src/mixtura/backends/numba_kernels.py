"""Loops compiled by Numba: the same blocks and the same arithmetic as the C++ kernels, on chunks of rows.

Kernels are serial and release the interpreter lock; the caller provides the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

BLOCK = 256  # rows that are transposed to feature-major order together

# From this many columns on, BLAS matrix products are faster than compiled loops, although they compute both halves of
# symmetric matrices.
_PRODUCT_DIMS = 48

# Sums may be reordered, which lets the compiler vectorise them, but NaN and infinity are respected.
_jit: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.njit(
    nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy"
)

# For code that relies on how sums round: they stay in the order in which they are written.
_jit_in_order: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.njit(
    nogil=True, cache=True, fastmath={"contract"}, error_model="numpy"
)


@_jit
def _pack_rows(X: Any, pivot: Any, start: int, n: int, x: Any) -> None:
    """x[d, i] = X[start + i, d] - pivot[d]."""
    for d in range(X.shape[1]):
        for i in range(n):
            x[d, i] = X[start + i, d] - pivot[d]


@_jit
def _skip_weightless(weights: Any, start: int, n: int, x: Any) -> None:
    """Replace rows of weight 0 by the pivot, since they may hold NaN or infinity."""
    for i in range(n):
        if weights[start + i] == 0.0:
            for d in range(x.shape[0]):
                x[d, i] = 0.0


@_jit
def _evaluate_triangle(factor: Any, bias: Any, x: Any, n: int, y: Any, q: Any) -> None:
    """q[i] += |F x_i - b|^2 for a lower triangle: D (D + 1) / 2 multiply-adds per row."""
    D = len(bias)
    for r in range(D):
        for i in range(n):
            y[i] = -bias[r]
        d = 0
        while d + 4 <= r + 1:
            f0, f1, f2, f3 = factor[r, d], factor[r, d + 1], factor[r, d + 2], factor[r, d + 3]
            x0, x1, x2, x3 = x[d], x[d + 1], x[d + 2], x[d + 3]
            for i in range(n):
                y[i] += f0 * x0[i] + f1 * x1[i] + f2 * x2[i] + f3 * x3[i]
            d += 4
        while d < r + 1:
            f0 = factor[r, d]
            x0 = x[d]
            for i in range(n):
                y[i] += f0 * x0[i]
            d += 1
        for i in range(n):
            q[i] += y[i] * y[i]


@_jit
def _evaluate_pair(offset: float, factor: Any, bias: Any, x: Any, n: int, q: Any) -> None:
    """q[i] = c - 1/2 |F x_i - b|^2 for two columns, in one loop."""
    f0, f1, f2, b0, b1 = factor[0, 0], factor[1, 0], factor[1, 1], bias[0], bias[1]
    x0, x1 = x[0], x[1]
    for i in range(n):
        y0 = f0 * x0[i] - b0
        y1 = f1 * x0[i] + f2 * x1[i] - b1
        q[i] = offset - 0.5 * (y0 * y0 + y1 * y1)


@_jit
def _evaluate_rectangle(factor: Any, bias: Any, x: Any, n: int, y: Any, q: Any) -> None:
    """q[i] += |F x_i - b|^2: R D multiply-adds per row."""
    for r in range(len(bias)):
        for i in range(n):
            y[i] = -bias[r]
        for d in range(x.shape[0]):
            f0 = factor[r, d]
            x0 = x[d]
            for i in range(n):
                y[i] += f0 * x0[i]
        for i in range(n):
            q[i] += y[i] * y[i]


@_jit
def _evaluate_product(factor: Any, bias: Any, x: Any, n: int, products: Any, q: Any) -> None:
    """q[i] += |F x_i - b|^2 by one matrix product."""
    np.dot(factor, x, products)
    for r in range(len(bias)):
        row, b = products[r], bias[r]
        for i in range(n):
            y = row[i] - b
            q[i] += y * y


@_jit
def _evaluate_elementwise(factor: Any, mean: Any, x: Any, n: int, q: Any) -> None:
    """q[i] += sum_d (f_d (x_d - m_d))^2: 2 D multiply-adds per row."""
    for d in range(len(mean)):
        f, m, xd = factor[d], mean[d], x[d]
        for i in range(n):
            y = (xd[i] - m) * f
            q[i] += y * y


@_jit
def _evaluate(
    form: int,
    offsets: Any,
    means: Any,
    factors: Any,
    bias: Any,
    linear: Any,
    x: Any,
    n: int,
    y: Any,
    products: Any,
    joint: Any,
) -> None:
    """joint[k, i] = c_k + b_k . x_i - 1/2 |F_k (x_i - m_k)|^2; form 0 elementwise, 1 triangle, 2 rectangle.

    ``linear`` holds the b_k, (K, D), or has no rows if there are none.
    """
    _evaluate_squares(form, offsets, means, factors, bias, x, n, y, products, joint)
    for k in range(len(linear)):
        q = joint[k]
        for d in range(x.shape[0]):
            b, xd = linear[k, d], x[d]
            for i in range(n):
                q[i] += b * xd[i]


@_jit
def _evaluate_squares(
    form: int,
    offsets: Any,
    means: Any,
    factors: Any,
    bias: Any,
    x: Any,
    n: int,
    y: Any,
    products: Any,
    joint: Any,
) -> None:
    """joint[k, i] = c_k - 1/2 |F_k (x_i - m_k)|^2."""
    shared = len(factors) == 1
    for k in range(len(offsets)):
        q = joint[k]
        f = factors[0 if shared else k]
        if form == 1 and len(bias[k]) == 2:
            _evaluate_pair(offsets[k], f, bias[k], x, n, q)
            continue
        for i in range(n):
            q[i] = 0.0
        if form == 0:
            _evaluate_elementwise(f[0], means[k], x, n, q)
        elif x.shape[0] >= _PRODUCT_DIMS:
            _evaluate_product(f, bias[k], x, n, products, q)
        elif form == 1:
            _evaluate_triangle(f, bias[k], x, n, y, q)
        else:
            _evaluate_rectangle(f, bias[k], x, n, y, q)
        for i in range(n):
            q[i] = offsets[k] - 0.5 * q[i]


@_jit_in_order
def _exponentiate(row: Any, top: Any, n: int, power: Any, steps: Any, total: Any) -> None:
    """Row <- exp(row - top), added to total: 2^n 2^f with |f| <= 1/2, in loops that the compiler can vectorise.

    ``steps`` is ``power`` viewed as integers. Numba's own exp would call a function for every number.
    """
    for i in range(n):
        x = max((row[i] - top[i]) * 1.4426950408889634074, -600.0)
        shifted = x + 6755399441055744.0  # 1.5 * 2^52 leaves round(x) in the low bits
        f = x - (shifted - 6755399441055744.0)
        power[i] = shifted
        p = 4.455817908336064493e-10 * f + 7.0741942972885210056e-9
        p = p * f + 1.0178057087733941105e-7
        p = p * f + 1.3215432535912376166e-6
        p = p * f + 1.5252733841556772589e-5
        p = p * f + 1.5403530463724354209e-4
        p = p * f + 1.3333558146406470697e-3
        p = p * f + 9.6181291075872566681e-3
        p = p * f + 5.5504108664821627039e-2
        p = p * f + 2.4022650695910159567e-1
        p = p * f + 6.9314718055994530925e-1
        row[i] = p * f + 1.0
    for i in range(n):
        steps[i] = (steps[i] << 52) + 0x3FF0000000000000
    for i in range(n):
        e = row[i] * power[i]
        # Smaller numbers are below the rounding error of the sum, which is at least 1, and subnormals are slow.
        row[i] = e if e > 1e-150 else 0.0
        total[i] += row[i]


@_jit
def _normalize(joint: Any, n: int, top: Any, total: Any, power: Any) -> None:
    """Joint <- exp(joint - top), where top is the maximum over components; total <- its sum over components."""
    K = joint.shape[0]
    steps = power.view(np.int64)
    for i in range(n):
        top[i] = joint[0, i]
        total[i] = 0.0
    for k in range(1, K):
        row = joint[k]
        for i in range(n):
            top[i] = max(top[i], row[i])
    for k in range(K):
        _exponentiate(joint[k], top, n, power, steps, total)


@_jit
def _accumulate(resp: Any, features: Any, n: int, out: Any) -> None:
    """out[k, p] += sum_i resp[k, i] features[p, i], four components and two features at a time."""
    K, P = resp.shape[0], features.shape[0]
    k = 0
    while k + 4 <= K:
        r0, r1, r2, r3 = resp[k], resp[k + 1], resp[k + 2], resp[k + 3]
        p = 0
        while p + 2 <= P:
            f, g = features[p], features[p + 1]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = 0.0
            for i in range(n):
                a0 += r0[i] * f[i]
                a1 += r1[i] * f[i]
                a2 += r2[i] * f[i]
                a3 += r3[i] * f[i]
                b0 += r0[i] * g[i]
                b1 += r1[i] * g[i]
                b2 += r2[i] * g[i]
                b3 += r3[i] * g[i]
            out[k, p] += a0
            out[k + 1, p] += a1
            out[k + 2, p] += a2
            out[k + 3, p] += a3
            out[k, p + 1] += b0
            out[k + 1, p + 1] += b1
            out[k + 2, p + 1] += b2
            out[k + 3, p + 1] += b3
            p += 2
        while p < P:
            f = features[p]
            for c in range(4):
                r = resp[k + c]
                a0 = 0.0
                for i in range(n):
                    a0 += r[i] * f[i]
                out[k + c, p] += a0
            p += 1
        k += 4
    while k < K:
        r = resp[k]
        for p in range(P):
            f = features[p]
            a0 = 0.0
            for i in range(n):
                a0 += r[i] * f[i]
            out[k, p] += a0
        k += 1


@_jit
def _features(kind: int, x: Any, share: Any, n: int, features: Any) -> None:
    """Features <- [s | s x | s times the second moment of x], s = share.

    ``kind`` is 0 mass, 1 mean, 2 trace, 3 diagonal, 4 full.
    """
    D = x.shape[0]
    for i in range(n):
        features[0, i] = share[i]
    if kind == 0:
        return
    for d in range(D):
        for i in range(n):
            features[1 + d, i] = share[i] * x[d, i]
    if kind == 2:
        for i in range(n):
            features[1 + D, i] = 0.0
        for d in range(D):
            for i in range(n):
                features[1 + D, i] += features[1 + d, i] * x[d, i]
    elif kind == 3:
        for d in range(D):
            for i in range(n):
                features[1 + D + d, i] = features[1 + d, i] * x[d, i]
    elif kind == 4:
        p = 1 + D
        for a in range(D):
            for b in range(a + 1):
                for i in range(n):
                    features[p, i] = features[1 + a, i] * x[b, i]
                p += 1


@_jit
def _scratch(kind: int, D: int, P: int) -> Any:
    """Memory for the features of a block, or for the scaled rows of a component."""
    return np.empty((D if kind == 4 and D >= _PRODUCT_DIMS else P, BLOCK))


@_jit
def _accumulate_products(resp: Any, x: Any, share: Any, n: int, scaled: Any, out: Any) -> None:
    """All moments of a block, one matrix product of rows and scaled rows for each component."""
    D = x.shape[0]
    second = np.empty((D, D))
    for k in range(resp.shape[0]):
        r, sums = resp[k], out[k]
        for i in range(n):
            sums[0] += r[i] * share[i]
        for d in range(D):
            row, xd = scaled[d], x[d]
            a = 0.0
            for i in range(n):
                row[i] = xd[i] * (r[i] * share[i])
                a += row[i]
            for i in range(n, BLOCK):
                row[i] = 0.0
            sums[1 + d] += a
        np.dot(x, scaled.T, second)
        p = 1 + D
        for a_row in range(D):
            for b in range(a_row + 1):
                sums[p] += second[a_row, b]
                p += 1


@_jit
def expect_chunk(
    X: Any,
    start: int,
    stop: int,
    pivot: Any,
    form: int,
    offsets: Any,
    means: Any,
    factors: Any,
    bias: Any,
    linear: Any,
    prior: Any,
    weights: Any,
    hard: bool,
    kind: int,
    out: Any,
) -> float:
    """The fused pass over rows start..stop: statistics to ``out``, (K, P); returns the log-likelihood.

    ``prior`` (n or 1, K) is added to the log-densities; ``means`` and ``bias`` are taken about the pivot.
    """
    D, (K, P) = X.shape[1], out.shape
    x, y, joint = np.zeros((D, BLOCK)), np.empty(BLOCK), np.empty((K, BLOCK))
    products, features = np.empty((factors.shape[1], BLOCK)), _scratch(kind, D, P)
    top, total, share = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    log_likelihood = 0.0
    constants = offsets + prior[0] if len(prior) == 1 else offsets
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _pack_rows(X, pivot, at, n, x)
        _skip_weightless(weights, at, n, x)
        _evaluate(form, constants, means, factors, bias, linear, x, n, y, products, joint)
        if len(prior) > 1:
            for k in range(K):
                for i in range(n):
                    joint[k, i] += prior[at + i, k]
        if hard:
            for i in range(n):
                best = 0
                for k in range(1, K):
                    if joint[k, i] > joint[best, i]:
                        best = k
                log_likelihood += weights[at + i] * joint[best, i]
                for k in range(K):
                    joint[k, i] = 0.0
                joint[best, i] = 1.0
                share[i] = weights[at + i]
        else:
            _normalize(joint, n, top, total, y)
            product = 1.0  # of up to 16 sums, each between 1 and K, so that they need only one logarithm
            for i in range(n):
                weight = weights[at + i]
                if weight == 1.0:
                    log_likelihood += top[i]
                    product *= total[i]
                else:
                    log_likelihood += weight * (top[i] + np.log(total[i]))
                if i % 16 == 15:
                    log_likelihood += np.log(product)
                    product = 1.0
            log_likelihood += np.log(product)
            for i in range(n):
                share[i] = weights[at + i] / total[i]
        if kind == 4 and D >= _PRODUCT_DIMS:
            _accumulate_products(joint, x, share, n, features, out)
        else:
            _features(kind, x, share, n, features)
            _accumulate(joint, features, n, out)
    return log_likelihood


@_jit
def log_joint_chunk(
    X: Any,
    start: int,
    stop: int,
    pivot: Any,
    form: int,
    offsets: Any,
    means: Any,
    factors: Any,
    bias: Any,
    linear: Any,
    out: Any,
) -> None:
    """out[i, k] = c_k + log p_k(x_i) over rows start..stop."""
    D, K = X.shape[1], len(offsets)
    x, y, joint = np.zeros((D, BLOCK)), np.empty(BLOCK), np.empty((K, BLOCK))
    products = np.empty((factors.shape[1], BLOCK))
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _pack_rows(X, pivot, at, n, x)
        _evaluate(form, offsets, means, factors, bias, linear, x, n, y, products, joint)
        for i in range(n):
            for k in range(K):
                out[at + i, k] = joint[k, i]


@_jit
def accumulate_chunk(
    X: Any, start: int, stop: int, pivot: Any, resp: Any, weights: Any, kind: int, out: Any
) -> None:
    """Statistics of rows start..stop for given responsibilities, to ``out``, (K, P)."""
    D, (K, P) = X.shape[1], out.shape
    x, joint, features = np.zeros((D, BLOCK)), np.empty((K, BLOCK)), _scratch(kind, D, P)
    share = np.empty(BLOCK)
    for at in range(start, stop, BLOCK):
        n = min(BLOCK, stop - at)
        _pack_rows(X, pivot, at, n, x)
        _skip_weightless(weights, at, n, x)
        for i in range(n):
            share[i] = weights[at + i]
            for k in range(K):
                joint[k, i] = resp[at + i, k]
        if kind == 4 and D >= _PRODUCT_DIMS:
            _accumulate_products(joint, x, share, n, features, out)
        else:
            _features(kind, x, share, n, features)
            _accumulate(joint, features, n, out)
