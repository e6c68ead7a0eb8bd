"""Dual numbers against derivatives by hand, and the functions made of them."""

import math

import numpy as np
import pytest

from mixtura import autodiff as ad
from mixtura.autodiff import Dual, derivative, jacobian, newton

X = np.array([0.3, 0.7, 1.9])

FUNCTIONS = [
    (lambda x: x**3, lambda x: 3 * x**2, lambda x: 6 * x),
    (lambda x: 2.0 - 3 * x + x * x * x / 4, lambda x: -3 + 0.75 * x**2, lambda x: 1.5 * x),
    (lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3),
    (lambda x: (1.0 + x) / (2.0 - x), lambda x: 3 / (2 - x) ** 2, lambda x: 6 / (2 - x) ** 3),
    (lambda x: x**-1.5, lambda x: -1.5 * x**-2.5, lambda x: 3.75 * x**-3.5),
    (lambda x: 2.0**x, lambda x: math.log(2) * 2**x, lambda x: math.log(2) ** 2 * 2**x),
    (lambda x: x**x, lambda x: x**x * (np.log(x) + 1), lambda x: x**x * ((np.log(x) + 1) ** 2 + 1 / x)),
    (np.exp, np.exp, np.exp),
    (np.log, lambda x: 1 / x, lambda x: -1 / x**2),
    (np.sqrt, lambda x: 0.5 / np.sqrt(x), lambda x: -0.25 * x**-1.5),
    (np.sin, np.cos, lambda x: -np.sin(x)),
    (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)),
    (np.tan, lambda x: 1 / np.cos(x) ** 2, lambda x: 2 * np.tan(x) / np.cos(x) ** 2),
    (np.tanh, lambda x: 1 / np.cosh(x) ** 2, lambda x: -2 * np.tanh(x) / np.cosh(x) ** 2),
    (np.sinh, np.cosh, np.sinh),
    (np.cosh, np.sinh, np.cosh),
    (np.arctan, lambda x: 1 / (1 + x**2), lambda x: -2 * x / (1 + x**2) ** 2),
    (np.expm1, np.exp, np.exp),
    (np.log1p, lambda x: 1 / (1 + x), lambda x: -1 / (1 + x) ** 2),
    (np.square, lambda x: 2 * x, lambda x: 2 + 0 * x),
    (np.reciprocal, lambda x: -1 / x**2, lambda x: 2 / x**3),
    (lambda x: abs(-x) + np.abs(x), lambda x: 2 + 0 * x, lambda x: 0 * x),
    (lambda x: np.maximum(x, 0.5) * np.minimum(1.0, x), None, None),
    (lambda x: -(+x), lambda x: -1 + 0 * x, lambda x: 0 * x),
]


@pytest.mark.parametrize(("f", "first", "second"), FUNCTIONS)
def test_first_and_second_derivatives(f, first, second):
    if first is None:  # x below 1/2: x / 2; between: x^2; above 1: x
        first = lambda x: np.where(x < 0.5, 0.5, np.where(x < 1.0, 2 * x, 1.0))  # noqa: E731
        second = lambda x: np.where(x < 0.5, 0.0, np.where(x < 1.0, 2.0, 0.0))  # noqa: E731
    np.testing.assert_allclose(derivative(f, X), first(X), rtol=4e-15)
    np.testing.assert_allclose(derivative(f, X, order=2), second(X), rtol=1e-13, atol=1e-15)
    assert derivative(f, 0.7) == pytest.approx(float(first(np.float64(0.7))), rel=4e-15)
    assert isinstance(derivative(f, 0.7), float)


def test_third_derivative():
    assert derivative(lambda x: x**5, 2.0, order=3) == pytest.approx(240.0)


def test_arithmetic_with_arrays_numbers_and_lists():
    x = Dual(np.arange(3.0), np.ones(3))
    for product in (np.array([1.0, 2.0, 3.0]) * x, [1.0, 2.0, 3.0] * x, x * [1, 2, 3]):
        np.testing.assert_array_equal(product.value, [0.0, 2.0, 6.0])
        np.testing.assert_array_equal(product.tangent, [1.0, 2.0, 3.0])
    total = np.float64(2.0) - x
    np.testing.assert_array_equal(total.tangent, [-1.0, -1.0, -1.0])
    M = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])
    np.testing.assert_array_equal((M @ x).tangent, [6.0, 1.0])
    np.testing.assert_array_equal((x @ M.T).value, [8.0, 1.0])
    assert (x @ x).tangent == 6.0
    assert np.sum(x).tangent == 3.0
    assert x.mean().tangent == 1.0
    assert [float(part.value) for part in x] == [0.0, 1.0, 2.0]
    assert (np.ones((2, 3)) + x).tangent.shape == (2, 3)
    assert x.reshape(3, 1).T.shape == (1, 3)


def test_comparisons_take_the_branch_of_the_value():
    def f(x):
        return x * x if x > 1.0 else 3.0 * x

    assert derivative(f, 2.0) == 4.0
    assert derivative(f, 0.5) == 3.0
    x = Dual(np.array([1.0, 2.0]), 1.0)
    assert (x >= 2.0).tolist() == [False, True]
    assert (x <= 1.0).tolist() == [True, False]
    assert (x > 1.0).tolist() == [False, True]
    assert (x < 2.0).tolist() == [True, False]
    assert (x == [1.0, 0.0]).tolist() == [True, False]
    assert np.isfinite(x).all()


def test_power_at_zero():
    assert derivative(lambda x: x**2, 0.0) == 0.0
    assert derivative(lambda x: x**1, 0.0) == 1.0
    assert derivative(lambda x: x**0, 0.0) == 0.0


def test_jacobian_of_a_function():
    def f(x):
        return [x[0] * x[1] + np.sin(x[0]), x[1] ** 2, 7.0]

    want = [[3.0 + math.cos(2.0), 2.0], [0.0, 6.0], [0.0, 0.0]]
    np.testing.assert_allclose(jacobian(f, [2.0, 3.0]), want)
    A = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(jacobian(lambda x: A @ x, np.ones(3)), A)
    np.testing.assert_allclose(jacobian(lambda x: np.exp(x).sum(), np.zeros(3)), np.ones(3))


def test_newton():
    assert newton(lambda x: np.cos(x) - x, 1.0) == pytest.approx(0.7390851332151607, rel=1e-15)
    root = newton(lambda x: [x[0] ** 2 + x[1] ** 2 - 4.0, x[0] - x[1]], [1.0, 2.0])
    np.testing.assert_allclose(root, [math.sqrt(2), math.sqrt(2)], rtol=1e-14)


def test_bad_input():
    with pytest.raises(ArithmeticError, match="singular"):
        newton(lambda x: x * x + 1.0, 0.0)
    with pytest.raises(ArithmeticError, match="no root after 50"):
        newton(lambda x: x * x + 1.0, 0.3)
    with pytest.raises(ValueError, match="returns 1"):
        newton(lambda x: x[0], [1.0, 2.0])
    with pytest.raises(TypeError, match=r"np\.floor has no derivative"):
        np.floor(Dual(1.0, 1.0))
    with pytest.raises(TypeError, match="instead of math's"):
        math.exp(Dual(1.0, 1.0))
    with pytest.raises(TypeError, match="real numbers"):
        Dual("1")
    with pytest.raises(TypeError, match="real numbers"):
        Dual(1j)
    with pytest.raises(ValueError, match="does not fit"):
        Dual(1.0, [1.0, 2.0])
    with pytest.raises(ValueError, match="order"):
        derivative(np.exp, 1.0, order=0)
    with pytest.raises(ValueError, match="n numbers"):
        jacobian(lambda x: x, 1.0)
    with pytest.raises(TypeError, match="no length"):
        len(Dual(1.0))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.where(x > 0, x * x, -x),
        lambda x: np.select([x > 0], [x * x]),
        lambda x: np.squeeze(x * x),
        lambda x: np.asarray(x * x),
        lambda x: np.copy(x * x),
        lambda x: np.polyval([1, 0, 0], x),
    ],
)
def test_numbers_that_numpy_wraps_keep_their_derivatives(f):
    assert ad.derivative(f, 3.0) == 6.0


def test_a_choice_is_no_sum_with_weights_of_0():
    """Which an infinite bound would turn into NaN."""
    least = np.minimum(ad.Dual(1.0, 1.0), np.inf)
    assert (least.value, least.tangent) == (1.0, 1.0)
    most = np.maximum(ad.Dual([1.0, 5.0], [1.0, 1.0]), ad.Dual([2.0, 3.0], [7.0, 7.0]))
    assert most.value.tolist() == [2.0, 5.0]
    assert most.tangent.tolist() == [7.0, 1.0]
    assert ad.derivative(lambda x: np.minimum(x * x, np.inf), 3.0, 2) == 2.0


def test_sums_refuse_what_they_would_pass_over():
    x = ad.Dual([1.0, 2.0], [1.0, 3.0])
    for call in (np.sum, np.mean):
        with pytest.raises(TypeError, match="do not take where"):
            call(x, where=np.array([True, False]))
    assert np.sum(x).tangent == 4.0
    assert np.mean(x).tangent == 2.0
    assert np.sum(x, dtype=np.float64).tangent == np.mean(x, dtype=float).tangent * 2.0 == 4.0
    with pytest.raises(TypeError, match="do not take dtype"):
        np.sum(x, dtype=np.float32)


def test_arrays_of_dual_numbers_are_refused():
    with pytest.raises(TypeError, match="arrays of Dual numbers"):
        ad.Dual(1.0, 1.0) * np.array([ad.Dual(1.0, 1.0), 2.0], dtype=object)


def test_derivatives_within_derivatives():
    """Each is by its own variable: the other one is a constant to it."""
    assert derivative(lambda x: x * derivative(lambda y: x + y, 1.0), 1.0) == 1.0
    assert derivative(lambda t: derivative(lambda s: s**3 * t, 2.0), 1.0) == 12.0
    assert derivative(lambda x: derivative(lambda z: z**4 * x, x, order=2), 2.0) == 36.0 * 4.0
    assert derivative(lambda x: derivative(lambda y: y**x, 2.0), 3.0) == pytest.approx(
        4.0 + 12.0 * np.log(2.0)
    )
    np.testing.assert_array_equal(
        jacobian(lambda x: derivative(lambda s: s * s * x[0], 3.0), [1.0, 2.0]), [6.0, 0.0]
    )
    np.testing.assert_array_equal(
        jacobian(lambda x: jacobian(lambda z: z[0] ** 2 * z[1] + z[1] ** 3, x), [1.0, 2.0]), [[4, 2], [2, 12]]
    )
    found = derivative(
        lambda x: x * Dual(2.0, 1.0), 3.0
    )  # a user's own number is a constant too, and stays what it is
    assert (found.value, found.tangent) == (2.0, 1.0)


def test_roots_have_derivatives():
    assert derivative(lambda a: newton(lambda x: x * x - a, 1.0), 2.0) == pytest.approx(0.5 / np.sqrt(2.0))
    found = jacobian(
        lambda a: newton(lambda x: [x[0] ** 2 - a[0], x[1] * a[1] - 1.0], [1.0, 1.0]), [4.0, 2.0]
    )
    np.testing.assert_allclose(found, [[0.25, 0.0], [0.0, -0.25]], atol=1e-15)
    with pytest.raises(TypeError, match="first derivatives only"):
        derivative(lambda a: newton(lambda x: x * x - a, 1.0), 2.0, order=2)


def test_where_chooses_among_dual_numbers():
    np.testing.assert_array_equal(derivative(lambda x: np.where(x > 0, x**2, 0.0), [1.0, -1.0]), [2.0, 0.0])
    np.testing.assert_array_equal(
        jacobian(lambda x: np.where(x[0] > 0, x[0] ** 2, x[1]), [1.0, 2.0]), [2.0, 0.0]
    )
    assert newton(lambda x: np.where(x > 0, x - 1.0, x), 3.0) == 1.0


@pytest.mark.parametrize("answer", [None, "a", [None, 1.0], np.array(["a"])])
def test_functions_that_return_no_numbers_are_told(answer):
    for how in (derivative, lambda f, x: jacobian(f, [x]), newton):
        with pytest.raises(TypeError, match="f must return"):
            how(lambda x: answer, 1.0)


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="cannot have parts of level 1"):
        Dual(Dual(1.0, 1.0), 0.0, level=1)


def test_own_numbers_within_a_derivative_are_of_the_innermost_level():
    assert derivative(lambda s: (Dual(2.0, 1.0) * s).tangent, 3.0) == 1.0
    assert derivative(lambda s: Dual(s * s, 1.0).value, 3.0) == 6.0


def test_values_without_an_end_have_the_derivatives_that_they_have():
    np.testing.assert_array_equal(jacobian(lambda x: [x[0], np.inf], [1.0, 2.0]), [[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(jacobian(lambda x: x[0] if x[0] < 1.0 else np.nan, [2.0, 2.0]), [0.0, 0.0])


def test_what_numpy_has_wrapped_keeps_both_terms():
    found = jacobian(lambda x: np.tensordot(x, x, 1) ** x[0], [2.0, 3.0])
    np.testing.assert_allclose(found, [169.0 * (np.log(13.0) + 8.0 / 13.0), 2.0 * 13.0 * 6.0])


def test_the_derivative_of_a_root_is_taken_at_the_root():
    x = newton(lambda x: x * x - 2.0, 1.0, tol=0.1)
    assert derivative(lambda a: newton(lambda x: x * x - a, 1.0, tol=0.1), 2.0) == pytest.approx(0.5 / x)
    assert newton(lambda x: x * x - 2.0, Dual(1.0, 1.0)) == newton(lambda x: x * x - 2.0, 1.0)


def test_numbers_from_earlier_versions_have_levels():
    nested = Dual(Dual(1.0, 2.0), Dual(3.0, 4.0))
    nested.__setstate__((None, {"value": nested.value, "tangent": nested.tangent}))
    assert nested.level == 2
    assert (nested * nested).tangent.tangent == 2.0 * (1.0 * 4.0 + 2.0 * 3.0)
