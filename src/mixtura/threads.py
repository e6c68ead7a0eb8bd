"""How many threads the kernels use: OMP_NUM_THREADS, then threadpoolctl, then ``n_threads``."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from typing import Any, TypeVar

import threadpoolctl

try:
    from mixtura import _native
except ImportError:  # a pure-Python installation: mixtura.backends.available() says why
    _native = None  # type: ignore[assignment]

native = _native

Item = TypeVar("Item")
Answer = TypeVar("Answer")


# Numbers of columns up to which BLAS starts no threads for a matrix, and from which on its threads gain more than they
# cost the kernels.
BLAS_ALONE, _LARGE = 16, 1024


@dataclass(frozen=True)
class Allowed:
    """What the NumPy part of a fit may use on the host.

    Parameters
    ----------
    threads : int, optional
        Most threads; None takes the limit in force.
    compiled : bool, default=True
        Whether it may call the kernels' library.
    """

    threads: int | None = None
    compiled: bool = True


_ALL = Allowed()

# Numbers for a few operations on each of which several threads are worth waking.
_MANY = 1 << 16
_allowed: ContextVar[Allowed] = ContextVar("allowed", default=_ALL)


@contextmanager
def allow(threads: int | None, compiled: bool, dims: int) -> Iterator[None]:
    """Hold the host's half of a fit, and BLAS with it, to the threads that the user allowed.

    Beside the kernels BLAS has one thread, unless matrices are very large: its others would spin for milliseconds after
    each product, in wait for the next, on processors that the kernels need then.

    Parameters
    ----------
    threads : int or None
    compiled : bool
    dims : int
        Columns of the table.
    """
    token = _allowed.set(Allowed(threads, compiled))
    of_blas = 1 if compiled and BLAS_ALONE < dims <= _LARGE else threads
    try:
        if of_blas is None:
            yield
        else:
            with limit_blas(of_blas):
                yield
    finally:
        _allowed.reset(token)


@cache
def blas() -> threadpoolctl.ThreadpoolController:
    """The controller that limits the threads of BLAS."""
    return threadpoolctl.ThreadpoolController()


class _Limits:
    """The limits on BLAS's threads that are in force, of which the least holds.

    Fits run side by side: whoever is the last to leave restores what was before, in whatever order they came and go.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.in_force: dict[object, int] = {}
        self.before: Any = None  # knows the numbers of threads to restore
        self.least = 0

    def enter(self, holder: object, threads: int) -> None:
        with self.lock:
            self.in_force[holder] = threads
            self._apply()

    def leave(self, holder: object) -> None:
        with self.lock:
            self.in_force.pop(holder, None)
            self._apply()

    def _apply(self) -> None:
        least = min(self.in_force.values(), default=0)
        if least == self.least:
            return
        if self.before is not None and not least:
            self.before.restore_original_limits()
            self.before = None
        elif least:
            limited = blas().limit(limits=least, user_api="blas")
            self.before = self.before or limited
        self.least = least

    def forget(self) -> None:
        """In a child after fork: the threads that held limits, and maybe the lock, are not in it."""
        self.lock = threading.Lock()
        self.in_force.clear()
        self._apply()


_limits = _Limits()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_limits.forget)


@contextmanager
def limit_blas(threads: int) -> Iterator[None]:
    """Hold BLAS to so many threads, or fewer if something else asks for fewer at the time."""
    holder = object()
    try:
        _limits.enter(holder, threads)
        yield
    finally:
        _limits.leave(holder)


def checked(n_threads: Any) -> int:
    """A user's number of threads; None stands for the limit in force."""
    if n_threads is None:
        return thread_limit()
    if isinstance(n_threads, bool) or not isinstance(n_threads, Integral) or n_threads < 1:
        raise ValueError(f"n_threads must be a positive integer or None, got {n_threads!r}")
    return int(n_threads)


def in_order(work: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """What work gives for each item, in the items' order, side by side on the threads that are allowed.

    BLAS has one thread meanwhile: its sums do not depend on the number of threads then, nor does what is added up from
    the answers. Few answers wait at a time.
    """
    with limit_blas(1):
        threads = thread_limit()
        if threads == 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Answer]] = deque()
            for item in items:
                waiting.append(pool.submit(copy_context().run, work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def compiled_allowed() -> bool:
    """Whether the NumPy part of the present fit may call the compiled kernels' library."""
    return native is not None and _allowed.get().compiled


def threads_for(size: int) -> int:
    """The number of threads for a few operations on each of so many numbers: one where there are few."""
    return thread_limit() if size >= _MANY else 1


def thread_limit() -> int:
    """The number of threads that may be used now.

    This is the number that the present fit allows, if it has one; else the number that threadpoolctl last set, else
    OMP_NUM_THREADS, else the number of processors on which this process may run.
    """
    of_fit = _allowed.get().threads
    return _limit_in_force() if of_fit is None else of_fit


def _limit_in_force() -> int:
    if native is not None:
        return native.thread_limit()
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if text.isdigit() and int(text) > 0:
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class MixturaController(threadpoolctl.LibController):  # type: ignore[misc]
    """Lets ``threadpoolctl.threadpool_limits``, as joblib and Dask use it, limit the kernels' own threads.

    The kernels obey limits for OpenMP, and also read OpenMP's environment variable.
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
