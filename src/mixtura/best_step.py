"""Runs of EM whose objective may fall, which return the best of their steps.

Stochastic EM's objective goes up and down. EM's own may fall where the noise is so small that rounding dominates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mixtura import em
from mixtura.found import Found
from mixtura.moments import Moments
from mixtura.table import Table

# Fall of the objective, relative to its size, that rounding in sums over the rows may cause.
ROUNDING = 1e-10

# Number of iterations without a better objective after which stochastic EM has converged.
_PATIENCE = 50


@dataclass(frozen=True)
class _Best:
    """The parameters before a step, with what its E-step found."""

    n_iter: int
    parameters: Any
    bound: float
    moments: Moments
    objective: float

    @classmethod
    def of(cls, step: em.Step[Any]) -> _Best:
        return cls(step.n_iter, step.before, step.bound, step.found.moments, step.found.objective)

    def of_fit(self, fit: em.Fit[Any], table: Table) -> em.Fit[Any]:
        """The fit, with these parameters instead of its last ones."""
        found = Found(table, self.moments, self.objective)
        return replace(fit, parameters=self.parameters, bound=self.bound, found=found)


@dataclass(frozen=True)
class State:
    """Where such a run is between two iterations.

    Attributes
    ----------
    inner : State
        That of the run itself.
    best : _Best or None
        The best step so far; None if there was none yet.
    """

    inner: Any
    best: _Best | None

    @property
    def bounds(self) -> list[float]:
        """One for each iteration so far."""
        bounds: list[float] = self.inner.bounds
        return bounds


def run(
    inner: Callable[..., em.Fit[Any]],
    start: Any,
    table: Table,
    *,
    max_iter: int,
    tol: float,
    report: Callable[[em.Step[Any]], bool] | None = None,
    keep: bool = False,
    rng: Any = None,
    state: State | None = None,
    save: Callable[[State], None] | None = None,
) -> em.Fit[Any]:
    """As ``inner``, a run of EM, until the objective changes by less than ``tol``, or falls.

    Parameters
    ----------
    inner : callable
        :func:`mixtura.em.run`, or an accelerated version of it.
    start, table, max_iter, report, keep
        As for :func:`mixtura.em.run`.
    tol : float
    rng : RandomState
        If given, the run is stochastic EM, until so many iterations have brought no gain of ``tol``.
    state, save
        As for :func:`mixtura.em.run`.
    """
    best: list[_Best] = [] if state is None or state.best is None else [state.best]
    how: dict[str, Any] = {} if rng is None else {"rng": rng}
    if state is not None:
        how["state"] = state.inner
    if save is not None:
        how["save"] = lambda reached: save(State(reached, best[0] if best else None))

    def reported(step: em.Step[Any]) -> bool:
        ended = report(step) if report is not None else False
        if not best or step.bound > best[0].bound + (0.0 if rng is None else tol):
            best[:] = [_Best.of(step)]
        return ended

    def stop(step: em.Step[Any]) -> bool:
        if rng is not None:
            return step.n_iter - best[0].n_iter >= _PATIENCE
        return abs(step.change) < tol or step.change < -ROUNDING * (1.0 + abs(step.bound))

    fit = inner(start, table, max_iter=max_iter, stop=stop, report=reported, keep=keep, **how)
    if not best:
        return fit
    if rng is not None:
        return best[0].of_fit(fit, table)
    if best[0].bound > fit.bound + ROUNDING * (1.0 + abs(fit.bound)):
        return replace(best[0].of_fit(fit, table), bounds=fit.bounds[: best[0].n_iter])
    return fit
