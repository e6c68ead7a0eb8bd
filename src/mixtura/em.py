"""The EM loop: expect, maximise, stop, report.

The loop depends only on this: parameters have an E-step, which gives statistics of a table, and an M-step, which turns
statistics into parameters. Devices, covariances, gates, files and scikit-learn are the concern of other modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from mixtura.errors import NotFiniteError, SingularError

__all__ = [
    "Fit",
    "Listener",
    "Model",
    "NotFiniteError",
    "Rows",
    "SingularError",
    "Statistics",
    "Step",
    "restarts",
    "run",
]


class Statistics(Protocol):
    """The result of an E-step, from which the M-step computes new parameters."""

    @property
    def objective(self) -> float:
        """The objective under the parameters of the E-step, summed over the rows."""

    def is_finite(self) -> bool:
        """Whether every number in the result is finite."""


class Rows(Protocol):
    """A table of rows with weights."""

    @property
    def total_weight(self) -> float:
        """Sum of the rows' weights: the objective divided by it is the bound per row."""


class Model(Protocol):
    """Parameters with an E- and an M-step."""

    def expect(self, table: Any, rng: Any = None) -> Any:
        """The E-step: statistics of a table; with ``rng``, under a draw from the responsibilities."""

    def maximize(self, found: Any) -> Any:
        """The M-step: new parameters from the E-step's result; these ones if nothing has changed."""


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
        The parameters before the E-step, and those that the M-step gave.
    bound : float
        The objective (the log-likelihood or its lower bound) per unit of weight, under ``before``.
    change : float
        ``bound`` minus that of the iteration before.
    found : Statistics
        The result of the E-step, under ``before``.
    """

    n_iter: int
    before: P
    after: P
    bound: float
    change: float
    found: Any = None


@dataclass(frozen=True)
class Fit(Generic[P]):
    """The result of a run of EM.

    Attributes
    ----------
    parameters : parameters
    bound : float
        The last iteration's bound; minus infinity if there was no iteration.
    bounds : list of float
        One for each iteration.
    converged : bool
    found : Statistics
        The result of the last E-step; None if there was none.
    interrupted : bool
        Whether the user ended the run by an interrupt, before it had converged.
    """

    parameters: P
    bound: float = -math.inf
    bounds: list[float] = field(default_factory=list)
    converged: bool = False
    found: Any = None
    interrupted: bool = False

    @property
    def n_iter(self) -> int:
        """Number of iterations."""
        return len(self.bounds)


@dataclass(frozen=True)
class State(Generic[P]):
    """Where a run of EM is between two iterations, from which it goes on as if it had not stopped.

    Attributes
    ----------
    parameters : parameters
        Those of the next E-step.
    bounds : list of float
        One for each iteration so far.
    random : tuple, optional
        The state of the random numbers, where the run draws some.
    """

    parameters: P
    bounds: list[float]
    random: Any = None


class Listener(Protocol):
    """Is called when runs begin and end, and after each iteration."""

    @property
    def listens(self) -> bool:
        """Whether somebody wants to know of each iteration; if not, a run may be made in one piece."""

    def begin(self, run: int) -> None:
        """Run number ``run`` (from 0) begins."""

    def iteration(self, step: Step[Any]) -> bool:
        """An iteration is finished; true ends the run."""

    def end(self, fit: Fit[Any]) -> None:
        """The run is over."""

    def close(self) -> None:
        """All runs are over, or one has failed."""


def run(
    start: M,
    table: Rows,
    *,
    max_iter: int,
    stop: Callable[[Step[M]], bool],
    report: Callable[[Step[M]], bool] | None = None,
    bound: float = -math.inf,
    rng: Any = None,
    keep: bool = False,
    state: State[M] | None = None,
    save: Callable[[State[M]], None] | None = None,
) -> Fit[M]:
    """Iterate until ``stop`` or ``max_iter``.

    Parameters
    ----------
    start : Model
    table : Rows
    max_iter : int
    stop : callable
        Whether the fit has converged at this iteration.
    report : callable, optional
        Called after every iteration; if it returns true the run ends, unconverged.
    bound : float, default=-inf
        The bound from which the first iteration's change is measured.
    rng : RandomState, optional
        If given, the run is stochastic EM: each row goes to one component, drawn from its responsibilities.
    keep : bool, default=False
        Whether a KeyboardInterrupt ends the run with what its last whole iteration gave. Before the first one is
        over it is raised all the same.
    state : State, optional
        Where an earlier run from the same start was: this one goes on from there.
    save : callable, optional
        Is called with the state after each iteration that another one follows.

    Returns
    -------
    Fit
    """
    parameters, bounds, total, found = start, list[float](), table.total_weight, None
    if state is not None:
        parameters, bounds = state.parameters, list(state.bounds)
        bound = bounds[-1]
        if rng is not None:
            rng.set_state(state.random)
    at_rest = False  # the M-step has returned the parameters that it was given
    for n_iter in range(len(bounds) + 1, max_iter + 1):
        try:
            # Without draws, the same parameters find the same on the same table: another pass would only repeat it.
            new_found: Any = found if at_rest else expected(parameters, table, rng)
            maximized = parameters if at_rest else parameters.maximize(new_found)
        except KeyboardInterrupt:
            if not (keep and bounds):
                raise
            return Fit(parameters, bound, bounds, False, found, interrupted=True)
        found, previous, bound = new_found, bound, new_found.objective / total
        step: Step[M] = Step(n_iter, parameters, maximized, bound, bound - previous, found)
        at_rest = step.after is parameters and rng is None
        parameters = step.after
        bounds.append(bound)
        ended = report(step) if report is not None else False
        converged = stop(step)
        if converged or ended:
            return Fit(parameters, bound, bounds, converged, found)
        if save is not None and n_iter < max_iter:
            save(State(parameters, list(bounds), None if rng is None else rng.get_state()))
    return Fit(parameters, bound if bounds else -math.inf, bounds, False, found)


def expected(parameters: Model, table: Rows, rng: Any = None) -> Any:
    """The E-step's result, which is checked to be finite."""
    found = parameters.expect(table, rng)
    if not found.is_finite():
        raise NotFiniteError
    return found


def restarts(
    n: int,
    one: Callable[[int, Callable[[Step[P]], bool] | None], Fit[P]],
    listener: Listener,
    score: Callable[[Fit[P]], Any] | None = None,
    keep: bool = False,
) -> Fit[P]:
    """Run from several starts, and keep the run with the largest score (the first of equals).

    A run that becomes singular is left out, unless all do.

    Parameters
    ----------
    n : int
        Number of runs, at least 1.
    one : callable
        ``one(i, report)`` makes run number i (from 0), and calls ``report``, which may be None, after each of its
        iterations.
    listener : Listener
        Is called for all runs.
    score : callable, optional
        The score of a run; by default its bound. It is not called where there is only one run.
    keep : bool, default=False
        Whether a KeyboardInterrupt ends the search with the best run so far.
    """
    best: Fit[P] | None = None
    highest: Any = None
    singular: SingularError | None = None
    report = listener.iteration if listener.listens else None
    with closing(listener):
        for i in range(n):
            listener.begin(i)
            try:
                fit = one(i, report)
            except SingularError as error:
                singular = error
                listener.end(Fit(None))
                continue
            except KeyboardInterrupt:
                if not keep or best is None:
                    raise
                return replace(best, interrupted=True)
            listener.end(fit)
            value = fit.bound if score is None or n == 1 else score(fit)
            if best is None or value > highest:
                best, highest = fit, value
            if fit.interrupted:
                return replace(best, interrupted=True)
    if best is None:
        assert singular is not None  # n >= 1
        raise singular
    return best
