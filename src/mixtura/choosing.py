"""Choosing the number of components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mixtura.errors import NotFiniteError, SingularError
from mixtura.estimators import GaussianMixture

# Number of components up to which the criterion is looked at.
MOST_COMPONENTS = 9


def by_bic(
    X: Any, components: Iterable[int], parameters: Mapping[str, Any], sample_weight: Any = None
) -> tuple[GaussianMixture, dict[int, float]]:
    """The Gaussian mixture with the lowest Bayesian information criterion, fitted, and the criterion of each.

    Numbers of components above the number of rows, and those whose fit becomes singular, are left out.

    Parameters
    ----------
    X : array-like of shape (N, D)
    components : iterable of int
        Numbers of components.
    parameters : mapping
        The estimator's other parameters.
    sample_weight : array-like of shape (N,), optional

    Raises
    ------
    ValueError
        Every fit became singular.
    """
    best: GaussianMixture | None = None
    criteria: dict[int, float] = {}
    failed: Exception | None = None
    for k in components:
        if k > np.shape(X)[0]:
            break
        model = GaussianMixture(k, **parameters)
        try:
            model.fit(X, sample_weight=sample_weight)
        except (SingularError, NotFiniteError) as error:
            failed = error
            continue
        criteria[k] = model.bic(X, sample_weight=sample_weight)
        if best is None or criteria[k] < min(v for other, v in criteria.items() if other != k):
            best = model
    if best is None:
        raise failed or ValueError("there are fewer rows than components")
    return best, criteria
