"""Who hears of a fit: the user's terminal and scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixtura import em
from mixtura.estimators.callbacks import Tasks
from mixtura.progress import Progress


class Listening:
    """Hears of a fit's runs and their iterations, and tells progress and callbacks.

    Parameters
    ----------
    told : Progress
    tasks : Tasks
    attributes : callable
        Makes fitted attributes by name out of a run that is not over, for callbacks that want an estimator.
    """

    def __init__(
        self, told: Progress, tasks: Tasks, attributes: Callable[[em.Fit[Any]], dict[str, Any]]
    ) -> None:
        self._told, self._tasks, self._attributes = told, tasks, attributes
        self._bounds: list[float] = []

    def begin(self, run: int) -> None:
        """Run number ``run`` (from 0) begins."""
        self._bounds = []
        self._told.begin(run)
        self._tasks.begin()

    def iteration(self, step: em.Step[Any]) -> bool:
        """An iteration is finished; true ends the run."""
        self._bounds.append(step.bound)
        self._told.iteration(step)
        so_far = em.Fit(step.after, step.bound, list(self._bounds), found=step.found)
        return self._tasks.iteration(lambda: self._attributes(so_far))

    def end(self, fit: em.Fit[Any]) -> None:
        """The run is over."""
        self._told.end(fit.bound, fit.converged)
        self._tasks.end()

    def close(self) -> None:
        """No more runs."""
        self._told.close()
