"""The whole of `select` over mclust's 14 families and 1 to 9 components, beside R's mclust if it is installed.

python benchmarks/selection.py [--rows 10000 --columns 8]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import mixtura

R = """
suppressMessages(library(mclust)); X <- as.matrix(read.csv("{path}")); set.seed(1)
t <- system.time(b <- mclustBIC(X, verbose=FALSE)); cat("mclust", t[["elapsed"]], "s\\n"); print(summary(b))
"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=8)
    options = parser.parse_args()
    D, K = options.columns, 5
    rng = np.random.default_rng(0)
    means, roots, z = (
        3.0 * rng.normal(size=(K, D)),
        rng.normal(size=(K, D, D)),
        rng.integers(0, K, options.rows),
    )
    X = means[z] + np.einsum("nij,nj->ni", roots[z], rng.normal(size=(options.rows, D)))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        found = mixtura.select(X)
        times.append(time.perf_counter() - began)
    print(f"mixtura {min(times):.2f} s, {found.top()}")
    if shutil.which("Rscript"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.csv"
            np.savetxt(path, X, delimiter=",", header=",".join(f"x{j}" for j in range(D)), comments="")
            done = subprocess.run(["Rscript", "-e", R.format(path=path)], capture_output=True, text=True)
            print(done.stdout or done.stderr)
