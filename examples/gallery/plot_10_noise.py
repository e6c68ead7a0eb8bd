"""
Rows without a cluster
======================

A uniform component beside the Gaussians takes what belongs nowhere, so that it spoils nothing.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import GaussianMixture

rng = np.random.default_rng(4)
centers = np.array([[0.0, 0.0], [7.0, 1.0], [3.0, 6.0]])
clusters = centers[rng.integers(3, size=900)] + 0.7 * rng.normal(size=(900, 2))
X = np.concatenate([clusters, rng.uniform(-12, 16, size=(250, 2))])

figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharey=True, constrained_layout=True)
for ax, noise in zip(axes, (False, True), strict=True):
    gm = GaussianMixture(3, noise=noise, init_params="auto", random_state=0).fit(X)
    labels = gm.predict(X)
    ax.scatter(*X[labels < 0].T, s=6, color="0.6")
    ax.scatter(*X[labels >= 0].T, s=6, c=labels[labels >= 0], cmap="viridis")
    ax.set_title("Gaussians only" if not noise else f"with noise, {gm.noise_weight_:.0%} of the rows")
plt.show()
