"""
Fewer iterations
================

Where clusters overlap EM crawls. Extrapolation takes the same steps in fewer passes, and Newton's steps end at the
maximum.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import GaussianMixture

rng = np.random.default_rng(0)
X = 1.3 * np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])[rng.integers(3, size=4000)] + rng.normal(
    size=(4000, 2)
)
start = {"means_init": [[0, 0], [1, 1], [2, 0]], "tol": 1e-9, "max_iter": 2000}

figure, ax = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
fits = {a: GaussianMixture(3, accelerate=a, **start).fit(X) for a in (None, "squarem", "anderson", "newton")}
best = max(fit.lower_bounds_[-1] for fit in fits.values())
for name, fit in fits.items():
    ax.semilogy(best - np.array(fit.lower_bounds_) + 1e-12, label=f"{name or 'EM'}: {fit.n_iter_} iterations")
ax.set(xlabel="iteration", ylabel="log-likelihood per row below the best")
ax.legend()
plt.show()
