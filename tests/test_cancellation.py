"""When moments about the common pivot would lose a component's variance, and what is done then."""

from dataclasses import replace

import numpy as np
import pytest

from mixtura import backends
from mixtura.cancellation import LOST, Predicted, refined
from mixtura.joint import Joint
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
from mixtura.table import Table

EPS = np.finfo(np.float64).eps
REFERENCE = backends.create("reference")
MEANS = np.array([[1.0, 1.0], [4.0, 3.0]])
PIVOT = np.array([1.0, -1.0])


def joint(form, factors, **how):
    return Joint(Quadratics(form, np.zeros(2), MEANS, factors), np.zeros(2), **how)


def test_distances_from_the_pivot_in_spreads():
    """``|F_k (m_k - p)|^2`` for each kind of factor, (0, 2) and (3, 4) beside the pivot."""
    triangles = np.array([[[1.0, 0.0], [0.5, 2.0]], [[3.0, 0.0], [-1.0, 1.0]]])
    for form, factors, want in (
        ("scalar", np.array([2.0, 3.0]), [16.0, 225.0]),
        ("diagonal", np.array([[1.0, 3.0], [2.0, 1.0]]), [36.0, 52.0]),
        ("triangle", triangles, [16.0, 82.0]),
    ):
        found = Predicted.of(joint(form, factors), PIVOT)
        np.testing.assert_allclose(found.squares, want)
        np.testing.assert_allclose(found.lengths, [4.0, 25.0])
    assert Predicted.of(joint("scalar", np.ones(2), hard=True), PIVOT) is None
    by_row = replace(joint("scalar", np.ones(2)), log_weights=np.zeros((5, 2)))
    assert (Predicted.of(by_row, PIVOT) is None) == bool(by_row.held)


def test_what_is_lost_and_what_is_calm():
    most = LOST / EPS
    near = Predicted(np.array([1.0, 0.99 * most]), np.array([1.0, 1.0]))
    assert not near.lost(0.0)
    far = Predicted(np.array([1.0, 1.01 * most]), np.array([1.0, 1.0]))
    assert far.lost(0.0)
    assert not far.lost(1.01 / most)  # no digit of so small a variance matters
    assert far.lost(0.99 / most)
    assert near.lost(0.0, permitted=0.9 * LOST)
    np.testing.assert_array_equal(near.calm(), [True, False])
    edge = Predicted(most * np.array([0.99e-4, 1.01e-4]), np.ones(2))
    np.testing.assert_array_equal(edge.calm(), [True, False])
    np.testing.assert_array_equal(edge.calm(permitted=0.5 * LOST), [False, False])
    # Sums in single precision permit a loss of 1e-3, in units of their own.
    single = float(np.finfo(np.float32).eps)
    np.testing.assert_array_equal(Predicted(np.array([0.8, 0.9]), np.ones(2)).calm(single), [True, False])


@pytest.fixture
def flat(rng):
    """Rows along a diagonal a million times longer than they are wide, far from the pivot."""
    along, across = rng.normal(size=500), 1e-7 * rng.normal(size=500)
    return np.column_stack([along + across, along - across]) + 1e3


def test_a_component_is_looked_at_closely_unless_it_is_calm(flat):
    """Only the matrix tells that the variance across is lost: the columns have theirs."""
    table = Table.of(REFERENCE, flat)
    about = Moments.of(flat, "full", pivot=np.zeros(2))
    asked = []

    def each(pivots, wanted, kind):
        asked.append(wanted)
        return Moments.of(flat, kind, pivot=pivots[0])

    across = np.array([1.0, -1.0]) / np.sqrt(2.0)
    exact = across @ np.cov(flat.T, bias=True) @ across
    better = refined(about, each)
    assert [w.tolist() for w in asked] == [[True]]
    assert across @ better.covariances()[0] @ across == pytest.approx(exact, rel=1e-3)
    calm = Predicted(np.array([1e3]), np.array([2e6]))
    assert refined(about, each, predicted=calm) is about
    assert refined(about, each, predicted=replace(calm, squares=np.array([1e6]))) is not about
    assert refined(about, each, closely=False) is about
    # A pass finds out from what it evaluates that the component is not calm.
    root = np.linalg.inv(np.linalg.cholesky(np.cov(flat.T)))
    narrow = Quadratics("triangle", np.zeros(1), flat.mean(axis=0)[None], root[None])
    away = replace(table, pivot=np.zeros(2))
    found = away.expect(Joint(narrow, np.zeros(1)), "full")
    assert across @ found.covariances()[0] @ across == pytest.approx(exact, rel=1e-3)


def test_columns_are_looked_at_in_any_case(rng):
    """A variance that falls from 1 to 1e-14 in one iteration is taken again, calm or not."""
    X = 1e-7 * rng.normal(size=(500, 2)) + [3.0, 5.0]
    table = replace(Table.of(REFERENCE, X), pivot=np.zeros(2))
    wide = Joint(Quadratics("triangle", np.zeros(1), np.array([[3.0, 5.0]]), np.eye(2)[None]), np.zeros(1))
    assert Predicted.of(wide, table.pivot).calm().all()
    found = table.expect(wide, "full")
    np.testing.assert_allclose(found.covariances()[0], np.cov(X.T, bias=True), rtol=1e-5)
