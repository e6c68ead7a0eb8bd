"""Read damaged model files: none may crash, hang, or take memory beyond the file's size.

    python tools/fuzz_models.py [--mutations 100000] [--seed 0]

Files of all kinds are changed at random: bytes flipped, cut out, repeated, numbers in the header replaced; checkpoints
also with a digest that fits. Each must load, or raise ModelFileError (CheckpointError, for checkpoints), within a
second, in an address space that has little room left. What fails is kept in the present folder.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

import mixtura
from mixtura.checkpoints import _HEAD, Checkpoint, CheckpointError
from mixtura.many import ManyMixtures
from mixtura.persistence import ModelFileError

ROOM = 256 << 20  # bytes that a process may take beyond what it has
LONGEST = 1.0  # seconds


def read_checkpoint(path):
    """Open a checkpoint of any fit."""
    Checkpoint.open(path, {}, 1e9, 0).close()


def examples(folder):
    """Small files of every kind, each with what reads it."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 5.0])
    models = {
        "gm.safetensors": mixtura.GaussianMixture(2, random_state=0),
        "tied.json": mixtura.GaussianMixture(2, covariance_type="tied", random_state=0),
        "kmeans.safetensors": mixtura.KMeans(2, random_state=0),
    }
    for name, model in models.items():
        mixtura.save(model.fit(X), folder / name)
        yield folder / name, mixtura.load
    experts = mixtura.MixtureOfExperts(2, gate="softmax", random_state=0).fit(X[:, :1], X[:, 1])
    mixtura.save(experts, folder / "experts.safetensors")
    yield folder / "experts.safetensors", mixtura.load
    mixtura.fit_many(X, np.arange(120) % 3, 2).save(folder / "many.safetensors")
    yield folder / "many.safetensors", ManyMixtures.load
    mixtura.GaussianMixture(2, random_state=0).fit(X, checkpoint=folder / "checkpoint")
    yield folder / "checkpoint", read_checkpoint


def mutated(content, rng):
    """The content with one to four random changes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at, kind = int(rng.integers(len(data) or 1)), rng.integers(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.integers(8)
        elif kind == 1 and data:
            data[at] = rng.integers(256)
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 64))]
        elif kind == 3:
            data[at:at] = data[at : at + int(rng.integers(1, 64))]
        elif kind == 4:
            data[at:at] = rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8).tobytes()
        else:  # a number of the text, which may be a size
            numbers = list(re.finditer(rb"\d+", bytes(data[:4096])))
            if numbers:
                found = numbers[int(rng.integers(len(numbers)))]
                size = [b"0", b"-1", b"4294967296", b"999999999999999", b"1e308", b"NaN"][
                    int(rng.integers(6))
                ]
                data[found.start() : found.end()] = size
    return bytes(data)


def with_digest(content):
    """A damaged checkpoint whose digest says that it is whole."""
    body = content[len(_HEAD) + 32 :]
    return _HEAD + hashlib.sha256(body).digest() + body


def main():
    """See the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng, results, slowest, failures = np.random.default_rng(options.seed), Counter(), 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [(path, path.read_bytes(), read) for path, read in examples(folder)]
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        for i in range(options.mutations):
            path, content, read = files[i % len(files)]
            damaged = folder / f"damaged{path.suffix}"
            changed = mutated(content, rng)
            damaged.write_bytes(with_digest(changed) if path.name == "checkpoint" and i % 4 else changed)
            began = time.perf_counter()
            try:
                read(damaged)
                results[path.name, "read"] += 1
            except (ModelFileError, CheckpointError):
                results[path.name, "refused"] += 1
            except BaseException as error:
                failures += 1
                results[path.name, type(error).__name__] += 1
                kept = Path(f"fuzz-{options.seed}-{i}{path.suffix}")
                kept.write_bytes(damaged.read_bytes())
                print(f"{path.name}: {type(error).__name__}: {error} ({kept})")
            slowest = max(slowest, time.perf_counter() - began)
            damaged.unlink(missing_ok=True)
    for (file, what), count in sorted(results.items()):
        print(f"{file:<22} {what:<10} {count}")
    print(f"{options.mutations} mutations, {failures} failures, slowest {slowest * 1e3:.0f} ms")
    sys.exit(bool(failures or slowest > LONGEST))


if __name__ == "__main__":
    main()
