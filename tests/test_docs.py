"""The examples in docstrings run, and say what they print; the examples folder runs."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mixtura

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(mixtura.__path__, "mixtura.") if "__main__" not in m.name
)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, require):
    if name.endswith(("_native", "backends.native", "backends.native_derivatives", "backends.numba")):
        require("numba" if name.endswith("numba") else "native")
    if name == "mixtura.torch":
        pytest.importorskip("torch")
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def test_public_names_have_docstrings_with_examples():
    for name in mixtura.__all__:
        thing = getattr(mixtura, name)
        if callable(thing):
            assert ">>>" in thing.__doc__, name


def blocks_of(page):
    """The Python code of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if blocks_of(page) and page.name != "extending.md"  # which test_extension.py runs
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_say_what_happens(page, capsys, monkeypatch, tmp_path):
    """Each line that prints has what it prints in a comment beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "out").mkdir()
    code = "\n".join(blocks_of(page))
    exec(compile(code, page.name, "exec"), {"__name__": "page"})
    wanted = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    if page.name != "README.md":
        assert wanted
        assert capsys.readouterr().out.splitlines() == wanted


def test_million_rows_example_runs_small():
    out = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "million_rows.py"), "--rows", "20000", "--columns", "4"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rows per second and iteration" in out.stdout
    assert "rows/s" in out.stderr or "Iteration" in out.stdout


@pytest.mark.parametrize(
    ("name", "says", "pictures"),
    [
        ("two_planes", ["2: BIC 1443.7", "log-likelihood -704.41265", "log-likelihood -702.55335"], 2),
        ("carbon_dioxide", ["BIC 157.20", "CAN MEX USA AUS NOR TUR"], 3),
    ],
)
def test_examples_of_experts(name, says, pictures, tmp_path):
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--out", str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    for text in says:
        assert text in out.stdout
    drawn = sorted(tmp_path.glob("*.png"))
    assert len(drawn) == pictures
    assert all(p.stat().st_size > 10_000 for p in drawn)
