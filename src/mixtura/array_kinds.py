"""Arrays of other libraries: input is read without a copy; output has the input's library, type and device."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.device_arrays import is_device_array
from mixtura.streamed import Streamed

Method = TypeVar("Method", bound=Callable[..., Any])


def to_host(array: Any) -> Any:
    """An array of any library as a NumPy array, without a copy if it is in host memory; other objects unchanged.

    Parameters
    ----------
    array : object
        An array of NumPy, CuPy, Numba, torch or any library with DLPack. Other objects (lists, data frames, types that
        DLPack cannot describe) are returned as they are, for scikit-learn's validation to convert or refuse.

    Raises
    ------
    TypeError
        A torch tensor that is sparse, or of a type that NumPy does not have.
    """
    if isinstance(array, np.ndarray | type | Streamed):
        return array
    if is_device_array(array):
        if hasattr(array, "get"):  # CuPy
            return array.get()
        if hasattr(array, "cpu"):  # torch
            return array.detach().cpu().numpy()
        if hasattr(array, "copy_to_host"):  # Numba
            return array.copy_to_host()
        return np.asarray(array)
    if not (hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__")):
        return array
    if hasattr(array, "detach"):  # torch exports no tensor that requires a gradient
        array = array.detach()
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if type(array).__module__.partition(".")[0] != "torch":
            return array
        raise TypeError(
            f"a torch tensor of type {array.dtype} and layout {array.layout} cannot be read as a NumPy array: convert "
            "it first, by .to_dense() or .float()"
        ) from error


def is_paths(data: Any) -> bool:
    """Whether it is the path of a file, a pattern, or a list of these."""
    several = data if isinstance(data, (list, tuple)) else [data]
    return bool(several) and all(isinstance(path, (str, os.PathLike)) for path in several)


def unmasked(array: Any, name: str) -> Any:
    """A masked array without its mask; other objects unchanged.

    A list of masked rows counts as one masked array.

    Raises
    ------
    ValueError
        Values are masked, which means missing; the message says in which columns, and how many.
    """
    if isinstance(array, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in array):
        array = np.ma.stack([np.ma.asarray(row) for row in array])  # rows, each with a mask
    if not isinstance(array, np.ma.MaskedArray):
        return array
    mask = np.ma.getmaskarray(array)
    if mask.any():
        columns = mask.reshape(len(mask), -1).sum(axis=0)
        descriptions = [
            f"column {j} has {n} masked" if len(columns) > 1 else f"{n} masked"
            for j, n in enumerate(columns)
            if n
        ]
        raise ValueError(
            f"Input {name} has masked values, which are missing: {shortened(descriptions)}. Remove or impute these "
            "values first, or pass its .data if they are not missing."
        )
    return array.data


def shortened(descriptions: list[str], most: int = 5) -> str:
    """The first ``most`` of the columns' descriptions, and how many more there are."""
    more = len(descriptions) - most
    return "; ".join(descriptions[:most]) + (f"; and {more} more columns" if more > 0 else "")


def like(X: Any) -> Callable[[NDArray[Any]], Any]:
    """A function that converts a NumPy array to the library of X, on X's device.

    It changes nothing if X is a NumPy array, a list, a data frame or another object without an array library.
    """
    library = type(X).__module__.partition(".")[0]
    if library == "cupy" and is_device_array(X):
        cupy = importlib.import_module("cupy")

        def to_cupy(array: NDArray[Any]) -> Any:
            with cupy.cuda.Device(X.device.id):
                return cupy.asarray(array)

        return to_cupy
    if library == "torch" and hasattr(X, "device"):
        torch = importlib.import_module("torch")
        return lambda array: torch.as_tensor(np.ascontiguousarray(array), device=X.device)
    if library != "numpy" and hasattr(X, "__array_namespace__") and hasattr(X, "device"):
        namespace = X.__array_namespace__()
        return lambda array: namespace.asarray(np.ascontiguousarray(array), device=X.device)
    return lambda array: array


def in_kind(method: Method) -> Method:
    """Decorate a method to return its array, or tuple of arrays, in the library and on the device of its argument X."""

    @wraps(method)
    def answer(self: Any, X: Any, *arguments: Any, **keywords: Any) -> Any:
        result, convert = method(self, X, *arguments, **keywords), like(X)
        return tuple(map(convert, result)) if isinstance(result, tuple) else convert(result)

    return cast(Method, answer)
