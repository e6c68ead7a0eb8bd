"""The remembered curvature: what it takes in, and that its inverse is that of BFGS's updates, written out."""

from __future__ import annotations

import numpy as np
import pytest

from mixtura.gates.quasi_newton import _MEMORY, Curvature

K, P = 3, 4


@pytest.fixture
def bound(rng):
    root = rng.normal(size=(P, P))
    return root @ root.T + np.eye(P)


def bent(rng, n):
    """A positive definite matrix (K P, K P), and so many pairs of steps and its products with them."""
    root = rng.normal(size=(K * P, K * P))
    B = root @ root.T + np.eye(K * P)
    steps = rng.normal(size=(n, K, P))
    return [(s, (B @ s.ravel()).reshape(K, P)) for s in steps]


def test_without_steps_it_is_the_bound(bound, rng):
    g = rng.normal(size=(K, P))
    curvature = Curvature.bounded_by(bound, K)
    np.testing.assert_allclose(curvature.solve(g), np.linalg.solve(bound, g.T).T, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, _MEMORY, _MEMORY + 3])
def test_its_inverse_is_that_of_the_last_updates(n, bound, rng):
    """H+ = (1 - s y' / s.y) H (1 - y s' / s.y) + s s' / s.y, from the oldest remembered step to the last."""
    pairs, curvature = bent(rng, n), Curvature.bounded_by(bound, K)
    for s, y in pairs:
        curvature = curvature.after(s, y)
    H = np.kron(np.eye(K), np.linalg.inv(bound))
    for s, y in ((s.ravel(), y.ravel()) for s, y in pairs[-_MEMORY:]):
        away = np.eye(K * P) - np.outer(s, y) / (s @ y)
        H = away @ H @ away.T + np.outer(s, s) / (s @ y)
    g = rng.normal(size=(K, P))
    # Rounding grows with the condition of the updates, of about 1e4 here.
    np.testing.assert_allclose(
        curvature.solve(g).ravel(), H @ g.ravel(), rtol=1e-9, atol=1e-9 * np.abs(H @ g.ravel()).max()
    )
    assert len(curvature.steps) == len(curvature.changes) == len(curvature.products) == min(n, _MEMORY)
    last, changed = pairs[-1]
    np.testing.assert_allclose(curvature.solve(changed), last, rtol=1e-8, atol=1e-8 * np.abs(last).max())


def test_a_step_along_which_the_gradient_does_not_fall_is_forgotten(bound):
    curvature, step = Curvature.bounded_by(bound, K), np.ones((K, P))
    assert curvature.after(step, -step) is curvature
    assert curvature.after(step, 0.0 * step) is curvature
    across = step.copy()
    across[0] *= -K + 1.0  # orthogonal to the step
    assert curvature.after(step, across) is curvature
    # A cosine of 1e-10 is the least that counts.
    size = np.linalg.norm(across) / np.linalg.norm(step)
    assert curvature.after(step, across + 0.9e-10 * size * step) is curvature
    assert len(curvature.after(step, across + 1.2e-10 * size * step).steps) == 1


def test_the_oldest_steps_are_forgotten_first(bound):
    curvature, step = Curvature.bounded_by(bound, K), np.ones((K, P))
    for i in range(1, _MEMORY + 2):
        curvature = curvature.after(i * step, step)
    np.testing.assert_array_equal(curvature.steps[:, 0], np.arange(2, _MEMORY + 2))
    np.testing.assert_array_equal(curvature.changes, np.ones((_MEMORY, K * P)))
    want = np.triu(np.broadcast_to(K * P * np.arange(2, _MEMORY + 2)[:, None], (_MEMORY, _MEMORY)))
    np.testing.assert_array_equal(curvature.products, want)
