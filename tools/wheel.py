"""Build the source distribution and a wheel, and test the wheel as its users have it.

    python tools/wheel.py [--out dist] [--skip-tests]

The wheel is built from the source distribution, repaired and checked by auditwheel, and installed into a fresh
environment in which no compiler and no source tree can be found. There the README's examples, the command line and the
quick tests run, the latter from the source distribution. Times and sizes are printed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LARGEST = 4_000_000  # bytes of a wheel

# Tests that need neither a compiler nor the repository, and take a minute or two.
QUICK = [
    f"test_{name}.py"
    for name in (
        *(
            "backends",
            "cli",
            "data",
            "density",
            "em",
            "gates",
            "gaussian_mixture",
            "headers",
            "interop",
            "kmeans",
            "known",
        ),
        *("many", "moments", "persistence", "progress", "seeding", "table", "validation"),
    )
]

README_EXAMPLES = """
import re, pathlib, sys
text = pathlib.Path(sys.argv[1]).read_text()
names = {}
for block in re.findall(r"```python\\n(.*?)```", text, re.S):
    exec(compile(block, "README.md", "exec"), names)
print("README: all Python blocks ran")
"""


def run(*command: object, **how: object) -> str:
    """Run a command, show it, and return what it printed."""
    print("+", *command, flush=True)
    done = subprocess.run(
        [str(c) for c in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-6000:]}\nexit code {done.returncode}")
    return done.stdout


def build(out: Path) -> tuple[Path, Path]:
    """The source distribution, and the repaired wheel that is built from it."""
    shutil.rmtree(out, ignore_errors=True)
    raw = out / "raw"
    raw.mkdir(parents=True)
    began = time.perf_counter()
    run(sys.executable, "-m", "build", "--sdist", "--outdir", out, ROOT)
    print(f"source distribution: {time.perf_counter() - began:.0f} s")
    (sdist,) = out.glob("*.tar.gz")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (source,) = Path(folder).iterdir()
        required = {**os.environ, "MIXTURA_REQUIRE_KERNELS": "1"}
        run(sys.executable, "-m", "build", "--wheel", "--outdir", raw, source, env=required)
    print(f"wheel from the source distribution: {time.perf_counter() - began:.0f} s")
    (wheel,) = raw.glob("*.whl")
    if sys.platform == "linux":
        print(run(sys.executable, "-m", "auditwheel", "show", wheel))
        run(sys.executable, "-m", "auditwheel", "repair", "--strip", "--wheel-dir", out, wheel)
        (wheel,) = out.glob("*.whl")
    else:
        wheel = Path(shutil.copy(wheel, out))
    shutil.rmtree(raw)
    print(run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel))
    for path in (sdist, wheel):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    if wheel.stat().st_size > LARGEST:
        sys.exit(f"{wheel.name} is larger than {LARGEST / 1e6} MB")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith((".so", ".pyd", ".dylib")):
                print(f"  {entry.filename}: {entry.file_size / 1e6:.2f} MB")
    return sdist, wheel


def test(sdist: Path, wheel: Path) -> None:
    """Install the wheel where there is no compiler and no source, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(sys.executable, "-m", "venv", place / "env")
        binaries = place / "env" / ("Scripts" if os.name == "nt" else "bin")
        # On the path are this environment and what any shell has: no compiler, no other Python.
        shell = place / "shell"
        shell.mkdir()
        for name in ("bash", "sh", "cat", "head"):
            if found := shutil.which(name):
                (shell / name).symlink_to(found)
        alone = {k: v for k, v in os.environ.items() if not re.match(r"PYTHON|CC$|CXX$|CMAKE|MIXTURA", k)}
        alone |= {"PATH": os.pathsep.join([str(binaries), str(shell)]), "HOME": str(place)}
        how = {"cwd": place, "env": alone}
        python = binaries / "python"
        run(
            python,
            "-m",
            "pip",
            "install",
            "--only-binary",
            ":all:",
            f"{wheel.resolve()}[io,plot,progress]",
            **how,
        )
        print(run(binaries / "mixtura", "config", **how))
        with tarfile.open(sdist) as archive:
            archive.extractall(place, filter="data")
        (source,) = place.glob("mixtura-*")
        (place / "examples.py").write_text(README_EXAMPLES)
        print(run(python, "examples.py", source / "README.md", **how))
        data = source / "data" / "faithful.csv"
        run(binaries / "mixtura", "fit", data, "-k", "2", "-o", "model", "--plot", "p.png", "-q", **how)
        print(run(binaries / "mixtura", "predict", "model", data, "-o", "labels.csv", "--proba", **how))
        run(python, "-m", "pip", "install", "pytest>=8", "hypothesis", "mpmath", "pandas", **how)
        shutil.rmtree(source / "src")  # the tests are to find the installed package
        tests = [source / "tests" / name for name in QUICK]
        began = time.perf_counter()
        out = run(
            python,
            "-m",
            "pytest",
            "-q",
            "--require-backend",
            "native",
            "-p",
            "no:cacheprovider",
            *tests,
            **how,
        )
        print(out.splitlines()[-1], f"({time.perf_counter() - began:.0f} s)")


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    sdist, wheel = build(options.out)
    if not options.skip_tests:
        test(sdist, wheel)


if __name__ == "__main__":
    main()
