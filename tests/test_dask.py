"""Fits over rows that lie with Dask's workers: equal to local ones, also where a worker dies."""

import json
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

distributed = pytest.importorskip("distributed")

import dask.array  # noqa: E402

from mixtura import GaussianMixture, KMeans, MixtureOfExperts, backends  # noqa: E402
from mixtura.cli import main  # noqa: E402
from mixtura.data import as_source  # noqa: E402
from mixtura.distributed import Engine, Partitioned, _in_pairs  # noqa: E402

# Dask's own business: sockets that it closes late, and what its dependencies warn of. What fits warn of is an error.
pytestmark = pytest.mark.filterwarnings("default", "error::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    means = 3.0 * rng.normal(size=(4, 3))
    return means[rng.integers(0, 4, 50_000)] + rng.normal(size=(50_000, 3))


@pytest.fixture
def source(client, rows):
    return as_source(dask.array.from_array(rows, chunks=(7000, 2)))


def test_rows_stay_where_they_are(client, rows, source):
    assert source.shape == rows.shape
    assert len(source.parts) == 8
    np.testing.assert_array_equal(source[[3, 49_999, 7000, 6999]], rows[[3, 49_999, 7000, 6999]])
    np.testing.assert_array_equal(source[:], rows)
    survey = source.survey()
    np.testing.assert_allclose(survey[:, 2], rows.min(axis=0))
    np.testing.assert_allclose(survey[:, 3], rows.max(axis=0))
    np.testing.assert_allclose(survey[:, 4], rows.mean(axis=0), atol=0.2)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_fits_are_the_local_ones(kind, rows, source, rng):
    w = rng.uniform(0.0, 2.0, len(rows))
    for weights in (None, w):
        here = GaussianMixture(4, covariance_type=kind, random_state=0).fit(rows, sample_weight=weights)
        there = GaussianMixture(4, covariance_type=kind, random_state=0).fit(source, sample_weight=weights)
        assert there.lower_bound_ == pytest.approx(here.lower_bound_, rel=1e-10)
        np.testing.assert_allclose(there.means_, here.means_, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(there.predict(source), here.predict(rows))
    assert there.score(source) == pytest.approx(here.score(rows), rel=1e-10)
    np.testing.assert_allclose(there.predict_proba(source), here.predict_proba(rows), atol=1e-9)


def test_other_estimators(rows, source, rng):
    y = rows @ [1.0, 2.0, 3.0] + rng.normal(size=len(rows))
    here, there = (KMeans(4, random_state=0).fit(X) for X in (rows, source))
    assert there.inertia_ == pytest.approx(here.inertia_, rel=1e-9)
    for gate in ("constant", "softmax"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # five iterations are compared
            here, there = (
                MixtureOfExperts(2, gate=gate, random_state=0, max_iter=5).fit(X, y) for X in (rows, source)
            )
        assert there.lower_bound_ == pytest.approx(here.lower_bound_, rel=1e-9)
    random = GaussianMixture(2, init_params="random", random_state=0, tol=1e-2).fit(source)
    assert random.converged_


def test_other_collections(client, rows, tmp_path):
    pandas, dataframe = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    frame = pandas.DataFrame(rows, columns=list("abc")).assign(name="x")
    source = as_source(dataframe.from_pandas(frame, npartitions=5), columns=["c", "a"])
    assert source.names == ["c", "a"]
    np.testing.assert_array_equal(source[:], rows[:, [2, 0]])
    frame.drop(columns="name").to_parquet(tmp_path / "t.parquet")
    for data in (rows, [str(tmp_path / "t.parquet")]):
        for engine in ("dask", client):
            gm = GaussianMixture(4, random_state=0).fit(as_source(data, engine=engine))
            assert gm.lower_bound_ == pytest.approx(
                GaussianMixture(4, random_state=0).fit(rows).lower_bound_, rel=1e-9
            )
    unasked = GaussianMixture(4, random_state=0).fit(dask.array.from_array(rows, chunks=(9000, 3)))
    assert unasked.lower_bound_ == pytest.approx(gm.lower_bound_, rel=1e-9)
    single = as_source(dask.array.from_array(rows.astype(np.float32), chunks=(9000, 3)))
    assert single.dtype == np.float32


def test_a_worker_that_dies_changes_nothing(cluster, source):
    make = {"n_components": 4, "random_state": 0, "tol": 1e-12, "max_iter": 60}
    whole = GaussianMixture(**make)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        whole.fit(source)
    begun = threading.Event()

    def kill():
        begun.wait(5.0)
        time.sleep(0.3)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    begun.set()
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        again = GaussianMixture(**make).fit(source)
    killer.join()
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert again.lower_bounds_ == whole.lower_bounds_


def test_command_line(cluster, rows, tmp_path, monkeypatch, capsys):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        part = rows[25_000 * i : 25_000 * (i + 1)]
        pandas.DataFrame(part, columns=list("abc")).to_parquet(f"part-{i}.parquet")
    fit = ["fit", "part-*.parquet", "-k", "4", "--init", "kmeans", "--json", "--engine", "dask"]
    assert main([*fit, "--scheduler", cluster.scheduler_address]) == 0
    found = json.loads(capsys.readouterr().out)
    here = GaussianMixture(4, random_state=0).fit(rows)
    assert found["log_likelihood_per_row"] == pytest.approx(here.lower_bound_, rel=1e-9)
    assert found["columns"] == ["a", "b", "c"]
    assert main(fit) == 2
    assert "needs --scheduler" in capsys.readouterr().err
    monkeypatch.setattr(distributed, "Client", refused)
    assert main([*fit, "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "no scheduler answers there" in capsys.readouterr().err


def refused(address, timeout):
    raise OSError("Timed out trying to connect")


def test_what_is_wrong_is_said(client, rows):
    bad = rows.copy()
    bad[20_001, 1] = np.inf
    with pytest.raises(ValueError, match=r"row 6001 of partition 2, column 1, holds inf"):
        GaussianMixture(2).fit(as_source(dask.array.from_array(bad, chunks=(7000, 3))))
    with pytest.raises(ValueError, match="two axes"):
        as_source(dask.array.zeros(10))
    with pytest.raises(TypeError, match="engine='dask' takes"):
        as_source({}, engine="dask")
    with pytest.raises(ValueError, match="no names"):
        as_source(rows, engine="dask", columns=["a"])


def test_without_a_scheduler(rows, monkeypatch):
    def nowhere():
        raise ValueError("No clients found")

    monkeypatch.setattr(distributed, "get_client", nowhere)
    with pytest.raises(ValueError, match="no Dask scheduler"):
        as_source(dask.array.from_array(rows, chunks=(7000, 3)))


class Here(Engine):
    """An engine without any other process."""

    def map(self, partitions, function, *parameters):
        return [function(*arguments) for arguments in zip(partitions, *parameters, strict=True)]

    def gather(self, results):
        return list(results)

    def add(self, first, second):
        return first + second


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_workers_use_the_precision_that_was_asked_for(precision, rows, monkeypatch):
    made, create = [], backends.create

    def recorded(*arguments):
        made.append(create(*arguments))
        return made[-1]

    there = Partitioned(Here(), [rows[:25_000], rows[25_000:]], [25_000] * 2, 3, rows.dtype)
    monkeypatch.setattr(backends, "create", recorded)
    GaussianMixture(4, random_state=0, precision=precision).fit(there)
    assert len(made) > 2
    assert {backend.precision for backend in made} == {precision}


@pytest.mark.parametrize("n", [1, 2, 7, 64, 65, 200])
def test_sums_are_taken_in_pairs_in_a_fixed_order(n):
    values = [[str(i)] for i in range(n)]
    joined = Here().map_reduce(values, lambda value: value)
    assert joined == [str(i) for i in range(n)]
    nested = [str(i) for i in range(n)]
    while len(nested) > 1:
        nested = _in_pairs(nested, lambda a, b: f"({a}{b})")
    assert Here().map_reduce([str(i) for i in range(n)], Paired) == nested[0]


class Paired(str):
    def __add__(self, other):
        return Paired(f"({self!s}{other!s})")


def test_columns_of_dask_frames_are_those_of_others(client):
    pandas, dataframe = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({
        "a": rng.normal(size=100), "b": pandas.array(rng.integers(0, 5, 100), dtype="Int64"), "text": ["x"] * 100
    })  # fmt: skip
    source = as_source(dataframe.from_pandas(frame, npartitions=3))
    assert source.names == ["a", "b"]
    assert source.notes == as_source(frame).notes == ["left out 1 column(s) that are not numeric: 'text'"]
    for columns, message in ((["text"], "not numeric"), (["c"], "no column c"), (["a", "a"], "twice")):
        with pytest.raises(ValueError, match=message):
            as_source(dataframe.from_pandas(frame, npartitions=3), columns=columns)
    frame.loc[70, "b"] = pandas.NA
    with pytest.raises(ValueError, match=r"partition 2, column 1 \('b'\), holds nan"):
        KMeans(2).fit(as_source(dataframe.from_pandas(frame, npartitions=3)))
    with pytest.raises(ValueError, match="two axes"):
        as_source(dataframe.from_pandas(frame, npartitions=3)["a"])
    with pytest.raises(ValueError, match="Complex data"):
        as_source(dask.array.ones((100, 2), dtype=complex))


def test_partitions_go_by_the_names_of_their_columns(cluster):
    import dask
    import dask.bag
    import dask.dataframe as dd
    import pandas as pd

    first = pd.DataFrame({"a": [1.0, 2.0], "b": [10.0, 20.0]})
    second = pd.DataFrame({"b": [30.0, 40.0], "a": [3.0, 4.0]})
    parts = [dask.delayed(first), dask.delayed(second)]
    with distributed.Client(cluster):
        source = as_source(dd.from_delayed(parts, meta=first, verify_meta=False))
        np.testing.assert_array_equal(source[:], [[1, 10], [2, 20], [3, 30], [4, 40]])
        turned = as_source(dd.from_delayed(parts[::-1], meta=first, verify_meta=False))
        assert source.digest() != turned.digest()
        with pytest.raises(TypeError, match="rows cannot be read from Dask's Bag"):
            as_source(dask.bag.from_sequence([1, 2]))
