"""Components: parameters to quadratics, moments to parameters."""

from mixtura.components.centers import Centers
from mixtura.components.gaussian import COVARIANCES, Covariance, Gaussians, IllDefinedCovarianceError

__all__ = ["COVARIANCES", "Centers", "Covariance", "Gaussians", "IllDefinedCovarianceError"]
