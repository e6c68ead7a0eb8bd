"""
A million rows
==============

Cells in a cytometer, as far as a picture can make them up: a million rows, ten kinds, fitted in about a second.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import GaussianMixture

rng = np.random.default_rng(11)
centers = rng.uniform(0, 8, size=(10, 2))
shares = rng.dirichlet(np.full(10, 1.5))
shapes = 0.35 * rng.normal(size=(10, 2, 2)) + 0.25 * np.eye(2)
which = rng.choice(10, size=1_000_000, p=shares)
X = centers[which] + np.einsum("ni,nij->nj", rng.standard_normal((1_000_000, 2)), shapes[which])
X = X.astype(np.float32)

gm = GaussianMixture(10, init_params="auto", random_state=0).fit(X)

figure, ax = plt.subplots(figsize=(7, 5.6), constrained_layout=True)
ax.hist2d(*X.T, bins=300, cmap="inferno", cmin=1, norm="log")
ax.scatter(*gm.means_.T, s=600 * gm.weights_ + 10, facecolors="none", edgecolors="cyan")
ax.set(xlabel="marker 1", ylabel="marker 2", title=f"{gm.n_passes_:.1f} passes over a million rows")
plt.show()
