"""A thousand rows, where Python takes the time: every method beside scikit-learn's, as ratios of medians.

python benchmarks/small.py [--save benchmarks/results]
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import sklearn.cluster
import sklearn.mixture

import mixtura
from peers import machine

SHAPES = ((2, 3), (8, 8), (16, 16))
ROWS = 1000


def ratio(ours: Callable[[], object], theirs: Callable[[], object], repeat: int = 9) -> tuple[float, float]:
    """Milliseconds of both, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in (ours, theirs):
        call()
    for _ in range(repeat):
        for call, taken in zip((ours, theirs), times, strict=True):
            began = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    text = [
        f"{date}, {machine()['cpu']}, {ROWS} rows",
        f"{'':30}{'D':>4}{'K':>4}{'ours, ms':>11}{'scikit-learn':>14}{'ratio':>8}",
    ]
    print("\n".join(text))

    def show(what: str, D: int, K: int, pair: tuple[float, float]) -> None:
        text.append(f"{what:30}{D:>4}{K:>4}{pair[0]:>11.2f}{pair[1]:>14.2f}{pair[1] / pair[0]:>8.2f}")
        print(text[-1], flush=True)

    for D, K in SHAPES:
        g = np.random.default_rng(0)
        X = g.normal(size=(ROWS, D)) + 2.0 * g.integers(0, K, (ROWS, 1))
        classes = (mixtura.GaussianMixture, sklearn.mixture.GaussianMixture)
        for covariance in ("full", "tied", "diag", "spherical"):
            settings = {"covariance_type": covariance, "random_state": 0, "max_iter": 20, "tol": 0.0}
            models = [c(K, init_params="random", **settings) for c in classes]
            show(f"20 iterations, {covariance}", D, K, ratio(*[partial(m.fit, X) for m in models]))
        models = [c(K, random_state=0) for c in classes]
        show("whole fit", D, K, ratio(*[partial(m.fit, X) for m in models]))
        for method in ("predict", "score_samples", "predict_proba"):
            show(method, D, K, ratio(*[partial(getattr(m, method), X) for m in models]))
        models = [c(K, random_state=0, n_init=1) for c in (mixtura.KMeans, sklearn.cluster.KMeans)]
        show("KMeans", D, K, ratio(*[partial(m.fit, X) for m in models]))
    if options.save:
        (options.save / f"small-{date}.txt").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
