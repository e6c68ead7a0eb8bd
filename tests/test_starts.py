"""First parameters of a mixture: how long a search goes on, and on which rows."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from mixtura import GaussianMixture, backends, starts
from mixtura.components.estimation import Estimation
from mixtura.components.gaussian import Gaussians
from mixtura.estimators import gaussian_search
from mixtura.membership import Labels
from mixtura.table import Table

REFERENCE = backends.create("reference")


def test_column_variance_is_the_mean_over_the_columns(rng):
    X, weights = rng.normal(size=(50, 3)) * [1.0, 2.0, 3.0], rng.uniform(size=50)
    away = X - np.average(X, axis=0, weights=weights)
    want = np.average(away**2, axis=0, weights=weights).mean()
    assert starts.column_variance(Table.of(REFERENCE, X, weights)) == pytest.approx(want, rel=1e-12)
    assert starts.column_variance(Table.of(REFERENCE, np.ones((5, 2)))) == 0.0


@pytest.mark.parametrize(
    ("rows", "sampled", "kind", "searches", "iterations"),
    [
        (300, False, "full", 1, 300),
        (300, True, "full", 1, 20),
        (2000, False, "mass", 1, 20),
        (2000, False, "full", 3, 60),
    ],
)
def test_searches(rows, sampled, kind, searches, iterations, rng, monkeypatch):
    """One search of the whole table; short ones of a sample, three of them where an iteration does much work."""
    monkeypatch.setattr(starts, "_SAMPLE_ROWS", 500)
    monkeypatch.setattr(starts, "_SAMPLE_ROWS_OF_QUICK", 500)
    monkeypatch.setattr(starts, "_SAMPLE_ROWS_PER_COMPONENT", 1)
    monkeypatch.setattr(starts, "_QUICK", 10)
    seen, lloyd = [], starts.lloyd
    monkeypatch.setattr(
        starts, "lloyd", lambda t, s, **k: seen.append((len(t), k["max_iter"])) or lloyd(t, s, **k)
    )
    table = Table.of(REFERENCE, rng.normal(size=(2 * rows if sampled else rows, 2)))
    if sampled:
        table = table.take(np.arange(rows))
    starts.kmeans(table, 3, kind, 0.0, np.random.RandomState(0))
    assert [n for _, n in seen] == [iterations] * searches
    assert all(n <= 500 for n, _ in seen) if rows > 1000 else all(n == rows for n, _ in seen)


def overlapping(rng, rows=200, clusters=4):
    return rng.normal(size=(rows, 2)) * [1.0, 3.0] + 3.0 * rng.integers(0, clusters, size=(rows, 1))


def test_a_table_is_short_by_its_work():
    def short(rows, components, columns):
        return starts.is_short(Table.of(REFERENCE, np.zeros((rows, columns))), components)

    assert short(1000, 4, 2)
    assert not short(1000, 5, 2)
    assert short(1000, 1, 8)
    assert not short(1000, 2, 8)


@pytest.mark.parametrize("name", ["reference", "native"])
def test_clusterings_are_unlike(name, require, rng):
    """Searches that end alike are one; where the first ones do, there are no more."""
    X = overlapping(rng)
    table = Table.of(require(name), X)
    found = starts.clusterings(table, 4, 10, np.random.RandomState(0))
    inertias = [c.centers.inertia(table) for c in found]
    assert 1 < len(found) <= 10
    assert len({round(i, 6) for i in inertias}) == len(found)
    for clustered in found:
        np.testing.assert_array_equal(clustered.labelled(table), clustered.centers.nearest(table)[0])
    before = table.tally.rows
    apart = Table.of(require(name), X + 100.0 * rng.integers(0, 2, size=(200, 1)))
    assert len(starts.clusterings(apart, 2, 10, np.random.RandomState(0))) == 1
    assert apart.tally.rows < before / 2


def test_clusterings_do_not_depend_on_the_backend(require, rng):
    X = overlapping(rng)
    for weights in (None, rng.uniform(0.5, 2.0, 200), rng.integers(0, 2, 200).astype(float)):
        ours, theirs = (
            starts.clusterings(Table.of(b, X, weights), 4, 10, np.random.RandomState(0))
            for b in (REFERENCE, require("native"))
        )
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.centers.means, b.centers.means, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_a_short_table_starts_where_em_ends_best(covariance_type, require, rng):
    """As good as the best of all unlike clusterings, whatever the backend, and in one run or pass by pass."""
    require("native")
    X, how = overlapping(rng), {"covariance_type": covariance_type, "tol": 1e-6, "max_iter": 500}
    fits = [
        GaussianMixture(4, random_state=0, backend=name, verbose=verbose, verbose_interval=9999, **how).fit(X)
        for name, verbose in (("native", 0), ("native", 2), ("reference", 0))
    ]
    table = Table.of(REFERENCE, X)
    ends = []
    for clustered in starts.clusterings(table, 4, 10, np.random.RandomState(0)):
        run = GaussianMixture(4, means_init=clustered.centers.means, backend="reference", **how)
        family = run._covariance
        first = Gaussians.from_moments(family, clustered(table, 4, family.kind, 0.0, None), Estimation(1e-6))
        weights = np.bincount(clustered.labelled(table), minlength=4) / 200.0
        precisions = family.storage.precisions(first.precisions_cholesky)
        ends.append(run.set_params(weights_init=weights, precisions_init=precisions).fit(X).lower_bound_)
    assert covariance_type == "spherical" or max(ends) - min(ends) > 1e-4
    for gm in fits:
        assert gm.lower_bound_ == pytest.approx(max(ends), abs=1e-9)
        assert gm.n_iter_ == fits[0].n_iter_
        np.testing.assert_allclose(gm.means_, fits[0].means_, rtol=1e-6)


def test_weights_are_repetitions_on_a_short_table(rng):
    X, weights = overlapping(rng), rng.integers(1, 4, 200).astype(float)
    how = {"tol": 1e-6, "max_iter": 5000, "random_state": 0, "reg_covar": 0.0}
    weighted = GaussianMixture(4, **how).fit(X, sample_weight=weights)
    repeated = GaussianMixture(4, **how).fit(np.repeat(X, weights.astype(int), axis=0))
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, abs=1e-8)
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=1e-6)


def test_restarts_share_the_searches(rng, monkeypatch):
    counts, searches = [], starts.clusterings
    monkeypatch.setattr(
        gaussian_search, "clusterings", lambda t, k, n, r: counts.append(n) or searches(t, k, n, r)
    )
    X = overlapping(rng)
    for n_init in (1, 3, 10):
        GaussianMixture(4, n_init=n_init, random_state=0, tol=0.1).fit(X)
    assert counts == [10, 4, 4, 4]
    GaussianMixture(4, init_params="random", random_state=0, tol=0.1).fit(X)
    GaussianMixture(4, means_init=X[:4], random_state=0, tol=0.1).fit(X)
    GaussianMixture(4, prior="default", random_state=0, tol=0.1).fit(X)
    GaussianMixture(1).fit(X)
    assert len(counts) == 4


@pytest.mark.parametrize("seed", [15, 16, 17, 18, 19])
def test_a_spurious_end_does_not_win_on_a_short_table(seed):
    """Two rows that nearly coincide have the largest likelihood, and are no reason to start from them."""
    rng = np.random.default_rng(seed)
    many, pair = rng.normal(size=(60, 2)), [[4.0, 4.0], [4.0 + 1e-7, 4.0]]
    X = np.r_[many, pair, [[-4.0, 3.0]] + 0.5 * rng.normal(size=(9, 2))]
    gm = GaussianMixture(4, reg_covar=1e-16, random_state=0, tol=1e-6, max_iter=1000).fit(X)
    assert not gm.degenerate_.any()


def test_unlike_labellings_under_several_metrics(require, rng):
    """Those of searches under each metric, whichever the names of the clusters, each once."""
    X = overlapping(rng) * [1.0, 1e3] + 1e4
    table = Table.of(require("native"), X)
    ways = starts.candidates(table, 3, np.random.RandomState(0))
    found = starts.labellings(table, ways, 3, np.random.RandomState(0))
    assert 1 < len(found) <= len(ways)
    partitions = {frozenset(frozenset(np.flatnonzero(labels == k)) for k in range(3)) for labels in found}
    assert len(partitions) == len(found)
    for way in ways:  # one search by the passes of the reference, under the metric itself
        labels = way.centers(table, 3, np.random.RandomState(1)).nearest(table)[0]
        agree = max(adjusted_rand_score(labels, other) for other in found)
        assert agree > 0.6
    apart = Table.of(require("native"), X + 1e7 * rng.integers(0, 2, size=(200, 1)))
    assert len(starts.labellings(apart, ways, 2, np.random.RandomState(0))) < len(ways)


def test_partitions_do_not_depend_on_names(rng):
    labels = rng.integers(0, 4, 50).astype(np.int32)
    names = np.array([2, 0, 3, 1], dtype=np.int32)
    assert starts._partition(labels, 4) == starts._partition(names[labels], 4)
    other = labels.copy()
    other[7] = (other[7] + 1) % 4
    assert starts._partition(labels, 4) != starts._partition(other, 4)


def test_many_components_are_searched_with_swaps(require, rng, monkeypatch):
    X = 30.0 * rng.normal(size=(20, 2))[rng.integers(0, 20, 600)] + rng.normal(size=(600, 2))
    table = Table.of(require("native"), X)
    way = starts.UnderMetric(starts.EUCLIDEAN)
    found = starts.labellings(table, [way, way], 20, np.random.RandomState(0))
    again = way.centers(table, 20, np.random.RandomState(0)).nearest(table)[0]
    assert found.shape == (2, 600)
    np.testing.assert_array_equal(found[0], again)
    fit = GaussianMixture(20, init_params="auto", n_init=2, random_state=0, tol=1e-2).fit(X)
    assert fit.converged_


def test_labelled_rows_start_their_own_components(rng):
    X, weights = rng.normal(size=(60, 2)), rng.uniform(0.5, 2.0, size=60)
    labels = np.repeat([0, 1, 2, -1], 15)
    table = Table.of(REFERENCE, X, weights, membership=Labels(labels))
    found = starts.labelled_moments(table, 3, "full")
    for k in range(3):
        own = labels == k
        assert found.mass[k] == pytest.approx(weights[own].sum(), rel=1e-12)
        np.testing.assert_allclose(found.means()[k], np.average(X[own], axis=0, weights=weights[own]))
    assert starts.labelled_moments(Table.of(REFERENCE, X), 3, "full") is None
    assert starts.labelled_moments(table, 4, "full") is None  # nothing is known of the fourth


def test_random_responsibilities_share_each_row(rng):
    weights = rng.uniform(0.5, 2.0, size=400)
    table = Table.of(REFERENCE, rng.normal(size=(400, 2)), weights)
    found = starts.random(table, 4, "mean", 0.0, np.random.RandomState(0))
    assert found.mass.sum() == pytest.approx(weights.sum(), rel=1e-12)
    assert found.mass.max() < 0.3 * weights.sum()
    assert np.ptp(found.mass) > 0.0


def test_means_of_labelled_rows_count_weights(rng):
    """Rows of weight 0 say nothing, and a component without a known row has no mean."""
    X, weight = rng.normal(size=(12, 2)), rng.integers(0, 3, size=12).astype(float)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, -1, -1, -1, -1, -1])
    weight[:5], weight[5:7] = [1.0, 2.0, 0.0, 3.0, 1.0], 0.0
    table = Table.of(backends.create(), X, weight, membership=Labels(labels))
    means = starts.labelled_means(table, 3)
    np.testing.assert_allclose(means[0], (X[0] + 2.0 * X[1]) / 3.0)
    np.testing.assert_allclose(means[1], (3.0 * X[3] + X[4]) / 4.0)
    assert np.isnan(means[2]).all()
