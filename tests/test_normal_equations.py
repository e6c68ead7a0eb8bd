"""Least squares from moments: the compiled solution beside NumPy's, and both beside the rows' own."""

import numpy as np
import pytest

from mixtura.components import normal_equations
from mixtura.components.normal_equations import Scatters, least_squares_each
from mixtura.moments import Moments
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
