"""
Old Faithful
============

How long an eruption lasted, and how long it was until the next one: two clusters, with ellipses that hold half and
95 % of each, and the density of the whole.
"""

from pathlib import Path

import numpy as np

from mixtura import GaussianMixture
from mixtura.plotting import MixtureDisplay

folder = next(p for p in [Path.cwd(), *Path.cwd().parents] if (p / "data" / "faithful.csv").exists())
X = np.loadtxt(folder / "data" / "faithful.csv", delimiter=",", skiprows=1)
gm = GaussianMixture(2, random_state=0).fit(X)
display = MixtureDisplay.from_estimator(gm, X)
