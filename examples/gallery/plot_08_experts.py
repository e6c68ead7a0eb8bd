"""
Experts and their gate
======================

Three regressions, and a gate that says where each holds.
"""

import numpy as np

from mixtura import MixtureOfExperts
from mixtura.plotting import ExpertsDisplay

rng = np.random.default_rng(2)
x = rng.uniform(-6, 6, size=(1200, 1))
edges = np.digitize(x[:, 0], [-2.0, 2.0])
y = np.choose(edges, [-1.0 * x[:, 0] - 4.0, 0.5 * x[:, 0], 2.0 * x[:, 0] - 5.0]) + 0.4 * rng.normal(size=1200)
model = MixtureOfExperts(3, gate="softmax", init="auto", random_state=0).fit(x, y)
display = ExpertsDisplay.from_estimator(model, x, y)
