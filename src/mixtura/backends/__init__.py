"""Backends by name: which of them are available, and why the others are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from mixtura.backends.base import Backend, Precision, Rows
from mixtura.backends.device_arrays import is_device_array
from mixtura.backends.remote import RemoteBackend
from mixtura.backends.streaming import StreamingBackend
from mixtura.distributed import Partitioned
from mixtura.streamed import Streamed

__all__ = ["Availability", "Backend", "Rows", "available", "create", "for_rows", "register"]


class Availability(NamedTuple):
    """Whether a backend can be used, and why or why not; in a condition it is true if the backend can be used."""

    ok: bool
    reason: str

    def __bool__(self) -> bool:
        return self.ok


def _native() -> type[Backend]:
    try:
        module = import_module("mixtura.backends.native")
    except ImportError as error:
        raise ImportError(
            f"the C++ kernels are not in this installation ({error}); install a C++17 compiler "
            "(Debian: apt-get install g++) and reinstall mixtura from source"
        ) from error
    return module.NativeBackend  # type: ignore[no-any-return]


def _numba() -> type[Backend]:
    try:
        import_module("numba")
    except ImportError as error:
        raise ImportError(f"numba cannot be imported ({error}); pip install 'mixtura[numba]'") from error
    return import_module("mixtura.backends.numba").NumbaBackend  # type: ignore[no-any-return]


def _reference() -> type[Backend]:
    return import_module("mixtura.backends.reference").ReferenceBackend  # type: ignore[no-any-return]


def _cuda() -> type[Backend]:
    cuda = import_module("mixtura.backends.cuda").CudaBackend
    cuda.module()  # raises ImportError with the reason if there is no device
    return cuda  # type: ignore[no-any-return]


_FACTORIES: dict[str, Callable[[], type[Backend]]] = {
    "native": _native,
    "numba": _numba,
    "reference": _reference,
    "cuda": _cuda,
}

# Backends that read host memory, in the order in which 'auto' tries them.
_AUTO = ("native", "numba", "reference")


def available() -> dict[str, Availability]:
    """Each backend's name, and whether it can be used here and why.

    Examples
    --------
    >>> import mixtura
    >>> mixtura.backends.available()["reference"]
    Availability(ok=True, reason='plain NumPy')
    """
    availability = {}
    for name, factory in _FACTORIES.items():
        try:
            availability[name] = Availability(True, factory().description())
        except (ImportError, RuntimeError) as error:  # not installed, or its driver fails
            availability[name] = Availability(False, str(error))
    return availability


def automatic() -> str:
    """The backend that 'auto' takes for rows in host memory: the first of native, numba, reference that is here."""
    found = available()
    return next(name for name in _AUTO if found[name])


def create(name: str = "auto", n_threads: int | None = None, precision: Precision = "exact") -> Backend:
    """Make a backend.

    Parameters
    ----------
    name : {'auto', 'native', 'numba', 'reference', 'cuda'}
        'auto' takes the first of these that is available and reads host memory; the result's ``name`` says which.
    n_threads : int, default=None
        Most threads to use; None takes the limit in force.
    precision : {'exact', 'fast'}, default='exact'
        See :class:`mixtura.backends.base.Backend`.

    Raises
    ------
    ValueError
        The name or the precision is unknown.
    ImportError
        The backend is not available here; the message says why and what to do.
    """
    if name == "auto":
        for candidate in _AUTO:
            try:
                backend = _FACTORIES[candidate]()(n_threads, precision)
            except ImportError:
                continue  # 'reference', the last in the list, is always available
            if candidate != _AUTO[0]:
                _warn_of_slow_backend(candidate)
            return backend
    if name not in _FACTORIES:
        raise ValueError(f"unknown backend {name!r}; known are 'auto', {', '.join(map(repr, _FACTORIES))}")
    try:
        return _FACTORIES[name]()(n_threads, precision)
    except ImportError as error:
        raise ImportError(f"backend {name!r} is not available: {error}") from error


@cache
def _warn_of_slow_backend(name: str) -> None:
    """Warn, once in a process, that an installation has no kernels."""
    warnings.warn(
        f"this installation of mixtura has no C++ kernels, and backend={name!r} takes their place, which is slower: "
        "mixtura.show_config() says why and what to do",
        RuntimeWarning,
        stacklevel=4,
    )


def for_rows(
    X: Any, name: str = "auto", n_threads: int | None = None, precision: Precision = "exact"
) -> Backend:
    """Make a backend that can read X without copying it between host and device.

    Parameters
    ----------
    X : array
    name : str
        As for :func:`create`; 'auto' takes 'cuda' for an array on a CUDA device.
    n_threads : int, default=None
    precision : {'exact', 'fast'}, default='exact'

    Raises
    ------
    TypeError
        X is on a device and the backend reads host memory.
    ValueError, ImportError
        See :func:`create`.
    """
    if isinstance(X, Partitioned):
        return RemoteBackend(create(name, n_threads, precision))
    if isinstance(X, Streamed):
        return StreamingBackend(create(name, n_threads, precision))
    if not is_device_array(X):
        return create(name, n_threads, precision)
    backend = create("cuda" if name == "auto" else name, n_threads, precision)
    if not backend.reads_devices:
        raise TypeError(
            f"X lies on a CUDA device, and backend {backend.name!r} reads host memory: use backend='cuda', or copy X "
            "to the host (X.get() of CuPy, X.cpu().numpy() of torch)"
        )
    return backend


def register(name: str, factory: Callable[[], type[Backend]]) -> None:
    """Register a backend under a name.

    Parameters
    ----------
    name : str
    factory : callable
        Returns the class, or raises ImportError with the reason why it cannot be used here.
    """
    _FACTORIES[name] = factory
