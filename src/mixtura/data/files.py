"""Tables in files: CSV, Parquet and .npy."""

from __future__ import annotations

import csv as csv_module
import gzip
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.data.headers import MISSING, guess, is_row_names


class TableError(ValueError):
    """A file does not hold the table that was asked for."""


@dataclass(frozen=True)
class Columns:
    """A table of numbers with named columns.

    Attributes
    ----------
    names : list of str
        Column names; x0, x1, ... where the file has none.
    X : ndarray of shape (N, D), float32 or float64
    extra : dict of str to ndarray of shape (N,)
        Columns that were asked for by name beside those of X, such as weights.
    notes : list of str
        Decisions that the user should know of: columns that were left out, a guess about the first line.
    """

    names: list[str]
    X: NDArray[np.floating]
    extra: dict[str, NDArray[np.float64]]
    notes: list[str] = field(default_factory=list)

    def complete(self) -> NDArray[np.bool_]:
        """Which rows have no missing values, (N,)."""
        whole = ~np.isnan(self.X).any(axis=1)
        for column in self.extra.values():
            whole &= ~np.isnan(column)
        return np.asarray(whole)


@dataclass(frozen=True)
class TextLayout:
    """How a text file is laid out.

    Parameters
    ----------
    header : {'auto', 'yes', 'no'}, default='auto'
        Whether the first line holds column names; 'auto' decides by comparing it with the lines below.
    separator : str, default=None
        The character between cells. None: a tab in .tsv files, else a comma.
    decimal : str, default='.'
        The decimal point.
    """

    header: str = "auto"
    separator: str | None = None
    decimal: str = "."

    def __post_init__(self) -> None:
        if self.header not in ("auto", "yes", "no"):
            raise TableError(f"header is 'auto', 'yes' or 'no', not {self.header!r}")
        for option, value in (("separator", self.separator), ("decimal", self.decimal)):
            if value is not None and (len(value) != 1 or value in '"\r\n' or value.isalnum()):
                raise TableError(
                    f"{option} must be one character that is no letter, digit or quote, got {value!r}"
                )
        if self.separator == self.decimal:
            raise TableError(f"{self.decimal!r} cannot be both the separator and the decimal point")


@dataclass(frozen=True)
class _Source:
    """An opened file: its column names, a function that reads a column by index, indices of row names, and notes."""

    names: list[str]
    column: Callable[[int], Any]
    row_names: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def read_table(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    extra: Sequence[str] = (),
    *,
    layout: TextLayout | None = None,
    numeric: bool = False,
) -> Columns:
    """Read numeric columns of a CSV, Parquet, Arrow or .npy file.

    Parameters
    ----------
    path : path-like
        ``*.csv`` (also .tsv, .txt and these with .gz), ``*.parquet``, ``*.arrow``, ``*.npy`` (a two-dimensional
        array).
    columns : sequence of str, default: all but ``extra`` and row names
        Columns to read, in this order. In a file without names they are x0, x1, ... Row names are the index of a pandas
        frame in Parquet, and first columns without a name or with a name that pandas and R give to row names.
    extra : sequence of str, default=()
        Columns to return separately.
    layout : TextLayout, default=TextLayout()
        How a text file is laid out.
    numeric : bool, default=False
        Leave out columns that are not numeric, unless ``columns`` or ``extra`` name them.

    Returns
    -------
    Columns
        X is float32 if all chosen columns are, else float64. Missing values are NaN.

    Raises
    ------
    OSError
        The file cannot be opened.
    TableError
        The file is empty, damaged or of an unknown kind, or a column is missing or not numeric (the message says
        which).
    ImportError
        CSV and Parquet need pyarrow.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from mixtura.data import read_table
    >>> path = os.path.join(tempfile.mkdtemp(), "table.npy")
    >>> np.save(path, np.arange(6.0).reshape(3, 2))
    >>> read_table(path, columns=["x1"]).X.ravel()
    array([1., 3., 5.])
    """
    name = os.fspath(path)
    source = _open(name, [*(columns or ()), *extra], TextLayout() if layout is None else layout)
    names, notes = source.names, list(source.notes)
    missing = [c for c in (*(columns or ()), *extra) if c not in names]
    if missing:
        raise TableError(f"{name} has no column {missing[0]!r}; its columns are {_list(names)}")
    if columns is None:
        chosen = [j for j, n in enumerate(names) if n not in extra and j not in source.row_names]
        left_out = sorted(source.row_names - {names.index(c) for c in extra})
        named = [names[j] for j in left_out if names[j]]
        if named:
            notes.append(f"{name}: left out {_list(named)}, which holds row names; --columns can ask for it")
        elif left_out:
            notes.append(f"{name}: column 1 has no name, so it holds row names and is left out")
    else:
        for c in columns:
            if list(columns).count(c) > 1:
                raise TableError(f"column {c!r} is asked for twice")
        chosen = [names.index(c) for c in columns]
    for c in (*(names[j] for j in chosen), *extra):
        if names.count(c) > 1:
            raise TableError(f"{name} has {names.count(c)} columns named {c!r}; give them different names")
    values = {j: source.column(j) for j in chosen}
    if numeric and columns is None:
        other = [j for j in chosen if not _is_numeric(values[j]) or _is_empty(values[j])]
        if other:
            chosen = [j for j in chosen if j not in other]
            notes.append(
                f"{name}: left out {len(other)} column(s) that are not numeric: {_list([names[j] for j in other])}"
            )
    if not chosen:
        hint = "; --columns can ask for its row names" if source.row_names else ""
        raise TableError(f"{name} has no columns left to use{hint}")
    arrays = [_numbers(name, names[j], values[j], numeric) for j in chosen]
    if not len(arrays[0]):
        raise TableError(f"{name} has columns but no rows")
    dtype = np.float32 if all(a.dtype == np.float32 for a in arrays) else np.float64
    X = np.empty((len(arrays[0]), len(arrays)), dtype=dtype)
    for j, array in enumerate(arrays):
        X[:, j] = array
    beside = {c: _numbers(name, c, source.column(names.index(c)), numeric).astype(np.float64) for c in extra}
    return Columns([names[j] for j in chosen], X, beside, notes)


def column_names(path: str | os.PathLike[str], layout: TextLayout | None = None) -> list[str]:
    """Names of a file's columns."""
    return _open(os.fspath(path), [], TextLayout() if layout is None else layout).names


def any_column(path: str | os.PathLike[str], name: str, layout: TextLayout | None = None) -> Any:
    """A column of any type: an Arrow array, or of a .npy file a NumPy array.

    In a column of text all words are text, those for missing values too; among numbers they are missing.

    Raises
    ------
    KeyError
        There is no such column.
    """
    layout = TextLayout() if layout is None else layout
    source = _open(os.fspath(path), [name], layout, alone=True)
    if name not in source.names:
        raise KeyError(name)
    column = source.column(source.names.index(name))
    return _numbers_if_so(column) if _is_text(os.fspath(path)) else column


def _is_text(name: str) -> bool:
    """Whether a file is one of text, by its name: its columns have no types of their own."""
    return name.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".txt"))


def _numbers_if_so(column: Any) -> Any:
    """A column of text whose words are numbers, or stand for missing values, as numbers; any other as it is."""
    if isinstance(column, np.ndarray) or str(column.type) != "string":
        return column
    import pyarrow
    from pyarrow import compute

    missing = compute.is_in(column, value_set=pyarrow.array([*_NULLS, ""]))
    words = compute.if_else(missing, pyarrow.scalar(None, pyarrow.string()), column)
    if words.null_count in (0, len(words)):
        return column
    for kind in (pyarrow.int64(), pyarrow.float64()):
        with suppress(pyarrow.ArrowInvalid):
            return compute.cast(words, kind)
    return column


def _open(name: str, wanted: Sequence[str], layout: TextLayout, alone: bool = False) -> _Source:
    """Open a file according to its kind; of a text file, the wanted columns alone may be read, as they are."""
    if os.path.exists(name) and not os.path.isfile(name):
        raise TableError(
            f"{name} is {'a directory' if os.path.isdir(name) else 'not a regular file'}, not a table"
        )
    with open(name, "rb") as file:
        empty = not file.read(1)
    if empty:
        raise TableError(f"{name} is empty")
    lower = name.lower()
    if _is_text(name):
        return _read_csv(name, wanted, layout, alone)
    if layout != TextLayout():
        raise TableError(
            f"{name} is no text file: it has no header line, separator or decimal point to be told of"
        )
    if lower.endswith(".npy"):
        return _read_npy(name)
    if lower.endswith((".parquet", ".pq")):
        return _read_parquet(name)
    if lower.endswith((".arrow", ".feather")):
        return _read_arrow(name)
    raise TableError(
        f"{name}: unknown kind of file; mixtura reads .csv, .tsv, .txt, .parquet, .arrow and .npy"
    )


def _list(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _is_numeric(column: Any) -> bool:
    """Whether a column holds numbers; a column of nulls does not."""
    if isinstance(column, np.ndarray):
        return column.dtype.kind in "fiub"
    import pyarrow as pa

    t = column.type
    return bool(
        pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t) or pa.types.is_boolean(t)
    )


def _is_empty(column: Any) -> bool:
    """Whether a column has no value at all."""
    return not isinstance(column, np.ndarray) and column.null_count == len(column) > 0


def _numbers(path: str, name: str, column: Any, numeric: bool) -> NDArray[np.floating]:
    """A column as float32 or float64; ``numeric`` says whether other columns have already been left out."""
    if isinstance(column, np.ndarray):
        if not _is_numeric(column):
            raise TableError(f"{path}: column {name!r} is not numeric ({column.dtype})")
        return column if column.dtype in (np.float32, np.float64) else column.astype(np.float64)
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if not _is_numeric(column):
        raise TableError(
            f"{path}: column {name!r} is not numeric ({column.type}): "
            + ("" if numeric else "--numeric takes the numeric columns alone (in Python numeric=True), ")
            + f"--columns names some; or encode it{_hint(name, column)}"
        )
    # Integers above 2^53 are rounded.
    wide = column if column.type == pa.float32() else column.cast(pa.float64(), safe=False)
    array: NDArray[Any] = wide.to_numpy()
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _hint(name: str, column: Any) -> str:
    """A hint at the option with which a column of text may be read as numbers."""
    for separator in ";\t|":
        if separator in name:
            return f"; the cells look separated by {separator!r}: --separator {separator!r}"
    first = next((str(v) for v in column.slice(0, 100).to_pylist() if v is not None), "")
    if re.fullmatch(r"[+-]?\d+,\d+", first.strip()):
        return "; the cells look like numbers with a decimal comma: --decimal ,"
    return ""


def _read_npy(name: str) -> _Source:
    try:
        array = np.load(name, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # readers raise errors of any type for damaged files
        raise TableError(f"{name} is not a .npy file of numbers, or is cut short") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        shape = getattr(array, "shape", None)
        raise TableError(f"{name} holds an array of shape {shape}; a table has two dimensions")
    if array.shape[1] == 0:
        raise TableError(f"{name} has no columns")
    return _Source([f"x{j}" for j in range(array.shape[1])], lambda j: array[:, j])


def _pyarrow(name: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(f"reading {name} needs pyarrow: pip install 'mixtura[io]'") from error
    return pyarrow


def _read_parquet(name: str) -> _Source:
    _pyarrow(name)
    from pyarrow import parquet

    def failed(error: Exception) -> TableError:
        return TableError(f"{name} is not a Parquet file, or is damaged ({_first_line(error)})")

    try:
        with parquet.ParquetFile(name) as file:
            schema = file.schema_arrow
    except Exception as error:  # readers raise errors of any type for damaged files
        raise failed(error) from error
    names = [str(n) for n in schema.names]

    def column(j: int) -> Any:
        try:
            with parquet.ParquetFile(name) as file:
                return file.read(columns=[names[j]]).column(names[j])
        except Exception as error:
            raise failed(error) from error

    index = pandas_index(schema.metadata)
    return _Source(names, column, leading_row_names(names) | {j for j, n in enumerate(names) if n in index})


def _read_arrow(name: str) -> _Source:
    _pyarrow(name)
    from pyarrow import feather

    try:
        table = feather.read_table(name)
    except Exception as error:  # readers raise errors of any type for damaged files
        raise TableError(f"{name} is not an Arrow file, or is damaged ({_first_line(error)})") from error
    names = [str(n) for n in table.schema.names]
    index = pandas_index(table.schema.metadata)
    return _Source(
        names, table.column, leading_row_names(names) | {j for j, n in enumerate(names) if n in index}
    )


def pandas_index(metadata: dict[bytes, bytes] | None) -> set[str]:
    """The names of a pandas frame's index columns, from its metadata."""
    try:
        described = json.loads((metadata or {}).get(b"pandas", b"{}"))
        return {c for c in described.get("index_columns", []) if isinstance(c, str)}
    except (ValueError, AttributeError, TypeError):
        return set()  # not written by pandas


def leading_row_names(names: Sequence[str]) -> frozenset[int]:
    """Indices of the leading columns that hold row names according to their names; none, if all columns do."""
    count = 0
    while count < len(names) and is_row_names(names[count]):
        count += 1
    return frozenset(range(count)) if count < len(names) else frozenset()


# Number of lines below the first that are compared with it.
_LINES = 100


# Words for missing values, in lower case, in upper case and capitalised.
_NULLS = sorted(
    {form for word in MISSING for form in (word, word.upper(), word.capitalize(), f" {word}")}
    | {"NaN", "-NaN"}
)


@dataclass(frozen=True)
class TextPlan:
    """How the cells of a text file become columns.

    Attributes
    ----------
    names : list of str
    row_names : frozenset of int
        Which columns hold row names.
    notes : tuple of str
        What was guessed.
    options : dict
        ``read_options``, ``parse_options`` and ``convert_options`` of ``pyarrow.csv``.
    header : bool
        Whether the first line holds names.
    """

    names: list[str]
    row_names: frozenset[int]
    notes: tuple[str, ...]
    options: dict[str, Any]
    header: bool


def plan_of_text(name: str, wanted: Sequence[str], layout: TextLayout) -> TextPlan:
    """Look at the first lines of a text file.

    Parameters
    ----------
    name : str
    wanted : sequence of str
        Columns that will be asked for.
    layout : TextLayout
    """
    from pyarrow import csv

    lower = name.lower().removesuffix(".gz")
    separator = layout.separator or ("\t" if lower.endswith(".tsv") else ",")
    first, below, lines = _first_lines(name, separator)
    header, why = (layout.header == "yes"), None
    if layout.header == "auto":
        header, why = guess(first, below, wanted, layout.decimal)
    names = [c.strip() for c in first] if header else [f"x{j}" for j in range(len(first))]
    if header and below and len(below[0]) == len(names) + 1:
        names = ["", *names]  # R writes no name above the row names
    notes = []
    if why:
        taken, other = ("names", "no") if header else ("a row", "yes")
        notes.append(f"{name}: {why}, and is taken for {taken}; --header {other} says otherwise")
    options = {
        "read_options": csv.ReadOptions(column_names=names, skip_rows=lines if header else 0),
        "parse_options": csv.ParseOptions(delimiter=separator),
        "convert_options": csv.ConvertOptions(
            strings_can_be_null=True, null_values=_NULLS, decimal_point=layout.decimal
        ),
    }
    row_names = leading_row_names(names) if header else frozenset[int]()
    if wanted and header and why and all(re.fullmatch(r"x\d+", w) for w in wanted):
        # All wanted names are x0, x1, ..., as in a file without names, so columns are numbered though the file has
        # names.
        places = [j for j in range(len(names)) if j not in row_names]
        names = [f"x{places.index(j)}" if j in places else n for j, n in enumerate(names)]
    return TextPlan(names, row_names, tuple(notes), options, header)


def _read_csv(name: str, wanted: Sequence[str], layout: TextLayout, alone: bool = False) -> _Source:
    _pyarrow(name)
    from pyarrow import csv

    try:
        plan = plan_of_text(name, wanted, layout)
        present = [plan.names.index(w) for w in wanted if w in plan.names]
        if alone:
            convert = plan.options["convert_options"]
            convert.null_values, convert.strings_can_be_null = [""], False
            convert.include_columns = [plan.options["read_options"].column_names[j] for j in present]
        table = csv.read_csv(name, **plan.options)
    except Exception as error:
        hint = ""
        with suppress(Exception):  # the file may be damaged
            hint = _separator_hint(name, layout)
        raise TableError(f"{name} is not a readable CSV file ({_first_line(error)}){hint}") from error
    return _Source(
        plan.names,
        (lambda j: table.column(present.index(j))) if alone else table.column,
        plan.row_names,
        plan.notes,
    )


def _separator_hint(name: str, layout: TextLayout) -> str:
    """A hint at another separator, if one occurs in the first line more often than the separator."""
    separator = layout.separator or ("\t" if name.lower().removesuffix(".gz").endswith(".tsv") else ",")
    opener: Any = gzip.open if name.lower().endswith(".gz") else open
    with opener(name, "rt", encoding="utf-8-sig") as file:
        line = file.readline()
    most = max(";\t|", key=line.count)
    return f": --separator {most!r} may be meant" if line.count(most) > line.count(separator) else ""


def _first_lines(name: str, separator: str) -> tuple[list[str], list[list[str]], int]:
    """Cells of the first line that is not empty, cells of some lines below, and the number of lines up to it."""
    opener: Any = gzip.open if name.lower().endswith(".gz") else open
    with opener(name, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv_module.reader(file, delimiter=separator)
        rows, lines = [], 0
        for row in reader:
            if row:
                rows.append(row)
                lines = lines or reader.line_num
            if len(rows) > _LINES:
                break
    return (rows[0] if rows else []), rows[1:], lines


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
