"""What all pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Rows that are shown; of more, a random sample.
MOST_POINTS = 20_000


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches; ImportError says what to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'mixtura[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def axes_for(ax: Axes | None, width: float = 7.5, height: float = 5.0) -> Axes:
    """The axes that the user gave, or those of a new figure."""
    return new_figure(width, height).subplots() if ax is None else ax
