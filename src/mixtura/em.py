"""The EM loop: expect, maximise, stop, report.

It knows no device, no covariance, no gate, no file and no scikit-learn: only that parameters have an E-step, which
gives statistics of a table, and an M-step, which turns statistics into parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar


class Statistics(Protocol):
    """What an E-step hands to an M-step: moments, and perhaps more."""

    @property
    def objective(self) -> float:
        """The objective under the parameters of the E-step, summed over the rows."""

    def is_finite(self) -> bool:
        """Whether every number in it is finite."""


class Rows(Protocol):
    """A table of rows with weights."""

    @property
    def total_weight(self) -> float:
        """Sum of the rows' weights, which makes a log-likelihood a bound per row."""


class Model(Protocol):
    """Parameters that know their E- and M-steps."""

    def expect(self, table: Any, rng: Any = None) -> Any:
        """The E-step: statistics of a table of rows, or of a draw from its responsibilities."""

    def maximize(self, found: Any) -> Any:
        """The M-step: parameters from statistics."""


P = TypeVar("P")
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Step(Generic[P]):
    """One finished iteration.

    Attributes
    ----------
    n_iter : int
        1 for the first.
    before, after : parameters
        Before the E-step, and after the M-step.
    bound : float
        Log-likelihood, or what else is maximised, per unit of weight under ``before``.
    change : float
        ``bound`` minus that of the iteration before.
    found : Statistics
        What the E-step found, under ``before``.
    """

    n_iter: int
    before: P
    after: P
    bound: float
    change: float
    found: Any = None


@dataclass(frozen=True)
class Fit(Generic[P]):
    """What a run of EM ends with.

    Attributes
    ----------
    parameters : parameters
    bound : float
        The last iteration's bound; minus infinity if there was none.
    bounds : list of float
        One for each iteration.
    converged : bool
    found : Statistics
        What the last E-step found; None if there was none.
    """

    parameters: P
    bound: float = -math.inf
    bounds: list[float] = field(default_factory=list)
    converged: bool = False
    found: Any = None

    @property
    def n_iter(self) -> int:
        """Iterations done."""
        return len(self.bounds)


class Listener(Protocol):
    """Hears of runs and their iterations."""

    def begin(self, run: int) -> None:
        """Run number ``run`` (from 0) begins."""

    def iteration(self, step: Step[Any]) -> bool:
        """An iteration is finished; true ends the run."""

    def end(self, fit: Fit[Any]) -> None:
        """The run is over."""

    def close(self) -> None:
        """No more runs, whether all went well or not."""


class NotFiniteError(ValueError):
    """The moments overflowed."""

    def __init__(self) -> None:
        super().__init__(
            "the sums over the rows are not finite: some values of X are too large for their squares to be "
            "represented in float64. Scale the input data, or remove the rows that are far from all others."
        )


def run(
    start: M,
    table: Rows,
    *,
    max_iter: int,
    stop: Callable[[Step[M]], bool],
    report: Callable[[Step[M]], bool] | None = None,
    bound: float = -math.inf,
    rng: Any = None,
) -> Fit[M]:
    """Iterate until ``stop`` or ``max_iter``.

    Parameters
    ----------
    start : Model
    table : Rows
    max_iter : int
    stop : callable
        Whether an iteration was the last because the fit has converged.
    report : callable, optional
        Called after every iteration; a true answer ends the run unconverged.
    bound : float, default=-inf
        The bound that the first change is counted from.
    rng : RandomState, optional
        Makes it stochastic EM: each row goes to one component, drawn from its responsibilities.

    Returns
    -------
    Fit
    """
    parameters, bounds, total, found = start, list[float](), table.total_weight, None
    for n_iter in range(1, max_iter + 1):
        found = parameters.expect(table, rng)
        if not found.is_finite():
            raise NotFiniteError
        previous, bound = bound, found.objective / total
        step: Step[M] = Step(n_iter, parameters, parameters.maximize(found), bound, bound - previous, found)
        parameters = step.after
        bounds.append(bound)
        enough = report(step) if report is not None else False
        converged = stop(step)
        if converged or enough:
            return Fit(parameters, bound, bounds, converged, found)
    return Fit(parameters, bound if bounds else -math.inf, bounds, False, found)


def restarts(
    n: int,
    one: Callable[[int, Callable[[Step[P]], bool]], Fit[P]],
    listener: Listener,
    score: Callable[[Fit[P]], float] | None = None,
) -> Fit[P]:
    """Run from several starts, and keep the run with the largest score: the first of equals.

    Parameters
    ----------
    n : int
        How many, at least 1.
    one : callable
        Makes run number i (from 0), given what it must report its steps to.
    listener : Listener
        Is told of all of them.
    score : callable, optional
        What makes one run better than another; by default its bound. Asked only where there are several.
    """
    best: Fit[P] | None = None
    highest = -math.inf
    with closing(listener):
        for i in range(n):
            listener.begin(i)
            fit = one(i, listener.iteration)
            listener.end(fit)
            value = fit.bound if score is None or n == 1 else score(fit)
            if best is None or value > highest:
                best, highest = fit, value
    assert best is not None  # n >= 1
    return best
