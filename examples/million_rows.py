"""A million rows: draw them from a known mixture, fit them, compare.

python examples/million_rows.py [--rows 1000000] [--columns 16] [--components 16] [--threads N]
"""

import argparse
import time

import numpy as np

from mixtura import GaussianMixture


def draw(rows: int, columns: int, components: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a mixture with random full covariances, and the component of each."""
    means = rng.normal(size=(components, columns)) * 4.0 / np.sqrt(2.0 * columns)  # neighbours overlap
    labels = rng.choice(components, rows, p=rng.dirichlet(np.full(components, 5.0)))
    X = rng.standard_normal((rows, columns))
    for k in range(components):
        rotation, _ = np.linalg.qr(rng.normal(size=(columns, columns)))
        inside = labels == k
        X[inside] = means[k] + X[inside] @ (rotation * np.sqrt(rng.uniform(0.3, 2.0, columns))).T
    return X, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()

    print(
        f"drawing {options.rows:,} rows x {options.columns} columns from {options.components} Gaussians ..."
    )
    X, labels = draw(options.rows, options.columns, options.components, np.random.default_rng(0))
    gm = GaussianMixture(options.components, random_state=0, verbose=1, n_threads=options.threads)
    began = time.perf_counter()
    found = gm.fit_predict(X)
    seconds = time.perf_counter() - began

    best = [np.bincount(found[labels == k]).argmax() for k in range(options.components)]
    agree = np.mean(np.asarray(best)[labels] == found)
    print(
        f"{gm.n_iter_} EM iterations, initialisation and labels in {seconds:.2f} s on the {gm.backend_} backend\n"
        f"{options.rows * gm.n_iter_ / seconds:,.0f} rows per second and iteration\n"
        f"log-likelihood per row {gm.lower_bound_:.5f}; {agree:.1%} of the rows in the component they came from"
    )


if __name__ == "__main__":
    main()
