"""What of a fitted estimator a model file keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.array_kinds import like, to_host


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
            found |= {f"proba_{k}": column for k, column in enumerate(model.predict_proba(X).T)}
        return found
