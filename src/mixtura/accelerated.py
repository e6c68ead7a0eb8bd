"""EM with extrapolated steps: the same E- and M-steps, in fewer iterations where plain EM is slow.

Each iteration still has one E-step and one M-step. Between them the parameters may jump ahead, to a point that earlier
steps suggest. The next E-step tells the objective there: if that is below the objective before, the jump is taken back,
which has cost one pass over the rows. So the objective never falls.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixtura import em, newton

Float = NDArray[np.float64]
M = TypeVar("M", bound=Any)

# SQUAREM: the longest step at first, and the factor by which it grows each time a step of that length is taken and
# shrinks each time one is refused.
_LONGEST = 4.0
_FACTOR = 4.0

# Anderson: number of earlier steps that are combined, and how strongly their combination is damped at first and at
# least, as a share of the largest singular value.
_MEMORY = 8
_DAMPING = 0.1
_LEAST_DAMPING = 1e-5


def _length(vector: Float) -> float:
    """Euclidean length, without BLAS: see :class:`Anderson`."""
    return math.sqrt(float(np.square(vector).sum()))


class Extrapolation(ABC):
    """Suggests where to go from the steps that EM has made."""

    @abstractmethod
    def suggest(self, before: Float, after: Float) -> Float | None:
        """A point ahead of the EM step from ``before`` to ``after``, coordinates (P,); None to go to ``after``."""

    @abstractmethod
    def accepted(self) -> None:
        """The objective at the last suggestion is not below the one before."""

    @abstractmethod
    def refused(self) -> None:
        """It is below, and EM goes on from where its own step had led."""


class Squarem(Extrapolation):
    """After every second step, a squared extrapolation from both (Varadhan and Roland 2008, scheme S3).

    With r the first step, v the second one less the first, and ``a = -|r| / |v|``, it leads to
    ``before - 2 a r + a^2 v``.
    """

    def __init__(self) -> None:
        self._first: tuple[Float, Float] | None = None
        self._longest = _LONGEST
        self._length = 1.0

    def suggest(self, before: Float, after: Float) -> Float | None:
        """See :meth:`Extrapolation.suggest`."""
        if self._first is None or self._first[0].shape != before.shape:
            self._first = before, after - before
            return None
        start, r = self._first
        self._first = None
        v = (after - before) - r
        size = _length(v)
        if not size > 0.0:
            return None
        self._length = min(max(_length(r) / size, 1.0), self._longest)
        if self._length == 1.0:
            return None  # the extrapolation is then the EM step itself
        return np.asarray(start + 2.0 * self._length * r + self._length**2 * v)

    def accepted(self) -> None:
        """See :meth:`Extrapolation.accepted`."""
        if self._length == self._longest:
            self._longest *= _FACTOR

    def refused(self) -> None:
        """See :meth:`Extrapolation.refused`."""
        self._longest = max(self._longest / _FACTOR, _LONGEST / 2.0)


class Anderson(Extrapolation):
    """Before every step, the combination of the last ones whose residual is least.

    With residuals ``f = after - before`` and differences X of the points and F of the residuals, it leads to
    ``after - (X + F) g``, where g minimises ``|f - F g|^2`` with some damping. The damping rises where a suggestion is
    refused and falls where one is taken (Anderson 1965; Henderson and Varadhan 2019, Damped Anderson acceleration).
    """

    def __init__(self) -> None:
        self._points: list[Float] = []
        self._residuals: list[Float] = []
        self._damping = _DAMPING

    def suggest(self, before: Float, after: Float) -> Float | None:
        """See :meth:`Extrapolation.suggest`."""
        if self._points and self._points[-1].shape != before.shape:
            self._forget()
        self._points.append(before)
        self._residuals.append(after - before)
        del self._points[: -_MEMORY - 1], self._residuals[: -_MEMORY - 1]
        if len(self._points) < 2:
            return None
        X = np.diff(np.stack(self._points, axis=1), axis=1)
        F = np.diff(np.stack(self._residuals, axis=1), axis=1)
        # Products of long vectors by einsum: BLAS would wake its threads, which then spin beside the kernels.
        products = np.einsum("pi,pj->ij", F, F)
        if not np.isfinite(products).all():  # a coordinate is the logarithm of 0
            return None
        largest = float(np.linalg.eigvalsh(products)[-1])
        if not largest > 0.0:
            return None
        products[np.diag_indices_from(products)] += self._damping**2 * largest
        g = np.linalg.solve(products, np.einsum("pi,p->i", F, self._residuals[-1]))
        return np.asarray(after - np.einsum("pi,i->p", X + F, g))

    def _forget(self) -> None:
        self._points, self._residuals = [], []

    def accepted(self) -> None:
        """See :meth:`Extrapolation.accepted`."""
        self._damping = max(self._damping / 2.0, _LEAST_DAMPING)

    def refused(self) -> None:
        """See :meth:`Extrapolation.refused`."""
        self._damping = min(self._damping * 16.0, 1.0)
        # The oldest steps are those that mislead.
        keep = max(len(self._points) // 2, 1)
        self._points, self._residuals = self._points[-keep:], self._residuals[-keep:]


@dataclass(frozen=True)
class State(Generic[M]):
    """Where a run is between two iterations, from which it goes on as if it had not stopped.

    Attributes
    ----------
    at : Model
        The parameters of the next E-step, which may be ahead of EM's own.
    safe : Model
        EM's own parameters; the same object where they are not behind.
    bounds : list of float
        One for each iteration so far.
    ahead : Extrapolation
    tried : int
        Passes so far, jumps that were taken back included.
    """

    at: M
    safe: M
    bounds: list[float]
    ahead: Extrapolation
    tried: int


def run(
    extrapolation: Callable[[], Extrapolation],
    start: M,
    table: Any,
    *,
    max_iter: int,
    stop: Callable[[em.Step[M]], bool],
    report: Callable[[em.Step[M]], bool] | None = None,
    bound: float = -math.inf,
    keep: bool = False,
    state: State[M] | None = None,
    save: Callable[[State[M]], None] | None = None,
) -> em.Fit[M]:
    """As :func:`mixtura.em.run`, with extrapolation; jumps that are taken back count towards ``max_iter`` only.

    Parameters
    ----------
    extrapolation : callable
        Makes an :class:`Extrapolation`.
    start, table, max_iter, stop, report, bound, keep, state, save
        As for :func:`mixtura.em.run`.
    """
    scales, total, found = start.scales, table.total_weight, None
    if state is None:
        state = State(start, start, [], extrapolation(), 0)
    at, safe, bounds, ahead = state.at, state.safe, list(state.bounds), state.ahead
    bound = bounds[-1] if bounds else bound
    for tried in range(state.tried, max_iter):
        if save is not None and tried > state.tried:
            save(State(at, safe, list(bounds), ahead, tried))
        jumped = at is not safe
        try:
            new = _tried(at, table) if jumped else em.expected(at, table)
            if jumped and (new is None or not new.objective / total >= bound):
                ahead.refused()
                at = safe
                continue
            maximized = at.maximize(new)
        except KeyboardInterrupt:
            if not (keep and bounds):
                raise
            return em.Fit(safe, bound, bounds, False, found, interrupted=True)
        if jumped:
            ahead.accepted()
        found, previous, bound = new, bound, new.objective / total
        step: em.Step[M] = em.Step(len(bounds) + 1, at, maximized, bound, bound - previous, found)
        bounds.append(bound)
        ended = report(step) if report is not None else False
        # A jump may gain little where EM's own step would gain more: only EM's own step tells that it has converged.
        stopped = stop(step)
        safe = maximized
        if ended or (stopped and not jumped):
            return em.Fit(safe, bound, bounds, stopped and not jumped, found)
        try:
            at = safe if stopped else _suggested(ahead, step, scales, table)
        except KeyboardInterrupt:  # a gate may take a pass over the rows for its new place
            if not keep:
                raise
            return em.Fit(safe, bound, bounds, False, found, interrupted=True)
    return em.Fit(safe, bound if bounds else -math.inf, bounds, False, found)


def _suggested(ahead: Extrapolation, step: em.Step[M], scales: Float, table: Any) -> M:
    """Where the extrapolation leads, or where EM's step has led."""
    before, after = step.before.coordinates, step.after.coordinates
    if before.shape != after.shape or before.shape != scales.shape:
        return step.after  # components were dropped
    with np.errstate(all="ignore"):
        suggestion = ahead.suggest(before / scales, after / scales)
        if suggestion is None or not np.isfinite(suggestion).all():
            return step.after
        try:
            moved: M = step.after.at(suggestion * scales, table)
            return moved
        except (em.SingularError, em.NotFiniteError, np.linalg.LinAlgError):
            return step.after


def _tried(model: Any, table: Any) -> Any:
    """The E-step at a point that need not be a good one; None if it fails."""
    try:
        with np.errstate(all="ignore"):
            return em.expected(model, table)
    except (em.SingularError, em.NotFiniteError):
        return None


def squarem(*args: Any, **kwargs: Any) -> em.Fit[Any]:
    """:func:`run` with :class:`Squarem`."""
    return run(Squarem, *args, **kwargs)


def anderson(*args: Any, **kwargs: Any) -> em.Fit[Any]:
    """:func:`run` with :class:`Anderson`."""
    return run(Anderson, *args, **kwargs)


ACCELERATED: dict[str, Callable[..., em.Fit[Any]]] = {
    "squarem": squarem,
    "anderson": anderson,
    "newton": newton.run,
}
