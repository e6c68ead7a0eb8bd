"""Tables on the command line: what is read and written, and how the options say so."""

from __future__ import annotations

import argparse
import glob
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixtura.cli.arguments import UsageError

if TYPE_CHECKING:
    from mixtura.data import Columns, Streamed, TextLayout

# Size of a file from which on it is read block by block.
_STREAMED_BYTES = 1 << 30


def note(text: str) -> None:
    """Print a remark to standard error."""
    print("mixtura: note: " + " ".join(text.split()), file=sys.stderr)


def split(text: str | None) -> list[str] | None:
    """The parts between the commas of a text."""
    return None if text is None else [c.strip() for c in text.split(",") if c.strip()]


def named_columns(options: argparse.Namespace) -> list[str] | None:
    """The columns that --columns and --column name; None if neither option is given."""
    named = [*(split(options.columns) or ()), *(c.strip() for c in options.column or ())]
    return None if options.columns is None and options.column is None else named


def layout_of(options: argparse.Namespace) -> TextLayout:
    """The layout of a text file, from the options."""
    from mixtura.data import TextLayout

    separator = {"tab": "\t", "\\t": "\t"}.get(options.separator, options.separator)
    return TextLayout(options.header, separator, options.decimal)


def read(
    options: argparse.Namespace,
    columns: Sequence[str] | None,
    beside: Sequence[str] = (),
    may_be_empty: bool = False,
    optional: Sequence[str] = (),
) -> tuple[Columns, NDArray[np.bool_]]:
    """The table, whose values are finite but for those of optional columns, and which of the file's rows it holds."""
    from mixtura.data import read_table
    from mixtura.estimators.validation import check_finite

    table = read_table(options.data, columns, beside, layout=layout_of(options), numeric=options.numeric)
    for text in table.notes:
        note(text)
    unknown = {name: table.extra[name] for name in optional}
    table = replace(table, extra={n: c for n, c in table.extra.items() if n not in unknown})
    kept = table.complete()
    if options.drop_missing:
        if not kept.any() and not may_be_empty:
            raise UsageError(f"{options.data}: every row has a missing value; --columns leaves columns out")
        if not kept.all():
            note(f"{options.data}: left out {np.sum(~kept)} of {len(kept)} rows, which have missing values")
        extra = {name: column[kept] for name, column in table.extra.items()}
        table = replace(table, X=table.X[kept], extra=extra)
        unknown = {name: column[kept] for name, column in unknown.items()}
    try:
        check_finite(table.X, table.names)
        for name, column in table.extra.items():
            check_finite(column[:, None], [name], "table")
    except ValueError as error:
        hint = (
            ""
            if kept.all() or options.drop_missing
            else " --drop-missing leaves out the rows with missing values."
        )
        raise UsageError(f"{error}{hint}") from error
    table = replace(table, extra={**table.extra, **unknown})
    return table, kept if options.drop_missing else np.ones(len(table.X), dtype=bool)


def check_output(path: str | None, *endings: str, beside: Sequence[str | None] = ()) -> None:
    """Raise UsageError, before any work, if a file cannot be written or is one of the other files of the command."""
    from mixtura.files import partial_name

    if path is None:
        return
    if endings and not path.lower().endswith(endings):
        raise UsageError(f"{path!r}: write to a file that ends in {' or '.join(endings)}")
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: there is no directory {folder}")
    if (
        not path
        or os.path.isdir(target)
        or not os.access(target if os.path.exists(target) else folder, os.W_OK)
    ):
        raise UsageError(f"{path!r} cannot be written")
    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if len(os.path.basename(partial_name(target)).encode()) > longest:
        raise UsageError(f"{path}: the name is too long")
    for other in beside:
        named = (
            [] if other is None else glob.glob(other, recursive=True) if glob.has_magic(other) else [other]
        )
        if target in map(os.path.realpath, named):
            raise UsageError(f"{path} is named twice: writing it would overwrite the other")


def check_outputs(options: argparse.Namespace) -> None:
    """Check, before any work, that model and picture can be written; a picture without a name gets one."""
    if options.plot == "":
        # Several files have the name of their folder, or that of the pattern without its wildcards.
        table = Path(options.data)
        stem = next(
            (p.stem for p in (table, *table.parents) if p.stem and not glob.has_magic(p.stem)), "table"
        )
        options.plot = f"{stem}.png"
    checkpoint = getattr(options, "checkpoint", None)
    check_output(options.output, beside=[options.data, options.plot, checkpoint])
    check_output(options.plot, ".png", ".pdf", ".svg", beside=[options.data, checkpoint])
    if options.plot:
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise ImportError("--plot needs matplotlib: pip install 'mixtura[plot]'") from error


def fit_data(
    options: argparse.Namespace, targets: Sequence[str] = (), labels: str | None = None
) -> tuple[Columns, Any]:
    """The table, which also holds targets and weights as extra columns, and the checked weights."""
    from mixtura.estimators.validation import check_weights

    optional = [] if labels is None else [labels]
    beside = [*targets, *([] if options.weights is None else [options.weights]), *optional]
    if labels is not None and labels in (options.weights, *(named_columns(options) or ())):
        raise UsageError(f"column {labels!r} is asked for twice: labels are nothing else")
    table, _ = read(options, named_columns(options), beside, optional=optional)
    weights = None if options.weights is None else check_weights(table.extra[options.weights], table.X)
    return table, weights


def streamed(
    options: argparse.Namespace, refused: Sequence[str], without: Sequence[str] = ()
) -> Streamed | None:
    """The table as one that is read block by block, if it is several files or a large one; else None.

    Parameters
    ----------
    options : Namespace
    refused : sequence of str
        Options that such a table does not go with.
    without : sequence of str
        Columns that are left out where the options name none.
    """
    several = glob.has_magic(options.data)
    large = (
        options.data.lower().endswith((".parquet", ".npy", ".arrow"))
        and os.path.isfile(options.data)
        and os.path.getsize(options.data) >= _STREAMED_BYTES
    )
    asked = [f"--{name.replace('_', '-')}" for name in refused if getattr(options, name, None)]
    engine = getattr(options, "engine", None)
    if not several and engine is None and (not large or asked):
        return None
    if asked:
        raise UsageError(
            f"{', '.join(asked)} cannot be used with several files, which are read block by block"
        )
    from mixtura.data import as_source

    client = None if engine is None else _client(options.scheduler)
    chosen, layout = named_columns(options), layout_of(options)
    if chosen is None and without:
        names = as_source(options.data, layout=layout).names
        if names is None:
            raise UsageError(f"{options.data} has no names of columns, and so no {', '.join(without)}")
        chosen = [name for name in names if name not in without]
    source = as_source(options.data, columns=chosen, engine=client, layout=layout)
    for text in source.notes:
        note(text)
    note(f"{len(source):,} rows are read block by block")
    return source


def _client(address: str | None) -> Any:
    """A client of Dask's scheduler."""
    if address is None:
        raise UsageError("--engine dask needs --scheduler ADDRESS, such as tcp://host:8786")
    try:
        client = importlib.import_module("distributed").Client
    except ImportError as error:
        raise ImportError("--engine dask needs distributed: pip install 'mixtura[dask]'") from error
    try:
        return client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UsageError(f"--scheduler {address}: no scheduler answers there ({error})") from error


def group_column(options: argparse.Namespace) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The column of --by, of numbers or of text, and which rows have a group: all, unless --drop-missing is given."""
    from mixtura.data.files import any_column

    name = options.by
    try:
        column = any_column(options.data, name, layout_of(options))
    except KeyError as error:
        raise UsageError(f"--by {name}: {options.data} has no such column") from error
    if isinstance(column, np.ndarray):
        return column, np.ones(len(column), dtype=bool)
    there = (
        column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else np.ones(len(column), bool)
    )
    values: NDArray[Any] = column.drop_null().to_numpy()
    if values.dtype == object:
        values = values.astype(str)
    whole = np.zeros(len(column), dtype=values.dtype)
    whole[there] = values
    if values.dtype.kind == "U":
        there = there & (whole != "")
    missing = int(np.sum(~there))
    if missing and not options.drop_missing:
        raise UsageError(f"--by {name}: the column has {missing} missing values; every row needs a group")
    return whole, there


def write_blocks(path: str, model: Any, source: Streamed, proba: bool) -> None:
    """Write the answers about a table that is read block by block, as they come."""
    from mixtura.files import write_whole

    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError as error:
        raise ImportError(f"writing {path} needs pyarrow: pip install 'mixtura[io]'") from error

    def write(name: str) -> None:
        writer: Any = None
        for _, block in source.blocks():
            answers = pyarrow.table(
                {key: pyarrow.array(v) for key, v in model._answers(block, proba).items()}
            )
            if writer is None and path.lower().endswith(".csv"):
                writer = csv.CSVWriter(
                    name, answers.schema, write_options=csv.WriteOptions(quoting_style="none")
                )
            elif writer is None:
                writer = parquet.ParquetWriter(name, answers.schema)
            writer.write_table(answers)
        writer.close()

    write_whole(path, write)


def write(path: str, names: list[str], values: list[Any], kept: NDArray[np.bool_]) -> None:
    """Write columns to a file, with empty cells for rows that were not kept (NaN in .npy)."""
    from mixtura.files import write_whole

    if path.lower().endswith(".npy"):
        array = values[0] if len(values) == 1 else np.column_stack(values)
        if not kept.all():
            predictions, array = array, np.full((len(kept), *array.shape[1:]), np.nan)
            array[kept] = predictions

        def write(name: str) -> None:
            with open(name, "wb") as file:
                np.save(file, array)

    else:
        try:
            import pyarrow
            from pyarrow import csv, parquet
        except ImportError as error:
            raise ImportError(f"writing {path} needs pyarrow: pip install 'mixtura[io]'") from error
        columns = [pyarrow.array(column) for column in values]
        if not kept.all():
            places = np.cumsum(kept) - 1
            places = pyarrow.array(np.maximum(places, 0), mask=~kept)  # a masked index gives null
            columns = [column.take(places) for column in columns]
        table = pyarrow.table(dict(zip(names, columns, strict=True)))

        def write(name: str) -> None:
            if path.lower().endswith(".csv") and len(names) == 1 and not kept.all():
                # Many readers skip an empty line, but not a line with a quoted empty cell.
                lines = (names[0], *('""' if v is None else str(v) for v in columns[0].to_pylist()))
                Path(name).write_text("\n".join(lines) + "\n")
            elif path.lower().endswith(".csv"):
                csv.write_csv(table, name, csv.WriteOptions(quoting_style="none"))
            else:
                parquet.write_table(table, name)

    write_whole(path, write)
