"""Tables that are read block by block: every kind of source, equal to the same rows in memory."""

import importlib.util
import os

import numpy as np
import pytest
from scipy import sparse

import mixtura
from mixtura import GaussianMixture, KMeans, MixtureOfExperts, backends
from mixtura import autodiff as ad
from mixtura.data import TableError, TextLayout, as_source
from mixtura.streamed import Streamed, _Buffers, release
from mixtura.table import Table

SMALL = 1 << 15  # blocks of 2048 rows of four float32 columns


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    means = 3.0 * rng.normal(size=(3, 4))
    return (means[rng.integers(0, 3, 40_000)] + rng.normal(size=(40_000, 4))).astype(np.float32)


class Again:
    """Blocks of odd sizes, each time that it is iterated."""

    def __init__(self, X, size=777):
        self.X, self.size, self.times = X, size, 0

    def __iter__(self):
        self.times += 1
        return (self.X[a : a + self.size] for a in range(0, len(self.X), self.size))


class OnlySlices:
    """Has a shape and slices, as zarr's and h5py's arrays do."""

    def __init__(self, X):
        self._X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, index):
        assert isinstance(index, slice)
        return self._X[index]


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    path = tmp_path_factory.mktemp("tables")
    np.save(path / "rows.npy", rows)
    table = pyarrow.table({f"c{j}": rows[:, j] for j in range(4)} | {"name": ["a"] * len(rows)})
    for i in range(4):
        parquet.write_table(table.slice(10_000 * i, 10_000), path / f"part-{i}.parquet", row_group_size=3000)
    feather.write_feather(table, path / "rows.arrow", compression="uncompressed")
    return path


def sources(rows, folder):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    yield "array", as_source(rows, block_bytes=SMALL)
    yield "memmap", as_source(np.load(folder / "rows.npy", mmap_mode="r"), block_bytes=SMALL)
    yield "npy", as_source(folder / "rows.npy", block_bytes=SMALL)
    yield "Parquet", as_source(str(folder / "part-*.parquet"), block_bytes=SMALL)
    yield (
        "Parquet without cache",
        as_source([folder / f"part-{i}.parquet" for i in range(4)], block_bytes=SMALL, cache_bytes=0),
    )
    yield "Arrow file", as_source(folder / "rows.arrow", block_bytes=SMALL, cache_dir=folder)
    table = pyarrow.table({f"c{j}": rows[:, j] for j in range(4)})
    yield "Arrow table", as_source(table, block_bytes=SMALL)
    yield (
        "dataset",
        as_source(
            pyarrow.dataset.dataset(folder / "part-0.parquet"), block_bytes=SMALL, columns=["c1", "c0"]
        ),
    )
    yield "pandas", as_source(pandas.DataFrame(rows, columns=list("wxyz")), block_bytes=SMALL)
    yield "sparse", as_source(sparse.csr_matrix(rows), block_bytes=SMALL)
    yield "slices", as_source(OnlySlices(rows), block_bytes=SMALL)
    yield "blocks", as_source(Again(rows), block_bytes=SMALL)


def test_every_kind_of_source_has_the_same_rows(rows, folder):
    for name, source in sources(rows, folder):
        want = rows[:10_000][:, [1, 0]] if name == "dataset" else rows
        assert source.shape == want.shape, name
        assert source.dtype == np.float32, name
        assert len(list(source.blocks())) > 2
        np.testing.assert_array_equal(source[:], want)
        np.testing.assert_array_equal(source[100:9000], want[100:9000])
        np.testing.assert_array_equal(source[[5, 9_999, 3, -1]], want[[5, 9_999, 3, -1]])
        np.testing.assert_array_equal(source[7], want[7])
        np.testing.assert_array_equal(source[::1000, 1], want[::1000, 1])
        np.testing.assert_array_equal(source[np.arange(len(want)) < 3], want[:3])
        seen, parts = zip(*source.shuffled(np.random.RandomState(0)), strict=True)
        order = np.concatenate(seen)
        np.testing.assert_array_equal(np.sort(order), np.arange(len(want)))
        np.testing.assert_array_equal(np.concatenate(parts), want[order])
    assert as_source(source) is source


def test_fits_are_those_of_the_rows_in_memory(rows, folder):
    whole = GaussianMixture(3, random_state=0).fit(rows)
    for name, source in sources(rows, folder):
        if name == "dataset":
            continue
        gm = GaussianMixture(3, random_state=0).fit(source)
        assert gm.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-9), name
        assert gm.n_passes_ == whole.n_passes_
        np.testing.assert_array_equal(gm.predict(source), whole.predict(rows))
        assert gm.score(source) == pytest.approx(whole.score(rows), rel=1e-9)
        np.testing.assert_allclose(gm.predict_proba(source), whole.predict_proba(rows), atol=1e-4)
        if source.names is not None:
            assert list(gm.feature_names_in_) == source.names


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_weights_and_types_of_covariance(kind, rows, rng):
    w, source = rng.uniform(0.0, 2.0, len(rows)), as_source(rows.astype(np.float64), block_bytes=SMALL)
    whole = GaussianMixture(3, covariance_type=kind, random_state=0).fit(
        rows.astype(np.float64), sample_weight=w
    )
    streamed = GaussianMixture(3, covariance_type=kind, random_state=0).fit(source, sample_weight=w)
    assert streamed.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-12)
    np.testing.assert_allclose(streamed.means_, whole.means_, rtol=1e-9)
    assert streamed.score(source, sample_weight=w) == pytest.approx(
        whole.score(rows, sample_weight=w), rel=1e-12
    )


def test_the_result_depends_on_no_number_of_threads(rows):
    source = as_source(rows, block_bytes=SMALL)
    one, two = (GaussianMixture(3, random_state=0, n_threads=n).fit(source) for n in (1, 2))
    np.testing.assert_array_equal(one.means_, two.means_)


def test_other_estimators(rows, rng):
    rows = rows.astype(np.float64)
    source, y = as_source(rows, block_bytes=SMALL), rows @ [1.0, 2.0, 0.0, -1.0] + rng.normal(size=len(rows))
    whole, streamed = (KMeans(3, random_state=0).fit(X) for X in (rows, source))
    assert streamed.inertia_ == pytest.approx(whole.inertia_, rel=1e-9)
    np.testing.assert_array_equal(streamed.labels_, whole.labels_)
    np.testing.assert_array_equal(streamed.predict(source), whole.labels_)
    for gate in ("constant", "softmax", "gaussian", "dirichlet"):
        whole, streamed = (
            MixtureOfExperts(2, gate=gate, random_state=0, max_iter=50, tol=1e-4).fit(X, y)
            for X in (rows, source)
        )
        assert streamed.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-9)
        np.testing.assert_allclose(streamed.predict(source), whole.predict(rows), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(streamed.score_samples(source, y), whole.score_samples(rows, y), rtol=1e-6)


def test_neural_gates(rows):
    pytest.importorskip("torch")
    few = rows[:5000].astype(np.float64)
    y = few @ [1.0, 2.0, 0.0, -1.0]
    whole, streamed = (
        MixtureOfExperts(2, gate="neural", random_state=0, max_iter=5, tol=10.0).fit(X, y)
        for X in (few, as_source(few, block_bytes=SMALL))
    )
    np.testing.assert_allclose(streamed.predict(few), whole.predict(few), rtol=1e-6, atol=1e-6)


def test_what_is_not_in_memory_needs_no_words(rows, folder):
    """Paths, and sparse rows in all of SciPy's formats."""
    whole = GaussianMixture(3, random_state=0).fit(rows)
    for path in (folder / "rows.npy", str(folder / "part-*.parquet")):
        gm = GaussianMixture(3, random_state=0).fit(path)
        assert gm.score(path) == pytest.approx(whole.score(rows), rel=1e-9)
        np.testing.assert_array_equal(gm.predict(path), whole.predict(rows))
    few = np.maximum(rows[:3000], 0.0).astype(np.float64)
    y = 1.0 + few @ [1.0, 2.0, 0.0, -1.0]
    kmeans = KMeans(3, random_state=0).fit(few)
    experts = MixtureOfExperts(2, random_state=0).fit(few, y)
    for form in ("csr", "csc", "coo", "lil"):
        thin = sparse.csr_array(few).asformat(form)
        found = KMeans(3, random_state=0).fit(thin)
        np.testing.assert_array_equal(found.labels_, kmeans.labels_)
        np.testing.assert_allclose(found.transform(thin), kmeans.transform(few), rtol=1e-9, atol=1e-9)
        again = MixtureOfExperts(2, random_state=0).fit(thin, y)
        np.testing.assert_allclose(again.predict(thin), experts.predict(few), rtol=1e-6)
        again.partial_fit(thin, y).partial_fit(few, y)
    with pytest.raises(TypeError, match=r"as_source\(X\)"):
        GaussianMixture(2).fit(sparse.csr_array(few))
    with pytest.raises(ValueError, match="Complex data not supported"):
        KMeans(2).fit(sparse.csr_array(few * 1j))


def test_derivatives(rows):
    gm = GaussianMixture(2, random_state=0, max_iter=3, tol=10.0).fit(rows[:5000])
    value, gradient = ad.value_and_grad(gm, as_source(rows, block_bytes=SMALL))
    want = ad.value_and_grad(gm, rows)
    assert value == pytest.approx(want[0], rel=1e-12)
    np.testing.assert_allclose(gradient, want[1], atol=1e-10 * np.abs(want[1]).max())


def test_small_sources(rows):
    few = as_source(rows[:50])
    whole, streamed = (GaussianMixture(2, random_state=0).fit(X) for X in (rows[:50], few))
    assert streamed.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-9)


def test_polars(rows):
    polars = pytest.importorskip("polars")
    source = as_source(polars.DataFrame(rows, schema=list("wxyz")), columns=["z", "w"], block_bytes=SMALL)
    np.testing.assert_array_equal(source[:], rows[:, [3, 0]])


def test_integers_and_mixed_types_become_float64(rows):
    integers = as_source(np.arange(6000).reshape(2000, 3))
    assert integers.dtype == np.float64
    assert integers[1999, 2] == 5999.0
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"a": np.arange(5), "b": np.zeros(5, np.float32), "c": list("uvwxy"), "d": [True] * 5}
    )
    source = as_source(frame)
    assert source.names == ["a", "b", "d"]
    assert source.dtype == np.float64


def test_caches_leave_nothing_behind(rows, folder, tmp_path):
    source = as_source(str(folder / "part-*.parquet"), block_bytes=SMALL, cache_dir=tmp_path)
    assert os.listdir(tmp_path) == []  # it has no name
    np.testing.assert_array_equal(source[:], rows)
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    del source
    if descriptors is not None:
        assert len(os.listdir("/proc/self/fd")) == descriptors - 1


def test_memory_maps_are_let_go(tmp_path):
    X = np.zeros((1000, 4))
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    mapped[0] = 7.0
    release(mapped[:10])
    release(np.asarray(mapped[:10]))
    assert mapped[0, 0] == 7.0  # what was written is in the file
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[1] = 5.0
    release(private)
    assert private[1, 0] == 5.0
    release(X)


def test_a_reader_stops_with_its_loop(rows):
    source = as_source(rows, block_bytes=SMALL)
    for _, block in source.blocks():
        assert len(block) == 2048
        break
    import threading

    assert not any(t.name == "mixtura-reader" for t in threading.enumerate())


class Changing(Again):
    """Has other rows on its second pass."""

    def __init__(self, X, change):
        super().__init__(X)
        self.change = change

    def __iter__(self):
        blocks = super().__iter__()
        return blocks if self.times == 1 else iter(self.change(blocks))


def test_sources_that_change(rows):
    def fewer(blocks):
        return list(blocks)[:-3]

    def more(blocks):
        return [*blocks, rows[:5000]]

    def wider(blocks):
        return (np.hstack([b, b]) for b in blocks)

    for change, message in (
        (fewer, "ended at row .* had 40000 rows on its first pass"),
        (more, "more rows than the 40000"),
        (wider, r"shape \(777, 8\), and 4 columns"),
    ):
        with pytest.raises(ValueError, match=message):
            GaussianMixture(2).fit(as_source(Changing(rows, change), block_bytes=SMALL))
    generator = (rows[a : a + 100] for a in range(0, 1000, 100))
    with pytest.raises(TypeError, match="no iterator"):
        as_source(generator)


def test_values_that_are_missing(rows, folder, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    bad = rows.copy()
    bad[35_000, 2] = np.nan
    with pytest.raises(ValueError, match="row 35000, column 2, holds nan"):
        GaussianMixture(2).fit(as_source(bad, block_bytes=SMALL))
    for i in range(4):
        table = pyarrow.table({f"c{j}": bad[10_000 * i : 10_000 * (i + 1), j] for j in range(4)})
        parquet.write_table(table, tmp_path / f"part-{i}.parquet")
    for cache in (0, None):
        with pytest.raises(ValueError, match=r"row 5000 of .*part-3.parquet, column 2 \('c2'\)"):
            GaussianMixture(2).fit(as_source(str(tmp_path / "*.parquet"), cache_bytes=cache))


def test_files_that_are_wrong(rows, folder, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    with pytest.raises(FileNotFoundError, match="no file matches"):
        as_source(str(tmp_path / "*.parquet"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        as_source(tmp_path / "x.parquet")
    with pytest.raises(FileNotFoundError, match="cache_dir"):
        as_source(rows, cache_dir=tmp_path / "nowhere")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 this is no table PAR1")
    with pytest.raises(TableError, match=r"broken\.parquet"):
        as_source(tmp_path / "broken.parquet")
    (tmp_path / "broken.npy").write_bytes(b"nonsense")
    with pytest.raises(TableError, match=r"broken\.npy"):
        as_source(tmp_path / "broken.npy")
    (tmp_path / "x.txt").write_text("1 2")
    with pytest.raises(ValueError, match=r"end in \.txt"):
        as_source(tmp_path / "x.txt")
    (tmp_path / "several").mkdir()
    parquet.write_table(pyarrow.table({"a": [1.0], "b": [2.0]}), tmp_path / "several" / "0.parquet")
    parquet.write_table(pyarrow.table({"a": [1.0], "c": [2.0]}), tmp_path / "several" / "1.parquet")
    with pytest.raises(ValueError, match=r"1\.parquet has no column 'b'"):
        as_source(str(tmp_path / "several" / "*.parquet"))
    parquet.write_table(pyarrow.table({"a": [1.0], "b": ["x"]}), tmp_path / "several" / "1.parquet")
    with pytest.raises(ValueError, match=r"column 'b' of .*1\.parquet is string"):
        as_source(str(tmp_path / "several" / "*.parquet"))
    with pytest.raises(ValueError, match="no column z"):
        as_source(folder / "part-0.parquet", columns=["z"])
    with pytest.raises(ValueError, match="column name of the table is not numeric"):
        as_source(folder / "part-0.parquet", columns=["name"])


def test_bad_input(rows):
    for data, error, message in (
        (3, TypeError, "cannot be read from int"),
        (rows[0], ValueError, "two axes"),
        (np.array([["a", "b"]]), ValueError, "real numbers"),
        (rows[:0], ValueError, "nothing to fit"),
        ([rows[:5], rows[:5, :2]], ValueError, r"block 1 of the source has shape \(5, 2\)"),
        ([], ValueError, "gave no rows"),
        ([np.array([["a"]])], ValueError, "block 0 of the source must hold real numbers"),
    ):
        with pytest.raises(error, match=message):
            as_source(data)
    with pytest.raises(ValueError, match="block_bytes"):
        as_source(rows, block_bytes=0)
    with pytest.raises(ValueError, match="cache_bytes"):
        as_source(rows, cache_bytes=-1)
    with pytest.raises(ValueError, match="has no names"):
        as_source(rows, columns=["a"])
    source = as_source(rows)
    with pytest.raises(TypeError, match="never becomes one array"):
        np.asarray(source)
    gm = GaussianMixture(2, random_state=0).fit(rows[:1000])
    with pytest.raises(ValueError, match="features"):
        gm.predict(as_source(rows[:, :2]))
    with pytest.raises(ValueError, match="n_samples"):
        GaussianMixture(20).fit(as_source(rows[:10]))
    with pytest.raises(ValueError, match="y has shape"):
        MixtureOfExperts(2).fit(source, np.zeros(3))
    assert isinstance(source, Streamed)


def test_what_a_survey_says_of_each_column(rng):
    """Numbers that are not finite, least, greatest, mean and standard deviation, of rows of positive weight."""
    X = rng.normal(size=(5000, 3)) * [1.0, 0.1, 50.0] + [1e4, 0.0, -7.0]
    weights = np.ones(5000)
    X[17], weights[17] = 1e9, 0.0
    found = as_source(X).survey(weights)
    kept = np.delete(X, 17, axis=0)
    np.testing.assert_array_equal(found[:, :2], 0.0)
    np.testing.assert_array_equal(found[:, 2], kept.min(axis=0))
    np.testing.assert_array_equal(found[:, 3], kept.max(axis=0))
    np.testing.assert_allclose(found[:, 4], kept.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found[:, 5], kept.std(axis=0), rtol=1e-9)


def test_the_first_number_that_is_not_finite_is_named(rng):
    X = rng.normal(size=(3000, 4))
    X[2500, 1], X[2500, 3], X[2700, 0] = np.nan, np.inf, np.nan
    with pytest.raises(ValueError, match=r"row 2500, column 1, holds nan"):
        GaussianMixture(2).fit(as_source(X))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_buffers_are_used_in_turn(count):
    """Each of so many arrays is used again only after all the others, and a short last block is a part of one."""
    buffers = _Buffers((10, 2), np.float32, count)
    first = [buffers.next(10) for _ in range(count)]
    assert len({array.ctypes.data for array in first}) == count
    again = [buffers.next(7) for _ in range(count)]
    assert [a.ctypes.data for a in again] == [a.ctypes.data for a in first]
    assert {a.shape for a in again} == {(7, 2)}
    fresh = _Buffers((10, 2), np.float64, 0)
    kept = [fresh.next(4), fresh.next(4)]
    assert kept[0].ctypes.data != kept[1].ctypes.data


def test_files_are_read_as_a_single_one_is(tmp_path):
    """Row names, files without names of columns, separators, text: as `read_table` has it, with notes."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        rng.normal(size=(300, 2)), columns=["a", "b"], index=np.arange(300) * 7
    ).sort_values("a")
    frame.to_parquet(tmp_path / "index.parquet")
    frame.to_csv(tmp_path / "index.csv")
    for name in ("index.parquet", "index.csv"):
        source = as_source(str(tmp_path / name.replace("ex", "*")))
        assert source.names == ["a", "b"]
        assert source.shape == (300, 2)
        assert any("row names" in note for note in source.notes)
        np.testing.assert_allclose(source[:], frame.to_numpy(), rtol=1e-15)
        asked = as_source(tmp_path / "index.parquet", columns=["__index_level_0__", "b"])
        assert asked.names == ["__index_level_0__", "b"]
    np.savetxt(tmp_path / "plain.csv", frame.to_numpy(), delimiter=",")
    plain = as_source(tmp_path / "plain.csv")
    assert plain.shape == (300, 2)
    assert plain.names == ["x0", "x1"]
    assert not plain.notes
    assert as_source(tmp_path / "plain.csv", layout=TextLayout(header="yes")).shape == (299, 2)
    frame.to_csv(tmp_path / "semicolons.csv", sep=";", decimal=",", index=False)
    there = as_source(tmp_path / "semicolons.csv", layout=TextLayout(separator=";", decimal=","))
    np.testing.assert_allclose(there[:], frame.to_numpy(), rtol=1e-15)
    frame.to_csv(tmp_path / "tabs.tsv", sep="\t", index=False)
    np.testing.assert_allclose(as_source(tmp_path / "tabs.tsv")[:], frame.to_numpy(), rtol=1e-15)
    frame.assign(text="x").to_csv(tmp_path / "text.csv", index=False)
    text = as_source(tmp_path / "text.csv")
    assert text.names == ["a", "b"]
    assert "left out 1 column(s) that are not numeric: 'text'" in text.notes
    assert as_source(frame.assign(text="x")).notes == text.notes
    with pytest.raises(TableError, match="no text file"):
        as_source(tmp_path / "index.parquet", layout=TextLayout(separator=";"))
    with pytest.raises(TableError, match="is a directory"):
        as_source(tmp_path)
    with pytest.raises(ValueError, match="layout is for text files"):
        as_source(frame, layout=TextLayout())


def test_columns_of_several_text_files_go_by_their_names(tmp_path):
    """Each file has its own order of columns, and may have more; a lack of one is told."""
    pytest.importorskip("pyarrow")
    (tmp_path / "1.csv").write_text("a,b\n1.0,10.0\n2.0,20.0\n")
    (tmp_path / "2.csv").write_text("b,a\n30.0,3.0\n")
    (tmp_path / "3.csv").write_text("b,other,a\n40,text,4\n")
    for path in (tmp_path / "?.csv", [tmp_path / f"{i}.csv" for i in (1, 2, 3)]):
        np.testing.assert_array_equal(
            as_source(path)[:], [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]]
        )
    np.testing.assert_array_equal(as_source(tmp_path / "?.csv", columns=["b"])[:], [[10], [20], [30], [40]])
    (tmp_path / "4.csv").write_text("a,c\n5.0,6.0\n")
    with pytest.raises(ValueError, match=r"4\.csv has no column 'b', which the first file has; it has a, c"):
        as_source(tmp_path / "?.csv")
    (tmp_path / "4.csv").write_text("5.0,6.0\n")  # no line of names
    with pytest.raises(ValueError, match=r"4\.csv has no column 'a'"):
        as_source(tmp_path / "?.csv")
    (tmp_path / "4.csv").write_text("")
    with pytest.raises(TableError, match=r"4\.csv"):
        as_source(tmp_path / "?.csv")


@pytest.mark.parametrize("gate", ["constant", "softmax"])
def test_newton_and_derivatives_go_block_by_block(gate):
    """What needs derivatives at rows reads a source as passes do, and says what arrays say."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 2)) + 3.0 * rng.integers(0, 2, size=(6000, 1))
    first = rng.uniform(size=6000) < 1.0 / (1.0 + np.exp(-X[:, 0]))
    y, weights = (
        np.where(first, 2.0, -1.0) * X[:, 1] + 0.5 * rng.normal(size=6000),
        rng.uniform(0.5, 2.0, 6000),
    )
    source = as_source(X, block_bytes=1 << 14)
    how = {"accelerate": "newton", "random_state": 0}
    there, here = (GaussianMixture(2, **how).fit(rows, sample_weight=weights) for rows in (source, X))
    np.testing.assert_allclose(there.means_, here.means_, rtol=1e-9)
    experts, alone = (MixtureOfExperts(2, gate=gate, **how).fit(rows, y) for rows in (source, X))
    np.testing.assert_allclose(experts.coef_, alone.coef_, atol=1e-9)
    for method in ("observed", "opg", "sandwich"):
        errors, want = (
            mixtura.standard_errors(experts, rows, y=y, method=method).covariance for rows in (source, X)
        )
        np.testing.assert_allclose(errors, want, rtol=1e-6, atol=1e-9 * np.abs(want).max())
    assert experts.summary(source, y).splitlines()[-1] == experts.summary(X, y).splitlines()[-1]
    for mode in ("reverse", "forward"):
        for function in (ad.value_and_grad, ad.hessian, ad.grad_x, ad.hessian_x):
            for got, want in zip(
                function(here, source, mode=mode), function(here, X, mode=mode), strict=True
            ):
                np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * np.abs(want).max())
    np.testing.assert_array_equal(ad.jacobian(here, source), ad.jacobian(here, X))
    direction = rng.normal(size=ad.jacobian(here, X[:1]).shape[1])
    np.testing.assert_array_equal(ad.jvp(here, source, direction), ad.jvp(here, X, direction))


def test_types_of_text_columns_hold_for_the_whole_file(tmp_path):
    """Arrow guesses from the first block: whole numbers may have fractions below, and an empty column numbers."""
    pytest.importorskip("pyarrow")
    lines = [f"{i % 7},,{i % 5}" for i in range(200_000)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c", *lines, "0.5,2,1.5"]) + "\n")
    np.testing.assert_array_equal(as_source(tmp_path / "t.csv", columns=["a", "c"])[-1:], [[0.5, 1.5]])
    assert (
        KMeans(2, random_state=0, max_iter=1).fit(as_source(tmp_path / "t.csv", columns=["a", "c"])).n_iter_
    )
    with pytest.raises(ValueError, match=r"t\.csv, column 1 \('b'\), holds nan"):
        KMeans(2).fit(tmp_path / "t.csv")
    for last in ("", "word"):
        (tmp_path / "t.csv").write_text("\n".join(["a,b,c", *lines, f"0.5,{last},1.5"]) + "\n")
        source = as_source(tmp_path / "t.csv")
        assert source.names == ["a", "c"]
        assert source.notes == ["left out 1 column(s) that are not numeric: 'b'"]
    (tmp_path / "t.csv").write_text("a,b\n0x10,1\n1,2\n")  # in base 16
    np.testing.assert_array_equal(as_source(tmp_path / "t.csv")[:], [[16.0, 1.0], [1.0, 2.0]])


def test_frames_go_by_the_places_of_their_columns():
    pandas = pytest.importorskip("pandas")
    rows = np.arange(6.0).reshape(3, 2)
    for columns in (None, [7, "b"], pandas.MultiIndex.from_tuples([("a", 1), ("a", 2)])):
        source = as_source(pandas.DataFrame(rows, columns=columns))
        np.testing.assert_array_equal(source[:], rows)
        assert source.names == [str(c) for c in pandas.DataFrame(rows, columns=columns).columns]
    with pytest.raises(ValueError, match="2 columns named 'a'"):
        as_source(pandas.DataFrame(rows, columns=["a", "a"]))
    with pytest.raises(ValueError, match="'b' is asked for twice"):
        as_source(pandas.DataFrame(rows, columns=["a", "b"]), columns=["b", "b"])
    with pytest.raises(ValueError, match="two axes"):
        as_source(pandas.Series(rows[:, 0]))
    assert as_source(pandas.DataFrame(rows), columns=[1]).shape == (3, 1)
    frame = pandas.DataFrame(rows, columns=["a", "b"])
    kinds = frame.astype({"a": "Float64", "b": "Sparse[float]"}).assign(
        c=pandas.interval_range(0, 3), d=["x"] * 3
    )
    np.testing.assert_array_equal(as_source(kinds)[:], rows)
    if importlib.util.find_spec("pyarrow"):
        np.testing.assert_array_equal(as_source(frame.astype("double[pyarrow]"))[:], rows)


def test_bytes_of_any_order_and_masks(tmp_path):
    rows = np.repeat([[1.0, 2.0], [5.0, 6.0]], 10, axis=0)
    for kind in (">f8", ">f4", "<f4", ">i4"):
        np.save(tmp_path / "t.npy", rows.astype(kind))
        source = as_source(tmp_path / "t.npy")
        assert source.dtype == (np.float32 if kind.endswith("f4") else np.float64)
        np.testing.assert_array_equal(source[:], rows)
        found = KMeans(2, random_state=0).fit([str(tmp_path / "t.npy")])
        np.testing.assert_allclose(np.sort(found.cluster_centers_[:, 0]), [1.0, 5.0])
    masked = np.ma.masked_array(rows, mask=rows > 5.0)
    for data in (masked, [masked]):
        with pytest.raises(ValueError, match="masked values"):
            as_source(data)
    np.testing.assert_array_equal(as_source(np.ma.masked_array(rows))[:], rows)


def test_blocks_of_frames_go_by_the_names_of_their_columns(rng):
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    X = rng.normal(size=(60, 2)) * [1.0, 10.0] + [0.0, 100.0]
    frame = pd.DataFrame(X, columns=["a", "b"])
    turned = frame[30:][["b", "a"]]
    turned.insert(0, "word", "x")
    for second in (turned, pl.from_pandas(turned), pa.Table.from_pandas(turned, preserve_index=False)):
        source = as_source([frame[:30], second])
        assert source.names == ["a", "b"]
        np.testing.assert_array_equal(source[:], X)
    fitted = GaussianMixture(1).fit(source)
    assert list(fitted.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(as_source([frame[["b", "a"]]]))
    np.testing.assert_array_equal(as_source([frame, turned], columns=["b"])[:30], X[:30, 1:])
    for blocks, message in (
        ([frame, frame.rename(columns={"a": "z"})], "block 1 of the source has no column a"),
        ([frame, X], "block 1 of the source has no names for its columns, and the first block has names"),
        ([frame, frame["a"]], "block 1 of the source has no names for its columns"),
        ([frame["a"]], r"block 0 of the source has shape \(60,\)"),
        ([frame, frame.assign(a="word")], "column a of block 1 of the source is not numeric"),
    ):
        with pytest.raises(ValueError, match=message):
            as_source(blocks)
    with pytest.raises(ValueError, match="columns were named, and block 0 of the source has no names"):
        as_source([X], columns=["a"])


def test_blocks_after_one_without_names_go_by_place(rng):
    import pandas as pd

    X = rng.normal(size=(60, 2))
    named, numbered = pd.DataFrame(X[30:], columns=["b", "a"]), pd.DataFrame(X[:30])
    for first in (X[:30], numbered):
        source = as_source([first, named])
        assert source.names is None
        np.testing.assert_array_equal(source[:], X)


def test_frames_are_cut_by_place(rng):
    """Whatever their index is, and however a slice of it would be read."""
    import pandas as pd

    X = rng.normal(size=(5000, 2))
    for index in (2.0 * np.arange(5000), rng.permutation(5000) / 2.0, np.arange(5000)[::-1]):
        source = as_source(pd.DataFrame(X, index=index, columns=["a", "b"]), block_bytes=1 << 14)
        np.testing.assert_array_equal(source[:], X)


def test_record_batches_are_tables(rng):
    import pyarrow as pa

    X = rng.normal(size=(20, 2))
    batch = pa.record_batch({"a": X[:, 0], "b": X[:, 1]})
    assert as_source(batch).names == ["a", "b"]
    np.testing.assert_array_equal(as_source([batch, batch.select(["b", "a"])])[:], np.concatenate([X, X]))


def test_numbers_for_names_are_no_names_of_features(rng):
    import pandas as pd

    frame = pd.DataFrame(rng.normal(size=(50, 2)))
    fitted = GaussianMixture(1).fit(as_source(frame))
    assert not hasattr(fitted, "feature_names_in_")
    fitted.predict(frame)  # which would warn


def test_files_of_unlike_types_are_read_in_the_finer_one(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [tmp_path / "single.parquet", tmp_path / "double.parquet"]
    pq.write_table(pa.table({"a": np.array([1.0, 2.0], dtype=np.float32)}), paths[0])
    pq.write_table(pa.table({"a": np.array([0.1, 1e300])}), paths[1])
    for cache_bytes in (0, None):
        for order, values in ((paths, [1.0, 2.0, 0.1, 1e300]), (paths[::-1], [0.1, 1e300, 1.0, 2.0])):
            assert as_source(order, cache_bytes=cache_bytes)[:, 0].tolist() == values


def test_files_without_rows_or_values_have_no_types(tmp_path):
    for name, content in (("full", "a,b\n1,2\n3,4\n"), ("header", "a,b\n"), ("empty", "b,a\n,5\n,6\n")):
        (tmp_path / f"{name}.csv").write_text(content)
    source = as_source([tmp_path / "full.csv", tmp_path / "header.csv"])
    np.testing.assert_array_equal(source[:], [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match=r"row 0 of .*empty.csv, column 1 \('b'\), holds nan"):
        as_source([tmp_path / "full.csv", tmp_path / "empty.csv"]).survey()


def test_estimators_take_what_gives_blocks(rows):
    X = rows[:3000]
    np.testing.assert_array_equal(
        GaussianMixture(2, random_state=0).fit(Again(X)).means_,
        GaussianMixture(2, random_state=0).fit(as_source(Again(X))).means_,
    )
    with pytest.raises(TypeError, match="an iterable of blocks that is no iterator"):
        GaussianMixture(2).fit(X[a : a + 100] for a in range(0, 1000, 100))


def test_a_digest_is_of_the_rows_in_their_order(rows):
    moved = rows.copy()
    moved[[1, 2]] = moved[[2, 1]]
    digest = as_source(rows).digest()
    assert digest == as_source(rows, block_bytes=SMALL).digest() == as_source(Again(rows)).digest()
    assert digest != as_source(moved).digest()


def test_blocks_of_blocks_are_the_same_rows(rows):
    y = rows[:, :1]
    source = as_source(rows, block_bytes=SMALL)
    for table in (
        Table.of(backends.for_rows(source, "reference"), source, rows[:, 1] ** 2, y),
        Table.of(backends.create("reference"), rows, rows[:, 1] ** 2, y),
    ):
        block = list(table.blocks(1 << 12))[3]
        part = block.block(10, 20)
        np.testing.assert_array_equal(part.x, rows[part.cut])
        np.testing.assert_array_equal(part.y, y[part.cut])
        np.testing.assert_array_equal(part.rows.X[:, :4], rows[part.cut])
