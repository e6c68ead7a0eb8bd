"""Ten thousand small mixtures, beside a joblib loop over scikit-learn on a sample of the groups.

python benchmarks/many.py [--groups 10000 --rows 500 --sample 200]
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from joblib import Parallel, delayed
from sklearn.mixture import GaussianMixture

import mixtura

warnings.simplefilter("ignore")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    G, n, D, K = options.groups, options.rows, 4, 3
    rng = np.random.default_rng(0)
    means = 3.0 * rng.normal(size=(G, K, D))
    z = rng.integers(0, K, (G, n))
    X = (means[np.arange(G)[:, None], z] + rng.normal(size=(G, n, D))).reshape(-1, D)
    groups = np.repeat(np.arange(G), n)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        many = mixtura.fit_many(X, groups, K, n_threads=options.jobs)
        times.append(time.perf_counter() - began)
    ours = min(times)

    def one(g):
        return GaussianMixture(K, random_state=0).fit(X[g * n : (g + 1) * n]).lower_bound_

    with Parallel(n_jobs=options.jobs) as pool:
        pool(delayed(one)(g) for g in range(2 * options.jobs))  # starts the workers
        began = time.perf_counter()
        bounds = np.array(pool(delayed(one)(g) for g in range(options.sample)))
        theirs = (time.perf_counter() - began) * G / options.sample
    difference = many.lower_bound[: options.sample] - bounds
    shape = f"{G} groups of {n} x {D}, K = {K}, {options.jobs} processors"
    print(f"{shape}: {ours:.2f} s beside {theirs:.0f} s: {theirs / ours:.0f}")
    like = np.abs(difference[np.abs(difference) < 1e-3]).max()
    lower, higher = np.sum(difference < -1e-3), np.sum(difference > 1e-3)
    ends = f"{lower} end lower than scikit-learn's by 1e-3 per row, {higher} higher, others within {like:.0e}"
    print(f"of {options.sample} groups {ends}")
