"""Predictions of fitted models as graphs in ONNX, which many programs and devices run."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from mixtura.interop.graph import ROWS, Graph, written

Path = str | os.PathLike[str] | None


def of_gaussian_mixture(model: Any, path: Path, dtype: str) -> Any:
    """Outputs ``label`` (N,), ``probabilities`` (N, K), ``log_likelihood`` (N,): see ``GaussianMixture.to_onnx``."""
    check_is_fitted(model)
    joint = model._mixture().joint
    graph = Graph(joint.quadratics.dims, dtype)
    together = graph.step("Add", graph.joint(ROWS, joint.quadratics), graph.array(joint.log_weights))
    shares, total = graph.log_normalized(together)
    graph.reply_labels(together, joint.components - 1 if getattr(model, "_has_noise", False) else None)
    graph.reply("probabilities", graph.step("Exp", shares), [None, joint.components])
    graph.reply("log_likelihood", graph.step("Squeeze", total, graph.array([1])), [None])
    return written(graph.model(type(model).__name__), path)


def of_kmeans(model: Any, path: Path, dtype: str) -> Any:
    """Outputs ``label`` (N,) and ``distances`` (N, K): see ``KMeans.to_onnx``."""
    check_is_fitted(model)
    quadratics = model._centers().quadratics
    graph = Graph(quadratics.dims, dtype)
    joint = graph.joint(ROWS, quadratics)
    graph.reply_labels(joint)
    squares = graph.step("Mul", joint, graph.array(-2.0))
    graph.reply("distances", graph.step("Sqrt", squares), [None, quadratics.components])
    return written(graph.model("KMeans"), path)


def of_experts(model: Any, path: Path, dtype: str) -> Any:
    """Outputs ``mean``, ``std`` (N, M) and ``probabilities`` (N, K): see ``MixtureOfExperts.to_onnx``."""
    check_is_fitted(model)
    experts, gate = model._parameters.components, model._parameters.gate
    K, M, D = experts.slopes.shape
    graph = Graph(D, dtype)
    log_shares = gate.symbolic(graph, ROWS)
    shares = graph.step("Exp", log_shares)
    anchor = experts.anchor[0]  # keeps the digits of rows that are far from the origin
    moved = graph.step("Sub", ROWS, graph.array(anchor))
    level = experts.level - np.einsum("kmd,kd->km", experts.slopes, experts.anchor - anchor)
    flat = graph.step("MatMul", moved, graph.array(experts.slopes.reshape(K * M, D).T))
    means = graph.step("Add", graph.step("Reshape", flat, graph.array([-1, K, M])), graph.array(level))
    share = graph.step("Unsqueeze", shares, graph.array([2]))
    mean = graph.sums(graph.step("Mul", share, means), 1)
    away = graph.step("Sub", means, graph.step("Unsqueeze", mean, graph.array([1])))
    variance = graph.step("Add", graph.step("Mul", away, away), graph.array(experts.noise))
    if experts.priors.given:
        posterior = np.where(experts.priors.present[:, None, None, None], experts.posterior, 0.0)
        values, vectors = np.linalg.eigh(posterior.reshape(K * M, D, D))
        roots = np.sqrt(np.maximum(values, 0.0))[:, :, None] * vectors.transpose(0, 2, 1)
        anchors = np.repeat(experts.anchor - anchor, M, axis=0)
        unsure = graph.squares(moved, anchors, roots, "rectangle")
        variance = graph.step("Add", variance, graph.step("Reshape", unsure, graph.array([-1, K, M])))
    deviation = graph.step("Sqrt", graph.sums(graph.step("Mul", share, variance), 1))
    for name, result in (("mean", mean), ("std", deviation)):
        if model._one_target:
            graph.reply(name, graph.step("Squeeze", result, graph.array([1])), [None])
        else:
            graph.reply(name, result, [None, M])
    graph.reply("probabilities", shares, [None, K])
    return written(graph.model("MixtureOfExperts"), path)
