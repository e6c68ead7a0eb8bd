"""Least squares from moments: the compiled solution beside NumPy's, and both beside the rows' own."""

from dataclasses import replace

import numpy as np
import pytest

from mixtura.components import normal_equations
from mixtura.components.linear import LinearExpert, LinearExperts, Priors
from mixtura.components.normal_equations import Scatters, least_squares_each
from mixtura.moments import Moments, all_finite
from mixtura.quadratics import Quadratics
from mixtura.threads import allow
from mixtura.triangles import pack_symmetric

EPS = float(np.finfo(np.float64).eps)


def moments_of(Z, resp, pivot):
    """Moments of kind 'full' about one pivot, or about one for each component."""
    pivots = np.broadcast_to(pivot, (resp.shape[1], Z.shape[1]))
    firsts = np.stack([r @ (Z - p) for r, p in zip(resp.T, pivots, strict=True)])
    seconds = np.stack([((Z - p) * r[:, None]).T @ (Z - p) for r, p in zip(resp.T, pivots, strict=True)])
    return Moments("full", np.asarray(pivot), resp.sum(axis=0), firsts, pack_symmetric(seconds), 0.0, len(Z))


def problem(rng, N, D, M, K):
    x = rng.normal(size=(N, D)) * 10.0 ** rng.uniform(-3, 3, size=D) + rng.normal(size=D)
    y = x @ rng.normal(size=(D, M)) + rng.normal(size=(N, M))
    return np.hstack([x, y]), rng.dirichlet(np.ones(K), size=N)


@pytest.fixture(params=["compiled", "numpy"])
def either(request, require, monkeypatch):
    """With the compiled kernels and without."""
    if request.param == "numpy":
        monkeypatch.setattr(normal_equations, "native", None)
    else:
        require("native")


@pytest.mark.parametrize(("D", "M", "K"), [(1, 1, 1), (2, 1, 2), (3, 2, 4), (32, 3, 5), (33, 1, 2)])
@pytest.mark.parametrize("own", [False, True])
def test_slopes_are_those_of_the_rows(D, M, K, own, either, rng):
    Z, resp = problem(rng, 400, D, M, K)
    pivot = rng.normal(size=(K, D + M)) if own else rng.normal(size=D + M)
    s = Scatters.of(moments_of(Z, resp, pivot), D, True)
    solved = least_squares_each(s.xx / s.mass[:, None, None], s.xy / s.mass[:, None, None])
    assert not solved.dependent.any()
    assert not solved.delicate.any()
    for k, r in enumerate(resp.T):
        mean = r @ Z / r.sum()
        root = np.sqrt(r)[:, None]
        x, y = root * (Z[:, :D] - mean[:D]), root * (Z[:, D:] - mean[D:])
        spread = np.sqrt((x**2).sum(axis=0))
        want = np.linalg.lstsq(x / spread, y, rcond=None)[0]
        # Sums of squares square the condition of standardised columns, here below 100, and the pivot costs digits
        # in proportion to its squared distance in spreads, here below 1e8.
        scale = np.abs(want).max(axis=0)
        assert (np.abs(solved.slopes[k].T * spread[:, None] - want) / scale).max() < 1e8 * 100 * EPS
        np.testing.assert_allclose(s.x[k], mean[:D], rtol=1e-12)
        np.testing.assert_allclose(s.y[k], mean[D:], rtol=1e-10)
        left = ((y - (x / spread) @ want) ** 2).sum(axis=0) / r.sum()
        np.testing.assert_allclose(s.yy[k] / s.mass[k] - solved.explained[k], left, rtol=1e-4)
        assert (solved.spoilt[k] <= 1e-20 * np.maximum(solved.explained[k], 1e-300)).all()
        inverse = solved.inverse[k] * np.outer(spread, spread) / r.sum()
        np.testing.assert_allclose(
            inverse, np.linalg.inv((x / spread).T @ (x / spread)), rtol=1e-4, atol=1e-4
        )


def test_compiled_and_numpy_agree(require, monkeypatch, rng):
    """To a few units of the last digit, times the condition."""
    require("native")
    Z, resp = problem(rng, 300, 5, 2, 3)
    moments = moments_of(Z, resp, Z.mean(axis=0))

    def both():
        s = Scatters.of(moments, 5, True)
        return s, least_squares_each(s.xx, s.xy)

    compiled = both()
    monkeypatch.setattr(normal_equations, "native", None)
    for mine, numpys in zip(compiled, both(), strict=True):
        for name, value in vars(numpys).items():
            got = getattr(mine, name)
            assert got.shape == value.shape, name
            size = np.abs(value).max(axis=tuple(range(1, value.ndim)), keepdims=True) + 0.0
            rooms = 1e4 * EPS * size if name != "spoilt" else 1e-6 * size
            assert (np.abs(got.astype(float) - value) <= rooms).all(), name


@pytest.mark.parametrize("share", [1e-24, 1e-18])
def test_columns_constant_among_an_experts_rows_have_no_slope(share, either, rng):
    """A variance below 1e-20 of the table's is set to 0, with all that the column has in common with others."""
    x = rng.normal(size=(100, 2))
    resp = np.zeros((100, 2))
    resp[:50, 0] = resp[50:, 1] = 1.0
    x[:50, 1] *= np.sqrt(share)
    Z = np.hstack([x, x @ [[1.0], [1.0]]])
    pivot = np.stack([Z[:50].mean(axis=0), Z[50:].mean(axis=0)])
    s = Scatters.of(moments_of(Z, resp, pivot), 2, True)
    constant = share < 1e-20
    assert (s.xx[0, 1, 1] == 0.0) == constant
    assert (s.xx[0, 0, 1] == s.xy[0, 1, 0] == 0.0) == constant
    assert s.xx[1, 1, 1] > 0.0
    assert s.xx[0, 0, 0] > 0.0
    solved = least_squares_each(s.xx, s.xy)
    assert solved.dependent.tolist() == [constant, False]


def test_columns_that_nearly_depend_are_told(either, rng):
    """Slopes along eigenvalues below 1e-7 lose digits, and copies of columns have no one solution."""
    x = rng.normal(size=(200, 3))
    resp = np.ones((200, 1))
    for closeness, dependent, delicate in ((1.0, False, False), (1e-5, False, True), (0.0, True, False)):
        z = x.copy()
        z[:, 2] = z[:, 1] + closeness * x[:, 2]
        Z = np.hstack([z, z.sum(axis=1, keepdims=True)])
        s = Scatters.of(moments_of(Z, resp, Z.mean(axis=0)), 3, True)
        solved = least_squares_each(s.xx, s.xy)
        assert (bool(solved.dependent[0]), bool(solved.delicate[0])) == (dependent, delicate)


def test_no_weight_gives_zero_sums(either):
    moments = moments_of(np.ones((4, 3)), np.array([[1.0, 0.0]] * 4), np.ones(3))
    s = Scatters.of(moments, 2, True)
    assert not s.xx.any()
    assert not s.xy.any()
    assert s.x.tolist() == [[1.0, 1.0]] * 2
    assert least_squares_each(s.xx, s.xy).slopes.tolist() == [[[0.0, 0.0]]] * 2


def experts_of(rng, D, M, K, shared=False, floor=1e-8):
    """Experts whose M-step has intercepts and no priors."""
    y = rng.normal(size=(50, M))
    priors = Priors.of([LinearExpert()] * K, M, D, False, None)
    return LinearExperts.start(priors, True, shared, np.full(M, floor), y.var(axis=0))


EXPERTS = [(1, 1, 1), (2, 1, 2), (3, 2, 4), (32, 3, 5)]


@pytest.mark.parametrize(("D", "M", "K"), EXPERTS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_an_m_step_in_one_call_is_that_of_its_parts(D, M, K, shared, own, require, monkeypatch, rng):
    require("native")
    Z, resp = problem(rng, 300, D, M, K)
    if K > 2:
        resp[:, 1] = 0.0  # an expert without rows
        Z[:, D] = Z[:, :D] @ rng.normal(size=D)  # a target that regressions meet exactly
    moments = moments_of(Z, resp, rng.normal(size=(K, D + M)) if own else rng.normal(size=D + M))
    experts = experts_of(rng, D, M, K, shared)
    found = experts.fitted(moments)
    monkeypatch.setattr(LinearExperts, "_fitted_in_one", lambda self, moments: None)
    want = experts.fitted(moments)
    for name in ("empty", "delicate", "dependent"):
        np.testing.assert_array_equal(getattr(found, name), getattr(want, name))
    for name in ("anchor", "level", "slopes", "posterior", "noise", "roots"):
        expected = getattr(want, name)
        # The same sums in another order: a few roundings, magnified by the condition, here below 100.
        np.testing.assert_allclose(
            getattr(found, name), expected, rtol=1e-8, atol=1e-12 * np.abs(expected).max()
        )
    if K > 2:
        assert found.empty.tolist() == [False, True] + [False] * (K - 2)
        assert found.delicate[0]


@pytest.mark.parametrize(("D", "M", "K"), EXPERTS)
def test_quadratics_in_one_call_are_those_of_their_parts(D, M, K, require, rng):
    require("native")
    experts = experts_of(rng, D, M, K)
    experts = replace(
        experts,
        slopes=rng.normal(size=(K, M, D)),
        noise=rng.uniform(0.1, 2.0, size=(K, M)),
        level=rng.normal(size=(K, M)),
    )
    found = experts.quadratics
    with allow(None, False, D):
        want = experts.quadratics
    np.testing.assert_array_equal(found.factors, want.factors)
    np.testing.assert_array_equal(found.means, want.means)
    np.testing.assert_allclose(found.offsets, want.offsets, rtol=4 * M * EPS, atol=4 * M * EPS)


@pytest.mark.parametrize("form", ["scalar", "diagonal", "triangle", "rectangle"])
@pytest.mark.parametrize("shared", [False, True])
def test_components_far_from_a_point(form, shared, require, rng):
    require("native")
    K, D = 5, 3
    shapes = {"scalar": (K,), "diagonal": (K, D), "triangle": (K, D, D), "rectangle": (K, 2, D)}
    factors = rng.normal(size=shapes[form])[: 1 if shared else K]
    if form == "triangle":
        factors = np.tril(factors)
    quadratics = Quadratics(form, np.zeros(K), rng.normal(size=(K, D)), factors)
    point = rng.normal(size=D)
    lengths = quadratics.lengths(quadratics.means - point)
    distances = np.sum((quadratics.means - point) ** 2, axis=1)
    for k in range(K):
        for limits in ((0.99, 0.99), (1.01, 0.99), (0.99, 1.01)):
            asked = point, limits[0] * lengths[k], limits[1] * distances[k]
            with allow(None, False, D):
                want = quadratics.any_far(*asked)
            assert quadratics.any_far(*asked) == want
            assert want == bool(np.any((lengths > asked[1]) & (distances > asked[2])))


def test_all_finite(require, rng):
    require("native")
    numbers = rng.normal(size=(3, 4))
    assert all_finite(numbers, np.full(3, 1e308), np.zeros(0))
    for bad in (np.nan, np.inf, -np.inf):
        numbers[2, 3] = bad
        assert not all_finite(np.ones(2), numbers)
        assert not all_finite(numbers.T)
