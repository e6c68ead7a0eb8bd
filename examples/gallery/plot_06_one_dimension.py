"""
A density in one dimension
==========================

``fit_density`` fits a mixture and returns it as a distribution, with quantiles and regions of highest density.
"""

import numpy as np

import mixtura

rng = np.random.default_rng(0)
x = np.concatenate([rng.normal(0, 1, 600), rng.normal(4, 0.4, 300), rng.normal(7, 2, 400)])
mixture = mixtura.fit_density(x)
display = mixtura.plot_density(mixture, x)
