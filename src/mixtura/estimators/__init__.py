"""scikit-learn faces: validate, compose, run, set attributes."""

from mixtura.estimators.gaussian_mixture import GaussianMixture
from mixtura.estimators.kmeans import KMeans

__all__ = ["GaussianMixture", "KMeans"]
