"""Reports a fit to the user's terminal and to scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixtura import em
from mixtura.estimators.callbacks import Tasks
from mixtura.progress import Progress, Silent


class Listening:
    """Passes a fit's runs and iterations on to the progress reporter and to callbacks.

    Parameters
    ----------
    reporter : Progress
    tasks : Tasks
    attributes : callable
        Returns the fitted attributes, by name, of a run that is not over, for callbacks that need an estimator.
    """

    def __init__(
        self, reporter: Progress, tasks: Tasks, attributes: Callable[[em.Fit[Any]], dict[str, Any]]
    ) -> None:
        self._reporter, self._tasks, self._attributes = reporter, tasks, attributes
        self._bounds: list[float] = []

    @property
    def listens(self) -> bool:
        """Whether there is a reporter or a callback."""
        return self._tasks.any or not isinstance(self._reporter, Silent)

    def begin(self, run: int) -> None:
        """Run number ``run`` (from 0) begins."""
        self._bounds = []
        self._reporter.begin(run)
        self._tasks.begin()

    def iteration(self, step: em.Step[Any]) -> bool:
        """An iteration is finished; true ends the run."""
        self._bounds.append(step.bound)
        self._reporter.iteration(step)
        so_far = em.Fit(step.after, step.bound, list(self._bounds), found=step.found)
        return self._tasks.iteration(lambda: self._attributes(so_far))

    def end(self, fit: em.Fit[Any]) -> None:
        """The run is over."""
        self._reporter.end(fit.bound, fit.converged)
        self._tasks.end()

    def close(self) -> None:
        """All runs are over."""
        self._reporter.close()
