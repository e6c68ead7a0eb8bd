"""Tables in files: CSV, Parquet and .npy."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    """

    names: list[str]
    X: NDArray[np.floating]
    extra: dict[str, NDArray[np.float64]]


def read_table(
    path: str | os.PathLike[str], columns: Sequence[str] | None = None, extra: Sequence[str] = ()
) -> Columns:
    """Read numeric columns of a CSV, Parquet or .npy file.

    Parameters
    ----------
    path : path-like
        ``*.csv`` (also .tsv, .txt and these with .gz; the first line holds the names unless all of it is
        numbers), ``*.parquet``, ``*.npy`` (a two-dimensional array).
    columns : sequence of str, default: all but ``extra``
        Columns to read, in this order. For a file without names: x0, x1, ...
    extra : sequence of str, default=()
        Columns to return separately.

    Returns
    -------
    Columns
        float32 if all chosen columns are, else float64. Missing values are NaN.

    Raises
    ------
    OSError
        The file cannot be opened.
    TableError
        The file is empty, damaged or of another kind; a column is missing or is not numeric (says which).
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
    if os.path.exists(name) and not os.path.isfile(name):
        raise TableError(
            f"{name} is {'a directory' if os.path.isdir(name) else 'not a regular file'}, not a table"
        )
    with open(name, "rb") as file:
        empty = not file.read(1)
    if empty:
        raise TableError(f"{name} is empty")
    lower = name.lower()
    if lower.endswith(".npy"):
        names, values = _read_npy(name)
    elif lower.endswith((".parquet", ".pq")):
        names, values = _read_parquet(name, columns, extra)
    elif lower.removesuffix(".gz").endswith((".csv", ".tsv", ".txt")):
        names, values = _read_csv(name)
    else:
        raise TableError(f"{name}: unknown kind of file; mixtura reads .csv, .tsv, .txt, .parquet and .npy")
    missing = [c for c in (*(columns or ()), *extra) if c not in names]
    if missing:
        raise TableError(f"{name} has no column {missing[0]!r}; its columns are {_list(names)}")
    for c in (*(columns or names), *extra):
        if names.count(c) > 1:
            raise TableError(f"{name} has {names.count(c)} columns named {c!r}; give them different names")
        if columns is not None and list(columns).count(c) > 1:
            raise TableError(f"column {c!r} is asked for twice")
    chosen = list(columns) if columns is not None else [n for n in names if n not in extra]
    if not chosen:
        raise TableError(f"{name} has no columns left to use")
    arrays = [_numbers(name, c, values(c)) for c in chosen]
    if not len(arrays[0]):
        raise TableError(f"{name} has columns but no rows")
    dtype = np.float32 if all(a.dtype == np.float32 for a in arrays) else np.float64
    X = np.empty((len(arrays[0]), len(arrays)), dtype=dtype)
    for j, array in enumerate(arrays):
        X[:, j] = array
    beside = {c: _numbers(name, c, values(c)).astype(np.float64) for c in extra}
    return Columns(chosen, X, beside)


def _list(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _numbers(path: str, name: str, column: Any) -> NDArray[np.floating]:
    """A column as float32 or float64."""
    if isinstance(column, np.ndarray):
        kind, array = column.dtype.kind, column
    else:
        import pyarrow as pa

        t = column.type
        numeric = (
            pa.types.is_integer(t)
            or pa.types.is_floating(t)
            or pa.types.is_decimal(t)
            or pa.types.is_boolean(t)
        )
        if pa.types.is_null(t):
            array, kind = np.full(len(column), np.nan), "f"
        elif not numeric:
            hint = next((f"; the cells look separated by {c!r}" for c in ";\t|" if c in name), "")
            raise TableError(
                f"{path}: column {name!r} is not numeric ({t}); choose others with columns, or encode it{hint}"
            )
        else:
            wide = (
                column if t == pa.float32() else column.cast(pa.float64(), safe=False)
            )  # rounds integers above 2^53
            array, kind = wide.to_numpy(), "f"
    if kind not in "fiub":
        raise TableError(f"{path}: column {name!r} is not numeric ({column.dtype})")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _read_npy(name: str) -> tuple[list[str], Any]:
    try:
        array = np.load(name, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise TableError(f"{name} is not a .npy file of numbers, or is cut short") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        shape = getattr(array, "shape", None)
        raise TableError(f"{name} holds an array of shape {shape}; a table has two dimensions")
    if array.shape[1] == 0:
        raise TableError(f"{name} has no columns")
    names = [f"x{j}" for j in range(array.shape[1])]
    return names, lambda column: array[:, names.index(column)]


def _pyarrow(name: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(f"reading {name} needs pyarrow: pip install 'mixtura[io]'") from error
    return pyarrow


def _read_parquet(name: str, columns: Sequence[str] | None, extra: Sequence[str]) -> tuple[list[str], Any]:
    _pyarrow(name)
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(name) as file:
            names = list(file.schema_arrow.names)
            wanted = [c for c in (names if columns is None else (*columns, *extra)) if names.count(c) == 1]
            table = file.read(columns=list(dict.fromkeys(wanted)))
    except Exception as error:
        raise TableError(f"{name} is not a Parquet file, or is damaged ({_first_line(error)})") from error
    return names, lambda column: table.column(column)


def _read_csv(name: str) -> tuple[list[str], Any]:
    _pyarrow(name)
    from pyarrow import csv

    parse = csv.ParseOptions(delimiter="\t" if name.lower().removesuffix(".gz").endswith(".tsv") else ",")
    try:
        header = _has_header(name, parse.delimiter)
        table = csv.read_csv(
            name,
            read_options=csv.ReadOptions(autogenerate_column_names=not header),
            parse_options=parse,
            convert_options=csv.ConvertOptions(strings_can_be_null=True),
        )
    except Exception as error:
        raise TableError(f"{name} is not a readable CSV file ({_first_line(error)})") from error
    names = (
        [str(n).strip() for n in table.column_names]
        if header
        else [f"x{j}" for j in range(table.num_columns)]
    )
    return names, lambda column: table.column(names.index(column))


# What a cell without a value may say, beside nothing.
_MISSING = {"", "na", "n/a", "#n/a", "null", "none", "nan", "-nan"}


def _has_header(name: str, delimiter: str) -> bool:
    """Whether the first line that is not empty has something that is neither a number nor a missing one."""
    opener: Any = gzip.open if name.lower().endswith(".gz") else open
    with opener(name, "rt", encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
    cells = [cell.strip().strip('"').strip().lower() for cell in first.strip("\r\n").split(delimiter)]
    return not any(map(_is_number, cells)) or not all(c in _MISSING or _is_number(c) for c in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
