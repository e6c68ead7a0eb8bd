"""Pictures of how fits converge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mixtura.plotting.figures import axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ConvergenceDisplay:
    """How far the bound is from its end after each iteration, of one fit or of several.

    Use :meth:`from_estimators` to make one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    """

    def __init__(self, figure: Figure, ax: Axes) -> None:
        self.figure_, self.ax_ = figure, ax

    @classmethod
    def from_estimators(
        cls, estimators: Mapping[str, Any] | Any, *, ax: Axes | None = None
    ) -> ConvergenceDisplay:
        """Draw the bounds of fitted estimators, one pass over the rows after the other.

        Parameters
        ----------
        estimators : dict of str to estimator, or estimator
            Fitted, such as plain EM beside an accelerated fit of the same rows.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            An estimator has no iterations.
        """
        named = estimators if isinstance(estimators, Mapping) else {type(estimators).__name__: estimators}
        bounds = {
            name: np.asarray(estimator.lower_bounds_, dtype=np.float64) for name, estimator in named.items()
        }
        for name, values in bounds.items():
            if not len(values):
                raise ValueError(f"{name} has made no iteration, so there is nothing to draw")
        ax = axes_for(ax)
        best = max(float(values.max()) for values in bounds.values())
        least = 1e-16 * max(abs(best), 1.0)
        for name, values in bounds.items():
            ax.semilogy(
                np.arange(1, len(values) + 1), np.maximum(best - values, least), marker=".", label=name
            )
        ax.set(xlabel="iteration", ylabel="bound per row below the best")
        ax.legend()
        return cls(ax.get_figure(), ax)  # type: ignore[arg-type]
