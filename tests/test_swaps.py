"""Swaps of cluster centres, and starts under several metrics."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from mixtura import GaussianMixture, KMeans, backends, metrics, swaps
from mixtura.components.centers import EUCLIDEAN, Centers, Metric
from mixtura.table import Table

NATIVE_OR_ANY = backends.create("auto")


def table_of(X, weights=None):
    return Table.of(NATIVE_OR_ANY, np.asarray(X, dtype=np.float64), weights)


@pytest.mark.parametrize("dims", [1, 3, 80])
def test_two_centres_in_one_cluster_and_one_between_two(dims, rng):
    """One swap puts it right, whatever the number of columns: wide tables are looked at column by column."""
    places = np.zeros((4, dims))
    places[:, 0] = [0.0, 100.0, 200.0, 300.0]
    X = np.repeat(places, 100, axis=0) + rng.normal(size=(400, dims))
    wrong = places.copy()
    wrong[:, 0] = [-0.5, 0.5, 150.0, 300.0]
    found = swaps.improved(table_of(X), Centers(wrong), 1e-6)
    np.testing.assert_allclose(np.sort(found.means[:, 0]), places[:, 0], atol=0.5)


def test_swaps_obey_weights_and_the_metric(rng):
    """Rows of weight 0 hold a cluster that does not count; the second column is noise that the metric leaves out."""
    x = np.repeat([0.0, 100.0, 200.0, 5000.0], 50) + rng.normal(size=200)
    X = np.column_stack([x, rng.normal(size=200) * 1e4])
    weights = np.where(x > 1000, 0.0, rng.uniform(1.0, 2.0, size=200))
    metric = Metric("diagonal", np.array([[1.0, 0.0]]))
    start = Centers(np.array([[-1.0, 0.0], [1.0, 0.0], [150.0, 0.0]]), metric)
    found = swaps.improved(table_of(X, weights), start, 1e-6)
    np.testing.assert_allclose(np.sort(found.means[:, 0]), [0.0, 100.0, 200.0], atol=1.0)


def test_the_loss_of_a_merger_is_wards(rng, monkeypatch):
    monkeypatch.setattr(swaps, "_BLOCK", 3)
    points, mass = rng.normal(size=(8, 2)), rng.uniform(1.0, 5.0, size=8)
    partner, loss = swaps._partners(points, mass)
    for a in range(8):
        losses = [
            mass[a] * mass[b] / (mass[a] + mass[b]) * np.sum((points[a] - points[b]) ** 2)
            if a != b
            else np.inf
            for b in range(8)
        ]
        assert partner[a] == int(np.argmin(losses))
        assert loss[a] == pytest.approx(min(losses))


def test_the_largest_variance_and_its_direction(rng):
    X = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    factor = rng.normal(size=(1, 3, 4))
    moments = table_of(X).moments("full")
    value, deviation = swaps._largest(moments, Metric("rectangle", factor))
    F, C = factor[0], np.cov(X.T, bias=True)
    values, vectors = np.linalg.eigh(F @ C @ F.T)
    assert value[0] == pytest.approx(values[-1], rel=1e-2)
    along = F @ deviation[0] / np.linalg.norm(F @ deviation[0])
    assert abs(along @ vectors[:, -1]) > 0.99
    assert np.linalg.norm(F @ deviation[0]) == pytest.approx(np.sqrt(values[-1]), rel=0.05)


def test_swaps_never_raise_the_inertia(rng):
    X = rng.normal(size=(2000, 3)) * [1.0, 5.0, 0.2]
    table = table_of(X)
    start = Centers(X[:20])
    found = swaps.improved(table, start, 1e-4)
    assert found.inertia(table) < start.inertia(table)
    few = Centers(X[:2])
    assert swaps.improved(table, few, 1e-4) is few


@pytest.mark.parametrize(("K", "D"), [(100, 50), (60, 3), (200, 10)])
def test_many_clusters_are_all_found(K, D, rng):
    scale, sd = {50: (3.0, 1.0), 3: (10.0, 0.5), 10: (4.0, 1.0)}[D]
    places = rng.uniform(-scale, scale, size=(K, D))
    X = places[rng.integers(K, size=12_000)] + sd * rng.normal(size=(12_000, D))
    true = GaussianMixture(
        K,
        covariance_type="spherical",
        weights_init=np.full(K, 1 / K),
        means_init=places,
        precisions_init=np.full(K, sd**-2),
    ).fit(X)
    gm = GaussianMixture(K, covariance_type="spherical", init_params="auto", random_state=0).fit(X)
    assert gm.lower_bound_ > true.lower_bound_ - 1e-3


def test_k_means_auto_finds_what_k_means_plus_plus_misses(rng):
    places = rng.uniform(-10.0, 10.0, size=(60, 3))
    X = places[rng.integers(60, size=5000)] + 0.3 * rng.normal(size=(5000, 3))
    best = KMeans(60, init=places).fit(X).inertia_
    auto = [KMeans(60, init="auto", random_state=s).fit(X).inertia_ for s in range(5)]
    plain = [KMeans(60, random_state=s).fit(X).inertia_ for s in range(5)]
    assert max(auto) < 1.02 * best
    assert np.median(auto) < np.median(plain)


def test_very_many_clusters_start_in_batches_with_swaps(rng, monkeypatch):
    monkeypatch.setattr("mixtura.seeding._GREEDY_WORK", 0)
    X = rng.normal(size=(6000, 4))
    swapped = [KMeans(100, random_state=s).fit(X).inertia_ for s in range(3)]
    monkeypatch.undo()
    greedy = [KMeans(100, random_state=s).fit(X).inertia_ for s in range(3)]
    assert np.median(swapped) < 1.005 * np.median(greedy)
    monkeypatch.setattr("mixtura.seeding._GREEDY_WORK", 0)
    first = KMeans(100, random_state=3).fit(X).cluster_centers_
    np.testing.assert_array_equal(KMeans(100, random_state=3).fit(X).cluster_centers_, first)


# --------------------------------------------------------------------------------------------------------- metrics


def test_the_direction_of_least_kurtosis_separates_two_flat_clusters(rng):
    """Neither the widest column nor the widest direction tells them apart."""
    D = 12
    X = rng.normal(size=(900, D))
    X[:, 0] += np.repeat([0.0, 7.0], 450)
    X[:, 1] *= 40.0
    rotation = np.linalg.qr(rng.normal(size=(D, D)))[0]
    table = table_of(X @ rotation)
    *plain, whitened, projected = metrics.several(table, np.random.RandomState(0))
    assert (plain[0].form, whitened.form, projected.form) == ("diagonal", "rectangle", "rectangle")
    along = (X @ rotation) @ projected.factor[0, 0]
    assert abs(np.corrcoef(along, np.repeat([0.0, 1.0], 450))[0, 1]) > 0.9
    white = (X @ rotation) @ whitened.factor[0].T
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(D), atol=1e-8)


@pytest.mark.parametrize(("ratio", "own"), [(1.5, False), (3.0, True)])
def test_columns_in_their_own_units_are_a_metric_where_they_differ(ratio, own, rng):
    X = rng.normal(size=(4000, 3)) * [1.0, 1.0, ratio]
    found = metrics.several(table_of(X), np.random.RandomState(0))
    assert [m.form for m in found] == ["diagonal", *["scalar"] * own, "rectangle", "rectangle"]
    assert (EUCLIDEAN in found) is own


def test_metrics_of_tables_with_little_in_them(rng):
    constant = table_of(np.ones((50, 3)))
    assert [m.form for m in metrics.several(constant, np.random.RandomState(0))] == ["scalar"]
    one_column = table_of(rng.normal(size=(50, 1)))
    assert [m.form for m in metrics.several(one_column, np.random.RandomState(0))] == ["diagonal"]
    x = rng.normal(size=(50, 1))
    copies = table_of(np.hstack([x, x, np.ones((50, 1))]))
    assert metrics.several(copies, np.random.RandomState(0))[1].factor.shape == (1, 1, 3)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_auto_finds_flat_parallel_clusters(covariance_type, rng):
    """k-means cuts them across their length, and so ends at a useless optimum."""
    y = np.repeat([0, 1, 2], 300)
    X = rng.normal(size=(900, 6)) * [0.3, 12.0, 1.0, 1.0, 1.0, 1.0] + np.outer(y, [2.5, 0, 0, 0, 0, 0])
    X = X @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    plain = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    auto = GaussianMixture(3, covariance_type=covariance_type, init_params="auto", random_state=0).fit(X)
    assert adjusted_rand_score(y, auto.predict(X)) > 0.95
    assert auto.lower_bound_ > plain.lower_bound_ + 0.1
    again = GaussianMixture(
        3, covariance_type=covariance_type, init_params="auto", random_state=0, n_threads=1
    ).fit(X)
    np.testing.assert_array_equal(again.means_, auto.means_)


@pytest.mark.parametrize("seed", range(20))
def test_no_centre_takes_part_in_two_swaps(seed):
    rng = np.random.default_rng(seed)
    X = np.repeat(rng.uniform(-50.0, 50.0, size=(12, 2)), 20, axis=0) + rng.normal(size=(240, 2))
    centers = Centers(X[rng.choice(len(X), 12, replace=False)])
    moments = table_of(X).expect(centers.joint, "full")
    found = swaps._pairs(centers, moments)
    parts = [index for merged, split, _ in found for index in (*merged, split)]
    assert found
    assert len(set(parts)) == len(parts)
