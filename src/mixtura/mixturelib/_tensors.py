"""Between torch's tensors and the arrays that kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura import backends
from mixtura.optional import import_torch
from mixtura.table import Table

Float = NDArray[np.float64]
Tensor = Any

torch: Any = import_torch("mixtura.mixturelib")


def to_array(tensor: Tensor) -> Float:
    """A tensor, or what becomes one, in float64."""
    return torch.as_tensor(tensor).detach().cpu().to(torch.float64).numpy()  # type: ignore[no-any-return]


def to_rows(tensor: Tensor, name: str) -> Float:
    """Finite rows (N, columns) of a tensor."""
    rows = to_array(tensor)
    if rows.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, it has shape {tuple(rows.shape)}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} contains NaN or infinity")
    return rows


def floating(tensor: Tensor) -> Any:
    """The type of answers about a tensor: its own or, if that is of whole numbers, torch's default."""
    return tensor.dtype if tensor.is_floating_point() else torch.get_default_dtype()


def to_tensor(array: Any, like: Tensor) -> Tensor:
    """An array of answers about a tensor, as one on its device."""
    return torch.as_tensor(np.array(array)).to(device=like.device, dtype=floating(like))


def number(value: Tensor, name: str) -> float:
    """A positive number out of a hyperparameter."""
    array = to_array(value)
    if array.size != 1 or not (np.isfinite(array).all() and array.min() > 0.0):
        raise ValueError(f"hyperparameter {name!r} must be one positive number, got {value!r}")
    return float(array.reshape(()))


def placed(X: Tensor) -> Table:
    """Rows for kernels."""
    return Table.of(backends.create("auto"), to_rows(X, "X"))


def random_state() -> np.random.RandomState:
    """A generator that follows torch's seed."""
    return np.random.RandomState(int(torch.randint(1 << 31, (1,))))
