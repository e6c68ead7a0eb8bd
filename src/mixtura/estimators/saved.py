"""The parts of a fitted estimator that a model file keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixtura.array_kinds import like, to_host
from mixtura.parts import Part

P = TypeVar("P", bound=Part)


def arrays_of(part: Part, prefix: str) -> dict[str, NDArray[Any]]:
    """The saved state of a part as arrays, named ``prefix.name``, or ``prefix.name.i`` for elements of lists."""
    values: dict[str, Any] = {}
    for name, value in part.saved.items():
        parts = enumerate(value) if isinstance(value, list) else [("", value)]
        values |= {f"{prefix}.{name}.{i}".rstrip("."): array for i, array in parts}
    arrays = {name: np.asarray(array, order="C") for name, array in values.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            attribute = name.removeprefix(f"{prefix}.")
            raise TypeError(
                f"{attribute!r}, of the state of a {type(part).__name__}, is no array of numbers, which is all that "
                "model files hold of a state: make it a parameter, or state(saved=False)"
            )
    return arrays


def restored(part: P, prefix: str, arrays: Mapping[str, NDArray[Any]]) -> P:
    """The part with the state that :func:`arrays_of` returned."""
    learnt: dict[str, Any] = {}
    for name, array in arrays.items():
        owner, _, attribute = name.partition(".")
        if owner == prefix:
            attribute, _, index = attribute.partition(".")
            if index:
                learnt.setdefault(attribute, {})[int(index)] = array
            else:
                learnt[attribute] = array
    return part.restored(
        {name: [v[i] for i in sorted(v)] if isinstance(v, dict) else v for name, v in learnt.items()}
    )


class Saved:
    """An estimator whose fitted state is arrays and plain values, and whose predictions are columns of a table.

    Attributes
    ----------
    _saved_arrays, _arrays_if_any, _host_arrays, _saved_values, _needed_values : tuple of str
        Names of attributes: arrays, all of which must be present; arrays that may be absent; arrays that may be absent
        and stay NumPy's, whatever the library of X; values that JSON can hold; and which of these must be present.
    """

    _gives_probabilities: ClassVar[bool] = True
    _saved_arrays: ClassVar[tuple[str, ...]]
    _arrays_if_any: ClassVar[tuple[str, ...]] = ()
    _host_arrays: ClassVar[tuple[str, ...]] = ()
    _saved_values: ClassVar[tuple[str, ...]]
    _needed_values: ClassVar[tuple[str, ...]] = ()

    def _present_arrays(self) -> list[str]:
        return [*self._saved_arrays, *(name for name in self._arrays_if_any if hasattr(self, name))]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Fitted arrays by name."""
        names = [*self._present_arrays(), *(name for name in self._host_arrays if hasattr(self, name))]
        return {name: np.asarray(self._host(name), order="C") for name in names}

    def _host(self, name: str) -> NDArray[Any]:
        """A fitted array as a NumPy array on the host."""
        return np.asarray(to_host(getattr(self, name)))

    def _match_kind_of(self, X: Any) -> None:
        """Convert fitted arrays to the library of X, on its device."""
        convert = like(X)
        for name in self._present_arrays():
            setattr(self, name, convert(getattr(self, name)))

    def _values(self) -> dict[str, Any]:
        """Fitted values by name."""
        return {name: getattr(self, name) for name in self._saved_values if hasattr(self, name)}

    def _restore(
        self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], models: Sequence[Any]
    ) -> None:
        """Set the attributes that :meth:`_arrays`, :meth:`_values` and :attr:`_models` returned."""
        if models:
            raise ValueError(f"it has {len(models)} models, and should have none")
        optional = (name for name in (*self._arrays_if_any, *self._host_arrays) if name in arrays)
        for name in (*self._saved_arrays, *optional):
            setattr(self, name, arrays[name])
        missing = [name for name in self._needed_values if values.get(name) is None]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        for name, value in values.items():
            if name not in self._saved_values:
                raise ValueError(f"unknown attribute {name!r}")
            setattr(self, name, value)

    @property
    def _models(self) -> list[Any]:
        """Fitted models that the estimator consists of, each with arrays and values of its own."""
        return []

    def _check_state(self) -> None:
        """Raise ValueError unless parameters and fitted attributes are consistent."""
        raise NotImplementedError

    def _answers(self, X: Any, probabilities: bool) -> dict[str, NDArray[Any]]:
        """The model's predictions for rows (N, D), by column name."""
        model: Any = self
        answers = {"label": model.predict(X)}
        if probabilities:
            columns = model.predict_proba(X).T
            names = [str(k) for k in range(len(columns))]
            if getattr(model, "noise", None) is not None:
                names[-1] = "noise"
            answers |= {f"proba_{name}": column for name, column in zip(names, columns, strict=True)}
        return answers
