"""Parts of a mixture that a user chooses and a fit fills: gates, and components beside the main ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self


def state(*, saved: bool = True) -> Any:
    """A field that fitting fills: not among the parameters; ``saved`` if a model file keeps it."""
    return field(default=None, kw_only=True, repr=False, metadata={"state": True, "saved": saved})


@dataclass(frozen=True, eq=False)
class Part:
    """A value with parameters, which are the user's, and a state, which is learnt and None before.

    Attributes
    ----------
    name : str
        What it is known by, in parameters and on the command line.
    """

    name: ClassVar[str]

    @property
    def parameters(self) -> dict[str, Any]:
        """What the constructor was given."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("state")}

    @property
    def saved(self) -> dict[str, Any]:
        """The part of the state that predictions need, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("saved")}

    def restored(self, saved: Mapping[str, Any]) -> Self:
        """A gate with the state that :attr:`saved` gave."""
        unknown = set(saved) - set(self.saved)
        if unknown:
            raise ValueError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        return replace(self, **saved)

    def without_rows(self) -> Self:
        """A gate without what it keeps of the fit alone: rows, optimisers."""
        return replace(self, **{f.name: None for f in fields(self) if f.metadata.get("saved") is False})
