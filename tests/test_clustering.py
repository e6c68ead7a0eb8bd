"""k-means and small mixtures whole, in one call, against the passes one by one; the centres to the last bit."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from mixtura import GaussianMixture, backends, em, seeding
from mixtura.backends.clustering import End, PlainEm
from mixtura.components.centers import EUCLIDEAN, Centers, Metric
from mixtura.components.covariances import COVARIANCES
from mixtura.components.estimation import Estimation
from mixtura.components.gaussian import Gaussians
from mixtura.gates import ConstantGate
from mixtura.lloyd import lloyd
from mixtura.membership import Labels
from mixtura.table import Table


@pytest.fixture(autouse=True)
def _kernels(require):
    require("native")


METRICS = {
    "plain": lambda D: EUCLIDEAN,
    "scaled": lambda D: Metric("diagonal", np.linspace(0.5, 2.0, D)[None]),
    "turned": lambda D: Metric("rectangle", np.random.default_rng(1).normal(size=(1, min(D, 2), D))),
}


def step_by_step(table, start, **how):
    """A reporter is told of each iteration, so that each is a pass of its own."""
    return lloyd(table, start, report=lambda step: False, **how)


def table_of(X, weights=None, threads=None):
    return Table.of(backends.create("native", n_threads=threads), X, weights)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("layout", ["C", "F", "float32", "view", "reversed"])
@pytest.mark.parametrize(("rows", "dims", "clusters"), [(40, 1, 3), (300, 3, 5), (2500, 9, 7), (1500, 16, 2)])
def test_iterations_are_those_of_passes_one_by_one(rows, dims, clusters, layout, weighted, metric, rng):
    X = rng.normal(size=(rows, dims)) + 4.0 * rng.integers(0, 3, size=(rows, 1))
    weights = rng.uniform(0.5, 2.0, size=rows) if weighted else None
    if layout == "F":
        X = np.asfortranarray(X)
    elif layout == "float32":
        X = X.astype(np.float32)
    elif layout == "view":  # what lies beyond the columns is not to be looked at
        whole = np.full((rows, dims + 3), np.nan)
        whole[:, :dims] = X
        X = whole[:, :dims]
    elif layout == "reversed":
        X = X[::-1]
    table, how = table_of(X, weights), {"max_iter": 50, "tol": 1e-6, "metric": METRICS[metric](dims)}
    start = np.asarray(X[:clusters], dtype=np.float64)
    whole, each = lloyd(table, start, **how), step_by_step(table, start, **how)
    assert_alike(whole, each, X)
    assert len(whole.bounds) > 1


def assert_alike(whole, each, X):
    """The same centres, to the last bit.

    A run in one call adds up by how much its bound changes. That takes centres for the means of their rows, which they
    are but for a rounding of their coordinates.
    """
    np.testing.assert_array_equal(whole.parameters.components.means, each.parameters.components.means)
    assert (whole.converged, len(whole.bounds)) == (each.converged, len(each.bounds))
    rounding = np.finfo(np.float64).eps * np.nanmax(np.abs(X))
    np.testing.assert_allclose(whole.bounds, each.bounds, rtol=1e-13, atol=rounding)


def ties(rng):
    """Points of a coarse grid, many of them as far from one centre as from another."""
    return rng.integers(0, 9, size=(9000, 2)).astype(float), None


def far_off(rng):
    """Clusters so far from the pivot that distances in single precision have few digits."""
    return rng.normal(size=(6000, 3)) + 1e5 * rng.integers(0, 3, size=(6000, 1)), None


def some_without_weight(rng):
    X, weights = rng.normal(size=(5000, 4)), rng.uniform(0.5, 2.0, size=5000)
    weights[::3] = 0.0
    X[::6] = np.nan
    return X, weights


def hardly_any_weight(rng):
    """A cluster whose rows weigh so little that sums of what comes and goes would lose them."""
    X, weights = rng.normal(size=(4000, 2)), np.ones(4000)
    X[:500] += 8.0
    weights[:500] = 1e-14
    return X, weights


def long(rng):
    """Of so many rows for each centre that the centres' distances from each other are looked at."""
    return rng.normal(size=(40_000, 3)) + 3.0 * rng.normal(size=(20, 3))[rng.integers(20, size=40_000)], None


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", [ties, far_off, some_without_weight, hardly_any_weight, long])
def test_what_is_remembered_of_rows_changes_no_centre(kind, threads, rng):
    X, weights = kind(rng)
    table = table_of(X, weights, threads)
    counted = np.flatnonzero(np.isfinite(X[:, 0]))
    start = X[rng.choice(counted, 20, replace=False)]
    if kind is hardly_any_weight:
        start[0] = X[0]
    how = {"max_iter": 200, "tol": 0.0}
    whole, each = lloyd(table, start, **how), step_by_step(table, start, **how)
    assert_alike(whole, each, X)
    assert len(whole.bounds) > 3


def test_clusters_without_rows_move_on_the_way(rng):
    X = rng.normal(size=(200, 2))
    start = np.vstack([X[:2], [[50.0, 50.0], [60.0, 60.0]]])  # two of four have no rows
    table, how = table_of(X), {"max_iter": 100, "tol": 0.0}
    whole, each = lloyd(table, start, **how), step_by_step(table, start, **how)
    assert_alike(whole, each, X)
    assert whole.converged


@pytest.mark.parametrize("max_iter", [0, 1, 3])
def test_iterations_end_at_the_limit(max_iter, rng):
    X = rng.normal(size=(200, 2))
    fit = lloyd(table_of(X), X[:5], max_iter=max_iter, tol=0.0)
    assert fit.n_iter == max_iter
    assert not fit.converged


def test_sums_that_overflow(rng):
    X = rng.normal(size=(50, 2)) * 1e200
    with pytest.raises(em.NotFiniteError):
        lloyd(table_of(X), X[:3], max_iter=10, tol=0.0)


def test_rows_of_weight_0_may_hold_anything(rng):
    X, weights = rng.normal(size=(99, 3)), np.ones(99)
    clean = lloyd(table_of(X[::2].copy()), X[:8:2], max_iter=10, tol=0.0)
    X[1::2], weights[1::2] = np.nan, 0.0
    fit = lloyd(table_of(X, weights), X[:8:2], max_iter=10, tol=0.0)
    expected = clean.parameters.components.means
    np.testing.assert_allclose(fit.parameters.components.means, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_seeds_are_those_of_distances_one_by_one(dtype, weighted, metric, rng, monkeypatch):
    X = (rng.normal(size=(400, 4)) + 3.0 * rng.integers(0, 3, size=(400, 1))).astype(dtype)
    weights = rng.integers(1, 4, size=400).astype(np.float64) if weighted else None
    table, metric = table_of(X, weights), METRICS[metric](4)
    whole = [seeding.seed(table, 6, np.random.RandomState(s), metric) for s in range(20)]
    monkeypatch.setattr(type(table.backend), "clustering", lambda self, rows: None)
    each = [seeding.seed(table, 6, np.random.RandomState(s), metric) for s in range(20)]
    np.testing.assert_array_equal(whole, each)


def test_seeds_use_up_the_same_random_numbers(rng, monkeypatch):
    table = table_of(rng.normal(size=(100, 2)))
    one, other = np.random.RandomState(0), np.random.RandomState(0)
    seeding.seed(table, 5, one)
    monkeypatch.setattr(type(table.backend), "clustering", lambda self, rows: None)
    seeding.seed(table, 5, other)
    assert one.uniform() == other.uniform()


def test_seeds_of_fewer_distinct_rows_than_clusters():
    X = np.repeat([[0.0], [1.0]], 20, axis=0)
    chosen = seeding.seed(table_of(X), 5, np.random.RandomState(0))
    assert len(chosen) == 5
    assert set(X[chosen, 0]) == {0.0, 1.0}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_threads(threads, rng):
    X = rng.normal(size=(40_000, 5))
    fit = lloyd(table_of(X, threads=threads), X[:9], max_iter=5, tol=0.0)
    expected = lloyd(table_of(X, threads=1), X[:9], max_iter=5, tol=0.0)
    np.testing.assert_array_equal(fit.parameters.components.means, expected.parameters.components.means)
    assert fit.bounds == expected.bounds


def test_passes_are_counted_alike(rng):
    X = rng.normal(size=(300, 2))
    whole, each = table_of(X), table_of(X)
    how = {"max_iter": 20, "tol": 0.0}
    lloyd(whole, X[:4], **how)
    step_by_step(each, X[:4], **how)
    assert whole.tally.rows == each.tally.rows


@pytest.mark.skipif(not hasattr(os, "kill"), reason="no signals")
def test_ctrl_c_ends_a_long_run_of_short_passes():
    script = """
import os, signal, threading, time
import os
import subprocess
import sys
import warnings

import numpy as np
from mixtura import backends
from mixtura.lloyd import lloyd
from mixtura.membership import Labels
from mixtura.table import Table

# Set: what a shell starts in the background inherits that SIGINT is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
X = np.random.default_rng(0).normal(size=(2000, 2))
sent = []
def interrupt():
    time.sleep(0.5)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    lloyd(Table.of(backends.create("native"), X), X[:5], max_iter=10**7, tol=-1.0)
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0])
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 0.2


def run_from(table, labels, components, covariance_type, tol):
    """EM from labels, pass by pass."""
    from mixtura.components import COVARIANCES, Gaussians
    from mixtura.components.estimation import Estimation
    from mixtura.gates.constant import ConstantGate
    from mixtura.mixture import Mixture

    family = COVARIANCES[covariance_type]
    resp = np.asarray(labels[:, None] == np.arange(components), dtype=np.float64)
    moments = table.accumulate(lambda block: resp[block.cut], components, family.kind)
    start = Mixture(
        ConstantGate.from_moments(moments), Gaussians.from_moments(family, moments, Estimation(1e-6))
    )
    return em.run(start, table, max_iter=200, stop=lambda step: abs(step.change) < tol)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical", "EEI", "EII"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_races_are_runs_from_the_same_labels(covariance_type, dtype, rng):
    from mixtura.components import COVARIANCES

    family = COVARIANCES[covariance_type]
    assert family.direct
    z = rng.integers(0, 3, 400)
    X = (rng.normal(size=(400, 3)) + 5.0 * z[:, None] * [1.0, 0.0, 0.5]).astype(dtype)
    table, storage = table_of(X), family.storage
    mixed = np.where(rng.uniform(size=400) < 0.2, rng.integers(0, 3, 400), z)
    labels = np.stack([z, mixed]).astype(np.int32)
    raced = table.race(labels, 3, PlainEm(storage.form, storage.shared, 1e-6, 1e-10, 200))
    assert raced.good.all()
    # Passes over float32 rows may sum in float32; the race does not.
    slack = 1e-7 if dtype == np.float64 else 1e-4
    for r in range(2):
        run = run_from(table, labels[r], 3, covariance_type, 1e-10 if dtype == np.float64 else 1e-7)
        gaussians, weights = run.parameters.components, run.parameters.gate.weights
        assert raced.bounds[r] == pytest.approx(run.bound, rel=slack)
        np.testing.assert_allclose(raced.weights[r], weights, rtol=0, atol=10.0 * slack)
        np.testing.assert_allclose(raced.means[r], gaussians.means, rtol=0, atol=100.0 * slack)
        covariances = raced.covariances[r].reshape(storage.shape(3, 3))
        np.testing.assert_allclose(covariances, gaussians.covariances, rtol=0, atol=100.0 * slack)


def test_what_may_not_race(rng):
    X = rng.normal(size=(100, 2))
    assert table_of(X).may_race
    assert not table_of(X, np.ones(100)).may_race
    assert not Table.of(backends.create("reference"), X).may_race
    assert not table_of(rng.normal(size=(70_000, 2))).may_race
    with_targets = Table.of(backends.create("native"), X, y=X[:, :1].copy())
    assert not with_targets.may_race


def test_a_race_leaves_out_runs_that_become_singular(rng):
    X = np.vstack([np.full((5, 2), 5.0), rng.normal(size=(200, 2)) + 5.0])
    labels = np.zeros((2, 205), dtype=np.int32)
    labels[0, :5] = 1  # five equal rows alone
    labels[1] = X[:, 0] > 5.0
    raced = table_of(X).race(labels, 2, PlainEm("triangle", False, 0.0, 1e-3, 50))
    assert raced.good.tolist() == [False, True]


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize("degenerate", ["raise", "repair"])
def test_auto_is_not_below_kmeans(covariance_type, degenerate):
    """Columns of unlike units, crossing and unlike clusters: each time the best of many starts, this one among them."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = (
            rng.normal(size=(300, 3)) * rng.uniform(0.2, 3.0, 3)
            + 4.0 * rng.normal(size=(3, 3))[rng.integers(0, 3, 300)]
        )
        X *= 10.0 ** rng.uniform(-1.0, 1.0, 3)
        how = {
            "covariance_type": covariance_type,
            "random_state": 0,
            "on_degenerate": degenerate,
            "tol": 1e-6,
        }
        how |= {"max_iter": 500}
        plain = GaussianMixture(3, **how).fit(X)
        auto = GaussianMixture(3, init_params="auto", **how).fit(X)
        assert auto.lower_bound_ >= plain.lower_bound_ - 0.01


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical", "EEI", "EII"])
@pytest.mark.parametrize("max_iter", [2, 5, 300])
def test_runs_in_one_call_are_those_of_passes_one_by_one(covariance_type, max_iter, rng, monkeypatch):
    X = rng.normal(size=(300, 3)) * [1.0, 2.0, 0.5] + 3.0 * rng.integers(0, 3, size=(300, 1)) + 1e3
    gm = GaussianMixture(3, covariance_type=covariance_type, tol=1e-5, max_iter=max_iter, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = clone(gm).fit(X)
        monkeypatch.setattr(Table, "may_advance", lambda self, components, form: False)
        each = clone(gm).fit(X)
    assert (whole.n_iter_, whole.converged_) == (each.n_iter_, each.converged_)
    assert whole.n_iter_ > 1
    np.testing.assert_allclose(whole.lower_bounds_, each.lower_bounds_, rtol=0, atol=1e-10)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(whole, name), getattr(each, name), rtol=1e-7, atol=1e-9)
    assert whole.n_passes_ == each.n_passes_


def test_a_run_in_one_call_that_becomes_singular_says_so(rng):
    X = np.vstack([rng.normal(size=(60, 2)), np.repeat([[1.7, 1.7]], 8, axis=0)])
    start = {"means_init": [[0.0, 0.0], [1.7, 1.7]], "weights_init": [0.5, 0.5]}
    start |= {"precisions_init": [np.eye(2), 1e6 * np.eye(2)]}
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        GaussianMixture(2, reg_covar=0.0, **start).fit(X)


@pytest.mark.parametrize(
    "how",
    [
        {"noise": True},
        {"prior": "default"},
        {"on_degenerate": "repair"},
        {"on_degenerate": "drop"},
        {"accelerate": "squarem"},
        {"covariance_type": "VVE"},
        {"reg_covar": "auto"},
        {"fixed": {"weights": [True, True]}, "weights_init": [0.5, 0.5]},
    ],
)
def test_what_kernels_do_not_know_goes_pass_by_pass(how, rng, monkeypatch):
    def never(*arguments, **how):
        raise AssertionError("made in one call")

    monkeypatch.setattr(Table, "advance", never)
    X = rng.normal(size=(200, 2)) + 5.0 * rng.integers(0, 2, size=(200, 1))
    assert GaussianMixture(2, random_state=0, **how).fit(X).converged_
    assert GaussianMixture(2, random_state=0).fit(X, sample_weight=np.full(200, 2.0)).converged_
    assert GaussianMixture(2, random_state=0).fit(X.astype(np.float32)).converged_
    with pytest.raises(AssertionError, match="in one call"):
        GaussianMixture(2, random_state=0).fit(X)


def test_a_family_that_changes_anothers_m_step_goes_pass_by_pass(rng):
    from mixtura.components.covariances import Full

    class Halved(Full):
        name = "halved"

        def estimate(self, moments, mass):
            return 0.5 * super().estimate(moments, mass)

    class Renamed(Full):
        name = "renamed"

    assert Full.direct
    assert Renamed.direct
    assert not Halved.direct


def test_what_may_run_in_one_call(rng):
    """Rows without weights, labels and targets, and no more than so many numbers."""
    backend, X = backends.create("native"), rng.normal(size=(50, 2))
    assert Table.of(backend, X).may_race
    assert not Table.of(backend, X, np.ones(50)).may_race
    assert not Table.of(backend, X, None, X[:, :1]).may_race
    assert not Table.of(backend, X, membership=Labels(np.zeros(50, dtype=np.intp))).may_race
    assert Table.of(backend, X).may_advance(3, "triangle")
    assert not Table.of(backend, X.astype(np.float32)).may_advance(3, "triangle")
    assert not Table.of(backend, X).may_advance(1 << 24, "scalar")
    wide = Table.of(backend, rng.normal(size=(500, 60)))
    assert wide.may_advance(5, "diagonal")
    assert not wide.may_advance(5, "triangle")


def test_one_call_counts_its_passes(rng):
    """As a fit does that goes iteration by iteration because somebody listens."""
    X = rng.normal(size=(300, 3)) + 4.0 * rng.integers(0, 3, size=(300, 1))
    how = {"backend": "native", "random_state": 0, "tol": 1e-6}
    silent = GaussianMixture(3, **how).fit(X)
    heard = GaussianMixture(3, **how).set_params(verbose=2, verbose_interval=1000).fit(X)
    assert silent.n_iter_ == heard.n_iter_
    assert silent.n_passes_ == heard.n_passes_


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_searches_are_seeds_and_iterations_one_after_the_other(dtype, weighted, rng):
    X = (rng.normal(size=(200, 3)) + 3.0 * rng.integers(0, 4, size=(200, 1))).astype(dtype)
    table = table_of(X, rng.uniform(0.5, 2.0, 200) if weighted else None)
    tol = 1e-4 * float(X.var(axis=0).mean())
    found = table.searches(Centers(table.pivot[None]).quadratics, 4, 3, 5, 50, tol, np.random.RandomState(3))
    generator = np.random.RandomState(3)
    for r in range(5):
        start = table.points(seeding.seed(table, 4, generator))
        fit = lloyd(table, start, max_iter=50, tol=tol)
        np.testing.assert_array_equal(found.means[r], fit.parameters.components.means)
        labels, distances = fit.parameters.components.nearest(table)
        np.testing.assert_array_equal(found.labels[r], labels)
        assert found.inertia[r] == pytest.approx(float(table.weight @ distances), rel=1e-12)
        assert found.iterations[r] == len(fit.bounds)
        assert found.ends[r] == (End.CONVERGED if fit.converged else End.LIMIT)
    again = table_of(X, table.sample_weight, threads=1).searches(
        Centers(table.pivot[None]).quadratics, 4, 3, 5, 50, tol, np.random.RandomState(3)
    )
    np.testing.assert_array_equal(again.means, found.means)


def test_searches_say_why_they_ended(rng):
    def ends(X, components, max_iter=50):
        table = table_of(X)
        point = Centers(table.pivot[None]).quadratics
        return table.searches(point, components, 2, 3, max_iter, 0.0, np.random.RandomState(0)).ends.tolist()

    X = rng.normal(size=(100, 2))
    assert ends(X, 5, max_iter=1) == [End.LIMIT] * 3
    assert ends(np.repeat(X[:2], 10, axis=0), 4) == [End.EMPTY] * 3
    assert ends(X * 1e200, 2) == [End.NOT_FINITE] * 3


def test_a_run_from_labels_is_the_one_from_their_m_step(rng):
    X = rng.normal(size=(150, 2)) + 3.0 * rng.integers(0, 3, size=(150, 1))
    table, labels = table_of(X), rng.integers(0, 3, 150).astype(np.int32)
    for form, shape in (("triangle", (3, 2, 2)), ("diagonal", (3, 2)), ("scalar", (3,))):
        how = PlainEm(form, False, 1e-6, 1e-4, 30)
        zeros = np.zeros(3), np.zeros((3, 2)), np.zeros(shape)
        (weights, means, covariances), bounds = table.advance(zeros, how, labels)
        kind = {"triangle": "full", "diagonal": "diag", "scalar": "spherical"}[form]
        family = COVARIANCES[kind]
        moments = table.accumulate(lambda b: np.eye(3)[labels[b.cut]], 3, family.kind)
        first = Gaussians.from_moments(family, moments, Estimation(1e-6))
        gate = ConstantGate.from_moments(moments)
        (w, m, c), b = table.advance((gate.weights, first.means, first.covariances), how)
        np.testing.assert_allclose(bounds, b, rtol=1e-12)
        for got, want in ((weights, w), (means, m), (covariances, c)):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_long_runs_are_made_in_parts_between_which_an_interrupt_may_come(rng, monkeypatch):
    from mixtura.backends import native_clustering

    X = rng.normal(size=(150, 2)) + 1.5 * rng.integers(0, 3, size=(150, 1))
    table, labels = table_of(X), rng.integers(0, 3, 150).astype(np.int32)
    zeros = np.zeros(3), np.zeros((3, 2)), np.zeros((3, 2, 2))
    for max_iter, tol in ((100, 0.0), (101, 0.0), (400, 1e-4), (1, 0.0)):
        how = PlainEm("triangle", False, 1e-6, tol, max_iter)
        whole, bounds = table.advance(zeros, how, labels)
        with monkeypatch.context() as patched:
            patched.setattr(native_clustering, "_MOST_ITERATIONS", 7)
            parts, same = table.advance(zeros, how, labels)
        np.testing.assert_allclose(same, bounds, rtol=1e-12)
        for got, want in zip(parts, whole, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)
