"""The workloads that speed is measured on, and the least time the arithmetic of one iteration needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Workload:
    name: str
    rows: int
    dims: int
    components: int
    covariance: str  # a covariance type, or 'kmeans'
    separation: float = 4.0  # of the clusters, in spreads

    @property
    def title(self) -> str:
        apart = f", {self.separation:.0f} spreads apart" if self.separation != 4.0 else ""
        return f"{self.name}  {self.rows:,} x {self.dims}, K = {self.components}, {self.covariance}{apart}"

    @property
    def multiply_adds(self) -> float:
        """Of one iteration, triangles and symmetric halves only.

        full: N K [D (D + 1) / 2 + D] to whiten, square and sum, as much again for the moments, together N K D (D + 3);
        diagonal: x s - b, its square, two moments, 4 N K D; tied, spherical: a product in the E-step, one in the
        M-step; k-means: one product.
        """
        n, k, d = self.rows, self.components, self.dims
        return n * k * d * {"full": d + 3, "diag": 4, "tied": 2, "spherical": 2, "kmeans": 1}[self.covariance]

    @property
    def exponentials(self) -> float:
        return 0.0 if self.covariance == "kmeans" else self.rows * self.components

    def floor(self, ceilings: dict[str, float], single: bool = False) -> float:
        """Milliseconds of one iteration at this machine's measured rates; no less than one read of X."""
        suffix = "32" if single else "64"
        arithmetic = (
            2.0 * self.multiply_adds / ceilings[f"fma{suffix}"] + self.exponentials / ceilings[f"exp{suffix}"]
        )
        read = self.rows * self.dims * (4 if single else 8) / ceilings["read"]
        return 1e3 * max(arithmetic, read)


WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1", 1_000_000, 2, 8, "full"),
        Workload("W2", 1_000_000, 16, 16, "full"),
        Workload("W3", 200_000, 64, 32, "full"),
        Workload("W4", 50_000, 256, 16, "full"),
        Workload("W5", 1_000_000, 32, 64, "diag"),
        Workload("W6", 200_000, 16, 512, "full"),
        Workload("W6s", 200_000, 16, 512, "full", separation=16.0),
        Workload("W7t", 200_000, 16, 16, "tied"),
        Workload("W7s", 200_000, 16, 16, "spherical"),
        Workload("K1", 1_000_000, 16, 16, "kmeans"),
        Workload("K2", 200_000, 64, 256, "kmeans"),
        Workload("K3", 200_000, 16, 512, "kmeans"),
    )
}


def means_of(w: Workload, g: np.random.Generator) -> np.ndarray:
    """Means of K clusters, ``separation`` spreads apart."""
    return g.normal(size=(w.components, w.dims)) * max(w.separation / np.sqrt(2.0 * w.dims), 0.5)


def draw(w: Workload) -> np.ndarray:
    """Rows of a mixture of K clusters, which overlap unless they are far apart."""
    g = np.random.default_rng(7)
    N, D, K = w.rows, w.dims, w.components
    means = means_of(w, g)
    labels = g.choice(K, N, p=g.dirichlet(np.full(K, 5.0)))
    X = g.standard_normal((N, D))
    shape = None
    for k in range(K):
        if w.covariance == "diag":
            shape = np.diag(np.sqrt(g.uniform(0.3, 2.0, D)))
        elif w.covariance == "full" or (w.covariance == "tied" and shape is None):
            shape = np.linalg.qr(g.normal(size=(D, D)))[0] * np.sqrt(g.uniform(0.3, 2.0, D))
        inside = labels == k
        X[inside] = means[k] + (X[inside] if shape is None else X[inside] @ shape.T)
    return X


def rows(w: Workload, folder: Path) -> np.ndarray:
    """The workload's rows, drawn once and kept in ``folder``."""
    path = folder / f"{w.name}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, draw(w))
    return np.load(path)


def start(X: np.ndarray, w: Workload) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same first parameters for everyone: weights, means (rows of X), precisions.

    Clusters far apart start where they are, as after the first iterations of a fit.
    """
    g = np.random.default_rng(3)
    D, K = w.dims, w.components
    if w.separation > 8.0:
        means, p = means_of(w, np.random.default_rng(7)), 1.0
    else:
        means = X[g.choice(len(X), K, replace=False)].copy()
        p = 1.0 / X[:20_000].var(axis=0).mean()
    precisions = {
        "full": lambda: np.tile(np.eye(D) * p, (K, 1, 1)),
        "diag": lambda: np.full((K, D), p),
        "tied": lambda: np.eye(D) * p,
        "spherical": lambda: np.full(K, p),
        "kmeans": lambda: np.full(K, p),
    }[w.covariance]()
    return np.full(K, 1.0 / K), means, precisions
