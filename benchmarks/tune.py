"""What the processor's kernels gain or lose with another value of a tuning constant, on this machine.

python benchmarks/tune.py block_rows 64 256
python benchmarks/tune.py tile_accumulators 16 --shapes K4 D33 --rounds 9

The constants are those of cpp/include/mixtura/tuning.hpp. For each value the kernels are built once more, with a copy
of that header in which one number differs, and passes with all builds take turns, on one thread. Printed are processor
times with the present value, the least of several, and the others' ratios to them: below 1 is quicker. A value that
the kernels cannot have is refused by the compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
HEADER = ROOT / "cpp" / "include" / "mixtura" / "tuning.hpp"


class Shape(NamedTuple):
    """A pass: K components of D columns, and what is taken of them."""

    form: str
    K: int
    D: int
    kind: str = "full"
    hard: bool = False
    dtype: str = "f8"
    height: int = 0  # rows of a rectangle
    apart: float = 0.3  # of means, column by column: beyond about 2, most pairs do not count


SHAPES = {
    "K3": Shape("triangle", 3, 3),
    "K16": Shape("triangle", 16, 16),
    "K16f": Shape("triangle", 16, 16, dtype="f4"),
    "K4": Shape("triangle", 4, 21),
    "D33": Shape("triangle", 16, 33),
    "D128": Shape("triangle", 8, 128),
    "diag": Shape("diagonal", 32, 32, "diagonal"),
    "equal": Shape("scalar", 32, 16, "trace"),
    "expert": Shape("rectangle", 4, 21, height=1),
    "hard": Shape("triangle", 16, 16, hard=True),
    "apart": Shape("triangle", 16, 16, apart=3.0),
}


def build(name: str, value: str | None, folder: Path) -> Path:
    """The kernels with a constant's other value, or as they are; the folder that holds the module."""
    text = HEADER.read_text()
    if value is not None:
        text, found = re.subn(rf"(constexpr \w+ {name} = ).*;", rf"\g<1>{value};", text)
        if found != 1:
            known = ", ".join(re.findall(r"constexpr \w+ (\w+) =", text))
            sys.exit(f"no constant {name!r} in {HEADER.name}; known: {known}")
    header = folder / "include" / "mixtura" / HEADER.name
    header.parent.mkdir(parents=True)
    header.write_text(text)
    options = [
        "-DMIXTURA_CUDA=OFF",
        f"-DMIXTURA_TUNING={folder / 'include'}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    pybind11 = [sys.executable, "-m", "pybind11", "--cmakedir"]
    where = subprocess.run(pybind11, check=True, capture_output=True, text=True).stdout.strip()
    cmake = ["cmake", "-S", ROOT, "-B", folder / "build", f"-Dpybind11_DIR={where}", *options]
    for command in (
        cmake,
        ["cmake", "--build", folder / "build", "--target", "_native", "--parallel", str(os.cpu_count())],
    ):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            errors = [line for line in done.stdout.splitlines() if "error" in line]
            sys.exit(f"{name} = {value} does not compile:\n" + "\n".join(errors or [done.stdout]))
    return folder / "build"


def measure(shapes: list[str]) -> None:
    """Prints the seconds of one pass over each shape, as JSON, with the module that is found first."""
    import _native

    seconds = {}
    for shape in shapes:
        p = SHAPES[shape]
        rng = np.random.default_rng(0)
        N = max(int(2e8 / (p.K * p.D * (p.D + 8))), 20_000)
        means = p.apart * rng.normal(size=(p.K, p.D))
        X = (means[rng.integers(0, p.K, N)] + rng.normal(size=(N, p.D))).astype(p.dtype)
        factors = {
            "scalar": np.ones(1),
            "diagonal": np.ones((p.K, p.D)),
            "triangle": np.tile(np.eye(p.D), (p.K, 1, 1)),
            "rectangle": rng.normal(size=(p.K, p.height, p.D)) / np.sqrt(p.D),
        }[p.form]
        quadratics = _native.Quadratics(p.form, np.zeros(p.K), means, factors, None)
        table, pivot, single = _native.Table(X, None), X.mean(axis=0, dtype=np.float64), p.dtype == "f4"
        times = []
        for _ in range(6):
            start = time.process_time()
            _native.expect(table, quadratics, np.zeros(p.K), p.kind, pivot, None, p.hard, single, 1)
            times.append(time.process_time() - start)
        seconds[shape] = min(times)
    print(json.dumps(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a constant of tuning.hpp")
    parser.add_argument("values", nargs="+", help="other values for it, as C++ writes them")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each build")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        builds = [
            build(options.name, v, Path(folder) / f"{i}") for i, v in enumerate([None, *options.values])
        ]
        times: list[list[dict[str, float]]] = [[] for _ in builds]
        code = f"import tune; tune.measure({options.shapes!r})"
        for _ in range(options.rounds):
            for own, where in zip(times, builds, strict=True):
                paths = os.pathsep.join([str(where), str(Path(__file__).parent)])
                run = [sys.executable, "-c", code]
                out = subprocess.run(
                    run, env={**os.environ, "PYTHONPATH": paths}, check=True, capture_output=True, text=True
                )
                own.append(json.loads(out.stdout))
    print(f"{options.name:<12}{'present':>12}" + "".join(f"{value:>12}" for value in options.values))
    for shape in options.shapes:
        first, *others = (min(run[shape] for run in own) for own in times)
        print(f"{shape:<12}{first * 1e3:>9.2f} ms" + "".join(f"{other / first:>12.3f}" for other in others))


if __name__ == "__main__":
    main()
