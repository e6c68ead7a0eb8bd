"""Time the benchmarks of benchmarks/suite on two commits, in turns, and print ratios.

    python tools/bench_compare.py BASE [--head HEAD] [--match REGEX] [--rounds 5]

Each commit is built into a folder of its own. The two take turns, benchmark by benchmark, so that a machine that gets
slower for a while slows both; the least time of each counts. A ratio above 1 says that HEAD is slower. Ratios within a
tenth of 1 are noise on most machines.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODULES = ("suite.fits",)
LEAST = 0.2  # seconds for which a benchmark is repeated in one turn


def benchmarks() -> list[tuple[str, str, tuple[object, ...]]]:
    """Name of the module, of the benchmark, and its parameters."""
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        for thing in vars(module).values():
            if inspect.isclass(thing) and thing.__module__ == name:
                params = getattr(thing, "params", [])
                axes = (
                    params if params and isinstance(params[0], list | tuple) else [params] if params else []
                )
                for method in vars(thing):
                    if method.startswith("time_"):
                        found += [
                            (name, f"{thing.__name__}.{method}", chosen)
                            for chosen in itertools.product(*axes)
                        ]
            elif inspect.isfunction(thing) and thing.__name__.startswith("time_"):
                found.append((name, thing.__name__, ()))
    return found


def serve() -> None:
    """Answer with the least time of each benchmark that is named on standard input, or with all names for null."""
    for line in sys.stdin:
        request = json.loads(line)
        if request is None:
            print(
                json.dumps([(module, name, repr(chosen)) for module, name, chosen in benchmarks()]),
                flush=True,
            )
            continue
        module, name, place = request
        (parameters,) = [p for m, n, p in benchmarks() if [m, n, repr(p)] == [module, name, place]]
        owner, _, method = name.rpartition(".")
        thing = getattr(importlib.import_module(module), owner)() if owner else None
        call = getattr(thing, method) if owner else getattr(importlib.import_module(module), method)
        try:
            if hasattr(thing, "setup"):
                thing.setup(*parameters)
            least, began = float("inf"), time.perf_counter()
            while time.perf_counter() - began < LEAST:
                start = time.perf_counter()
                call(*parameters)
                least = min(least, time.perf_counter() - start)
            if hasattr(thing, "teardown"):
                thing.teardown(*parameters)
        except Exception as error:
            least = repr(error)
        print(json.dumps(least), flush=True)


def built(commit: str, folder: Path) -> Path:
    """The package of a commit, installed into a folder."""
    tree, target = folder / "tree", folder / "package"
    run = {"check": True, "cwd": ROOT, "stdout": subprocess.DEVNULL}
    subprocess.run(["git", "worktree", "add", "--detach", tree, commit], stderr=subprocess.DEVNULL, **run)
    try:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, tree]
        subprocess.run(install, env={**os.environ, "CMAKE_ARGS": "-DMIXTURA_CUDA=OFF"}, **run)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], **run)
    return target


class Worker:
    """A process with one commit's package."""

    def __init__(self, package: Path) -> None:
        paths = [str(package), str(ROOT / "benchmarks")]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def ask(self, request: list[str] | None) -> Any:
        """Seconds of a benchmark, or the error; for None, all benchmarks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.terminate()


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?")
    parser.add_argument("--head", default="HEAD")
    parser.add_argument("--match", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.base is None:
        parser.error("which commit is the base?")
    with tempfile.TemporaryDirectory() as folder:
        packages = [
            built(commit, Path(folder) / name) for name, commit in (("a", options.base), ("b", options.head))
        ]
        workers = [Worker(package) for package in packages]
        print(f"{'benchmark':<70} {'base':>10} {'head':>10} {'head/base':>10}")
        ratios = []
        for benchmark in workers[1].ask(None):
            label = benchmark[1] + benchmark[2]
            if not re.search(options.match, label):
                continue
            times = [[worker.ask(benchmark) for worker in workers] for _ in range(options.rounds)]
            errors = [t for pair in times for t in pair if isinstance(t, str)]
            if errors:
                print(f"{label:<70} {errors[0]}")
                continue
            base, head = (min(pair[i] for pair in times) for i in (0, 1))
            ratios.append(head / base)
            print(f"{label:<70} {base * 1e3:>8.2f}ms {head * 1e3:>8.2f}ms {head / base:>10.2f}", flush=True)
        for worker in workers:
            worker.close()
    if ratios:
        ordered = sorted(ratios)
        print(f"median {ordered[len(ordered) // 2]:.2f}, least {ordered[0]:.2f}, largest {ordered[-1]:.2f}")


if __name__ == "__main__":
    main()
