"""Rows to begin k-means from: the distributions that k-means++ and its Markov chains draw from."""

import numpy as np
import pytest
from scipy import stats

from mixtura import backends, seeding
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


def test_chains_end_where_their_target_says(rng):
    """Proposals that are all as likely, odds that are the target: after many steps a state has the target's chance."""
    target = np.array([1.0, 2.0, 4.0, 0.0, 3.0])
    states = rng.integers(0, 5, size=(20_000, 60))
    ends = seeding._chain_ends(target[states], np.random.RandomState(0))
    np.testing.assert_array_equal(ends // 60, np.arange(20_000))
    # A chain stays where it began only if all else is refused, so that a target of 0 is not left at the end.
    assert_drawn_from(states.ravel()[ends], target)


def test_chains_of_one_step_take_their_proposal(rng):
    odds = rng.uniform(size=(7, 1))
    np.testing.assert_array_equal(seeding._chain_ends(odds, np.random.RandomState(0)), np.arange(7))


def test_chains_accept_what_is_likelier_and_refuse_what_is_nothing():
    odds = np.array([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0], [3.0, 1e-12, 1e-12]])
    ends = seeding._chain_ends(odds, np.random.RandomState(0)) - [0, 3, 6]
    np.testing.assert_array_equal(ends, [2, 0, 0])


@pytest.mark.parametrize("work", [1 << 60, 0], ids=["greedy", "chains"])
def test_the_first_row_is_drawn_by_weight(work, monkeypatch):
    monkeypatch.setattr(seeding, "_GREEDY_WORK", work)
    weights = np.array([1.0, 0.0, 3.0, 6.0])
    table = table_of([[0.0], [1.0], [2.0], [3.0]], weights)
    draws = [seeding.seed(table, 1, np.random.RandomState(s))[0] for s in range(600)]
    assert_drawn_from(draws, weights)


@pytest.mark.parametrize("work", [1 << 60, 0], ids=["greedy", "chains"])
def test_the_second_row_is_drawn_by_squared_distance(work, monkeypatch):
    """Of two clusters it is the best of two draws: the chance of each is known."""
    monkeypatch.setattr(seeding, "_GREEDY_WORK", work)
    monkeypatch.setattr(seeding, "_CANDIDATES", 800)
    X = np.array([[0.0], [3.0], [5.0], [11.0]])
    table, seconds = table_of(X), {k: [] for k in range(4)}
    for s in range(2000):
        first, second = seeding.seed(table, 2, np.random.RandomState(s))
        seconds[first].append(second)
    for first, drawn in seconds.items():
        square = (X[:, 0] - X[first, 0]) ** 2
        chance = square / square.sum()
        left = np.minimum(square[:, None], (X - X.T) ** 2).sum(axis=0)  # what is left after each choice
        order = np.argsort(left)
        # The better of two independent draws: worse ones must come twice.
        above = np.cumsum(chance[order][::-1])[::-1]
        best = np.append(above**2, 0.0)
        want = np.empty(4)
        want[order] = best[:-1] - best[1:]
        assert_drawn_from(drawn, want)


def test_chains_estimate_what_is_left_without_bias(rng, monkeypatch):
    """Candidates come half from far rows: weighed by the inverse of their chance they stand for all rows alike.

    A large near cluster and a small far one: sums over candidates that are not weighed are those of the far one, and
    the third row would be drawn there.
    """
    monkeypatch.setattr(seeding, "_GREEDY_WORK", 0)
    near = rng.normal(size=(4000, 2))
    far = rng.normal(size=(60, 2)) * 0.5 + [40.0, 0.0]
    middle = rng.normal(size=(600, 2)) * 0.5 + [0.0, 8.0]
    X = np.vstack([near, far, middle])
    hits = 0
    for s in range(60):
        rows = np.sort(seeding.seed(table_of(X), 3, np.random.RandomState(s)))
        where = np.searchsorted([4000, 4060], rows, side="right")
        hits += set(where) == {0, 1, 2}
    assert hits >= 50


def test_candidates_cover_the_table_when_the_first_row_is_all_there_is(monkeypatch):
    """All rows equal: every row is as good as another, and nothing is divided by 0."""
    monkeypatch.setattr(seeding, "_GREEDY_WORK", 0)
    rows = seeding.seed(table_of(np.ones((500, 2))), 4, np.random.RandomState(0))
    assert rows.shape == (4,)
    assert rows.min() >= 0
    assert rows.max() < 500


@pytest.mark.parametrize("work", [1 << 60, 0], ids=["greedy", "chains"])
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
