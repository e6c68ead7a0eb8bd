"""The reference for all backends: plain NumPy, written to be read."""

from __future__ import annotations

import numpy as np

from mixtura.backends.base import Backend, Float, Rows
from mixtura.joint import Joint
from mixtura.moments import Kind, Moments


class ReferenceBackend(Backend):
    """Plain NumPy, one component at a time, in float64."""

    name = "reference"
    summary = "plain NumPy"
    compiled = False

    def log_joint(self, rows: Rows, joint: Joint) -> Float:
        """``log pi_k + c_k + b_k . (z - m_k) - 1/2 |F_k (z - m_k)|^2``, by its definition."""
        X, quadratics = rows.X.astype(np.float64), joint.quadratics
        out = np.empty((len(X), quadratics.components))
        with np.errstate(over="ignore"):  # a row beyond the range of float64 has log-density -inf
            for k, mean in enumerate(quadratics.means):
                factor = quadratics.factors[0 if quadratics.shared else k]
                z = X - mean
                y = z * factor if quadratics.form in ("scalar", "diagonal") else z @ factor.T
                out[:, k] = quadratics.offsets[k] - 0.5 * np.sum(y * y, axis=1)
                if quadratics.linear is not None:
                    out[:, k] += z @ quadratics.linear[k]
        return np.asarray(out + joint.log_weights)

    def accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Moments:
        """Moments by their definition."""
        return Moments.of(
            rows.X.astype(np.float64), kind, resp=resp, pivot=pivot, sample_weight=rows.sample_weight
        )
