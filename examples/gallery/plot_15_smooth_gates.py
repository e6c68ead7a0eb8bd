"""
Three gates, one table
======================

Two experts whose border is a circle. A linear gate cannot follow it; one with Gaussians can.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import MixtureOfExperts

rng = np.random.default_rng(0)
X = rng.uniform(-3, 3, size=(4000, 2))
inside = (X**2).sum(axis=1) < 3.0
y = np.where(inside, 2.0 * X[:, 0], -2.0 * X[:, 0] + 6.0) + 0.2 * rng.normal(size=4000)

grid = np.linspace(-3, 3, 160)
points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), sharey=True, constrained_layout=True)
for ax, gate in zip(axes, ("constant", "softmax", "gaussian"), strict=True):
    model = MixtureOfExperts(2, gate=gate, n_init=3, random_state=0).fit(X, y)
    first = int(np.argmax(model.coef_[:, 0]))
    ax.pcolormesh(
        grid, grid, model.predict_gate(points)[:, first].reshape(160, 160), cmap="coolwarm", vmin=0, vmax=1
    )
    ax.contour(grid, grid, (points**2).sum(axis=1).reshape(160, 160), levels=[3.0], colors="k")
    ax.set(title=f"{gate}: {model.score_samples(X, y).mean():.2f} a row", aspect="equal")
plt.show()
