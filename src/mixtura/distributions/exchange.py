"""Mixtures as distributions of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.optional import import_torch

if TYPE_CHECKING:
    from mixtura.distributions.mixture import Mixture

Float = NDArray[np.float64]


def torch_mixture(weights: Float, means: Float, choleskys: Float) -> Any:
    """A ``torch.distributions.MixtureSameFamily``, in float64."""
    torch = import_torch("to_torch")
    of = torch.distributions
    w, m, L = (torch.tensor(np.array(array), dtype=torch.float64) for array in (weights, means, choleskys))
    if means.shape[1] == 1:
        return of.MixtureSameFamily(of.Categorical(w), of.Normal(m[:, 0], L[:, 0, 0]))
    return of.MixtureSameFamily(of.Categorical(w), of.MultivariateNormal(m, scale_tril=L))


class FrozenMixture:
    """A mixture with the methods of SciPy's frozen distributions.

    Parameters
    ----------
    mixture : Mixture

    Examples
    --------
    >>> from mixtura.distributions import Mixture
    >>> frozen = Mixture([0.5, 0.5], [-1.0, 1.0], [1.0, 1.0]).to_scipy()
    >>> round(frozen.ppf(0.9), 4), frozen.cdf(0.0), frozen.mean()
    (1.8495, 0.5, 0.0)
    """

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture

    def pdf(self, x: ArrayLike) -> Any:
        """Density."""
        return self._mixture.prob(x)

    def logpdf(self, x: ArrayLike) -> Any:
        """Log-density."""
        return self._mixture.log_prob(x)

    def rvs(self, size: int | tuple[int, ...] | None = None, random_state: Any = None) -> Any:
        """Draws, in the shape ``size``, by default a single one; in several dimensions with a last axis of D."""
        shape = () if size is None else size
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        if isinstance(random_state, np.random.RandomState):
            random_state = np.random.Generator(random_state._bit_generator)
        x = self._mixture.sample(int(np.prod(shape, dtype=int)), random_state)
        return x.reshape((*shape, *x.shape[1:]))[()]

    def mean(self) -> Any:
        """Mean."""
        return self._mixture.mean

    def var(self) -> Any:
        """Variance, in one dimension; of each dimension otherwise."""
        return self._mixture.variance

    def std(self) -> Any:
        """Standard deviation, in one dimension; of each dimension otherwise."""
        return self._mixture.stddev

    def cdf(self, x: ArrayLike) -> Any:
        """Probability of at most x, in one dimension."""
        return self._mixture.cdf(x)

    def sf(self, x: ArrayLike) -> Any:
        """Probability of more than x, in one dimension."""
        return np.exp(self.logsf(x))[()]

    def logcdf(self, x: ArrayLike) -> Any:
        """Log of the probability of at most x, in one dimension."""
        return self._log_tail(x, 1.0)

    def logsf(self, x: ArrayLike) -> Any:
        """Log of the probability of more than x, in one dimension."""
        return self._log_tail(x, -1.0)

    def _log_tail(self, x: ArrayLike, sign: float) -> Any:
        from mixtura.distributions import univariate

        return univariate.log_tail(np.asarray(x, dtype=np.float64), *self._mixture._normals, sign)[()]

    def ppf(self, q: ArrayLike) -> Any:
        """Quantile, in one dimension."""
        return self._mixture.quantile(q)

    def isf(self, q: ArrayLike) -> Any:
        """The number that is exceeded with probability q, in one dimension."""
        # The quantile of -x: 1 - q would have no digits where q is small.
        m = self._mixture
        return 0.0 - type(m).of_choleskys(m.weights, -m.means, m.choleskys).quantile(q)

    def median(self) -> Any:
        """Median, in one dimension."""
        return self.ppf(0.5)

    def interval(self, confidence: float) -> tuple[Any, Any]:
        """The interval between the quantiles ``(1 - confidence) / 2`` and ``(1 + confidence) / 2``."""
        return self.ppf(0.5 - confidence / 2.0), self.ppf(0.5 + confidence / 2.0)
