"""Optional packages, imported when they are used."""

from __future__ import annotations

from typing import Any


def import_torch(what: str) -> Any:
    """The torch module, or an ImportError that says what to install."""
    try:
        import torch
    except ImportError as error:
        raise without_torch(what) from error
    return torch


def without_torch(what: str) -> ImportError:
    """The error where torch is missing."""
    return ImportError(
        f"{what} needs PyTorch, which is not installed: pip install 'mixtura[torch]', or for a processor alone "
        "pip install torch --index-url https://download.pytorch.org/whl/cpu"
    )
