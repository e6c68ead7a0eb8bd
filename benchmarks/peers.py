"""Mixtura beside its peers, in one run: milliseconds per EM iteration, peak memory, likelihood, ratio to the floor.

python benchmarks/peers.py [--workloads W1,W2,W5] [--peers mixtura,scikit-learn] [--threads 2] [--rounds 3]
                           [--save benchmarks/results] [--whole-fit W2,W5]

An iteration is the difference of a long and a short fit divided by the difference of their iterations, so that checks,
initialisation and final labels cancel. Every measurement is a process of its own; peers take turns (one whose
iteration takes more than two seconds is measured in the first round only), and the median over the rounds is shown
with its ratio to ours. The floor is the least arithmetic at the rates that ceilings.cpp measures before and after. A
peer that is not installed is named in the table, not left out.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import rivals  # noqa: E402
from workloads import WORKLOADS, Workload, rows, start  # noqa: E402

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def measure(name: str, workload: str, threads: int, folder: Path, budget: float) -> dict[str, float]:
    """In a process of its own: one peer on one workload."""
    import resource
    import warnings

    import numpy as np

    warnings.simplefilter("ignore")
    w = WORKLOADS[workload]
    X = rows(w, folder)
    peers = rivals.KMEANS if w.covariance == "kmeans" else rivals.MIXTURES
    run = peers[name](X, w, *start(X, w), threads)
    began = time.perf_counter()
    run(1)  # warm-up: compilation, page faults, threads
    once = time.perf_counter() - began
    extra = int(np.clip(budget / max(once, 1e-3) / 6.0, 1, 20))
    times = []
    for _ in range(3 if once < budget / 6.0 else 1):
        began = time.perf_counter()
        run(1)
        middle = time.perf_counter()
        result = run(1 + extra)
        times.append((time.perf_counter() - middle - (middle - began)) / extra)
    out = {
        "ms": 1e3 * float(np.median(times)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    # The same number of steps for all, so that likelihoods can be compared.
    result = run(4) if once < budget else run(1)
    out["steps"] = 4 if once < budget else 1
    out["quality"] = result / w.rows if w.covariance == "kmeans" else log_likelihood(X[:20_000], w, *result)
    return out


def log_likelihood(X, w: Workload, weights, means, covariances) -> float:
    """Mean log-likelihood of some rows, by scipy."""
    import numpy as np
    from scipy.special import logsumexp
    from scipy.stats import multivariate_normal

    K, D = means.shape
    c = np.asarray(covariances, dtype=np.float64)
    dense = {
        "full": lambda: c,
        "tied": lambda: np.broadcast_to(c, (K, D, D)),
        "diag": lambda: c[:, :, None] * np.eye(D),
        "spherical": lambda: c[:, None, None] * np.eye(D),
    }[w.covariance]()
    try:
        parts = [
            multivariate_normal(np.asarray(m, dtype=np.float64), s).logpdf(X)
            for m, s in zip(means, dense, strict=True)
        ]
    except np.linalg.LinAlgError:
        return float("nan")  # the peer's covariances are singular: its time stands, its likelihood does not
    with np.errstate(divide="ignore"):
        return float(
            logsumexp(np.column_stack(parts) + np.log(np.asarray(weights, dtype=np.float64)), axis=1).mean()
        )


def ceilings(threads: int, folder: Path) -> dict[str, float]:
    """Multiply-adds, exponentials and reads a second."""
    from mixtura import _native

    name = _native.instruction_set()
    flags = {
        "x86-64-v4": ["-march=x86-64-v4", "-DMIXTURA_VECTOR_BYTES=64"],
        "x86-64-v3": ["-march=x86-64-v3", "-DMIXTURA_VECTOR_BYTES=32"],
        "x86-64-v2": ["-march=x86-64-v2", "-DMIXTURA_VECTOR_BYTES=16"],
        "portable": ["-DMIXTURA_VECTOR_BYTES=16"],
    }[name]
    program = folder / "ceilings"
    if not program.exists():
        compiler = os.environ.get("CXX", "g++")
        source = HERE / "ceilings.cpp"
        command = [compiler, "-std=c++17", "-O3", "-ffp-contract=fast", *flags, "-pthread", "-Wno-psabi"]
        include = ["-I", str(HERE.parent / "cpp" / "include")]
        subprocess.run([*command, *include, str(source), "-o", str(program)], check=True)
    out = subprocess.run([str(program), str(threads)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def child(name: str, workload: str, threads: int, folder: Path, budget: float) -> dict[str, float] | None:
    """Measure in a new process; None where the peer fails."""
    env = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    arguments = ["--child", name, "--workloads", workload, "--threads", str(threads)]
    rest = ["--folder", str(folder), "--budget", str(budget)]
    out = subprocess.run(
        [sys.executable, str(HERE / "peers.py"), *arguments, *rest], env=env, capture_output=True, text=True
    )
    if out.returncode:
        print(f"{name} on {workload} failed: {out.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(out.stdout.splitlines()[-1])


def installed(name: str) -> bool:
    return name not in rivals.PACKAGES or importlib.util.find_spec(rivals.PACKAGES[name]) is not None


def compare(w: Workload, names: list[str], threads: int, rounds: int, folder: Path, budget: float) -> dict:
    """All peers on one workload, taking turns; floors around them."""
    import statistics

    # In a process of its own, whose memory would else count as every child's: peaks survive fork and exec.
    draw = (
        f"from workloads import *; rows(WORKLOADS[{w.name!r}], __import__('pathlib').Path({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", draw], cwd=HERE, check=True)
    first = ceilings(threads, folder)
    results: dict[str, list] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            slow = bool(results[name]) and results[name][-1]["ms"] > 2000.0
            if results[name] is not None and installed(name) and not slow:
                r = child(name, w.name, threads, folder, budget)
                results[name] = [*results[name], r] if r else None
    last = ceilings(threads, folder)
    rate = {key: max(first[key], last[key]) for key in first}
    table = []
    for name in names:
        runs = results[name]
        if not runs:
            table.append({"peer": name, "note": "failed" if runs is None else "not installed"})
            continue
        entry = {
            key: statistics.median(r[key] for r in runs) for key in ("ms", "peak_mb", "quality", "steps")
        }
        floor = w.floor(rate, single="float32" in name)
        table.append({"peer": name, **entry, "floor_ms": floor, "times_floor": entry["ms"] / floor})
    x_mb = w.rows * w.dims * 8 / 2**20
    return {"workload": w.title, "name": w.name, "x_mb": x_mb, "ceilings": rate, "peers": table}


def show(result: dict) -> str:
    """One workload's table."""
    kmeans = result["name"].startswith("K")
    ours = next((p["ms"] for p in result["peers"] if p["peer"] == "mixtura" and "ms" in p), None)
    c = result["ceilings"]
    lines = [
        "",
        result["workload"],
        f"measured: {c['fma64'] / 1e9:.0f} GFLOP/s float64, {c['fma32'] / 1e9:.0f} float32, "
        f"{c['exp64'] / 1e9:.2f} Gexp/s, read {c['read'] / 1e9:.1f} GB/s; X has {result['x_mb']:.0f} MB",
        f"{'peer':<18}{'ms/iteration':>13}{'x ours':>9}{'x floor':>9}{'peak RSS, MB':>14}"
        f"{'inertia/row' if kmeans else 'log-likelihood/row':>20}",
    ]
    for p in result["peers"]:
        if "ms" not in p:
            lines.append(f"{p['peer']:<18}{p['note']:>13}")
            continue
        ratio = f"{p['ms'] / ours:.2f}" if ours else "-"
        lines.append(
            f"{p['peer']:<18}{p['ms']:>13.2f}{ratio:>9}{p['times_floor']:>9.2f}{p['peak_mb']:>14.0f}"
            f"{p['quality']:>20.8f}" + ("" if p["steps"] == 4 else f"  ({p['steps']:.0f} step)")
        )
    return "\n".join(lines)


def whole_fit(folder: Path, threads: int, seeds: int, names: list[str], patience: float) -> list[dict]:
    """Fits with default settings from the data alone, ours and scikit-learn's in turn: seconds and likelihood."""
    import statistics

    out = []
    for name in names:
        w = WORKLOADS[name]
        rows(w, folder)
        runs: dict[str, list] = {"mixtura": [], "scikit-learn": []}
        for seed in range(seeds):
            for peer in runs:
                if peer != "mixtura" and sum(r[0] for r in runs[peer]) > patience:
                    continue
                code = (
                    "import sys, time, json, warnings; import numpy as np; warnings.simplefilter('ignore')\n"
                    f"from {'mixtura' if peer == 'mixtura' else 'sklearn.mixture'} import GaussianMixture\n"
                    f"X = np.load({str(folder / (w.name + '.npy'))!r})\n"
                    f"gm = GaussianMixture({w.components}, covariance_type={w.covariance!r}, random_state={seed})\n"
                    "t = time.perf_counter(); gm.fit(X); t = time.perf_counter() - t\n"
                    "print(json.dumps([t, gm.lower_bound_, gm.n_iter_]))"
                )
                env = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
                text = subprocess.run(
                    [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
                )
                runs[peer].append(json.loads(text.stdout))
        medians = {
            peer: [statistics.median(r[i] for r in values) for i in range(3)] for peer, values in runs.items()
        }
        lines = [
            f"\nwhole fit, defaults, {w.title}, {seeds} seeds, medians",
            f"{'peer':<18}{'seconds':>10}{'iterations':>12}{'log-likelihood/row':>20}",
        ]
        for peer, (seconds, bound, n_iter) in medians.items():
            lines.append(
                f"{peer:<18}{seconds:>10.2f}{n_iter:>12.0f}{bound:>20.6f}  ({len(runs[peer])} seeds)"
            )
        ratio = statistics.median(
            b[0] / a[0] for a, b in zip(runs["mixtura"], runs["scikit-learn"], strict=False)
        )
        lines.append(f"scikit-learn takes {ratio:.1f} times as long (median of the pairs)")
        out.append({"workload": w.title, "seeds": seeds, "runs": runs, "medians": medians, "text": lines})
    return out


def machine() -> dict[str, str]:
    model = platform.processor()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": str(os.cpu_count()), "platform": platform.platform()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workloads", default="W1,W2,W5", help="names, or 'all', or nothing (default: W1,W2,W5)"
    )
    parser.add_argument("--peers", help="names (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--budget", type=float, default=6.0, help="seconds for one measurement of a quick peer"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mixtura-benchmarks")
    parser.add_argument("--save", type=Path, help="folder for the results as JSON and text")
    parser.add_argument("--whole-fit", default="", help="also whole fits with defaults on these workloads")
    parser.add_argument("--name", default="peers", help="of the saved files, before the date")
    parser.add_argument("--seeds", type=int, default=5, help="of the whole fits")
    parser.add_argument(
        "--patience", type=float, default=600.0, help="seconds of scikit-learn after which no seed begins"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.child:
        name = options.workloads
        print(json.dumps(measure(options.child, name, options.threads, options.folder, options.budget)))
        return
    names = (
        list(WORKLOADS)
        if options.workloads == "all"
        else options.workloads.split(",")
        if options.workloads
        else []
    )
    report: dict = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "threads": options.threads,
        **machine(),
        "workloads": [],
    }
    text = [
        f"{report['date']}, {report['cpu']}, {options.threads} threads, medians of {options.rounds} rounds"
    ]
    print(text[0])
    for name in names:
        w = WORKLOADS[name]
        peers = list(rivals.KMEANS if w.covariance == "kmeans" else rivals.MIXTURES)
        if options.peers:
            peers = [p for p in peers if p in options.peers.split(",")]
        peers = [p for p in peers if w.covariance in rivals.COVARIANCES.get(p, (w.covariance,))]
        result = compare(w, peers, options.threads, options.rounds, options.folder, options.budget)
        report["workloads"].append(result)
        text.append(show(result))
        print(text[-1], flush=True)
    if options.whole_fit:
        names = options.whole_fit.split(",")
        report["whole_fit"] = whole_fit(
            options.folder, options.threads, options.seeds, names, options.patience
        )
        for result in report["whole_fit"]:
            text.append("\n".join(result.pop("text")))
            print(text[-1], flush=True)
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
        stem = options.save / f"{options.name}-{report['date'][:10]}"
        stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        stem.with_suffix(".txt").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
