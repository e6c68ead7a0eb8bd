"""What gates and single components beside the main ones share: parameters, which the user sets, and a fitted state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np


def state(*, saved: bool = True) -> Any:
    """A field that fitting fills and that is not a parameter; ``saved`` says whether model files keep it."""
    return field(default=None, kw_only=True, repr=False, metadata={"state": True, "saved": saved})


@dataclass(frozen=True, eq=False)
class Part:
    """A value with parameters, which the user sets, and a state, which fitting fills and which is None before.

    Attributes
    ----------
    name : str
        Its name in estimators' parameters and on the command line.
    """

    name: ClassVar[str]

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("state")}

    def same_as(self, other: Part) -> bool:
        """Whether another part is of the same kind, with the same parameters."""
        return type(self) is type(other) and _equal(self.parameters, other.parameters)

    @property
    def saved(self) -> dict[str, Any]:
        """The part of the state that model files keep, by name: what predictions need."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("saved")}

    def restored(self, saved: Mapping[str, Any]) -> Self:
        """Return the part with a state that :attr:`saved` gave."""
        unknown = set(saved) - set(self.saved)
        if unknown:
            raise ValueError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        missing = set(self.saved) - set(saved)
        if missing:
            raise ValueError(f"the state of a {type(self).__name__} lacks {', '.join(sorted(missing))}")
        return replace(self, **saved)

    def without_rows(self) -> Self:
        """Return the part without the state that only fitting needs, such as rows and optimisers."""
        return replace(self, **{f.name: None for f in fields(self) if f.metadata.get("saved") is False})


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of parameters are equal; tuples are as lists, which they become in a model file."""
    if one is other:
        return True
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f")
    if one == other or (one != one and other != other):
        return True
    # Objects that know no other equality than identity.
    return type(one) is type(other) and hasattr(one, "__dict__") and _equal(vars(one), vars(other))


# Relative change of what is estimated from sums over rows that may be rounding alone: two passes add in another order.
ROUNDING = 4096.0 * float(np.finfo(np.float64).eps)


def unchanged(before: Any, after: Any, within: float = 0.0) -> bool:
    """Whether two values of one class are the same object, or hold the same objects, equal arrays and equal numbers.

    It is false where a field is not on the host, or where this cannot be told.

    Parameters
    ----------
    within : float, default=0
        Relative difference up to which floating-point numbers in arrays count as equal.
    """
    if before is after:
        return True
    if type(before) is not type(after):
        return False
    if isinstance(before, np.ndarray):
        if before.shape != after.shape:
            return False
        if within and before.dtype.kind == "f":
            return bool((np.abs(after - before) <= within * np.abs(before)).all())
        return bool((before == after).all())
    if isinstance(before, (int, float)):
        return bool(before == after)
    if not is_dataclass(before):
        return False
    held, new = vars(before), vars(after)
    names = (f.name for f in fields(before))
    return all(name in held and name in new and unchanged(held[name], new[name], within) for name in names)


def is_registered(registry: Mapping[str, Any], name: str, cls: type[Any]) -> bool:
    """Whether a name stands for this class in a table of classes, or of their objects.

    A class is known by its module and name: one that was imported again, or came from another process, is the same.
    """
    present = registry.get(name)
    held = present if isinstance(present, type) else type(present)
    return present is not None and (held.__module__, held.__qualname__) == (cls.__module__, cls.__qualname__)
