"""What of a fitted estimator a model file keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixtura.array_kinds import like, to_host
from mixtura.parts import Part

P = TypeVar("P", bound=Part)


def arrays_of(part: Part, prefix: str) -> dict[str, NDArray[Any]]:
    """What a part has learnt, as arrays: ``prefix.name``, and ``prefix.name.i`` of lists."""
    found: dict[str, Any] = {}
    for name, value in part.saved.items():
        parts = enumerate(value) if isinstance(value, list) else [("", value)]
        found |= {f"{prefix}.{name}.{i}".rstrip("."): array for i, array in parts}
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def restored(part: P, prefix: str, arrays: Mapping[str, NDArray[Any]]) -> P:
    """The part with the state that :func:`arrays_of` gave."""
    learnt: dict[str, Any] = {}
    for name, array in arrays.items():
        whose, _, what = name.partition(".")
        if whose == prefix:
            what, _, place = what.partition(".")
            if place:
                learnt.setdefault(what, {})[int(place)] = array
            else:
                learnt[what] = array
    return part.restored(
        {name: [v[i] for i in sorted(v)] if isinstance(v, dict) else v for name, v in learnt.items()}
    )


class Saved:
    """An estimator whose fitted state is arrays and plain values, and whose answers are columns of a table.

    Attributes
    ----------
    _saved_arrays, _saved_values : tuple of str
        Names of attributes: arrays, which all must be there, and what JSON holds, of which some may be absent.
    """

    _gives_probabilities: ClassVar[bool] = True
    _saved_arrays: ClassVar[tuple[str, ...]]
    _saved_values: ClassVar[tuple[str, ...]]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Fitted arrays by name."""
        return {name: np.ascontiguousarray(self._host(name)) for name in self._saved_arrays}

    def _host(self, name: str) -> NDArray[Any]:
        """A fitted array on the host, wherever it lies."""
        return np.asarray(to_host(getattr(self, name)))

    def _follow(self, X: Any) -> None:
        """Fitted arrays become of X's kind, and go to its device."""
        give = like(X)
        for name in self._saved_arrays:
            setattr(self, name, give(getattr(self, name)))

    def _values(self) -> dict[str, Any]:
        """Fitted values by name."""
        return {name: getattr(self, name) for name in self._saved_values if hasattr(self, name)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Set what :meth:`_arrays` and :meth:`_values` gave, and check that it belongs together."""
        for name in self._saved_arrays:
            setattr(self, name, arrays[name])
        for name, value in values.items():
            if name not in self._saved_values:
                raise ValueError(f"unknown attribute {name!r}")
            setattr(self, name, value)

    def _check_state(self) -> None:
        """Raise ValueError unless parameters and fitted attributes belong together."""
        raise NotImplementedError

    def _answers(self, X: Any, probabilities: bool) -> dict[str, NDArray[Any]]:
        """What the model says of rows (N, D), by name of column."""
        model: Any = self
        found = {"label": model.predict(X)}
        if probabilities:
            columns = model.predict_proba(X).T
            names = [str(k) for k in range(len(columns))]
            if getattr(model, "noise", None) is not None:
                names[-1] = "noise"
            found |= {f"proba_{name}": column for name, column in zip(names, columns, strict=True)}
        return found
