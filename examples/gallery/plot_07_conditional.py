"""
Regression by conditioning
==========================

A Gaussian mixture of x and y is also a regression: the distribution of y given x, with a mean, a spread, and more than
one branch where there is one.
"""

import numpy as np

from mixtura import GaussianMixture
from mixtura.distributions import Mixture
from mixtura.plotting import ConditionalDisplay

rng = np.random.default_rng(0)
x = rng.uniform(-3, 3, size=3000)
y = np.where(rng.uniform(size=3000) < 0.6, np.sin(x), 2.5 + 0.3 * x) + 0.15 * rng.normal(size=3000)
gm = GaussianMixture(12, random_state=0).fit(np.column_stack([x, y]))
display = ConditionalDisplay.from_mixture(Mixture.from_estimator(gm), 0, 1, np.column_stack([x, y]))
