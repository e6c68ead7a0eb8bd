"""Choosing the number of components."""

from __future__ import annotations

import math
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

    Left out are numbers of components above the number of rows of positive weight, those whose fit becomes singular,
    and, where there are others, those with a component on a few rows that are all but equal.

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
    least = (True, math.inf)
    criteria: dict[int, float] = {}
    failed: Exception | None = None
    rows = np.shape(X)[0] if sample_weight is None else np.count_nonzero(sample_weight)
    for k in components:
        if k > rows:
            break
        model = GaussianMixture(k, **parameters)
        try:
            model.fit(X, sample_weight=sample_weight)
        except (SingularError, NotFiniteError) as error:
            failed = error
            continue
        criteria[k] = model.bic(X, sample_weight=sample_weight)
        judged = len(model.weights_) < k, criteria[k] + model._gain_of_few(int(rows))
        if best is None or judged < least:
            best, least = model, judged
    if best is None:
        raise failed or ValueError("there are fewer rows than components")
    return best, criteria
