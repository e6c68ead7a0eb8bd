"""Numbers that are known up to an error or between bounds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Estimate(NamedTuple):
    """A Monte Carlo estimate.

    Attributes
    ----------
    value : float
    error : float
        Its standard error.
    """

    value: float
    error: float


class Entropy(NamedTuple):
    """The differential entropy of a mixture, in nats.

    Attributes
    ----------
    value : float
        A Monte Carlo estimate, moved into the bounds if it lies outside.
    error : float
        Its standard error.
    lower, upper : float
        Bounds that hold exactly.
    """

    value: float
    error: float
    lower: float
    upper: float


def mean_of(values: Float) -> Estimate:
    """The mean of independent values (n,), with its standard error."""
    n = len(values)
    spread = float(values.std(ddof=1)) if n > 1 else math.inf
    return Estimate(float(values.mean()), spread / math.sqrt(n))


def entropy_bounds(weights: Float, means: Float, choleskys: Float) -> tuple[float, float]:
    """Bounds of a mixture's entropy from the distances between its components (Kolchinsky and Tracey 2017).

    ``sum_k w_k H_k - sum_k w_k log sum_l w_l exp(-d(k, l))`` is a lower bound where d is the Bhattacharyya distance,
    and an upper one where it is the Kullback-Leibler divergence.
    """
    w, L = weights, choleskys
    K, D = means.shape
    log_det = 2.0 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)
    within = float(w @ (0.5 * (D * (1.0 + math.log(2.0 * math.pi)) + log_det)))
    covariances = L @ np.swapaxes(L, 1, 2)
    bhattacharyya, divergence = np.zeros((K, K)), np.zeros((K, K))
    for j in range(K):
        away = means - means[j]
        middle = 0.5 * (covariances + covariances[j])
        _, log_det_middle = np.linalg.slogdet(middle)
        square = np.einsum("kd,kd->k", away, np.linalg.solve(middle, away[:, :, None])[:, :, 0])
        bhattacharyya[:, j] = square / 8.0 + 0.5 * (log_det_middle - 0.5 * (log_det + log_det[j]))
        whitened = np.linalg.solve(L[j], np.concatenate([L, away[:, :, None]], axis=2))
        divergence[:, j] = 0.5 * (np.sum(whitened**2, axis=(1, 2)) - D + log_det[j] - log_det)
    with np.errstate(under="ignore"):
        lower, upper = (within - float(w @ np.log(np.exp(-d) @ w)) for d in (bhattacharyya, divergence))
    return lower, upper
