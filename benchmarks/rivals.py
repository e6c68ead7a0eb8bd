"""One function for each library: from rows and first parameters to ``run(n)``, which does n iterations.

``run`` returns (weights, means, covariances), or the inertia for k-means, of the parameters after n iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[int], Any]


def look_at_each_iteration() -> None:
    """Let iterations of ours that would only repeat the last one, since EM has come to rest, look at the rows too."""
    import mixtura.mixture

    mixtura.mixture.unchanged = lambda *values: False


def _mixture(cls, X, w, weights, means, precisions, **settings) -> Run:
    """Ours and scikit-learn's classes are called alike."""

    def run(n):
        gm = cls(
            w.components,
            covariance_type=w.covariance,
            weights_init=weights,
            means_init=means,
            precisions_init=precisions,
            tol=0,
            max_iter=n,
            **settings,
        ).fit(X)
        return gm.weights_, gm.means_, gm.covariances_

    return run


def _kmeans(cls, X, w, means, **settings) -> Run:
    return lambda n: cls(w.components, init=means, n_init=1, max_iter=n, tol=0, **settings).fit(X).inertia_


def mixtura(X, w, weights, means, precisions, threads) -> Run:
    from mixtura import GaussianMixture, KMeans

    look_at_each_iteration()
    if w.covariance == "kmeans":
        return _kmeans(KMeans, X, w, means, n_threads=threads)
    return _mixture(GaussianMixture, X, w, weights, means, precisions, n_threads=threads)


def mixtura32(X, *arguments) -> Run:
    return mixtura(X.astype(np.float32), *arguments)


def mixtura_everything(*arguments) -> Run:
    """Without leaving out what cannot matter."""
    from mixtura import _native

    _native.set_skipping(False)
    return mixtura(*arguments)


def mixtura_numba(X, w, weights, means, precisions, threads) -> Run:
    from mixtura import GaussianMixture

    look_at_each_iteration()
    return _mixture(GaussianMixture, X, w, weights, means, precisions, backend="numba", n_threads=threads)


def sklearn(X, w, weights, means, precisions, threads) -> Run:
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    if w.covariance == "kmeans":
        return _kmeans(KMeans, X, w, means)
    return _mixture(GaussianMixture, X, w, weights, means, precisions)


def onedal(X, w, weights, means, precisions, threads) -> Run:
    """oneDAL's em_gmm, through daal4py of scikit-learn-intelex."""
    import daal4py

    daal4py.daalinit(threads)
    full = {"full": True, "diag": False}[w.covariance]
    first = [np.linalg.inv(p) if full else (1.0 / p)[None] for p in precisions]

    def run(n):
        storage = "full" if full else "diagonal"
        r = daal4py.em_gmm(
            nComponents=w.components, maxIterations=n, accuracyThreshold=0.0, covarianceStorage=storage
        ).compute(X, weights[None].copy(), means.copy(), [c.copy() for c in first])
        covariances = np.array([np.asarray(c) for c in r.covariances])
        return np.ravel(r.weights), np.asarray(r.means), covariances if full else covariances[:, 0]

    return run


def _theta(kind: str, weights, means, covariances) -> np.ndarray:
    """Natural parameters (K, P) against the features [1 | x | second moment]."""
    D = means.shape[1]
    c = np.log(weights) - 0.5 * D * np.log(2.0 * np.pi)
    if kind == "full":
        P = np.linalg.inv(covariances)
        b = np.einsum("kij,kj->ki", P, means)
        i, j = np.triu_indices(D)
        second = -0.5 * P[:, i, j] * np.where(i == j, 1.0, 2.0)
        return np.column_stack(
            [c - 0.5 * np.linalg.slogdet(covariances)[1] - 0.5 * (b * means).sum(1), b, second]
        )
    if kind == "tied":
        b = means @ np.linalg.inv(covariances)
        return np.column_stack([c - 0.5 * np.linalg.slogdet(covariances)[1] - 0.5 * (b * means).sum(1), b])
    P = 1.0 / covariances if kind == "diag" else np.tile((1.0 / covariances)[:, None], (1, D))
    b = P * means
    second = -0.5 * P if kind == "diag" else -0.5 * P[:, :1]
    return np.column_stack([c + 0.5 * np.log(P).sum(1) - 0.5 * (b * means).sum(1), b, second])


def _parameters(kind: str, s: np.ndarray, total: np.ndarray | None, N: int, D: int) -> tuple:
    """Weights, means and covariances from the sums (K, P) of the features, and the tied scatter of all rows."""
    mass = s[:, 0] + 1e-15
    m = s[:, 1 : 1 + D] / mass[:, None]
    if kind == "full":
        c = np.empty((len(s), D, D))
        i, j = np.triu_indices(D)
        c[:, i, j] = c[:, j, i] = s[:, 1 + D :] / mass[:, None]
        c -= m[:, :, None] * m[:, None, :]
        c[:, range(D), range(D)] += 1e-6
    elif kind == "diag":
        c = s[:, 1 + D :] / mass[:, None] - m * m + 1e-6
    elif kind == "spherical":
        c = (s[:, 1 + D] / mass - (m * m).sum(axis=1)) / D + 1e-6
    else:
        c = (total - (mass[:, None] * m).T @ m) / N + 1e-6 * np.eye(D)
    return mass / N, m, c


def numpy_gemm(X, w, weights, means, precisions, threads) -> Run:
    """What a good engineer writes in an afternoon: blocks of rows, features [1 | x | vech x x'], one GEMM a half.

    Two Python threads with single-threaded BLAS, as NumPy's own threads do not help its elementwise half.
    """
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import threadpool_limits

    N, D = X.shape
    K, kind = w.components, w.covariance
    second = {"full": D * (D + 1) // 2, "diag": D, "spherical": 1, "tied": 0}[kind]
    P = 1 + D + second
    B = int(min(16384, max(128, 1.2e6 / (8 * (P + K)))))
    limits = threadpool_limits(1, user_api="blas")
    pool = ThreadPoolExecutor(threads)
    shift = X[:20_000].mean(axis=0)
    total = (X - shift).T @ (X - shift) if kind == "tied" else None
    invert = np.linalg.inv if kind in ("full", "tied") else np.reciprocal

    def chunk(start, stop, theta):
        features, joint, sums, bound = np.empty((P, B)), np.empty((K, B)), np.zeros((K, P)), 0.0
        for at in range(start, stop, B):
            n = min(B, stop - at)
            f = features[:, :n] if n == B else np.empty((P, n))
            r = joint if n == B else np.empty((K, n))
            x = f[1 : 1 + D]
            f[0] = 1.0
            np.subtract(X[at : at + n].T, shift[:, None], out=x)
            if kind == "full":
                row = 1 + D
                for i in range(D):
                    np.multiply(x[i], x[i:], out=f[row : row + D - i])
                    row += D - i
            elif kind == "diag":
                np.multiply(x, x, out=f[1 + D :])
            elif kind == "spherical":
                np.einsum("ij,ij->j", x, x, out=f[1 + D])
            np.matmul(theta, f, out=r)
            top = r.max(axis=0)
            r -= top
            np.exp(r, out=r)
            z = r.sum(axis=0)
            r /= z
            sums += r @ f.T
            bound += (top + np.log(z)).sum()
        return sums, bound

    def run(n):
        p = (weights, means - shift, invert(precisions))
        cuts = [N * t // threads for t in range(threads + 1)]
        for _ in range(n):
            theta = _theta(kind, *p)
            parts = list(pool.map(lambda t, theta=theta: chunk(cuts[t], cuts[t + 1], theta), range(threads)))
            s = sum(part[0] for part in parts)
            p = _parameters(kind, s, total, N, D)
        return p[0], p[1] + shift, p[2]

    run.limits = limits  # kept as long as the function is
    return run


def torch_gemm(X, w, weights, means, precisions, threads) -> Run:
    """The same in torch, which brings MKL and threads its elementwise half."""
    import torch

    torch.set_num_threads(threads)
    N, D = X.shape
    K, kind = w.components, w.covariance
    P = 1 + D + {"full": D * (D + 1) // 2, "diag": D, "spherical": 1, "tied": 0}[kind]
    B = int(min(32768, max(256, 3e6 / (8 * (P + K)))))
    shift = X[:20_000].mean(axis=0)
    total = (X - shift).T @ (X - shift) if kind == "tied" else None
    invert = np.linalg.inv if kind in ("full", "tied") else np.reciprocal
    rows_t, shift_t = torch.from_numpy(X), torch.from_numpy(shift)

    def run(n):
        p = (weights, means - shift, invert(precisions))
        for _ in range(n):
            theta = torch.from_numpy(_theta(kind, *p))
            sums, features = (
                torch.zeros((K, P), dtype=torch.float64),
                torch.empty((P, B), dtype=torch.float64),
            )
            for at in range(0, N, B):
                block = rows_t[at : at + B]
                f = features if len(block) == B else torch.empty((P, len(block)), dtype=torch.float64)
                x = f[1 : 1 + D]
                f[0] = 1.0
                torch.sub(block.T, shift_t[:, None], out=x)
                if kind == "full":
                    row = 1 + D
                    for i in range(D):
                        torch.mul(x[i], x[i:], out=f[row : row + D - i])
                        row += D - i
                elif kind == "diag":
                    torch.mul(x, x, out=f[1 + D :])
                elif kind == "spherical":
                    f[1 + D] = (x * x).sum(0)
                sums += torch.softmax(theta @ f, 0) @ f.T
            s = sums.numpy()
            p = _parameters(kind, s, total, N, D)
        return p[0], p[1] + shift, p[2]

    return run


def faiss(X, w, weights, means, precisions, threads) -> Run:
    """k-means in float32."""
    import faiss as library

    library.omp_set_num_threads(threads)
    single, first = X.astype(np.float32), means.astype(np.float32)

    def run(n):
        km = library.Kmeans(w.dims, w.components, niter=n, max_points_per_centroid=1 << 30)
        km.train(single, init_centroids=first)
        return float(km.obj[-1])

    return run


MIXTURES = {
    "mixtura": mixtura,
    "mixtura float32": mixtura32,
    "nothing skipped": mixtura_everything,
    "mixtura numba": mixtura_numba,
    "scikit-learn": sklearn,
    "oneDAL em_gmm": onedal,
    "NumPy GEMM": numpy_gemm,
    "torch GEMM": torch_gemm,
}
KMEANS = {"mixtura": mixtura, "mixtura float32": mixtura32, "scikit-learn": sklearn, "faiss float32": faiss}
# What each library offers.
COVARIANCES = {"oneDAL em_gmm": ("full", "diag"), "nothing skipped": ("full",)}
# Ours, in other ways than the default.
OURS = ("mixtura", "mixtura float32", "nothing skipped", "mixtura numba")
PACKAGES = {
    "scikit-learn": "sklearn",
    "oneDAL em_gmm": "daal4py",
    "torch GEMM": "torch",
    "faiss float32": "faiss",
    "mixtura numba": "numba",
}
