"""A table on its own: blocks, parts, passes; and the mixture's steps on one."""

import numpy as np
import pytest

from mixtura import backends
from mixtura import table as tables
from mixtura.components.centers import Centers
from mixtura.components.covariances import COVARIANCES
from mixtura.components.estimation import Estimation
from mixtura.components.gaussian import Gaussians
from mixtura.gates import ConstantGate, SparseGate
from mixtura.gates.equal import EqualGate
from mixtura.joint import Joint
from mixtura.mixture import Mixture
from mixtura.moments import Moments
from mixtura.quadratics import Quadratics
from mixtura.table import Table

REFERENCE = backends.create("reference")


@pytest.fixture
def rows(rng):
    X = np.array([1e3, 0.0, -5.0]) + rng.normal(size=(500, 3))
    return X, rng.normal(size=(500, 2)), rng.integers(0, 3, 500) * 0.5


@pytest.fixture
def table(rows):
    X, y, weights = rows
    return Table.of(REFERENCE, X, weights, y)


def test_what_a_table_knows(rows, table):
    X, y, weights = rows
    assert len(table) == 500
    assert table.tally.rows == 0
    assert (table.dims, table.covariates, table.targets) == (5, 3, 2)
    assert table.total_weight == weights.sum()
    np.testing.assert_array_equal(table.weight, weights)
    np.testing.assert_array_equal(table.counted, np.flatnonzero(weights))
    np.testing.assert_array_equal(table.x, X)
    np.testing.assert_array_equal(table.y, y)
    np.testing.assert_array_equal(table.points(np.array([7, 3])), np.hstack([X, y])[[7, 3]])
    assert not table.single
    plain = Table.of(REFERENCE, X.astype(np.float32))
    assert (plain.dims, plain.covariates, plain.targets) == (3, 3, 0)
    assert plain.single
    assert plain.counted is None
    assert plain.total_weight == 500.0
    np.testing.assert_array_equal(plain.weight, np.ones(500))
    assert plain.points(np.array([1])).dtype == np.float64


def test_weights_without_a_zero_count_all_rows(rows):
    assert Table.of(REFERENCE, rows[0], np.full(500, 0.5)).counted is None


def test_the_pivot_lies_inside_the_rows_that_count(rng):
    X = rng.normal(size=(20_000, 2)) + 50.0
    weights = np.ones(20_000)
    X[::2], weights[::2] = -1e9, 0.0
    for M in (0, 1):
        pivot = Table.of(REFERENCE, X, weights, X[:, :M] if M else None).pivot
        assert pivot.shape == (2 + M,)
        assert np.all((pivot > 45.0) & (pivot < 55.0))
    third = np.full((100, 1), 1.0 / 3.0)
    assert Table.of(REFERENCE, third).pivot[0] == 1.0 / 3.0
    huge = np.full((5000, 1), 1e308)
    assert Table.of(REFERENCE, huge).pivot[0] == 1e308


def test_blocks_are_views_whose_bounds_depend_on_shapes_alone(table, monkeypatch):
    assert [len(b) for b in table.blocks(0)] == [500]
    assert next(iter(table.blocks(0))) is table
    monkeypatch.setattr(tables, "_HELD", 2048)
    assert next(iter(table.blocks(1))) is table  # 1024 rows or more a block
    long = Table.of(REFERENCE, np.arange(5000.0)[:, None], np.arange(5000.0), np.arange(5000.0)[:, None])
    for held, size in ((1, 2048), (2, 1024), (50, 1024)):
        blocks = list(long.blocks(held))
        assert [len(b) for b in blocks[:-1]] == [size] * (len(blocks) - 1)
        assert sum(len(b) for b in blocks) == 5000
        for b in blocks:
            np.testing.assert_array_equal(b.x[:, 0], np.arange(b.cut.start, b.cut.stop))
            np.testing.assert_array_equal(b.y[:, 0], b.x[:, 0])
            np.testing.assert_array_equal(b.sample_weight, b.x[:, 0])
            np.testing.assert_array_equal(b.pivot, long.pivot)
    inner = long.block(1000, 3000).block(500, 600)
    assert inner.cut == slice(1500, 1600)
    np.testing.assert_array_equal(inner.x[:, 0], np.arange(1500, 1600))


def test_parts_of_a_table(rows, table):
    X, y, weights = rows
    some = np.array([3, 1, 4, 1, 5])
    part = table.take(some)
    np.testing.assert_array_equal(part.x, X[some])
    np.testing.assert_array_equal(part.y, y[some])
    np.testing.assert_array_equal(part.sample_weight, weights[some])
    np.testing.assert_array_equal(part.pivot, table.pivot)
    center, scale = np.arange(5.0), np.arange(1.0, 6.0)
    for indices in (some, None):
        part = table.standardized(center, scale, indices)
        which = slice(None) if indices is None else indices
        np.testing.assert_allclose(part.x, (np.hstack([X, y])[which] - center) / scale)
        np.testing.assert_array_equal(part.sample_weight, weights[which])


def test_order_is_that_of_values(rng):
    X = rng.integers(0, 3, size=(200, 3)).astype(float)
    shuffled = rng.permutation(200)
    a, b = Table.of(REFERENCE, X), Table.of(REFERENCE, X[shuffled])
    np.testing.assert_array_equal(X[a.order()], X[shuffled][b.order()])
    ordered = X[a.order()]
    assert np.all(np.diff(ordered[:, 0]) >= 0)
    changes = np.any(ordered[1:] != ordered[:-1], axis=1)
    assert changes.sum() + 1 == len(np.unique(X, axis=0))  # equal rows stand together
    distinct = rng.normal(size=(50, 2))
    np.testing.assert_array_equal(Table.of(REFERENCE, distinct).order(), np.argsort(distinct[:, 0]))


def definition(table, resp, kind):
    z = np.hstack([table.x, table.y]) if table.targets else table.x
    return Moments.of(z, kind, resp=resp, pivot=table.pivot, sample_weight=table.sample_weight)


@pytest.mark.parametrize("kind", ["mass", "mean", "trace", "diagonal", "full", "shared"])
def test_passes_by_definition(kind, table, rng, monkeypatch):
    """Moments of given responsibilities, and of those that densities give, from one block or several."""
    resp = rng.dirichlet(np.ones(4), 500)
    q = Quadratics("scalar", rng.normal(size=4), table.points(np.arange(4)), np.full(4, 0.4))
    joint = Joint(q, np.log(rng.dirichlet(np.ones(4))))
    found = table.log_joint(joint)
    density = np.logaddexp.reduce(found, axis=1)
    for size in (1 << 20, 1024):
        monkeypatch.setattr(tables, "_HELD", size)
        got = table.accumulate(lambda block: resp[block.cut], 4, kind)
        want = definition(table, resp, kind)
        for part in ("mass", "first", "second"):
            np.testing.assert_allclose(getattr(got, part), getattr(want, part), rtol=1e-9, atol=1e-9)
        got = table.expect(joint, kind)
        want = definition(table, np.exp(found - density[:, None]), kind)
        for part in ("mass", "first", "second"):
            np.testing.assert_allclose(getattr(got, part), getattr(want, part), rtol=1e-9, atol=1e-9)
        assert got.log_likelihood == pytest.approx(density @ table.weight, rel=1e-12)
    np.testing.assert_allclose(table.posterior(joint), density, rtol=1e-12)
    labels, best = table.assign(joint)
    np.testing.assert_array_equal(labels, found.argmax(axis=1))
    np.testing.assert_allclose(best, found.max(axis=1), rtol=1e-12)
    all_resp, total = table.responsibilities(joint)
    counted = table.counted
    np.testing.assert_allclose(all_resp[counted], np.exp(found - density[:, None])[counted], rtol=1e-12)
    assert total == pytest.approx(density @ table.weight, rel=1e-12)
    plain = Table.of(REFERENCE, table.points(np.arange(500)))
    assert plain.responsibilities(joint)[1] == pytest.approx(density.sum(), rel=1e-12)


def test_rows_of_weight_0_have_responsibilities_all_the_same(table):
    q = Quadratics("scalar", np.zeros(2), table.points(np.arange(2)), np.full(2, 1e200))
    resp, total = table.responsibilities(Joint(q, np.zeros(2)))
    nothing = table.weight == 0.0
    np.testing.assert_array_equal(resp[nothing], 0.5)
    assert total == -np.inf or np.isnan(total)  # those that count are out of reach, and it is said so


@pytest.mark.parametrize("backend", ["reference", "native", "numba"])
def test_far_components_keep_their_digits(require, backend, rng):
    """Clusters of spread 1e-4 over a range of 1e5, soft, hard and given: variances to eight digits."""
    centers = np.array([[0.0, 0.0], [1e5, 0.0], [0.0, 1e5]])
    labels = rng.integers(0, 3, 900)
    X = centers[labels] + 1e-4 * rng.normal(size=(900, 2))
    table = Table.of(require(backend), X)
    want = np.stack([np.cov((X[labels == k] - centers[k]).T, ddof=0) for k in range(3)])
    q = Quadratics("scalar", np.zeros(3), centers, np.full(3, 1e3))
    one_hot = np.eye(3)[labels]
    for got in (
        table.expect(Joint(q, np.zeros(3)), "full"),
        table.expect(Centers(centers).joint, "full"),
        table.accumulate(lambda block: one_hot[block.cut], 3, "full"),
    ):
        np.testing.assert_allclose(got.covariances(), want, rtol=1e-6, atol=1e-16)
    pooled = np.einsum("k,kde->de", np.bincount(labels), want) / 900
    shared = table.expect(Joint(q, np.zeros(3)), "shared")
    np.testing.assert_allclose(shared.covariances(), pooled, rtol=1e-6, atol=1e-16)
    np.testing.assert_allclose(
        table.expect(Joint(q, np.zeros(3)), "diagonal").covariances(),
        np.diagonal(want, axis1=1, axis2=2),
        rtol=1e-6,
    )
    # Beside a floor that is larger than the spread no digit matters: one pass will do.
    about_one_pivot = table.expect(Joint(q, np.zeros(3)), "full", floor=1e4)
    assert about_one_pivot.pivot.ndim == 1


def test_moments_of_residuals_by_definition(rows):
    X, y, weights = rows
    table, resp = Table.of(REFERENCE, X, weights, y), np.random.default_rng(0).dirichlet(np.ones(3), 500)
    slopes, pivots = (
        np.random.default_rng(1).normal(size=(3, 2, 3)),
        np.tile(np.append(X[0], [0.0, 0.0]), (3, 1)),
    )
    found = table.accumulate_residuals(lambda b: resp[b.cut], [2, 0], pivots, lambda k, x: x @ slopes[k].T)
    for k, got in zip((2, 0), found, strict=True):
        z = np.hstack([X, y - X @ slopes[k].T])
        want = Moments.of(z, "full", resp=resp[:, [k]], pivot=pivots[k], sample_weight=weights)
        np.testing.assert_allclose(got.second, want.second, rtol=1e-10, atol=1e-8)


def test_columns_have_means_and_spreads(rows, table):
    X, y, weights = rows
    z = np.hstack([X, y])
    mean, spread = table.column_spread()
    want = np.average(z, axis=0, weights=weights)
    np.testing.assert_allclose(mean, want, rtol=1e-12)
    np.testing.assert_allclose(
        spread, np.sqrt(np.average((z - want) ** 2, axis=0, weights=weights)), rtol=1e-9
    )


# ------------------------------------------------------------------ the mixture's steps


def gaussians(table, K, rng, kind="full"):
    resp = rng.dirichlet(np.ones(K), len(table))
    return Gaussians.from_moments(
        COVARIANCES[kind], table.accumulate(lambda b: resp[b.cut], K, kind), Estimation(1e-6)
    )


def test_steps_of_a_mixture(rows, rng):
    table = Table.of(REFERENCE, rows[0], rows[2])
    mixture = Mixture(ConstantGate(weights=np.array([0.2, 0.3, 0.5])), gaussians(table, 3, rng))
    found = mixture.expect(table)
    density = np.logaddexp.reduce(table.log_joint(mixture.joint), axis=1)
    assert found.objective == pytest.approx(density @ table.weight, rel=1e-12)
    assert found.is_finite()
    assert found.of_covariates is found.moments
    after = mixture.maximize(found)
    assert after.expect(table).objective > found.objective
    np.testing.assert_allclose(after.gate.weights, found.moments.mass / found.moments.mass.sum(), rtol=1e-12)
    block = table.block(100, 140)
    want = np.exp(table.log_joint(mixture.joint) - density[:, None])[100:140]
    np.testing.assert_allclose(found.weighted_with(block), want, rtol=1e-10)


def test_a_stochastic_step_gives_each_row_to_one_component(rows, rng):
    table = Table.of(REFERENCE, rows[0], rows[2])
    mixture = Mixture(ConstantGate(weights=np.array([0.2, 0.8])), gaussians(table, 2, rng))
    found = mixture.expect(table, np.random.RandomState(0))
    assert set(np.unique(found.given)) == {0.0, 1.0}
    np.testing.assert_array_equal(found.given.sum(axis=1), 1.0)
    np.testing.assert_allclose(found.moments.mass, table.weight @ found.given)
    assert found.resp is None
    assert found.objective == pytest.approx(mixture.expect(table).objective, rel=1e-12)
    np.testing.assert_array_equal(found.weighted_with(table.block(5, 9)), found.given[5:9])
    # Drawn with their chances: over many draws, the mean is the responsibility.
    mean = np.mean([mixture.expect(table, np.random.RandomState(s)).given for s in range(300)], axis=0)
    resp, _ = table.responsibilities(mixture.joint)
    assert np.abs(mean - resp).max() < 5 * np.sqrt(0.25 / 300)


def test_gates_that_need_responsibilities_see_them(rows, rng):
    table = Table.of(REFERENCE, rows[0], rows[2])
    gate = SparseGate().start(2, table, np.random.RandomState(0))
    mixture = Mixture(gate, gaussians(table, 2, rng))
    found = mixture.expect(table)
    assert found.resp.shape == (500, 2)
    assert found.given is found.resp
    drawn = mixture.expect(table, np.random.RandomState(0))
    np.testing.assert_array_equal(drawn.resp, found.resp)
    assert set(np.unique(drawn.given)) == {0.0, 1.0}
    assert mixture.bound == gate.bound + mixture.components.bound


def test_what_responsibilities_say_before_anything_is_known(rows, rng):
    table, resp = Table.of(REFERENCE, rows[0], rows[2]), rng.dirichlet(np.ones(2), 500)
    for gate, held in ((ConstantGate(), False), (SparseGate(), True)):
        begun = Mixture(gate.start(2, table, np.random.RandomState(0)), gaussians(table, 2, rng)).begun(
            table, lambda block: resp[block.cut], 2
        )
        assert begun.objective == -np.inf
        assert (begun.resp is not None) == held
        np.testing.assert_allclose(begun.moments.mass, table.weight @ resp)


def test_hard_mixtures_of_centers_are_k_means(rows):
    table = Table.of(REFERENCE, rows[0], rows[2])
    centers = Centers(table.points(np.array([0, 1, 2])))
    clusters = Mixture(EqualGate(components=3), centers, hard=True)
    assert clusters.joint.hard
    found = clusters.expect(table)
    squares = ((rows[0][:, None] - centers.means) ** 2).sum(axis=2)
    assert found.objective == pytest.approx(-0.5 * squares.min(axis=1) @ table.weight, rel=1e-12)
    assert centers.inertia(table) == pytest.approx(-2.0 * found.objective, rel=1e-12)
    after = clusters.maximize(found)
    assert after.hard
    labels = squares.argmin(axis=1)
    for k in range(3):
        mine = labels == k
        want = np.average(rows[0][mine], axis=0, weights=rows[2][mine])
        np.testing.assert_allclose(after.components.means[k], want, rtol=1e-12)
    np.testing.assert_allclose(centers.squared_distances(table), squares, rtol=1e-9)
    np.testing.assert_array_equal(centers.nearest(table)[0], labels)


def test_empty_clusters_move_to_the_rows_that_are_farthest(rng):
    """Each to a row of its own, which leaves the cluster it was in."""
    X = np.vstack([rng.normal(size=(50, 2)), [[30.0, 0.0], [0.0, 40.0]], rng.normal(size=(5, 2)) + 100.0])
    weights = np.ones(57)
    weights[52:] = 0.0  # the farthest of all do not count
    table = Table.of(REFERENCE, X, weights)
    start = Centers(np.array([[0.0, 0.0], [1e4, 1e4], [-1e4, 1e4]]))
    moved = Mixture(EqualGate(components=3), start, hard=True)
    after = moved.maximize(moved.expect(table)).components.means
    np.testing.assert_allclose(after[0], X[:50].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(after[1:], [[0.0, 40.0], [30.0, 0.0]], atol=1e-12)
    same = Table.of(REFERENCE, np.ones((4, 2)))
    start = Centers(np.array([[1.0, 1.0], [5.0, 5.0]]))
    moved = Mixture(EqualGate(components=2), start, hard=True)
    np.testing.assert_allclose(moved.maximize(moved.expect(same)).components.means, 1.0)  # nowhere to go
