"""A mixture's parameters as people read them: weights, means, covariances; coefficients, noise.

The vector theta of :class:`mixtura.parametric.ParametricMixture` is free to take any value. The natural parameters are
functions of it, whose derivatives carry covariances from one to the other (the delta method).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixtura.parametric import ParametricMixture, diagonal_places

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Field:
    """One kind of natural parameters.

    Parameters
    ----------
    name : str
    values : ndarray of shape (n,)
        Each parameter once.
    slopes : ndarray of shape (n, P)
        Their derivatives by theta.
    labels : list of str
        The parameters' names.
    places : ndarray of int
        In the shape of the model's attribute: which of the parameters stands where.
    """

    name: str
    values: Float
    slopes: Float
    labels: list[str]
    places: NDArray[np.intp]


def fields(
    m: ParametricMixture, columns: list[str], targets: list[str], squeezed: bool = False
) -> list[Field]:
    """The natural parameters of a mixture.

    Parameters
    ----------
    m : ParametricMixture
    columns, targets : list of str
        Names of the covariates and of the targets.
    squeezed : bool, default=False
        Whether there is one target, which the model's attributes have no axis for.
    """
    if not m.covariates and m.intercept:
        return [_weights(m), _means(m, targets), _covariances(m, targets)]
    gate = _log_odds(m, columns) if m.softmax else _weights(m)
    coefficients = _coefficients(m, columns, targets, squeezed)
    return [gate, *coefficients, _noise(m, targets, squeezed)]


def _slopes(m: ParametricMixture, rows: int) -> Float:
    return np.zeros((rows, m.size))


def _weights(m: ParametricMixture) -> Field:
    """``w = softmax(log-odds, 0)``: ``dw = diag(w) - w w'``."""
    w, K = np.exp(m.log_weights), m.components
    slopes = _slopes(m, K)
    slopes[:, : m.gate_size] = (np.diag(w) - np.outer(w, w))[:, :-1]
    return Field("weights", w, slopes, [f"weight[{k}]" for k in range(K)], np.arange(K))


def _log_odds(m: ParametricMixture, columns: list[str]) -> Field:
    slopes = _slopes(m, m.gate_size)
    slopes[:, : m.gate_size] = np.eye(m.gate_size)
    names = m.names(columns, ["y"] * m.targets)[: m.gate_size]
    places = np.arange(m.gate_size).reshape(m.components - 1, m.gate_row)
    return Field("log_odds", m.log_odds.ravel(), slopes, names, places)


def _means(m: ParametricMixture, targets: list[str]) -> Field:
    K, M = m.components, m.targets
    slopes = _slopes(m, K * M)
    slopes[:, m.gate_size : m.gate_size + K * M] = np.eye(K * M)
    labels = [f"mean[{k}, {name}]" for k in range(K) for name in targets]
    return Field("means", m.coefficients.ravel(), slopes, labels, np.arange(K * M).reshape(K, M))


def _covariances(m: ParametricMixture, targets: list[str]) -> Field:
    """``S = L L'``: ``dS_ab = sum_j dL_aj L_bj + L_aj dL_bj``, with logarithms on the diagonal of L."""
    n, M = m.scale_count, m.targets
    if m.form != "triangle":
        return _variances(m, targets)
    L, size = m.choleskys, m.scale_row
    i, j = np.tril_indices(M)
    lengths = np.ones((n, size))
    lengths[:, diagonal_places(M)] = m.deviations
    values, slopes = np.empty((n, size)), _slopes(m, n * size)
    of_entry = {(a, b): p for p, (a, b) in enumerate(zip(i.tolist(), j.tolist(), strict=True))}
    for k in range(n):
        start = m.of_scale(k).start
        S = L[k] @ L[k].T
        values[k] = S[i, j]
        for (a, b), p in of_entry.items():
            row = slopes[k * size + p]
            for c in range(b + 1):
                row[start + of_entry[a, c]] += L[k, b, c] * lengths[k, of_entry[a, c]]
                row[start + of_entry[b, c]] += L[k, a, c] * lengths[k, of_entry[b, c]]
    labels = [
        f"covariance[{'' if m.shared else f'{k}, '}{targets[a]}, {targets[b]}]"
        for k in range(n)
        for a, b in of_entry
    ]
    high, low = np.maximum(*np.indices((M, M))), np.minimum(*np.indices((M, M)))
    places = np.arange(n)[:, None, None] * size + (high * (high + 1) // 2 + low)
    return Field("covariances", values.ravel(), slopes, labels, places[0] if m.shared else places)


def _variances(m: ParametricMixture, targets: list[str]) -> Field:
    """``s^2 = exp(2 log s)``."""
    values = np.exp(2.0 * m.scales).ravel()
    slopes = _slopes(m, len(values))
    slopes[:, m.size - len(values) :] = np.diag(2.0 * values)
    names = [""] if m.form == "scalar" else targets
    inside = [
        ([] if m.shared else [str(k)]) + ([name] if name else [])
        for k in range(m.scale_count)
        for name in names
    ]
    labels = [f"variance[{', '.join(parts)}]" if parts else "variance" for parts in inside]
    shape = () if m.form == "scalar" else (m.targets,)
    shape = shape if m.shared else (m.components, *shape)
    return Field("covariances", values, slopes, labels, np.arange(len(values)).reshape(shape))


def _coefficients(
    m: ParametricMixture, columns: list[str], targets: list[str], squeezed: bool
) -> list[Field]:
    """Slopes, and intercepts where there are some."""
    places = m.gate_size + np.arange(m.coefficient_size).reshape(m.coefficients.shape)
    first, found = int(m.intercept), []
    parts = [("coef", places[:, :, first:])]
    if m.intercept:
        parts.append(("intercept", places[:, :, 0]))
    for name, at in parts:
        flat = at.ravel()
        slopes = _slopes(m, len(flat))
        slopes[np.arange(len(flat)), flat] = 1.0
        labels = []
        for k in range(m.components):
            for target in targets:
                of = f"{k}" if squeezed else f"{k}, {target}"
                labels += [f"coef[{of}, {c}]" for c in columns] if name == "coef" else [f"intercept[{of}]"]
        shape = at[:, 0].shape if squeezed else at.shape
        found.append(Field(name, m.theta[flat], slopes, labels, np.arange(len(flat)).reshape(shape)))
    return found


def _noise(m: ParametricMixture, targets: list[str], squeezed: bool) -> Field:
    """Noise variances; shared ones stand once for every expert."""
    variances = _variances(m, targets)
    n, M = m.scale_count, m.targets
    inside = [
        ([] if m.shared else [str(k)]) + ([] if squeezed else [name]) for k in range(n) for name in targets
    ]
    labels = [f"noise_variance[{', '.join(parts)}]" if parts else "noise_variance" for parts in inside]
    places = np.broadcast_to(np.arange(n * M).reshape(n, M), (m.components, M))
    return Field(
        "noise_variance", variances.values, variances.slopes, labels, places[:, 0] if squeezed else places
    )
