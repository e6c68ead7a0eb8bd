"""Checks of tables and weights, before any work is done."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight, validate_data

from mixtura.em import NotFiniteError

Float = NDArray[np.float64]

# Half the distance from the smallest value to the largest that leaves room for sums of weighted squares.
LARGEST_SPREAD = 1e145


def check_rows(estimator: Any, X: Any, *, reset: bool, min_rows: int = 1) -> NDArray[np.floating]:
    """A finite (N, D) array of float32 or float64; integers become float64.

    Raises
    ------
    ValueError
        Not two-dimensional, too few rows, another number of columns than at fit, text, or values that are not
        finite (which column, how many).
    TypeError
        A sparse matrix.
    """
    X = validate_data(
        estimator,
        X,
        reset=reset,
        dtype=[np.float64, np.float32],
        ensure_all_finite=False,
        ensure_min_samples=min_rows,
    )
    check_finite(X, getattr(estimator, "feature_names_in_", None))
    return X


def check_targets(estimator: Any, X: Any, y: Any) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """X (N, D) as :func:`check_rows` has it, and finite targets (N, M) of float32 or float64.

    Remembers in ``estimator._one_target`` whether y had one dimension.
    """
    X, y = validate_data(
        estimator,
        X,
        y,
        dtype=[np.float64, np.float32],
        ensure_all_finite=False,
        multi_output=True,
        y_numeric=True,
    )
    check_finite(X, getattr(estimator, "feature_names_in_", None))
    if y.dtype not in (np.float32, np.float64):
        y = y.astype(np.float64)
    check_finite(y.reshape(len(y), -1), name="y")
    estimator._one_target = y.ndim == 1
    return X, y.reshape(len(y), -1)


def check_finite(X: NDArray[np.floating], names: Any = None, name: str = "X") -> None:
    """Raise ValueError naming the columns that hold NaN or infinity, and how many."""
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is finite only if all its terms are; one that merely overflowed is found innocent below.
        if np.isfinite(X.sum(dtype=np.float64)):
            return
    found = []
    for j in range(X.shape[1]):
        nan, inf = int(np.isnan(X[:, j]).sum()), int(np.isinf(X[:, j]).sum())
        what = " and ".join(f"{n} {kind}" for n, kind in ((nan, "NaN"), (inf, "infinity")) if n)
        if what:
            found.append(f"column {j}" + (f" ({names[j]!r})" if names is not None else "") + f" has {what}")
    if not found:
        return
    shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more columns" if len(found) > 5 else "")
    raise ValueError(f"Input {name} contains NaN or infinity: {shown}. Remove or impute these values first.")


def check_weights(sample_weight: Any, X: NDArray[np.floating]) -> Float | None:
    """Non-negative float64 weights (N,) with a positive sum, or None."""
    if sample_weight is None:
        return None
    weights = np.ascontiguousarray(_check_sample_weight(sample_weight, X, dtype=np.float64))
    if np.any(weights < 0.0):
        raise ValueError(
            f"Negative values in data passed to `sample_weight`: {int(np.sum(weights < 0.0))} of them"
        )
    if not np.any(weights > 0.0):
        raise ValueError("sample_weight is zero for every row: nothing is left to fit")
    with np.errstate(over="ignore"):
        if not np.isfinite(weights.sum()):
            raise ValueError("sample_weight sums to infinity: divide the weights by their largest")
    return weights


def check_fit(X: NDArray[np.floating], weights: Float | None, components: int) -> None:
    """Raise ValueError if too few rows count, or if those that do lie too far apart for sums of squares."""
    if weights is None:
        low, high = X.min(), X.max()
    else:
        counts = weights > 0.0
        if np.count_nonzero(counts) < components:
            raise ValueError(
                f"only {np.count_nonzero(counts)} rows have a positive weight, fewer than the {components} "
                "components asked for"
            )
        low = X.min(where=counts[:, None], initial=np.inf)
        high = X.max(where=counts[:, None], initial=-np.inf)
    if float(high) / 2.0 - float(low) / 2.0 > LARGEST_SPREAD:
        raise NotFiniteError
