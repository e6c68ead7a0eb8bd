"""A picture of a selection: the criterion over the number of components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mixtura.plotting.figures import axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mixtura.selecting import Selection

_MARKERS = "os^vD<>pPXh*d8"


class SelectionDisplay:
    """The criterion of each family over the number of components, as mclust draws it: more is better.

    Use :meth:`from_selection` to make one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    """

    def __init__(self, figure: Figure, ax: Axes) -> None:
        self.figure_, self.ax_ = figure, ax

    @classmethod
    def from_selection(cls, selection: Selection, *, ax: Any = None) -> SelectionDisplay:
        """Draw a selection.

        Parameters
        ----------
        selection : Selection
            From :func:`mixtura.select`.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        ax = axes_for(ax)
        values = np.where(selection._counts, -selection.values, np.nan)
        for i, (name, row) in enumerate(zip(selection.covariance_types, values, strict=True)):
            ax.plot(selection.n_components, row, marker=_MARKERS[i % len(_MARKERS)], ms=5, lw=1, label=name)
        ax.set(xlabel="number of components", ylabel=f"{selection.criterion.upper()}, times -1")
        name, components, value = selection.top(1)[0]
        ax.plot([components], [-value], "o", ms=14, mfc="none", mec="k")
        ax.set_title(f"{name} with {components} components")
        ax.set_xticks(selection.n_components)
        ax.legend(ncols=2, fontsize="small")
        return cls(ax.figure, ax)
