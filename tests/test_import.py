"""What an import costs, and what a missing compiler leaves."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mixtura

ROOT = Path(__file__).parents[1]


def python(code, **env):
    out = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    return out.stdout


def test_import_brings_no_heavy_packages():
    """None that scikit-learn does not bring itself (it imports pandas where that is installed)."""
    heavy = ("torch", "numba", "pandas", "matplotlib", "dask", "pyarrow", "rich", "jax", "cupy")
    code = f"import {{}}; import sys; print([m for m in {heavy!r} if m in sys.modules])"
    ours = python(code.format("mixtura"))
    try:
        theirs = python(code.format("sklearn.base, sklearn.callback"))
    except subprocess.CalledProcessError:  # a scikit-learn without callbacks
        theirs = python(code.format("sklearn.base"))
    assert set(ast.literal_eval(ours)) <= set(ast.literal_eval(theirs))
    assert not {"torch", "numba", "matplotlib"} & set(ast.literal_eval(ours))


def test_import_is_quick():
    """Not much longer than scikit-learn's own mixtures take: 0.25 s more, or a quarter more on a machine that takes
    over 1 s for these; the best of five, as noise only adds."""
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    times = [[float(python(code.format(name))) for name in ("mixtura", "sklearn.mixture")] for _ in range(5)]
    ours, theirs = (min(column) for column in zip(*times, strict=True))
    assert ours - theirs < 0.25 * max(theirs, 1.0)


def test_show_config(capsys):
    mixtura.show_config()
    out = capsys.readouterr().out
    for word in (
        "backends (auto =",
        "native",
        "numba",
        "reference",
        "threads",
        "BLAS",
        "numpy",
        "scikit-learn",
    ):
        assert word in out
    if mixtura.backends.available()["native"]:
        assert "skipping         on" in out
        assert "instruction set  x86-64-v" in out or "instruction set  portable" in out


def test_available_gives_reasons():
    for name, (ok, reason) in mixtura.backends.available().items():
        assert isinstance(ok, bool), name
        assert reason, name
    with pytest.raises(ValueError, match="unknown backend 'abacus'"):
        mixtura.backends.create("abacus")


def test_instruction_set_from_the_environment(require):
    require("native")
    code = "from mixtura import _native; print(_native.instruction_set())"
    from mixtura import _native

    worst = _native.instruction_sets()[-1]
    assert python(code, MIXTURA_INSTRUCTION_SET=worst).strip() == worst


@pytest.mark.slow
def test_without_a_compiler_the_package_installs_and_says_so(tmp_path):
    """A wheel of Python alone; 'auto' falls back, show_config tells why and what to do."""
    pytest.importorskip("scikit_build_core")
    source = tmp_path / "source"
    keep = ("src", "cpp", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE")
    source.mkdir()
    for name in keep:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(path, source / name)
    env = {**os.environ, "CXX": str(tmp_path / "no-compiler"), "CC": str(tmp_path / "no-compiler")}
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(source),
        ],
        env=env,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-none-any.whl")
    with zipfile.ZipFile(wheel) as file:
        assert not [n for n in file.namelist() if n.endswith(".so")]
        file.extractall(tmp_path / "site")
    code = (
        "import json, numpy as np, mixtura; from mixtura.config import config;"
        "c = config(); X = np.random.default_rng(0).normal(size=(200, 2));"
        "gm = mixtura.GaussianMixture(2, random_state=0).fit(X);"
        "print(json.dumps([mixtura.__file__, c['backends']['native'], c['auto'], gm.backend_, gm.lower_bound_]))"
    )
    where, native, auto, used, bound = json.loads(python(code, PYTHONPATH=str(tmp_path / "site")))
    assert where.startswith(str(tmp_path))
    assert native["available"] is False
    assert "install a C++17 compiler" in native["reason"]
    assert auto == used != "native"
    X = np.random.default_rng(0).normal(size=(200, 2))
    want = mixtura.GaussianMixture(2, random_state=0, backend="reference").fit(X).lower_bound_
    assert bound == pytest.approx(want, rel=1e-9)


def test_modules_that_only_some_need_are_there_when_named():
    script = (
        "import sys, mixtura; "
        "assert not any(m in sys.modules for m in ('mixtura.plotting', 'mixtura.mixturelib', 'torch')); "
        "mixtura.plotting.MixtureDisplay; mixtura.data.read_table; "
        "assert 'plotting' in dir(mixtura)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    import mixtura

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mixtura.nonsense  # noqa: B018
