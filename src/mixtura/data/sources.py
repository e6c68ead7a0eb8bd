"""Where rows come from that need not fit in memory: arrays on disk, files, frames, sparse matrices, blocks."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.array_kinds import is_paths, unmasked
from mixtura.data.columns import (
    FrameColumns,
    arrow_rows,
    check_array_of_rows,
    chosen_columns,
    has_names,
    noted,
    with_columns,
)
from mixtura.data.dask_collections import from_dask, is_dask, scattered
from mixtura.data.files import TableError, TextLayout, TextPlan, leading_row_names, pandas_index, plan_of_text
from mixtura.distributed import dask_engine
from mixtura.streamed import BLOCK_BYTES, Streamed, release

__all__ = ["Streamed", "as_source", "opened"]

Real = NDArray[np.floating]

# Stripes of rows, from anywhere in the table, of which a random block is made.
_STRIPES = 32


def as_source(
    data: Any,
    *,
    columns: Sequence[str] | None = None,
    block_bytes: int = BLOCK_BYTES,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
    engine: Any = None,
    layout: TextLayout | None = None,
) -> Streamed:
    """A table that is read block by block: what every estimator's ``fit``, ``predict`` and ``score`` take.

    Parameters
    ----------
    data : object
        One of: an array or memory map; the path of a .npy file; paths of Parquet or Arrow files, or patterns such as
        ``"data/*.parquet"``; a ``pyarrow`` table or dataset; a pandas or polars frame; a SciPy sparse matrix; anything
        with ``shape`` that gives rows by slices, such as zarr and h5py arrays; an iterable of blocks (n, D), arrays or
        frames, that can be iterated again and again; or a Dask array or data frame, whose partitions stay with their
        workers.
    columns : sequence of str, default=None
        Columns to use of a table with names; None takes all numeric ones but row names. The source's ``notes`` say
        which were left out.
    block_bytes : int, default=16 MiB
        Size of the blocks in which rows are read. It decides how much memory a fit needs, whatever the number of rows:
        about four blocks and a sample.
    cache_dir : path-like, default=None
        Where files are decoded to, once, as plain numbers; None takes the system's place for temporary files. The cache
        has no name there once it is written, so nothing is left over, whatever happens.
    cache_bytes : int, default=None
        Most bytes of the cache; None takes half of what is free there. Larger tables, and all with 0, are decoded again
        in each pass.
    engine : 'dask' or distributed.Client, default=None
        The client whose workers hold the partitions of a Dask collection, by default the one in use; an array or a list
        of Parquet files becomes such partitions.
    layout : TextLayout, default=TextLayout()
        How CSV files are laid out: see :func:`mixtura.data.read_table`, whose rules for row names and for files
        without names hold here too. The first file decides for all whether they have a line of names.

    Returns
    -------
    Streamed

    Raises
    ------
    TypeError
        The data are of an unknown kind.
    ValueError
        There are no rows or no numeric columns, or blocks differ in columns.
    OSError
        A file is not there or cannot be read, or the disk is full.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> from mixtura.data import as_source
    >>> X = np.random.default_rng(0).normal(size=(5000, 3))
    >>> source = as_source(X, block_bytes=1 << 14)
    >>> source.shape
    (5000, 3)
    >>> streamed = GaussianMixture(2, random_state=0).fit(source)
    >>> whole = GaussianMixture(2, random_state=0).fit(X)
    >>> bool(np.isclose(streamed.lower_bound_, whole.lower_bound_, rtol=1e-12))
    True
    """
    if isinstance(data, Streamed):
        return data
    if engine is not None or is_dask(data):
        return _with_workers(data, engine, list(columns) if columns is not None else None)
    make = _kind_of(data)
    if layout is not None:
        if make is not _of_files:
            raise ValueError("layout is for text files, and the rows come from elsewhere")
        make = partial(_of_files, layout=layout)
    if make is None:
        raise TypeError(
            f"rows cannot be read from {type(data).__name__}: pass an array, a frame, paths of .npy, Parquet or Arrow "
            "files, a sparse matrix, an object with shape and slices, or an iterable of blocks that is no iterator"
        )
    cache = _Cache(cache_dir, cache_bytes)
    return make(data, list(columns) if columns is not None else None, block_bytes, cache)


# Libraries whose arrays are not in memory.
_ON_DISK = ("h5py", "zarr")

# What a table in memory has, but not an object that gives one block after the other.
_OF_TABLES = (
    "__len__",
    "__getitem__",
    "__array__",
    "__array_interface__",
    "__dlpack__",
    "__dataframe__",
    "shape",
)


def opened(data: Any) -> Any:
    """As :func:`as_source` for data that are not a table in memory, so that they are never read whole.

    Such data are paths, sparse matrices, Dask collections, arrays of zarr and h5py, datasets of ``pyarrow``, and
    objects that give blocks and are no list. All others are returned as they are: arrays, frames, nested lists, which
    scikit-learn's checks convert or refuse.
    """
    kind = type(data)
    if (
        is_paths(data)
        or hasattr(data, "tocsr")
        or is_dask(data)
        or kind.__module__.partition(".")[0] in _ON_DISK
        or kind.__module__ == "pyarrow._dataset"
        or (hasattr(data, "__iter__") and not any(hasattr(data, name) for name in _OF_TABLES))
    ):
        return as_source(data)
    return data


def _with_workers(data: Any, engine: Any, columns: list[str] | None) -> Streamed:
    """Rows in partitions with Dask's workers."""
    found = dask_engine(engine).client if engine is not None and engine != "dask" else None
    dask_engine(found)  # says what is missing
    if isinstance(data, np.ndarray):
        _no_columns(columns, "an array")
        return scattered(data, found)
    if is_paths(data):
        read_parquet = import_module("dask.dataframe").read_parquet
        return from_dask(read_parquet(data), found, columns)
    if not is_dask(data):
        raise TypeError(
            f"engine='dask' takes a Dask array or data frame, an array, or Parquet files, not {type(data).__name__}"
        )
    return from_dask(data, found, columns)


_Maker = Callable[[Any, list[str] | None, int, "_Cache"], Streamed]


def _kind_of(data: Any) -> _Maker | None:
    """What makes a source of such data."""
    library = type(data).__module__.partition(".")[0]
    if is_paths(data):
        return _of_files
    if library == "pyarrow":
        return _of_arrow
    if library in ("pandas", "polars"):
        return _of_frame
    if hasattr(data, "tocsr"):
        return _of_sparse
    if hasattr(data, "shape") and hasattr(data, "__getitem__"):
        return _of_slices
    if hasattr(data, "__iter__") and not hasattr(data, "__next__"):
        return _of_blocks
    return None


def _type_of(*dtypes: Any) -> np.dtype[Any]:
    """float32 if all are, in any order of bytes, else float64."""
    single = all(np.dtype(d).newbyteorder("=") == np.float32 for d in dtypes)
    return np.dtype(np.float32 if single else np.float64)


def _no_columns(columns: list[str] | None, what: str) -> None:
    if columns is not None:
        raise ValueError(f"columns were named, and {what} has no names")


# ---------------------------------------------------------------------- slices: arrays, zarr, h5py, frames, sparse


class Sliced(Streamed):
    """Rows that can be read from anywhere.

    Parameters
    ----------
    rows_of : callable
        ``rows_of(start, stop)`` gives rows (n, D).
    shape, dtype, names, block_bytes
        See :class:`Streamed`.
    pick : callable, optional
        ``pick(indices)`` gives rows by sorted indices, where that is quicker than to read all.
    owner : object, optional
        Is kept as long as this table.
    """

    def __init__(
        self,
        rows_of: Callable[[int, int], Any],
        shape: tuple[int, int],
        dtype: Any,
        names: list[str] | None = None,
        block_bytes: int = BLOCK_BYTES,
        pick: Callable[[NDArray[np.int64]], Any] | None = None,
        owner: Any = None,
    ) -> None:
        super().__init__(*shape, dtype, names, block_bytes)
        self._rows_of, self._pick, self._owner = rows_of, pick, owner
        if not all(shape):
            raise ValueError(
                f"the source has {shape[0]} rows and {shape[1]} columns: there is nothing to fit"
            )

    def read(self, start: int) -> Iterator[Real]:
        """See :meth:`Streamed.read`."""
        size = self.block_rows
        for at in range(start, len(self), size):
            yield np.asarray(self._rows_of(at, min(at + size, len(self))))

    def fill(self, start: int, out: Real) -> bool:
        """See :meth:`Streamed.fill`."""
        if not isinstance(self._rows_of, _FileRows):
            return False
        self._rows_of.into(start, out)
        return True

    def shuffled(self, rng: np.random.RandomState) -> Iterator[tuple[NDArray[np.int64], Real]]:
        """See :meth:`Streamed.shuffled`."""
        size = max(self.block_rows // _STRIPES, 1)
        starts = rng.permutation(np.arange(0, len(self), size))
        for first in range(0, len(starts), _STRIPES):
            cuts = [(int(a), min(int(a) + size, len(self))) for a in starts[first : first + _STRIPES]]
            parts = []
            for a, b in cuts:
                part = self._rows_of(a, b)
                parts.append(np.array(part, dtype=self.dtype))
                release(part)
            yield np.concatenate([np.arange(a, b) for a, b in cuts]), np.concatenate(parts)

    def gather(self, indices: NDArray[np.int64]) -> Real:
        """See :meth:`Streamed.gather`."""
        if self._pick is None:
            return super().gather(indices)
        order = np.argsort(indices, kind="stable")
        out = np.empty((len(indices), self.shape[1]), dtype=self.dtype)
        out[order] = self._pick(indices[order])
        return out


def _of_slices(data: Any, columns: list[str] | None, block_bytes: int, cache: _Cache) -> Streamed:
    _no_columns(columns, f"a {type(data).__name__}")
    data = unmasked(data, "X")
    shape, dtype = check_array_of_rows(data)
    in_memory = isinstance(data, np.ndarray) and not isinstance(data, np.memmap)
    pick = (lambda indices: data[indices]) if in_memory else None
    return Sliced(lambda a, b: data[a:b], shape, _type_of(dtype), None, block_bytes, pick, data)


def _of_sparse(data: Any, columns: list[str] | None, block_bytes: int, cache: _Cache) -> Streamed:
    """A sparse matrix, of which no more than a block becomes dense."""
    _no_columns(columns, "a sparse matrix")
    check_array_of_rows(data)
    rows = data.tocsr()
    return Sliced(
        lambda a, b: rows[a:b].toarray(),
        rows.shape,
        _type_of(rows.dtype),
        None,
        block_bytes,
        lambda indices: rows[indices].toarray(),
        rows,
    )


def _of_frame(data: Any, columns: list[str] | None, block_bytes: int, cache: _Cache) -> Streamed:
    """A pandas or polars frame, of which a block at a time becomes an array."""
    if not hasattr(data, "__len__"):
        raise TypeError(
            f"a {type(data).__name__} has no rows yet: pass what its collect() gives, or the paths of its files"
        )
    if not hasattr(data, "columns"):
        raise ValueError(
            f"rows must have two axes, (N, D); a {type(data).__name__} has one: pass its to_frame()"
        )
    taken = FrameColumns.of(data, columns, "the frame")
    shape = (len(data), len(taken.names))
    by_place = data.iloc if hasattr(data, "iloc") else data
    source = Sliced(
        lambda start, stop: taken.rows(by_place[start:stop]),
        shape,
        taken.dtype(data),
        taken.names,
        block_bytes,
        owner=data,
    )
    return with_columns(source, taken)


# ---------------------------------------------------------------------- blocks


class Blocks(Streamed):
    """Blocks that an iterable gives, each time that it is iterated.

    Parameters
    ----------
    iterable : iterable of array-like or frame of shape (n, D)
        Columns of frames are taken by their names, where the first block has names; those of arrays by their places.
    block_bytes : int
    columns : list of str, optional
        The columns of frames that are taken; by default those of the first block that are numeric.
    """

    _columns: list[str] | None = None
    _taken: FrameColumns | None = None

    def __init__(
        self, iterable: Any, block_bytes: int = BLOCK_BYTES, columns: list[str] | None = None
    ) -> None:
        self._iterable, self._columns = iterable, columns
        rows, width, dtypes = 0, None, set()
        for i, block in enumerate(iterable):
            part = self._rows(i, block)
            if part.ndim != 2 or (width is not None and part.shape[1] != width):
                raise ValueError(
                    f"block {i} of the source has shape {part.shape}, not (n, {'D' if width is None else width})"
                )
            if part.dtype.kind not in "fiub":
                raise ValueError(f"block {i} of the source must hold real numbers, and holds {part.dtype}")
            width, rows = part.shape[1], rows + len(part)
            dtypes.add(part.dtype)
        if not rows or not width:
            raise ValueError(
                "the source gave no rows: it must be iterable again and again, not an exhausted iterator"
            )
        names = None if self._taken is None else self._taken.names
        super().__init__(rows, width, _type_of(*dtypes), names, block_bytes)
        if self._taken is not None:
            with_columns(self, self._taken)

    def _rows(self, i: int, block: Any) -> NDArray[Any]:
        """Block number i as an array; the first says whether columns have names, and which are taken."""
        what, named = f"block {i} of the source", has_names(block)
        if i == 0:
            if not named:
                _no_columns(self._columns, what)
            self._taken = FrameColumns.of(block, self._columns, what) if named else None
        if self._taken is None:
            return np.asarray(unmasked(block, what))
        if not named:
            raise ValueError(f"{what} has no names for its columns, and the first block has names")
        return self._taken.rows(block, what)

    def read(self, start: int) -> Iterator[Real]:
        """See :meth:`Streamed.read`."""
        at = 0
        for i, block in enumerate(self._iterable):
            part = self._rows(i, block)
            if at + len(part) > start:
                yield part[max(start - at, 0) :]
            at += len(part)


def _of_blocks(data: Any, columns: list[str] | None, block_bytes: int, cache: _Cache) -> Streamed:
    return Blocks(data, block_bytes, columns)


# ---------------------------------------------------------------------- files


class _FileRows:
    """Rows of numbers in a file, read rather than mapped, so that what was read does not stay in this process.

    Parameters
    ----------
    descriptor : int
        Of the open file; it is closed with this object.
    offset : int
        Where the numbers begin.
    shape : (int, int)
    dtype : dtype
    """

    def __init__(self, descriptor: int, offset: int, shape: tuple[int, int], dtype: Any) -> None:
        self._descriptor, self._offset, self._shape, self._dtype = descriptor, offset, shape, np.dtype(dtype)

    def __call__(self, start: int, stop: int) -> Real:
        """Rows ``start`` to ``stop``."""
        out = np.empty((stop - start, self._shape[1]), dtype=self._dtype)
        self.into(start, out)
        return out

    def into(self, start: int, out: Real) -> None:
        """Read the rows from ``start`` on into an array."""
        row, filled = self._shape[1] * self._dtype.itemsize, 0
        memory = out.view(np.uint8).reshape(-1).data
        while filled < len(memory):
            n = os.preadv(self._descriptor, [memory[filled:]], self._offset + start * row + filled)
            if not n:
                raise OSError(f"the file ends within row {start + filled // row}: it has become shorter")
            filled += n

    def __del__(self) -> None:
        os.close(self._descriptor)


class _Cache:
    """A place on disk for decoded tables.

    Parameters
    ----------
    folder : path-like, optional
    most : int, optional
        Bytes; None for half of what is free.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, most: int | None) -> None:
        self.folder = tempfile.gettempdir() if folder is None else os.fspath(folder)
        if not os.path.isdir(self.folder):
            raise FileNotFoundError(f"cache_dir: there is no folder {self.folder}")
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
            raise ValueError(f"cache_bytes must be an integer that is not negative, got {most!r}")
        self.most = most

    def fits(self, size: int) -> bool:
        """Whether a table of so many bytes may be written."""
        if self.most is not None:
            return size <= self.most
        return 2 * size <= shutil.disk_usage(self.folder).free

    def written(self, blocks: Iterator[Real], shape: tuple[int, int], dtype: Any) -> _FileRows:
        """The rows in a file without a name, which is gone when nobody reads it any more."""
        with tempfile.TemporaryFile(dir=self.folder, prefix="mixtura-") as file:
            rows = 0
            for block in blocks:
                np.ascontiguousarray(block, dtype=dtype).tofile(file)
                rows += len(block)
            file.flush()
            if rows != shape[0]:
                raise ValueError(f"the files held {rows} rows when they were read, and {shape[0]} before")
            return _FileRows(os.dup(file.fileno()), 0, shape, dtype)


class Batches(Streamed):
    """Record batches of an Arrow dataset, decoded in each pass.

    Parameters
    ----------
    fragments : list of (str, int)
        Names and numbers of rows of the files.
    batches_of : callable
        ``batches_of(i)`` gives the record batches of file number i.
    names : list of str
    dtype : dtype
    block_bytes : int
    """

    def __init__(
        self,
        fragments: list[tuple[str, int]],
        batches_of: Callable[[int], Iterator[Any]],
        names: list[str],
        dtype: Any,
        block_bytes: int,
    ) -> None:
        self._fragments, self._batches_of = fragments, batches_of
        self._starts = np.cumsum([0, *(n for _, n in fragments)])
        super().__init__(int(self._starts[-1]), len(names), dtype, names, block_bytes)
        if not len(self):
            raise ValueError("the files hold no rows")

    def where(self, start: int) -> str:
        """See :meth:`Streamed.where`."""
        i = int(np.searchsorted(self._starts, start, side="right")) - 1
        i = min(max(i, 0), len(self._fragments) - 1)
        name, _ = self._fragments[i]
        return f"row {start - int(self._starts[i])} of {name}" if name else f"row {start}"

    def read(self, start: int) -> Iterator[Real]:
        """See :meth:`Streamed.read`."""
        names = self.names or []
        for i in range(len(self._fragments)):
            at = int(self._starts[i])
            if self._starts[i + 1] <= start:
                continue
            for batch in self._batches_of(i):
                part = arrow_rows(batch, names, self.dtype)
                if at + len(part) > start:
                    yield part[max(start - at, 0) :]
                at += len(part)


def _of_files(
    data: Any,
    columns: list[str] | None,
    block_bytes: int,
    cache: _Cache,
    layout: TextLayout | None = None,
) -> Streamed:
    patterns = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    paths: list[str] = []
    for pattern in (os.fspath(p) for p in patterns):
        found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
        if not found:
            raise FileNotFoundError(f"no file matches {pattern}")
        paths += found
    for path in paths:
        if not os.path.exists(path):
            raise FileNotFoundError(f"there is no file {path}")
        if os.path.isdir(path):
            raise TableError(f"{path} is a directory: a pattern such as '{path}/*.parquet' takes its files")
    endings = {Path(path.lower().removesuffix(".gz")).suffix for path in paths}
    if layout not in (None, TextLayout()) and not endings <= {".csv", ".tsv"}:
        raise TableError(
            f"{paths[0]} is no text file: it has no header line, separator or decimal point to be told of"
        )
    if endings == {".npy"}:
        if len(paths) > 1:
            raise ValueError("several .npy files are no single table: pass one, or an iterable of blocks")
        try:
            array = np.load(paths[0], mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise TableError(f"{paths[0]}: {error}") from error
        if (
            array.ndim == 2
            and array.dtype.kind == "f"
            and array.flags.c_contiguous
            and array.dtype.itemsize in (4, 8)
            and array.dtype.isnative
        ):
            _no_columns(columns, "a .npy file")
            rows = _FileRows(os.open(paths[0], os.O_RDONLY), array.offset, array.shape, array.dtype)
            return Sliced(rows, array.shape, _type_of(array.dtype), None, block_bytes)
        return _of_slices(array, columns, block_bytes, cache)
    dataset, row_names, notes = _dataset(paths, endings, columns or [], layout)
    others = [name for j, name in enumerate(dataset.schema.names) if j not in row_names]
    source = _of_arrow(dataset, columns, block_bytes, cache, others)
    source.notes[:0] = notes
    if columns is None and row_names:
        held = ", ".join(repr(dataset.schema.names[j]) for j in sorted(row_names))
        source.notes.append(f"{paths[0]}: left out {held}, which holds row names")
    return source


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.dataset
    except ImportError as error:
        raise ImportError("Parquet and Arrow tables need pyarrow: pip install 'mixtura[io]'") from error
    return pyarrow


@dataclass(frozen=True)
class _TextFiles:
    """Text files as one dataset with the columns of the first: each has its own order of columns.

    Parameters
    ----------
    datasets : list of pyarrow.dataset.Dataset
        One of each file.
    """

    datasets: list[Any]

    @property
    def schema(self) -> Any:
        """The first file's."""
        return self.datasets[0].schema

    def get_fragments(self) -> Iterator[Any]:
        """The files."""
        for dataset in self.datasets:
            yield from dataset.get_fragments()


def _text_files(
    paths: list[str], wanted: list[str], layout: TextLayout
) -> tuple[_TextFiles, frozenset[int], list[str]]:
    """Text files, of which all others have a line of names if the first has one; as :func:`_dataset`."""
    datasets, plans = list[Any](), list[TextPlan]()
    for path in paths:
        with _naming(path):
            plan = plan_of_text(path, wanted, layout)
            datasets.append(_text_file(path, plan))
            plans.append(plan)
        layout = replace(layout, header="yes" if plan.header else "no")
    return _TextFiles(datasets), plans[0].row_names, [*plans[0].notes]


def _text_file(path: str, plan: TextPlan) -> Any:
    """One text file as a dataset, in which all columns of numbers are float64.

    Arrow takes a column's type from the first block of rows: whole numbers may have fractions below, and a column that
    is empty there may have numbers.
    """
    pyarrow = _pyarrow()
    types, convert = pyarrow.types, plan.options["convert_options"]

    def dataset() -> Any:
        return pyarrow.dataset.dataset(path, format=pyarrow.dataset.CsvFileFormat(**plan.options))

    found = dataset()
    whole = [field.name for field in found.schema if types.is_integer(field.type)]
    empty = [field.name for field in found.schema if types.is_null(field.type)]
    numbers = [*whole, *(_numbers_below(path, plan, empty) if empty else [])]
    if not numbers:
        return found
    convert.column_types = dict.fromkeys(numbers, pyarrow.float64())
    try:
        return dataset()
    except pyarrow.ArrowInvalid:  # as of whole numbers that are written in base 16
        convert.column_types = {}
        return found


def _numbers_below(path: str, plan: TextPlan, names: list[str]) -> list[str]:
    """Which of the columns that begin empty have a number as their first value that is not missing."""
    from pyarrow import csv

    planned, text = plan.options["convert_options"], _pyarrow().string()
    convert = csv.ConvertOptions(
        include_columns=names,
        column_types=dict.fromkeys(names, text),
        null_values=planned.null_values,
        strings_can_be_null=True,
    )
    first: dict[str, str] = {}
    with csv.open_csv(path, plan.options["read_options"], plan.options["parse_options"], convert) as reader:
        for batch in reader:
            for name in names:
                values = [] if name in first else batch.column(name).drop_null()
                if len(values):
                    first[name] = values[0].as_py()
            if len(first) == len(names):
                break
    return [name for name, value in first.items() if _is_number_in_text(value, planned.decimal_point)]


def _is_number_in_text(text: str, decimal: str) -> bool:
    try:
        float(text.replace(decimal, "."))
    except ValueError:
        return False
    return True


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Raise errors of reading as a TableError that names the file."""
    try:
        yield
    except (_pyarrow().ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: {' '.join(str(error).split())}") from error


def _dataset(
    paths: list[str], endings: set[str], wanted: list[str], layout: TextLayout | None
) -> tuple[Any, frozenset[int], list[str]]:
    """The files as one dataset, which of its columns hold row names, and what was guessed."""
    kinds = {".parquet": "parquet", ".pq": "parquet", ".arrow": "ipc", ".feather": "ipc"}
    kinds |= {".csv": "csv", ".tsv": "csv"}
    formats = {kinds.get(ending) for ending in endings}
    if len(formats) != 1 or None in formats or ("csv" in formats and len(endings) > 1):
        raise ValueError(
            "files must all be .npy, .parquet, .arrow, .csv or .tsv, and end in "
            + (", ".join(sorted(endings - {""})) or "nothing")
        )
    pyarrow, kind = _pyarrow(), formats.pop()
    if kind == "csv":
        return _text_files(paths, wanted, TextLayout() if layout is None else layout)
    with _naming(paths[0]):
        dataset = pyarrow.dataset.dataset(paths, format=kind)
    names, index = dataset.schema.names, pandas_index(dataset.schema.metadata)
    row_names = leading_row_names(names) | {j for j, n in enumerate(names) if n in index}
    return dataset, row_names, []


def _of_arrow(
    data: Any, columns: list[str] | None, block_bytes: int, cache: _Cache, candidates: list[str] | None = None
) -> Streamed:
    """An Arrow table or dataset: columns that were asked for, or those among the candidates that are numeric."""
    pyarrow = _pyarrow()
    if isinstance(data, pyarrow.RecordBatch):
        data = pyarrow.Table.from_batches([data])
    schema = data.schema
    names = schema.names if candidates is None else candidates
    wanted = names if columns is None else schema.names
    numeric = [field.name for field in schema if field.name in wanted and _is_number(pyarrow, field.type)]
    source = _arrow_columns(
        data, chosen_columns(columns, schema.names, numeric, "the table"), block_bytes, cache
    )
    return source if columns is not None else noted(source, [name for name in names if name not in numeric])


def _arrow_columns(data: Any, names: list[str], block_bytes: int, cache: _Cache) -> Streamed:
    """Some columns of an Arrow table or dataset."""
    pyarrow = _pyarrow()
    schema = data.schema

    def dtype_of(*schemas: Any) -> np.dtype[Any]:
        types = [own.field(name).type for own in schemas for name in names]
        return _type_of(*(np.float32 if kind == pyarrow.float32() else np.float64 for kind in types))

    if isinstance(data, pyarrow.Table):
        part, dtype = data.select(names), dtype_of(schema)
        return Batches([("", data.num_rows)], lambda _: iter(part.to_batches()), names, dtype, block_bytes)
    if not isinstance(data, (pyarrow.dataset.Dataset, _TextFiles)):
        raise TypeError(
            f"rows cannot be read from pyarrow's {type(data).__name__}: pass a Table or a Dataset"
        )
    fragments = list(data.get_fragments())
    counted = []
    for fragment in fragments:
        name = getattr(fragment, "path", "")
        _check_schema(pyarrow, fragment, names, schema, name)
        counted.append((name, fragment.count_rows()))

    def batches_of(i: int) -> Iterator[Any]:
        size = max(block_bytes // (8 * len(names)), 1024)
        how: dict[str, Any] = {}
        if isinstance(fragments[i], pyarrow.dataset.ParquetFileFragment):
            # Without these Arrow reads whole files ahead.
            how["fragment_scan_options"] = pyarrow.dataset.ParquetFragmentScanOptions(
                pre_buffer=False, use_buffered_stream=True
            )
        with _naming(counted[i][0]):
            yield from fragments[i].to_batches(
                columns=names,
                batch_size=size,
                batch_readahead=1,
                fragment_readahead=1,
                use_threads=False,
                **how,
            )

    dtype = dtype_of(*(fragment.physical_schema for fragment in fragments))
    batches = Batches(counted, batches_of, names, dtype, block_bytes)
    size = batches.shape[0] * batches.shape[1] * batches.dtype.itemsize
    if not cache.fits(size):
        return batches
    batches.survey()  # NaN is reported with the name of its file
    rows = cache.written(batches.read(0), batches.shape, batches.dtype)
    decoded = Sliced(rows, batches.shape, batches.dtype, names, block_bytes)
    decoded._found = batches._found
    return decoded


def _is_number(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _check_schema(pyarrow: Any, fragment: Any, names: list[str], schema: Any, path: str) -> None:
    """Raise ValueError unless a file has the columns, of numbers, that the first one has."""
    own = fragment.physical_schema
    for name in names:
        if name not in own.names:
            raise ValueError(
                f"{path} has no column {name!r}, which the first file has; it has {', '.join(own.names)}"
            )
        kind = own.field(name).type
        if not (
            _is_number(pyarrow, kind) or pyarrow.types.is_null(kind)
        ):  # of missing values nothing is known
            raise ValueError(
                f"column {name!r} of {path} is {own.field(name).type}, and {schema.field(name).type} in the first file"
            )
