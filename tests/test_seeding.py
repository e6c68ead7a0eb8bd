"""Rows to begin k-means from: the distributions that k-means++ and its batches draw from."""

import numpy as np
import pytest
from scipy import stats

from mixtura import backends, seeding
from mixtura.components.centers import Metric
from mixtura.table import Table


def table_of(X, weights=None):
    return Table.of(backends.create("reference"), np.asarray(X, dtype=np.float64), weights)


def counts_of(draws, size):
    return np.bincount(draws, minlength=size)


def assert_drawn_from(draws, chances):
    """Chi-squared, with a fixed seed: a distribution that is another fails by far."""
    counts = counts_of(np.asarray(draws), len(chances))
    inside = np.asarray(chances) > 0.0
    assert not counts[~inside].any()
    expected = np.asarray(chances)[inside] / np.sum(chances) * len(draws)
    assert stats.chisquare(counts[inside], expected).pvalue > 1e-3


@pytest.mark.parametrize("work", [1 << 60, 0], ids=["greedy", "batches"])
def test_the_first_row_is_drawn_by_weight(work, monkeypatch):
    monkeypatch.setattr(seeding, "_GREEDY_WORK", work)
    weights = np.array([1.0, 0.0, 3.0, 6.0])
    table = table_of([[0.0], [1.0], [2.0], [3.0]], weights)
    draws = [seeding.seed(table, 1, np.random.RandomState(s))[0] for s in range(600)]
    assert_drawn_from(draws, weights)


@pytest.mark.parametrize("greedy", [True, False])
def test_the_second_row_is_drawn_by_squared_distance(greedy):
    """One draw in batches; the better of two draws, whose chance is known, if greedy."""
    X = np.array([[0.0], [3.0], [5.0], [11.0]])
    table, seconds = table_of(X), {k: [] for k in range(4)}
    for s in range(2000):
        first, second = seeding.seed(table, 2, np.random.RandomState(s), greedy=greedy)
        seconds[first].append(second)
    for first, drawn in seconds.items():
        square = (X[:, 0] - X[first, 0]) ** 2
        chance = square / square.sum()
        left = np.minimum(square[:, None], (X - X.T) ** 2).sum(axis=0)  # what is left after each choice
        order = np.argsort(left)
        # The better of two independent draws: worse ones must come twice.
        above = np.cumsum(chance[order][::-1])[::-1]
        best = np.append(above**2, 0.0)
        better = np.empty(4)
        better[order] = best[:-1] - best[1:]
        assert_drawn_from(drawn, better if greedy else chance)


@pytest.mark.parametrize(
    "metric", [Metric(), Metric("diagonal", np.array([[1.0, 0.1]]))], ids=["plain", "scaled"]
)
def test_later_batches_go_where_rows_are_far(metric, rng):
    """Each of many clusters gets about one row, in units of the metric."""
    centers = np.arange(64.0)[:, None] * [100.0, 0.0] + [0.0, 5.0]
    X = np.repeat(centers, 30, axis=0) + rng.normal(size=(1920, 2)) * [
        1.0,
        10.0 if metric.form != "scalar" else 1.0,
    ]
    rows = seeding.seed(table_of(X), 64, np.random.RandomState(0), metric, greedy=False)
    assert len(np.unique(rows // 30)) > 45


def test_rows_beside_centres_that_are_known(rng):
    """Two of three clusters have a centre: the row is drawn from the third."""
    X = np.repeat([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]], 40, axis=0) + rng.normal(size=(120, 2))
    beside = np.array([[0.0, 0.0], [0.0, 50.0]])
    for s in range(20):
        row = seeding.seed(table_of(X), 1, np.random.RandomState(s), beside=beside)
        assert row.shape == (1,)
        assert 40 <= row[0] < 80


def test_batches_of_a_table_whose_rows_are_equal(monkeypatch):
    """All rows equal: every row is as good as another, and nothing is divided by 0."""
    monkeypatch.setattr(seeding, "_GREEDY_WORK", 0)
    rows = seeding.seed(table_of(np.ones((500, 2))), 4, np.random.RandomState(0))
    assert rows.shape == (4,)
    assert rows.min() >= 0
    assert rows.max() < 500


@pytest.mark.parametrize("work", [1 << 60, 0], ids=["greedy", "batches"])
def test_rows_of_weight_0_are_never_drawn(work, monkeypatch, rng):
    monkeypatch.setattr(seeding, "_GREEDY_WORK", work)
    X, weights = rng.normal(size=(300, 2)), np.ones(300)
    X[::3], weights[::3] = 1e200, 0.0
    for s in range(20):
        assert np.all(seeding.seed(table_of(X, weights), 5, np.random.RandomState(s)) % 3 != 0)


def test_a_weight_is_a_repetition(rng):
    """The draws run through the rows in the order of their values: a row that stands there twice is one of weight 2."""
    X, weights = rng.normal(size=(40, 2)), rng.integers(1, 4, size=40)
    repeated = np.repeat(X, weights, axis=0)
    for s in range(10):
        a = X[seeding.seed(table_of(X, weights.astype(float)), 4, np.random.RandomState(s))]
        b = repeated[seeding.seed(table_of(repeated), 4, np.random.RandomState(s))]
        np.testing.assert_array_equal(a, b)
