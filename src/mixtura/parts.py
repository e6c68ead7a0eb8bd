"""What gates and single components beside the main ones share: parameters, which the user sets, and a fitted state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self


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
        return type(self) is type(other) and repr(_as_lists(self.parameters)) == repr(
            _as_lists(other.parameters)
        )

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


def _as_lists(value: Any) -> Any:
    """A value in which tuples are lists, as they are in a model file."""
    if isinstance(value, dict):
        return {name: _as_lists(part) for name, part in value.items()}
    return [_as_lists(part) for part in value] if isinstance(value, (list, tuple)) else value


def is_registered(registry: Mapping[str, Any], name: str, cls: type[Any]) -> bool:
    """Whether a name stands for this class in a table of classes, or of their objects.

    A class is known by its module and name: one that was imported again, or came from another process, is the same.
    """
    present = registry.get(name)
    held = present if isinstance(present, type) else type(present)
    return present is not None and (held.__module__, held.__qualname__) == (cls.__module__, cls.__qualname__)
