"""Many mixtures at once: one for each group of rows, fitted side by side without Python in the loop."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from mixtura import backends
from mixtura.array_kinds import to_host, unmasked
from mixtura.backends.clustering import FIRST_FAILURE
from mixtura.estimators import GaussianMixture
from mixtura.estimators.validation import check_finite
from mixtura.files import write_whole
from mixtura.persistence import ModelFileError

__all__ = ["ManyMixtures", "fit_many"]

Float = NDArray[np.float64]

# The covariance types that the kernels know, and the form in which they keep them.
FORMS = {"full": "triangle", "tied": "triangle", "diag": "diagonal", "spherical": "scalar"}

# What the header of a file says that it holds.
_KIND = "mixtura many 1"

# Kinds of names that are moments or spans of time.
_OF_TIME = "mM"

# What became of a group, by the kernels' number, and why.
STATUS = {
    0: ("converged", ""),
    1: ("not converged", "max_iter was reached: increase it, or tol"),
    2: ("failed", "a covariance became singular: use fewer components or a larger reg_covar"),
    3: ("failed", "values are so large that sums of their squares cannot be represented"),
    4: ("failed", "fewer rows than components, or a single row"),
}


@dataclass(frozen=True, eq=False, repr=False)
class ManyMixtures:
    """Gaussian mixtures of G groups.

    ``mixtures[group]`` is the fitted :class:`mixtura.GaussianMixture` of one of them.

    Attributes
    ----------
    groups : ndarray of shape (G,)
        The groups' names, sorted.
    covariance_type : str
    n_rows : ndarray of shape (G,)
    status, reason : ndarray of str of shape (G,)
        'converged', 'not converged' or 'failed', and why; parameters of a group that failed are NaN or not to be used.
    weights : ndarray of shape (G, K)
    means : ndarray of shape (G, K, D)
    covariances : ndarray
        (G, K, D, D) 'full', (G, D, D) 'tied', (G, K, D) 'diag', (G, K) 'spherical'.
    lower_bound : ndarray of shape (G,)
        Log-likelihood per row.
    n_iter : ndarray of shape (G,)
    columns : list of str
    """

    groups: NDArray[Any]
    covariance_type: str
    n_rows: NDArray[np.int64]
    outcome: NDArray[np.int32]
    weights: Float
    means: Float
    covariances: Float
    lower_bound: Float
    n_iter: NDArray[np.int32]
    columns: list[str]

    def __len__(self) -> int:
        return len(self.groups)

    def __repr__(self) -> str:
        G, K, D = self.means.shape
        return f"<{G} mixtures of {K} Gaussians in {D} columns, {int((~self.fitted).sum())} failed>"

    def __iter__(self) -> Iterator[Any]:
        return iter(self.groups)

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Which groups have a mixture, (G,)."""
        return np.asarray(self.outcome < FIRST_FAILURE)

    @property
    def status(self) -> NDArray[Any]:
        """What became of each group, (G,)."""
        return np.array([STATUS[int(o)][0] for o in self.outcome])

    @property
    def reason(self) -> NDArray[Any]:
        """Why, (G,)."""
        return np.array([STATUS[int(o)][1] for o in self.outcome])

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {name: g for g, name in enumerate(self.groups.tolist())}

    def _place(self, group: Any) -> int:
        name = self._moment(group) if self.groups.dtype.kind in _OF_TIME else group
        known = self._places.get(name.item() if isinstance(name, np.generic) else name)
        # Files of an earlier version have words where there were numbers or days.
        if known is None and self.groups.dtype.kind == "U":
            known = self._places.get(str(group))
        if known is None:
            raise KeyError(f"there is no group {group!r}")
        return known

    def _moment(self, group: Any) -> Any:
        """A moment or span of time in the groups' unit; None for anything else, and where that unit is too coarse."""
        if isinstance(group, int | np.integer) and not isinstance(group, np.timedelta64):
            return None
        try:
            given = np.asarray(group)
            if given.dtype.kind != self.groups.dtype.kind:
                given = np.array(group, dtype=f"{self.groups.dtype.kind}8")
            name = given.astype(self.groups.dtype)
        except (TypeError, ValueError):
            return None
        return name[()] if name == given else None

    def __getitem__(self, group: Any) -> GaussianMixture:
        g = self._place(group)
        if not self.fitted[g]:
            raise ValueError(f"group {group!r} has no mixture: {self.reason[g]}")
        K, D = self.means.shape[1:]
        gm = GaussianMixture(K, covariance_type=self.covariance_type)
        gm.weights_, gm.means_, gm.covariances_ = self.weights[g], self.means[g], self.covariances[g]
        storage = gm._covariance.storage
        gm.precisions_cholesky_ = storage.cholesky(np.array(gm.covariances_))
        gm.precisions_ = storage.precisions(gm.precisions_cholesky_)
        gm.converged_, gm.n_iter_ = bool(self.outcome[g] == 0), int(self.n_iter[g])
        gm.lower_bound_, gm.lower_bounds_ = float(self.lower_bound[g]), [float(self.lower_bound[g])]
        gm.backend_, gm.n_features_in_, gm._n_rows = "native", D, int(self.n_rows[g])
        gm._fitted_type = self.covariance_type
        return gm

    @property
    def table(self) -> Any:
        """A ``pyarrow.Table`` with a row for each group.

        Its columns are group, status, reason, n_rows, n_iter, converged, lower_bound, weights, means, covariances; the
        last three are lists, row by row.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise ImportError("tables need pyarrow: pip install 'mixtura[io]'") from error
        G, names = len(self), self.groups
        if names.dtype.kind in _OF_TIME and np.datetime_data(names.dtype)[0] not in ("s", "ms", "us", "ns"):
            names = names.astype(f"{names.dtype.kind}8[s]")  # Arrow knows no others
        flat = {"weights": self.weights, "means": self.means, "covariances": self.covariances}
        return pyarrow.table(
            {
                "group": names,
                "status": self.status,
                "reason": self.reason,
                "n_rows": self.n_rows,
                "n_iter": self.n_iter,
                "converged": self.outcome == 0,
                "lower_bound": self.lower_bound,
                **{name: list(values.reshape(G, -1)) for name, values in flat.items()},
            }
        )

    def predict(self, X: ArrayLike, groups: ArrayLike, n_threads: int | None = None) -> NDArray[np.int32]:
        """Most likely component of each row in the mixture of its group; -1 where that has none.

        Parameters
        ----------
        X : array-like of shape (N, D)
        groups : array-like of shape (N,)
            Groups that were fitted.
        n_threads : int, default=None

        Returns
        -------
        labels : ndarray of int32 of shape (N,)

        Raises
        ------
        KeyError
            A group was not fitted.
        ValueError
            X is not finite, or shapes do not fit.
        """
        rows, names = _rows(X), _names(groups)
        if names.shape != (len(rows),):
            raise ValueError(f"groups has shape {names.shape}, and X has {len(rows)} rows")
        if rows.shape[1] != self.means.shape[2]:
            raise ValueError(
                f"X has {rows.shape[1]} columns, and the mixtures are of {self.means.shape[2]}: {self.columns}"
            )
        from mixtura import _native

        distinct, order, offsets = _by_group(names)
        places = [self._place(group) for group in distinct]
        found = _native.assign_many(
            _native.Table(rows[order], None),
            offsets,
            FORMS[self.covariance_type],
            self.covariance_type == "tied",
            self.weights[places],
            self.means[places],
            self.covariances[places],
            self.outcome[places],
            0 if n_threads is None else _positive(n_threads, "n_threads", 1),
        )
        labels = np.empty(len(rows), dtype=np.int32)
        labels[order] = found
        return labels

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all mixtures to one file; :meth:`load` reads it, and runs no code.

        Parameters
        ----------
        path : path-like
        """
        from safetensors.numpy import save

        names, header = self.groups, {"kind": _KIND, "covariance_type": self.covariance_type}
        if names.dtype.kind in _OF_TIME:
            header["time"] = str(names.dtype)
            names = names.astype(np.int64)
        if names.dtype.kind == "u":
            header["unsigned"] = "yes"
        header |= {"groups": json.dumps(names.tolist()), "columns": json.dumps(self.columns)}
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        data = save(arrays, metadata=header)
        write_whole(path, lambda name: Path(name).write_bytes(data))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ManyMixtures:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ModelFileError
            The file holds something else, is cut short or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="numpy") as file:
                header = file.metadata() or {}
                if header.get("kind") != _KIND:
                    raise ModelFileError(f"{path} does not hold many mixtures")
                arrays = {name: file.get_tensor(name) for name in _ARRAYS}
        except SafetensorError as error:
            raise ModelFileError(f"{path} cannot be read: {error}") from error
        try:
            groups, columns = _of_file(header), list(json.loads(header["columns"]))
            if "time" in header:
                groups = _of_time(groups, header["time"])
            found = cls(groups, header["covariance_type"], columns=columns, **arrays)
            found._check()
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelFileError(f"{path} does not hold whole mixtures: {error}") from error
        return found

    def _check(self) -> None:
        """Raise ValueError unless the arrays fit each other."""
        (G, K), D = self.weights.shape, len(self.columns)
        wanted = {
            "groups": (G,),
            "means": (G, K, D),
            "covariances": _shape_of(self.covariance_type, G, K, D),
            **dict.fromkeys(("n_rows", "outcome", "lower_bound", "n_iter"), (G,)),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, not {shape}")
        if not set(np.unique(self.outcome)) <= set(STATUS):
            raise ValueError("an outcome is unknown")


def _of_file(header: dict[str, str]) -> NDArray[Any]:
    """The names of the groups, as the header of a model file has them."""
    names = json.loads(header["groups"])
    return np.array(names, dtype=np.uint64) if "unsigned" in header else np.array(names)


def _of_time(numbers: NDArray[Any], name: str) -> NDArray[Any]:
    """Moments or spans of time, of the type that a file names, from whole numbers."""
    if numbers.dtype.kind != "i" or np.dtype(name).kind not in _OF_TIME:
        raise ValueError(f"groups are no numbers of type {name}")
    return numbers.astype(np.int64).astype(name)


def holds_many(path: str | os.PathLike[str]) -> bool:
    """Whether a model file holds many mixtures."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            return bool((file.metadata() or {}).get("kind") == _KIND)
    except SafetensorError:
        return False  # whoever reads it says what is wrong


_ARRAYS = ("n_rows", "outcome", "weights", "means", "covariances", "lower_bound", "n_iter")


def fit_many(
    X: ArrayLike,
    groups: ArrayLike,
    n_components: int = 1,
    *,
    covariance_type: str = "full",
    tol: float = 1e-3,
    reg_covar: float = 1e-6,
    max_iter: int = 100,
    labels: ArrayLike | None = None,
    random_state: int = 0,
    n_threads: int | None = None,
) -> ManyMixtures:
    """Fit an independent Gaussian mixture to each group of rows.

    Groups are taken by threads, one after the other, each from its start to its end, in C++: for a hundred thousand
    groups of a hundred to ten thousand rows. A group that fails gets a status and a reason, and the others go on.

    Parameters
    ----------
    X : array-like of shape (N, D)
    groups : array-like of shape (N,)
        The group of each row: integers, text, or moments or spans of time.
    n_components : int, default=1
        K, of every group.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    tol, reg_covar, max_iter
        As for :class:`mixtura.GaussianMixture`.
    labels : array-like of shape (N,), default=None
        The component to which each row belongs at first, from 0 to K - 1; None takes the best of three searches of
        k-means.
    random_state : int, default=0
        Seed of k-means. The result does not depend on the number of threads.
    n_threads : int, default=None

    Returns
    -------
    ManyMixtures

    Raises
    ------
    ValueError
        X is not finite, shapes do not fit, or groups hold NaN.
    ImportError
        The C++ kernels are not in this installation.

    Examples
    --------
    >>> import numpy as np, mixtura
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(["a", "b"], 200)
    >>> X = rng.normal(size=(400, 1)) + 8.0 * rng.integers(0, 2, size=(400, 1)) + 100.0 * (groups == "b")[:, None]
    >>> many = mixtura.fit_many(X, groups, 2)
    >>> many.status.tolist()
    ['converged', 'converged']
    >>> np.sort(many["b"].means_[:, 0]).round().astype(int).tolist()
    [100, 108]
    """
    backends.create("native")  # says what to do where there are no kernels
    from mixtura import _native

    rows, names = _rows(X), _names(groups)
    K = _positive(n_components, "n_components", 1)
    most = _positive(max_iter, "max_iter", 1)
    if covariance_type not in FORMS:
        known = ", ".join(map(repr, FORMS))
        raise ValueError(f"covariance_type must be one of {known}, got {covariance_type!r}")
    for name, value in (("tol", tol), ("reg_covar", reg_covar)):
        if isinstance(value, bool) or not isinstance(value, Real) or not value >= 0.0:
            raise ValueError(f"{name} must be a number that is not negative, got {value!r}")
    if names.shape != (len(rows),):
        raise ValueError(f"groups has shape {names.shape}, and X has {len(rows)} rows")
    if names.dtype.kind == "f" and np.isnan(names).any():
        raise ValueError(f"groups holds NaN in {int(np.isnan(names).sum())} rows: every row needs a group")
    if names.dtype.kind in _OF_TIME and np.isnat(names).any():
        raise ValueError(f"groups holds NaT in {int(np.isnat(names).sum())} rows: every row needs a group")
    if names.dtype.kind == "O" and any(n is None or n != n for n in names):
        raise ValueError("groups holds missing values: every row needs a group")
    distinct, order, offsets = _by_group(names)
    first = None
    if labels is not None:
        given = np.asarray(to_host(labels))
        if given.shape != (len(rows),) or given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= K:
            raise ValueError(f"labels must be {len(rows)} integers from 0 to {K - 1}")
        first = np.ascontiguousarray(given[order], dtype=np.int32)
    table = _native.Table(rows[order], None)
    weights, means, covariances, bound, iterations, outcome = _native.fit_many(
        table,
        offsets,
        K,
        FORMS[covariance_type],
        covariance_type == "tied",
        float(tol),
        float(reg_covar),
        most,
        _positive(random_state, "random_state", 0),
        first,
        None,
        0 if n_threads is None else _positive(n_threads, "n_threads", 1),
    )
    G, D = len(distinct), rows.shape[1]
    columns = [str(c) for c in getattr(X, "columns", [f"x{j}" for j in range(D)])]
    covariances = covariances.reshape(_shape_of(covariance_type, G, K, D))
    counts = np.diff(offsets)
    return ManyMixtures(
        distinct, covariance_type, counts, outcome, weights, means, covariances, bound, iterations, columns
    )


def bounds_of_many(
    tables: NDArray[np.floating],
    start: GaussianMixture,
    *,
    tol: float,
    reg_covar: Float,
    max_iter: int,
    n_threads: int,
) -> Float:
    """The bounds of fits to many tables, each of which starts from the parameters of one mixture; NaN if one fails.

    Parameters
    ----------
    tables : ndarray of shape (T, N, D)
    start : GaussianMixture
        Of a covariance type that :func:`fit_many` takes.
    tol, max_iter
        As for :class:`mixtura.GaussianMixture`.
    reg_covar : ndarray of shape (T, D)
        What is added to the variances of each table's columns.
    n_threads : int

    Returns
    -------
    bounds : ndarray of shape (T,)
        Log-likelihoods per row.
    """
    from mixtura import _native

    T, N, D = tables.shape
    covariance_type = str(start.covariance_type)
    weights, means, covariances = (
        np.ascontiguousarray(part, dtype=np.float64)
        for part in (start.weights_, start.means_, start.covariances_)
    )
    *_, bounds, _, outcome = _native.fit_many(
        _native.Table(tables.reshape(T * N, D), None),
        N * np.arange(T + 1, dtype=np.int64),
        len(means),
        FORMS[covariance_type],
        covariance_type == "tied",
        tol,
        reg_covar,
        max_iter,
        0,
        None,
        (weights, means, covariances),
        n_threads,
    )
    return np.asarray(np.where(outcome < FIRST_FAILURE, bounds, np.nan))


def _shape_of(covariance_type: str, G: int, K: int, D: int) -> tuple[int, ...]:
    """The shape of the covariances of G groups."""
    shapes = {"full": (G, K, D, D), "tied": (G, D, D), "diag": (G, K, D), "spherical": (G, K)}
    return shapes[covariance_type]


def _rows(X: Any) -> NDArray[np.floating]:
    """Finite rows (N, D), float32 or float64."""
    rows: NDArray[np.floating] = check_array(
        unmasked(to_host(X), "X"), dtype=[np.float64, np.float32], ensure_all_finite=False, input_name="X"
    )
    check_finite(rows)
    return rows


def _names(groups: Any) -> NDArray[Any]:
    """The group of each row (N,), in this machine's order of bytes; days and whole numbers as such."""
    names = np.asarray(unmasked(to_host(groups), "groups"))
    if names.dtype.kind == "O" and len(names):
        kinds = set(map(type, names.ravel().tolist()))
        whole = np.array(names.tolist()) if kinds == {int} else names
        if whole.dtype.kind in "iu":  # not of numbers that no type of integers holds together
            names = whole
        elif kinds == {datetime.date}:
            names = names.astype("datetime64[D]")
    return names if names.dtype.isnative else names.astype(names.dtype.newbyteorder("="))


def _by_group(names: NDArray[Any]) -> tuple[NDArray[Any], slice | NDArray[np.intp], NDArray[np.int64]]:
    """The distinct names (G,), sorted; the order that brings rows of a group together; where groups begin (G + 1,)."""
    if names.dtype.kind == "O":
        names = names.astype(str)
    begins = np.flatnonzero(names[1:] != names[:-1]) + 1
    starts = np.concatenate([[0], begins]).astype(np.int64)
    distinct = names[starts]
    if bool(np.all(distinct[1:] > distinct[:-1])):  # sorted already
        return distinct, slice(None), np.append(starts, len(names))
    distinct, codes = np.unique(names, return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes.ravel(), minlength=len(distinct)))])
    return distinct, np.argsort(codes.ravel(), kind="stable"), offsets.astype(np.int64)


def _positive(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)
