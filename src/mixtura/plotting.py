"""Pictures of fitted models: ellipses and density of a mixture, lines and gate of a mixture of experts."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mixtura.estimators import GaussianMixture, MixtureOfExperts

_MOST_POINTS = 20_000
_MOST_COLUMNS = 5
_SIGMAS = (1.0, 2.0)


class MixtureDisplay:
    """Rows coloured by component, with the components' ellipses over the density's contours.

    One column gives a histogram under the density, two columns a single picture, and more columns a grid with the pairs
    and marginals of the first five. Use :meth:`from_estimator` to make one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
    """

    def __init__(self, figure: Figure, axes: list[Axes]) -> None:
        self.figure_, self.axes_ = figure, axes

    @classmethod
    def from_estimator(
        cls,
        estimator: GaussianMixture,
        X: ArrayLike,
        *,
        ax: Axes | None = None,
        names: list[str] | None = None,
        random_state: int = 0,
    ) -> MixtureDisplay:
        """Draw a fitted mixture.

        Parameters
        ----------
        estimator : GaussianMixture
            A fitted model.
        X : array-like of shape (N, D)
            Rows to show; if there are more than 20,000, a random sample of that size is shown.
        ax : matplotlib Axes, default=None
            Where to draw one or two columns; None makes a figure.
        names : list of str, default=None
            Names of the columns; None takes the estimator's.
        random_state : int, default=0
            Chooses the rows that are shown.

        Returns
        -------
        MixtureDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            ``ax`` was given for more than two columns.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("pictures need matplotlib: pip install 'mixtura[plot]'") from error
        X = np.asarray(X, dtype=np.float64)
        D = X.shape[1]
        if names is None:
            names = [str(n) for n in getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(D)])]
        if len(X) > _MOST_POINTS:
            X = X[np.random.default_rng(random_state).choice(len(X), _MOST_POINTS, replace=False)]
        picture = _Picture(estimator, X, names)
        if D <= 2:
            if ax is None:
                figure = Figure(figsize=(7.5, 5.5), layout="constrained")
                ax = figure.subplots()
            (picture.histogram if D == 1 else picture.pair)(ax, *range(D))
            ax.set_title(picture.title())
            return cls(ax.get_figure(), [ax])  # type: ignore[arg-type]
        if ax is not None:
            raise ValueError(f"ax takes one picture, and {D} columns need a grid of them")
        shown = min(D, _MOST_COLUMNS)
        figure = Figure(figsize=(2.4 * shown + 1, 2.4 * shown), layout="constrained")
        grid = figure.subplots(shown, shown, sharex="col", squeeze=False)
        for i in range(shown):
            for j in range(shown):
                if j > i:
                    grid[i, j].remove()
                elif i == j:
                    picture.histogram(grid[i, i], i)
                    grid[i, i].set_ylabel("")
                    grid[i, i].set_yticks([])
                else:
                    picture.pair(grid[i, j], j, i)
                if i < shown - 1:
                    grid[i, j].set_xlabel("")
                if j and i != j:
                    grid[i, j].set_ylabel("")
        more = f" (first {shown} of {D} columns)" if shown < D else ""
        figure.suptitle(picture.title() + more)
        return cls(figure, [a for row in grid for a in row if a.figure is not None])


class _Picture:
    """Draws the parts of a picture. A marginal of the mixture is the mixture of the components' marginals."""

    def __init__(self, estimator: GaussianMixture, X: NDArray[np.float64], names: list[str]) -> None:
        import matplotlib as mpl

        self.estimator, self.X, self.names = estimator, X, names
        self.weights = np.asarray(estimator.weights_, dtype=np.float64)
        self.means = np.asarray(estimator.means_, dtype=np.float64)
        K, D = self.means.shape
        self.covariances = estimator._covariance.storage.dense(
            np.asarray(estimator.covariances_, dtype=np.float64), K, D
        )
        nameless = copy.copy(estimator)  # X has no column names here, which would make scikit-learn warn
        nameless.__dict__.pop("feature_names_in_", None)
        self.labels = nameless.predict(X)
        palette = mpl.colormaps["tab10" if K <= 10 else "turbo"]
        self.colors = [palette(k if K <= 10 else k / (K - 1)) for k in range(K)]

    def title(self) -> str:
        K = len(self.weights)
        kind = self.estimator._covariance.name
        return (
            f"{K} component{'s' if K > 1 else ''}, {kind} covariance: ellipses at 1 and 2 standard deviations"
        )

    def _range(self, column: int) -> tuple[float, float]:
        low, high = self.X[:, column].min(), self.X[:, column].max()
        margin = 0.08 * (high - low) or 1.0
        return low - margin, high + margin

    def histogram(self, ax: Axes, column: int) -> None:
        """A column's histogram under its marginal density."""
        x = np.linspace(*self._range(column), 400)
        sd = np.sqrt(self.covariances[:, column, column])
        parts = self.weights * norm.pdf(x[:, None], self.means[:, column], sd)
        bins = int(np.clip(2.0 * len(self.X) ** (1 / 3), 10, 80))
        ax.hist(self.X[:, column], bins=bins, density=True, color="0.85", edgecolor="white")
        for k, color in enumerate(self.colors):
            ax.plot(x, parts[:, k], color=color, lw=1.0)
        ax.plot(x, parts.sum(axis=1), color="0.15", lw=1.5)
        ax.set(xlim=(x[0], x[-1]), ylabel="density")
        ax.set_xlabel(self.names[column], parse_math=False)

    def pair(self, ax: Axes, i: int, j: int) -> None:
        """Draw two columns: contours of their density, the rows, and the components' ellipses and means."""
        from matplotlib.patches import Ellipse

        (x0, x1), (y0, y1) = self._range(i), self._range(j)
        gx, gy = np.meshgrid(np.linspace(x0, x1, 120), np.linspace(y0, y1, 120))
        density = np.zeros_like(gx)
        for w, mean, covariance in zip(self.weights, self.means[:, [i, j]], self._pair(i, j), strict=True):
            inverse = np.linalg.inv(covariance)
            dx, dy = gx - mean[0], gy - mean[1]
            q = inverse[0, 0] * dx * dx + 2.0 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy * dy
            density += w * np.exp(-0.5 * q) / (2.0 * np.pi * np.sqrt(np.linalg.det(covariance)))
        log_density = np.log(np.maximum(density, 1e-300))
        top = log_density.max()
        # Levels from white to light grey, so that the rows are visible on the highest level.
        ax.contourf(
            gx,
            gy,
            log_density,
            levels=np.linspace(top - 8.0, top, 13),
            cmap="Greys",
            vmin=top - 8.0,
            vmax=top + 14.0,
        )
        size = float(np.clip(4000.0 / len(self.X), 0.5, 16.0))
        # Rasterised, since 20,000 points would make a large vector file.
        ax.scatter(
            self.X[:, i],
            self.X[:, j],
            s=size,
            c=[self.colors[k] if k >= 0 else "0.6" for k in self.labels],  # noise is grey
            alpha=0.75 if len(self.X) < 2000 else 0.3,
            linewidths=0,
            rasterized=True,
        )
        for k, (mean, covariance) in enumerate(zip(self.means[:, [i, j]], self._pair(i, j), strict=True)):
            values, vectors = np.linalg.eigh(covariance)
            angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
            for sigma in _SIGMAS:
                if sigma * np.sqrt(values[1]) > 100.0 * max(x1 - x0, y1 - y0):
                    continue  # no part of the ellipse is visible, and drawing it would take minutes
                ax.add_patch(
                    Ellipse(
                        (mean[0], mean[1]),
                        2.0 * sigma * np.sqrt(values[1]),
                        2.0 * sigma * np.sqrt(max(values[0], 0.0)),
                        angle=angle,
                        fill=False,
                        lw=1.6,
                        ec=self.colors[k],
                    )
                )
            ax.plot(*mean, marker="+", ms=9, mew=2, color="black")
        ax.set(xlim=(x0, x1), ylim=(y0, y1))
        ax.set_xlabel(self.names[i], parse_math=False)
        ax.set_ylabel(self.names[j], parse_math=False)

    def _pair(self, i: int, j: int) -> Any:
        return self.covariances[:, [i, j]][:, :, [i, j]]


class ExpertsDisplay:
    """Rows coloured by their most likely expert, with the experts' lines and the gate.

    With one column of x: y against x with the experts' lines and the prediction, and the gate's probabilities below.
    With more columns: the rows in the first two columns over the gate's probabilities (the other columns at their
    means), and y against its prediction. Use :meth:`from_estimator` to make one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
    """

    def __init__(self, figure: Figure, axes: list[Axes]) -> None:
        self.figure_, self.axes_ = figure, axes

    @classmethod
    def from_estimator(
        cls,
        estimator: MixtureOfExperts,
        X: ArrayLike,
        y: ArrayLike,
        *,
        target: str = "y",
        random_state: int = 0,
    ) -> ExpertsDisplay:
        """Draw a fitted mixture of experts.

        Parameters
        ----------
        estimator : MixtureOfExperts
            A fitted model.
        X : array-like of shape (N, D)
        y : array-like of shape (N,) or (N, M)
            If there are several targets, the first is drawn.
        target : str, default='y'
            The name of the target.
        random_state : int, default=0
            Chooses the rows that are shown, if there are more than 20,000.

        Returns
        -------
        ExpertsDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("pictures need matplotlib: pip install 'mixtura[plot]'") from error
        X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        D = X.shape[1]
        names = [str(n) for n in getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(D)])]
        estimator = copy.copy(estimator)
        estimator.__dict__.pop("feature_names_in_", None)
        if len(X) > _MOST_POINTS:
            shown = np.random.default_rng(random_state).choice(len(X), _MOST_POINTS, replace=False)
            X, y = X[shown], y[shown]
        experts = estimator.responsibilities(X, y).argmax(axis=1)
        y = y.reshape(len(y), -1)[:, 0]
        if D == 1:
            figure = Figure(figsize=(7.5, 6.5), layout="constrained")
            axes = list(figure.subplots(2, 1, sharex=True, height_ratios=[3, 1]))
            _lines(axes[0], axes[1], estimator, X, y, experts)
            axes[0].set_ylabel(target)
            axes[1].set_xlabel(names[0])
        else:
            figure = Figure(figsize=(10.5, 5.0), layout="constrained")
            axes = list(figure.subplots(1, 2))
            _regions(axes[0], estimator, X, experts)
            axes[0].set_xlabel(names[0])
            axes[0].set_ylabel(names[1])
            _against(axes[1], _first_target(estimator.predict(X)), y, experts)
            axes[1].set_xlabel(f"predicted {target}")
            axes[1].set_ylabel(target)
        K = len(estimator.weights_)
        figure.suptitle(f"{K} linear expert{'s' if K > 1 else ''}, {estimator.gate_.name} gate")
        return cls(figure, axes)


def _first_target(predicted: Any) -> NDArray[np.float64]:
    return np.asarray(predicted).reshape(len(predicted), -1)[:, 0]


def _color(k: int) -> str:
    return f"C{k % 10}"


def _points(ax: Axes, x: Any, y: Any, experts: NDArray[np.intp]) -> None:
    """Rows, coloured by expert."""
    for k in np.unique(experts):
        rows = experts == k
        ax.scatter(x[rows], y[rows], s=float(np.clip(4000.0 / len(x), 1.0, 16.0)), color=_color(int(k)), lw=0)


def _lines(ax: Axes, below: Axes, estimator: Any, X: Any, y: Any, experts: NDArray[np.intp]) -> None:
    """Draw y against one column with each expert's line, and below it the gate."""
    grid = np.linspace(X[:, 0].min(), X[:, 0].max(), 400)[:, None]
    each, gate = estimator.predict_expert(grid)[:, :, 0], estimator.predict_gate(grid)
    _points(ax, X[:, 0], y, experts)
    for k in range(each.shape[1]):
        ax.plot(grid[:, 0], each[:, k], color=_color(k), label=f"expert {k}")
        below.plot(grid[:, 0], gate[:, k], color=_color(k))
    ax.plot(grid[:, 0], _first_target(estimator.predict(grid)), color="0.2", ls="--", label="mean")
    ax.legend()
    below.set_ylim(-0.02, 1.02)
    below.set_ylabel("gate")


def _regions(ax: Axes, estimator: Any, X: Any, experts: NDArray[np.intp]) -> None:
    """Draw rows in the first two columns, over the experts' colours mixed by the gate's probabilities."""
    from matplotlib.colors import to_rgb

    low, high = X.min(axis=0), X.max(axis=0)
    across, along = (np.linspace(low[j], high[j], 120) for j in (0, 1))
    grid = np.tile(X.mean(axis=0), (120 * 120, 1))
    grid[:, 0], grid[:, 1] = (g.ravel() for g in np.meshgrid(across, along))
    gate = estimator.predict_gate(grid)
    colors = np.array([to_rgb(_color(k)) for k in range(gate.shape[1])])
    picture = 1.0 - 0.45 * (1.0 - gate @ colors)
    ax.imshow(
        picture.reshape(120, 120, 3), origin="lower", aspect="auto", extent=(low[0], high[0], low[1], high[1])
    )
    _points(ax, X[:, 0], X[:, 1], experts)
    ax.set_title("rows over the gate")


def _against(ax: Axes, predicted: Any, y: Any, experts: NDArray[np.intp]) -> None:
    """Draw y against its prediction."""
    _points(ax, predicted, y, experts)
    ends = [min(predicted.min(), y.min()), max(predicted.max(), y.max())]
    ax.plot(ends, ends, color="0.5", lw=1)


def save_picture(estimator: Any, *data: ArrayLike, path: str) -> None:
    """Draw a fitted model into a file (.png, .pdf, .svg).

    Parameters
    ----------
    estimator : GaussianMixture or MixtureOfExperts
    *data : array-like
        X (N, D) and, of a mixture of experts, y.
    path : str
    """
    display: Any = MixtureDisplay if len(data) == 1 else ExpertsDisplay
    display.from_estimator(estimator, *data).figure_.savefig(path, dpi=150)
