"""How a fit reports its progress."""

from __future__ import annotations

import math
import time
from typing import Any, Protocol

from mixtura.em import Step


class Progress(Protocol):
    """Is called when a fit's initialisations begin and end, and after each iteration."""

    def begin(self, init: int) -> None:
        """Initialisation number ``init`` (from 0) begins."""

    def iteration(self, step: Step[Any]) -> None:
        """An iteration is finished."""

    def end(self, bound: float, converged: bool) -> None:
        """The run from this initialisation is over."""

    def close(self) -> None:
        """The fit is over."""


class Silent:
    """Reports nothing."""

    def begin(self, init: int) -> None: ...

    def iteration(self, step: Step[Any]) -> None: ...

    def end(self, bound: float, converged: bool) -> None: ...

    def close(self) -> None: ...


class Lines:
    """Prints to standard output, as scikit-learn does: one line every ``interval`` iterations.

    Parameters
    ----------
    detailed : bool
        Whether lines also have times, speed and changes of the bound.
    interval, n_rows : int
    """

    def __init__(self, detailed: bool, interval: int, n_rows: int) -> None:
        self.detailed, self.interval, self.n_rows = detailed, interval, n_rows
        self._began = self._last = time.perf_counter()

    def begin(self, init: int) -> None:
        print(f"Initialization {init}")
        self._began = self._last = time.perf_counter()

    def iteration(self, step: Step[Any]) -> None:
        if step.n_iter % self.interval:
            return
        line = f"  Iteration {step.n_iter}"
        if self.detailed:
            now = time.perf_counter()
            lapse, self._last = now - self._last, now
            speed = _rows(self.n_rows * self.interval / max(lapse, 1e-9))
            line += f"\t time lapse {lapse:.5f}s\t ll change {step.change:.5f}\t {speed} rows/s"
        print(line)

    def end(self, bound: float, converged: bool) -> None:
        line = f"Initialization {'converged' if converged else 'did not converge'}."
        if self.detailed:
            line += f" time lapse {time.perf_counter() - self._began:.5f}s\t lower bound {bound:.5f}."
        print(line)

    def close(self) -> None: ...


class CenterLines:
    """Prints a run of k-means to standard output in scikit-learn's words: a line for each iteration.

    Parameters
    ----------
    total_weight : float
        Sum of the rows' weights, which turns a bound into an inertia.
    tol : float
        Sum of squared shifts of the centres at which a run has converged.
    interval : int
        Number of iterations from one line to the next.
    """

    def __init__(self, total_weight: float, tol: float, interval: int) -> None:
        self.total_weight, self.tol, self.interval = total_weight, tol, interval
        self._last = 0
        self._shift = 0.0

    def begin(self, init: int) -> None: ...

    def iteration(self, step: Step[Any]) -> None:
        if step.n_iter == 1:
            print("Initialization complete")
        self._last, shift = (
            step.n_iter,
            step.after.components.means - step.before.components.means,
        )
        self._shift = float((shift * shift).sum())
        if (step.n_iter - 1) % self.interval:
            return
        print(f"Iteration {step.n_iter - 1}, inertia {-2.0 * step.bound * self.total_weight:.6g}.")

    def end(self, bound: float, converged: bool) -> None:
        if converged:
            reason = f"center shift {self._shift:.6g} within tolerance {self.tol:.6g}"
            reason = "strict convergence" if self.tol == 0.0 else reason
            print(f"Converged at iteration {self._last - 1}: {reason}.")

    def close(self) -> None: ...


class Bar:
    """A progress bar on standard error, with iterations, bound, rows per second and the time that is left.

    Parameters
    ----------
    n_rows, max_iter, n_init : int
    tol : float, default=0.0
        Change of the bound below which a run has converged.
    """

    def __init__(self, n_rows: int, max_iter: int, n_init: int, tol: float = 0.0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self.n_rows, self.max_iter, self.n_init, self.tol = n_rows, max_iter, n_init, tol
        self._changes: list[float] = []
        self._progress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: Any = None
        self._last = 0.0
        self._progress.start()

    def begin(self, init: int) -> None:
        name = "EM" if self.n_init == 1 else f"EM {init + 1}/{self.n_init}"
        self._task = self._progress.add_task(name, total=self.max_iter, state="initialising")
        self._last, self._changes = time.perf_counter(), []

    def iteration(self, step: Step[Any]) -> None:
        now = time.perf_counter()
        lapse, self._last = max(now - self._last, 1e-9), now
        self._changes.append(step.change)
        state = f"bound {step.bound:.6f}"
        if step.n_iter > 1:  # the first interval includes the initialisation, so its speed would mislead
            left = lapse * iterations_left(self._changes, self.tol, self.max_iter - step.n_iter)
            state += f"  {_rows(self.n_rows / lapse)} rows/s  about {_duration(left)} left"
        self._progress.update(self._task, completed=step.n_iter, state=state)

    def end(self, bound: float, converged: bool) -> None:
        fields = self._progress.tasks[self._task]
        state = str(fields.fields["state"]).split("  about ")[0]
        state += f"  {'converged' if converged else 'not converged'}"
        self._progress.update(self._task, total=fields.completed, state=state)

    def close(self) -> None:
        self._progress.stop()


def iterations_left(changes: list[float], tol: float, most: int) -> int:
    """A guess at how many iterations a run still needs: near its end EM's changes shrink by a constant factor.

    Parameters
    ----------
    changes : list of float
        The change of the bound in each iteration so far.
    tol : float
        The change below which the run ends.
    most : int
        Iterations up to ``max_iter``, which is the answer where the changes say nothing.
    """
    span = min(len(changes) - 1, 4)
    if span < 1 or not tol > 0.0:
        return most
    before, last = abs(changes[-1 - span]), abs(changes[-1])
    if last < tol:
        return 0
    if not (math.isfinite(before) and last < before):
        return most
    factor = (last / before) ** (1.0 / span)
    return min(math.ceil(math.log(tol / last) / math.log(factor)), most)


def _duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 60.0), ("min", 60.0), ("h", 48.0)):
        if seconds < size:
            return f"{seconds:.2g} {unit}" if seconds < 10.0 else f"{seconds:.0f} {unit}"
        seconds /= 24.0 if unit == "h" else 60.0
    return f"{seconds:.0f} days"


def _rows(speed: float) -> str:
    for unit in ("", "k", "M"):
        if speed < 1000.0:
            return f"{speed:.3g}{unit}"
        speed /= 1000.0
    return f"{speed:.3g}G"


def progress(
    verbose: int, interval: int, n_rows: int, max_iter: int, n_init: int, tol: float = 0.0
) -> Progress:
    """The reporter that ``verbose`` asks for: none, a bar if rich is installed, or lines.

    Parameters
    ----------
    verbose : int
        0: nothing. 1: a bar, or lines if rich is not installed. 2: lines with speed and changes.
    interval : int
        Number of iterations from one line to the next.
    n_rows, max_iter, n_init : int
    tol : float, default=0.0
        Change of the bound below which a run has converged.
    """
    if not verbose:
        return Silent()
    if verbose == 1:
        try:
            return Bar(n_rows, max_iter, n_init, tol)
        except ImportError:
            pass  # rich is an extra; lines report the same
    return Lines(verbose > 1, interval, n_rows)
