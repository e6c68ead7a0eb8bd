"""
How sure are the labels?
========================

One minus the largest responsibility. Between clusters it is a half, and it says where labels should not be trusted.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import GaussianMixture

rng = np.random.default_rng(0)
centers = np.array([[0.0, 0.0], [3.0, 0.5], [1.2, 3.0]])
X = centers[rng.integers(3, size=1500)] + 0.9 * rng.normal(size=(1500, 2))
gm = GaussianMixture(3, random_state=0).fit(X)

grid = np.linspace(-3, 6, 250)
points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
doubt = 1.0 - gm.predict_proba(points).max(axis=1).reshape(250, 250)
figure, ax = plt.subplots(figsize=(6.5, 5.5), constrained_layout=True)
picture = ax.pcolormesh(grid, grid, doubt, cmap="Greys", shading="auto")
ax.scatter(*X.T, c=gm.predict(X), s=6, cmap="viridis")
figure.colorbar(picture, label="probability that the label is wrong")
plt.show()
