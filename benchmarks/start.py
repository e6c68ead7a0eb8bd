"""What the first parameters cost: initialisation with defaults, in EM iterations of the same table.

python benchmarks/start.py [--workloads W1,W2,W3,W4,W5,W6,W7t,W7s] [--seeds 3] [--save benchmarks/results]

An iteration is the difference of two fits from given parameters, of 2 and of 6 iterations, divided by 4; the first
parameters are a fit of no iteration. Medians over the seeds.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from mixtura import GaussianMixture
from peers import machine
from workloads import WORKLOADS, rows

warnings.simplefilter("ignore")


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default="W1,W2,W3,W4,W5,W6,W7t,W7s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mixtura-benchmarks")
    parser.add_argument("--save", type=Path, help="folder for the output as text")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [f"{now}, {machine()['cpu']}, medians of {options.seeds} seeds"]
    print(lines[0])
    for name in options.workloads.split(","):
        w = WORKLOADS[name]
        X = rows(w, options.folder)

        def fit(iterations: int, seed: int, w=w, X=X) -> GaussianMixture:
            model = GaussianMixture(
                w.components,
                covariance_type=w.covariance,
                max_iter=iterations,
                tol=0.0,
                random_state=seed,
            )
            return model.fit(X)

        first, iterations = [], []
        for seed in range(options.seeds):
            first.append(seconds(lambda seed=seed: fit(0, seed)))
            short, long = seconds(lambda seed=seed: fit(2, seed)), seconds(lambda seed=seed: fit(6, seed))
            iterations.append((long - short) / 4)
        one, start = float(np.median(iterations)), float(np.median(first))
        lines.append(f"{w.title}: {1e3 * start:.0f} ms = {start / one:.1f} iterations of {1e3 * one:.1f} ms")
        print(lines[-1], flush=True)
    if options.save:
        (options.save / f"start-{now[:10]}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
