"""docs/performance.md from the results that peers.py saved.

python benchmarks/page.py benchmarks/results/peers-DATE.json [more.json ...]

Of a workload that several files have, the last counts; a file with whole fits counts for those alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rivals import OURS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

HEAD = """# Performance

Every figure on this page comes from `benchmarks/peers.py`; this page is made from its results by `benchmarks/page.py`.
Do not edit it. Run them on your machine: times differ, ratios less so.

An iteration is E-step, M-step and all that Python does between them. The **floor** is the least arithmetic
(multiply-adds of triangles and symmetric halves, one exponential a pair) at the rates that this machine reached in the
same run, and at least one read of X: nothing that does the same work can be faster. Likelihoods or inertias after four
steps from one start are beside each time, so that fast but wrong would show (faiss reports the inertia before its last
step). A peer that wins is in the table as well.
"""


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def workload(result: dict) -> list[str]:
    """One workload: a line for each peer, fastest first."""
    rows = [p for p in result["peers"] if "ms" in p]
    absent = [f"{p['peer']}: {p['note']}" for p in result["peers"] if "ms" not in p]
    ours = next(p["ms"] for p in rows if p["peer"] == "mixtura")
    kmeans = result["workload"].endswith("kmeans")
    lines = [
        f"\n### {result['workload']}\n",
        "| | ms / iteration | × ours | × floor | peak MB, at most "
        f"| {'inertia' if kmeans else 'log-likelihood'} / row |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for p in sorted(rows, key=lambda p: p["ms"]):
        name = p["peer"] if p["peer"] not in OURS else f"**{p['peer']}**"
        quality = f"{p['quality']:.6f}" + ("" if p["steps"] == 4 else f" ({p['steps']:.0f} step)")
        lines.append(
            f"| {name} | {p['ms']:.2f} | {ratio(p['ms'] / ours)} | {ratio(p['times_floor'])} | {p['peak_mb']:.0f} "
            f"| {quality} |"
        )
    return lines + ([f"\n{'; '.join(absent)}."] if absent else [])


def summary(results: list[dict]) -> list[str]:
    """One line a workload: ours, the floor, the best of the others."""
    lines = [
        "\n## In short\n",
        "| workload | ms | × floor | nothing skipped, × floor | best of the others | it takes × as long "
        "| float32 is × as fast |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    for result in results:
        peers = {p["peer"]: p for p in result["peers"] if "ms" in p}
        ours = peers["mixtura"]
        others = [p for name, p in peers.items() if name not in OURS]
        best = min(others, key=lambda p: p["ms"]) if others else None
        dense = peers.get("nothing skipped")
        single = peers.get("mixtura float32")
        lines.append(
            f"| {result['workload']} | {ours['ms']:.2f} | {ratio(ours['times_floor'])} "
            f"| {ratio(dense['times_floor']) if dense else ''} | {best['peer'] if best else ''} "
            f"| {ratio(best['ms'] / ours['ms']) if best else ''} "
            f"| {ratio(ours['ms'] / single['ms']) if single else ''} |"
        )
    return lines


def fits(report: dict) -> list[str]:
    lines = [
        "\n## Whole fits\n",
        "Default settings, from the data alone, initialisation included; medians over the seeds.\n",
    ]
    lines += [
        "| workload | | seconds | iterations | log-likelihood / row | seeds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for fit in report["whole_fit"]:
        for peer, (seconds, bound, n_iter) in fit["medians"].items():
            seeds = len(fit["runs"][peer])
            figures = f"{seconds:.2f} | {n_iter:.0f} | {bound:.6f} | {seeds}"
            lines.append(f"| {fit['workload']} | {peer} | {figures} |")
    return lines


def main() -> None:
    reports = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    report = reports[0]
    found = {}
    for other in reports:
        if "whole_fit" not in other:
            found |= {result["name"]: {**result, "date": other["date"]} for result in other["workloads"]}
    results = list(found.values())
    c = report["workloads"][0]["ceilings"]
    lines = [
        HEAD,
        f"{report['date']}, {report['cpu']}, {report['threads']} threads, float64 unless said. Measured in the first "
        f"workload's run: {c['fma64'] / 1e9:.0f} GFLOP/s float64, {c['fma32'] / 1e9:.0f} float32, "
        f"{c['exp64'] / 1e9:.1f} and {c['exp32'] / 1e9:.1f} billion exponentials, {c['read'] / 1e9:.0f} GB a second.",
        *summary(results),
    ]
    for other in reports:
        if "whole_fit" in other:
            lines += fits(other)
    lines.append("\n## Every peer\n")
    lines.append(
        "`nothing skipped` is Mixtura with `MIXTURA_SKIPPING=0`; `mixtura numba` its fallback without a compiler. "
        "`NumPy GEMM` and `torch GEMM` are what a good engineer writes in an afternoon: blocks of rows, features "
        "`[1, x, vech xx']`, one matrix product a half (`benchmarks/rivals.py`)."
    )
    for result in results:
        lines += workload(result)
        if result["date"] != report["date"]:
            lines.append(f"\nMeasured {result['date']}, with more iterations a measurement.")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
