"""EM on nested samples before the whole table."""

from itertools import pairwise

import numpy as np
import pytest

from mixtura import GaussianMixture, KMeans, MixtureOfExperts, backends, em, levels, mixture
from mixtura.factorize import IllDefinedCovarianceError
from mixtura.table import Table

REFERENCE = backends.create("reference")


@pytest.fixture
def many(rng):
    """40,000 rows of five clusters, two of which touch."""
    means = np.array([[0.0, 0.0], [2.5, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    return means[rng.integers(0, 5, 40_000)] + rng.normal(size=(40_000, 2))


def test_samples_are_parts_of_each_other(monkeypatch):
    monkeypatch.setattr(levels, "_ROWS", 100)
    X, weights = np.arange(10_000.0)[:, None], np.ones(10_000)
    weights[::2] = 0.0
    table = Table.of(REFERENCE, X, weights)
    found = levels.nested(table, 0, 0, np.random.RandomState(0))
    assert found[-1] is table
    assert [len(t) for t in found[:-1]] == [100, pytest.approx(400, rel=0.15)]
    for small, large in pairwise(found):
        assert set(small.x[:, 0]) < set(large.x[:, 0])
        assert np.all(np.diff(small.x[:, 0]) > 0)
        assert np.all(small.x[:, 0] % 2 == 1)  # none of weight 0
        assert small.sampled
        assert not table.sampled
        assert small.tally is table.tally
    again = levels.nested(table, 0, 0, np.random.RandomState(0))
    np.testing.assert_array_equal(again[0].x, found[0].x)


def test_a_level_goes_on_for_a_share_of_what_it_can_tell():
    """A hundredth of P / n, but no less than two fifths of P / N, which the table is to tell."""
    table = Table.of(REFERENCE, np.zeros((10_000, 1)))
    small, large = table.take(np.arange(100)), table.take(np.arange(1000))
    assert levels.least_gain(50, small, table) == pytest.approx(0.01 * 50 / 100)
    assert levels.least_gain(50, large, table) == pytest.approx(0.4 * 50 / 10_000)


def test_samples_of_wide_tables_hold_no_more_numbers(monkeypatch):
    monkeypatch.setattr(levels, "_ROWS", 100)
    table = Table.of(REFERENCE, np.random.default_rng(0).normal(size=(30_000, 3)))
    for most, sizes in ((1000, [100]), (1200, [100, 400]), (4799, [100, 400]), (4800, [100, 400, 1600])):
        monkeypatch.setattr(levels, "MOST_SAMPLED", most)
        found = levels.nested(table, 0, 0, np.random.RandomState(0))
        assert [len(t) for t in found[:-1]] == [pytest.approx(n, rel=0.05) for n in sizes]


@pytest.mark.parametrize(
    ("components", "n_parameters", "sizes"),
    [
        (1, 10, [8192, 32768]),
        (20, 10, [8192, 32768]),
        (1, 9000, [9000, 36000]),
        (1, 60_000, []),
        (200, 1, [25600]),
    ],
)
def test_a_level_has_rows_for_what_it_is_to_tell(components, n_parameters, sizes):
    table = Table.of(REFERENCE, np.arange(200_000.0)[:, None])
    found = levels.nested(table, components, n_parameters, np.random.RandomState(0))
    assert [len(t) for t in found[:-1]] == pytest.approx(sizes, rel=0.15)
    small = Table.of(REFERENCE, np.arange(30_000.0)[:, None])
    assert levels.nested(small, 1, 1, np.random.RandomState(0)) == [small]


def bound(fit):
    return fit.bound


def test_the_better_starts_go_on(many):
    """Of nine starts one in three is left after a level, and the best of these in the end."""

    class Model:
        """An objective that is its number."""

        def __init__(self, number):
            self.number, self.seen = number, []

        def expect(self, table, rng=None):
            self.seen.append(len(table))

            class Found:
                objective = self.number * table.total_weight

                @staticmethod
                def is_finite():
                    return True

            return Found

        def maximize(self, found):
            return self

    table = Table.of(REFERENCE, many)
    tables = [table.take(np.arange(10)), table.take(np.arange(40)), table]
    models = [Model(n) for n in (3.0, 1.0, 8.0, 2.0, 7.0, 5.0, 8.0, 0.0, 4.0)]
    starts = [lambda m=m: m for m in models]
    found = levels.climb(tables, starts, em.run, n_parameters=1, tol=1e-3, max_iter=10, score=bound)
    assert found.parameters is models[2]  # the first of equals
    assert [40 in m.seen for m in models] == [False, False, True, False, False, False, False, False, False]
    assert not any(len(table) in m.seen for m in models)


def test_singular_starts_do_not_end_a_fit(many):
    tables = [Table.of(REFERENCE, many[:10]), Table.of(REFERENCE, many)]

    def broken():
        raise IllDefinedCovarianceError

    how = {"n_parameters": 1, "tol": 1e-3, "max_iter": 10, "score": bound}
    assert levels.climb(tables, [broken] * 3, em.run, **how) is None

    class Collapsing:
        def expect(self, table, rng=None):
            raise em.NotFiniteError

    assert levels.climb(tables, [Collapsing] * 3, em.run, **how) is None


def test_a_large_table_needs_few_passes(many):
    """The same answer as from plain EM, with most iterations on few rows."""
    gm = GaussianMixture(5, random_state=0).fit(many)
    start = {"means_init": gm.means_, "weights_init": gm.weights_, "precisions_init": gm.precisions_}
    plain = GaussianMixture(5, tol=1e-6, max_iter=500, **start).fit(many)
    assert gm.n_iter_ <= 4
    assert gm.lower_bound_ > plain.lower_bound_ - 2e-3
    assert gm.converged_
    assert np.all(np.diff(gm.lower_bounds_) > -1e-9)


def test_levels_do_not_depend_on_threads(many, require):
    require("native")
    fits = [GaussianMixture(5, n_threads=n, random_state=0).fit(many) for n in (1, 2, 7)]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.means_, fits[0].means_)
        assert other.lower_bounds_ == fits[0].lower_bounds_


def test_rows_of_weight_0_are_no_part_of_a_level(many):
    weights = np.ones(len(many))
    weights[::4] = 0.0
    spoilt = many.copy()
    spoilt[::4] = 1e6
    a = GaussianMixture(5, random_state=0).fit(spoilt, sample_weight=weights)
    assert np.abs(a.means_).max() < 20.0
    assert a.lower_bound_ == pytest.approx(
        GaussianMixture(5, random_state=0).fit(many[weights > 0]).lower_bound_, abs=5e-3
    )


def test_many_starts_cost_little_more_than_one(many):
    one = GaussianMixture(5, random_state=0, n_init=1).fit(many)
    ten = GaussianMixture(5, random_state=0, n_init=10).fit(many)
    assert ten.lower_bound_ >= one.lower_bound_ - 1e-3
    passes = [m.n_passes_ for m in (one, ten)]
    assert passes[1] < passes[0] + 7 * 5  # a start looks at a fifth of the rows, a couple of dozen times


def test_what_the_user_gives_is_where_em_starts(many):
    """Given parameters, a warm start and no iterations at all leave the levels out."""
    K = 5
    rng = np.random.default_rng(0)
    gm = GaussianMixture(K, means_init=many[rng.integers(0, len(many), K)], max_iter=2, tol=1e9).fit(many)
    assert gm.n_iter_ == 2
    first = GaussianMixture(K, random_state=0, max_iter=0).fit(many)
    assert first.n_iter_ == 0
    warm = GaussianMixture(K, random_state=0, warm_start=True).fit(many)
    bound = warm.lower_bound_
    warm.fit(many)
    assert warm.n_iter_ <= 2
    assert warm.lower_bound_ >= bound - 1e-9


def test_passes_are_counted(rng):
    """Each pass over the rows is one, whatever it is for."""
    X = rng.normal(size=(300, 2))
    start = {"means_init": X[:2], "weights_init": [0.5, 0.5], "precisions_init": np.stack([np.eye(2)] * 2)}
    gm = GaussianMixture(2, max_iter=7, tol=0.0, **start)
    with pytest.warns(Warning, match="did not converge"):
        gm.fit(X)
    assert gm.n_passes_ == 7.0
    assert "passes over the rows    7" in gm.summary()
    km = KMeans(2, init=X[:2], n_init=1, max_iter=300).fit(X)
    assert km.n_passes_ == 1 + km.n_iter_ + 1  # the columns' variance, the iterations, the labels
    x, y = X[:, :1], X[:, 1]
    experts = MixtureOfExperts(2, init=(y > 0).astype(int)).fit(x, y)
    assert experts.n_passes_ == 1 + 1 + experts.n_iter_  # the columns' spread, the given labels


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical", "VVE"])
def test_a_fit_that_has_come_to_rest_looks_at_no_more_rows(covariance_type, rng, monkeypatch):
    """Clusters far apart: an M-step returns what it was given, and further passes would find the same."""
    means = 40.0 * np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    X = (means[rng.integers(4, size=2000)] + rng.normal(size=(2000, 3))).astype(np.float32)
    how = {"covariance_type": covariance_type, "means_init": means + 0.3, "random_state": 0}
    found = GaussianMixture(4, max_iter=30, tol=0.0, **how)
    with pytest.warns(Warning, match="did not converge"):
        found.fit(X)
    assert found.n_iter_ == 30
    assert found.n_passes_ <= 16
    monkeypatch.setattr(mixture, "unchanged", lambda *values: False)
    every = GaussianMixture(4, max_iter=30, tol=0.0, **how)
    with pytest.warns(Warning, match="did not converge"):
        every.fit(X)
    assert every.n_passes_ >= found.n_passes_ + 20
    np.testing.assert_allclose(every.lower_bounds_, found.lower_bounds_, rtol=1e-12)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        value = getattr(every, name)  # of float32, as the rows are: eight roundings
        np.testing.assert_allclose(getattr(found, name), value, rtol=0, atol=1e-6 * np.abs(value).max())


@pytest.mark.parametrize("stop_at", [3, 5, 40])
def test_what_an_interrupted_race_has_reached_is_kept(stop_at, many):
    """From the first iteration of the first start on."""
    calls = []

    class Found:
        def __init__(self, objective):
            self.objective = objective

        def is_finite(self):
            return True

    class Rising:
        """An objective that grows with every iteration."""

        def __init__(self, value=0.0):
            self.value = value

        def expect(self, table, rng=None):
            calls.append(self.value)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return Found(self.value * table.total_weight)

        def maximize(self, found):
            return Rising(self.value + 1.0)

    how = {"n_parameters": 1, "tol": 0.0, "max_iter": 10, "score": bound}
    tables = [Table.of(REFERENCE, many[:50])]
    fit = levels.climb(tables, [Rising] * 5, em.run, keep=True, **how)
    assert fit.interrupted
    assert fit.bounds
    assert fit.bound == max(calls[:-1])
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        levels.climb(tables, [Rising] * 5, em.run, **how)
