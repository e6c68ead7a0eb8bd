"""Which columns of a table are taken, and what must hold for them: the same for all sources of rows."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from mixtura.streamed import Streamed

Source = TypeVar("Source", bound=Streamed)


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
    return str(kind).lower().startswith(("int", "uint", "float", "bool"))


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
    for name in columns:
        if columns.count(name) > 1:
            raise ValueError(f"column {name!r} is asked for twice")
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(f"{what} has no column {', '.join(missing)}; its columns are {', '.join(names)}")
    text = [name for name in columns if name not in numeric]
    if text:
        raise ValueError(f"column {', '.join(text)} of {what} is not numeric")
    _check_single(names, columns, what)
    return columns


def _check_single(names: list[str], wanted: list[str], what: str) -> None:
    """Raise ValueError if a wanted column is there more than once."""
    for name in wanted:
        if names.count(name) > 1:
            raise ValueError(
                f"{what} has {names.count(name)} columns named {name!r}: give them different names"
            )


def noted(source: Source, left_out: list[str]) -> Source:
    """The source, with a note of the columns that were left out because they are not numeric."""
    if left_out:
        listed = ", ".join(map(repr, left_out[:10]))
        more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        source.notes.append(f"left out {len(left_out)} column(s) that are not numeric: {listed}{more}")
    return source
