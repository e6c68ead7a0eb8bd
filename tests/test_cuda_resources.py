"""What the CUDA compiler makes of the kernels: nothing spills, and blocks fit a multiprocessor. Needs nvcc, no GPU."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The oldest and the newest generation that has machine code of its own, the first with bfloat16 tensor cores, and
# Hopper with the instructions that it alone has.
ARCHITECTURES = ("75", "80", "90", "90a")

# The same everywhere: registers of a multiprocessor.
REGISTERS = 65536

# Kernels that a pass spends its time in: their threads, and the blocks that must fit a multiprocessor at once.
HOT = {
    "EvaluateFactors<float, 8>": (256, 1),
    "EvaluateFactors<float, 4>": (256, 1),
    "EvaluateElementwise<float>": (128, 3),
    "NormalizeWide<3, 128>": (512, 2),
    "WideRows<3>": (256, 3),
    "InverseCholeskys": (256, 3),
    "AddLinear<float>": (128, 4),
    "EvaluateFactorsFast": (256, 1),
    "AccumulateDense<float, 8>": (128, 2),
    "AccumulateDense<float, 32>": (128, 2),
    "AccumulateDense<float, 128>": (256, 1),
    "AccumulateFast": (256, 1),
    "AccumulateSorted<float>": (128, 4),
    "AccumulateListed<float>": (128, 4),
    "NormalizeSoft<float>": (256, 4),
    "Nearest<float>": (256, 1),
    "EvaluateFactors<double, 8>": (256, 1),
    "AccumulateDense<double, 128>": (256, 1),
    "Nearest<double>": (256, 1),
    "EvaluateWide<3, 1>": (384, 1),
    "EvaluateWide<2, 2>": (384, 1),
    "AccumulateWide<3, 128>": (384, 1),
    "AccumulateWide<2, 128>": (384, 1),
    "AccumulateWide<3, 64>": (384, 1),
    "NearestWide<2>": (384, 1),
}


def report(architecture, folder):
    """Registers, bytes spilled and bytes of static shared memory of each kernel, and all that the compiler says."""
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    out = subprocess.run(
        [
            *(nvcc, "-std=c++17", "-O3", f"-gencode=arch=compute_{architecture},code=sm_{architecture}"),
            *("-Xptxas", "-v", "-cubin"),
            *("-I", ROOT / "cuda" / "include", "-I", ROOT / "cpp" / "include"),
            *(ROOT / "cuda" / "src" / "device_table.cu", "-o", folder / f"{architecture}.cubin"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    text = subprocess.run(
        ["c++filt"], input=out.stdout + out.stderr, check=True, capture_output=True, text=True
    )
    found = {}
    for entry in text.stdout.split("Compiling entry function ")[1:]:
        if "probe_warpgroups" in entry.splitlines()[0]:
            continue
        name = re.search(r"run(?:_wide)?<mixtura::cuda::(.*?)\s*>\(mixtura::cuda::", entry)
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", entry)
        registers = re.search(r"Used (\d+) registers", entry)
        shared = re.search(r"(\d+) bytes smem", entry)
        assert name, entry.splitlines()[0]
        found[name[1]] = (
            int(registers[1]),
            int(spilled[1]) + int(spilled[2]),
            int(shared[1]) if shared else 0,
        )
    return found, text.stdout


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_spills(architecture, tmp_path):
    found, text = report(architecture, tmp_path)
    assert set(HOT) <= set(found)
    assert {name: spilled for name, (_, spilled, _) in found.items() if spilled} == {}
    for name, (threads, blocks) in HOT.items():
        registers = -(-found[name][0] // 8) * 8  # they are given out by eights
        assert registers * threads * blocks <= REGISTERS, (name, registers)
    assert all(shared <= 48 * 1024 for _, _, shared in found.values())
    # Products by warpgroups that wait for one another where they need not.
    assert "serialized" not in text
