"""Where the time of one pass goes, by shape: each half's distance to its floor, on one thread.

python benchmarks/shapes.py [--shapes all] [--float32] [--perf] [--save benchmarks/results]

The E half is a pass that wants the masses alone; the M half what a pass with all moments takes longer. Both are
processor time, the least of several tries; floors are those of workloads.py at the rates that ceilings.cpp measures on
one thread. Nothing is skipped. --perf runs each shape once more under Linux perf and lists the kernels that the cycles
went to.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mixtura import _native
from mixtura.backends.native import NativeBackend
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics
from peers import ceilings, machine
from workloads import Workload

# The workloads of the peers' table, shapes between them that nobody tuned for, and very few and very many components.
SHAPES = {
    w.name: w
    for w in (
        Workload("W1", 1_000_000, 2, 8, "full"),
        Workload("W2", 300_000, 16, 16, "full"),
        Workload("W3", 40_000, 64, 32, "full"),
        Workload("W4", 8_000, 256, 16, "full"),
        Workload("W5", 200_000, 32, 64, "diag"),
        Workload("W6", 30_000, 16, 512, "full"),
        Workload("W7t", 200_000, 16, 16, "tied"),
        Workload("W7s", 200_000, 16, 16, "spherical"),
        Workload("D3", 400_000, 3, 8, "full"),
        Workload("D7", 300_000, 7, 12, "full"),
        Workload("D13", 200_000, 13, 16, "full"),
        Workload("D33", 60_000, 33, 16, "full"),
        Workload("D100", 16_000, 100, 16, "full"),
        Workload("D200", 8_000, 200, 16, "full"),
        Workload("K1", 1_000_000, 16, 1, "full"),
        Workload("K3", 600_000, 16, 3, "full"),
        Workload("K50", 100_000, 16, 50, "full"),
        Workload("K1000", 10_000, 16, 1000, "full"),
        Workload("N1e3", 1_000, 16, 16, "full"),
        Workload("N1e5", 100_000, 16, 16, "full"),
        Workload("N1e7", 10_000_000, 4, 8, "full"),
        Workload("d7", 400_000, 7, 16, "diag"),
        Workload("s33", 200_000, 33, 16, "spherical"),
    )
}


def arguments(w: Workload, single: bool) -> tuple:
    """A backend of one thread, rows, and densities of components that overlap."""
    g = np.random.default_rng(0)
    N, D, K = w.rows, w.dims, w.components
    X = g.standard_normal((N, D), dtype=np.float32 if single else np.float64)
    means = 0.3 * g.normal(size=(K, D))
    form, factors = {
        "full": ("triangle", np.tril(0.05 * g.normal(size=(K, D, D)) / np.sqrt(D) + 0.5 * np.eye(D))),
        "tied": ("triangle", np.tril(0.05 * g.normal(size=(1, D, D)) + 0.5 * np.eye(D))),
        "diag": ("diagonal", g.uniform(0.3, 0.7, (K, D))),
        "spherical": ("scalar", g.uniform(0.4, 0.6, K)),
    }[w.covariance]
    backend = NativeBackend(1)
    quadratics = Quadratics(form, g.normal(size=K), means, factors)
    return (
        backend,
        backend.place(X),
        Joint(quadratics, np.full(K, -np.log(K))),
        X[:1000].mean(axis=0, dtype=np.float64),
    )


def halves(w: Workload, single: bool, tries: int = 7) -> tuple[float, float]:
    """Milliseconds of the E and the M half."""
    backend, rows, joint, pivot = arguments(w, single)
    kind = {"full": "full", "tied": "shared", "diag": "diagonal", "spherical": "trace"}[w.covariance]

    def least(kind: str) -> float:
        repeat = max(1, 20_000 // w.rows)
        best = np.inf
        for _ in range(tries):
            began = time.process_time()
            for _ in range(repeat):
                backend.expect(rows, joint, kind, pivot)
            best = min(best, (time.process_time() - began) / repeat)
        return 1e3 * best

    first, both = least("mass"), least(kind)
    return first, both - first


def kernels(name: str, single: bool, folder: Path) -> list[str]:
    """The kernels that cycles went to, by perf."""
    data = folder / "perf.data"
    command = [sys.executable, __file__, "--child", name, *(["--float32"] if single else [])]
    record = ["perf", "record", "-q", "-e", "cycles:u", "-o", str(data), *command]
    subprocess.run(record, check=True, capture_output=True)
    report = ["perf", "report", "-i", str(data), "--stdio", "-q", "--sort", "symbol", "--dsos"]
    library = Path(_native.__file__).name
    out = subprocess.run([*report, library], check=True, capture_output=True, text=True).stdout
    lines = [line.split(None, 2) for line in out.splitlines() if "%" in line]
    shares = [(float(line[0].rstrip("%")), line[2]) for line in lines if len(line) == 3]
    total = sum(share for share, _ in shares) or 1.0
    return [f"      {100 * s / total:5.1f}%  {name.split('::', 2)[-1][:90]}" for s, name in shares[:5]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default="all", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--perf", action="store_true")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    _native.set_skipping(False)
    if options.child:
        halves(SHAPES[options.child], options.float32, tries=20)
        return
    if options.perf and shutil.which("perf") is None:
        parser.error("--perf needs Linux perf (Debian: apt-get install linux-perf)")
    folder = Path(tempfile.gettempdir()) / "mixtura-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    rates = ceilings(1, folder)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    precision = "float32" if options.float32 else "float64"
    peak = rates["fma32" if options.float32 else "fma64"] / 1e9
    text = [
        f"{date}, {machine()['cpu']}, one thread, {precision}, {peak:.0f} GFLOP/s",
        f"{'':6}{'rows':>10}{'D':>5}{'K':>6}  {'':10}{'E, ms':>9}{'M, ms':>9}{'floor':>9}"
        f"{'E / floor':>11}{'M / floor':>11}{'in all':>8}",
    ]
    print("\n".join(text))
    for name in SHAPES if options.shapes == "all" else options.shapes.split(","):
        w = SHAPES[name]
        e, m = halves(w, options.float32)
        floor = w.floor(rates, options.float32)
        text.append(
            f"{name:6}{w.rows:>10}{w.dims:>5}{w.components:>6}  {w.covariance:10}{e:>9.2f}{m:>9.2f}{floor:>9.2f}"
            f"{e / floor:>11.2f}{m / floor:>11.2f}{(e + m) / floor:>8.2f}"
        )
        print(text[-1], flush=True)
        if options.perf:
            lines = kernels(name, options.float32, folder)
            text += lines
            print("\n".join(lines), flush=True)
    if options.save:
        (options.save / f"shapes-{precision}-{date}.txt").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
