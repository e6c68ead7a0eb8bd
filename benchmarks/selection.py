"""Choices of a model beside R's mclust and pymclustr, if these are installed.

python benchmarks/selection.py [--rows 10000 --columns 8 --patience 100]

The whole of `select` over 14 families and 1 to 9 components, and `bootstrap_lrt` on Old Faithful with 199 tables.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mixtura

SELECTION = """
suppressMessages(library(mclust)); X <- as.matrix(read.csv("{path}")); set.seed(1)
t <- system.time(b <- mclustBIC(X, verbose=FALSE)); cat("mclust", t[["elapsed"]], "s\\n"); print(summary(b))
"""

TESTS = """
suppressMessages(library(mclust)); X <- as.matrix(read.csv("{path}")); set.seed(1)
t <- system.time(b <- mclustBootstrapLRT(X, "VVV", nboot=199, verbose=FALSE))
cat("mclust", t[["elapsed"]], "s\\n"); print(b)
"""

PURE = """
import time, numpy, mclust_py
X = numpy.loadtxt({path!r}, delimiter=",", skiprows=1)
t = time.perf_counter(); found = mclust_py.Mclust(X); print("pymclustr", time.perf_counter() - t, "s")
"""

FAITHFUL = Path(__file__).parent.parent / "data" / "faithful.csv"


def timed(work):
    """The least of three times, and the answer."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        answer = work()
        times.append(time.perf_counter() - began)
    return min(times), answer


def in_r(code, X):
    """What R says of the rows."""
    if not shutil.which("Rscript"):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        names = ",".join(f"x{j}" for j in range(X.shape[1]))
        np.savetxt(path, X, delimiter=",", header=names, comments="")
        done = subprocess.run(["Rscript", "-e", code.format(path=path)], capture_output=True, text=True)
        print(done.stdout or done.stderr)


def in_pure_python(X, patience):
    """How long pymclustr takes, if it is installed, or that it is not done after so many seconds."""
    if importlib.util.find_spec("mclust_py") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.csv")
        np.savetxt(path, X, delimiter=",", header="rows", comments="")
        command = [sys.executable, "-c", PURE.format(path=path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=patience)
            print(done.stdout or done.stderr)
        except subprocess.TimeoutExpired:
            print(f"pymclustr: not done after {patience} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--patience", type=int, default=100, help="seconds that pymclustr may take")
    options = parser.parse_args()
    D, K = options.columns, 5
    rng = np.random.default_rng(0)
    means, roots, z = (
        3.0 * rng.normal(size=(K, D)),
        rng.normal(size=(K, D, D)),
        rng.integers(0, K, options.rows),
    )
    X = means[z] + np.einsum("nij,nj->ni", roots[z], rng.normal(size=(options.rows, D)))
    spent, found = timed(lambda: mixtura.select(X))
    print(f"mixtura {spent:.2f} s, {found.top()}")
    spent, found = timed(lambda: mixtura.select(X, early=True))
    print(f"mixtura, fits that cannot win end early, {spent:.2f} s, {found.top()}")
    in_r(SELECTION, X)
    in_pure_python(X, options.patience)
    faithful = np.loadtxt(FAITHFUL, delimiter=",", skiprows=1)
    spent, tests = timed(lambda: mixtura.bootstrap_lrt(faithful, n_bootstrap=199))
    print(f"mixtura {spent:.2f} s\n{tests}")
    in_r(TESTS, faithful)
