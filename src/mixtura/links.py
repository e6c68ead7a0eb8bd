"""Prior links: a term of the objective that ties the means of the experts' priors to each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from mixtura.optional import import_torch

Float = NDArray[np.float64]


class PriorLink(ABC):
    """``R(w0)``, added to the objective and maximised over the prior means w0 (K, M, D)."""

    @abstractmethod
    def value(self, prior_means: Float) -> float:
        """R."""

    @abstractmethod
    def maximize(self, prior_means: Float, precisions: Float, slopes: Float) -> Float:
        """The w0 (K, M, D) that maximise ``-1/2 sum_km (w0 - W)' P_k (w0 - W) + R(w0)``.

        Parameters
        ----------
        prior_means : ndarray of shape (K, M, D)
            The starting point; the objective at the result is not less than here.
        precisions : ndarray of shape (K, D, D)
            P, the priors' precisions.
        slopes : ndarray of shape (K, M, D)
            W, the posteriors' means.
        """


@dataclass(frozen=True, eq=False)
class EqualMeans(PriorLink):
    """Pulls the prior means towards each other: ``R = -1/2 sum_(k<l) (w0_k - w0_l)' diag(strength) (w0_k - w0_l)``.

    Parameters
    ----------
    strength : float or array-like of shape (D,), default=1
        With 0 each prior's mean is that of its posterior; as the strength grows, all means become equal.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import EqualMeans
    >>> slopes = np.array([[[0.0, 0.0]], [[1.0, 1.0]]])
    >>> EqualMeans([1.0, 1e10]).maximize(slopes, np.stack([np.eye(2)] * 2), slopes).round(4)[:, 0]
    array([[0.3333, 0.5   ],
           [0.6667, 0.5   ]])
    """

    strength: ArrayLike = 1.0

    def _strength(self, dims: int) -> Float:
        a = np.asarray(self.strength, dtype=np.float64)
        if a.shape not in ((), (dims,)) or not np.all(np.isfinite(a) & (a >= 0.0)):
            raise ValueError(
                f"EqualMeans(strength) must be finite and not negative, one number or ({dims},), got {self.strength!r}"
            )
        return np.broadcast_to(a, (dims,))

    def value(self, prior_means: Float) -> float:
        """R."""
        K, _, D = prior_means.shape
        # The sum over pairs is K times the sum of squared distances from the mean.
        away = prior_means - prior_means.mean(axis=0)
        return float(-0.5 * K * np.sum(self._strength(D) * away**2))

    def maximize(self, prior_means: Float, precisions: Float, slopes: Float) -> Float:
        """One linear system: ``(P_k + K a) w0_k = P_k W_k + a sum_l w0_l``."""
        K, M, D = slopes.shape
        a = np.diag(self._strength(D))
        out = np.empty_like(slopes)
        inner = [np.linalg.solve(P + K * a, np.column_stack([P, a])) for P in precisions]
        # Summed over k, the equations are total = sum of alone + coupling @ total, for the sum of all means.
        coupling = np.sum([s[:, D:] for s in inner], axis=0)
        for m in range(M):
            alone = [s[:, :D] @ W for s, W in zip(inner, slopes[:, m], strict=True)]
            total = np.linalg.lstsq(np.eye(D) - coupling, np.sum(alone, axis=0), rcond=None)[0]
            for k in range(K):
                out[k, m] = alone[k] + inner[k][:, D:] @ total
        return out


@dataclass(frozen=True, eq=False)
class LinkFunction(PriorLink):
    """Any function of the stacked prior means that torch can differentiate, maximised to convergence.

    Parameters
    ----------
    R : callable
        Takes a float64 tensor (K, D), or (K, M, D) with several targets, and returns a scalar tensor: the log of a
        prior density, up to a constant. Its sum with the priors' quadratics must be bounded above.

    Raises
    ------
    ValueError
        While fitting: R returns no scalar, cannot be differentiated, or grows without bound.

    Examples
    --------
    >>> from mixtura import LinkFunction, MixtureOfExperts
    >>> shrink = LinkFunction(lambda w0: -(w0**2).sum())
    >>> MixtureOfExperts(prior_link=shrink).get_params()["prior_link"] is shrink
    True
    """

    R: Callable[[Any], Any]

    def __post_init__(self) -> None:
        if not callable(self.R):
            raise TypeError(f"LinkFunction(R): R must be a function of the prior means, got {self.R!r}")

    def _evaluate(self, prior_means: Float) -> tuple[float, Float]:
        """R and its gradient."""
        torch = import_torch("LinkFunction")
        stacked = torch.tensor(prior_means, dtype=torch.float64, requires_grad=True)
        value = self.R(stacked[:, 0] if prior_means.shape[1] == 1 else stacked)
        if not torch.is_tensor(value) or value.numel() != 1:
            shape = tuple(value.shape) if torch.is_tensor(value) else type(value).__name__
            raise ValueError(
                f"LinkFunction(R): R must give one number as a torch tensor, it gave {shape}: end it with .sum()"
            )
        gradient = None
        if value.requires_grad and not value.is_complex():
            (gradient,) = torch.autograd.grad(value.reshape(()), stacked, allow_unused=True)
        if gradient is None:
            raise ValueError(
                "LinkFunction(R): what R gives does not depend on the prior means in a way that torch can "
                "differentiate: compute it with torch's functions of real numbers, without .item(), .detach() or NumPy"
            )
        return float(value.detach()), gradient.numpy()

    def value(self, prior_means: Float) -> float:
        """R."""
        return self._evaluate(prior_means)[0]

    def maximize(self, prior_means: Float, precisions: Float, slopes: Float) -> Float:
        """Maximise by L-BFGS, starting from the present prior means."""
        shape = slopes.shape

        def loss(flat: Float) -> tuple[float, Float]:
            w0 = flat.reshape(shape)
            value, gradient = self._evaluate(w0)
            away = np.matmul(w0 - slopes, precisions)
            return 0.5 * float(np.sum(away * (w0 - slopes))) - value, (away - gradient).ravel()

        start, _ = loss(prior_means.ravel())
        if not np.isfinite(start):
            raise ValueError(f"LinkFunction(R): R is {-start} at the prior means {prior_means.tolist()}")
        with np.errstate(over="ignore", invalid="ignore"):  # if R is unbounded; reported below
            result = optimize.minimize(
                loss,
                prior_means.ravel(),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
            )
        if not np.isfinite(result.fun) or not np.isfinite(result.x).all() or np.abs(result.x).max() > 1e100:
            raise ValueError(
                "LinkFunction(R): R grows without bound; it must be a log-prior, such as -(w0**2).sum()"
            )
        return result.x.reshape(shape) if result.fun <= start else prior_means
