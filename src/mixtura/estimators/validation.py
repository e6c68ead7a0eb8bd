"""Checks of tables and weights, before any work is done."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import _check_n_features, _check_sample_weight, validate_data

from mixtura.array_kinds import is_paths, shortened, to_host, unmasked
from mixtura.backends import Backend
from mixtura.backends.device_arrays import is_device_array
from mixtura.em import NotFiniteError
from mixtura.streamed import Streamed

Float = NDArray[np.float64]


def largest_spread(rows: int) -> float:
    """Largest permitted half range of the values, such that sums of squares of ``rows`` numbers do not overflow."""
    return math.sqrt(np.finfo(np.float64).max / (1024.0 * max(rows, 1)))


def check_rows(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    min_rows: int = 1,
    backend: Backend | None = None,
    finite: bool = True,
) -> NDArray[np.floating]:
    """A finite (N, D) array of float32 or float64; integers become float64.

    An array on a device, which only ``backend`` can read, stays there. With ``finite=False`` an array on the host is
    not searched for NaN and infinity.

    Raises
    ------
    ValueError
        X is not two-dimensional, has too few rows, has another number of columns than in the fit, or holds text or
        values that are not finite (the message says in which columns, and how many).
    TypeError
        X is a sparse matrix.
    """
    if isinstance(X, Streamed):
        return _check_streamed_rows(estimator, X, reset, min_rows)
    if backend is not None and is_device_array(X):
        return _check_device_rows(estimator, backend.place(X).X, reset, min_rows)
    if not _is_plain(estimator, X, reset, min_rows):
        X = validate_data(
            estimator,
            unmasked(to_host(X), "X"),
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
            ensure_min_samples=min_rows,
        )
    if finite:
        check_finite(X, getattr(estimator, "feature_names_in_", None))
    return X


def _is_plain(estimator: Any, X: Any, reset: bool, min_rows: int) -> bool:
    """Whether X is an array in which scikit-learn's checks, which take long for a small table, would find no fault.

    With ``reset`` it also does what they do: the estimator gets the number of columns.
    """
    if type(X) is not np.ndarray or X.dtype not in (np.float64, np.float32) or X.ndim != 2:
        return False
    if len(X) < min_rows or X.shape[1] < 1:
        return False
    if reset:
        estimator.__dict__.pop("feature_names_in_", None)
        estimator.n_features_in_ = X.shape[1]
        return True
    known = getattr(estimator, "n_features_in_", None)
    return known == X.shape[1] and not hasattr(estimator, "feature_names_in_")


def _check_streamed_rows(estimator: Any, X: Streamed, reset: bool, min_rows: int) -> Any:
    """As :func:`check_rows`, for a table that is read block by block: one pass, unless it was looked at before."""
    _check_counts(estimator, X.shape, min_rows)
    if reset:
        estimator.__dict__.pop("feature_names_in_", None)
        if X.names is not None and X.labelled:
            estimator.feature_names_in_ = np.array(X.names, dtype=object)
    fitted = getattr(estimator, "feature_names_in_", None)
    if not reset and X.names is not None and X.labelled and fitted is not None and list(fitted) != X.names:
        raise ValueError(
            f"The feature names should match those that were passed during fit: {', '.join(map(str, fitted))}; the "
            f"source has {', '.join(X.names)}"
        )
    _check_n_features(estimator, X, reset=reset)
    X.survey()
    return X


def _check_counts(estimator: Any, shape: tuple[int, ...], min_rows: int) -> None:
    """Raise ValueError, in scikit-learn's words, if there are too few rows or no columns."""
    name = type(estimator).__name__
    for count, least, unit in ((shape[0], min_rows, "sample"), (shape[1], 1, "feature")):
        if count < least:
            raise ValueError(
                f"Found array with {count} {unit}(s) (shape={shape}) "
                f"while a minimum of {least} is required by {name}."
            )


def _check_device_rows(estimator: Any, X: Any, reset: bool, min_rows: int) -> Any:
    """As :func:`check_rows`, for a table on a device, which is checked there."""
    _check_counts(estimator, X.shape, min_rows)
    if reset and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    _check_n_features(estimator, X, reset=reset)
    _report_not_finite(X.survey()[:, :2].astype(int), getattr(estimator, "feature_names_in_", None), "X")
    return X


def check_targets(estimator: Any, X: Any, y: Any) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """X (N, D) as :func:`check_rows` returns it, and finite targets (N, M) of float32 or float64.

    Sets ``estimator._one_target`` to whether y has one dimension.
    """
    if isinstance(X, Streamed):
        return check_rows(estimator, X, reset=True), _targets(estimator, check_all_targets(estimator, X, y))
    _check_targets_given(estimator, y)
    X, y = validate_data(
        estimator,
        unmasked(to_host(X), "X"),
        unmasked(to_host(y), "y"),
        dtype=[np.float64, np.float32],
        ensure_all_finite=False,
        multi_output=True,
        y_numeric=True,
    )
    check_finite(X, getattr(estimator, "feature_names_in_", None))
    return X, _targets(estimator, y)


def _check_targets_given(estimator: Any, y: Any) -> None:
    """Raise an error if there are no targets, or if they are not in memory."""
    if is_paths(y) or isinstance(y, Streamed):
        raise TypeError(f"y must be an array in memory, not {y!r}: read it first, or pass the column itself")
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )


def check_all_targets(estimator: Any, X: Streamed, y: Any) -> NDArray[Any]:
    """The finite targets of a table that is read block by block, (N,) or (N, M)."""
    _check_targets_given(estimator, y)
    targets: NDArray[Any] = check_array(
        unmasked(to_host(y), "y"), dtype=None, ensure_2d=False, ensure_all_finite=False
    )
    if targets.ndim > 2 or len(targets) != len(X):
        raise ValueError(f"y has shape {targets.shape}, and X has {len(X)} rows")
    if targets.dtype.kind not in "fiub":
        targets = targets.astype(np.float64)
    check_finite(targets.reshape(len(targets), -1), name="y")
    return targets


def _targets(estimator: Any, y: NDArray[Any]) -> NDArray[np.floating]:
    """Finite targets as (N, M), of float32 or float64."""
    if y.dtype not in (np.float32, np.float64):
        y = y.astype(np.float64)
    check_finite(y.reshape(len(y), -1), name="y")
    estimator._one_target = y.ndim == 1
    return y.reshape(len(y), -1)


def check_in_memory(X: Any, what: str) -> None:
    """Raise TypeError if X is a path, or a table that is read block by block."""
    if is_paths(X) or isinstance(X, Streamed):
        raise TypeError(
            f"{what} takes rows in memory, such as mixtura.data.read_table(path).X, not {type(X).__name__}: fit, "
            "predict and score of GaussianMixture, KMeans and MixtureOfExperts read files"
        )


def check_finite(X: NDArray[np.floating], names: Any = None, name: str = "X") -> None:
    """Raise ValueError naming the columns that hold NaN or infinity, and how many."""
    with np.errstate(over="ignore", invalid="ignore"):
        # A finite sum has finite terms. If the sum merely overflowed, no column is reported below.
        if np.isfinite(X.sum(dtype=np.float64)):
            return
    counts = [(int(np.isnan(column).sum()), int(np.isinf(column).sum())) for column in X.T]
    _report_not_finite(counts, names, name)


def _report_not_finite(counts: Any, names: Any, name: str) -> None:
    """Raise ValueError if a count of NaN or of infinity in one of the D columns, (D, 2), is not 0."""
    descriptions = []
    for j, (nan, inf) in enumerate(counts):
        counted = " and ".join(f"{n} {kind}" for n, kind in ((nan, "NaN"), (inf, "infinity")) if n)
        if counted:
            descriptions.append(
                f"column {j}" + (f" ({names[j]!r})" if names is not None else "") + f" has {counted}"
            )
    if not descriptions:
        return
    raise ValueError(
        f"Input {name} contains NaN or infinity: {shortened(descriptions)}. Remove or impute these values first."
    )


def check_weights(sample_weight: Any, X: Any) -> Float | None:
    """Non-negative float64 weights (N,) with a positive sum, or None."""
    if sample_weight is None:
        return None
    if is_device_array(sample_weight):
        device_of_X, weights_device = (
            getattr(X, "device", None),
            getattr(sample_weight, "__dlpack_device__", None),
        )
        if isinstance(device_of_X, int) and weights_device is not None and weights_device()[1] != device_of_X:
            raise ValueError(
                f"X lies on device {device_of_X} and sample_weight on device {weights_device()[1]}: move one of them"
            )
    sample_weight = unmasked(to_host(sample_weight), "sample_weight")
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


def check_tol(tol: Any) -> None:
    """Raise ValueError unless it is None or a number that is not negative."""
    number = isinstance(tol, Real) and not isinstance(tol, bool)
    if tol is not None and not (number and tol >= 0.0):
        raise ValueError(f"tol must be a number that is not negative, or None, got {tol!r}")


def weighted_sum(values: Float, sample_weight: Any) -> tuple[float, float]:
    """Weighted sum of values (N,), and the sum of the weights."""
    weights = check_weights(sample_weight, values)
    if weights is None:
        return float(values.sum()), float(len(values))
    counted = weights > 0.0  # the value of a row of weight 0 need not be finite
    # BLAS would add up in an order that depends on the number of threads.
    return float((values[counted] * weights[counted]).sum()), float(weights.sum())


# Numbers of a block that stays in a cache while it is looked at twice.
_BLOCK_NUMBERS = 1 << 17


def _range(X: NDArray[np.floating]) -> tuple[float, float]:
    """The least and the largest number of a table (N, D); NaN if there is one."""
    rows = max(_BLOCK_NUMBERS // X.shape[1], 1)
    blocks = (X[start : start + rows] for start in range(0, len(X), rows))
    lows, highs = zip(*((block.min(), block.max()) for block in blocks), strict=True)
    return float(np.min(lows)), float(np.max(highs))


def check_fit(
    X: NDArray[np.floating],
    weights: Float | None,
    components: int,
    names: Any = None,
    array: str = "X",
) -> None:
    """Raise ValueError if too few rows have positive weight, or if sums of their squares would overflow.

    Raises ValueError, too, if an array on the host holds NaN or infinity; ``names`` are those of its columns, and
    ``array`` its own.
    """
    if weights is not None and np.count_nonzero(weights) < components:
        raise ValueError(
            f"only {np.count_nonzero(weights)} rows have a positive weight, fewer than the {components} "
            "components asked for"
        )
    most = largest_spread(len(X))
    survey = getattr(X, "survey", None)
    if survey is not None:
        low, high = survey(weights)[:, 2].min(), survey(weights)[:, 3].max()
    else:
        low, high = _range(X)
        if not (math.isfinite(low) and math.isfinite(high)):
            check_finite(X, names)
        if weights is not None and high / 2.0 - low / 2.0 > most:  # rows of weight 0 may lie anywhere
            counts = weights > 0.0
            low = X.min(where=counts[:, None], initial=np.inf)
            high = X.max(where=counts[:, None], initial=-np.inf)
    if float(high) / 2.0 - float(low) / 2.0 > most:
        raise NotFiniteError(array)
