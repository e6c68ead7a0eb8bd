"""Optional packages, imported when they are used."""

from __future__ import annotations

from typing import Any


def import_torch(what: str) -> Any:
    """The torch module, or an ImportError that says what to install."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{what} needs PyTorch, which is not installed: pip install 'mixtura[gate]', or for a processor alone "
            "pip install torch --index-url https://download.pytorch.org/whl/cpu"
        ) from error
    return torch
