"""Arrays on a CUDA device: how to recognise them, and read their description without a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# DLPack's device types: CUDA memory, and CUDA managed memory.
_DLPACK_CUDA = (2, 13)


def is_device_array(X: Any) -> bool:
    """Whether X is on a CUDA device, according to DLPack or ``__cuda_array_interface__``."""
    kind = getattr(X, "__dlpack_device__", None)
    if callable(kind) and not isinstance(X, type):
        return kind()[0] in _DLPACK_CUDA
    try:
        return hasattr(X, "__cuda_array_interface__")
    except Exception:  # some arrays on the host raise errors of other types instead of AttributeError
        return False


@dataclass(frozen=True)
class Description:
    """A two-dimensional array on a device, in the form that kernels read.

    Attributes
    ----------
    owner : object
        The object that keeps the memory alive.
    address : int
    shape : tuple of int
        (N, D).
    dtype : dtype
        float32 or float64.
    strides : tuple of int
        In elements.
    """

    owner: Any
    address: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    strides: tuple[int, int]

    @classmethod
    def of(
        cls, X: Any, dlpack: Callable[[Any], tuple[int, tuple[int, ...], str, tuple[int, ...]]]
    ) -> Description:
        """Read an array's own description.

        Parameters
        ----------
        X : array on a device
        dlpack : callable
            Reads a DLPack capsule, and returns address, shape, type string of NumPy, and strides in elements.

        Raises
        ------
        ValueError
            X does not have two dimensions, or its strides are not whole numbers of elements.
        TypeError
            X is not float32 or float64.
        """
        if hasattr(X, "detach"):  # torch exports no tensor that requires a gradient
            X = X.detach()
        interface = getattr(X, "__cuda_array_interface__", None)
        if interface is not None:
            if interface.get("mask") is not None:
                raise ValueError("X on the device has a mask: pass an array without one")
            address, _ = interface["data"]
            shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
            byte_strides = interface.get("strides")
            if byte_strides is None:
                strides = _row_major(shape)
            else:
                if any(s % dtype.itemsize for s in byte_strides):
                    raise ValueError("X has strides that are not whole numbers: pass a contiguous copy")
                strides = tuple(s // dtype.itemsize for s in byte_strides)
            owner: Any = X
        else:
            owner = X.__dlpack__()
            address, shape, typestr, strides = dlpack(owner)
            dtype = np.dtype(typestr)
        if len(shape) != 2:
            raise ValueError(
                f"Expected 2D array, got {len(shape)}D array instead: X on the device has shape {shape}"
            )
        if dtype not in (np.float32, np.float64) or not dtype.isnative:
            raise TypeError(
                f"X on the device is of type {dtype}; only float32 and float64 are read where they lie: "
                "convert it there (X.astype('float32'), X.to(torch.float32))"
            )
        if address % dtype.itemsize:
            raise ValueError("X on the device is not aligned to its numbers: pass a copy")
        return cls(
            owner, int(address), (int(shape[0]), int(shape[1])), dtype, (int(strides[0]), int(strides[1]))
        )


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, size = [], 1
    for n in reversed(shape):
        strides.append(size)
        size *= n
    return tuple(reversed(strides))
