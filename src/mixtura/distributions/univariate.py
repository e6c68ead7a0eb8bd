"""Mixtures in one dimension: distribution function, quantiles, and regions of highest density."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr, ndtri

Float = NDArray[np.float64]

# Steps after which a quantile is taken as found: bisection alone would end by then.
_STEPS = 2200

# Rounding errors of a mean, in units of the deviation, up to which intervals about it can be told; and the depth below
# the maximum of the log-density, as a share of it, from which levels have digits.
_RESOLVED = 0.1
_LEAST_DEPTH = 1e-12

# Points for each component, out to so many standard deviations, among which extrema of the density are looked for.
_GRID = np.linspace(-6.0, 6.0, 97)


def cdf(x: Float, weights: Float, means: Float, deviations: Float) -> Float:
    """``sum_k w_k Phi((x - m_k) / s_k)`` for x of any shape."""
    return np.asarray(ndtr((x[..., None] - means) / deviations) @ weights)


def log_tail(x: Float, weights: Float, means: Float, deviations: Float, sign: float) -> Float:
    """Log of the probability below x (sign 1) or above it (sign -1), accurate far out in the tails."""
    there = weights > 0.0
    weights, means, deviations = weights[there], means[there], deviations[there]
    terms = log_ndtr(sign * (x[..., None] - means) / deviations)
    top = terms.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        shifted = np.where(np.isfinite(top), np.exp(terms - top), 0.0)
        return np.asarray(top[..., 0] + np.log(shifted @ weights))


def log_density(x: Float, weights: Float, means: Float, deviations: Float) -> Float:
    """Log of the density, for x of any shape."""
    terms = -0.5 * ((x[..., None] - means) / deviations) ** 2 - np.log(deviations)
    top = terms.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        sums = np.log(np.exp(terms - top) @ weights)
    return np.asarray(top[..., 0] + sums - 0.5 * np.log(2.0 * np.pi))


def quantile(q: Float, weights: Float, means: Float, deviations: Float) -> Float:
    """The x at which the distribution function is q, for q (n,) in [0, 1].

    It lies between the least and the largest of the components' own quantiles. Newton's steps on the logarithm of the
    nearer tail, which are kept inside a bracket that halves where they are not.
    """
    counted = weights > 0.0
    weights, means, deviations = weights[counted], means[counted], deviations[counted]
    each = means + deviations * ndtri(q[:, None])
    low, high = each.min(axis=1), each.max(axis=1)
    inside = (q > 0.0) & (q < 1.0) & (low < high)
    out = np.where(q <= 0.0, -np.inf, np.where(q >= 1.0, np.inf, low))
    left = np.flatnonzero(inside)
    below = q <= 0.5
    with np.errstate(divide="ignore"):
        target = np.where(below, np.log(q), np.log1p(-q))
    x = 0.5 * (low + high)
    for _ in range(_STEPS):
        if not len(left):
            break
        at, sign = x[left], np.where(below[left], 1.0, -1.0)
        tail = np.where(
            below[left],
            log_tail(at, weights, means, deviations, 1.0),
            log_tail(at, weights, means, deviations, -1.0),
        )
        excess = sign * (tail - target[left])  # positive where x is too large
        low[left] = np.where(excess < 0.0, at, low[left])
        high[left] = np.where(excess >= 0.0, at, high[left])
        slope = np.exp(log_density(at, weights, means, deviations) - tail)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = at - excess / slope
        middle = 0.5 * (low[left] + high[left])
        good = (step > low[left]) & (step < high[left])
        new = np.where(good, step, middle)
        moved = np.abs(new - at)
        x[left] = new
        least = 4.0 * np.finfo(np.float64).eps * np.maximum(np.abs(new), deviations.min())
        closed = high[left] - low[left] <= least
        done = (excess == 0.0) | closed | (good & (moved <= least))
        x[left] = np.where(excess == 0.0, at, x[left])
        left = left[~done]
    return np.where(inside, x, out)


def extrema(weights: Float, means: Float, deviations: Float) -> Float:
    """Points where the density has a maximum or a minimum, in order.

    The derivative changes its sign there; between points of a grid that is fine beside every component.
    """
    grid = np.unique(np.concatenate([(means[:, None] + deviations[:, None] * _GRID).ravel(), means]))

    def slope(x: float) -> float:
        away = (x - means) / deviations
        exponents = -0.5 * away**2 - np.log(deviations)
        return float(-(np.exp(exponents - exponents.max()) * weights) @ (away / deviations))

    signs = np.array([np.sign(slope(x)) for x in grid])
    found = list(grid[signs == 0.0])
    for i in np.flatnonzero(signs[:-1] * signs[1:] < 0.0):
        found.append(brentq(slope, grid[i], grid[i + 1], xtol=1e-300, rtol=8.9e-16, maxiter=_STEPS))
    return np.sort(np.array(found))


def highest_density(
    probability: float, weights: Float, means: Float, deviations: Float
) -> tuple[float, list[tuple[float, float]]]:
    """The log-density above which the region of least length with this probability lies, and its intervals."""
    lost = np.flatnonzero(np.abs(means) * np.finfo(np.float64).eps > _RESOLVED * deviations)
    if len(lost):
        raise ValueError(
            f"component {lost[0]} has a deviation of {deviations[lost[0]]:.3g} about {means[lost[0]]:.3g}, where "
            "neighbouring numbers are apart by more than a tenth of that: no interval can be told"
        )
    turns = extrema(weights, means, deviations)
    far = float(np.max(np.abs(means - means.mean())) + 40.0 * deviations.max())
    ends = np.concatenate([[means.mean() - far], turns, [means.mean() + far]])

    def log_p(x: float) -> float:
        return float(log_density(np.array(x), weights, means, deviations))

    heights = np.array([log_p(x) for x in ends])

    def intervals(level: float) -> list[tuple[float, float]]:
        """Where the density exceeds the level: it is monotone between its extrema."""
        above = heights > level
        crossings = [
            brentq(
                lambda x: log_p(x) - level, ends[i], ends[i + 1], xtol=1e-300, rtol=8.9e-16, maxiter=_STEPS
            )
            for i in np.flatnonzero(above[:-1] != above[1:])
        ]
        return list(zip(crossings[::2], crossings[1::2], strict=True))

    def excess(level: float) -> float:
        edges = np.array(intervals(level)).reshape(-1, 2)
        return float(np.diff(cdf(edges, weights, means, deviations), axis=1).sum()) - probability

    top = float(heights.max())
    low = top - 1.0
    while excess(low) < 0.0:
        low = top - 2.0 * (top - low)
    level = brentq(excess, low, top, xtol=1e-14, rtol=8.9e-16, maxiter=_STEPS)
    if top - level > _LEAST_DEPTH * max(1.0, abs(top)):
        return float(level), intervals(level)
    # So near to the maximum that levels have no digits left, the density is as high as there.
    modes = ends[heights >= top - _LEAST_DEPTH * max(1.0, abs(top))]
    half = 0.5 * probability * math.exp(-top) / len(modes)
    return top, [(float(mode - half), float(mode + half)) for mode in modes]
