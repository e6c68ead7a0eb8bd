"""Sums of the kernels' inner loops stay in registers: one that is carried through memory takes three times as long."""

import platform
import re
import shutil
import subprocess

import pytest

from mixtura import _native

INSTRUCTION = re.compile(r"\s+([0-9a-f]+):\s+(.*?)\s*(?:#.*)?$")
STACK = re.compile(r"(-?(?:0x[0-9a-f]+)?\(%r[sb]p\))")

# Multiply-adds of the loops that are looked at. The numbers of a derivative within a derivative are too many for
# registers, and their loops are longer.
SUMS = range(8, 33)


def inner_loops(path):
    """Instructions of the loops that hold no other loop. Functions need no names, which installed modules lack."""
    command = ["objdump", "-d", "--no-show-raw-insn", path]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    body = [(int(m[1], 16), m[2]) for m in map(INSTRUCTION.match, lines) if m]
    place = {address: i for i, (address, _) in enumerate(body)}
    latest = -1  # where the latest of the loops that have ended begins
    for end, (_, text) in enumerate(body):
        jump = re.match(r"j\w+\s+([0-9a-f]+)", text)
        begin = place.get(int(jump[1], 16)) if jump else None
        if begin is not None and begin <= end:
            if latest < begin:
                yield [text for _, text in body[begin : end + 1]]
            latest = max(latest, begin)


def carried(loop):
    """How many sums an iteration reads from the stack and writes back."""
    read, written_by, found = set(), {}, 0
    for text in loop:
        slot = STACK.search(text)
        target = text.split(",")[-1].strip()
        if slot and target == slot[1]:
            source = re.search(r"%[xyz]mm\d+", text)
            found += bool(source) and slot[1] in read and written_by.get(source[0], "").startswith("vfm")
        else:
            if slot:
                read.add(slot[1])
            written_by[target] = text
    return found


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86-64 instructions")
def test_inner_loops_keep_their_sums_in_registers():
    if shutil.which("objdump") is None:
        pytest.skip("needs objdump, of GNU binutils")
    seen, bad = 0, []
    for loop in inner_loops(_native.__file__):
        sums = sum(text.startswith("vfm") for text in loop)
        if sums in SUMS and len(loop) <= 5 * sums:
            seen += 1
            if carried(loop):
                bad.append("\n".join(loop))
    assert seen > 100
    assert not bad, "\n\n".join(bad)
