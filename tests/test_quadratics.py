"""Quadratics compose: products of densities, tilts, components beside each other."""

from dataclasses import replace

import numpy as np
import pytest

from mixtura.backends.reference import ReferenceBackend
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics
from problems import EPS, FORMS, quadratics


def densities(q, X):
    reference = ReferenceBackend()
    return reference.log_joint(reference.place(X), Joint(q, np.zeros(q.components)))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("of_x", FORMS)
def test_times_is_the_sum_of_logarithms(form, of_x, linear, shared, rng):
    """log p(z) + log q(x), whatever the forms, with x the first columns of z."""
    X = rng.normal(size=(50, 5))
    p, q = quadratics(rng, form, 4, 5, shared, linear), quadratics(rng, of_x, 4, 3, shared, linear)
    want = densities(p, X) + densities(q, X[:, :3])
    product = p.times(q)
    assert product.form == "triangle"
    condition = max(np.linalg.cond(T) for T in product.factors) ** 2
    scale = np.abs(densities(p, X)).max() + np.abs(densities(q, X[:, :3])).max()
    np.testing.assert_allclose(densities(product, X), want, rtol=0, atol=64 * EPS * condition * scale)


def test_times_of_too_few_rows_for_a_triangle(rng):
    """A regression's single row times a scalar of one column: three columns, two rows."""
    p = Quadratics("rectangle", np.zeros(2), rng.normal(size=(2, 3)), rng.normal(size=(2, 1, 3)))
    q = Quadratics("scalar", np.zeros(2), rng.normal(size=(2, 1)), np.ones(2))
    X = rng.normal(size=(20, 3))
    product = p.times(q)
    assert product.form == "rectangle"
    np.testing.assert_allclose(densities(product, X), densities(p, X) + densities(q, X[:, :1]), atol=1e-12)


def test_a_gaussian_of_x_times_a_regression_is_their_own_rows(rng):
    """A triangle over a row [-W | 1] / s is a triangle as it stands: no digit is touched."""
    W, s = rng.normal(size=(3, 1, 2)), 0.25
    rows = np.concatenate([-W / s, np.full((3, 1, 1), 1.0 / s)], axis=2)
    p = Quadratics("rectangle", np.zeros(3), rng.normal(size=(3, 3)), rows)
    U = np.tril(rng.normal(size=(3, 2, 2))) + 2 * np.eye(2)
    q = Quadratics("triangle", np.zeros(3), rng.normal(size=(3, 2)), U)
    product = p.times(q)
    np.testing.assert_array_equal(product.factors[:, :2, :2], U)
    np.testing.assert_array_equal(product.factors[:, 2:], rows)
    np.testing.assert_array_equal(product.means[:, :2], q.means)


def test_times_far_from_the_origin(rng):
    """Densities are those of differences: an offset of 1e8 costs nothing but the rounding of the rows."""
    p, q = quadratics(rng, "triangle", 3, 4, linear=True), quadratics(rng, "diagonal", 3, 2, linear=True)
    X = rng.normal(size=(30, 4))
    want = densities(p.times(q), X)
    away = 2.0**27
    moved = replace(p, means=p.means + away).times(replace(q, means=q.means + away))
    np.testing.assert_allclose(densities(moved, X + away), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_tilted_adds_a_linear_term(form, linear, rng):
    p = quadratics(rng, form, 4, 5, linear=linear)
    level, slope, about = rng.normal(size=4), rng.normal(size=(4, 3)), rng.normal(size=3)
    X = rng.normal(size=(50, 5))
    want = densities(p, X) + level + (X[:, :3] - about) @ slope.T
    np.testing.assert_allclose(densities(p.tilted(level, slope, about), X), want, rtol=0, atol=1e-11)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_beside_each_other(first, second, shared, linear, rng):
    """Densities of both, in one set of quadratics."""
    p, q = quadratics(rng, first, 4, 3, shared, linear), quadratics(rng, second, 2, 3, shared)
    X = rng.normal(size=(30, 3))
    want = np.hstack([densities(p, X), densities(q, X)])
    np.testing.assert_allclose(densities(p.beside(q), X), want, rtol=1e-12)


def test_flat_densities_are_one_everywhere(rng):
    X = 100.0 * rng.normal(size=(10, 3))
    np.testing.assert_array_equal(densities(Quadratics.flat(2, X[0]), X), 0.0)


def test_refuse_shapes_that_do_not_fit():
    good = ("diagonal", np.zeros(2), np.zeros((2, 3)), np.ones((2, 3)), np.zeros((2, 3)))
    Quadratics(*good)
    for i, bad, says in (
        (0, "cubic", "unknown form"),
        (1, np.zeros(3), "are not"),
        (2, np.zeros(2), "are not"),
        (3, np.ones((2, 2)), "do not fit"),
        (3, np.ones(2), "do not fit"),
        (4, np.ones((1, 3)), "linear terms"),
    ):
        arguments = list(good)
        arguments[i] = bad
        with pytest.raises(ValueError, match=says):
            Quadratics(*arguments)


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        ("scalar", (2,)), ("scalar", (3, 4)), ("diagonal", (3, 3)), ("diagonal", (3,)), ("triangle", (3, 4, 3)),
        ("triangle", (3, 3, 4)), ("triangle", (2, 4, 4)), ("rectangle", (3, 0, 4)), ("rectangle", (3, 2, 3)),
    ],
)  # fmt: skip
def test_factors_that_do_not_fit_are_refused(form, shape):
    with pytest.raises(ValueError, match="do not fit form"):
        Quadratics(form, np.zeros(3), np.zeros((3, 4)), np.ones(shape))
    with pytest.raises(ValueError, match="unknown form"):
        Quadratics("round", np.zeros(3), np.zeros((3, 4)), np.ones(3))
    with pytest.raises(ValueError, match="are not"):
        Quadratics("scalar", np.zeros(2), np.zeros((3, 4)), np.ones(3))
    with pytest.raises(ValueError, match="linear terms"):
        Quadratics("scalar", np.zeros(3), np.zeros((3, 4)), np.ones(3), np.zeros((3, 3)))
