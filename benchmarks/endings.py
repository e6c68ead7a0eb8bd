"""Whether fits end well, and how soon: starts, many clusters, degenerate tables, acceleration, whole fits.

python benchmarks/endings.py [--threads 2] [--parts NAME ...] [--problems 50] [--save benchmarks/results]

flat: flat parallel clusters, 1 : 10 to 1 : 40, 2 to 30 columns, rotated. How often 'auto' and 'kmeans' reach an
adjusted Rand index of 0.95 of that from the true start.
mixed: crossing, rare and nested clusters, noise columns, unlike lengths. How often the bound is the true start's.
many: 100 spherical clusters in 50 columns, 60 in 3, 200 in 10: bound less the true start's, and seconds.
degenerate: tables with equal rows, constant or dependent columns, hardly more rows than components, huge and tiny
scales, float32, each repaired and dropped: aborts, numbers that are not finite, falls of the bound.
labels: adjusted Rand index with labels for a tenth of the rows, less that without.
acceleration: passes with 'squarem' and 'anderson' over plain EM's, on clusters 2.5 standard deviations apart.
magnitudes: 50,000 x 15 curved and correlated, K = 80, full: seconds, bound on other rows, beside scikit-learn's.
separated: clusters far apart, where the start takes most of a fit, beside scikit-learn.
wide: 30,000 x 3,000 float32, diag, and 20,000 x 784, full, beside scikit-learn.
centres: KMeans, 200,000 x 8 float32, K = 5,000, ten iterations, beside scikit-learn.
shares: of whole fits of the workloads W1 to W7, the share of the time that the first parameters take; and how long a
fit takes with 'auto' beside one with 'kmeans', also at 1000 rows.
races: a fit with n_init = 10 over one with n_init = 1, at 1,000,000 x 16, K = 16.
grid: whole fits over many shapes, all covariance types and KMeans, beside scikit-learn.

Comparisons alternate within one run. Seconds are medians over seeds.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.cluster
import sklearn.mixture
import threadpoolctl
from sklearn.metrics import adjusted_rand_score

from mixtura import GaussianMixture, KMeans
from mixtura import starts as starts_of_mixtures
from mixtura.components.families import ALL
from peers import machine
from workloads import WORKLOADS, rows

Problem = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]
lines: list[str] = []


def tell(line: str = "") -> None:
    print(line, flush=True)
    lines.append(line)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = work()
    return time.perf_counter() - began, answer


def rotation(rng: np.random.RandomState, dims: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((dims, dims)))[0]


def drawn(rng: np.random.RandomState, n: int, weights: Any, means: np.ndarray, covariances: Any) -> Problem:
    """Rows from a mixture, their components, and the true parameters as a start."""
    y = rng.choice(len(weights), size=n, p=weights)
    roots = np.linalg.cholesky(np.asarray(covariances))
    X = means[y] + np.einsum("nij,nj->ni", roots[y], rng.standard_normal((n, means.shape[1])))
    start = {
        "weights_init": np.asarray(weights),
        "means_init": means,
        "precisions_init": np.linalg.inv(np.asarray(covariances)),
    }
    return X, y, start


def flat_problem(seed: int) -> Problem:
    rng = np.random.RandomState(seed)
    D, K = rng.randint(2, 31), rng.randint(2, 6)
    means, deviations = np.zeros((K, D)), np.ones(D)
    means[:, 0] = np.arange(K) * rng.uniform(6.0, 8.0)
    deviations[1] = rng.uniform(10.0, 40.0)
    turn = rotation(rng, D)
    covariance = turn.T @ np.diag(deviations**2) @ turn
    return drawn(rng, max(300, 30 * D) * K, np.full(K, 1.0 / K), means @ turn, [covariance] * K)


def mixed_problem(seed: int) -> Problem:
    rng = np.random.RandomState(seed)
    kind = seed % 5
    D, K = rng.randint(2, 8), 2 + (kind > 0) + (kind == 4) - (kind == 2)
    weights, means = np.full(K, 1.0 / K), rng.standard_normal((K, D)) * 5.0
    covariances = [np.eye(D) * rng.uniform(0.5, 2.0) for _ in range(K)]
    if kind == 0:  # crossing: long clusters through one point
        means = rng.standard_normal((K, D)) * 0.5
        lengths = np.append(8.0, np.full(D - 1, 0.5))
        turns = [rotation(rng, D) for _ in range(K)]
        covariances = [t.T @ np.diag(lengths**2) @ t for t in turns]
    elif kind == 1:  # rare
        weights = np.array([0.6, 0.37, 0.03])
    elif kind == 2:  # nested
        weights, means, covariances = (
            np.array([0.4, 0.6]),
            np.zeros((2, D)),
            [np.eye(D) * 0.04, np.eye(D) * 4.0],
        )
    elif kind == 3:  # noise columns
        D = rng.randint(10, 25)
        means = np.zeros((K, D))
        means[:, :2] = [[0.0, 0.0], [6.0, 4.0], [12.0, 0.0]]
        deviations = np.append([1.0, 1.0], rng.uniform(1.0, 10.0, D - 2))
        covariances = [np.diag(deviations**2)] * K
    else:  # unlike lengths
        turns = [rotation(rng, D) for _ in range(K)]
        covariances = [t.T @ np.diag(np.exp(rng.uniform(-3.0, 4.0, D))) @ t for t in turns]
    return drawn(rng, 1000 * K, weights, means, covariances)


def starts(name: str, problem: Callable[[int], Problem], options: argparse.Namespace) -> None:
    good = {"auto": 0, "kmeans": 0}
    times: dict[str, list[float]] = {"auto": [], "kmeans": []}
    for seed in range(options.problems):
        X, y, start = problem(seed)
        K, how = len(start["weights_init"]), {"tol": 1e-5, "max_iter": 300}
        true = GaussianMixture(K, **start, **how).fit(X)
        for init, found in good.items():
            spent, gm = seconds(
                lambda X=X, K=K, init=init, how=how, seed=seed: GaussianMixture(
                    K, init_params=init, random_state=seed, **how
                ).fit(X)
            )
            times[init].append(spent)
            if name == "flat":
                wanted = 0.95 * adjusted_rand_score(y, true.predict(X))
                good[init] = found + (adjusted_rand_score(y, gm.predict(X)) >= wanted)
            else:
                good[init] = found + (gm.lower_bound_ >= true.lower_bound_ - 1e-3)
    for init, found in good.items():
        tell(f"{name}, {init}: {found} of {options.problems}; {1e3 * statistics.median(times[init]):.0f} ms")


def flat(options: argparse.Namespace) -> None:
    starts("flat", flat_problem, options)


def mixed(options: argparse.Namespace) -> None:
    starts("mixed", mixed_problem, options)


def many(options: argparse.Namespace) -> None:
    for K, D, scale, deviation in ((100, 50, 3.0, 1.0), (60, 3, 10.0, 0.5), (200, 10, 4.0, 1.0)):
        short: dict[str, list[float]] = {"auto": [], "kmeans": []}
        times: dict[str, list[float]] = {"auto": [], "kmeans": []}
        for seed in range(5):
            rng = np.random.RandomState(seed)
            means = rng.uniform(-scale, scale, size=(K, D))
            N = rng.randint(10_000, 50_001)
            X = means[rng.randint(K, size=N)] + deviation * rng.standard_normal((N, D))
            start = {
                "weights_init": np.full(K, 1.0 / K),
                "means_init": means,
                "precisions_init": np.full(K, deviation**-2),
            }
            true = GaussianMixture(K, covariance_type="spherical", **start).fit(X)
            for init in short:
                spent, gm = seconds(
                    lambda X=X, K=K, init=init, seed=seed: GaussianMixture(
                        K, covariance_type="spherical", init_params=init, random_state=seed
                    ).fit(X)
                )
                short[init].append(gm.lower_bound_ - true.lower_bound_)
                times[init].append(spent)
        for init in short:
            tell(
                f"many, {K} in {D}, {init}: bound less the true start's, worst {min(short[init]):+.4f}, median "
                f"{statistics.median(short[init]):+.4f}; {statistics.median(times[init]):.2f} s"
            )


def degenerate_table(seed: int) -> np.ndarray:
    rng = np.random.RandomState(seed)
    N, D, kind = rng.randint(20, 400), rng.randint(1, 8), seed % 8
    X = rng.standard_normal((N, D))
    X[: N // 2] += 4.0
    if kind == 0:
        X = X[rng.randint(max(N // 20, 2), size=N)]
    elif kind == 1:
        X[:, rng.randint(D)] = rng.choice([0.0, 3.0, 1e6])
    elif kind == 2:
        X = np.hstack([X, 2.0 * X[:, :1] + 1.0, X.sum(axis=1, keepdims=True)])
    elif kind == 3:
        X = X[: rng.randint(8, 14)]
    elif kind == 4:
        X = X * 10.0 ** rng.randint(3, 100)
    elif kind == 5:
        X = X * 10.0 ** -rng.randint(3, 100)
    elif kind == 6:
        X = X * 10.0 ** rng.randint(-8, 8, size=D)
        X[: N // 4] = X[0]
    else:
        X = np.round(X)
    return X.astype(np.float32) if seed % 3 == 0 and kind not in (4, 5) else X


def degenerate(options: argparse.Namespace) -> None:
    for mode in ("repair", "drop"):
        fits = aborts = bad = falls = 0
        for seed, covariance in itertools.product(range(300), ALL):
            X = degenerate_table(seed)
            if X.shape[1] == 1 and covariance not in ("VVV", "VVI", "EEE", "VII"):
                continue
            covariance = {"VVV": "full", "VVI": "diag", "EEE": "tied", "VII": "spherical"}.get(
                covariance, covariance
            )
            K = len(X) - 1 if seed % 8 == 3 else min(1 + seed % 9, len(X))
            fits += 1
            try:
                gm = GaussianMixture(K, covariance_type=covariance, on_degenerate=mode, random_state=0).fit(X)
            except ValueError:
                aborts += 1
                continue
            arrays = (gm.weights_, gm.means_, gm.covariances_, gm.precisions_cholesky_)
            bad += not all(np.isfinite(a).all() for a in arrays)
            bounds = np.array(gm.lower_bounds_)
            # Arithmetic on float32 rows has seven digits. Where a component is dropped the bound may fall once.
            least = -1e-6 if X.dtype == np.float32 else -1e-9
            steps = np.diff(bounds) / (1.0 + np.abs(bounds[1:]))
            falls += bool(np.sum(steps < least) > (gm.means_.shape[0] < K) * (K - gm.means_.shape[0]))
        tell(
            f"degenerate, {mode}: {fits} fits, {aborts} aborts, {bad} not finite, {falls} with falls of the bound"
        )


def labels(options: argparse.Namespace) -> None:
    gains = []
    for seed in range(options.problems):
        X, y, start = mixed_problem(seed)
        K = len(start["weights_init"])
        told = np.where(np.random.RandomState(seed).uniform(size=len(y)) < 0.1, y, -1)
        without = GaussianMixture(K, random_state=seed, max_iter=300).fit(X)
        informed = GaussianMixture(K, random_state=seed, max_iter=300).fit(X, labels=told)
        gains.append(adjusted_rand_score(y, informed.predict(X)) - adjusted_rand_score(y, without.predict(X)))
    tell(
        f"labels for a tenth of the rows, {options.problems} problems: adjusted Rand index less that without, worst "
        f"{min(gains):+.3f}, mean {np.mean(gains):+.3f}; lower by more than 0.01 on {sum(g < -0.01 for g in gains)}"
    )


def acceleration(options: argparse.Namespace) -> None:
    ratios: dict[str, list[float]] = {"squarem": [], "anderson": []}
    falls = worse = 0
    for seed in range(200):
        rng = np.random.RandomState(seed)
        K, D = rng.randint(2, 6), rng.randint(1, 7)
        covariance = ("full", "diag", "spherical", "tied")[seed % 4]
        means = np.zeros((K, D))
        means[:, 0] = 2.5 * np.arange(K)
        N = 100_000 if seed < 20 else 4000
        X = (means[rng.randint(K, size=N)] + rng.standard_normal((N, D))) * 10.0 ** rng.uniform(-2.0, 2.0)
        first = {
            "weights_init": np.full(K, 1.0 / K),
            "means_init": X[rng.choice(N, K, replace=False)],
            "precisions_init": {
                "full": np.tile(np.eye(D) / X.var(), (K, 1, 1)),
                "diag": np.full((K, D), 1.0 / X.var()),
                "spherical": np.full(K, 1.0 / X.var()),
                "tied": np.eye(D) / X.var(),
            }[covariance],
        }
        how = {"covariance_type": covariance, "reg_covar": 0.0, "tol": 1e-9, "max_iter": 5000, **first}
        plain = GaussianMixture(K, **how).fit(X)
        for name, found in ratios.items():
            gm = GaussianMixture(K, accelerate=name, **how).fit(X)
            if seed < 20:
                found.append(gm.n_passes_ / plain.n_passes_)
            falls += bool(np.diff(gm.lower_bounds_).min(initial=0.0) < -1e-11 * (1.0 + abs(gm.lower_bound_)))
            worse += gm.lower_bound_ < plain.lower_bound_ - 1e-5
    for name, found in ratios.items():
        tell(
            f"acceleration, {name}: passes over plain EM's at N = 100,000: median {statistics.median(found):.2f}, "
            f"largest {max(found):.2f}"
        )
    tell(
        f"acceleration: of 400 fits {falls} had a falling bound, {worse} ended lower than plain EM's by 1e-5"
    )


def magnitudes_table(seed: int, n: int = 50_000, dims: int = 15) -> np.ndarray:
    """Brightness in 15 bands of three kinds of object, of any distance, size and dust: curved and correlated."""
    rng = np.random.RandomState(seed)
    distance, kind = rng.beta(2.0, 3.0, size=n), rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    size, dust = rng.gamma(2.0, 1.0, size=n), rng.exponential(0.3, size=n)
    band, k = np.linspace(0.0, 1.0, dims), kind[:, None]
    shape = np.sin((2.0 + k) * np.pi * (band - 0.5 * distance[:, None])) * (0.6 + 0.4 * k)
    shape += 2.0 * distance[:, None] * (band - 0.3 * k) ** 2 * (k + 1.0)
    X = shape - 0.8 * size[:, None] - 1.5 * dust[:, None] * (1.0 - band)
    return X + 0.04 * rng.standard_normal((n, dims)) * (1.0 + np.exp(-0.5 * size[:, None]))


def magnitudes(options: argparse.Namespace) -> None:
    X, other = magnitudes_table(0), magnitudes_table(1)
    spent, gm = seconds(lambda: sklearn.mixture.GaussianMixture(80, max_iter=100, random_state=0).fit(X))
    tell(
        f"magnitudes, scikit-learn: {spent:.1f} s, {gm.n_iter_} iterations, {gm.score(other):.4f} on other rows"
    )
    for init in ("kmeans", "auto"):
        fits = [
            seconds(lambda s=s, i=init: GaussianMixture(80, init_params=i, random_state=s).fit(X))
            for s in range(5)
        ]
        tell(
            f"magnitudes, {init}: {1e3 * statistics.median(t for t, _ in fits):.0f} ms, "
            f"{statistics.median(gm.n_iter_ for _, gm in fits)} iterations, median "
            f"{statistics.median(gm.score(other) for _, gm in fits):.4f} on other rows"
        )


def against(
    name: str, ours: Callable[[int], Any], theirs: Callable[[int], Any], value: str, seeds: int = 3
) -> None:
    """Seconds and ends of two kinds of fit, in turns."""
    pairs = [(seconds(lambda s=s: ours(s)), seconds(lambda s=s: theirs(s))) for s in range(seeds)]
    mine = statistics.median(a[0] for a, _ in pairs)
    other = statistics.median(b[0] for _, b in pairs)
    ends = [statistics.median(getattr(p[i][1], value) for p in pairs) for i in (0, 1)]
    iterations = [statistics.median(p[i][1].n_iter_ for p in pairs) for i in (0, 1)]
    tell(
        f"{name}: {mine:.2f} s, scikit-learn {other:.2f} s, ratio {other / mine:.1f}; iterations {iterations[0]:g} and "
        f"{iterations[1]:g}; {value} {ends[0]:.6g} and {ends[1]:.6g}"
    )


def separated(options: argparse.Namespace) -> None:
    for N, D, K, covariance in (
        (1_000_000, 16, 16, "full"),
        (1_000_000, 32, 64, "diag"),
        (300_000, 32, 64, "diag"),
    ):
        rng = np.random.RandomState(0)
        X = rng.uniform(-20.0, 20.0, size=(K, D))[rng.randint(K, size=N)] + rng.standard_normal((N, D))
        how = {"n_components": K, "covariance_type": covariance}
        against(
            f"separated, {N:,} x {D}, K = {K}, {covariance}",
            lambda s, X=X, how=how: GaussianMixture(**how, random_state=s).fit(X),
            lambda s, X=X, how=how: sklearn.mixture.GaussianMixture(**how, random_state=s).fit(X),
            "lower_bound_",
        )


def wide(options: argparse.Namespace) -> None:
    for N, D, K, covariance, dtype in (
        (30_000, 3000, 5, "diag", np.float32),
        (20_000, 784, 10, "full", np.float64),
    ):
        rng = np.random.RandomState(0)
        centres = 0.5 * rng.standard_normal((K, D))
        X = np.maximum(centres[rng.randint(K, size=N)] + rng.standard_normal((N, D)), 0.0).astype(dtype)
        how = {"n_components": K, "covariance_type": covariance}
        against(
            f"wide, {N:,} x {D:,}, K = {K}, {covariance}, {np.dtype(dtype)}",
            lambda s, X=X, how=how: GaussianMixture(**how, random_state=s).fit(X),
            lambda s, X=X, how=how: sklearn.mixture.GaussianMixture(**how, random_state=s).fit(X),
            "lower_bound_",
        )


def centres(options: argparse.Namespace) -> None:
    rng = np.random.RandomState(0)
    places = 3.0 * rng.standard_normal((2000, 8))
    X = (places[rng.randint(2000, size=200_000)] + 0.7 * rng.standard_normal((200_000, 8))).astype(np.float32)
    how = {"n_clusters": 5000, "max_iter": 10, "tol": 0.0, "n_init": 1}
    against(
        "centres, 200,000 x 8, K = 5,000",
        lambda s: KMeans(**how, random_state=s).fit(X),
        lambda s: sklearn.cluster.KMeans(**how, random_state=s).fit(X),
        "inertia_",
        seeds=2,
    )


def shares(options: argparse.Namespace) -> None:
    names = ("W1", "W2", "W3", "W4", "W5", "W6", "W7t", "W7s")
    kmeans, spent = starts_of_mixtures.INITIALIZERS["kmeans"], [0.0]

    def timed(*args: Any, **kwargs: Any) -> Any:
        taken, moments = seconds(lambda: kmeans(*args, **kwargs))
        spent[0] += taken
        return moments

    options.folder.mkdir(parents=True, exist_ok=True)
    tables = [(w.title, rows(w, options.folder), w) for w in (WORKLOADS[name] for name in names)]
    small = np.random.RandomState(0).standard_normal((1000, 4)) + 4.0 * np.arange(1000)[:, None] // 334
    for title, X, w in [*tables, ("1,000 x 4, K = 3, full", small, None)]:
        how = {"n_components": w.components, "covariance_type": w.covariance} if w else {"n_components": 3}
        found, ratios, totals = [], [], []
        for seed in range(3):
            spent[0] = 0.0
            starts_of_mixtures.INITIALIZERS["kmeans"] = timed
            total, _ = seconds(lambda s=seed, X=X, how=how: GaussianMixture(**how, random_state=s).fit(X))
            starts_of_mixtures.INITIALIZERS["kmeans"] = kmeans
            auto, _ = seconds(
                lambda s=seed, X=X, how=how: GaussianMixture(**how, init_params="auto", random_state=s).fit(X)
            )
            found.append(spent[0] / total)
            totals.append(total)
            ratios.append(auto / total)
        tell(
            f"shares, {title}: first parameters {100 * statistics.median(found):.0f} % of "
            f"{statistics.median(totals):.3g} s; 'auto' takes {statistics.median(ratios):.2f} times as long"
        )


def races(options: argparse.Namespace) -> None:
    rng = np.random.RandomState(0)
    X = 3.0 * rng.standard_normal((16, 16))[rng.randint(16, size=1_000_000)] + rng.standard_normal(
        (1_000_000, 16)
    )
    times = {}
    for n in (1, 10):
        fits = [
            seconds(lambda s=s, n=n: GaussianMixture(16, n_init=n, random_state=s).fit(X)) for s in range(5)
        ]
        times[n] = statistics.median(t for t, _ in fits)
        tell(
            f"races, n_init = {n}: {times[n]:.2f} s, bound {statistics.median(gm.lower_bound_ for _, gm in fits):.5f}, "
            f"worst {min(gm.lower_bound_ for _, gm in fits):.5f}"
        )
    tell(f"races: ten starts over one {times[10] / times[1]:.2f}")


def grid(options: argparse.Namespace) -> None:
    ratios: dict[str, float] = {}
    for N, D, K in itertools.product(
        (100, 1000, 10_000, 100_000), (1, 2, 5, 20, 100, 300), (1, 2, 5, 20, 100)
    ):
        for kind in ("full", "tied", "diag", "spherical", "KMeans"):
            work = N * K * D * (D if kind in ("full", "tied") else 1)
            if K > N // 5 or work > options.work or (D > N // (2 * K) and kind == "full"):
                continue
            rng = np.random.RandomState(0)
            X = 2.0 * rng.standard_normal((K, D))[rng.randint(K, size=N)] + rng.standard_normal((N, D))
            if kind == "KMeans":
                models = (KMeans(K), sklearn.cluster.KMeans(K))
            else:
                models = (
                    GaussianMixture(K, covariance_type=kind),
                    sklearn.mixture.GaussianMixture(K, covariance_type=kind),
                )
            pairs = [
                [seconds(lambda m=m, s=s, X=X: m.set_params(random_state=s).fit(X))[0] for m in models]
                for s in range(3)
            ]
            mine, other = (statistics.median(p[i] for p in pairs) for i in (0, 1))
            ratios[f"{kind} {N} x {D}, K = {K}"] = other / mine
    slower = {name: r for name, r in ratios.items() if r < 1.0}
    tell(
        f"grid: {len(ratios)} shapes; scikit-learn's time over ours: median {statistics.median(ratios.values()):.2f}; "
        f"slower on {len(slower)}, of which KMeans {sum(name.startswith('KMeans') for name in slower)}"
    )
    for name, r in sorted(slower.items(), key=lambda item: item[1])[:10]:
        tell(f"  {name}: {r:.2f}")


PARTS = {
    part.__name__: part
    for part in (
        flat,
        mixed,
        many,
        degenerate,
        labels,
        acceleration,
        magnitudes,
        separated,
        wide,
        centres,
        shares,
        races,
        grid,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--work", type=float, default=2e9, help="largest N K D (D) of a shape in the grid")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mixtura-benchmarks")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    tell(f"{date}, {machine()['cpu']}, {options.threads} threads")
    tell()
    with threadpoolctl.threadpool_limits(options.threads):
        for part in options.parts:
            PARTS[part](options)
    if options.save:
        (options.save / f"endings-{date}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
