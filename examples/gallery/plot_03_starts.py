"""
Where k-means starts a fit wrongly
==================================

Two flat clusters, one above the other. k-means looks for round clusters, cuts across both, and EM stays there. With
``init_params="auto"`` unlike starts compete.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import GaussianMixture

rng = np.random.default_rng(0)
y = np.repeat([0, 1], 400)
X = rng.normal(size=(800, 2)) * [6.0, 0.3]
X[:, 1] += 2.0 * y

figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, constrained_layout=True)
for ax, init in zip(axes, ("kmeans", "auto"), strict=True):
    gm = GaussianMixture(2, init_params=init, random_state=0).fit(X)
    ax.scatter(*X.T, c=gm.predict(X), s=6, cmap="coolwarm")
    ax.set_title(f"init_params={init!r}: log-likelihood {gm.lower_bound_:.2f} a row")
plt.show()
