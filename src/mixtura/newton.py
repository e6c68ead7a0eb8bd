"""EM that ends with Newton's method: few passes from where EM is slow to the maximum itself.

EM runs until it has converged by the user's rule. Then each step solves ``-H d = g`` with the exact gradient and
Hessian of the objective in the parameters theta, of which every value stands for a valid mixture. A step is taken only
if the objective does not fall, else a shorter one; if none is found, the fit is over. Where the likelihood has no
maximum, because rows lie in fewer dimensions than there are, or a component ends on a few rows with hardly any
variance, EM's result is kept. Near the maximum the error is
squared in each step. Cost of a step: two passes over the rows, and N P^2 / 2 multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura import em
from mixtura.components.surfaces import Surface
from mixtura.likelihood import Likelihood
from mixtura.mixture import Mixture
from mixtura.table import Table

Float = NDArray[np.float64]

# Lengths of a step that are tried.
_TRIALS = 5

# Gradient per unit of weight, in units of each parameter's own curvature, at which the maximum is reached.
_FLAT = 1e-11

# Below this, a gradient that no longer falls is rounding error.
_NEARLY_FLAT = 1e-8

# Loss of the objective that is rounding error, as a share of it.
_ROUNDING = 4e-15

# Curvatures below this share of the largest are raised to it, so that steps along them stay short.
_LEAST_CURVATURE = 1e-10

# Longest step of a parameter, in units of a standard deviation or of a factor e.
_LONGEST = 1.0

# Parameters up to which Newton's method is used; more would take longer than EM.
MOST_PARAMETERS = 3000


def run(
    start: Any,
    table: Table,
    *,
    max_iter: int,
    stop: Callable[[em.Step[Any]], bool],
    report: Callable[[em.Step[Any]], bool] | None = None,
    bound: float = -math.inf,
    keep: bool = False,
    **how: Any,
) -> em.Fit[Any]:
    """As :func:`mixtura.em.run`, with Newton steps at the end; these count towards ``max_iter`` and are reported.

    On a sample of a larger table, where the maximum is not wanted, it is EM alone.
    """
    fit: em.Fit[Any] = em.run(
        start, table, max_iter=max_iter, stop=stop, report=report, bound=bound, keep=keep, **how
    )
    if table.sampled or not fit.converged:
        return fit
    if fit.found is not None and not fit.parameters.components.has_maximum(fit.found.moments):
        return fit
    finish = _Finish(fit, table.unrestricted, max_iter, stop, report)
    try:
        return _sound(finish.run(), fit, table)
    except KeyboardInterrupt:
        if not keep:
            raise
        return replace(finish.fit, interrupted=True)


def _sound(fit: em.Fit[Any], before: em.Fit[Any], table: Table) -> em.Fit[Any]:
    """The fit after Newton's steps with its own moments, or EM's if a component has run away to a few rows.

    The likelihood has no maximum there, and Newton's method does not know of the ``reg_covar`` that stopped EM.
    """
    if fit is before:
        return fit
    try:
        found = em.expected(fit.parameters, table)
    except (em.SingularError, em.NotFiniteError):
        return before
    assert before.found is not None
    own = fit.parameters.components.spurious(found.moments)
    runs_away = own & ~before.parameters.components.spurious(before.found.moments)
    return before if runs_away.any() else replace(fit, found=found)


@dataclass(frozen=True)
class _Expansion:
    """The objective about a mixture: value, gradient and Hessian at its theta (P,), by the parameters that are free."""

    mixture: Mixture[Any, Any]
    theta: Float
    value: float
    gradient: Float
    hessian: Float
    surface: Surface | None

    def moved(self, step: Float) -> Mixture[Any, Any]:
        """The mixture after a step of the parameters that are free."""
        theta = self.theta + step if self.surface is None else self.surface.moved(self.theta, step)
        return self.mixture.with_parametric(self.mixture.parametric().at(theta))

    def lengths(self, step: Float) -> Float:
        """A step by all parameters, as shares of a large one of each, to first order."""
        whole = step
        if self.surface is not None:
            whole = self.surface.among(len(step) - self.surface.size) @ step
        return np.asarray(np.abs(whole / self.mixture.parametric().sizes))

    def is_finite(self) -> bool:
        """Whether all numbers are finite."""
        return math.isfinite(self.value) and bool(
            np.isfinite(self.gradient).all() and np.isfinite(self.hessian).all()
        )

    @property
    def scale(self) -> Float:
        """Each parameter's own scale: the square root of the inverse of its curvature."""
        curvature = np.abs(np.diagonal(self.hessian))
        return np.asarray(1.0 / np.sqrt(np.maximum(curvature, np.finfo(np.float64).tiny)))


class _Finish:
    """The Newton steps after a run of EM.

    Parameters
    ----------
    fit : Fit
        EM's result.
    table : Table
    max_iter : int
        Most iterations, EM's included.
    stop : callable
        Whether a run is over after a step.
    report : callable, optional
    """

    def __init__(
        self,
        fit: em.Fit[Any],
        table: Table,
        max_iter: int,
        stop: Callable[[em.Step[Any]], bool],
        report: Callable[[em.Step[Any]], bool] | None,
    ) -> None:
        self.fit, self.max_iter, self.stop, self.report = fit, max_iter, stop, report
        self.table = replace(table, backend=table.backend.doubled())

    def run(self) -> em.Fit[Any]:
        """The fit after the last step."""
        here = self._expanded(self.fit.parameters)
        if here is None or len(here.theta) > MOST_PARAMETERS:
            return self.fit
        slope = math.inf
        for _ in range(self.max_iter - self.fit.n_iter):
            scale, last = here.scale, slope
            slope = np.abs(here.gradient * scale).max(initial=0.0) / math.sqrt(self.table.total_weight)
            if not slope > _FLAT or (slope < _NEARLY_FLAT and slope > 0.5 * last):
                # At the maximum, or as near to it as rounding lets one come; or at a saddle, which is no end.
                self.fit = replace(self.fit, converged=self.fit.converged or _is_concave(here.hessian, scale))
                break
            direction = self._direction(here, scale)
            moved = None if direction is None else self._moved(here, direction)
            if moved is None:
                break
            before, here = here, moved
            if self._reported(before, here):
                break
        return self.fit

    def _expanded(self, mixture: Mixture[Any, Any]) -> _Expansion | None:
        """The objective about a mixture, if it has derivatives there."""
        try:
            at = mixture.parametric()
            if at.size > MOST_PARAMETERS:
                return None
            value, gradient, hessian = Likelihood(at, self.table).expanded()
            penalty, slope, curvature = mixture.gate.penalty
            n = len(slope)
            gradient[:n] += slope
            hessian[:n, :n] += curvature
            surface = mixture.components.surface()
            if surface is not None:
                hessian = surface.hessian(gradient, hessian)
                gradient = surface.among(at.gate_size + at.coefficient_size).T @ gradient
        except (ValueError, np.linalg.LinAlgError):  # a weight of 0, a singular covariance
            return None
        found = _Expansion(mixture, at.theta, value + penalty, gradient, hessian, surface)
        return found if found.is_finite() else None

    def _direction(self, here: _Expansion, scale: Float) -> Float | None:
        """Uphill: Newton's direction where the objective is concave, its mirror image where it is not.

        None if the parameters' scales are too unlike to be represented together.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = -here.hessian * scale * scale[:, None]
        if not np.isfinite(scaled).all():
            return None
        values, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
        least = _LEAST_CURVATURE * max(float(values[-1]), np.finfo(np.float64).tiny)
        with np.errstate(over="ignore", invalid="ignore"):
            step = (
                vectors @ ((vectors.T @ (here.gradient * scale)) / np.maximum(np.abs(values), least)) * scale
            )
        return np.asarray(step) if np.isfinite(step).all() else None

    def _moved(self, here: _Expansion, direction: Float) -> _Expansion | None:
        """Where the longest step leads whose objective is not below the one here; None if there is none."""
        longest = here.lengths(direction).max(initial=0.0)
        step = min(1.0, _LONGEST / longest) if longest > 0.0 else 1.0
        allowed = here.value - _ROUNDING * abs(here.value)
        for _ in range(_TRIALS):
            with np.errstate(all="ignore"):
                try:
                    mixture = here.moved(step * direction)
                    inside = mixture.components.within_bounds
                except (em.SingularError, np.linalg.LinAlgError):
                    inside = False
                moved = self._expanded(mixture) if inside else None
            if moved is not None and moved.value >= allowed:
                return moved
            step *= 0.25
        return None

    def _reported(self, before: _Expansion, after: _Expansion) -> bool:
        """Make the step the fit's last iteration; whether the user wants the fit to end."""
        bound, last = after.value / self.table.total_weight, self.fit.bound
        bounds = [*self.fit.bounds, bound]
        step = em.Step(len(bounds), before.mixture, after.mixture, bound, bound - last, self.fit.found)
        # Newton's steps may leave a saddle where EM had come to rest; the last of those allowed need not be the end.
        over = self.stop(step)
        self.fit = replace(self.fit, parameters=after.mixture, bound=bound, bounds=bounds, converged=over)
        return self.report is not None and self.report(step)


def _is_concave(hessian: Float, scale: Float) -> bool:
    """Whether a Hessian (P, P) is negative definite."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = hessian * scale * scale[:, None]
    return bool(np.isfinite(scaled).all()) and bool(np.linalg.eigvalsh(scaled).max(initial=-1.0) < 0.0)
