"""Many mixtures whose components have the same covariances: what conditioning on many rows gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular

from mixtura.array_kinds import unmasked
from mixtura.backends.base import normalize
from mixtura.distributions.mixture import Mixture
from mixtura.distributions.parameters import real

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class MixtureBatch:
    """N mixtures of K Gaussians in R dimensions, with covariances in common.

    ``batch[i]`` is the i-th of them, a :class:`Mixture`. In one dimension answers have no axis of R.

    Parameters
    ----------
    weights : ndarray of shape (N, K)
    means : ndarray of shape (N, K, R)
    choleskys : ndarray of shape (K, R, R)
        Lower triangles L with L L' = covariance.

    Examples
    --------
    >>> from mixtura.distributions import Mixture
    >>> joint = Mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
    >>> batch = joint.conditional(0, [[-2.0], [2.0]])
    >>> len(batch), batch.mean.tolist()
    (2, [-1.0, 1.0])
    """

    weights: Float
    means: Float
    choleskys: Float

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, (int, np.integer)):
            return Mixture.of_choleskys(self.weights[i], self.means[i], self.choleskys)
        return MixtureBatch(self.weights[i], self.means[i], self.choleskys)

    def __iter__(self) -> Iterator[Mixture]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self)} mixtures of {self.n_components} Gaussians in {self.dims} dimensions>"

    @property
    def n_components(self) -> int:
        """K."""
        return int(self.weights.shape[1])

    @property
    def dims(self) -> int:
        """R."""
        return int(self.means.shape[2])

    def _shaped(self, answers: Float) -> Float:
        return np.asarray(answers[..., 0] if self.dims == 1 else answers)

    @property
    def mean(self) -> Float:
        """Means, (N, R), or (N,) in one dimension."""
        return self._shaped(np.einsum("nk,nkr->nr", self.weights, self.means))

    @property
    def covariance(self) -> Float:
        """Covariances, (N, R, R), or variances (N,) in one dimension."""
        away = self.means - np.einsum("nk,nkr->nr", self.weights, self.means)[:, None]
        within = self.choleskys @ np.swapaxes(self.choleskys, 1, 2)
        total = np.einsum("nk,krs->nrs", self.weights, within)
        total += np.einsum("nk,nkr,nks->nrs", self.weights, away, away)
        return np.asarray(total[:, 0, 0] if self.dims == 1 else total)

    @property
    def variance(self) -> Float:
        """Variances, (N, R), or (N,) in one dimension."""
        away = self.means - np.einsum("nk,nkr->nr", self.weights, self.means)[:, None]
        variances = np.einsum("krs,krs->kr", self.choleskys, self.choleskys)
        return self._shaped(np.einsum("nk,nkr->nr", self.weights, variances + away**2))

    @property
    def stddev(self) -> Float:
        """Standard deviations, (N, R), or (N,) in one dimension."""
        return np.sqrt(self.variance)

    def log_prob(self, x: ArrayLike) -> Float:
        """Log-density of one point for each mixture.

        Parameters
        ----------
        x : array-like of shape (N, R) or (R,); in one dimension (N,) or a number

        Returns
        -------
        log_density : ndarray of shape (N,)
        """
        points = real(unmasked(x, "x"), "x").astype(np.float64)
        if np.isnan(points).any():
            raise ValueError("x contains NaN")
        points = points[..., None] if self.dims == 1 else points
        shape = (len(self), self.dims)
        try:
            points = np.broadcast_to(points, shape)
        except ValueError:
            wanted = shape[:1] if self.dims == 1 else shape
            raise ValueError(
                f"x must have shape {wanted}, one point for each mixture, got {np.shape(x)}"
            ) from None
        far = np.asarray(~np.isfinite(points).all(axis=1))  # an infinite point has density 0
        points = np.where(far[:, None], 0.0, points)
        joint = np.empty((len(self), self.n_components))
        for k, L in enumerate(self.choleskys):
            z = solve_triangular(L, (points - self.means[:, k]).T, lower=True)
            with np.errstate(over="ignore"):
                joint[:, k] = -0.5 * np.sum(z * z, axis=0) - np.log(np.diagonal(L)).sum()
        with np.errstate(divide="ignore"):
            joint += np.log(self.weights) - 0.5 * self.dims * np.log(2.0 * np.pi)
        far |= np.isneginf(joint).all(axis=1)
        joint[far] = 0.0
        return np.where(far, -np.inf, normalize(joint)[1])

    def sample(self, seed: Any = None) -> Float:
        """Draw once from each mixture, (N, R), or (N,) in one dimension."""
        rng = np.random.default_rng(seed)
        below = np.cumsum(self.weights, axis=1)
        drawn = (rng.uniform(size=(len(self), 1)) * below[:, -1:] >= below[:, :-1]).sum(axis=1)
        noise = np.einsum("nrs,ns->nr", self.choleskys[drawn], rng.standard_normal((len(self), self.dims)))
        return self._shaped(self.means[np.arange(len(self)), drawn] + noise)
