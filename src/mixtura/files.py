"""Files that are written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable


def write_whole(path: str | os.PathLike[str], write: Callable[[str], object], durable: bool = False) -> None:
    """Write a file beside ``path`` with ``write``, then move it to ``path``.

    Symbolic links are followed. If ``path`` is a device, a pipe or another special file, it is written to directly.

    Parameters
    ----------
    path : path-like
    write : callable
        Is called with the name of the file to write.
    durable : bool, default=False
        Whether the file is to be on the disk when this returns, so that it outlives a power cut.
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
        if durable:
            _sync(partial)
        os.replace(partial, target)
        if durable:
            _sync(os.path.dirname(target))
    finally:
        if os.path.lexists(partial):
            os.unlink(partial)


def _sync(path: str) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows opens no folders; it writes names to the disk by itself
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_name(path: str) -> str:
    """The name under which :func:`write_whole` first writes."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}.partial")
