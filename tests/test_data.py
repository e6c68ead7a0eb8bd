"""Tables in files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from mixtura.data import TableError, files, read_table

pa = pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_headers_and_their_absence():
    Path("a.csv").write_text("first, second\n1,2\n3,4\n")
    t = read_table("a.csv")
    assert t.names == ["first", "second"]
    np.testing.assert_array_equal(t.X, [[1, 2], [3, 4]])
    Path("b.csv").write_text("1,2\n3,4\n")
    t = read_table("b.csv")
    assert t.names == ["x0", "x1"]
    assert t.X.shape == (2, 2)
    Path("c.tsv").write_text("a\tb\n1\t2\n")
    assert read_table("c.tsv").names == ["a", "b"]
    with gzip.open("d.csv.gz", "wt") as file:
        file.write("a,b\n1,2\n")
    np.testing.assert_array_equal(read_table("d.csv.gz").X, [[1, 2]])


def test_types_become_numbers():
    from pyarrow import parquet

    table = pa.table(
        {
            "i": pa.array([1, 2], pa.int16()),
            "b": [True, False],
            "f": pa.array([0.5, None], pa.float32()),
            "n": pa.nulls(2),
            "s": ["x", "y"],
        }
    )
    parquet.write_table(table, "t.parquet")
    t = read_table("t.parquet", columns=["i", "b", "f", "n"])
    np.testing.assert_array_equal(t.X, [[1, 1, 0.5, np.nan], [2, 0, np.nan, np.nan]])
    assert t.X.dtype == np.float64
    assert read_table("t.parquet", columns=["f"]).X.dtype == np.float32
    assert read_table("t.parquet", columns=["i"], extra=["f"]).extra["f"].dtype == np.float64
    with pytest.raises(TableError, match="column 's' is not numeric"):
        read_table("t.parquet")
    with pytest.raises(TableError, match="column 'i' is asked for twice"):
        read_table("t.parquet", columns=["i", "i"])


def test_without_pyarrow(monkeypatch):
    Path("a.csv").write_text("a\n1\n")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install 'mixtura\[io\]'"):
        read_table("a.csv")
    np.save("t.npy", np.zeros((2, 1), dtype=np.float32))
    assert read_table("t.npy").X.dtype == np.float32


def test_pickled_arrays_are_not_opened():
    np.save("o.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(TableError, match=r"not a .npy file"):
        read_table("o.npy")


def test_lists_of_names_are_short():
    names = [f"c{i}" for i in range(14)]
    assert files._list(names[:2]) == "'c0', 'c1'"
    assert files._list(names[:10]).count(",") == 9
    assert files._list(names) == ", ".join(map(repr, names[:10])) + " and 4 more"


def test_arrow_files(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}, index=[5, 3])
    frame.reset_index(names="row_names").to_feather(tmp_path / "t.arrow")
    table = read_table(tmp_path / "t.arrow")
    assert table.names == ["a", "b"]
    np.testing.assert_array_equal(table.X, frame.to_numpy())
    (tmp_path / "broken.arrow").write_bytes(b"ARROW1 no table")
    with pytest.raises(TableError, match=r"broken\.arrow"):
        read_table(tmp_path / "broken.arrow")
