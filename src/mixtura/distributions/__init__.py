"""Fitted mixtures as distributions: densities, quantiles, samples, marginals, conditionals, regression, modes."""

from mixtura.distributions.batch import MixtureBatch
from mixtura.distributions.estimates import Entropy, Estimate
from mixtura.distributions.exchange import FrozenMixture
from mixtura.distributions.mixture import Mixture

__all__ = ["Entropy", "Estimate", "FrozenMixture", "Mixture", "MixtureBatch"]
