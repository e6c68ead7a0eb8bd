"""Components: they turn parameters into quadratics, and moments into parameters."""

from mixtura.components.beside import COMPONENTS, Beside, Component
from mixtura.components.centers import Centers
from mixtura.components.covariances import COVARIANCES, Covariance

from mixtura.components import families  # isort: skip  # registers mclust's families
from mixtura.components.gaussian import Gaussians
from mixtura.components.uniform import Uniform
from mixtura.factorize import IllDefinedCovarianceError

__all__ = [
    "COMPONENTS",
    "COVARIANCES",
    "Beside",
    "Centers",
    "Component",
    "Covariance",
    "Gaussians",
    "IllDefinedCovarianceError",
    "Uniform",
    "families",
]
