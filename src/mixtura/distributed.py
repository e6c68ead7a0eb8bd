"""Rows that lie on several machines: they stay where they are, and sums of them come back."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixtura.streamed import BLOCK_BYTES, Streamed, surveyed

Real = NDArray[np.floating]
Float = NDArray[np.float64]
T = TypeVar("T")

# Partitions up to which their results are added here; more are added where they are, in pairs.
_FEW = 64


class Engine(ABC):
    """What calls a function where each partition lies.

    This is the one place that knows how work is sent to other processes.
    """

    @abstractmethod
    def map(
        self, partitions: Sequence[Any], function: Callable[..., T], *parameters: Sequence[Any]
    ) -> list[Any]:
        """``function(partition, *parameters)`` for each partition, as results that are still far away."""

    @abstractmethod
    def gather(self, results: Sequence[Any]) -> list[Any]:
        """The results, here."""

    @abstractmethod
    def add(self, first: Any, second: Any) -> Any:
        """The sum of two results, where one of them is."""

    def map_reduce(
        self, partitions: Sequence[Any], function: Callable[..., T], *parameters: Sequence[Any]
    ) -> T:
        """The sum of ``function(partition, *parameters)`` over the partitions, in pairs, whose order is fixed.

        Parameters
        ----------
        partitions : sequence
        function : callable
            Returns something with ``+``.
        *parameters : sequence
            Each has one value for each partition.
        """
        results = self.map(partitions, function, *parameters)
        while len(results) > _FEW:
            results = _in_pairs(results, self.add)
        total: T = _sum(self.gather(results))
        return total


def _sum(found: list[Any]) -> Any:
    """The sum in pairs."""
    while len(found) > 1:
        found = _in_pairs(found, _added)
    return found[0]


def _in_pairs(items: list[Any], add: Callable[[Any, Any], Any]) -> list[Any]:
    sums = [add(a, b) for a, b in zip(items[::2], items[1::2], strict=False)]
    return [*sums, items[-1]] if len(items) % 2 else sums


class DaskEngine(Engine):
    """Dask's workers.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._groups: dict[tuple[Any, ...], list[tuple[str, list[int]]]] = {}

    def map(
        self, partitions: Sequence[Any], function: Callable[..., T], *parameters: Sequence[Any]
    ) -> list[Any]:
        """See :meth:`Engine.map`."""
        return list(self.client.map(function, partitions, *parameters, pure=False))

    def gather(self, results: Sequence[Any]) -> list[Any]:
        """See :meth:`Engine.gather`."""
        return list(self.client.gather(list(results)))

    def map_reduce(
        self, partitions: Sequence[Any], function: Callable[..., T], *parameters: Sequence[Any]
    ) -> T:
        """See :meth:`Engine.map_reduce`; few partitions take one task for each thread of a worker that holds some.

        A task costs a millisecond or two, most of them the scheduler's.
        """
        if len(partitions) > _FEW:
            return super().map_reduce(partitions, function, *parameters)
        groups = self._by_worker(partitions)
        tasks = [
            self.client.submit(
                _of_several,
                function,
                [partitions[i] for i in group],
                [[values[i] for i in group] for values in parameters],
                workers=[worker],
                allow_other_workers=True,
                pure=False,
            )
            for worker, group in groups
        ]
        found: list[Any] = [None] * len(partitions)
        for (_, group), results in zip(groups, self.client.gather(tasks), strict=True):
            for i, result in zip(group, results, strict=True):
                found[i] = result
        total: T = _sum(found)
        return total

    def _by_worker(self, partitions: Sequence[Any]) -> list[tuple[str, list[int]]]:
        """The partitions that lie with each worker, in as many groups as it has threads."""
        keys = tuple(partition.key for partition in partitions)
        if keys not in self._groups:
            holders, threads = self.client.who_has(list(partitions)), self.client.nthreads()
            held: dict[str, list[int]] = {}
            for i, key in enumerate(keys):
                worker = min(holders.get(key) or [min(threads)])
                held.setdefault(worker, []).append(i)
            self._groups[keys] = [
                (worker, group[start :: threads[worker]])
                for worker, group in held.items()
                for start in range(min(threads[worker], len(group)))
            ]
        return self._groups[keys]

    def add(self, first: Any, second: Any) -> Any:
        """See :meth:`Engine.add`."""
        return self.client.submit(_added, first, second, pure=False)


def _added(a: Any, b: Any) -> Any:
    return a + b


def _of_several(
    function: Callable[..., T], partitions: Sequence[Any], parameters: Sequence[Sequence[Any]]
) -> list[T]:
    return [function(*each) for each in zip(partitions, *parameters, strict=True)]


def dask_engine(engine: Any) -> DaskEngine:
    """Dask's engine for a client, or for the one that is in use.

    Raises
    ------
    ImportError
        Dask is not installed.
    ValueError
        There is no client.
    """
    try:
        distributed = import_module("distributed")
    except ImportError as error:
        raise ImportError(f"distributed cannot be imported ({error}); pip install 'mixtura[dask]'") from error
    if isinstance(engine, distributed.Client):
        return DaskEngine(engine)
    try:
        return DaskEngine(distributed.get_client())
    except ValueError as error:
        raise ValueError(
            "there is no Dask scheduler: make a distributed.Client first, or pass one as engine"
        ) from error


class Partitioned(Streamed):
    """Rows in partitions that lie with an engine's workers.

    Parameters
    ----------
    engine : Engine
    parts : list
        The partitions, arrays (n, D), as the engine holds them.
    counts : list of int
        Their numbers of rows.
    columns : int
    dtype : dtype
    names : list of str, optional
    """

    def __init__(
        self,
        engine: Engine,
        parts: list[Any],
        counts: Sequence[int],
        columns: int,
        dtype: Any,
        names: list[str] | None = None,
    ) -> None:
        super().__init__(int(sum(counts)), columns, dtype, names, BLOCK_BYTES)
        if not len(self):
            raise ValueError("the partitions hold no rows")
        self.engine, self.parts = engine, parts
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @property
    def cuts(self) -> list[slice]:
        """Which rows each partition holds."""
        return [slice(int(a), int(b)) for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def cut(self, array: Any) -> list[Any]:
        """A part of an array for each partition; None for each if there is no array."""
        return [None if array is None else array[cut] for cut in self.cuts]

    def read(self, start: int) -> Iterator[Real]:
        """See :meth:`Streamed.read`: the partitions, one after the other, brought here."""
        for part, cut in zip(self.parts, self.cuts, strict=True):
            if cut.stop > start:
                rows = self.engine.gather([part])[0]
                yield rows[max(start - cut.start, 0) :]

    def gather(self, indices: NDArray[np.int64]) -> Real:
        """See :meth:`Streamed.gather`: only these rows are brought here."""
        order = np.argsort(indices, kind="stable")
        wanted = indices[order]
        bounds = np.searchsorted(wanted, self.starts)
        places = [wanted[a:b] - s for a, b, s in zip(bounds[:-1], bounds[1:], self.starts[:-1], strict=True)]
        some = [i for i, place in enumerate(places) if len(place)]
        found = self.engine.gather(
            self.engine.map([self.parts[i] for i in some], _taken, [places[i] for i in some])
        )
        out = np.empty((len(indices), self.shape[1]), dtype=self.dtype)
        out[order] = np.concatenate(found) if found else out[:0]
        return out

    def digest(self) -> bytes:
        """See :meth:`Streamed.digest`: of the partitions, each made where it lies; others for other partitions, too."""
        return b"".join(self.engine.gather(self.engine.map(self.parts, _digest)))

    def _surveyed(self, sample_weight: Float | None) -> Float:
        weights = self.cut(sample_weight)
        found = np.array(self.engine.gather(self.engine.map(self.parts, _survey, weights)))
        if found[:, :, :2].any():
            i = int(np.flatnonzero(found[:, :, :2].any(axis=(1, 2)))[0])
            self._report(int(self.starts[i]), self.engine.gather([self.parts[i]])[0])
        counts = np.array([len(range(*c.indices(len(self)))) for c in self.cuts], dtype=np.float64)[:, None]
        some = np.isfinite(found[:, :, 2])  # a partition may have no row that counts
        weight = np.where(some, counts, 0.0)
        mean = np.average(np.where(some, found[:, :, 4], 0.0), axis=0, weights=weight)
        square = np.average(
            np.where(some, found[:, :, 5] ** 2 + (found[:, :, 4] - mean) ** 2, 0.0), axis=0, weights=weight
        )
        low, high = np.where(some, found[:, :, 2], np.inf), np.where(some, found[:, :, 3], -np.inf)
        zeros = np.zeros(self.shape[1])
        return np.column_stack([zeros, zeros, low.min(axis=0), high.max(axis=0), mean, np.sqrt(square)])

    def where(self, start: int) -> str:
        """See :meth:`Streamed.where`."""
        i = min(max(int(np.searchsorted(self.starts, start, side="right")) - 1, 0), len(self.parts) - 1)
        return f"row {start - int(self.starts[i])} of partition {i}"


def _digest(rows: Real) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(rows).data).digest()


def _taken(rows: Real, places: NDArray[np.int64]) -> Real:
    return np.asarray(rows[places])


def _survey(rows: Real, sample_weight: Float | None) -> Float:
    """What :meth:`Streamed.survey` says of one partition."""
    if not len(rows):
        return np.column_stack([np.zeros((rows.shape[1], 2)), np.full((rows.shape[1], 4), np.nan)])
    nan, inf = np.isnan(rows).sum(axis=0), np.isinf(rows).sum(axis=0)
    if nan.any() or inf.any():
        return np.column_stack([nan, inf, np.zeros((rows.shape[1], 4))])
    found = surveyed([(0, rows)], rows.shape[1], sample_weight)
    return np.where(np.isfinite(found), found, np.nan)
