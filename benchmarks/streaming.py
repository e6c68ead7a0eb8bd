"""Fits over more rows than memory holds: time of a pass and peak memory, beside the same rows in memory.

    python benchmarks/streaming.py make --rows 50000000 --folder /tmp/rows      # Parquet files of 16 float32 columns
    python benchmarks/streaming.py parquet --folder /tmp/rows                   # fits them, with and without a cache
    python benchmarks/streaming.py memory --folder /tmp/rows                    # the same rows in memory
    python benchmarks/streaming.py repeat --rows 1000000000 --folder /tmp/rows  # repeats ten million rows
    python benchmarks/streaming.py dask                                         # an iteration with Dask's workers

Peak memory is the process's largest resident size less that after imports.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np

from mixtura import GaussianMixture
from mixtura.data import as_source

COLUMNS, COMPONENTS, IN_FILE = 16, 16, 5_000_000


def drawn(rows, seed):
    rng = np.random.default_rng(seed)
    means = (2.0 * np.random.default_rng(0).normal(size=(COMPONENTS, COLUMNS))).astype(np.float32)
    return means[rng.integers(0, COMPONENTS, rows)] + rng.standard_normal((rows, COLUMNS), dtype=np.float32)


def make(folder, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(-(-rows // IN_FILE)):
        X = drawn(min(IN_FILE, rows - i * IN_FILE), i)
        table = pa.table({f"x{j}": X[:, j] for j in range(COLUMNS)})
        pq.write_table(table, folder / f"part-{i:03}.parquet", compression="none", row_group_size=1 << 18)
    np.save(folder / "ten_million.npy", np.concatenate([drawn(IN_FILE, i) for i in range(2)]))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fitted(X, what, before, **how):
    began = time.perf_counter()
    gm = GaussianMixture(COMPONENTS, random_state=0, **how).fit(X)
    took = time.perf_counter() - began
    work = f"{gm.n_iter_} iterations, {gm.n_passes_:.2f} passes, bound {gm.lower_bound_:.12f}"
    print(f"{what}: fit {took:.1f} s, {work}, peak {peak() - before:.0f} MB")
    return gm


def evict():
    """Drop the decoded rows from the system's cache of files, so that a pass reads the disk."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if "/#" in os.readlink(f"/proc/self/fd/{fd}"):  # a file without a name
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            continue


def a_pass(X, gm, what, first=lambda: None):
    table, mixture = gm._table(X), gm._mixture()
    times = []
    for _ in range(3):
        first()
        began = time.perf_counter()
        mixture.expect(table)
        times.append(time.perf_counter() - began)
    print(f"{what}: passes {', '.join(f'{t:.2f}' for t in times)} s")


def with_dask():
    """The time of an iteration beside that of the same rows in memory, both on two processors."""
    import dask.array as da
    from distributed import Client, LocalCluster

    X = drawn(4_000_000, 0)
    gm = GaussianMixture(COMPONENTS, random_state=0).fit(X)
    mixture, times = gm._mixture(), {}

    def timed(name, rows):
        table = gm._table(rows)
        mixture.maximize(mixture.expect(table))
        times[name] = []
        for _ in range(11):
            began = time.perf_counter()
            mixture.maximize(mixture.expect(table))
            times[name].append(time.perf_counter() - began)
        print(
            f"{name}: an iteration {np.median(times[name]) * 1e3:.1f} ms, least {min(times[name]) * 1e3:.1f} ms"
        )

    timed("in memory", X)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, Client(cluster) as client:
        spread = client.persist(da.from_array(X, chunks=(len(X) // 8, COLUMNS)))
        timed("8 partitions, 2 workers", as_source(spread, engine=client))
    more = np.median(times["8 partitions, 2 workers"]) - np.median(times["in memory"])
    print(f"overhead {more * 1e3:.1f} ms")


class Repeated:
    """Blocks of a memory map, again and again, up to a number of rows."""

    def __init__(self, path, rows):
        self.path, self.rows = path, rows

    def __iter__(self):
        X, left, size = np.load(self.path, mmap_mode="r"), self.rows, 1 << 18
        while left > 0:
            for start in range(0, min(len(X), left), size):
                yield X[start : min(start + size, len(X), start + left)]
                left -= min(size, len(X) - start, left)
                if left <= 0:
                    break


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["make", "parquet", "memory", "repeat", "dask"])
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rows"))
    options = parser.parse_args()
    pattern = str(options.folder / "part-*.parquet")
    if options.what == "make":
        make(options.folder, options.rows)
    elif options.what == "parquet":
        import pyarrow.dataset  # noqa: F401

        before = peak()
        began = time.perf_counter()
        source = as_source(pattern)
        print(f"opened and decoded in {time.perf_counter() - began:.1f} s, {len(source):,} rows")
        gm = fitted(source, "Parquet", before)
        a_pass(source, gm, "Parquet, cached")
        a_pass(source, gm, "Parquet, cached and dropped from memory", evict)
        print(f"peak {peak() - before:.0f} MB")
        a_pass(as_source(pattern, cache_bytes=0), gm, "Parquet, decoded in each pass")
    elif options.what == "dask":
        with_dask()
    elif options.what == "memory":
        before = peak()
        source = as_source(pattern)
        X = source[:]
        del source
        gm = fitted(X, "in memory", before)
        a_pass(X, gm, "in memory")
    else:
        before = peak()
        began = time.perf_counter()
        source = as_source(Repeated(options.folder / "ten_million.npy", options.rows))
        print(f"counted {len(source):,} rows in {time.perf_counter() - began:.1f} s")
        fitted(source, "repeated", before)
