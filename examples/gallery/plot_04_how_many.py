"""
How many components?
====================

BIC and AIC over the number of components, and the score of rows that no fit has seen.
"""

import matplotlib.pyplot as plt
import numpy as np

from mixtura import GaussianMixture

rng = np.random.default_rng(1)
centers = 4.0 * rng.normal(size=(5, 2))
X = centers[rng.integers(5, size=3000)] + rng.normal(size=(3000, 2))
train, test = X[:2000], X[2000:]

numbers = range(1, 11)
fits = [GaussianMixture(k, init_params="auto", random_state=0).fit(train) for k in numbers]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
left.plot(numbers, [fit.bic(train) for fit in fits], "o-", label="BIC")
left.plot(numbers, [fit.aic(train) for fit in fits], "s--", label="AIC")
left.set(xlabel="components", ylabel="criterion, less is better")
left.legend()
right.plot(numbers, [fit.score(test) for fit in fits], "o-", color="C2")
right.set(xlabel="components", ylabel="log-density of a held-out row")
plt.show()
