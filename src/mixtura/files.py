"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable


def write_whole(path: str | os.PathLike[str], write: Callable[[str], object]) -> None:
    """Have ``write`` make a file beside ``path``, then move it there.

    Symbolic links are followed. What is there and not a regular file (a device, a pipe) is written to directly.

    Parameters
    ----------
    path : path-like
    write : callable
        Gets the name of the file to make.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        write(target)
        return
    partial = partial_name(target)
    try:
        write(partial)
        if os.path.exists(target):
            os.chmod(partial, os.stat(target).st_mode & 0o7777)
        os.replace(partial, target)
    finally:
        if os.path.lexists(partial):
            os.unlink(partial)


def partial_name(path: str) -> str:
    """Where :func:`write_whole` writes first."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}.partial")
