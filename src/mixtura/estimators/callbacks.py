"""scikit-learn's fit callbacks, which it has from version 1.9 on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["CallbackSupportMixin", "Tasks"]

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Does nothing: this version of scikit-learn has no callbacks."""


class Tasks:
    """The tree of tasks that callbacks see: the fit, its initialisations, and their iterations.

    Parameters
    ----------
    estimator : estimator with :class:`CallbackSupportMixin`
    X : ndarray
    y : ndarray or None
    sample_weight : ndarray or None
    n_init, max_iter : int
    """

    def __init__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any, n_init: int, max_iter: int
    ) -> None:
        self._estimator = estimator
        self._data: dict[str, Any] = {
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        self._max_iter = max_iter
        self._root: Any = None
        self._init: Any = None
        if hasattr(estimator, "_init_callback_context"):
            root = estimator._init_callback_context(max_subtasks=n_init)
            # Without callbacks the tree is not built: it would take a tenth of the time of a fit to a thousand rows.
            if getattr(root, "_callbacks", True):
                self._root = root
                root.call_on_fit_task_begin(estimator=estimator, **self._data)

    @property
    def any(self) -> bool:
        """Whether there are callbacks."""
        return self._root is not None

    def begin(self) -> None:
        """An initialisation begins."""
        if self._root is not None:
            self._init = self._root.subcontext(task_name="initialization", max_subtasks=self._max_iter)
            self._init.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def iteration(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """An iteration is finished; ``attributes`` gives its fitted attributes. Returns whether to stop."""
        if self._init is None:
            return False
        step = self._init.subcontext(task_name="iteration")
        step.call_on_fit_task_begin(estimator=self._estimator, **self._data)
        return bool(
            step.call_on_fit_task_end(
                estimator=self._estimator, reconstruction_attributes=attributes, **self._data
            )
        )

    def end(self) -> None:
        """The run from this initialisation is over."""
        if self._init is not None:
            self._init.call_on_fit_task_end(estimator=self._estimator, **self._data)

    def close(self, attributes: Callable[[], dict[str, Any]]) -> None:
        """The fit is over."""
        if self._root is not None:
            self._root.call_on_fit_task_end(
                estimator=self._estimator, reconstruction_attributes=attributes, **self._data
            )
