"""Pictures of mixtures of experts: rows, lines and gate."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.plotting.figures import MOST_POINTS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mixtura.estimators import MixtureOfExperts


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
        X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        D = X.shape[1]
        names = [str(n) for n in getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(D)])]
        estimator = copy.copy(estimator)
        estimator.__dict__.pop("feature_names_in_", None)
        if len(X) > MOST_POINTS:
            shown = np.random.default_rng(random_state).choice(len(X), MOST_POINTS, replace=False)
            X, y = X[shown], y[shown]
        experts = estimator.responsibilities(X, y).argmax(axis=1)
        y = y.reshape(len(y), -1)[:, 0]
        if D == 1:
            figure = new_figure(7.5, 6.5)
            axes = list(figure.subplots(2, 1, sharex=True, height_ratios=[3, 1]))
            _lines(axes[0], axes[1], estimator, X, y, experts)
            axes[0].set_ylabel(target)
            axes[1].set_xlabel(names[0])
        else:
            figure = new_figure(10.5, 5.0)
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
