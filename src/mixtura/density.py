"""The density of a column of numbers: a mixture of Gaussians in one dimension."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning

from mixtura.choosing import MOST_COMPONENTS, by_bic
from mixtura.components.gaussian import few_rows
from mixtura.distributions import Mixture
from mixtura.distributions.parameters import numbers
from mixtura.errors import NotFiniteError
from mixtura.estimators import GaussianMixture
from mixtura.estimators.validation import check_weights

# Numbers up to which weights that count them are as many equal numbers.
_MOST_REPEATED = 1_000_000

# The least deviation of a component, as a share of that of the numbers.
_LEAST_SHARE = 1e-4


def fit_density(
    x: ArrayLike,
    k: int | str = "bic",
    *,
    sample_weight: ArrayLike | None = None,
    random_state: int | None = 0,
) -> Mixture:
    """Fit a mixture of Gaussians to numbers.

    Parameters
    ----------
    x : array-like of shape (N,) or (N, 1)
    k : int or 'bic', default='bic'
        Number of components; 'bic' takes the one of 1 to 9 with the lowest Bayesian information criterion, and at most
        one for each four numbers.
    sample_weight : array-like of shape (N,), default=None
        Whole numbers: one of weight 2 counts as two. Of other weights only the ratios matter.
    random_state : int or None, default=0
        Seed of the starts.

    Returns
    -------
    mixture : distributions.Mixture
        In one dimension, with its components in the order of their means.

    Raises
    ------
    ValueError
        x is not a column of finite numbers, has fewer than two, or all are equal.

    Notes
    -----
    No component is narrower than the grid on which the numbers lie, so that exam grades in steps of a third are not
    taken for a mixture of points, nor than a ten thousandth of the range of the middle four fifths of all numbers.

    Examples
    --------
    >>> import numpy as np, mixtura
    >>> rng = np.random.default_rng(0)
    >>> grades = np.concatenate([rng.normal(2.5, 0.6, 300), rng.normal(5.0, 0.2, 100)])
    >>> mixture = mixtura.fit_density(grades)
    >>> mixture.n_components
    2
    >>> mixture.means.ravel().round(1).tolist()
    [2.5, 5.0]
    """
    rows = numbers(x, "x")
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != 1:
        raise ValueError(f"x must be one column of numbers, got shape {np.shape(x)}")
    weights = check_weights(sample_weight, rows)
    if weights is not None:  # numbers of weight 0 are not there
        rows, weights = rows[weights > 0.0], weights[weights > 0.0]
        if np.all(weights == np.floor(weights)) and weights.sum() <= _MOST_REPEATED:
            rows, weights = np.repeat(rows, weights.astype(np.intp), axis=0), None
        else:
            weights = weights / weights.mean()
    least = _resolution(rows[:, 0], weights)
    parameters: dict[str, Any] = {
        "on_degenerate": "repair",
        "reg_covar": least,
        "init_params": "auto",
        "tol": 1e-6,
        "max_iter": 1000,
        "order": "mean",
        "random_state": random_state,
    }
    with warnings.catch_warnings():
        # A component held at the resolution of the numbers is what the bound is for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if k == "bic":
            most = max(min(MOST_COMPONENTS, int(len(rows) // few_rows(1))), 1)
            model, _ = by_bic(rows, range(1, most + 1), parameters, weights)
        elif isinstance(k, str):
            raise ValueError(f"k must be a number of components or 'bic', got {k!r}")
        else:
            model = GaussianMixture(k, **parameters).fit(rows, sample_weight=weights)
    return Mixture.from_estimator(model)


def _resolution(x: Any, weights: Any) -> float:
    """The least variance of a component: that of the grid on which the numbers lie, if many of them are equal."""
    distinct = np.unique(x)
    if len(distinct) < 2:
        raise ValueError(
            f"x has {len(x)} number{'s' if len(x) > 1 else ''}, all equal: a density needs at least two different ones"
            if len(x)
            else "x holds no numbers"
        )
    gaps = np.diff(distinct)
    mean = np.average(x, weights=weights)
    with np.errstate(over="ignore", under="ignore"):
        variance = float(np.average((x - mean) ** 2, weights=weights))
    if not math.isfinite(variance):
        raise NotFiniteError("x")
    if variance * _LEAST_SHARE**2 < np.finfo(np.float64).tiny:
        raise ValueError(
            f"x reaches from {x.min():.3g} to {x.max():.3g}: the squares of such differences cannot be represented in "
            "float64. Multiply x by a large number"
        )
    # A few numbers far from all others say nothing of how narrow a component may be.
    low, high = np.quantile(x, [0.1, 0.9])
    spread = min(math.sqrt(variance), (high - low) / 2.0 if high > low else math.inf)
    repeated = len(distinct) <= 0.9 * len(x)
    # A third of a step is the deviation at which neighbours on the grid are no longer apart.
    step = float(np.median(gaps)) if repeated else 0.0
    return max((step / 2.0) ** 2, (_LEAST_SHARE * spread) ** 2)
