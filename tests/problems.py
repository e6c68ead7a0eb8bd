"""Random quadratics, and how exact their evaluation can be."""

from dataclasses import dataclass

import numpy as np

from mixtura.backends.compiled import CompiledBackend
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics

EPS = np.finfo(np.float64).eps
FORMS = ("scalar", "diagonal", "triangle", "rectangle")
KINDS = ("mass", "mean", "trace", "diagonal", "full", "shared")


@dataclass
class Problem:
    X: np.ndarray
    quadratics: Quadratics
    log_weights: np.ndarray
    sample_weight: np.ndarray | None
    pivot: np.ndarray

    @property
    def joint(self):
        return Joint(self.quadratics, self.log_weights)

    def placed(self, backend):
        return backend.place(self.X, None, self.sample_weight)


def quadratics(rng, form, components, dims, shared=False, linear=False):
    n = 1 if shared else components
    factors = {
        "scalar": lambda: rng.uniform(0.5, 2.0, n),
        "diagonal": lambda: rng.uniform(0.5, 2.0, (n, dims)),
        "triangle": lambda: np.tril(rng.normal(size=(n, dims, dims)) / np.sqrt(dims) + np.eye(dims)),
        "rectangle": lambda: rng.normal(size=(n, dims + 2, dims)) / np.sqrt(dims),
    }[form]()
    offsets, means = rng.normal(size=components), 2.0 * rng.normal(size=(components, dims))
    slopes = rng.normal(size=(components, dims)) if linear else None
    return Quadratics(form, offsets, means, factors, slopes)


def problem(
    rng,
    form,
    components,
    dims,
    rows,
    *,
    shared=False,
    gate=False,
    weighted=False,
    linear=False,
    dtype=np.float64,
):
    alpha = np.ones(components)
    return Problem(
        X=(2.0 * rng.normal(size=(rows, dims))).astype(dtype),
        quadratics=quadratics(rng, form, components, dims, shared, linear),
        log_weights=np.log(rng.dirichlet(alpha, rows) if gate else rng.dirichlet(alpha)),
        sample_weight=rng.uniform(0.0, 2.0, rows) if weighted else None,
        pivot=rng.normal(size=dims),
    )


def computing_eps(backend, X):
    """Epsilon of the numbers that the fused pass computes in: compiled kernels keep float32 rows in float32."""
    single = isinstance(backend, CompiledBackend) and X.dtype == np.float32
    return float(np.finfo(np.float32).eps) if single else EPS


def joint_tolerance(p, eps=EPS):
    """Bound on the rounding error of log pi_k + log p_k(z_i), (N, K).

    y_r = sum_d F_rd (x_d - p_d) - b_r has an error of at most (D + 3) eps sum_d |F_rd| (|x_d - p_d| + |m_d - p_d|)
    = (D + 3) eps a_r, so |y|^2 has (2 D + 8) eps |a|^2, in any order of summation. A linear term has as many roundings
    of its own terms. A few eps of the constants come on top, and one conversion from base 2.
    """
    q = p.quadratics
    X = p.X.astype(np.float64)
    pivots = (q.center, p.pivot, np.zeros(q.dims))
    bound = np.zeros((len(X), q.components))
    for pivot in pivots:
        for k, mean in enumerate(q.means):
            reach = np.abs(X - pivot) + np.abs(mean - pivot)
            factor = np.abs(q.factors[0 if q.shared else k])
            a = reach * factor if q.form in ("scalar", "diagonal") else reach @ factor.T
            size = 0.5 * np.sum(a * a, axis=1)
            if q.linear is not None:
                size = size + reach @ np.abs(q.linear[k])
            bound[:, k] = np.maximum(bound[:, k], size)
    constants = np.abs(q.offsets) + np.abs(p.log_weights)
    return eps * ((2 * q.dims + 8) * bound + 8 * (bound + constants + 1.0))


# Rows whose moments are added up in the numbers computed in, before they are added to the running sums in float64.
_BLOCK = 384


def assert_moments_close(got, want, p, eps=EPS):
    """Moments agree to rounding.

    A responsibility carries the error of its log: relative 2 max tol. Sums of N terms add at most N eps of the sum of
    the terms' magnitudes, bounded here with all responsibilities at 1.
    """
    assert got.kind == want.kind
    assert got.n_samples == want.n_samples
    X = np.abs(p.X.astype(np.float64) - p.pivot)
    w = np.ones(len(X)) if p.sample_weight is None else p.sample_weight
    rounding = len(X) * EPS + min(len(X), _BLOCK) * eps
    error = rounding + 2.0 * joint_tolerance(p, eps).max()
    for name, size in (
        ("mass", w.sum()),
        ("first", (w @ X).max()),
        ("second", (w @ (X.sum(axis=1) ** 2)) * (p.quadratics.components if want.kind == "shared" else 1)),
    ):
        a, b = getattr(got, name), getattr(want, name)
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=error * size, err_msg=name)
    tolerance = w @ joint_tolerance(p, eps).max(axis=1) + rounding * abs(want.log_likelihood)
    assert abs(got.log_likelihood - want.log_likelihood) <= tolerance
