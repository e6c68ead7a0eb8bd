"""When moments about the common pivot would lose a component's variance, and what is done then."""

from dataclasses import replace

import numpy as np
import pytest

from mixtura import GaussianMixture, backends
from mixtura.cancellation import LOST, is_far, refined
from mixtura.joint import Joint
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
from mixtura.table import Table

EPS = np.finfo(np.float64).eps
REFERENCE = backends.create("reference")
PIVOT = np.array([1.0, -1.0])
ACROSS = np.array([1.0, -1.0]) / np.sqrt(2.0)


def joint(form, factors, **how):
    means = np.array([[1.0, 1.0], [4.0, 3.0]])
    return Joint(Quadratics(form, np.zeros(2), means, factors), np.zeros(2), **how)


@pytest.mark.parametrize(
    ("form", "factors", "farthest"),
    [
        ("scalar", np.array([2.0, 3.0]), 225.0),
        ("diagonal", np.array([[1.0, 3.0], [2.0, 1.0]]), 52.0),
        ("triangle", np.array([[[1.0, 0.0], [0.5, 2.0]], [[3.0, 0.0], [-1.0, 1.0]]]), 82.0),
    ],
)
def test_far_is_a_matter_of_spreads(form, factors, farthest):
    """``|F_k (m_k - p)|^2`` for each kind of factor, (0, 2) and (3, 4) beside the pivot."""
    most = farthest * EPS
    assert is_far(joint(form, factors), PIVOT, 0.0, 0.999 * most)
    assert not is_far(joint(form, factors), PIVOT, 0.0, 1.001 * most)
    # No digit matters of a variance below the floor: the second mean lies at a squared distance of 25.
    assert is_far(joint(form, factors), PIVOT, 0.999 * 25.0 / (0.999 * farthest), 0.999 * most)
    assert not is_far(joint(form, factors), PIVOT, 1.001 * 25.0 / (0.999 * farthest), 0.999 * most)
    assert not is_far(joint(form, factors, hard=True), PIVOT, 0.0, 0.0)


def along_a_diagonal(rng, offset, thin):
    """Rows along a diagonal, of spread 1 along and ``thin`` across, some way out along it."""
    along, across = rng.normal(size=500), thin * rng.normal(size=500)
    return np.column_stack([along + across, along - across]) + offset


@pytest.mark.parametrize("offset", [30.0, 1e2, 3e2, 1e3])
def test_a_thin_component_keeps_its_variance_wherever_it_lies(offset, rng):
    """Only the matrix tells that the variance across is lost: columns have theirs, and the mean is near along it."""
    X = along_a_diagonal(rng, offset, 1e-6)
    exact = ACROSS @ np.cov(X.T, bias=True) @ ACROSS
    asked = []

    def each(pivots, wanted, kind):
        asked.append(wanted.tolist())
        return Moments.of(X, kind, pivot=pivots[0])

    about = Moments.of(X, "full", pivot=np.zeros(2))
    better = refined(about, each)
    assert asked == [[True]]
    assert ACROSS @ better.covariances()[0] @ ACROSS == pytest.approx(exact, rel=1e-3)
    assert refined(about, each, closely=False) is about
    for factor in (np.linalg.inv(np.linalg.cholesky(np.cov(X.T))), np.eye(2)):
        quadratics = Quadratics("triangle", np.zeros(1), X.mean(axis=0)[None], factor[None])
        table = replace(Table.of(REFERENCE, X), pivot=np.zeros(2))
        found = table.expect(Joint(quadratics, np.zeros(1)), "full")
        assert ACROSS @ found.covariances()[0] @ ACROSS == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("backend", ["native", "reference", "numba"])
def test_two_thin_clusters_in_line(backend, require, rng):
    require(backend)
    t = rng.normal(size=(1000, 1))
    X = np.hstack([t, t + 1e-6 * rng.normal(size=(1000, 1))])
    X[:500] -= 100.0
    X[500:] += 100.0
    gm = GaussianMixture(2, random_state=0, reg_covar=0.0, backend=backend).fit(X)
    order = np.argsort(gm.means_[:, 0])
    for k, rows in zip(order, (X[:500], X[500:]), strict=True):
        exact = ACROSS @ np.cov(rows.T, bias=True) @ ACROSS
        assert ACROSS @ gm.covariances_[k] @ ACROSS == pytest.approx(exact, rel=2e-2)


def test_a_bound_will_do_up_to_the_limit(rng):
    """The factor is the same where it is above the limit, and not below the truth where it is not."""
    X = rng.normal(size=(2000, 20)) @ (np.eye(20) + 0.2) + 8.0
    about = Moments.of(X, "full", pivot=np.zeros(20))
    exact = about.cancellation()[0]
    bound = about.cancellation(most=1e3 * exact)[0]
    values = np.linalg.eigvalsh(np.corrcoef(X.T))
    ratio = float(np.sum(X.mean(axis=0) ** 2 / X.var(axis=0)))
    assert bound >= ratio / values[0] * (1.0 - 1e-9)
    assert bound != exact
    assert about.cancellation(most=0.5 * ratio / values[0])[0] == pytest.approx(exact)
    assert about.cancellation(closely=False)[0] < exact
    assert exact < LOST / EPS
