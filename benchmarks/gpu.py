"""Mixtura on a CUDA device beside the blocked matrix products of torch: milliseconds per EM iteration, and floors.

python benchmarks/gpu.py [--workloads all] [--scale 1.0] [--rounds 5] [--kernels] [--no-peer] [--save FOLDER]

Rows lie on the device (torch tensors, float32, random) unless a workload says 'from the host'. An iteration is what
the loop of a fit does: the E-step with its pass over the rows, its checks, and the M-step; of k-means, the pass. Its
time is the median of several, by wall clock around a synchronised device. The device's time is that of all its kernels
and copies in one iteration, as the driver's profiler reports it; the host's share is what an iteration takes beyond it.
Floors are multiply-adds of triangles and symmetric halves at the rate of a large matrix product measured in the same
run (float32, and bfloat16 divided by 3 for precision 'fast'), exponentials left out, or one read of X at the rate of a
large copy, whichever takes longer. Log-likelihoods are held to float64 on the processor, over some of the rows.

The peer, a pass alone, is what a good engineer writes in an afternoon: blocks of rows; for full covariances, whitened
with one batched product for a group of components, moments with another; for diagonals, three products with
[x^2, x, 1]. Beside 'fast' its products are of TF32, which has 11 digits.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from mixtura import backends
from mixtura.backends.reference import ReferenceBackend
from mixtura.components import COVARIANCES, Gaussians
from mixtura.components.centers import Centers
from mixtura.components.estimation import Estimation
from mixtura.gates.constant import ConstantGate
from mixtura.mixture import Mixture
from mixtura.table import Table

DEVICE = "cuda"

# Is added to variances in every M-step: so components go on overlapping, every pair of row and component counts, and
# all iterations are the same work.
WIDENED = 1.0


output: Path | None = None


def tell(line: str = "") -> None:
    """Print a line, and write it where it is to be kept at once: a run that ends early loses nothing."""
    print(line, flush=True)
    if output is not None:
        with output.open("a") as file:
            file.write(line + "\n")


@dataclass(frozen=True)
class Workload:
    name: str
    rows: int
    dims: int
    components: int
    covariance: str
    precision: str = "exact"
    on_device: bool = True

    @property
    def title(self) -> str:
        where = "" if self.on_device else ", from the host"
        return (
            f"{self.name}: {self.rows:,} x {self.dims}, K = {self.components}, {self.covariance}, "
            f"{self.precision}{where}"
        )

    @property
    def multiply_adds(self) -> float:
        n, k, d = self.rows, self.components, self.dims
        return n * k * d * {"full": d + 3, "diag": 4, "spherical": 2, "kmeans": 1}[self.covariance]


WORKLOADS = [
    Workload("F1", 1_000_000, 128, 1024, "full"),
    Workload("F1f", 1_000_000, 128, 1024, "full", "fast"),
    Workload("D1", 1_000_000, 128, 1024, "diag"),
    Workload("S1", 1_000_000, 128, 1024, "spherical"),
    Workload("F2", 10_000_000, 16, 64, "full"),
    Workload("F2f", 10_000_000, 16, 64, "full", "fast"),
    Workload("K1", 10_000_000, 128, 1024, "kmeans"),
    Workload("H1", 10_000_000, 32, 8, "diag", on_device=False),
    Workload("H2", 1_000_000, 128, 1024, "full", "fast", on_device=False),
]


def median(work, rounds: int) -> float:
    """Milliseconds."""
    work()
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times))


def ceilings(rounds: int) -> dict[str, float]:
    """Multiply-adds a second of large products, bytes a second of a copy on the device and of one to it."""
    n = 8192
    a, b = torch.randn(n, n, device=DEVICE), torch.randn(n, n, device=DEVICE)
    torch.backends.cuda.matmul.allow_tf32 = False
    found = {"float32": n**3 / median(lambda: a @ b, rounds) * 1e3}
    c, d = a.bfloat16(), b.bfloat16()
    found["bfloat16"] = n**3 / median(lambda: c @ d, rounds) * 1e3
    x = torch.empty(1 << 28, device=DEVICE)
    y = torch.empty_like(x)
    found["read"] = 2 * 4 * x.numel() / median(lambda: y.copy_(x), rounds) * 1e3
    h = torch.empty(1 << 26, pin_memory=True)
    z = torch.empty(1 << 26, device=DEVICE)
    found["to device"] = 4 * h.numel() / median(lambda: z.copy_(h, non_blocking=True), rounds) * 1e3
    return found


def parameters_of(w: Workload, rng: np.random.Generator):
    """K Gaussians among standard normal rows, none far narrower than the others."""
    K, D = w.components, w.dims
    means = 0.5 * rng.normal(size=(K, D))
    if w.covariance == "kmeans":
        return Centers(means)
    covariance = COVARIANCES[w.covariance]
    if w.covariance == "full":
        noise = rng.normal(size=(K, D, 2 * D)) / np.sqrt(2 * D)
        precisions = noise @ noise.transpose(0, 2, 1) + 0.5 * np.eye(D)
    else:
        precisions = rng.uniform(0.5, 2.0, covariance.storage.shape(K, D))
    gaussians = Gaussians.from_precisions(covariance, means, precisions, Estimation(WIDENED))
    if w.covariance == "full":  # factors lie as an M-step leaves them
        factors = np.ascontiguousarray(np.swapaxes(gaussians.precisions_cholesky, 1, 2))
        gaussians = replace(gaussians, precisions_cholesky=np.swapaxes(factors, 1, 2))
    return Mixture(ConstantGate(weights=np.full(K, 1.0 / K)), gaussians)


def expect(backend, rows, parameters, pivot):
    components = parameters if isinstance(parameters, Centers) else parameters.components
    return backend.expect(rows, parameters.joint, components.kind, pivot)


def iteration(backend, rows, parameters, pivot):
    """What does one iteration after another, each from where the last one ended."""
    if isinstance(parameters, Centers):
        return lambda: expect(backend, rows, parameters, pivot)
    table, model = Table(backend, rows, pivot, rows.X), [parameters]

    def iterate() -> None:
        found = model[0].expect(table)
        if not found.is_finite():
            raise FloatingPointError("statistics are not finite")
        model[0] = model[0].maximize(found)

    return iterate


def peer(w: Workload, X: torch.Tensor, parameters) -> float:
    """One pass by torch's matrix products; the log-likelihood, or minus half the inertia."""
    K, D, total = w.components, w.dims, 0.0
    q = parameters.quadratics if w.covariance == "kmeans" else parameters.components.quadratics
    means = torch.as_tensor(q.means, dtype=X.dtype, device=X.device)
    log_weights = 0.0 if w.covariance == "kmeans" else parameters.gate.log_shares
    constants = torch.as_tensor(q.offsets + log_weights, dtype=X.dtype, device=X.device)
    block, group = (8192 if D > 32 else 65536), 32
    one_scale = w.covariance in ("spherical", "kmeans")
    if w.covariance == "full":
        factors = torch.as_tensor(q.factors, dtype=X.dtype, device=X.device).transpose(1, 2).contiguous()
        second = torch.zeros(K, D, D, device=X.device)
    else:
        second = torch.zeros(K, D, device=X.device)
        scales = torch.as_tensor(np.broadcast_to(q.factors.reshape(len(q.factors), -1), (K, D)) ** 2)
        scales = scales.to(X.device, X.dtype)
        bias = -0.5 * (scales * means**2).sum(1)
    first, mass = torch.zeros(K, D, device=X.device), torch.zeros(K, device=X.device)
    for x in X.split(block):
        if w.covariance == "full":
            joint = torch.empty(len(x), K, device=X.device)
            for k in range(0, K, group):
                cut = slice(k, min(k + group, K))
                y = torch.matmul(x, factors[cut]) - torch.matmul(means[cut, None], factors[cut])
                joint[:, cut] = -0.5 * y.square().sum(-1).T
        else:
            squares = x.square().sum(1)[:, None] * scales[:, 0] if one_scale else x.square() @ scales.T
            joint = x @ (scales * means).T - 0.5 * squares + bias
        joint += constants
        if w.covariance == "kmeans":
            top, label = joint.max(1)
            total += top.double().sum()
            first.index_add_(0, label, x)
            mass += torch.bincount(label, minlength=K)
            continue
        density = torch.logsumexp(joint, 1)
        total += density.double().sum()
        resp = (joint - density[:, None]).exp_()
        mass += resp.sum(0)
        first += resp.T @ x
        if w.covariance == "full":
            for k in range(0, K, group):
                cut = slice(k, min(k + group, K))
                scaled = resp[:, cut].T[:, :, None] * x
                second[cut] += torch.matmul(scaled.transpose(1, 2), x)
        else:
            second += (resp.T @ x.square().sum(1, keepdim=True)) if one_scale else resp.T @ x.square()
    return float(total)


def on_the_device(work) -> dict[str, tuple[float, int]]:
    """Milliseconds and number of each kind of kernel and copy in one call, the longest first."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize()
    events = sorted(found.key_averages(), key=lambda event: -event.device_time_total)
    return {event.key: (1e-3 * event.device_time_total, event.count) for event in events}


def measure(w: Workload, limits: dict[str, float], rounds: int, with_peer: bool, kernels: bool) -> None:
    rng = np.random.default_rng(0)
    parameters = parameters_of(w, rng)
    torch.manual_seed(0)
    generated = torch.randn(w.rows, w.dims, device=DEVICE)
    X = (
        generated if w.on_device else generated.cpu().numpy().copy()
    )  # memory of its own, as a user's table is
    if not w.on_device:
        del generated
    torch.cuda.empty_cache()
    pivot = np.zeros(w.dims)
    module = type(backends.create("cuda"))
    backend = module(precision=w.precision, memory=None if w.on_device else 0)
    free, _ = torch.cuda.mem_get_info()
    rows = backend.place(X)
    iterate = iteration(backend, rows, parameters, pivot)
    ours = median(iterate, rounds)
    used = (free - torch.cuda.mem_get_info()[0]) / 1e6
    times = on_the_device(iterate)
    device = sum(milliseconds for milliseconds, _ in times.values())
    rate = limits["bfloat16"] / 3 if w.precision == "fast" else limits["float32"]
    size = 4 * w.rows * w.dims
    floor = 1e3 * max(
        w.multiply_adds / rate, size / limits["read"] if w.on_device else size / limits["to device"]
    )
    some = X[: min(w.rows, max(2_000_000 // w.components, 256))]
    host = some.cpu().numpy() if w.on_device else some
    reference = ReferenceBackend()
    want = expect(reference, reference.place(host), parameters, pivot).log_likelihood
    got = expect(backend, backend.place(some), parameters, pivot).log_likelihood
    off = abs(got - want) / abs(want)
    tell(w.title)
    # Copies of a table that lies on the host run beside the kernels, and their times do not add up.
    share = f"; host's share {(ours - device) / ours:.0%}" if w.on_device else ""
    tell(
        f"  iteration {ours:9.2f} ms = {ours / floor:5.2f} x floor ({floor:.2f} ms); "
        f"on the device {device:.2f} ms{share}"
    )
    tell(f"  device memory beside X {used:.0f} MB; log-likelihood off by {off:.1e} of itself")
    for name, (milliseconds, count) in times.items():
        if kernels and milliseconds > 0.01 * device:
            tell(f"    {milliseconds:9.2f} ms {count:6d} x {name}")
    if w.on_device and with_peer:
        del rows, backend, iterate
        try:
            torch.backends.cuda.matmul.allow_tf32 = w.precision == "fast"
            theirs = median(lambda: peer(w, X, parameters), max(rounds // 2, 1))
            digits = "TF32" if w.precision == "fast" else "float32"
            tell(f"  torch ({digits}) {theirs:8.2f} ms = {theirs / ours:.2f} x ours")
        except torch.cuda.OutOfMemoryError:
            tell("  torch: out of device memory")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default="all", help="names, or 'all'")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernels", action="store_true", help="tell each kernel's and copy's share")
    parser.add_argument("--no-peer", action="store_true", help="leave torch's products out")
    parser.add_argument("--save", type=Path, help="folder for the output as text")
    options = parser.parse_args()
    found = backends.available()["cuda"]
    if not found:
        sys.exit(f"backend 'cuda' is not available: {found.reason}")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if options.save:
        global output
        options.save.mkdir(parents=True, exist_ok=True)
        output = options.save / f"gpu-{now[:10]}.txt"
        output.write_text("")
    tell(f"{now}, {found.reason}, torch {torch.__version__}, medians of {options.rounds}")
    limits = ceilings(options.rounds)
    tell(
        f"measured: {2e-12 * limits['float32']:.1f} TFLOP/s float32, {2e-12 * limits['bfloat16']:.0f} bfloat16, "
        f"{1e-9 * limits['read']:.0f} GB/s on the device, {1e-9 * limits['to device']:.1f} GB/s to it"
    )
    for w in WORKLOADS:
        if options.workloads == "all" or w.name in options.workloads.split(","):
            scaled = Workload(
                w.name,
                int(w.rows * options.scale),
                w.dims,
                w.components,
                w.covariance,
                w.precision,
                w.on_device,
            )
            measure(scaled, limits, options.rounds, not options.no_peer, options.kernels)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
