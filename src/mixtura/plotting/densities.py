"""Pictures of densities: a column's histogram under its mixture, and a conditional density."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from mixtura.distributions import Mixture
from mixtura.distributions.parameters import numbers
from mixtura.plotting.figures import MOST_POINTS, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class DensityDisplay:
    """A histogram of numbers under a mixture's density and those of its components.

    Use :meth:`from_mixture` or :func:`mixtura.plot_density` to make one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    """

    def __init__(self, figure: Figure, ax: Axes) -> None:
        self.figure_, self.ax_ = figure, ax

    @classmethod
    def from_mixture(
        cls,
        mixture: Mixture,
        x: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        name: str = "x",
        bins: int | None = None,
    ) -> DensityDisplay:
        """Draw a mixture in one dimension.

        Parameters
        ----------
        mixture : Mixture
        x : array-like of shape (N,), default=None
            Numbers for the histogram; None draws none.
        ax : matplotlib Axes, default=None
            None makes a figure.
        name : str, default='x'
            What the numbers are.
        bins : int, default=None
            Of the histogram; None chooses by the number of rows.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            The mixture has several dimensions.
        """
        if not isinstance(mixture, Mixture):
            raise TypeError(
                f"plot_density takes a mixtura.distributions.Mixture, such as Mixture.from_estimator(model), not a "
                f"{type(mixture).__name__}"
            )
        if x is not None:
            x = numbers(x, "x").ravel()
            if not len(x):
                raise ValueError("x holds no numbers: pass None for no histogram")
        weights, means, deviations = mixture._normals
        ax = axes_for(ax)
        low, high = float((means - 3.5 * deviations).min()), float((means + 3.5 * deviations).max())
        if x is not None:
            rows = np.asarray(x, dtype=np.float64)
            low, high = float(rows.min()), float(rows.max())
            margin = 0.08 * (high - low) or 1.0
            low, high = low - margin, high + margin
            count = bins or int(np.clip(2.0 * len(rows) ** (1 / 3), 10, 80))
            ax.hist(rows, bins=count, density=True, color="0.85", edgecolor="white", label="data")
        grid = np.unique(np.concatenate([np.linspace(low, high, 800), means[(means > low) & (means < high)]]))
        for k, (w, m, s) in enumerate(zip(weights, means, deviations, strict=True)):
            ax.plot(grid, w * norm.pdf(grid, m, s), color=f"C{k % 10}", lw=1.3, label=f"component {k}")
        ax.plot(grid, mixture.prob(grid), color="0.15", lw=1.8, label="mixture")
        ax.set(xlim=(low, high), ylabel="density")
        ax.set_xlabel(name, parse_math=False)
        ax.legend()
        return cls(ax.get_figure(), ax)  # type: ignore[arg-type]


def plot_density(mixture: Mixture, x: ArrayLike | None = None, **how: Any) -> DensityDisplay:
    """Draw a mixture in one dimension: histogram, mixture, components.

    Parameters
    ----------
    mixture : Mixture
        What :func:`mixtura.fit_density` returns.
    x : array-like of shape (N,), default=None
        Numbers for the histogram.
    **how
        ``ax``, ``name``, ``bins``: see :meth:`DensityDisplay.from_mixture`.

    Returns
    -------
    DensityDisplay

    Examples
    --------
    >>> import numpy as np, mixtura
    >>> x = np.random.default_rng(0).normal(size=200)
    >>> display = mixtura.plot_density(mixtura.fit_density(x, k=1), x)
    >>> display.figure_.savefig("density.png")  # doctest: +SKIP
    """
    return DensityDisplay.from_mixture(mixture, x, **how)


class ConditionalDisplay:
    """The density of one column given another, with the regression and its standard deviation.

    Use :meth:`from_mixture` to make one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    """

    def __init__(self, figure: Figure, ax: Axes) -> None:
        self.figure_, self.ax_ = figure, ax

    @classmethod
    def from_mixture(
        cls,
        mixture: Mixture,
        given: int = 0,
        of: int = 1,
        X: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        names: list[str] | None = None,
        random_state: int = 0,
    ) -> ConditionalDisplay:
        """Draw ``p(x[of] | x[given])`` of a mixture.

        Parameters
        ----------
        mixture : Mixture
        given, of : int, default=0 and 1
            The column that is known, and the one whose density is drawn.
        X : array-like of shape (N, D), default=None
            Rows to show over it.
        ax : matplotlib Axes, default=None
            None makes a figure.
        names : list of str, default=None
            Names of all columns.
        random_state : int, default=0
            Chooses the rows that are shown, if there are more than 20,000.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        pair = mixture.marginal([given, of])
        names = [f"x{d}" for d in range(mixture.dims)] if names is None else names
        deviations = np.sqrt(np.diagonal(pair.covariance))
        low, high = pair.mean - 3.0 * deviations, pair.mean + 3.0 * deviations
        rows = None
        if X is not None:
            rows = np.asarray(X, dtype=np.float64)[:, [given, of]]
            low, high = rows.min(axis=0), rows.max(axis=0)
            alike = low == high
            low, high = low - np.where(alike, deviations, 0.0), high + np.where(alike, deviations, 0.0)
            if len(rows) > MOST_POINTS:
                rows = rows[np.random.default_rng(random_state).choice(len(rows), MOST_POINTS, replace=False)]
        ax = axes_for(ax, 7.5, 5.5)
        across, along = np.linspace(low[0], high[0], 240), np.linspace(low[1], high[1], 240)
        grid = np.stack(np.meshgrid(across, along), axis=-1)
        # Each column of the picture is a density given x, of which only the shape is shown.
        logs = pair.log_prob(grid)
        with np.errstate(invalid="ignore"):  # where all are too small to be represented
            density = np.nan_to_num(np.exp(logs - logs.max(axis=0)))
        ax.pcolormesh(across, along, density, cmap="Blues", vmin=0.0, vmax=1.6, rasterized=True)
        if rows is not None:
            size = float(np.clip(4000.0 / len(rows), 0.5, 12.0))
            ax.scatter(rows[:, 0], rows[:, 1], s=size, color="0.25", alpha=0.5, lw=0, rasterized=True)
        mean, deviation = (part[:, 0] for part in pair.regress(0, across))
        ax.plot(across, mean, color="C3", lw=2, label="mean")
        ax.plot(across, mean - deviation, color="C3", lw=1, ls="--", label="one standard deviation")
        ax.plot(across, mean + deviation, color="C3", lw=1, ls="--")
        ax.set(xlim=(across[0], across[-1]), ylim=(along[0], along[-1]))
        ax.set_xlabel(names[given], parse_math=False)
        ax.set_ylabel(names[of], parse_math=False)
        ax.legend()
        return cls(ax.get_figure(), ax)  # type: ignore[arg-type]
