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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from mixtura.layouts import LAYOUTS, Kind, Layout

__all__ = ["Kind", "Moments"]

Float = NDArray[np.float64]

_STATE_VERSION = 1

_TINY = float(np.finfo(np.float64).tiny)

# Squared distance of a mean from the pivot, in spreads, from which on matrices are looked at for what it costs them.
_FAR = 100.0

# Keeps the mass of an empty component positive, as scikit-learn does: its weight is then 1e-15 / N, not 0.
_MASS_FLOOR = 10 * float(np.finfo(np.float64).eps)


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
    >>> from mixtura.moments import Moments
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

    @property
    def layout(self) -> Layout:
        """The shape of the second moments."""
        return LAYOUTS[self.kind]

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
        dims, layout = pivot.shape[-1], LAYOUTS[kind]
        return cls(
            kind,
            np.asarray(pivot, dtype=np.float64),
            np.zeros(components),
            np.zeros((components, dims * layout.has_mean)),
            np.zeros(layout.shape(components, dims)),
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
        first = r.T @ z[:, : zero.first.shape[1]]
        second = LAYOUTS[kind].of_rows(z, r)
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
        layout, components, dims = LAYOUTS[kind], len(table), pivot.shape[-1]
        mean = 1 + dims * layout.has_mean
        second = table[:, mean:]
        if scatter is not None:
            second = scatter
        elif not layout.own:
            second = second.sum(axis=0)
        return cls(
            kind,
            pivot,
            np.ascontiguousarray(table[:, 0]),
            np.ascontiguousarray(table[:, 1:mean]),
            np.ascontiguousarray(second).reshape(layout.shape(components, dims)),
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

    def __mul__(self, factor: float) -> Moments:
        """The same rows with weights times a number: what online EM forgets by."""
        if not isinstance(factor, int | float | np.number):
            return NotImplemented
        return replace(
            self,
            mass=self.mass * factor,
            first=self.first * factor,
            second=self.second * factor,
            log_likelihood=self.log_likelihood * float(factor),
        )

    __rmul__ = __mul__

    def mapped(self, A: ArrayLike, b: ArrayLike = 0.0, added: ArrayLike | None = None) -> Moments:
        """Moments of the rows ``A z + b``, with independent noise of covariance ``added`` on top.

        Parameters
        ----------
        A : array-like of shape (D', D) or, one for each component, (K, D', D)
        b : array-like of shape (D',) or (K, D'), default=0
        added : array-like of shape (D', D') or (K, D', D'), default=None
            Expected second moment of what the map cannot know of a row: its conditional covariance.

        Raises
        ------
        ValueError
            The kind keeps second moments without the products of columns that a map mixes.
        """
        A, b = np.asarray(A, dtype=np.float64), np.asarray(b, dtype=np.float64)
        pivot = np.einsum("...ij,...j->...i", A, self.pivot) + b
        first = self.first
        if self.layout.has_mean:
            first = np.einsum("...ij,...j->...i", A, self.first)
        second = self.layout.transformed(self.second, A)
        if added is not None:
            noise = np.broadcast_to(
                np.asarray(added, dtype=np.float64), (len(self.mass), *A.shape[-2:-1] * 2)
            )
            second = second + self.layout.of_matrices(noise * self.mass[:, None, None])
        return replace(self, pivot=pivot, first=first, second=second)

    def part(self, some: slice) -> Moments:
        """Moments of some of the components, where each has second moments of its own."""
        return replace(
            self,
            pivot=self.pivot[some] if self.pivot.ndim == 2 else self.pivot,
            mass=self.mass[some],
            first=self.first[some],
            second=self.second[some] if self.layout.has_second else self.second,
        )

    def pooled(self, kind: Kind) -> Moments:
        """The same in a kind that keeps for all components together what this one keeps for each."""
        return replace(self, kind=kind, second=LAYOUTS[kind].from_each(self.second))

    def leading(self, dims: int) -> Moments:
        """Moments of the first columns alone, of a kind that keeps columns apart."""
        if dims == self.pivot.shape[-1]:
            return self
        return replace(
            self,
            pivot=self.pivot[..., :dims],
            first=np.ascontiguousarray(self.first[:, :dims]),
            second=np.ascontiguousarray(self.layout.leading(self.second, dims)),
        )

    def recenter(self, pivot: Float) -> Moments:
        """The same rows about another pivot.

        With t = old - new pivot: ``first + mass t`` and ``second + first t' + t first' + mass t t'``. Loses
        digits as (t / spread)^2 grows; moments about a pivot inside the data are the ones to keep.
        """
        pivot = np.asarray(pivot, dtype=np.float64)
        if not self.layout.has_mean:
            return replace(self, pivot=pivot)
        t = self.pivot - pivot
        moved = self.mass[:, None] * t
        second = self.second + self.layout.symmetric(
            self.first + 0.5 * moved, np.broadcast_to(t, moved.shape)
        )
        return replace(self, pivot=pivot, first=self.first + moved, second=second)

    def kept_mass(self) -> Float:
        """Mass of each component with a trace added, (K,), so that no component is without: that of 1e-15 rows."""
        weight = self.mass.sum() / self.n_samples if self.n_samples else 1.0
        return np.asarray(self.mass + _MASS_FLOOR * weight)

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
        scatter = self.second - self.layout.symmetric(0.5 * self.first, offsets)
        return self.layout.covariances(scatter, divisor, self.pivot.shape[-1])

    def squares(self) -> tuple[Float, Float]:
        """Mean square of each column about the pivot, and what the means alone contribute to it.

        Both (K, D), or with axes of 1 where the kind keeps less. Their difference is the variance; where it
        is small beside the second, the variance is rounding.
        """
        mass = np.maximum(self.mass, _TINY)
        return self.layout.squares(self.second, mass, (self.first / mass[:, None]) ** 2)

    def near_pivot(self, floor: float = 0.0) -> bool:
        """Whether no mean lies more than about ten spreads from the pivot: then :meth:`cancellation` is small.

        A quicker look than that one takes, and false if any number is not finite.
        """
        about_pivot, of_means = self.squares()
        variance = about_pivot - of_means + floor
        with np.errstate(invalid="ignore"):
            return bool(np.all(of_means * (self.pivot.shape[-1] / _FAR) < variance))

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
        if self.layout.has_matrices:
            sums = np.where(np.isfinite(found), ratio.sum(axis=1), 0.0)
            far = np.flatnonzero((self.mass > 0.0) & (sums > _FAR))
            if len(far):
                found[far] = np.maximum(found[far], sums[far] * self._collinearity(far, floor))
        return found

    def _collinearity(self, some: NDArray[np.intp], floor: float) -> Float:
        """About one over the smallest eigenvalue of the correlations of components, for each of ``some`` of them."""
        dims = self.first.shape[1]
        covariances = self.layout.scatters(self.second, self.first, self.mass, some, dims)
        i = np.arange(dims)
        covariances[:, i, i] += floor
        return np.broadcast_to([inverse_norm(c) for c in covariances], len(some))

    def without_rounding(self) -> Moments:
        """The same, with columns set to exactly nothing where their spread about the pivot is that of rounding alone.

        Meant for moments about a component's own mean, which need not be a number that float64 has: rows that are
        all equal then lie a rounding error away from it.
        """
        if not self.second.size:
            return self
        resolution = 4.0 * np.finfo(np.float64).eps * np.abs(self.pivot)
        spread, _ = self.squares()
        constant = np.broadcast_to(spread <= resolution**2, self.first.shape)
        if not constant.any():
            return self
        gone = self.layout.touched(constant)
        return replace(
            self, first=np.where(constant, 0.0, self.first), second=np.where(gone, 0.0, self.second)
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
