"""scikit-learn faces: validate, compose, run, set attributes."""

from mixtura.estimators.gaussian_mixture import GaussianMixture
from mixtura.estimators.kmeans import KMeans
from mixtura.estimators.mixture_of_experts import MixtureOfExperts

__all__ = ["GaussianMixture", "KMeans", "MixtureOfExperts"]
