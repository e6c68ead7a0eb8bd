"""A Gaussian mixture as a distribution: densities, samples, moments, marginals, conditionals, modes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura import backends, natural
from mixtura.array_kinds import to_host
from mixtura.distributions import univariate
from mixtura.distributions.estimates import Entropy, Estimate, entropy_bounds, mean_of
from mixtura.distributions.exchange import FrozenMixture, torch_mixture
from mixtura.distributions.parameters import (
    check_count,
    check_covariances,
    check_dims,
    check_weights,
    numbers,
    real,
)
from mixtura.natural import Field
from mixtura.parametric import ParametricMixture, packed_scales
from mixtura.quadratics import Quadratics
from mixtura.table import Table

__all__ = ["Mixture"]

Float = NDArray[np.float64]

# Deviations between components up to which kernels give log-densities to seven digits and more.
_MOST_DEVIATIONS = 1e8


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Mixture:
    """A mixture of K Gaussians in D dimensions, as a distribution.

    In one dimension it is a distribution of numbers: densities, distribution function and quantiles work entry by entry
    on arrays of any shape, and mean and variance are numbers. In several dimensions a row (D,) gives one density, and
    rows (N, D) give N.

    Parameters
    ----------
    weights : array-like of shape (K,)
        Not negative, with the sum 1.
    means : array-like of shape (K, D) or, in one dimension, (K,)
    covariances : array-like
        (K, D, D), or in one dimension the variances (K,).
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default=None
        What ``covariances`` holds, as for :class:`mixtura.GaussianMixture`, where its shape does not tell.

    Attributes
    ----------
    weights : ndarray of shape (K,)
    means : ndarray of shape (K, D)
    choleskys : ndarray of shape (K, D, D)
        Lower triangles L with L L' = covariance.

    Raises
    ------
    TypeError, ValueError
        Shapes do not fit, weights do not lie on the simplex, covariances are not positive definite.

    References
    ----------
    McLachlan, Peel (2000), Finite Mixture Models.

    Examples
    --------
    >>> from mixtura.distributions import Mixture
    >>> grades = Mixture([0.7, 0.3], [2.5, 5.0], [0.49, 0.04])  # two groups in an exam
    >>> round(grades.mean, 3), round(grades.cdf(4.0), 4)
    (3.25, 0.6888)
    >>> round(grades.quantile(0.5), 4)
    2.8962
    """

    weights: Float
    means: Float
    choleskys: Float

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        covariance_type: str | None = None,
    ) -> None:
        w, m = check_weights(weights), numbers(means, "means")
        m = np.atleast_1d(m)[:, None] if m.ndim <= 1 else m
        if m.ndim != 2 or m.shape[0] != len(w) or not m.shape[1]:
            raise ValueError(f"means must have shape (K, D) with K = {len(w)}, got {np.shape(means)}")
        K, D = m.shape
        self._set(w, m, check_covariances(np.atleast_1d(covariances), K, D, covariance_type))

    def _set(self, weights: Float, means: Float, choleskys: Float) -> None:
        for name, array in (("weights", weights), ("means", means), ("choleskys", choleskys)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def of_choleskys(cls, weights: Float, means: Float, choleskys: Float) -> Mixture:
        """A mixture of parameters that need no check: (K,), (K, D) and lower triangles (K, D, D)."""
        mixture = object.__new__(cls)
        mixture._set(np.array(weights), np.array(means), np.array(choleskys))
        return mixture

    @classmethod
    def from_estimator(cls, estimator: Any) -> Mixture:
        """The distribution that a fitted Gaussian mixture describes.

        Parameters
        ----------
        estimator : mixtura.GaussianMixture or sklearn.mixture.GaussianMixture
            Fitted, without a component of noise.

        Raises
        ------
        TypeError
            It is no Gaussian mixture.
        ValueError
            It has a component of noise, which is no Gaussian.
        sklearn.exceptions.NotFittedError
            It is not fitted.

        Examples
        --------
        >>> from mixtura import GaussianMixture
        >>> from mixtura.distributions import Mixture
        >>> gm = GaussianMixture(1, reg_covar=0).fit([[1.0], [3.0]])
        >>> Mixture.from_estimator(gm)
        Mixture(weights=[1], means=[2], variances=[1])
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
        fitted = ("weights_", "means_", "covariances_", "covariance_type")
        if not all(hasattr(estimator, name) for name in fitted):
            raise TypeError(f"a fitted Gaussian mixture is needed, got {type(estimator).__name__}")
        if hasattr(estimator, "noise_"):
            raise ValueError(
                "the mixture has a component of noise, which is no Gaussian: fit with noise=None"
            )
        family = estimator.covariance_type
        weights, means, covariances = (
            np.asarray(to_host(getattr(estimator, name)), dtype=np.float64) for name in fitted[:3]
        )
        if not isinstance(family, str) or family not in ("full", "tied", "diag", "spherical"):
            K, D = means.shape
            covariances, family = estimator._covariance.storage.dense(covariances, K, D), "full"
        return cls(weights / weights.sum(), means, covariances, covariance_type=family)

    # ------------------------------------------------------------------ parameters

    @property
    def n_components(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def dims(self) -> int:
        """D."""
        return int(self.means.shape[1])

    @property
    def covariances(self) -> Float:
        """Covariances of the components, (K, D, D); in one dimension their variances (K,)."""
        full = self.choleskys @ np.swapaxes(self.choleskys, 1, 2)
        return full[:, 0, 0] if self.dims == 1 else full

    def __repr__(self) -> str:
        if self.dims == 1:
            parts = {"weights": self.weights, "means": self.means[:, 0], "variances": self.covariances}
            texts = (f"{name}=[{', '.join(f'{x:.6g}' for x in part)}]" for name, part in parts.items())
            return f"Mixture({', '.join(texts)})"
        return f"<Mixture of {self.n_components} Gaussians in {self.dims} dimensions>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixture):
            return NotImplemented
        mine, theirs = ((m.weights, m.means, m.choleskys) for m in (self, other))
        return all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def _normals(self) -> tuple[Float, Float, Float]:
        """Weights, means and standard deviations in one dimension, (K,) each."""
        if self.dims != 1:
            raise ValueError(
                f"this is for one dimension, and the mixture has {self.dims}: take marginal(d) of a column first"
            )
        return self.weights, self.means[:, 0], self.choleskys[:, 0, 0]

    # ------------------------------------------------------------------ derivatives: see mixtura.autodiff

    def _parametric(self) -> ParametricMixture:
        if not np.all(self.weights > 0.0):
            raise ValueError(f"the weight of component {int(np.argmin(self.weights))} is 0: leave it out")
        log_odds = np.log(self.weights[:-1] / self.weights[-1])
        scales = packed_scales("triangle", self.choleskys)
        theta = np.concatenate([log_odds, self.means.ravel(), scales.ravel()])
        return ParametricMixture(self.n_components, 0, self.dims, "triangle", theta)

    def _with_parametric(self, mixture: ParametricMixture) -> Mixture:
        means = mixture.coefficients[:, :, 0]
        return Mixture.of_choleskys(np.exp(mixture.log_weights), means, mixture.choleskys)

    def _parameter_names(self, mixture: ParametricMixture) -> list[str]:
        return mixture.names([], [f"x{d}" for d in range(self.dims)])

    def _natural(self, mixture: ParametricMixture) -> list[Field]:
        return natural.fields(mixture, [], [f"x{d}" for d in range(self.dims)])

    def _rows_to_differentiate(self, X: Any, y: Any, sample_weight: Any) -> Table:
        if y is not None:
            raise ValueError("a Gaussian mixture has no targets: leave y out")
        rows = numbers(X, "X")
        rows = rows[:, None] if rows.ndim == 1 and self.dims == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != self.dims:
            raise ValueError(f"X must have shape (N, {self.dims}), got {rows.shape}")
        weights = None if sample_weight is None else numbers(sample_weight, "sample_weight")
        if weights is not None and (weights.shape != (len(rows),) or weights.min(initial=0.0) < 0.0):
            raise ValueError("sample_weight must have one number for each row, none of them negative")
        return Table.of(backends.create(), rows, weights)

    # ------------------------------------------------------------------ densities

    def _rows(self, x: ArrayLike, name: str = "x") -> tuple[Float, tuple[int, ...]]:
        """Points as rows (N, D), and the shape of the answer about them."""
        if np.ma.is_masked(x):
            raise ValueError(f"{name} has masked values: leave them out, or fill them")
        points = real(x, name)
        points = points.astype(np.float64)
        if np.isnan(points).any():
            raise ValueError(f"{name} contains NaN")
        if self.dims == 1:
            return points.reshape(-1, 1), points.shape
        if points.ndim == 0 or points.shape[-1] != self.dims:
            raise ValueError(
                f"{name} must have {self.dims} numbers along its last axis, got shape {points.shape}"
            )
        return points.reshape(-1, self.dims), points.shape[:-1]

    def _joint(self) -> Any:
        """What kernels evaluate."""
        log_weights = np.full(self.n_components, -np.inf)
        np.log(self.weights, out=log_weights, where=self.weights > 0.0)
        form = self._equal()._parametric()
        joint = form.joint(np.zeros(self.dims))
        return replace(joint, log_weights=log_weights)

    def _equal(self) -> Mixture:
        """The same components with equal weights."""
        K = self.n_components
        return Mixture.of_choleskys(np.full(K, 1.0 / K), self.means, self.choleskys)

    def _posterior(self, rows: Float, resp: Float | None = None) -> Float:
        """Log-densities of rows (N, D), and their responsibilities (N, K)."""
        if not len(rows):
            return np.zeros(0)
        finite = np.asarray(np.isfinite(rows).all(axis=1))
        clean = rows if finite.all() else np.where(finite[:, None], rows, 0.0)
        joint = self._joint()
        backend = backends.create("reference" if _loses_digits(joint.quadratics) else "auto")
        density = Table.of(backend, clean).posterior(joint, resp)
        # A row so far away that its squared distances overflow has density 0, as an infinite one has.
        return np.where(finite & ~np.isnan(density), density, -np.inf)

    def log_prob(self, x: ArrayLike) -> Any:
        """Log-density.

        Parameters
        ----------
        x : array-like of shape (..., D)
            In one dimension of any shape.

        Returns
        -------
        log_density : float or ndarray of shape (...)

        Examples
        --------
        >>> from mixtura.distributions import Mixture
        >>> round(Mixture([1.0], [0.0], [1.0]).log_prob(0.0), 6)
        -0.918939
        """
        rows, shape = self._rows(x)
        return _scalar(self._posterior(rows).reshape(shape))

    def prob(self, x: ArrayLike) -> Any:
        """Density at x: the exponential of :meth:`log_prob`."""
        return _scalar(np.exp(self.log_prob(x)))

    def responsibilities(self, x: ArrayLike) -> Float:
        """Probability of each component given x, (..., K).

        Raises
        ------
        ValueError
            A point is infinite, or so far away that its density cannot be represented.
        """
        rows, shape = self._rows(x)
        resp = np.empty((len(rows), self.n_components))
        far = np.flatnonzero(~np.isfinite(self._posterior(rows, resp)))
        if len(far):
            raise _too_far(far)
        return resp.reshape(*shape, self.n_components)

    def cdf(self, x: ArrayLike) -> Any:
        """Probability of a number of at most x, in one dimension; exact.

        Parameters
        ----------
        x : array-like
            Of any shape.

        Raises
        ------
        ValueError
            The mixture has several dimensions: take its :meth:`marginal` first.
        """
        normals = self._normals
        rows, shape = self._rows(x)
        return _scalar(univariate.cdf(rows[:, 0], *normals).reshape(shape))

    def quantile(self, q: ArrayLike) -> Any:
        """The number that is exceeded with probability 1 - q, in one dimension: the inverse of :meth:`cdf`.

        Parameters
        ----------
        q : array-like
            Probabilities, of any shape.

        Raises
        ------
        ValueError
            The mixture has several dimensions, or a probability is outside of [0, 1].
        """
        normals, probabilities = self._normals, np.asarray(q, dtype=np.float64)
        if not np.all((probabilities >= 0.0) & (probabilities <= 1.0)):
            raise ValueError("probabilities must lie in [0, 1]")
        found = univariate.quantile(probabilities.ravel(), *normals)
        return _scalar(found.reshape(probabilities.shape))

    # ------------------------------------------------------------------ samples and moments

    def sample(self, n: int | None = None, seed: Any = None) -> Any:
        """Draw independently from the mixture.

        Parameters
        ----------
        n : int, default=None
            How many; None for a single one, without the first axis.
        seed : int, numpy.random.Generator or None, default=None

        Returns
        -------
        x : ndarray of shape (n, D), or (n,) in one dimension
            In random order.
        """
        count = 1 if n is None else check_count(n, least=0)
        rng = np.random.default_rng(seed)
        drawn = rng.choice(self.n_components, size=count, p=self.weights)
        noise = rng.standard_normal((count, self.dims))
        x = np.empty((count, self.dims))
        for k in range(self.n_components):
            own = drawn == k
            x[own] = self.means[k] + noise[own] @ self.choleskys[k].T
        x = x[:, 0] if self.dims == 1 else x
        return _scalar(x[0]) if n is None else x

    @property
    def mean(self) -> Any:
        """Mean, (D,), or a number in one dimension."""
        mean = self.weights @ self.means
        return float(mean[0]) if self.dims == 1 else mean

    @property
    def covariance(self) -> Any:
        """Covariance, (D, D), or the variance in one dimension: that of the components plus that of their means."""
        away = self.means - self.weights @ self.means
        within = np.einsum("k,kij,klj->il", self.weights, self.choleskys, self.choleskys)
        total = within + (away * self.weights[:, None]).T @ away
        return float(total[0, 0]) if self.dims == 1 else total

    @property
    def variance(self) -> Any:
        """Variance of each dimension, (D,), or a number in one dimension."""
        return self.covariance if self.dims == 1 else np.diagonal(self.covariance).copy()

    @property
    def stddev(self) -> Any:
        """Standard deviation of each dimension, (D,), or a number in one dimension."""
        return _scalar(np.sqrt(self.variance))

    def entropy(self, n: int = 100_000, seed: Any = 0) -> Entropy:
        """Differential entropy, ``-E log p``, in nats.

        Parameters
        ----------
        n : int, default=100_000
            Number of draws.
        seed : int, numpy.random.Generator or None, default=0

        Returns
        -------
        entropy : Entropy
            With fields ``value``, ``error`` (its standard error), and the bounds ``lower`` and ``upper``.

        References
        ----------
        Kolchinsky, Tracey (2017), Estimating mixture entropy with pairwise distances, equations (10) and (11), for the
        bounds.
        """
        estimate = mean_of(-np.atleast_1d(self.log_prob(self.sample(check_count(n), seed))))
        counted = self._counted()
        lower, upper = entropy_bounds(counted.weights, counted.means, counted.choleskys)
        return Entropy(min(max(estimate.value, lower), upper), estimate.error, lower, upper)

    def kl(self, other: Mixture, n: int = 100_000, seed: Any = 0) -> Estimate:
        """Kullback-Leibler divergence from this mixture to another one, ``E log p(x) - log q(x)``, in nats.

        Parameters
        ----------
        other : Mixture
            In as many dimensions.
        n : int, default=100_000
            Number of draws.
        seed : int, numpy.random.Generator or None, default=0

        Returns
        -------
        divergence : Estimate
            With fields ``value`` and ``error``, its standard error.
        """
        if not isinstance(other, Mixture):
            raise TypeError(f"the other must be a distributions.Mixture, got {type(other).__name__}")
        if other.dims != self.dims:
            raise ValueError(f"the mixtures have {self.dims} and {other.dims} dimensions")
        x = self.sample(check_count(n), seed)
        return mean_of(np.atleast_1d(self.log_prob(x) - other.log_prob(x)))

    # ------------------------------------------------------------------ parts

    def marginal(self, dims: int | Iterable[int]) -> Mixture:
        """The distribution of some of the dimensions, in the given order.

        Parameters
        ----------
        dims : int or sequence of int
            From 0 to D - 1.

        Returns
        -------
        marginal : Mixture
            With one dimension a distribution of numbers.

        Raises
        ------
        ValueError
            dims are out of range or repeated.
        """
        at = check_dims(dims, self.dims)
        return Mixture.of_choleskys(self.weights, self.means[:, at], _roots_of_rows(self.choleskys[:, at]))

    def conditional(self, dims: int | Iterable[int], values: ArrayLike) -> Any:
        """The distribution of the other dimensions, given the values of some.

        Parameters
        ----------
        dims : int or sequence of int
            The dimensions that are known.
        values : array-like of shape (d,) or (N, d)
            Their values; a number is enough for a single one.

        Returns
        -------
        conditional : Mixture or MixtureBatch
            A batch of N mixtures if there are N rows of values.

        Raises
        ------
        ValueError
            dims are out of range, repeated or all there are; values hold NaN.

        Examples
        --------
        >>> from mixtura.distributions import Mixture
        >>> joint = Mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> joint.conditional(0, 2.0)
        Mixture(weights=[1], means=[1], variances=[0.75])
        """
        from mixtura.distributions.batch import MixtureBatch

        at = check_dims(dims, self.dims)
        rest = self._rest(at)
        given = numbers(values, "values")
        single = given.ndim <= 1 and (given.size == len(at) if given.ndim else len(at) == 1)
        rows = given.reshape(1, -1) if single else given
        if rows.ndim == 1 and len(at) == 1:
            rows = rows[:, None]
        if rows.ndim != 2 or rows.shape[1] != len(at):
            raise ValueError(f"values must have shape ({len(at)},) or (N, {len(at)}), got {given.shape}")
        weights, means, choleskys = self._given(at, rest, rows)
        if single:
            return Mixture.of_choleskys(weights[0], means[0], choleskys)
        return MixtureBatch(weights, means, choleskys)

    def _rest(self, at: NDArray[np.intp]) -> NDArray[np.intp]:
        rest = np.setdiff1d(np.arange(self.dims), at)
        if not len(rest):
            raise ValueError("dims are all dimensions: none is left")
        return rest

    def _ordered(self, at: NDArray[np.intp], rest: NDArray[np.intp]) -> tuple[Float, Float]:
        """Means, and Cholesky factors in which the known dimensions come first."""
        order = np.concatenate([at, rest])
        return self.means[:, order], _roots_of_rows(self.choleskys[:, order])

    def _given(self, at: NDArray[np.intp], rest: NDArray[np.intp], rows: Float) -> tuple[Float, Float, Float]:
        """Weights (N, K), means (N, K, R) and Cholesky factors (K, R, R) of the rest, given rows (N, d).

        With ``L = [[A, 0], [B, C]]`` and the known dimensions first, the rest has mean ``m + B A^-1 (x - m_x)`` and
        covariance ``C C'``.
        """
        d, (means, L) = len(at), self._ordered(at, rest)
        weights = self._shares(means[:, :d], L[:, :d, :d], rows)
        slopes = self._slopes(L, d)
        conditional = means[:, d:] + np.einsum("krd,nkd->nkr", slopes, rows[:, None] - means[:, :d])
        return weights, conditional, np.ascontiguousarray(L[:, d:, d:])

    def _shares(self, means: Float, choleskys: Float, rows: Float) -> Float:
        """Responsibilities (N, K) for what is known of rows."""
        resp = np.empty((len(rows), self.n_components))
        Mixture.of_choleskys(self.weights, means, choleskys)._posterior(rows, resp)
        far = np.flatnonzero(~np.isfinite(resp).all(axis=1))
        if len(far):
            raise _too_far(far)
        return resp

    @staticmethod
    def _slopes(L: Float, d: int) -> Float:
        """``B A^-1``, (K, R, d)."""
        A, B = L[:, :d, :d], L[:, d:, :d]
        return np.asarray(np.swapaxes(np.linalg.solve(np.swapaxes(A, 1, 2), np.swapaxes(B, 1, 2)), 1, 2))

    def regress(self, dims: int | Iterable[int], X: ArrayLike) -> tuple[Float, Float]:
        """Mean and standard deviation of the other dimensions, given the values of some: Gaussian mixture regression.

        Parameters
        ----------
        dims : int or sequence of int
            The d dimensions that are known.
        X : array-like of shape (N, d)
            Their values; (N,) is enough for a single one.

        Returns
        -------
        mean, deviation : ndarray of shape (N, D - d)

        References
        ----------
        Ghahramani, Jordan (1994), Supervised learning from incomplete data via an EM approach, section 4.

        Examples
        --------
        >>> from mixtura.distributions import Mixture
        >>> joint = Mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.6], [0.6, 1.0]]])
        >>> mean, deviation = joint.regress(0, [1.0, 2.0])
        >>> mean.round(6).tolist(), deviation.round(6).tolist()
        ([[0.6], [1.2]], [[0.8], [0.8]])
        """
        at = check_dims(dims, self.dims)
        rest, rows = self._rest(at), numbers(X, "X")
        rows = rows[:, None] if rows.ndim == 1 and len(at) == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != len(at):
            raise ValueError(f"X must have shape (N, {len(at)}), got {rows.shape}")
        d = len(at)
        means, L = self._ordered(at, rest)
        slopes = self._slopes(L, d)
        variances = np.einsum("kij,kij->ki", L[:, d:, d:], L[:, d:, d:])
        center, about = means[:, d:].mean(axis=0), means[:, :d].mean(axis=0)
        levels = means[:, d:] - center + np.einsum("krd,kd->kr", slopes, about - means[:, :d])
        backend = backends.create()
        resp = self._shares(means[:, :d], L[:, :d, :d], rows)
        mean, deviation = backend.average(backend.place(rows - about), resp, slopes, levels, variances)
        return mean + center, deviation

    # ------------------------------------------------------------------ shape of the density

    def modes(self) -> Any:
        """Local maxima of the density, the highest first.

        From each mean by mean-shift steps, which never lower the density, then by Newton's method. A mixture may have
        modes that none of its means leads to.

        Returns
        -------
        modes : ndarray of shape (n, D), or (n,) in one dimension

        References
        ----------
        Carreira-Perpiñán (2000), Mode-finding for mixtures of Gaussian distributions.
        """
        from mixtura.distributions.modes import modes

        found = modes(self._counted())
        return found[:, 0] if self.dims == 1 else found

    def _counted(self) -> Mixture:
        """The mixture without components of weight 0."""
        counted = self.weights > 0.0
        return (
            self
            if counted.all()
            else Mixture.of_choleskys(self.weights[counted], self.means[counted], self.choleskys[counted])
        )

    def highest_density_level(self, probability: float, n: int = 100_000, seed: Any = 0) -> float:
        """Log-density above which a region of this probability lies: the smallest such region.

        Parameters
        ----------
        probability : float
            Between 0 and 1.
        n : int, default=100_000
            Draws from which the level is estimated in several dimensions; in one it is exact.
        seed : int, numpy.random.Generator or None, default=0

        Returns
        -------
        level : float
            A row belongs to the region where :meth:`log_prob` is at least this.

        References
        ----------
        Hyndman (1996), Computing and graphing highest density regions.
        """
        if not 0.0 < probability < 1.0:
            raise ValueError(f"probability must lie between 0 and 1, got {probability!r}")
        if self.dims == 1:
            return univariate.highest_density(float(probability), *self._counted()._normals)[0]
        return float(np.quantile(self.log_prob(self.sample(check_count(n), seed)), 1.0 - probability))

    def highest_density_intervals(self, probability: float) -> list[tuple[float, float]]:
        """The shortest set of intervals that has this probability, in one dimension.

        Parameters
        ----------
        probability : float
            Between 0 and 1.

        Returns
        -------
        intervals : list of (float, float)
            In order.
        """
        if not 0.0 < probability < 1.0:
            raise ValueError(f"probability must lie between 0 and 1, got {probability!r}")
        return univariate.highest_density(float(probability), *self._counted()._normals)[1]

    # ------------------------------------------------------------------ other libraries

    def to_torch(self) -> Any:
        """The same distribution as a ``torch.distributions.MixtureSameFamily``.

        Its components are ``MultivariateNormal``, or ``Normal`` in one dimension.

        Raises
        ------
        ImportError
            torch is not installed.
        """
        return torch_mixture(self.weights, self.means, self.choleskys)

    def to_scipy(self) -> FrozenMixture:
        """The same distribution with the methods of SciPy's frozen distributions.

        These are pdf, logpdf, rvs, mean, and in one dimension cdf, logcdf, sf, logsf, ppf, isf, var, std, median,
        interval.
        """
        return FrozenMixture(self)


def _loses_digits(quadratics: Quadratics) -> bool:
    """Whether the kernels, which take rows and means about one point, would lose digits of a density.

    They do where a component lies very many of its deviations, or of another's, away from that point.
    """
    away = quadratics.means - quadratics.center
    with np.errstate(over="ignore", invalid="ignore"):
        widest = np.abs(away).max(initial=0.0)
        narrow = np.abs(quadratics.rows()).max(initial=0.0)
        return bool(not widest * narrow < _MOST_DEVIATIONS)


def _scalar(array: Any) -> Any:
    """A float if the array has no axes."""
    return float(array) if np.ndim(array) == 0 else array


def _roots_of_rows(rows: Float) -> Float:
    """Lower triangles L with ``L L' = R R'`` and a positive diagonal, for R (K, d, D): without squaring R."""
    upper = np.linalg.qr(np.swapaxes(rows, 1, 2), mode="r")
    signs = np.where(np.diagonal(upper, axis1=1, axis2=2) < 0.0, -1.0, 1.0)
    return np.ascontiguousarray(np.swapaxes(upper * signs[:, :, None], 1, 2))


def _too_far(rows: NDArray[np.intp]) -> ValueError:
    """The error about rows whose density is no number above 0."""
    return ValueError(
        f"row {rows[0]} is so far from every component that its density cannot be represented ({len(rows)} such rows)"
    )
