"""Rows that are read a block at a time, every time that they are needed: they need not fit in memory."""

from __future__ import annotations

import hashlib
import mmap
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating]
Float = NDArray[np.float64]

# Bytes of a block that is read at a time; three or four of them are held.
BLOCK_BYTES = 1 << 24

# Blocks have a multiple of so many rows, and at least that many.
_STEP = 1024


def release(part: Any) -> None:
    """Let go of the memory of a part of a memory map that was copied; its file keeps it."""
    base, mode = part, None
    while isinstance(base, np.ndarray):
        mode = base.mode if isinstance(base, np.memmap) else mode
        base = base.base
    # What was written to a private map would be lost.
    if isinstance(base, mmap.mmap) and mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


class _Buffers:
    """Arrays for blocks: the same few in turn, or with ``count`` 0 a new one each time.

    Parameters
    ----------
    shape : (int, int)
    dtype : dtype
    count : int
    """

    def __init__(self, shape: tuple[int, int], dtype: Any, count: int) -> None:
        self._shape, self._dtype, self._count = shape, dtype, count
        self._arrays: list[Real] = []
        self._turn = count - 1

    def next(self, rows: int) -> Real:
        """An array of so many rows."""
        if not self._count:
            return np.empty((rows, self._shape[1]), dtype=self._dtype)
        if len(self._arrays) < self._count:  # the first block is the largest
            self._arrays.append(np.empty((rows, self._shape[1]), dtype=self._dtype))
            return self._arrays[-1]
        self._turn = (self._turn + 1) % self._count
        return self._arrays[self._turn][:rows]


class Streamed(ABC):
    """A table of N rows and D columns that is read block by block, in order, as often as needed.

    It stands where an array of rows may stand, in ``fit``, ``predict`` and ``score``. Reading the next block overlaps
    with the work on the present one.

    Parameters
    ----------
    rows, columns : int
        N and D.
    dtype : dtype
        float32 or float64.
    names : list of str, optional
        Names of the columns.
    block_bytes : int, default=16 MiB
        Size of a block. Three or four of them are in memory at a time.

    Attributes
    ----------
    shape : (int, int)
    dtype : dtype
    labelled : bool
        Whether the names are the table's own, as text. Numbers, such as pandas has by default, become text but are no
        names of features to scikit-learn.
    notes : list of str
        What was guessed when the columns were chosen, and what was left out.
    """

    ndim = 2
    labelled = True

    def __init__(
        self,
        rows: int,
        columns: int,
        dtype: Any,
        names: list[str] | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        if isinstance(block_bytes, bool) or not isinstance(block_bytes, int) or block_bytes < 1:
            raise ValueError(f"block_bytes must be a positive integer, got {block_bytes!r}")
        self.shape: tuple[int, int] = (rows, columns)
        self.dtype = np.dtype(dtype)
        self.names = names
        self.labelled = names is not None
        self.block_bytes = block_bytes
        self.notes: list[str] = []
        self._found: tuple[Float | None, Float] | None = None

    # ------------------------------------------------------------------ what kinds of sources differ in

    def shuffled(self, rng: np.random.RandomState) -> Iterator[tuple[NDArray[np.int64], Real]]:
        """All rows in blocks, with their indices: of random stripes, where rows can be read anywhere; else in order."""
        for start, block in self.blocks():
            yield np.arange(start, start + len(block)), block

    @abstractmethod
    def read(self, start: int) -> Iterator[Real]:
        """The rows from ``start`` on, in blocks of any sizes, of this table's type."""

    def where(self, start: int) -> str:
        """A description of where row ``start`` comes from, for messages."""
        return f"row {start}"

    # ------------------------------------------------------------------ rows

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        rows = self.block_bytes // (self.shape[1] * int(self.dtype.itemsize))
        return max(rows // _STEP * _STEP, _STEP)

    def fill(self, start: int, out: Real) -> bool:
        """Read the rows from ``start`` on into an array, where that saves a copy; else return False."""
        return False

    def blocks(
        self, start: int = 0, stop: int | None = None, reuse: bool = False
    ) -> Iterator[tuple[int, Real]]:
        """Rows ``start`` to ``stop`` in blocks of :attr:`block_rows`, each with the index of its first row.

        A thread reads ahead by one block.

        Parameters
        ----------
        start : int, default=0
        stop : int, default=None
            None for the end.
        reuse : bool, default=False
            Whether a block's memory may be used again once the next block is asked for.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        if start >= stop:
            return
        ready: queue.Queue[tuple[int, Real] | BaseException | None] = queue.Queue(maxsize=1)
        # One block is worked on, one is ready, one is being read.
        buffers = _Buffers((self.block_rows, self.shape[1]), self.dtype, 3 if reuse else 0)
        over = threading.Event()

        def put(item: tuple[int, Real] | BaseException | None) -> bool:
            while not over.is_set():
                try:
                    ready.put(item, timeout=0.05)
                    return True
                except queue.Full:
                    continue
            return False

        def ahead() -> None:
            try:
                for item in self._even(start, stop, buffers):
                    if not put(item):
                        return
                put(None)
            except BaseException as error:  # is raised where the block is wanted
                put(error)

        reader = threading.Thread(target=ahead, name="mixtura-reader", daemon=True)
        reader.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            over.set()
            reader.join()

    def _even(self, start: int, stop: int, buffers: _Buffers) -> Iterator[tuple[int, Real]]:
        """Blocks of equal sizes, copied, so that nothing is read later."""
        size, at = self.block_rows, start
        block = buffers.next(min(size, stop - at))
        while self.fill(at, block):
            yield at, block
            at += len(block)
            if at >= stop:
                return
            block = buffers.next(min(size, stop - at))
        filled = 0
        for part in self.read(start):
            self._check(part, at + filled)
            used = 0
            while used < len(part) and at < stop:
                n = min(len(part) - used, len(block) - filled)
                block[filled : filled + n] = part[used : used + n]
                filled, used = filled + n, used + n
                if used == len(part):
                    release(part)
                if filled == len(block):
                    yield at, block
                    at, filled = at + len(block), 0
                    block = buffers.next(min(size, stop - at))
            if at >= stop and stop < len(self):
                return
            if used < len(part):
                raise ValueError(
                    f"the source has more rows than the {len(self)} of its first pass: it must give the same rows each "
                    "time that it is read"
                )
        if at < stop:
            raise ValueError(
                f"the source ended at row {at + filled}, and had {len(self)} rows on its first pass: it must give the "
                "same rows each time that it is read"
            )

    def _check(self, part: Any, at: int) -> None:
        """Raise ValueError unless a part has the columns of the table."""
        if getattr(part, "ndim", 0) != 2 or part.shape[1] != self.shape[1]:
            raise ValueError(
                f"at {self.where(at)} the source has shape {np.shape(part)}, and {self.shape[1]} columns before that"
            )

    def __getitem__(self, index: Any) -> Real:
        """Rows by a slice, by indices or by a mask; with two indices, the second selects columns of these rows."""
        if isinstance(index, tuple):
            rows, columns = index
            return np.asarray(self[rows][..., columns])
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                parts = [block for _, block in self.blocks(start, stop)]
                return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), dtype=self.dtype)
            index = np.arange(start, stop, step)
        index = np.asarray(index)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        wanted = np.atleast_1d(index).astype(np.int64)
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        found = self.gather(wanted)
        return found[0] if index.ndim == 0 else found

    def gather(self, indices: NDArray[np.int64]) -> Real:
        """Rows by their indices (n,), in any order: one pass up to the last of them."""
        out = np.empty((len(indices), self.shape[1]), dtype=self.dtype)
        order = np.argsort(indices, kind="stable")
        wanted, at = indices[order], 0
        if not len(wanted):
            return out
        for start, block in self.blocks(0, int(wanted[-1]) + 1, reuse=True):
            end = int(np.searchsorted(wanted, start + len(block)))
            out[order[at:end]] = block[wanted[at:end] - start]
            at = end
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError(
            "a streamed table is read block by block and never becomes one array; use its blocks(), or X[start:stop]"
        )

    def survey(self, sample_weight: Float | None = None) -> Float:
        """Facts of each column, from one pass, (D, 6): counts of NaN and infinities, range, mean, standard deviation.

        Rows of weight 0 count for the first two only.
        """
        if self._found is None or self._found[0] is not sample_weight:
            self._found = (sample_weight, self._surveyed(sample_weight))
        return self._found[1]

    def digest(self) -> bytes:
        """Bytes that are others for other rows, or for rows in another order: one pass."""
        digest = hashlib.sha256()
        for _, block in self.blocks(reuse=True):
            digest.update(np.ascontiguousarray(block).data)
        return digest.digest()

    def _surveyed(self, sample_weight: Float | None) -> Float:
        return surveyed(self.blocks(reuse=True), self.shape[1], sample_weight, self._report)

    def _report(self, start: int, block: Real) -> None:
        """Raise ValueError that says where the first row with NaN or infinity is."""
        bad = ~np.isfinite(block)
        row = int(np.flatnonzero(bad.any(axis=1))[0])
        column = int(np.flatnonzero(bad[row])[0])
        name = f" ({self.names[column]!r})" if self.names is not None else ""
        raise ValueError(
            f"Input X contains NaN or infinity: {self.where(start + row)}, column {column}{name}, holds "
            f"{block[row, column]}. Remove or impute such values first."
        )


def surveyed(
    blocks: Iterable[tuple[int, Real]],
    columns: int,
    sample_weight: Float | None,
    report: Callable[[int, Real], None] | None = None,
) -> Float:
    """What :meth:`Streamed.survey` says of blocks, each with the index of its first row.

    Parameters
    ----------
    blocks : iterable
    columns : int
    sample_weight : ndarray of shape (N,) or None
    report : callable, optional
        Is called with the first block that has NaN or infinity.
    """
    counts, low, high = np.zeros((2, columns)), np.full(columns, np.inf), np.full(columns, -np.inf)
    total, n, pivot = np.zeros((2, columns)), 0, None
    for start, block in blocks:
        part = block
        with np.errstate(over="ignore", invalid="ignore"):
            finite = bool(np.isfinite(part.sum(dtype=np.float64)))
        if not finite:
            bad = np.isnan(part).sum(axis=0), np.isinf(part).sum(axis=0)
            if np.any(bad) and report is not None:
                report(start, part)
            counts += bad
        if sample_weight is not None:
            part = part[sample_weight[start : start + len(part)] > 0.0]
        if not len(part):
            continue
        low, high = np.fmin(low, part.min(axis=0)), np.fmax(high, part.max(axis=0))
        pivot = part[0].astype(np.float64) if pivot is None else pivot
        some = part[:: max(len(part) // 4096, 1)].astype(np.float64) - pivot
        with np.errstate(over="ignore", invalid="ignore"):
            total += some.sum(axis=0), np.square(some).sum(axis=0)
        n += len(some)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, square = total / max(n, 1)
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    center = mean if pivot is None else mean + pivot
    return np.column_stack([*counts, low, high, center, deviation])
