"""What a user asks of a Gaussian mixture, in the core's terms: first values, bounds, priors, and what excludes what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from mixtura.array_kinds import to_host, unmasked
from mixtura.components.estimation import Estimation, Fixed
from mixtura.estimators.fitted_gaussians import check_proportions
from mixtura.estimators.gaussian_search import Dropping
from mixtura.estimators.known import check_prior
from mixtura.moments import Kind
from mixtura.table import Table

if TYPE_CHECKING:
    from mixtura.estimators.gaussian_mixture import GaussianMixture

Float = NDArray[np.float64]

# Share of a column's variance that reg_covar='auto' adds to it.
AUTO_REG = 1e-6

# Range of variances whose inverses and products can be represented.
_LEAST, _MOST = 1e-300, 1e305

# Least bound of a variance, whose inverse can be represented.
_LEAST_BOUND = 1e-304

# Largest error of the product of a precision and a covariance of the family that count as inverse to each other.
_OF_THE_FAMILY = 1e-6


def estimation_of(
    model: GaussianMixture, table: Table, fixed: Fixed | None = None
) -> tuple[Estimation, Dropping | None]:
    """How the M-step estimates, and whether components are dropped."""
    D, storage = table.dims, model._covariance.storage
    raising = model.on_degenerate == "raise"
    if raising and model.prior is None and not isinstance(model.reg_covar, str):
        return Estimation(model.reg_covar, fixed=fixed), None
    kind: Kind = "full" if storage.form == "triangle" and D > 1 else "diagonal"
    moments = table.moments(kind)
    mean, covariance = moments.means()[0], moments.covariances()[0]
    covariance = np.diag(covariance) if covariance.ndim == 1 else covariance
    variances = np.maximum(np.diagonal(covariance), 0.0)
    scale = scale_of(mean, variances)
    reg_covar: float | Float = AUTO_REG * scale if isinstance(model.reg_covar, str) else model.reg_covar
    n = len(table) if table.counted is None else len(table.counted)
    prior = check_prior(
        model.prior,
        model.n_components,
        D,
        mean,
        covariance * (n / max(n - 1.0, 1.0)),
        diagonal=storage.form != "triangle",
    )
    if raising:
        return Estimation(reg_covar, prior=prior, fixed=fixed), None
    least = np.maximum(
        np.broadcast_to(reg_covar, D), np.maximum(model._covariance.least(scale), _LEAST_BOUND)
    )
    dropping = Dropping(storage.of_matrix(covariance), reg_covar) if model.on_degenerate == "drop" else None
    return Estimation(0.0, least, prior, fixed), dropping


def scale_of(mean: Float, variances: Float) -> Float:
    """The scale of columns with these variances, in squares of their units.

    A constant column has no spread: its scale is the size of its number, or 1.
    """
    size = np.where(mean != 0.0, np.abs(mean), 1.0)
    with np.errstate(over="ignore", under="ignore"):
        return np.clip(np.where(variances > 0.0, variances, size**2), _LEAST, _MOST)


def first_values(model: GaussianMixture, dims: int) -> dict[str, Float]:
    """The user's initial weights, means and precisions, as float64 copies."""
    K, covariance = model.n_components, model._covariance
    given: dict[str, Float] = {}
    for name, value, shape, called in (
        ("weights", model.weights_init, (K,), "weights"),
        ("means", model.means_init, (K, dims), "means"),
        (
            "precisions",
            model.precisions_init,
            covariance.storage.shape(K, dims),
            f"{covariance.name} precision",
        ),
    ):
        if value is None:
            continue
        value = unmasked(to_host(value), f"{name}_init")
        array = check_array(
            np.atleast_1d(value) if np.ndim(value) == 0 else value,
            dtype=[np.float64, np.float32],
            ensure_2d=False,
            allow_nd=name == "precisions",
            ensure_all_finite=True if model.fixed is None else "allow-nan",
        )
        array = array.reshape(shape) if array.size == 1 and shape == () else array
        if array.shape != shape:
            raise ValueError(
                f"The parameter '{called}' should have the shape of {shape}, but got {array.shape}"
            )
        given[name] = np.array(array, dtype=np.float64)
        if name == "weights" and not np.isnan(array).any():
            check_proportions(array)
    if "precisions" in given:
        precisions = given["precisions"]
        if not covariance.storage.shared:
            precisions = precisions[~np.isnan(precisions.reshape(K, -1)).any(axis=1)]
        covariance.storage.check_precisions(precisions, covariance.name)
        if covariance.constrained and len(precisions) == K:
            given["precisions"] = _of_the_family(model, precisions)
    return given


def _of_the_family(model: GaussianMixture, precisions: Float) -> Float:
    """Initial precisions of a family whose components share parts of them.

    Others than such are a start for the nearest ones, but cannot be fixed.
    """
    covariance, storage = model._covariance, model._covariance.storage
    nearest = covariance.nearest(storage.covariances_of(storage.cholesky_of_precisions(precisions)))
    K, D = model.n_components, precisions.shape[1]
    ratios = storage.dense(precisions, K, D) @ storage.dense(nearest, K, D)
    if np.abs(ratios - np.eye(D)).max() < _OF_THE_FAMILY:
        return precisions
    if model.fixed is not None and np.any(model.fixed.get("covariances", False)):
        raise ValueError(
            f"fixed holds covariances, but those of precisions_init are not of the family {covariance.name!r}"
        )
    return storage.precisions(storage.cholesky(nearest))


def check_together(model: GaussianMixture, labelled: bool) -> None:
    """Raise ValueError if Newton's method or stepwise EM cannot do what else is asked for."""
    if model.algorithm == "stepwise":
        for name in ("accelerate", "noise"):
            if getattr(model, name) is not None:
                raise ValueError(f"algorithm='stepwise' does not go with {name}: set {name}=None")
        if model.on_degenerate == "drop":
            raise ValueError("algorithm='stepwise' does not go with on_degenerate='drop': use 'repair'")
    if model.accelerate != "newton":
        return
    reasons = {
        "a prior": model.prior is not None,
        "fixed parameters": model.fixed is not None,
        "noise": model._wants_noise,
        "labels": labelled,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(f"accelerate='newton' does not go with {reason}: use 'squarem' or 'anderson'")
