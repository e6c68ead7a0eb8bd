"""What a model knows, to be put aside and taken up again."""

from __future__ import annotations

import copy
from typing import Any


class Stateful:
    """Remembers by a deep copy of its attributes."""

    def state(self) -> dict[str, Any]:
        """What the object holds now."""
        return copy.deepcopy(self.__dict__)

    def restore(self, state: dict[str, Any]) -> None:
        """Hold what :meth:`state` gave."""
        self.__dict__.update(state)


class Immutable(Stateful):
    """Attributes are replaced, never changed in place: references suffice."""

    def state(self) -> dict[str, Any]:
        """What the object holds now."""
        return dict(self.__dict__)
