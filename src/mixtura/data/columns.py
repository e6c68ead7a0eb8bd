"""Which columns of a table are taken, and what must hold for them: the same for all sources of rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixtura.streamed import Streamed

Source = TypeVar("Source", bound=Streamed)


@dataclass(frozen=True)
class FrameColumns:
    """The columns of a frame that are taken, by name: of each of its parts, in whatever order a part has them.

    Parameters
    ----------
    names : list of str
    left_out : list of str
        The columns that are not numeric, if all others are taken.
    labelled : bool
        Whether the frame's own labels are text; of other labels, such as numbers, scikit-learn's estimators take no
        notice.
    """

    names: list[str]
    left_out: list[str]
    labelled: bool = True

    @classmethod
    def of(cls, frame: Any, columns: list[str] | None, what: str) -> Self:
        """Those columns of a pandas, polars or Dask frame, or of an Arrow table, or all that are numeric."""
        known, numeric = _known(frame)
        left_out = [] if columns is not None else _without(known, numeric)
        labelled = all(isinstance(label, str) for label in _labels(frame))
        return cls(chosen_columns(columns, known, numeric, what), left_out, labelled)

    def dtype(self, frame: Any) -> np.dtype[np.floating]:
        """float32 if all columns are, else float64."""
        types = _types(frame)
        single = all(str(types[j]).lower() in ("float32", "float") for j in self._places(frame, "the frame"))
        return np.dtype(np.float32 if single else np.float64)

    def rows(self, part: Any, what: str = "the frame") -> NDArray[Any]:
        """The rows of a part of the frame, (n, D); ValueError if it lacks a column, or has words there."""
        places = self._places(part, what)
        if hasattr(part, "iloc"):
            some = part.iloc[:, places]
            return np.asarray(some.to_numpy(dtype=self.dtype(part), na_value=np.nan))
        if hasattr(part, "select") and hasattr(part, "to_numpy"):
            return np.asarray(part.select(self.names).to_numpy())
        return arrow_rows(part, self.names, self.dtype(part))

    def _places(self, part: Any, what: str) -> list[int]:
        known, numeric = _known(part)
        places = {name: j for j, name in enumerate(known)}
        return [places[name] for name in chosen_columns(self.names, known, numeric, what)]


def has_names(data: Any) -> bool:
    """Whether it is a table of pandas, polars or Arrow in memory, whose columns have words for names."""
    library = type(data).__module__.partition(".")[0]
    if library == "pyarrow":
        return hasattr(data, "schema") and hasattr(data, "num_rows")
    if library not in ("pandas", "polars") or not hasattr(data, "columns") or not hasattr(data, "__len__"):
        return False
    return all(isinstance(label, str) for label in data.columns)


def _known(frame: Any) -> tuple[list[str], list[str]]:
    """The names of the columns, and of those that are numeric."""
    known = [str(label) for label in _labels(frame)]
    return known, [name for name, kind in zip(known, _types(frame), strict=True) if is_numeric(kind)]


def _labels(frame: Any) -> list[Any]:
    return list(frame.schema.names if _is_arrow(frame) else frame.columns)


def _types(frame: Any) -> list[Any]:
    return list(frame.schema.types if _is_arrow(frame) else frame.dtypes)


def _is_arrow(frame: Any) -> bool:
    return type(frame).__module__.partition(".")[0] == "pyarrow"


def arrow_rows(batch: Any, names: list[str], dtype: Any) -> NDArray[np.floating]:
    """Columns of an Arrow table or record batch as rows (n, D); missing values become NaN."""
    rows = np.empty((batch.num_rows, len(names)), dtype=dtype)
    for j, name in enumerate(names):
        column = batch.column(name)
        rows[:, j] = np.nan if str(column.type) == "null" else column.to_numpy(zero_copy_only=False)
    return rows


def check_array_of_rows(data: Any) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape and type of an array of rows of real numbers."""
    shape, dtype = tuple(data.shape), np.dtype(data.dtype)
    if len(shape) != 2:
        raise ValueError(f"rows must have two axes, (N, D); the source has shape {shape}")
    if dtype.kind == "c":
        raise ValueError(f"Complex data not supported: the source must hold real numbers, and holds {dtype}")
    if dtype.kind not in "fiub":
        raise ValueError(f"the source must hold real numbers, and holds {dtype}")
    return (shape[0], shape[1]), dtype


def is_numeric(kind: Any) -> bool:
    """Whether a column's type, of any library of frames, is one of numbers."""
    letter = getattr(kind, "kind", None)  # of NumPy's types, and of pandas' own
    if isinstance(letter, str):
        return letter in "fiub"
    return str(kind).lower().startswith(("int", "uint", "float", "bool", "double", "halffloat"))


def chosen_columns(columns: list[str] | None, names: list[str], numeric: list[str], what: str) -> list[str]:
    """The columns that were asked for, or all numeric ones."""
    columns = None if columns is None else [str(name) for name in columns]
    if columns is None:
        if not numeric:
            raise ValueError(f"{what} has no numeric column; its columns are {', '.join(names)}")
        _check_single(names, numeric, what)
        return numeric
    if not columns:
        raise ValueError(f"no column of {what} is left to use; its columns are {', '.join(names)}")
    for name, count in Counter(columns).items():
        if count > 1:
            raise ValueError(f"column {name!r} is asked for twice")
    missing = _without(columns, names)
    if missing:
        raise ValueError(f"{what} has no column {', '.join(missing)}; its columns are {', '.join(names)}")
    text = _without(columns, numeric)
    if text:
        raise ValueError(f"column {', '.join(text)} of {what} is not numeric")
    _check_single(names, columns, what)
    return columns


def _without(names: list[str], others: list[str]) -> list[str]:
    """The names that are not among the others, in their order."""
    among = set(others)
    return [name for name in names if name not in among]


def _check_single(names: list[str], wanted: list[str], what: str) -> None:
    """Raise ValueError if a wanted column is there more than once."""
    counts = Counter(names)
    for name in wanted:
        if counts[name] > 1:
            raise ValueError(f"{what} has {counts[name]} columns named {name!r}: give them different names")


def with_columns(source: Source, taken: FrameColumns) -> Source:
    """The source of rows of such columns, with what is known of these."""
    source.labelled = taken.labelled
    return noted(source, taken.left_out)


def noted(source: Source, left_out: list[str]) -> Source:
    """The source, with a note of the columns that were left out because they are not numeric."""
    if left_out:
        listed = ", ".join(map(repr, left_out[:10]))
        more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        source.notes.append(f"left out {len(left_out)} column(s) that are not numeric: {listed}{more}")
    return source
