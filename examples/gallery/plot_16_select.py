"""
Fourteen families
=================

``select`` fits all families of covariances with one to nine components, and draws the criterion as mclust does.
"""

from pathlib import Path

import numpy as np

import mixtura

folder = next(p for p in [Path.cwd(), *Path.cwd().parents] if (p / "data" / "faithful.csv").exists())
X = np.loadtxt(folder / "data" / "faithful.csv", delimiter=",", skiprows=1)
found = mixtura.select(X)
display = found.plot()
