"""Derivatives beside an EM pass, beside torch, and beside their floor; Gaussian mixture regression beside gmr.

    python benchmarks/derivatives.py [--parts gradient torch hessian newton regress bootstrap]

Times are the least of several runs in this process; memory is the peak of a process of its own, less what it has before
the call. `regress` needs the package gmr.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings

import numpy as np
from scipy.linalg import blas

import mixtura
from mixtura import GaussianMixture
from mixtura import autodiff as ad
from mixtura.distributions import Mixture

warnings.simplefilter("ignore")


def best(f, runs=5):
    least = np.inf
    for _ in range(runs):
        began = time.perf_counter()
        f()
        least = min(least, time.perf_counter() - began)
    return least


def rows_and_model(N, D=16, K=16):
    rng = np.random.default_rng(0)
    means = 2.0 * rng.normal(size=(K, D))
    X = means[rng.integers(0, K, N)] + rng.normal(size=(N, D))
    return X, GaussianMixture(K, means_init=means, max_iter=2, random_state=0).fit(X)


def gradient():
    X, gm = rows_and_model(1_000_000)
    table, mixture = gm._table(X), gm._mixture()
    em = best(lambda: mixture.maximize(mixture.expect(table)))
    took = best(lambda: ad.value_and_grad(gm, X))
    print(
        f"value_and_grad, 1M x 16, K = 16: {1e3 * took:.1f} ms, {took / em:.2f} of an EM iteration ({1e3 * em:.1f} ms)"
    )
    for name, f in (
        ("grad_x, 1M rows", lambda: ad.grad_x(gm, X)),
        ("jvp, 100k rows", lambda: ad.jvp(gm, X[:100_000], np.ones(len(ad.Parameters.of(gm))))),
        ("jacobian, 10k rows", lambda: ad.jacobian(gm, X[:10_000])),
        ("hessian_x, 100k rows", lambda: ad.hessian_x(gm, X[:100_000])),
    ):
        print(f"{name}: {1e3 * best(f, 3):.0f} ms")


ONE = """
import resource, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
torch.set_num_threads(2)
sys.path.insert(0, sys.argv[2])
from derivatives import rows_and_model
from mixtura import autodiff as ad
X, gm = rows_and_model(100_000)
if sys.argv[1] == "torch":
    of = torch.distributions
    x, m = torch.tensor(X), torch.tensor(gm.means_, requires_grad=True)
    w = torch.tensor(gm.weights_, requires_grad=True)
    L = torch.linalg.cholesky(torch.tensor(gm.covariances_)).requires_grad_()
    def run():
        mixture = of.MixtureSameFamily(of.Categorical(w), of.MultivariateNormal(m, scale_tril=L))
        mixture.log_prob(x).sum().backward()
else:
    def run():
        ad.value_and_grad(gm, X)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
times = []
for _ in range(3):
    began = time.perf_counter()
    run()
    times.append(time.perf_counter() - began)
print(min(times), peak / 1024)
"""


def torch_autograd():
    found = {}
    for name in ("mixtura", "torch"):
        out = subprocess.run(
            [sys.executable, "-c", ONE, name, sys.path[0]], capture_output=True, text=True, check=True
        ).stdout.split()
        found[name] = [float(number) for number in out]
        print(
            f"value and gradient, 100k x 16, K = 16, {name}: {1e3 * found[name][0]:.1f} ms, {found[name][1]:.1f} MB"
        )
    (t, m), (tt, mm) = found["mixtura"], found["torch"]
    print(
        f"torch's time over ours: {tt / t:.0f}; memory: {mm:.0f} MB over {m:.1f} MB (0: not above that of the fit)"
    )


def hessian():
    X, gm = rows_and_model(100_000)
    P = len(ad.Parameters.of(gm))
    took = best(lambda: ad.hessian(gm, X), 2)
    block, total = np.random.default_rng(0).normal(size=(4096, P)), np.zeros((P, P), order="F")
    floor = (
        best(lambda: blas.dsyrk(1.0, block.T, beta=1.0, c=total, lower=1, overwrite_c=1), 5)
        * len(X)
        / len(block)
    )
    print(
        f"Hessian, 100k x 16, K = 16, P = {P}: {took:.2f} s, {took / floor:.2f} of its floor (dsyrk, {floor:.2f} s)"
    )
    try:
        import torch
    except ImportError:
        return
    few = 200  # torch's time grows with the rows, and is taken on these
    x, K, D = torch.tensor(X[:few]), 16, 16
    theta, m = torch.tensor(ad.Parameters.of(gm).theta), ad.Parameters.of(gm).mixture
    i, j = (torch.tensor(index) for index in np.tril_indices(D))

    def total_of(t):
        odds = torch.cat([t[: K - 1], torch.zeros(1, dtype=t.dtype)])
        means = t[m.gate_size : m.gate_size + K * D].reshape(K, D)
        scales = t[m.gate_size + K * D :].reshape(K, -1)
        L = torch.zeros(K, D, D, dtype=t.dtype).index_put(
            (torch.arange(K)[:, None], i[None], j[None]), scales
        )
        diagonal = L.diagonal(dim1=-2, dim2=-1)
        L = L - torch.diag_embed(diagonal) + torch.diag_embed(diagonal.exp())
        z = torch.linalg.solve_triangular(L, (x[:, None] - means).permute(1, 2, 0), upper=False)
        joint = (
            torch.log_softmax(odds, 0)[:, None]
            - L.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None]
            - 0.5 * z.square().sum(1)
        )
        return torch.logsumexp(joint, 0).sum() - 0.5 * D * np.log(2 * np.pi) * len(x)

    def row(direction):
        return torch.func.jvp(torch.func.grad(total_of), (theta,), (direction,))[1]

    began = time.perf_counter()  # forward over reverse, as torch.func.hessian has it, 32 rows at a time
    theirs = torch.func.vmap(row, chunk_size=32)(torch.eye(P, dtype=theta.dtype)).numpy()
    slow = time.perf_counter() - began
    ours = ad.hessian(gm, X[:few])
    error = np.abs(theirs - ours).max() / np.abs(ours).max()
    quick = best(lambda: ad.hessian(gm, X[:few]), 3)
    print(
        f"torch.func, {few} rows: {slow:.1f} s beside {quick:.3f} s: {slow / quick:.0f}; difference {error:.0e}"
    )


def newton():
    quick, gains, steps = 0, [], []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        means, spreads = 2.5 * rng.normal(size=(3, 3)), 0.4 * rng.normal(size=(3, 3, 3)) + np.eye(3)
        z = rng.integers(0, 3, 1000)
        X = means[z] + np.einsum("nij,nj->ni", spreads[z], rng.normal(size=(1000, 3)))
        how = {
            "covariance_type": ("full", "tied", "diag", "spherical")[seed % 4],
            "random_state": 0,
            "max_iter": 1000,
        }
        em = GaussianMixture(3, **how).fit(X)
        done = GaussianMixture(3, accelerate="newton", **how).fit(X)
        value, gradient = ad.value_and_grad(done, X)
        gains.append(value - ad.value_and_grad(em, X)[0])
        steps.append(done.n_iter_ - em.n_iter_)
        quick += np.abs(gradient).max() < 1e-10 * len(X) and steps[-1] <= 6
    print(
        f"Newton from EM at tol 1e-3: gradient below 1e-10 N within 6 steps on {quick} of 50 problems (median "
        f"{np.median(steps):.0f} steps); least gain of log-likelihood {min(gains):.1e}"
    )


def regress():
    try:
        import gmr
    except ImportError:
        print("regress: gmr is not installed")
        return
    for shape in ((2, 2, 1), (4, 5, 2), (8, 6, 3), (16, 10, 5)):
        one_regression(gmr, *shape)


def one_regression(gmr, K, D, d):
    rng = np.random.default_rng(1)
    A = rng.normal(size=(K, D, D))
    mixture = Mixture(
        np.full(K, 1 / K), 2.0 * rng.normal(size=(K, D)), A @ np.swapaxes(A, 1, 2) + 0.3 * np.eye(D)
    )
    theirs = gmr.GMM(K, priors=mixture.weights, means=mixture.means, covariances=mixture.covariances)
    x, known = mixture.sample(100_000, seed=0)[:, :d].copy(), np.arange(d)
    slow = best(lambda: theirs.predict(known, x), 3)
    quick = best(lambda: mixture.regress(known, x))
    error = np.abs(theirs.predict(known, x) - mixture.regress(known, x)[0]).max()
    print(
        f"regression of {D - d} on {d} columns, K = {K}, 100k rows: {1e3 * quick:.1f} ms (mean and deviation) beside "
        f"{1e3 * slow:.1f} ms of gmr (mean): {slow / quick:.0f}; largest difference {error:.0e}"
    )


def bootstrap():
    X = np.loadtxt("data/faithful.csv", delimiter=",", skiprows=1)
    gm = GaussianMixture(2, reg_covar=0, accelerate="newton", random_state=0).fit(X)
    began = time.perf_counter()
    found = mixtura.standard_errors(gm, X, "bootstrap")
    took = time.perf_counter() - began
    ratio = found.errors / mixtura.standard_errors(gm, X, "sandwich").errors
    print(
        f"Old Faithful, 999 bootstrap fits: {took:.1f} s; over the sandwich {ratio.min():.2f} to {ratio.max():.2f}"
    )


PARTS = {
    "gradient": gradient,
    "torch": torch_autograd,
    "hessian": hessian,
    "newton": newton,
    "regress": regress,
    "bootstrap": bootstrap,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    for part in parser.parse_args().parts:
        PARTS[part]()
