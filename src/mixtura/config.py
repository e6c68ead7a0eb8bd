"""Which backends, packages and processor features are available, and why others are not."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import threadpoolctl

from mixtura import backends, threads
from mixtura._version import __version__

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "threadpoolctl",
    "safetensors",
    "numba",
    "pyarrow",
    "matplotlib",
    "rich",
    "torch",
    "cupy-cuda13x",
)


def config() -> dict[str, Any]:
    """Backends, instruction set, threads, BLAS and versions, as a dictionary.

    Returns
    -------
    dict
        ``backends`` maps each name to whether it is available and the reason; ``auto`` is the backend that 'auto'
        chooses.
    """
    available = backends.available()
    instruction_sets = None
    if available["native"]:
        from mixtura import _native

        instruction_sets = {
            "in use": _native.instruction_set(),
            "available": _native.instruction_sets(),
            "skipping": _native.skipping(),
        }
    blas = {
        (lib["internal_api"], lib.get("version"), lib.get("architecture"), lib["num_threads"])
        for lib in threadpoolctl.threadpool_info()
        if lib["user_api"] == "blas"
    }
    return {
        "mixtura": __version__,
        "backends": {name: {"available": ok, "reason": reason} for name, (ok, reason) in available.items()},
        "auto": backends.automatic(),
        "instruction_sets": instruction_sets,
        "threads": {
            "limit": threads.thread_limit(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "processors": os.cpu_count(),
        },
        "blas": [
            {"name": name, "version": version, "architecture": architecture, "threads": n}
            for name, version, architecture, n in sorted(blas, key=str)
        ],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def show_config() -> None:
    """Print which backends are available and why, the instruction set, threads, BLAS and versions.

    Examples
    --------
    >>> import mixtura
    >>> mixtura.show_config()  # doctest: +ELLIPSIS
    mixtura ...
    """
    sys.stdout.write(format_config(config()) + "\n")


def format_config(c: dict[str, Any]) -> str:
    """Format :func:`config` as text."""
    lines = [f"mixtura {c['mixtura']}", "", f"backends (auto = {c['auto']})"]
    for name, b in c["backends"].items():
        lines.append(f"  {name:<10} {'yes' if b['available'] else 'no '}  {b['reason']}")
    sets = c["instruction_sets"]
    if sets:
        lines += ["", f"instruction set  {sets['in use']} (of {', '.join(sets['available'])})"]
        lines.append(f"skipping         {'on' if sets['skipping'] else 'off (MIXTURA_SKIPPING=0)'}")
    t = c["threads"]
    lines.append(
        f"threads          {t['limit']} (OMP_NUM_THREADS={t['OMP_NUM_THREADS'] or 'unset'}, "
        f"{t['processors']} processors)"
    )
    for b in c["blas"]:
        lines.append(
            f"BLAS             {b['name']} {b['version']} {b['architecture']}, {b['threads']} threads"
        )
    lines += ["", f"python {c['python']} on {c['platform']}"]
    lines += [f"  {name:<14} {version or 'not installed'}" for name, version in c["versions"].items()]
    return "\n".join(lines)
