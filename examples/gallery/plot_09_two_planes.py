"""
Two regressions that x does not tell apart
==========================================

A constant gate: each row is of one of two lines, whatever x is. The colours are the responsibilities, given x and y.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import MixtureOfExperts

rng = np.random.default_rng(0)
x = rng.uniform(0, 10, size=(700, 1))
y = np.where(rng.uniform(size=700) < 0.5, 5.0 + 2.0 * x[:, 0], 25.0 - x[:, 0]) + 1.5 * rng.normal(size=700)
model = MixtureOfExperts(2, n_init=3, random_state=0).fit(x, y)

figure, ax = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
share = model.responsibilities(x, y)[:, 0]
points = ax.scatter(x[:, 0], y, c=share, cmap="coolwarm", s=12)
line = np.array([[0.0], [10.0]])
for k in range(2):
    ax.plot(line[:, 0], line[:, 0] * model.coef_[k, 0] + model.intercept_[k], "k-", lw=1.5)
figure.colorbar(points, label="probability of the first expert")
plt.show()
