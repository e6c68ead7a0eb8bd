"""Symmetric matrices as packed lower triangles, row by row, which need half the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.threads import thread_limit

Float = NDArray[np.float64]

# Number of values from which on several threads write them.
_MUCH = 1 << 21

# Number of values up to which one look-up through an index array is faster than slices row by row.
_LITTLE = 1 << 11


def packed_size(dims: int) -> int:
    """Length of a packed triangle: D (D + 1) / 2."""
    return dims * (dims + 1) // 2


def _packed_rows(dims: int) -> Iterator[slice]:
    """The rows of a triangle as slices of its packed form; slices are faster than index arrays."""
    for a in range(dims):
        yield slice(packed_size(a), packed_size(a + 1))


@cache
def _lower(dims: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of each number of a packed triangle."""
    return np.tril_indices(dims)


@cache
def _places(dims: int) -> NDArray[np.intp]:
    """Position in the packed triangle of each element of the matrix, (D, D)."""
    i = np.arange(dims)
    high, low = np.maximum(i[:, None], i), np.minimum(i[:, None], i)
    return np.asarray(high * (high + 1) // 2 + low)


def _in_parts(fill: Callable[..., None], out: Float, *arrays: Float) -> None:
    """Call ``fill(out, *arrays)``; if ``out`` is large, on several threads, each with part of the components."""
    threads = min(thread_limit(), len(out)) if out.ndim > 1 and out.size >= _MUCH else 1
    if threads == 1:
        fill(out, *arrays)
        return
    cuts = np.linspace(0, len(out), threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        parts = (slice(*cut) for cut in pairwise(cuts))
        for done in [pool.submit(fill, out[part], *(a[part] for a in arrays)) for part in parts]:
            done.result()


def pack_symmetric(matrices: NDArray[Any]) -> NDArray[Any]:
    """(..., D, D) symmetric matrices to their (..., D (D + 1) / 2) lower triangles, row by row."""
    rows, columns = _lower(matrices.shape[-1])
    return np.ascontiguousarray(matrices[..., rows, columns])


def unpack_symmetric(packed: Float, dims: int) -> Float:
    """(..., D (D + 1) / 2) lower triangles, row by row, to (..., D, D) symmetric matrices."""
    if packed.size <= _LITTLE:
        return np.asarray(packed[..., _places(dims)])
    out = np.empty((*packed.shape[:-1], dims, dims))

    def fill(out: Float, packed: Float) -> None:
        for a, row in enumerate(_packed_rows(dims)):
            out[..., a, : a + 1] = out[..., : a + 1, a] = packed[..., row]

    _in_parts(fill, out, packed)
    return out


def symmetric_product(a: Float, b: Float) -> Float:
    """Packed a b' + b a' of (..., D) vectors."""
    if a.size * a.shape[-1] <= _LITTLE:
        i, j = _lower(a.shape[-1])
        return np.asarray(a[..., i] * b[..., j] + b[..., i] * a[..., j])
    out = np.empty((*np.broadcast_shapes(a.shape, b.shape)[:-1], packed_size(a.shape[-1])))

    def fill(out: Float, a: Float, b: Float) -> None:
        for d, row in enumerate(_packed_rows(a.shape[-1])):
            np.multiply(a[..., d : d + 1], b[..., : d + 1], out=out[..., row])
            out[..., row] += b[..., d : d + 1] * a[..., : d + 1]

    _in_parts(fill, out, a, b)
    return out


@cache
def diagonal_places(dims: int) -> NDArray[np.intp]:
    """Where the diagonal of a packed triangle lies, (D,)."""
    a = np.arange(dims)
    return a * (a + 3) // 2


def packed_diagonal(packed: Float, dims: int) -> Float:
    """The diagonals of packed triangles, (..., D)."""
    return packed[..., diagonal_places(dims)]
