"""k-means whole, in one call, against the passes one by one: the same rows, the same centres to the last bit."""

import os
import subprocess
import sys

import numpy as np
import pytest

from mixtura import backends, em, seeding
from mixtura.components.centers import EUCLIDEAN, Metric
from mixtura.lloyd import lloyd
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
    np.testing.assert_array_equal(whole.parameters.components.means, each.parameters.components.means)
    assert whole.bounds == each.bounds
    assert len(whole.bounds) > 1
    assert (whole.converged, whole.bound) == (each.converged, each.bound)


def test_clusters_without_rows_move_on_the_way(rng):
    X = rng.normal(size=(200, 2))
    start = np.vstack([X[:2], [[50.0, 50.0], [60.0, 60.0]]])  # two of four have no rows
    table, how = table_of(X), {"max_iter": 100, "tol": 0.0}
    whole, each = lloyd(table, start, **how), step_by_step(table, start, **how)
    np.testing.assert_array_equal(whole.parameters.components.means, each.parameters.components.means)
    assert whole.bounds == each.bounds
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

import numpy as np
from mixtura import backends
from mixtura.lloyd import lloyd
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
