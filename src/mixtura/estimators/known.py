"""Checks what a user knows of a Gaussian mixture beforehand: labels, fixed parameters, priors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixtura.array_kinds import to_host, unmasked
from mixtura.components.covariances import Covariance
from mixtura.components.estimation import ConjugatePrior, Fixed
from mixtura.factorize import is_definite
from mixtura.membership import Allowed, Labels, Membership

Float = NDArray[np.float64]
Booleans = NDArray[np.bool_]

_FIXABLE = ("weights", "means", "covariances")
_PRIOR_VALUES = ("mean", "shrinkage", "dof", "scale")

# Fraley and Raftery's default number of rows that the prior of a mean counts as.
_SHRINKAGE = 0.01


def check_labels(
    labels: Any,
    rows: int,
    components: int,
    weights: Float | None = None,
    called: str = "component",
    all_needed: bool = True,
) -> Membership | None:
    """What labels say about the components of the rows; None if nothing.

    Parameters
    ----------
    labels : None, array-like of shape (N,), or array-like of shape (N, K)
        A component for each row, from 0 to K - 1, and -1 or NaN where it is not known; or whether each row may belong
        to each component.
    rows, components : int
        N, K.
    weights : ndarray of shape (N,), optional
        The rows' weights; those of weight 0 are not there.
    called : str
        What a component is called.
    all_needed : bool, default=True
        Whether it is an error if no row may belong to some component.
    """
    if labels is None:
        return None
    membership = _membership(labels, rows, components)
    if membership is not None and all_needed:
        counted = np.arange(rows) if weights is None else np.flatnonzero(weights)
        without = ~membership.taken(counted).possible(components)
        if without.any():
            raise ValueError(
                f"labels leave {called} {int(np.argmax(without))} without rows: no row that counts may belong to it"
            )
    return membership


def _membership(labels: Any, rows: int, components: int) -> Membership | None:
    array = np.asarray(unmasked(to_host(labels), "labels"))
    if array.ndim == 2:
        return _check_allowed(array, rows, components)
    if array.shape != (rows,):
        raise ValueError(
            f"labels has shape {array.shape}, neither ({rows},), one for each row, nor ({rows}, {components}), whether "
            "each row may belong to each component"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"labels must be whole numbers from 0 to {components - 1}, or -1 or NaN where the component is not known; "
            f"got values of type {array.dtype}"
        )
    known = np.where(np.isnan(array), -1, array) if array.dtype.kind == "f" else array
    wrong = (known != np.floor(known)) | (known < -1) | (known >= components)
    if wrong.any():
        raise ValueError(
            f"labels must be whole numbers from 0 to {components - 1}, or -1 or NaN where the component is not known; "
            f"row {int(np.argmax(wrong))} has {array[int(np.argmax(wrong))]} ({int(wrong.sum())} such rows)"
        )
    known = known.astype(np.intp)
    return Labels(known) if (known >= 0).any() else None


def _check_allowed(array: NDArray[Any], rows: int, components: int) -> Membership | None:
    if array.shape != (rows, components):
        raise ValueError(f"labels has shape {array.shape}, not ({rows}, {components})")
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(
            "labels with two dimensions say whether each row may belong to each component: they must be true or false, "
            "or 1 or 0"
        )
    allowed = array.astype(bool)
    nowhere = ~allowed.any(axis=1)
    if nowhere.any():
        raise ValueError(
            f"labels allow row {int(np.argmax(nowhere))} no component ({int(nowhere.sum())} such rows): where nothing "
            "is known, allow all"
        )
    return None if allowed.all() else Allowed(allowed)


def check_fixed(
    fixed: Any, components: int, dims: int, covariance: Covariance
) -> tuple[Booleans | None, Fixed | None]:
    """Which weights (K,), and which means and covariances, keep their initial values; None where none does."""
    if fixed is None:
        return None, None
    if not isinstance(fixed, Mapping) or not set(fixed) <= set(_FIXABLE):
        raise ValueError(
            f"fixed must be a dict of masks with keys among {', '.join(map(repr, _FIXABLE))}, got {fixed!r}"
        )
    K, D = components, dims
    weights = _mask(fixed, "weights", ((K,),), (K,))
    means = _mask(fixed, "means", ((K,), (K, D)), (K, D))
    covariances = _mask(fixed, "covariances", ((K,),), (K,))
    if (covariance.storage.shared or covariance.constrained) and covariances.any() != covariances.all():
        share = "parts of their covariances" if covariance.constrained else "one covariance"
        raise ValueError(
            f"fixed['covariances'] holds some components and not others, which share {share} "
            f"({covariance.name!r}): hold all or none"
        )
    of_gaussians = Fixed(means, covariances) if means.any() or covariances.any() else None
    return weights if weights.any() else None, of_gaussians


def _mask(
    fixed: Mapping[str, Any], name: str, shapes: tuple[tuple[int, ...], ...], shape: tuple[int, ...]
) -> Booleans:
    """A mask of the given shape from one number for all, for each component, or for each entry."""
    array = np.asarray(fixed.get(name, False))
    if array.shape not in ((), *shapes):
        wanted = " or ".join(str(s) for s in shapes)
        raise ValueError(
            f"fixed[{name!r}] has shape {array.shape}, not {wanted}, nor is it one true or false"
        )
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"fixed[{name!r}] must hold true or false")
    if array.ndim == 1 and len(shape) == 2:
        array = array[:, None]
    return np.array(np.broadcast_to(array.astype(bool), shape))


def check_fixed_values(
    given: Mapping[str, Float],
    weights: Booleans | None,
    gaussians: Fixed | None,
    shared: bool,
    noise: bool = False,
) -> None:
    """Raise ValueError unless what is fixed has a value, and weights that are fixed can sum to 1, with noise if any."""
    masks: dict[str, tuple[str, Booleans]] = {}
    if weights is not None:
        masks["weights"] = ("weights_init", weights)
    if gaussians is not None:
        masks["means"] = ("means_init", gaussians.means)
        masks["precisions"] = ("precisions_init", gaussians.covariances)
    for name, (parameter, mask) in masks.items():
        if not mask.any():
            continue
        values = given.get(name)
        if values is not None and name == "precisions":
            values = (
                np.full(mask.shape, values.sum()) if shared else values.reshape(len(mask), -1).sum(axis=1)
            )
        if values is None or np.isnan(values[mask]).any():
            missing = mask if values is None else mask & np.isnan(values)
            components = np.flatnonzero(missing.reshape(len(missing), -1).any(axis=1))
            raise ValueError(
                f"fixed holds {name if name != 'precisions' else 'covariances'} of component "
                f"{', '.join(map(str, components))}, but {parameter} gives no value"
            )
    if weights is not None:
        held = given["weights"][weights]
        total = float(held.sum())
        if (held < 0.0).any() or total > 1.0 + 1e-8 or (weights.all() and abs(total - 1.0) > 1e-8):
            raise ValueError(
                f"the fixed weights are {held}, with sum {total:.6g}: with the others they cannot sum to 1"
            )
        if noise and (weights.all() or total > 1.0 - 1e-8):
            raise ValueError(
                f"the fixed weights are {held}, which leaves nothing for the noise: hold fewer of them, or smaller ones"
            )


def n_fixed(
    weights: Booleans | None, gaussians: Fixed | None, covariance: Covariance, components: int, dims: int
) -> int:
    """How many parameters keep their initial values, of those that would be free."""
    held = 0
    if weights is not None:
        held += min(int(weights.sum()), components - 1)  # the last weight is what the others leave
    if gaussians is not None:
        share = covariance.n_parameters(components, dims) * float(gaussians.covariances.mean())
        held += int(gaussians.means.sum()) + round(share)
    return held


def check_prior(
    prior: Any, components: int, dims: int, mean: Float, covariance: Float, diagonal: bool
) -> ConjugatePrior | None:
    """The prior that 'default' or a dict of values names.

    Parameters
    ----------
    prior : None, 'default' or dict
    components, dims : int
        K, D.
    mean, covariance : ndarray of shape (D,) and (D, D)
        Of the table.
    diagonal : bool
        Whether components have no matrices; the scale is then a multiple of the identity.
    """
    if prior is None:
        return None
    values = {} if isinstance(prior, str) else prior
    if (isinstance(prior, str) and prior != "default") or not isinstance(values, Mapping):
        raise ValueError(f"prior must be None, 'default' or a dict of values, got {prior!r}")
    if not set(values) <= set(_PRIOR_VALUES):
        raise ValueError(f"prior has keys {sorted(values)}; known are {', '.join(map(repr, _PRIOR_VALUES))}")
    shrinkage = _number(values.get("shrinkage", _SHRINKAGE), "shrinkage", 0.0, "not negative")
    dof = _number(values.get("dof", dims + 2.0), "dof", dims - 1.0, f"greater than D - 1 = {dims - 1}")
    if not dof > dims - 1.0:
        raise ValueError(f"prior['dof'] must be greater than D - 1 = {dims - 1}, got {dof}")
    center = np.asarray(values.get("mean", mean), dtype=np.float64)
    if center.shape != (dims,) or not np.isfinite(center).all():
        raise ValueError(f"prior['mean'] must be {dims} finite numbers, got shape {center.shape}")
    if "scale" in values:
        return ConjugatePrior(center, shrinkage, dof, _scale(values["scale"], dims))
    scale = np.array(covariance)
    if diagonal:
        scale = np.eye(dims) * (np.trace(scale) / dims)
    scale /= components ** (2.0 / dims)
    if not is_definite(scale):
        raise ValueError(
            "prior='default' takes its scale from the covariance of X, which is singular: columns are constant or "
            "combinations of others. Remove these, or give prior={'scale': ...}"
        )
    return ConjugatePrior(center, shrinkage, dof, scale)


def _number(value: Any, name: str, least: float, wanted: str) -> float:
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "iuf" or not np.isfinite(array) or array < least:
        raise ValueError(f"prior[{name!r}] must be a finite number, {wanted}, got {value!r}")
    return float(array)


def _scale(value: Any, dims: int) -> Float:
    """A positive definite scale matrix from a number, variances (D,) or a matrix (D, D)."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (dims,), (dims, dims)):
        raise ValueError(
            f"prior['scale'] has shape {array.shape}: it must be one number, ({dims},) or ({dims}, {dims})"
        )
    matrix = array if array.ndim == 2 else np.diag(np.broadcast_to(array, dims))
    if not (np.isfinite(matrix).all() and np.allclose(matrix, matrix.T) and is_definite(matrix)):
        raise ValueError("prior['scale'] must be symmetric and positive definite")
    return np.array(matrix)
