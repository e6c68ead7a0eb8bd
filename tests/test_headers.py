"""Names or a row: what the first line of a text file is."""

from pathlib import Path

import numpy as np
import pytest

from mixtura.data import TableError, TextLayout, column_names, read_table
from mixtura.data.headers import guess, is_row_names

pd = pytest.importorskip("pandas")


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("first", "below", "names"),
    [
        ("a,b", ["1,2"], True),
        ("2019_01,2019_02", ["1.5,2"], True),  # to Python's float() these are numbers
        ("1_000,2_000", ["3,4"], True),
        ("1.5,2", ["3,4.5"], False),
        ("NA,2.5", ["3,4"], False),
        (",2.5", ["1,4.5"], False),  # a missing value
        ("nan,inf", ["1,2"], False),
        ("1e5,-2", ["3,4"], False),
        ("NA,null", ["1,2"], True),
        # pandas' default names, with and without its index
        ("0,1,2", ["0.3,1.2,5.1"], True),
        ("0,1,2", ["3,1,4", "1,5,9"], True),
        (",0,1", ["0,3.5,1", "1,4,1"], True),
        # counting that goes on below is a row of a grid
        ("0,1,2", ["3,4,5"], False),
        ("0,1", ["1,0", "0,0", "1,1"], False),
        ("0,1", ["12,0.5", "3,7.25"], True),
        ("1,2", ["3,4"], False),
        # years in sequence
        ("2001,2002,2003", ["5,1,8"], True),
        ("1950,1960,1970", ["5,1,8", "2,2,2"], True),
        ("2001,2002", ["2003,2004"], False),
        ("2003,2001", ["1999,2004"], False),
        # whole numbers above fractions: wavelengths, ages
        ("400,420,450", ["0.12,0.31,0.5", "0.1,0.33,0.49"], True),
        ("400,420,450", ["1,0.31,0.5", "2,0.33,0.49"], False),
        ("400,400,450", ["0.12,0.31,0.5"], False),
        ("0", ["0.5", "0.25"], True),
        ("5", ["0.5", "0.25"], False),
        # text that stands above text names nothing, if numbers beside it stand above numbers
        ("x,1.5", ["y,2.5"], False),
        ("id,value", ["y,2.5"], True),
        # cells above row names or text tell nothing
        (",0,1", ["0,1,0", "1,0,0", "2,1,1"], True),
        (",0", ["0,5", "1,3"], True),
        (",3,8,11", ["0,5,1,2", "1,3,3,3"], True),
        (",2.5", ["0,4.5", "1,3.5"], False),
        ("country,2019,2020", ["A,5,7", "B,6,8"], True),
        ("gene,0,1", ["A,5,7", "B,6,8"], True),
        ("2021,2020,2019", ["5,1,8"], True),
        ("2000,2010,2013", ["5,1,8"], True),
        ("201901,201902", ["5,1"], True),
        ("0.0,1.0,2.0", ["5.5,1,8", "3,3,3"], True),
        ("0", ["5", "7"], True),
        ("0", ["0", "1"], False),
        ("2019", ["0.5", "0.25"], True),
        ("a,b", [], True),
        ("1,2", [], False),
    ],
)
def test_guesses(first, below, names):
    found, _ = guess(first.split(","), [row.split(",") for row in below], [])
    assert found is names


def test_what_is_asked_for_by_name_decides():
    assert guess(["1", "2"], [["3", "4"]], ["2"]) == (True, None)


def test_columns_asked_for_by_place_are_those_below_numbers():
    """A model of a file without names: one with 0, 1 or years above the same columns has as many rows."""
    for header in ("0,1", "2019,2020", ",0,1"):
        index = header.startswith(",")
        rows = [f"{i},{i + 5},{7 - i}" if index else f"{i + 5},{7 - i}" for i in range(4)]
        Path("t.csv").write_text("\n".join([header, *rows]) + "\n")
        table = read_table("t.csv", columns=["x0", "x1"])
        np.testing.assert_array_equal(table.X, [[i + 5, 7 - i] for i in range(4)])
        assert "--header no says otherwise" in table.notes[0]


def test_guesses_are_told():
    Path("years.csv").write_text("2001,2002,2003\n5,1,8\n")
    table = read_table("years.csv")
    assert table.names == ["2001", "2002", "2003"]
    assert (
        "runs through the years 2001 to 2003, and is taken for names; --header no says otherwise"
        in table.notes[0]
    )
    assert len(read_table("years.csv", layout=TextLayout(header="no")).X) == 2
    Path("plain.csv").write_text("name,other\n5,1\n")
    assert read_table("plain.csv").notes == []
    assert read_table("plain.csv", layout=TextLayout(header="yes")).names == ["name", "other"]


@pytest.mark.parametrize("names", [None, [0, 1, 2], ["2019", "2020", "2021"], ["a b", "c, d", "e"]])
@pytest.mark.parametrize("index", [False, True])
def test_what_pandas_writes_is_read_with_its_rows(names, index, rng):
    frame = pd.DataFrame(rng.normal(size=(20, 3)), columns=names)
    frame.to_csv("t.csv", index=index)
    table = read_table("t.csv")
    assert table.names == [str(c) for c in frame.columns]
    np.testing.assert_allclose(table.X, frame.to_numpy(), rtol=1e-15)


def test_row_names_are_no_feature(rng):
    frame = pd.DataFrame(rng.normal(size=(5, 2)), columns=["a", "b"], index=list("vwxyz"))
    frame.to_csv("first.csv")
    table = read_table("first.csv")
    assert table.names == ["a", "b"]
    assert "column 1 has no name, so it holds row names and is left out" in table.notes[0]
    pd.read_csv("first.csv").to_csv("again.csv", index=False)  # pandas calls it 'Unnamed: 0' now
    assert read_table("again.csv").names == ["a", "b"]
    # R's write.table: one name fewer than cells
    Path("r.txt").write_text('"a" "b"\n"1" 0.5 2\n"2" 1.5 3\n')
    table = read_table("r.txt", layout=TextLayout(separator=" "))
    assert table.names == ["a", "b"]
    np.testing.assert_array_equal(table.X, [[0.5, 2], [1.5, 3]])
    assert not is_row_names("rows")


@pytest.mark.parametrize("index", ["named", "unnamed", "two", "range"])
def test_the_index_of_a_frame_in_parquet_is_no_feature(index, rng):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(rng.normal(size=(6, 2)), columns=["a", "b"])
    keys = np.array([3, 1, 4, 15, 9, 2])
    frame["key"] = keys
    if index == "two":
        frame = frame.set_index([frame["key"] * 2, "key"])
        frame.index.names = ["other", "key"]
    elif index != "range":
        frame = frame.set_index("key")
        frame.index.name = "key" if index == "named" else None
    frame.to_parquet("t.parquet")
    table = read_table("t.parquet")
    assert table.names == (["a", "b", "key"] if index == "range" else ["a", "b"])
    assert len(table.notes) == (index != "range")
    name = "__index_level_0__" if index == "unnamed" else "key"
    np.testing.assert_array_equal(read_table("t.parquet", columns=[name]).X[:, 0], keys)


def test_separators_and_decimal_points():
    Path("europe.csv").write_text("a;b\n0,5;1\n1,25;-2,5\n")
    with pytest.raises(TableError, match=r"not a readable CSV file.*--separator ';' may be meant"):
        read_table("europe.csv")
    with pytest.raises(TableError, match=r"column 'a' is not numeric.*--decimal ,"):
        read_table("europe.csv", layout=TextLayout(separator=";"))
    table = read_table("europe.csv", layout=TextLayout(separator=";", decimal=","))
    np.testing.assert_array_equal(table.X, [[0.5, 1], [1.25, -2.5]])
    assert column_names("europe.csv", TextLayout(separator=";")) == ["a", "b"]
    for bad in ({"separator": ";;"}, {"decimal": "x"}, {"header": "perhaps"}, {"separator": "."}):
        with pytest.raises(TableError):
            TextLayout(**bad)
    np.save("t.npy", np.ones((2, 2)))
    with pytest.raises(TableError, match="no text file"):
        read_table("t.npy", layout=TextLayout(separator=";"))


def test_numeric_columns_alone():
    Path("t.csv").write_text("id,a,b,when,none\nx,1,2.5,2020-01-01,\ny,2,,2020-01-02,\n")
    with pytest.raises(TableError, match=r"column 'id' is not numeric.*--numeric"):
        read_table("t.csv")
    table = read_table("t.csv", numeric=True)
    assert table.names == ["a", "b"]
    assert "left out 3 column(s) that are not numeric: 'id', 'when', 'none'" in table.notes[0]
    np.testing.assert_array_equal(table.complete(), [True, False])
    with pytest.raises(TableError, match="column 'id' is not numeric"):
        read_table("t.csv", columns=["id", "a"], numeric=True)


def test_row_names_of_several_columns(rng):
    frame = pd.DataFrame(rng.normal(size=(4, 2)), columns=["a", "b"])
    frame.index = pd.MultiIndex.from_product([[0, 1], ["u", "v"]])
    frame.to_csv("two.csv")
    assert read_table("two.csv").names == ["a", "b"]
    pd.DataFrame(frame.to_numpy(), columns=["a", "b"]).to_csv("one.csv")
    pd.read_csv("one.csv").to_csv("twice.csv")  # ',Unnamed: 0,a,b'
    assert read_table("twice.csv").names == ["a", "b"]
    assert len(read_table("twice.csv").notes) == 1
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"__index_level_0__": [1, 2], "a": [0.5, 1.5]}), "plain.parquet")
    assert read_table("plain.parquet").names == ["a"]


def test_words_for_missing_values():
    words = ["NA", "None", "none", "<NA>", ".", "?", "-", " ", "#DIV/0!", "NaN", "null", "n/a", ""]
    Path("t.csv").write_text("a,b\n" + "".join(f"{w},{i}\n" for i, w in enumerate(words)) + "1.5,99\n")
    table = read_table("t.csv")
    np.testing.assert_array_equal(np.isnan(table.X[:, 0]), [True] * len(words) + [False])


def test_columns_without_any_value_are_not_numeric():
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    nothing = pa.array([None, None], pa.float64())
    parquet.write_table(pa.table({"a": [1.0, 2.0], "b": nothing}), "t.parquet")
    assert read_table("t.parquet", numeric=True).names == ["a"]
