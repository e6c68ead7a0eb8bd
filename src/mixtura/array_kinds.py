"""Arrays of other libraries: read where they lie, and answered in their own kind, type and device."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.device_arrays import is_device_array

Method = TypeVar("Method", bound=Callable[..., Any])


def to_host(array: Any) -> Any:
    """An array of any library as a NumPy array, without a copy if it lies in host memory; anything else as it is.

    Parameters
    ----------
    array : object
        NumPy's, CuPy's, Numba's, torch's, or any that has DLPack. Lists, data frames and what DLPack cannot describe
        are given back: scikit-learn's validation knows what to say.

    Raises
    ------
    TypeError
        A torch tensor that is sparse, or of a type that NumPy does not have.
    """
    if isinstance(array, np.ndarray | type):
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
    if hasattr(array, "detach"):  # torch does not hand out what a gradient is wanted of
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


def like(X: Any) -> Callable[[NDArray[Any]], Any]:
    """What turns a NumPy array into one of X's kind, on X's device.

    Nothing does, where X is NumPy's, or of no library that has arrays to answer in (a list, a data frame).
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
    """Make a method's answers, an array or several, of the kind of its first argument, on its device."""

    @wraps(method)
    def answer(self: Any, X: Any, *arguments: Any, **keywords: Any) -> Any:
        found, give = method(self, X, *arguments, **keywords), like(X)
        return tuple(map(give, found)) if isinstance(found, tuple) else give(found)

    return cast(Method, answer)
