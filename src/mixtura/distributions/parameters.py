"""What a user says about a mixture: checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.array_kinds import to_host
from mixtura.components.covariances import COVARIANCES

Float = NDArray[np.float64]


def numbers(values: Any, name: str) -> Float:
    """An array of finite float64 numbers, of which nobody else has a reference."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values: leave them out, or fill them")
    array = np.asarray(to_host(values))
    check_real(array, name)
    array = np.array(array, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity")
    return array


def real(values: Any, name: str) -> NDArray[Any]:
    """An array of real numbers, also of objects that are numbers."""
    array = np.asarray(to_host(values))
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be real numbers, got objects of other kinds") from None
    check_real(array, name)
    return array


def check_real(array: NDArray[Any], name: str) -> None:
    """Raise TypeError unless an array holds real numbers that are fine enough."""
    if array.dtype == np.float16:
        raise TypeError(f"{name} is float16, which is too coarse: use float32 or float64")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")


def check_weights(weights: ArrayLike, tol: float = 1e-8) -> Float:
    """Weights (K,) on the simplex."""
    array = np.atleast_1d(numbers(weights, "weights"))
    if array.ndim != 1 or not len(array):
        raise ValueError(f"weights must have shape (K,), got {array.shape}")
    if array.min() < 0.0 or abs(array.sum() - 1.0) > tol:
        raise ValueError(
            f"weights must not be negative and must sum to 1; the least is {array.min():.6g} and their sum "
            f"{array.sum():.10g}"
        )
    return np.asarray(array / array.sum())


def check_covariances(covariances: ArrayLike, K: int, D: int, covariance_type: str | None) -> Float:
    """Covariances as lower Cholesky factors, (K, D, D)."""
    array = numbers(covariances, "covariances")
    if covariance_type is None:
        if array.shape == (K, D, D):
            covariance_type = "full"
        elif D == 1 and array.shape == (K,):
            covariance_type = "spherical"
        else:
            raise ValueError(
                f"covariances of shape {array.shape} are not (K, D, D) = {(K, D, D)}: say which they are with "
                "covariance_type='tied', 'diag' or 'spherical'"
            )
    if not isinstance(covariance_type, str) or covariance_type not in COVARIANCES:
        raise ValueError(f"unknown covariance_type {covariance_type!r}; known are {', '.join(COVARIANCES)}")
    storage = COVARIANCES[covariance_type].storage
    if array.shape != storage.shape(K, D):
        raise ValueError(
            f"covariances of type {covariance_type!r} have shape {storage.shape(K, D)}, got {array.shape}"
        )
    dense = np.array(storage.dense(array, K, D))
    roots = np.empty_like(dense)
    for k, matrix in enumerate(dense):
        if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-12 * np.abs(matrix).max()):
            raise ValueError(f"the covariance of component {k} is not symmetric")
        try:
            roots[k] = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            raise ValueError(f"the covariance of component {k} is not positive definite") from None
    return roots


def check_dims(dims: int | Iterable[int], D: int) -> NDArray[np.intp]:
    """Indices of columns, from 0 to D - 1, each once."""
    if isinstance(dims, np.ndarray) and not dims.ndim:
        dims = dims.item()
    given = list(dims) if isinstance(dims, Iterable) else [dims]
    if not given or not all(isinstance(d, (int, np.integer)) and not isinstance(d, bool) for d in given):
        raise ValueError(f"dims must be one or several integers, got {dims!r}")
    bad = [int(d) for d in given if not -D <= d < D]
    if bad:
        raise ValueError(f"dims {bad} out of range: the mixture has {D} dimensions, 0 to {D - 1}")
    places = np.array([int(d) % D for d in given])
    if len(np.unique(places)) < len(places):
        raise ValueError(f"dims {[int(d) for d in given]} name a dimension twice")
    return places


def check_count(n: Any, name: str = "n", least: int = 1) -> int:
    """A number of things."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {n!r}")
    return int(n)
