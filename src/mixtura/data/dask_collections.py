"""Dask's arrays and data frames as tables whose partitions stay with the workers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.array_kinds import unmasked
from mixtura.data.columns import FrameColumns, check_array_of_rows, with_columns
from mixtura.distributed import Partitioned, dask_engine

Real = NDArray[np.floating]


def is_dask(data: Any) -> bool:
    """Whether it is one of Dask's collections."""
    return type(data).__module__.partition(".")[0] in ("dask", "dask_expr")


def from_dask(data: Any, engine: Any, columns: list[str] | None) -> Partitioned:
    """A Dask array or data frame, whose partitions become arrays where they are."""
    delayed = import_module("dask").delayed
    found = dask_engine(engine)
    taken: FrameColumns | None = None
    if not hasattr(data, "ndim"):
        raise TypeError(
            f"rows cannot be read from Dask's {type(data).__name__}: pass an array or a data frame"
        )
    if data.ndim != 2:
        raise ValueError(f"rows must have two axes, (N, D); the {type(data).__name__} has {data.ndim}")
    if hasattr(data, "columns"):  # a data frame
        taken = FrameColumns.of(data, columns, "the frame")
        parts = [delayed(_of_frame)(part, taken) for part in data.to_delayed()]
    else:
        check_array_of_rows(data)
        rows = data.rechunk({1: -1})
        parts = [delayed(_of_array)(part) for part in rows.to_delayed().ravel()]
    futures = found.client.compute(parts)
    shapes = found.gather(found.map(futures, _shape))
    widths = {shape[1] for shape, _ in shapes}
    if len(widths) > 1:
        raise ValueError(
            f"partitions have {', '.join(map(str, sorted(widths)))} columns: they must all have the same"
        )
    single = all(dtype == "float32" for _, dtype in shapes)
    dtype = np.dtype(np.float32 if single else np.float64)
    if not single:
        futures = found.map(futures, _of_array)
    counts = [shape[0] for shape, _ in shapes]
    names = None if taken is None else taken.names
    source = Partitioned(found, futures, counts, widths.pop(), dtype, names)
    return source if taken is None else with_columns(source, taken)


def _shape(rows: Real) -> tuple[tuple[int, ...], str]:
    return rows.shape, str(rows.dtype)


def _of_array(rows: Any) -> Real:
    array = np.asarray(unmasked(rows, "X"))
    return np.ascontiguousarray(array if array.dtype == np.float32 else array.astype(np.float64))


def _of_frame(frame: Any, taken: FrameColumns) -> Real:
    return _of_array(taken.rows(frame, "a partition"))


def scattered(X: Real, engine: Any, partitions: int = 8) -> Partitioned:
    """An array that is here, in partitions with the workers."""
    from_array = import_module("dask.array").from_array
    size = max(-(-len(X) // partitions), 1)
    return from_dask(from_array(X, chunks=(size, X.shape[1])), engine, None)
