"""Pictures of fitted models and of distributions."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from mixtura.plotting.convergence import ConvergenceDisplay
from mixtura.plotting.densities import ConditionalDisplay, DensityDisplay, plot_density
from mixtura.plotting.experts import ExpertsDisplay
from mixtura.plotting.mixtures import MixtureDisplay
from mixtura.plotting.selection import SelectionDisplay
from mixtura.plotting.trees import TreeDisplay

__all__ = [
    "ConditionalDisplay",
    "ConvergenceDisplay",
    "DensityDisplay",
    "ExpertsDisplay",
    "MixtureDisplay",
    "SelectionDisplay",
    "TreeDisplay",
    "plot_density",
    "save_picture",
]


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
