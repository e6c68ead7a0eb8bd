"""How many threads the kernels use: OMP_NUM_THREADS, then threadpoolctl, then ``n_threads``."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import threadpoolctl

try:
    from mixtura import _native
except ImportError:  # a pure-Python installation: mixtura.backends.available() says why
    _native = None  # type: ignore[assignment]

native = _native


# Columns from which on matrices of so many columns are work for more threads of BLAS than one.
_WIDE = 128


@dataclass(frozen=True)
class Allowed:
    """What the host's half of a fit may use.

    Parameters
    ----------
    threads : int, optional
        Most threads; None for the limit in force.
    compiled : bool, default=True
        Whether it may call the kernels' library.
    """

    threads: int | None = None
    compiled: bool = True


_ALL = Allowed()
_allowed: ContextVar[Allowed] = ContextVar("allowed", default=_ALL)


@contextmanager
def allow(threads: int | None, compiled: bool, dims: int) -> Iterator[None]:
    """Hold the host's half of a fit, and BLAS with it, to the threads that the user allowed.

    Parameters
    ----------
    threads : int or None
    compiled : bool
    dims : int
        Columns of the rows. BLAS gets one thread where they are few: others would bring nothing, and, once woken, spin
        beside the kernels for longer than a pass takes.
    """
    token = _allowed.set(Allowed(threads, compiled))
    try:
        with limited_blas(1 if dims < _WIDE else threads):
            yield
    finally:
        _allowed.reset(token)


@cache
def blas() -> threadpoolctl.ThreadpoolController:
    """What limits the threads of BLAS."""
    return threadpoolctl.ThreadpoolController()


# Limits in force, by whoever asked for them, and what takes back the first.
_limits: list[int] = []
_unlimited = ExitStack()
_limits_lock = threading.Lock()


@contextmanager
def limited_blas(threads: int | None) -> Iterator[None]:
    """Hold BLAS to so many threads; None leaves it alone.

    The limit is the process's. Where fits on several threads ask for limits, the least is in force, and the last to end
    gives back what the first found.
    """
    if threads is None:
        yield
        return
    with _limits_lock:
        _limits.append(threads)
        if len(_limits) == 1:
            _unlimited.enter_context(blas().limit(limits=threads, user_api="blas"))
        elif threads < min(_limits[:-1]):
            blas().limit(limits=threads, user_api="blas")
    try:
        yield
    finally:
        with _limits_lock:
            _limits.remove(threads)
            if not _limits:
                _unlimited.close()
            elif threads < min(_limits):
                blas().limit(limits=min(_limits), user_api="blas")


def compiled_allowed() -> bool:
    """Whether the host's half of the present fit may call the kernels' library."""
    return native is not None and _allowed.get().compiled


def thread_limit() -> int:
    """Threads that may be used now.

    What the present fit allows, if it names a number; else what threadpoolctl last set, else OMP_NUM_THREADS, else the
    number of processors this process may run on.
    """
    mine = _allowed.get().threads
    return _limit_in_force() if mine is None else mine


def _limit_in_force() -> int:
    if native is not None:
        return native.thread_limit()
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if text.isdigit() and int(text) > 0:
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class MixturaController(threadpoolctl.LibController):  # type: ignore[misc]
    """Lets ``threadpoolctl.threadpool_limits`` (joblib's, Dask's) govern the kernels' own threads.

    They obey the limits that are set for OpenMP, whose environment variable they also read.
    """

    user_api = "openmp"
    internal_api = "mixtura"
    filename_prefixes = ("_native",)
    check_symbols = ("mixtura_get_num_threads", "mixtura_set_num_threads")

    def get_num_threads(self) -> int:
        """The limit in force."""
        return int(self.dynlib.mixtura_get_num_threads())

    def set_num_threads(self, num_threads: int) -> None:
        """Set the limit for the process."""
        self.dynlib.mixtura_set_num_threads(int(num_threads))

    def get_version(self) -> Any:
        """None: the kernels have no version of their own."""
        return None


def register() -> None:
    """Make the kernels known to threadpoolctl."""
    threadpoolctl.register(MixturaController)
