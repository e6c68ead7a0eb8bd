"""What an iteration costs beside other things: prediction, clusters far apart, k-means, and a thousand rows.

python benchmarks/iterations.py [--threads 2] [--parts prediction apart far lloyd small] [--save benchmarks/results]

prediction: `predict`, `score_samples` and `predict_proba` as shares of an EM iteration on the same table, the last of
an iteration and one write of N x K numbers.
apart: many columns, where components can be left out before they are evaluated; s is the standard deviation of the
means along each column, in spreads of the clusters. An iteration, `predict` and `score_samples`, and the iteration and
`predict` over what they take when nothing is left out.
far: 50 clusters of standard deviation s over a range of 1000, where an iteration about one pivot loses the digits of
the covariances: milliseconds, how many times that of s = 0.1, and the covariances' largest relative error.
lloyd: whole runs of k-means from one start, K Gaussian clusters whose means have a standard deviation s: milliseconds,
what part of that they take when nothing is remembered of rows, and scikit-learn's two algorithms in the same unit.
small: microseconds of an iteration where Python takes the time.

An iteration's time is the difference of fits of different length over their iterations; medians of several.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn.cluster
from threadpoolctl import threadpool_limits

from mixtura import GaussianMixture, KMeans, MixtureOfExperts, _native
from peers import machine
from rivals import look_at_each_iteration

lines: list[str] = []


def tell(line: str = "") -> None:
    print(line, flush=True)
    lines.append(line)


def median(work: Callable[[], object], rounds: int = 7) -> float:
    """Milliseconds."""
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def iteration(fit: Callable[[int], object], few: int, many: int, rounds: int = 5) -> float:
    """Milliseconds of one, from fits in turns."""
    fit(few)
    found = []
    for _ in range(rounds):
        times = []
        for n in (few, many):
            began = time.perf_counter()
            fit(n)
            times.append(time.perf_counter() - began)
        found.append(1e3 * (times[1] - times[0]) / (many - few))
    return statistics.median(found)


def identities(covariance: str, K: int, D: int) -> np.ndarray:
    return np.ones((K, D)) if covariance == "diag" else np.stack([np.eye(D)] * K)


def prediction(threads: int) -> None:
    tell(f"{'shape':32}{'iteration, ms':>14}{'predict':>9}{'score_samples':>15}{'predict_proba':>15}")
    for N, D, K, covariance in ((300_000, 32, 64, "diag"), (300_000, 16, 16, "full")):
        rng = np.random.default_rng(0)
        means = 2.0 * rng.normal(size=(K, D))
        X = means[rng.integers(K, size=N)] + rng.normal(size=(N, D))
        start = {
            "means_init": means,
            "weights_init": np.full(K, 1.0 / K),
            "precisions_init": identities(covariance, K, D),
        }

        def fit(n: int, K=K, covariance=covariance, X=X, start=start) -> GaussianMixture:
            settings = {"covariance_type": covariance, "max_iter": n, "tol": 0.0, "n_threads": threads}
            return GaussianMixture(K, **settings, **start).fit(X)

        took, model = iteration(fit, 2, 12), fit(2)
        write = median(lambda N=N, K=K: np.empty((N, K)).fill(1.0))
        shares = [
            median(lambda f=f, X=X: f(X)) for f in (model.predict, model.score_samples, model.predict_proba)
        ]
        tell(
            f"{f'{N:,} x {D}, K = {K}, {covariance}':32}{took:14.1f}{shares[0] / took:9.2f}{shares[1] / took:15.2f}"
            f"{shares[2] / (took + write):15.2f}"
        )


def apart(threads: int) -> None:
    tell()
    titles = ("iteration, ms", "predict", "score_samples", "over all: iteration", "predict")
    tell(f"{'shape, s':32}" + "".join(f"{title:>{len(title) + 2}}" for title in titles))
    shapes = [(100_000, 64, 32, 2.0), (100_000, 64, 32, 1.0), (100_000, 64, 32, 0.3), (20_000, 256, 16, 1.0)]
    shapes += [(10_000, 784, 10, 0.5), (200_000, 16, 16, 2.0), (100_000, 32, 20, 2.0)]
    shapes += [(50_000, 15, 80, 5.0), (50_000, 15, 80, 2.0)]
    diagonals = [
        (300_000, 32, 64, 11.0),
        (300_000, 32, 64, 2.0),
        (300_000, 32, 64, 0.5),
        (100_000, 100, 20, 2.0),
    ]
    of_kind = {"full": shapes, "diag": diagonals}
    for covariance, (N, D, K, s) in ((kind, shape) for kind, all_ in of_kind.items() for shape in all_):
        rng = np.random.default_rng(0)
        means = s * rng.normal(size=(K, D))
        X = means[rng.integers(K, size=N)] + rng.normal(size=(N, D))
        start = {
            "means_init": means,
            "weights_init": np.full(K, 1.0 / K),
            "precisions_init": identities(covariance, K, D),
        }

        def fit(n: int, X=X, K=K, start=start, kind=covariance) -> GaussianMixture:
            return GaussianMixture(
                K, covariance_type=kind, max_iter=n, tol=0.0, n_threads=threads, **start
            ).fit(X)

        model, took = fit(2), {}
        for skipping in (True, False):
            _native.set_skipping(skipping)
            found = [median(lambda f=f, X=X: f(X), 5) for f in (model.predict, model.score_samples)]
            took[skipping] = [iteration(fit, 2, 8, 3), *found]
        _native.set_skipping(True)
        some, every = took[True], took[False]
        tell(
            f"{f'{N:,} x {D}, K = {K}, {covariance}, {s:g}':32}"
            f"{some[0]:15.1f}{some[1]:9.1f}{some[2]:15.1f}{some[0] / every[0]:21.2f}{some[1] / every[1]:9.2f}"
        )


def far(threads: int) -> None:
    tell(f"\n{'50 clusters, 200,000 x 3':32}{'ms':>8}{'times near':>12}{'error of covariances':>22}")
    rng = np.random.default_rng(0)
    N, D, K = 200_000, 3, 50
    means, labels = rng.uniform(0.0, 1e3, size=(K, D)), rng.integers(K, size=N)
    noise = rng.normal(size=(N, D))
    near = 0.0
    for sd in (1e-1, 1e-2, 1e-4):
        X = means[labels] + sd * noise

        def fit(n: int, X=X, sd=sd) -> GaussianMixture:
            precisions = identities("full", K, D) / sd**2
            start = {"means_init": means, "weights_init": np.full(K, 1.0 / K), "precisions_init": precisions}
            return GaussianMixture(K, max_iter=n, tol=0.0, reg_covar=0.0, n_threads=threads, **start).fit(X)

        took, model = iteration(fit, 2, 12), fit(3)
        near = near or took
        errors = []
        for k in range(K):
            rows = X[labels == k]
            want = np.cov((rows - rows[0]).T, ddof=0)
            errors.append(np.abs(model.covariances_[k] - want).max() / np.abs(want).max())
        tell(f"{f'standard deviation {sd:g}':32}{took:8.1f}{took / near:12.2f}{max(errors):22.1e}")


def lloyd(threads: int) -> None:
    tell()
    titles = ("ms", "iterations", "over all rows'", "scikit-learn's lloyd", "elkan")
    tell(f"{'shape, s':32}" + "".join(f"{title:>{len(title) + 2}}" for title in titles))
    shapes = ((10_000, 20, 20, 2.0), (100_000, 50, 20, 1.0), (200_000, 16, 64, 1.0), (200_000, 32, 10, 0.3))
    for N, D, K, s in (*shapes, (500_000, 2, 50, 1.0), (200_000, 8, 500, 0.5)):
        rng = np.random.default_rng(0)
        X = s * rng.normal(size=(K, D))[rng.integers(K, size=N)] + rng.normal(size=(N, D))
        how = {"n_clusters": K, "init": X[rng.choice(N, K, replace=False)], "n_init": 1, "max_iter": 300}
        model = KMeans(n_threads=threads, **how)
        took = dict.fromkeys((True, False), 0.0)
        for skipping in took:
            _native.set_skipping(skipping)
            took[skipping] = median(lambda m=model, X=X: m.fit(X), 3)
        _native.set_skipping(True)
        with threadpool_limits(threads):
            others = [
                median(lambda a=a, X=X, how=how: sklearn.cluster.KMeans(algorithm=a, **how).fit(X), 1)
                for a in ("lloyd", "elkan")
            ]
        ours = took[True]
        tell(
            f"{f'{N:,} x {D}, K = {K}, {s:g}':32}{ours:4.0f}{model.n_iter_:12}{ours / took[False]:16.2f}"
            f"{others[0] / ours:22.1f}{others[1] / ours:7.1f}"
        )


def small(threads: int) -> None:
    tell(f"\n{'small tables':44}{'microseconds an iteration':>26}")
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(334, 4)) + m for m in (-3.0, 0.0, 3.0)])[:1000]
    start = {
        "means_init": X[[0, 400, 800]],
        "weights_init": np.full(3, 1.0 / 3.0),
        "precisions_init": identities("full", 3, 4),
    }

    def mixture(n: int) -> object:
        return GaussianMixture(3, max_iter=n, tol=0.0, n_threads=threads, **start).fit(X)

    tell(f"{'GaussianMixture, 1000 x 4, K = 3, full':44}{1e3 * iteration(mixture, 100, 600):26.0f}")
    x = rng.normal(size=(200, 2))
    y = np.where(rng.random(200) < 0.5, x @ [1.0, 2.0], x @ [-3.0, 1.0]) + 0.3 * rng.normal(size=200)
    for gate in ("constant", "dirichlet", "gaussian", "softmax"):

        def experts(n: int, gate: str = gate) -> object:
            return MixtureOfExperts(2, gate=gate, max_iter=n, tol=0.0, init=(y > 0).astype(int)).fit(x, y)

        took = 1e3 * iteration(experts, 50, 350)
        tell(f"{f'MixtureOfExperts, 200 x 2, K = 2, {gate}':44}{took:26.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", nargs="+", default=["prediction", "apart", "far", "lloyd", "small"])
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    look_at_each_iteration()
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    tell(f"{date}, {machine()['cpu']}, {options.threads} threads\n")
    for part in options.parts:
        {"prediction": prediction, "apart": apart, "far": far, "lloyd": lloyd, "small": small}[part](
            options.threads
        )
    if options.save:
        (options.save / f"iterations-{date}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
