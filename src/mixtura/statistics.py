"""The sufficient statistic of every mixture: weighted moments about a pivot.

::

    mass_k   = sum_i r_ik                    (K,)
    first_k  = sum_i r_ik (z_i - p)          (K, D)
    second_k = sum_i r_ik (z_i - p)(z_i - p)'  in the shape its kind says

Moments form a commutative monoid under ``+`` (up to rounding), with :meth:`Moments.zero`. Blocks, threads,
files and machines all meet there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from mixtura.threads import thread_limit

Kind = Literal["mass", "mean", "trace", "diagonal", "full", "shared"]
Float = NDArray[np.float64]

_STATE_VERSION = 1

# Numbers from which on more threads than one write them.
_MUCH = 1 << 21

# Squared distance of a mean from the pivot, in spreads, from which on matrices are looked at for what it costs them.
_FAR = 100.0

# Keeps the mass of an empty component positive, as scikit-learn does: its weight is then 1e-15 / N, not 0.
MASS_FLOOR = 10 * float(np.finfo(np.float64).eps)


def packed_size(dims: int) -> int:
    """Length of a packed triangle: D (D + 1) / 2."""
    return dims * (dims + 1) // 2


def _packed_rows(dims: int) -> Iterator[slice]:
    """Where the rows of a triangle lie in its packed form: slices are followed faster than index arrays."""
    for a in range(dims):
        yield slice(packed_size(a), packed_size(a + 1))


def _in_parts(fill: Callable[..., None], out: Float, *arrays: Float) -> None:
    """``fill(out, *arrays)``; where there is much to write, each thread fills some of the components."""
    threads = min(thread_limit(), len(out)) if out.ndim > 1 and out.size >= _MUCH else 1
    if threads == 1:
        fill(out, *arrays)
        return
    cuts = np.linspace(0, len(out), threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        parts = (slice(*cut) for cut in pairwise(cuts))
        for done in [pool.submit(fill, out[part], *(a[part] for a in arrays)) for part in parts]:
            done.result()


def pack_symmetric(matrices: NDArray[Any]) -> NDArray[Any]:
    """(..., D, D) symmetric matrices to their (..., D (D + 1) / 2) lower triangles, row by row."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return np.ascontiguousarray(matrices[..., rows, columns])


def unpack_symmetric(packed: Float, dims: int) -> Float:
    """(..., D (D + 1) / 2) lower triangles, row by row, to (..., D, D) symmetric matrices."""
    out = np.empty((*packed.shape[:-1], dims, dims))

    def fill(out: Float, packed: Float) -> None:
        for a, row in enumerate(_packed_rows(dims)):
            out[..., a, : a + 1] = out[..., : a + 1, a] = packed[..., row]

    _in_parts(fill, out, packed)
    return out


def _outer(a: Float, b: Float) -> Float:
    """Packed a b' + b a' of (..., D) vectors."""
    out = np.empty((*np.broadcast_shapes(a.shape, b.shape)[:-1], packed_size(a.shape[-1])))

    def fill(out: Float, a: Float, b: Float) -> None:
        for d, row in enumerate(_packed_rows(a.shape[-1])):
            np.multiply(a[..., d : d + 1], b[..., : d + 1], out=out[..., row])
            out[..., row] += b[..., d : d + 1] * a[..., : d + 1]

    _in_parts(fill, out, a, b)
    return out


def inverse_norm(covariance: Float) -> float:
    """Norm of the inverse of the correlations that belong to a covariance (D, D); infinity if they are singular."""
    scale = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    if not np.all(scale > 0.0):
        return np.inf
    correlation = covariance / np.outer(scale, scale)
    factor, failed = lapack.dpotrf(correlation, lower=1, clean=0)
    if failed:
        return np.inf
    norm = float(np.abs(correlation).sum(axis=0).max())
    reciprocal, _ = lapack.dpocon(factor, norm, uplo="L")
    return 1.0 / (reciprocal * norm) if reciprocal > 0.0 else np.inf


# The second moment of each kind: its trailing shape, and the packed form of (a b' + b a') that
# a change of pivot needs.
_SHAPES: dict[Kind, Callable[[int, int], tuple[int, ...]]] = {
    "mass": lambda K, D: (0,),
    "mean": lambda K, D: (0,),
    "trace": lambda K, D: (K,),
    "diagonal": lambda K, D: (K, D),
    "full": lambda K, D: (K, packed_size(D)),
    "shared": lambda K, D: (packed_size(D),),
}
_SYMMETRIC: dict[Kind, Callable[[Float, Float], Float]] = {
    "trace": lambda a, b: 2.0 * np.sum(a * b, axis=-1),
    "diagonal": lambda a, b: 2.0 * a * b,
    "full": _outer,
    "shared": lambda a, b: np.asarray(_outer(a, b).sum(axis=0)),
}


# Which numbers of a second moment have to do with any of the given columns (K, D).
_TOUCHED: dict[Kind, Callable[[NDArray[np.bool_]], NDArray[np.bool_]]] = {
    "trace": lambda columns: columns[:, 0],
    "diagonal": lambda columns: columns,
    "full": lambda columns: pack_symmetric(columns[:, :, None] | columns[:, None, :]),
    "shared": lambda columns: pack_symmetric(
        np.all(columns[:, :, None] | columns[:, None, :], axis=0, keepdims=True)
    )[0],
}


def _diagonal_of_packed(packed: Float, dims: int) -> Float:
    """The D squares of packed triangles."""
    a = np.arange(dims)
    return packed[..., a * (a + 3) // 2]


# The second moment of each column about the pivot, divided by the mass, (K, D) or what broadcasts to it; then
# the same of the means alone. Their difference is the variance.
_SQUARES: dict[Kind, Callable[[Moments, Float, Float], tuple[Float, Float]]] = {
    "trace": lambda m, mass, d2: (
        (m.second / mass / d2.shape[1])[:, None],
        d2.mean(axis=1, keepdims=True),
    ),
    "diagonal": lambda m, mass, d2: (m.second / mass[:, None], d2),
    "full": lambda m, mass, d2: (_diagonal_of_packed(m.second, d2.shape[1]) / mass[:, None], d2),
    "shared": lambda m, mass, d2: (
        _diagonal_of_packed(m.second, d2.shape[1]) / mass.sum(),
        mass @ d2 / mass.sum(),
    ),
}


@dataclass(frozen=True)
class Moments:
    """Weighted moments of rows about a pivot, one set per component.

    Attributes
    ----------
    kind : {'mass', 'mean', 'trace', 'diagonal', 'full', 'shared'}
        What is kept: the mass only; also the first moment; also the second moment as its trace, its diagonal,
        its packed lower triangle, or one packed triangle summed over all components.
    pivot : ndarray of shape (D,) or (K, D)
        The point that the rows are measured from, or one for each component.
    mass : ndarray of shape (K,)
        Total responsibility of each component.
    first : ndarray of shape (K, D)
        First moment about the pivot; shape (K, 0) for kind 'mass'.
    second : ndarray
        Second moment about the pivot: (0,) for 'mass' and 'mean', (K,) for 'trace', (K, D) for 'diagonal',
        (K, D (D + 1) / 2) for 'full', (D (D + 1) / 2,) for 'shared'.
    log_likelihood : float
        Weighted sum of the rows' log-likelihoods; 0 where responsibilities were given.
    n_samples : int
        Number of rows seen, whatever their weights.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura.statistics import Moments
    >>> X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 8.0]])
    >>> a = Moments.of(X[:1], "full")
    >>> b = Moments.of(X[1:], "full")
    >>> (a + b).means()
    array([[2., 4.]])
    >>> (a + b).covariances()[0]
    array([[2.66666667, 4.66666667],
           [4.66666667, 8.66666667]])
    """

    kind: Kind
    pivot: Float
    mass: Float
    first: Float
    second: Float
    log_likelihood: float = 0.0
    n_samples: int = 0

    @classmethod
    def zero(cls, kind: Kind, components: int, pivot: Float) -> Moments:
        """The neutral element: no rows seen.

        Parameters
        ----------
        kind : str
            As in :class:`Moments`.
        components : int
            K.
        pivot : ndarray of shape (D,) or (K, D)
        """
        dims = pivot.shape[-1]
        return cls(
            kind,
            np.asarray(pivot, dtype=np.float64),
            np.zeros(components),
            np.zeros((components, 0 if kind == "mass" else dims)),
            np.zeros(_SHAPES[kind](components, dims)),
        )

    @classmethod
    def of(
        cls,
        X: Float,
        kind: Kind,
        *,
        resp: Float | None = None,
        pivot: Float | None = None,
        sample_weight: Float | None = None,
    ) -> Moments:
        """Moments of an array, the plain way: the definition that every backend is held to.

        Parameters
        ----------
        X : ndarray of shape (N, D)
        kind : str
            As in :class:`Moments`.
        resp : ndarray of shape (N, K), default: one component that takes all
        pivot : ndarray of shape (D,), default: zeros
        sample_weight : ndarray of shape (N,), default: ones
        """
        X = np.asarray(X, dtype=np.float64)
        n, dims = X.shape
        p = np.zeros(dims) if pivot is None else np.asarray(pivot, dtype=np.float64)
        r = np.ones((n, 1)) if resp is None else np.asarray(resp, dtype=np.float64)
        if sample_weight is not None:
            r = r * np.asarray(sample_weight, dtype=np.float64)[:, None]
        z = X - p
        z[~r.any(axis=1)] = 0.0  # a row that does not count may be far beyond the range of its square
        zero = cls.zero(kind, r.shape[1], p)
        second = zero.second
        if kind == "full":
            second = pack_symmetric(np.stack([(z * r_k[:, None]).T @ z for r_k in r.T]))
        elif kind == "shared":
            second = pack_symmetric((z * r.sum(axis=1)[:, None]).T @ z)
        elif kind == "diagonal":
            second = r.T @ (z * z)
        elif kind == "trace":
            second = r.T @ np.sum(z * z, axis=1)
        first = zero.first if kind == "mass" else r.T @ z
        return replace(zero, mass=r.sum(axis=0), first=first, second=second, n_samples=n)

    @classmethod
    def from_table(
        cls,
        kind: Kind,
        pivot: Float,
        table: Float,
        log_likelihood: float,
        n_samples: int,
        scatter: Float | None = None,
    ) -> Moments:
        """Moments out of a kernel's table (K, P), whose rows are [mass | mean | second moment].

        For kind 'shared' the table's second moments are packed triangles, to be summed over components, or
        absent where the sum is known already: ``scatter``, (D (D + 1) / 2,).
        """
        components, dims = len(table), pivot.shape[-1]
        mean = 1 if kind == "mass" else 1 + dims
        second = table[:, mean:]
        if kind == "shared":
            second = second.sum(axis=0) if scatter is None else scatter
        return cls(
            kind,
            pivot,
            np.ascontiguousarray(table[:, 0]),
            np.ascontiguousarray(table[:, 1:mean]),
            np.ascontiguousarray(second).reshape(_SHAPES[kind](components, dims)),
            log_likelihood,
            n_samples,
        )

    def __add__(self, other: Moments) -> Moments:
        """Moments of the rows of both, about the pivot of the left one."""
        if not isinstance(other, Moments):
            return NotImplemented
        if other.kind != self.kind or other.first.shape != self.first.shape:
            raise ValueError(
                f"cannot add moments of kind {other.kind!r} and shape {other.first.shape} "
                f"to kind {self.kind!r} and shape {self.first.shape}"
            )
        if not np.array_equal(other.pivot, self.pivot):
            other = other.recenter(self.pivot)
        return replace(
            self,
            mass=self.mass + other.mass,
            first=self.first + other.first,
            second=self.second + other.second,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            n_samples=self.n_samples + other.n_samples,
        )

    def recenter(self, pivot: Float) -> Moments:
        """The same rows about another pivot.

        With t = old - new pivot: ``first + mass t`` and ``second + first t' + t first' + mass t t'``. Loses
        digits as (t / spread)^2 grows; moments about a pivot inside the data are the ones to keep.
        """
        pivot = np.asarray(pivot, dtype=np.float64)
        if self.kind == "mass":
            return replace(self, pivot=pivot)
        t = self.pivot - pivot
        moved = self.mass[:, None] * t
        second = self.second
        if self.kind != "mean":
            second = second + _SYMMETRIC[self.kind](self.first + 0.5 * moved, np.broadcast_to(t, moved.shape))
        return replace(self, pivot=pivot, first=self.first + moved, second=second)

    def kept_mass(self) -> Float:
        """Mass of each component with a trace added, (K,), so that no component is without: that of 1e-15 rows."""
        weight = self.mass.sum() / self.n_samples if self.n_samples else 1.0
        return np.asarray(self.mass + MASS_FLOOR * weight)

    def means(self, mass: Float | None = None) -> Float:
        """Mean of each component, (K, D); ``mass`` (K,) replaces the divisor."""
        divisor = self.mass if mass is None else mass
        return np.asarray(self.pivot + self.first / divisor[:, None])

    def covariances(self, mass: Float | None = None) -> Float:
        """Second moment of each component about its own mean, divided by its mass, in the shape of the kind.

        (K, D, D) for 'full', (D, D) pooled for 'shared', (K, D) for 'diagonal', (K,) for 'trace' (the sum of
        the D variances). ``mass`` (K,) replaces the divisor, as if what it adds lay at the pivot.
        """
        divisor = self.mass if mass is None else mass
        offsets = self.first / divisor[:, None]
        # S - n m m' with m = first / n.
        scatter = self.second - _SYMMETRIC[self.kind](0.5 * self.first, offsets)
        if self.kind == "shared":
            return unpack_symmetric(scatter / divisor.sum(), self.pivot.shape[-1])
        if self.kind == "full":
            return unpack_symmetric(scatter / divisor[:, None], self.pivot.shape[-1])
        return np.asarray(scatter / divisor.reshape((-1,) + (1,) * (scatter.ndim - 1)))

    def squares(self) -> tuple[Float, Float]:
        """Mean square of each column about the pivot, and what the means alone contribute to it.

        Both (K, D), or with axes of 1 where the kind keeps less. Their difference is the variance; where it
        is small beside the second, the variance is rounding.
        """
        mass = np.maximum(self.mass, np.finfo(np.float64).tiny)
        return _SQUARES[self.kind](self, mass, (self.first / mass[:, None]) ** 2)

    def cancellation(self, floor: float = 0.0) -> Float:
        """How many times rounding about the pivot is magnified in the variances, (K,).

        Times machine epsilon, it bounds the relative error of the variance along the worst direction: the largest
        of ``(mean - pivot)^2 / (variance + floor)`` over the columns and, where matrices are kept and the mean lies
        ten spreads or more from the pivot, the sum of these over the smallest eigenvalue of the correlations.
        Components without mass have none.
        """
        mass = np.maximum(self.mass, np.finfo(np.float64).tiny)
        about_pivot, of_means = self.squares()
        variance = np.maximum(about_pivot - of_means, 0.0) + floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = np.nan_to_num((self.first / mass[:, None]) ** 2 / variance, nan=0.0, posinf=np.inf)
        found = np.where(self.mass > 0.0, ratio.max(axis=1), 0.0)
        if self.kind in ("full", "shared"):
            sums = np.where(np.isfinite(found), ratio.sum(axis=1), 0.0)
            far = np.flatnonzero((self.mass > 0.0) & (sums > _FAR))
            if len(far):
                found[far] = np.maximum(found[far], sums[far] * self._collinearity(far, floor))
        return found

    def _collinearity(self, some: NDArray[np.intp], floor: float) -> Float:
        """About one over the smallest eigenvalue of the correlations of components, for each of ``some`` of them."""
        dims = self.first.shape[1]
        if self.kind == "shared":
            total = self.mass.sum()
            matrices = (self.second - _outer(0.5 * self.first, self.first / self.mass[:, None]).sum(axis=0))[
                None
            ]
            mass = np.array([total])
        else:
            mass, first = self.mass[some], self.first[some]
            matrices = self.second[some] - _outer(0.5 * first, first / mass[:, None])
        covariances = unpack_symmetric(matrices / mass[:, None], dims)
        i = np.arange(dims)
        covariances[:, i, i] += floor
        return np.broadcast_to([inverse_norm(c) for c in covariances], len(some))

    def without_rounding(self) -> Moments:
        """The same, with columns set to exactly nothing where their spread about the pivot is that of rounding alone.

        Meant for moments about a component's own mean, which need not be a number that float64 has: rows that are
        all equal then lie a rounding error away from it.
        """
        resolution = 4.0 * np.finfo(np.float64).eps * np.abs(self.pivot)
        spread, _ = self.squares()
        constant = spread <= resolution**2
        if not constant.any() or self.kind in ("mass", "mean"):
            return self
        constant = np.broadcast_to(constant, (len(constant), resolution.shape[-1]))
        if self.kind == "trace":
            constant = np.broadcast_to(constant.all(axis=1, keepdims=True), constant.shape)
        return replace(
            self,
            first=np.where(constant, 0.0, self.first),
            second=np.where(_TOUCHED[self.kind](constant), 0.0, self.second),
        )

    def is_finite(self) -> bool:
        """Whether every number in it is finite."""
        # A sum is finite only if all its terms are; one may overflow all the same.
        total = self.log_likelihood
        with np.errstate(over="ignore", invalid="ignore"):
            for part in (self.mass, self.first, self.second):
                total += float(np.add.reduce(part, axis=None))
        if math.isfinite(total):
            return True
        return bool(
            np.isfinite(self.log_likelihood)
            and np.isfinite(self.mass).all()
            and np.isfinite(self.first).all()
            and np.isfinite(self.second).all()
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"version": _STATE_VERSION, **self.__dict__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("version", None)
        if version != _STATE_VERSION:
            raise ValueError(
                f"moments of version {version!r} cannot be read; this is version {_STATE_VERSION}"
            )
        self.__dict__.update(state)
