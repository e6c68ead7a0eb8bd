"""The sufficient statistic of every mixture: weighted moments about a pivot.

::

    mass_k   = sum_i r_ik                    (K,)
    first_k  = sum_i r_ik (z_i - p)          (K, D)
    second_k = sum_i r_ik (z_i - p)(z_i - p)'  in the shape its kind says

Moments form a commutative monoid under ``+`` (up to rounding), with :meth:`Moments.zero`. So the statistics of
blocks, threads, files and machines are combined by addition.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.elsewhere import Elsewhere, PartlyElsewhere
from mixtura.errors import SingularError
from mixtura.factorize import inverse_choleskys
from mixtura.layouts import LAYOUTS, Kind, Layout
from mixtura.threads import compiled_allowed, native, threads_for

__all__ = ["Kind", "Moments"]

Float = NDArray[np.float64]

# Masses (K,), first moments (K, D) and second moments (K, ...) of K components, as a kernel gives them.
Parts = tuple[Float, Float, Float]

_STATE_VERSION = 1

_TINY = float(np.finfo(np.float64).tiny)

# Squared distance of a mean from the pivot, in spreads, above which the correlations are needed to bound rounding.
_FAR = 100.0

# Magnification of rounding errors above which a closer bound is worth its eigenvectors.
_SUSPECT = 1e7

# Rows per column from which on eigenvectors, about 10 D^3 operations, cost less than the pass that they may save.
_ROWS_FOR_EIGENVECTORS = 8

# Magnification above which the closer bound would not be small either.
_HOPELESS = 1e12

# Numbers of the matrices whose norms are taken together.
_TOGETHER = 1 << 21

# Keeps the mass of an empty component positive, as scikit-learn does: its weight is then 1e-15 / N, not 0.
_MASS_FLOOR = 10 * float(np.finfo(np.float64).eps)


def inverse_norms(covariances: Float, enough: Float | float = 0.0) -> Float:
    """Norms (K,) of the inverses of the covariances' correlation matrices; infinity where one is singular.

    They are the largest sums of absolute values along a row, from one over the smallest eigenvalue to sqrt(D) times it.
    Where a bound of that eigenvalue's inverse, from the Cholesky factor alone, is at most ``enough``, (K,) or one
    number, it is that bound: the product of the factor with itself, 2 D^3 operations, is then not needed.
    """
    enough = np.broadcast_to(enough, len(covariances))
    with np.errstate(invalid="ignore"):
        deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    varies = np.flatnonzero((deviations > 0.0).all(axis=1) & np.isfinite(deviations).all(axis=1))
    norms = np.full(len(covariances), np.inf)

    def measure(k: NDArray[np.intp]) -> None:
        norms[k] = _norms(inverse_choleskys(covariances[k]), deviations[k], enough[k])

    try:
        # As many at a time as stay in the caches.
        together = max(1, _TOGETHER // max(covariances.shape[-1] ** 2, 1))
        for first in range(0, len(varies), together):
            measure(varies[first : first + together])
    except SingularError:  # which of them it is, they tell one by one
        for k in varies:
            with suppress(SingularError):
                measure(np.array([k]))
    return norms


def _norms(factors: Float, deviations: Float, enough: Float) -> Float:
    """Norms (K,) of ``U U'``, or bounds of their largest eigenvalues: U are the factors times deviations, by row."""
    factors *= deviations[:, :, None]
    sizes = np.abs(factors)
    # The largest eigenvalue is at most the sum of all, and at most |U|_1 |U|_inf.
    norms = np.einsum("kij,kij->k", factors, factors)
    norms = np.minimum(norms, sizes.sum(axis=1).max(axis=1) * sizes.sum(axis=2).max(axis=1))
    close = np.flatnonzero(norms > enough)
    if len(close):
        products = factors[close] @ np.swapaxes(factors[close], 1, 2)
        norms[close] = np.abs(products).sum(axis=2).max(axis=1)
    return np.asarray(norms)


def all_finite(*arrays: Float) -> bool:
    """Whether every number is finite."""
    if native is not None and compiled_allowed():
        return native.all_finite(*arrays)
    # A finite sum has finite terms. The sum may overflow although all terms are finite, so they are then checked.
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for array in arrays:
            total += float(np.add.reduce(array, axis=None))
    return math.isfinite(total) or all(bool(np.isfinite(array).all()) for array in arrays)


def parts_of(kind: Kind, dims: int, statistics: Float) -> Parts:
    """A kernel's statistics (K, P), whose rows are [mass | first moment | second moment], as three arrays."""
    start = 1 + dims * LAYOUTS[kind].has_mean
    return statistics[:, 0], statistics[:, 1:start], statistics[:, start:]


@dataclass(frozen=True)
class Moments(PartlyElsewhere):
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

    _may_be_elsewhere: ClassVar[tuple[str, ...]] = ("second",)

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
        """Moments of an array, by their definition, which tests compare every backend with.

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
        z[~r.any(axis=1)] = 0.0  # the square of a row without weight may overflow
        zero = cls.zero(kind, r.shape[1], p)
        first = r.T @ z[:, : zero.first.shape[1]]
        second = LAYOUTS[kind].of_rows(z, r)
        return replace(zero, mass=r.sum(axis=0), first=first, second=second, n_samples=n)

    @classmethod
    def from_table(
        cls,
        kind: Kind,
        pivot: Float,
        statistics: Float,
        log_likelihood: float,
        n_samples: int,
    ) -> Moments:
        """Moments from a kernel's statistics (K, P), whose rows are [mass | first moment | second moment].

        For kind 'shared' the second moments are packed triangles, to be summed over components.
        """
        parts = parts_of(kind, pivot.shape[-1], statistics)
        return cls.from_parts(kind, pivot, parts, log_likelihood, n_samples)

    @classmethod
    def from_parts(
        cls,
        kind: Kind,
        pivot: Float,
        parts: Parts,
        log_likelihood: float,
        n_samples: int,
        scatter: Float | None = None,
    ) -> Moments:
        """Moments from a kernel's masses (K,), first moments (K, D) and second moments (K, ...) of the kind's size.

        For kind 'shared' the second moments are packed triangles, to be summed over components; they are absent
        where that sum is already known and given as ``scatter``, (D (D + 1) / 2,).
        """
        layout, (mass, first, second) = LAYOUTS[kind], parts
        if isinstance(second, Elsewhere):
            return cls(kind, pivot, mass, first, second, log_likelihood, n_samples)
        if scatter is not None:
            second = scatter
        elif not layout.own:
            second = second.sum(axis=0)
        return cls(
            kind,
            pivot,
            np.ascontiguousarray(mass),
            np.ascontiguousarray(first),
            np.ascontiguousarray(second).reshape(layout.shape(len(mass), pivot.shape[-1])),
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
        """Moments of the same rows with all weights times ``factor``, as online EM needs for forgetting."""
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
            Covariance of the part of a row that the map does not determine: its conditional covariance.

        Raises
        ------
        ValueError
            The kind does not keep the products of columns that an affine map needs.
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

    def about(self, means: Float) -> Moments:
        """Moments of the same rows as if the components' means were the given ones, (K, D).

        A component's covariance is then the mean of ``(z - m)(z - m)'`` about the given mean m: the maximum-likelihood
        estimate where the mean is known.
        """
        return replace(self.recenter(means), first=np.zeros_like(self.first))

    def added(self, matrices: Float) -> Moments:
        """These moments with symmetric matrices (K, D, D) added to the second ones."""
        return replace(self, second=self.second + self.layout.of_matrices(matrices))

    def part(self, components: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Moments:
        """Moments of some of the components; a second moment that is summed over all of them stays as it is."""
        return replace(
            self,
            pivot=self.pivot[components] if self.pivot.ndim == 2 else self.pivot,
            mass=self.mass[components],
            first=self.first[components],
            second=self.second[components] if self.layout.has_second and self.layout.own else self.second,
        )

    def pooled(self, kind: Kind) -> Moments:
        """These moments as another kind, which keeps one sum over the components where this one keeps one for each."""
        return replace(self, kind=kind, second=LAYOUTS[kind].from_each(self.second))

    def leading(self, dims: int) -> Moments:
        """Moments of the first ``dims`` columns alone, of a kind that keeps columns apart."""
        if dims == self.pivot.shape[-1]:
            return self
        return replace(
            self,
            pivot=self.pivot[..., :dims],
            first=np.ascontiguousarray(self.first[:, :dims]),
            second=np.ascontiguousarray(self.layout.leading(self.second, dims)),
        )

    def recenter(self, pivot: Float) -> Moments:
        """Moments of the same rows about another pivot.

        With t = old - new pivot: ``first + mass t`` and ``second + first t' + t first' + mass t t'``. Digits
        are lost as (t / spread)^2 grows, so moments should be kept about a pivot inside the data.
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
        """Mass of each component plus that of about 1e-15 rows, (K,), so that no mass is zero."""
        weight = self.mass.sum() / self.n_samples if self.n_samples else 1.0
        return np.asarray(self.mass + _MASS_FLOOR * weight)

    def means(self, mass: Float | None = None) -> Float:
        """Mean of each component, (K, D); ``mass`` (K,) replaces the divisor."""
        divisor = self.mass if mass is None else mass
        if native is None or not compiled_allowed() or divisor.min(initial=1.0) <= 0.0:
            return np.asarray(self.pivot + self.first / divisor[:, None])
        return native.means_of(self.first, divisor, self.pivot, threads_for(self.first.size))

    def covariances(self, mass: Float | None = None) -> Float:
        """Second moment of each component about its own mean, divided by its mass, in the shape of the kind.

        (K, D, D) for 'full', (D, D) pooled for 'shared', (K, D) for 'diagonal', (K,) for 'trace' (the sum of
        the D variances). ``mass`` (K,) replaces the divisor, as if the mass that it adds lay at the pivot.
        """
        divisor = self.mass if mass is None else mass
        return self.layout.about_means(self.second, self.first, divisor)

    def squares(self) -> tuple[Float, Float]:
        """Mean square of each column about the pivot, and the part of it that the means alone contribute.

        Both are (K, D), or have axes of 1 where the kind keeps less. Their difference is the variance; where it
        is far smaller than the contribution of the means, the variance is mostly rounding error.
        """
        mass = np.maximum(self.mass, _TINY)
        scatters = self.elsewhere("second")
        if scatters is not None:
            return scatters.diagonals / mass[:, None], (self.first / mass[:, None]) ** 2
        return self.layout.squares(self.second, mass, (self.first / mass[:, None]) ** 2)

    def near_pivot(self, floor: float = 0.0) -> bool:
        """Whether no mean lies more than about ten spreads from the pivot: then :meth:`cancellation` is small.

        This check is quicker than that one. It is false if any number is not finite.
        """
        known = self._ratios(floor, wanted=False)
        if known is not None:
            return known[0]
        about_pivot, of_means = self.squares()
        variance = about_pivot - of_means + floor
        with np.errstate(invalid="ignore"):
            return bool(np.all(of_means * (self.pivot.shape[-1] / _FAR) < variance))

    def _ratios(self, floor: float, wanted: bool = True) -> tuple[bool, Float] | None:
        """What :meth:`near_pivot` says and, if wanted, the ratios of :meth:`cancellation`: largest and sum, (K, 2).

        By the compiled library in one reading; None where it is not to be had.
        """
        scatters, layout = self.elsewhere("second"), self.layout
        if native is None or not compiled_allowed() or not (layout.own and layout.has_second):
            return None
        kind, second = (
            (layout.kernel.name, self.second) if scatters is None else ("diagonal", scatters.diagonals)
        )
        near = self.pivot.shape[-1] / _FAR
        threads = threads_for(self.first.size)
        return native.ratios_to_spread(kind, self.mass, self.first, second, floor, near, wanted, threads)

    def cancellation(self, floor: float = 0.0, most: float = 0.0, closely: bool = True) -> Float:
        """Factor by which rounding error about the pivot is magnified in the variances, (K,).

        Times machine epsilon, it bounds the relative error of the variance along the worst direction: the largest
        of ``(mean - pivot)^2 / (variance + floor)`` over the columns and, where matrices are kept and the mean lies
        ten spreads or more from the pivot, the sum of these over the smallest eigenvalue of the correlations.
        It is 0 for components without mass.

        Parameters
        ----------
        floor : float, default=0
            Is added to the variances.
        most : float, default=0
            A factor up to which a bound of it will do, which costs less.
        closely : bool, default=True
            Whether matrices are looked at.
        """
        known = self._ratios(floor)
        if known is not None:
            factor, sums = np.ascontiguousarray(known[1].T)
        else:
            ratio = self._ratio_of_columns(floor)
            factor = np.where(self.mass > 0.0, ratio.max(axis=1), 0.0)
            sums = np.where(np.isfinite(factor), ratio.sum(axis=1), 0.0)
        if closely and self.layout.has_matrices:
            far = np.flatnonzero((self.mass > 0.0) & (sums > _FAR))
            if len(far):
                enough = min(_SUSPECT, most) / sums[far]
                of_matrices = sums[far] * self._collinearity(far, floor, enough)
                suspect = (of_matrices > _SUSPECT) & (of_matrices < _HOPELESS)
                worth = self.n_samples >= _ROWS_FOR_EIGENVECTORS * self.first.shape[1]
                if worth and suspect.any():
                    ratio = self._ratio_of_columns(floor)[far[suspect]]
                    of_matrices[suspect] = self._along_eigenvectors(far[suspect], ratio, floor)
                factor[far] = np.maximum(factor[far], of_matrices)
        return np.asarray(factor)

    def _ratio_of_columns(self, floor: float) -> Float:
        """``(mean - pivot)^2 / (variance + floor)``, (K, D) or (K, 1); 0 for what is not a number."""
        mass = np.maximum(self.mass, _TINY)
        about_pivot, of_means = self.squares()
        variance = np.maximum(about_pivot - of_means, 0.0) + floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = (self.first / mass[:, None]) ** 2 / variance
        return np.asarray(np.nan_to_num(ratio, nan=0.0, posinf=np.inf))

    def _scatters(self, selected: NDArray[np.intp], floor: float) -> Float:
        """Covariances of the selected components, with ``floor`` added to the variances."""
        dims = self.first.shape[1]
        covariances = self.layout.scatters(self.second, self.first, self.mass, selected, dims)
        i = np.arange(dims)
        covariances[:, i, i] += floor
        return covariances

    def _along_eigenvectors(self, selected: NDArray[np.intp], ratio: Float, floor: float) -> Float:
        """A closer bound than that of :meth:`_collinearity`, from all eigenvalues and eigenvectors.

        Along an eigenvector v of the correlations, of eigenvalue e, rounding errors add up to at most
        ``(sum_j |v_j| |m_j| / s_j)^2 / e``, for a mean m beside the pivot and standard deviations s.

        Parameters
        ----------
        selected : ndarray of int
        ratio : ndarray of shape (n, D)
            ``(m / s)^2`` of the selected components.
        floor : float
        """
        covariances = self._scatters(selected, floor)
        scale = np.sqrt(np.maximum(np.diagonal(covariances, axis1=1, axis2=2), _TINY))
        values, vectors = np.linalg.eigh(covariances / scale[:, :, None] / scale[:, None, :])
        size = np.einsum("kj,kje->ke", np.sqrt(ratio), np.abs(vectors)) ** 2
        with np.errstate(over="ignore"):
            bounds = size / np.maximum(values, _TINY)
        return np.asarray(np.broadcast_to(bounds.max(axis=1), len(selected)))

    def _collinearity(self, selected: NDArray[np.intp], floor: float, enough: Float) -> Float:
        """About one over the smallest eigenvalue of the correlations of each of the selected components, (n,).

        Less closely where that is at most ``enough`` anyway.
        """
        away = self.elsewhere("second")
        factors = None if away is None else away.factors(self.kept_mass(), floor)
        if factors is not None:
            about_pivot, of_means = self.squares()
            variances = np.maximum(about_pivot - of_means, 0.0) + floor
            bounds = factors.norms(variances, False)[selected]
            if np.any(bounds > enough):
                bounds = factors.norms(variances, True)[selected]
            return np.asarray(bounds)
        scatters = self._scatters(selected, floor)
        each = enough if len(scatters) == len(enough) else enough.min()  # one matrix may serve all
        return np.broadcast_to(inverse_norms(scatters, each), len(selected))

    def without_rounding(self) -> Moments:
        """These moments, with columns set to exactly 0 where their spread about the pivot is rounding error alone.

        Meant for moments about a component's own mean. Float64 may not represent that mean exactly, and rows that are
        all equal then lie a rounding error away from it.
        """
        if not self.second.size:
            return self
        resolution = 4.0 * np.finfo(np.float64).eps * np.abs(self.pivot)
        spread, _ = self.squares()
        constant = np.broadcast_to(spread <= resolution**2, self.first.shape)
        if not constant.any():
            return self
        zeroed = self.layout.touched(constant)
        return replace(
            self, first=np.where(constant, 0.0, self.first), second=np.where(zeroed, 0.0, self.second)
        )

    def is_finite(self) -> bool:
        """Whether every number in these moments is finite."""
        scatters = self.elsewhere("second")
        known = scatters.finite if scatters is not None else all_finite(self.second)
        return known and math.isfinite(self.log_likelihood) and all_finite(self.mass, self.first)

    def __getstate__(self) -> dict[str, Any]:
        return {"version": _STATE_VERSION, **super().__getstate__()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("version", None)
        if version != _STATE_VERSION:
            raise ValueError(
                f"moments of version {version!r} cannot be read; this is version {_STATE_VERSION}"
            )
        self.__dict__.update(state)
