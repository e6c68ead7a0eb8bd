"""Mixture models at the speed of the machine.

One EM loop over rows turns quadratic log-densities into sufficient statistics, on kernels in C++; everything
else is short NumPy. ARCHITECTURE.md explains the design; the estimators are :class:`GaussianMixture`,
:class:`KMeans` and :class:`MixtureOfExperts`.
"""

from importlib import import_module
from typing import Any

from mixtura import backends, threads
from mixtura._version import __version__
from mixtura.components.linear import LinearExpert
from mixtura.config import show_config
from mixtura.estimators import GaussianMixture, KMeans, MixtureOfExperts
from mixtura.gates import (
    ConstantGate,
    DirichletGate,
    GaussianGate,
    NeuralGate,
    SoftmaxGate,
    SparseGate,
)
from mixtura.links import EqualMeans, LinkFunction
from mixtura.persistence import load, save

__all__ = [
    "BayesianGaussianMixture",
    "ConstantGate",
    "DirichletGate",
    "EqualMeans",
    "GaussianGate",
    "GaussianMixture",
    "GaussianMixtureSelector",
    "KMeans",
    "LinearExpert",
    "LinkFunction",
    "MixtureClassifier",
    "MixtureOfExperts",
    "NeuralGate",
    "SoftmaxGate",
    "SparseGate",
    "__version__",
    "backends",
    "load",
    "save",
    "show_config",
]

# Modules, and functions by their modules, that are imported when they are first used.
_LAZY = ("autodiff", "data", "distributions", "mixturelib", "plotting", "torch")
_LAZY_FUNCTIONS = {
    "BayesianGaussianMixture": "estimators.bayesian_mixture",
    "GaussianMixtureSelector": "estimators.selector",
    "MixtureClassifier": "estimators.classifier",
    "bootstrap_lrt": "likelihood_ratio",
    "merge_components": "merging",
    "fit_density": "density",
    "fit_many": "many",
    "plot_density": "plotting",
    "select": "selecting",
    "standard_errors": "uncertainty",
}


def __getattr__(name: str) -> Any:
    """Import modules and functions that not everyone needs when they are first used."""
    if name in _LAZY:
        return import_module(f"mixtura.{name}")
    if name in _LAZY_FUNCTIONS:
        return getattr(import_module(f"mixtura.{_LAZY_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'mixtura' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_FUNCTIONS})


threads.register()
