"""
Four families of covariances
============================

The same rows under the four families. What a family cannot say, such as a slanted ellipse with 'diag', it says with
what it has.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

from mixtura import GaussianMixture

rng = np.random.default_rng(3)
shapes = np.array([[[1.6, 1.2], [0.0, 0.4]], [[0.5, -0.4], [0.0, 1.0]], [[0.4, 0.0], [0.0, 0.4]]])
centers, which = np.array([[0.0, 0.0], [4.0, 1.0], [2.0, 4.0]]), rng.integers(3, size=900)
X = centers[which] + np.einsum("ni,nij->nj", rng.normal(size=(900, 2)), shapes[which])

figure, axes = plt.subplots(2, 2, figsize=(9, 8), sharex=True, sharey=True, constrained_layout=True)
for ax, kind in zip(axes.flat, ("full", "tied", "diag", "spherical"), strict=True):
    gm = GaussianMixture(3, covariance_type=kind, init_params="auto", random_state=0).fit(X)
    labels = gm.predict(X)
    for k in range(3):
        color = f"C{k}"
        ax.scatter(*X[labels == k].T, s=5, color=color, alpha=0.5)
        own = gm.covariances_ if kind == "tied" else gm.covariances_[k]
        covariance = own if np.ndim(own) == 2 else own * np.eye(2)
        values, vectors = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(*vectors[::-1, 1]))
        width, height = 2 * np.sqrt(5.99 * values[::-1])
        ax.add_patch(Ellipse(gm.means_[k], width, height, angle=angle, fill=False, color=color, lw=2))
    ax.set_title(f"{kind}: BIC {gm.bic(X):.0f}")
plt.show()
