"""How many threads the kernels use: OMP_NUM_THREADS, then threadpoolctl, then ``n_threads``."""

from __future__ import annotations

import os
from typing import Any

import threadpoolctl

try:
    from mixtura import _native
except ImportError:  # a pure-Python installation: mixtura.backends.available() says why
    _native = None  # type: ignore[assignment]

native = _native


def thread_limit() -> int:
    """Threads that a fit without ``n_threads`` may use now.

    What threadpoolctl last set, else OMP_NUM_THREADS, else the number of processors this process may run on.
    """
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
