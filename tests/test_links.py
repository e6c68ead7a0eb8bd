"""Prior links on their own: terms of the objective, and what maximises them."""

import numpy as np
import pytest
from scipy import optimize

from mixtura import EqualMeans, LinkFunction


@pytest.fixture
def problem(rng):
    K, M, D = 3, 2, 2
    roots = rng.normal(size=(K, D, D))
    return (
        rng.normal(size=(K, M, D)),
        roots @ roots.transpose(0, 2, 1) + np.eye(D),
        rng.normal(size=(K, M, D)),
    )


def test_equal_means_by_definition(problem):
    """``-1/2 sum over pairs``, weighted column by column."""
    w0, _, _ = problem
    a = np.array([0.5, 4.0])
    want = -0.5 * sum(np.sum(a * (w0[k] - w0[j]) ** 2) for k in range(3) for j in range(k))
    assert EqualMeans(a).value(w0) == pytest.approx(want, rel=1e-12)
    assert EqualMeans(0.7).value(w0) == pytest.approx(EqualMeans([0.7, 0.7]).value(w0), rel=1e-12)
    assert EqualMeans(2.0).value(np.ones((3, 1, 2))) == 0.0


@pytest.mark.parametrize("strength", [0.0, 0.3, [0.0, 5.0], 1e8])
def test_equal_means_are_where_the_objective_is_largest(strength, problem):
    w0, P, W = problem
    link = EqualMeans(strength)
    found = link.maximize(w0, P, W)

    def loss(flat):
        away = flat.reshape(W.shape) - W
        return 0.5 * np.einsum("kmd,kde,kme->", away, P, away) - link.value(flat.reshape(W.shape))

    at = loss(found.ravel())
    for direction in np.random.default_rng(0).normal(size=(20, W.size)):
        assert loss(found.ravel() + 1e-3 * direction) > at
    if strength == 0.0:
        np.testing.assert_allclose(found, W, rtol=1e-12)
    if strength == 1e8:
        np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize("strength", [-1.0, np.nan, np.inf, [1.0, 2.0, 3.0]])
def test_strengths_that_are_none(strength, problem):
    w0, _, _ = problem
    with pytest.raises(ValueError, match="must be finite and not negative"):
        EqualMeans(strength).value(w0)


def test_link_functions_are_maximised(problem):
    pytest.importorskip("torch")
    w0, P, W = problem
    link = LinkFunction(lambda w: -((w - 1.0) ** 4).sum())
    assert link.value(w0) == pytest.approx(-np.sum((w0 - 1.0) ** 4), rel=1e-12)

    def loss(flat):
        away = flat.reshape(W.shape) - W
        return 0.5 * np.einsum("kmd,kde,kme->", away, P, away) + np.sum((flat - 1.0) ** 4)

    found = link.maximize(w0, P, W)
    best = optimize.minimize(loss, w0.ravel(), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(found.ravel(), best.x, atol=1e-5)
    assert loss(found.ravel()) <= loss(w0.ravel())


def test_link_functions_of_one_target_are_given_a_matrix():
    torch = pytest.importorskip("torch")
    seen = []

    def shrink(w):
        seen.append(tuple(w.shape))
        return -(w**2).sum()

    LinkFunction(shrink).value(np.ones((3, 1, 2)))
    LinkFunction(shrink).value(np.ones((3, 4, 2)))
    assert seen == [(3, 2), (3, 4, 2)]
    assert torch is not None


@pytest.mark.parametrize(
    ("R", "says"),
    [
        (lambda w: w, "must give one number as a torch tensor"),
        (lambda w: 1.0, "it gave float"),
        (lambda w: (w**2).sum().detach(), "does not depend on the prior means"),
        (lambda w: w.sum() * (1 + 2j), "does not depend on the prior means"),
    ],
)
def test_link_functions_that_are_none(R, says):
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=says):
        LinkFunction(R).value(np.ones((2, 1, 2)))


def test_link_functions_without_a_maximum():
    torch = pytest.importorskip("torch")
    w = np.ones((2, 1, 2))
    P = np.stack([np.eye(2)] * 2)
    with pytest.raises(ValueError, match="grows without bound"):
        LinkFunction(lambda w: (w**2).sum()).maximize(w, P, w)
    with pytest.raises(ValueError, match=r"R is -?inf at the prior means"):
        LinkFunction(lambda w: torch.log(0.0 * w.sum())).maximize(w, P, w)
    with pytest.raises(TypeError, match="R must be a function"):
        LinkFunction("tanh")
