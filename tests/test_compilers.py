"""The C++ core by other compilers and for other processors, as far as these are at hand (``make test-compilers``)."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists(), reason="the C++ sources are not here"),
]


def cmake():
    beside = Path(sys.executable).with_name("cmake")
    found = str(beside) if beside.exists() else shutil.which("cmake")
    return found or pytest.skip("cmake is not installed")


def built(folder, *settings, **environment):
    """The tests of the C++ core, built with warnings as errors."""
    run = {"check": True, "env": {**os.environ, **environment}, "capture_output": True, "text": True}
    options = ["-DMIXTURA_PYTHON=OFF", "-DMIXTURA_TESTS=ON", "-DMIXTURA_WERROR=ON", *settings]
    try:
        subprocess.run([cmake(), "-S", ROOT, "-B", folder, *options], **run)
        subprocess.run([cmake(), "--build", folder, "--parallel", "2"], **run)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error.stdout[-4000:]}\n{error.stderr[-4000:]}")
    return folder / "kernels_test"


def with_zig(target, folder, *settings):
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("neither clang++ nor the package ziglang, which holds clang, is installed")
    tools = ROOT / "tests" / "cpp"
    compiler = [f"-DCMAKE_CXX_COMPILER={tools / 'zig_c++'}", f"-DCMAKE_AR={tools / 'zig_ar'}"]
    zig = {"ZIG_TARGET": target, "ZIG_PYTHON": sys.executable, "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    return built(folder, *compiler, "-DCMAKE_RANLIB=/bin/true", *settings, **zig)


def passes(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.skipif(sys.platform != "linux", reason="the compilers are asked for Linux")
def test_clang(tmp_path):
    """All instruction sets of this processor, by clang."""
    found = shutil.which("clang++")
    if found:
        program = built(tmp_path, f"-DCMAKE_CXX_COMPILER={found}")
    else:
        program = with_zig(f"{platform.machine()}-linux-gnu.2.28", tmp_path)
    passes(program)


@pytest.mark.parametrize("target", ["x86_64-windows-gnu", "aarch64-macos"])
def test_other_systems(target, tmp_path):
    """The C++ core at least compiles for systems that are not here."""
    system = {"windows": "Windows", "macos": "Darwin"}[target.split("-")[1]]
    processor = target.split("-")[0].replace("x86_64", "AMD64").replace("aarch64", "arm64")
    settings = [f"-DCMAKE_SYSTEM_NAME={system}", f"-DCMAKE_SYSTEM_PROCESSOR={processor}"]
    with_zig(target, tmp_path, *settings)


def test_aarch64(tmp_path):
    """The portable kernels on another processor: emulated, unless this is one."""
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if platform.machine() in ("aarch64", "arm64") or emulator is None:
        pytest.skip("qemu-aarch64 is not installed, or this is such a processor")
    target = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    program = with_zig(
        "aarch64-linux-musl", tmp_path, *target, "-DCMAKE_EXE_LINKER_FLAGS=-static", "-DMIXTURA_TESTS=ON"
    )
    passes(emulator, program)
