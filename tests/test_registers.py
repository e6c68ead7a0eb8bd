"""Sums of the kernels' inner loops stay in registers: one that is carried through memory takes three times as long."""

import platform
import re
import shutil
import subprocess

import pytest

from mixtura import _native

INSTRUCTION = re.compile(r"\s+([0-9a-f]+):\s+(.*?)\s*(?:#.*)?$")
STACK = re.compile(r"(-?(?:0x[0-9a-f]+)?\(%r[sb]p\))")


def functions(path):
    """Names and instructions, by address, of all functions."""
    command = ["objdump", "-d", "-C", "--no-show-raw-insn", path]
    name, body = None, []
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        if begins := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            if name:
                yield name, body
            name, body = begins[1], []
        elif instruction := INSTRUCTION.match(line):
            body.append((int(instruction[1], 16), instruction[2]))
    yield name, body


def inner_loops(body):
    """Instructions of the loops that hold no other loop."""
    place = {address: i for i, (address, _) in enumerate(body)}
    loops = []
    for i, (_, text) in enumerate(body):
        jump = re.match(r"j\w+\s+([0-9a-f]+)", text)
        begin = place.get(int(jump[1], 16)) if jump else None
        if begin is not None and begin <= i:
            loops.append((begin, i))
    for begin, end in loops:
        if not any(begin <= b and e <= end for b, e in loops if (b, e) != (begin, end)):
            yield [text for _, text in body[begin : end + 1]]


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
    for name, body in functions(_native.__file__):
        if not re.search(r"::v[34]_(float|double)::", name) or "Dual" in name:
            continue  # the numbers of a derivative within a derivative are too many for registers
        for loop in inner_loops(body):
            sums = sum(text.startswith("vfm") for text in loop)
            if sums >= 8 and len(loop) <= 5 * sums:
                seen += 1
                if carried(loop):
                    bad.append(f"{carried(loop)} of {sums} in {name.split('(')[0]}")
    assert seen > 100
    assert not bad, "\n".join(bad)
