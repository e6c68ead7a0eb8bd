"""The fourteen families: an iteration of each beside VVV's, and whether the bound ever falls.

python benchmarks/families.py [--parts iterations bayesian monotone] [--fits 2000]
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

from mixtura import BayesianGaussianMixture, GaussianMixture
from mixtura.components import COVARIANCES

NAMES = ["EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"]

warnings.simplefilter("ignore")


def iterations(rows=1_000_000, dims=16, components=16):
    """Medians of an iteration, families in turns."""
    g = np.random.default_rng(0)
    means = 1.5 * g.normal(size=(components, dims))
    shapes = np.stack([np.linalg.qr(g.normal(size=(dims, dims)))[0] for _ in range(components)])
    z = g.integers(0, components, rows)
    X = g.standard_normal((rows, dims)) * g.uniform(0.5, 1.5, dims)
    for k in range(components):
        X[z == k] = means[k] + X[z == k] @ shapes[k]
    states, times = {}, {name: [] for name in NAMES}
    for name in NAMES:
        gm = GaussianMixture(components, covariance_type=name, means_init=means, max_iter=4, tol=0.0).fit(X)
        states[name] = gm._mixture(), gm._table(X)
    for _ in range(7):
        for name in NAMES:
            mixture, table = states[name]
            began = time.perf_counter()
            moved = mixture.maximize(mixture.expect(table))
            times[name].append(time.perf_counter() - began)
            states[name] = moved, table
    base = np.median(times["VVV"])
    for name in NAMES:
        print(f"{name}: {np.median(times[name]) * 1e3:7.1f} ms, {np.median(times[name]) / base:.2f} of VVV's")


def bayesian(rows=500_000, dims=16, components=16):
    """An iteration of BayesianGaussianMixture beside GaussianMixture's."""
    g = np.random.default_rng(0)
    X = 2.0 * g.normal(size=(components, dims))[g.integers(0, components, rows)] + g.normal(size=(rows, dims))
    for name in ("full", "tied", "diag", "spherical"):
        models = (
            BayesianGaussianMixture(n_components=components, covariance_type=name, max_iter=2).fit(X),
            GaussianMixture(components, covariance_type=name, max_iter=2).fit(X),
        )
        medians = []
        for model in models:
            table, mixture, times = model._table(X), model._mixture(), []
            for _ in range(7):
                began = time.perf_counter()
                mixture = mixture.maximize(mixture.expect(table))
                times.append(time.perf_counter() - began)
            medians.append(np.median(times))
        print(
            f"Bayesian, {name}: {medians[0] * 1e3:.1f} ms, {medians[0] / medians[1]:.2f} of GaussianMixture's"
        )


def monotone(fits):
    """Random fits: weights, float32, K 1 to 6, D 1 to 12, nothing or the default added to variances."""
    g = np.random.default_rng(0)
    falls, failed, worst = 0, 0, 0.0
    for i in range(fits):
        name = NAMES[i % len(NAMES)]
        K, D, n = int(g.integers(1, 7)), int(g.integers(1, 13)), int(g.integers(100, 800))
        if D == 1:
            name = "EV"[i % 2]
        X = g.normal(size=(n, D)) @ g.normal(size=(D, D)) + 3.0 * g.normal(size=(K, D))[g.integers(0, K, n)]
        single, weighted = g.uniform() < 0.5, g.uniform() < 0.5
        weights = g.uniform(0.0, 2.0, n) if weighted else None
        added = 0.0 if g.uniform() < 0.5 else 1e-6
        gm = GaussianMixture(K, covariance_type=name, tol=1e-9, max_iter=300, reg_covar=added, random_state=i)
        try:
            gm.fit(X.astype(np.float32) if single else X, sample_weight=weights)
        except ValueError:
            failed += 1
            continue
        fall = -np.diff(gm.lower_bounds_).min(initial=0.0) / (1.0 + abs(gm.lower_bound_))
        worst = max(worst, fall)
        slack = 16.0 * np.finfo(np.float32).eps if single else 1e-10  # rounding of the sums
        if fall > slack:
            print(
                f"fit {i}, {name}, K = {K}, D = {D}, {'float32' if single else 'float64'}, {added:g} added: falls by "
                f"{fall:.1e}"
            )
        falls += fall > slack
    print(f"{fits} fits: {falls} falls, the largest {worst:.1e} of the bound; {failed} became singular")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=["iterations", "bayesian", "monotone"])
    parser.add_argument("--fits", type=int, default=2000)
    options = parser.parse_args()
    assert set(NAMES) <= set(COVARIANCES)
    if "iterations" in options.parts:
        iterations()
    if "bayesian" in options.parts:
        bayesian()
    if "monotone" in options.parts:
        monotone(options.fits)
