"""
A density in two dimensions
===========================

Thirty components draw any shape. The lines are regions of highest density: the smallest that hold a share of the mass.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import GaussianMixture

rng = np.random.default_rng(0)
t = rng.uniform(0, 3 * np.pi, size=20_000)
X = np.column_stack([t * np.cos(t), t * np.sin(t)]) + 0.5 * rng.normal(size=(20_000, 2))
gm = GaussianMixture(30, random_state=0).fit(X)

grid = np.linspace(-11, 11, 220)
points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
density = np.exp(gm.score_samples(points)).reshape(220, 220)
own = np.sort(np.exp(gm.score_samples(X)))
levels = own[[int(len(own) * share) for share in (0.05, 0.25, 0.5, 0.75)]]

figure, ax = plt.subplots(figsize=(6.5, 6), constrained_layout=True)
ax.pcolormesh(grid, grid, density, cmap="magma", shading="auto")
ax.contour(grid, grid, density, levels=levels, colors="white", linewidths=0.7)
ax.plot(*gm.means_.T, "w.", ms=3)
ax.set(aspect="equal", title="Regions that hold 95, 75, 50 and 25 %")
plt.show()
