"""Mixtures of experts: an EM iteration beside its floor, neural gates beside MixtureLib, and its script over 20 seeds.

python benchmarks/experts.py [--rows 1000000] [--columns 20] [--experts 4] [--threads 2] [--save benchmarks/results]
                             [--mixturelib FOLDER]

The floor of an iteration is 2 N K D multiply-adds for the experts' predictions, gate and all, and N K (D + 2)^2 / 2 for
the moments of [1, x, y], at the rate of a large matrix product measured in the same run; or one read of [x, y], if that
takes longer. An iteration's time is the difference of two fits of different length, the shorter of several.

--mixturelib names a folder that holds MixtureLib 0.4 (pip download --no-deps mixturelib==0.4.0, unpacked); without it
the comparison is left out, and said so.
"""

import argparse
import datetime
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mixtura import MixtureOfExperts, NeuralGate
from mixtura.mixturelib.hyper_models import HyperExpertNN, HyperModelDirichlet
from mixtura.mixturelib.local_models import EachModelLinear
from mixtura.mixturelib.mixture import MixtureEM
from peers import machine

lines: list[str] = []


def tell(line: str = "") -> None:
    print(line, flush=True)
    lines.append(line)


def least(work, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def draw(rows: int, columns: int, experts: int):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, columns))
    slopes, labels = rng.normal(size=(experts, columns)), rng.integers(0, experts, rows)
    y = np.einsum("nd,nd->n", X, slopes[labels]) + 0.5 * rng.standard_normal(rows)
    return X, y, labels


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def iterations(options) -> None:
    N, D, K, threads = options.rows, options.columns, options.experts, options.threads
    X, y, labels = draw(N, D, K)
    square = np.random.default_rng(1).normal(size=(2000, 2000))
    out = np.empty_like(square)

    def fit(gate: str, n: int) -> None:
        MixtureOfExperts(K, gate=gate, max_iter=n, tol=0.0, init=labels, n_threads=threads).fit(X, y)

    def floor() -> float:
        """Seconds, at the rates of this moment."""
        with threadpool_limits(threads):
            rate = 2000.0**3 / least(lambda: np.matmul(square, square, out=out), 8)
        product = (2.0 * N * K * D + N * K * (D + 2) ** 2 / 2.0) / rate
        return max(product, least(X.sum, 3) * (D + 1) / D / threads)

    tell(f"one EM iteration, {N:,} x {D}, K = {K}, float64, {threads} threads")
    tell(f"{'gate':<10} {'ms':>8} {'floor ms':>9} {'x floor':>8} {'x constant':>11} {'MB beside X, y':>15}")
    constant = 0.0
    for gate in ("constant", "dirichlet", "softmax", "gaussian"):
        times, floors = [], []
        before = peak()
        for _ in range(5):
            floors.append(floor())
            short, long = (least(lambda n=n, gate=gate: fit(gate, n), 1) for n in (2, 12))
            times.append((long - short) / 10.0)
        took, at_least = float(np.median(times)), float(np.median(floors))
        constant = constant or took
        tell(
            f"{gate:<10} {1e3 * took:8.1f} {1e3 * at_least:9.1f} {took / at_least:8.2f} {took / constant:11.2f} "
            f"{peak() - before:15.0f}"
        )


def neural(options) -> None:
    X, y, labels = draw(100_000, options.columns, 4)
    gate = NeuralGate((10, 10))
    began = time.perf_counter()
    model = MixtureOfExperts(4, gate=gate, init=labels, n_threads=options.threads).fit(X, y)
    took = time.perf_counter() - began
    passes = model.n_iter_ * gate.steps
    tell(f"\nneural gate (10, 10), 100,000 x {options.columns}, K = 4, {options.threads} threads")
    tell(
        f"mixtura: {took:.2f} s to convergence ({model.converged_}), {model.n_iter_} iterations, "
        f"{passes} passes of the network over the rows: {1e3 * took / passes:.1f} ms a pass, EM included"
    )
    if options.mixturelib is None:
        tell("MixtureLib: not given (--mixturelib), not compared")
        return
    sys.path.insert(0, str(options.mixturelib))
    from mixturelib.hyper_models import HyperExpertNN as Theirs

    rows, epochs = 10_000, 2
    theirs = Theirs(input_dim=options.columns, hidden_dim=10, output_dim=4, epochs=epochs)
    x, targets = torch.FloatTensor(X[:rows]), torch.FloatTensor(y[:rows, None])
    resp = torch.FloatTensor(np.eye(4)[labels[:rows]])
    seconds = least(lambda: theirs.M_step(x, targets, resp, {}), 3) / epochs * (len(X) / rows)
    tell(
        f"MixtureLib 0.4: {1e3 * seconds:.0f} ms a pass (measured at {rows:,} rows, times {len(X) // rows}); "
        f"{seconds * passes:.0f} s for as many: mixtura takes {took / (seconds * passes):.4f} of that"
    )


def chapter_3() -> None:
    rng = np.random.RandomState(42)
    X = rng.randn(200, 2)
    X[:100, 1] *= 0.8
    X[100:, 0] *= 0.8
    truth = np.array([[10.0, 0.0], [0.0, 30.0]])
    Y = np.vstack([X[:100] @ truth[0][:, None], X[100:] @ truth[1][:, None]]) + 5 * rng.randn(200, 1)
    X, Y = torch.FloatTensor(X), torch.FloatTensor(Y)
    tell("\nMixtureLib's script of chapter 3 through mixtura.mixturelib, 20 seeds")
    tell("|W - truth|: the largest of the four differences; s: the variance of the noise, in truth 25")
    for kind, most, share in (("default", 1.6, 0.2), ("sample", 2.5, 0.25)):
        for name in ("HyperModelDirichlet", "HyperExpertNN"):
            for epochs in (100, 10):
                good = better = 0
                for seed in range(20):
                    torch.random.manual_seed(seed)
                    gate = (
                        HyperModelDirichlet(output_dim=2)
                        if name == "HyperModelDirichlet"
                        else HyperExpertNN(input_dim=2, hidden_dim=5, output_dim=2, epochs=100)
                    )
                    models = [EachModelLinear(input_dim=2), EachModelLinear(input_dim=2)]
                    mixture = MixtureEM({"beta": 1.0}, gate, models, model_type=kind)
                    start = mixture.objective(X, Y)
                    mixture.fit(X, Y, epoch=epochs)
                    better += mixture.objective(X, Y) >= start
                    W = np.hstack([m.W.numpy() for m in models])
                    off = min(np.abs(W - truth.T).max(), np.abs(W[:, ::-1] - truth.T).max())
                    good += off < most and abs(float(mixture.HyperParameters["beta"]) - 25.0) < share * 25.0
                tell(
                    f"{kind:<8} {name:<20} {epochs:>3} epochs: |W - truth| < {most} and s within {share:.0%} in "
                    f"{good} of 20; not worse than at the start in {better}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", default="iterations,neural,script", help="default: all three")
    parser.add_argument("--mixturelib", type=Path)
    parser.add_argument("--save", type=Path, help="folder for the output")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    now = datetime.datetime.now(datetime.UTC)
    tell(f"{now:%Y-%m-%d %H:%M} UTC, {machine()['cpu']}, {options.threads} threads")
    if "iterations" in options.parts:
        iterations(options)
    if "neural" in options.parts:
        neural(options)
    if "script" in options.parts:
        chapter_3()
    if options.save:
        (options.save / f"experts-{now:%Y-%m-%d}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
