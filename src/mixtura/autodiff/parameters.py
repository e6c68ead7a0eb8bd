"""The parameters of a fitted model as one vector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.errors import SingularError
from mixtura.parametric import ParametricMixture
from mixtura.table import Table

Float = NDArray[np.float64]


class Differentiable(Protocol):
    """A fitted model whose log-likelihood has derivatives."""

    def _parametric(self) -> ParametricMixture:
        """The model as a function of one vector of parameters."""

    def _with_parametric(self, mixture: ParametricMixture) -> Any:
        """A fitted model of the same kind with other parameters."""

    def _parameter_names(self, mixture: ParametricMixture) -> list[str]:
        """A name for each parameter."""

    def _rows_to_differentiate(self, X: Any, y: Any, sample_weight: Any) -> Table:
        """Check and place rows."""


@dataclass(frozen=True)
class Parameters:
    """The parameters of a fitted mixture as one vector theta, of which every value stands for a valid mixture.

    Theta holds, one after the other:

    - the weights as ``log(w_k / w_K)`` for k < K; with a softmax gate, the intercept and the slopes of the log-odds of
      component k against the last one;
    - the means row by row; for experts, each target's intercept and slopes;
    - for each component the lower Cholesky factor of its covariance, packed row by row, with logarithms on the
      diagonal. For diagonal covariances and for experts these are the logarithms of the standard deviations, for
      spherical ones a single logarithm. Tied covariances have one such block for all components. Families that share
      parts of their covariances have one for each component, and theta may leave them.

    Use :meth:`of`; a ``Parameters`` stands wherever a model may stand in :mod:`mixtura.autodiff`.

    Parameters
    ----------
    model : GaussianMixture, MixtureOfExperts or distributions.Mixture
        The model that gives the form, and all that is no parameter.
    mixture : ParametricMixture
        The form, with the parameters.

    Attributes
    ----------
    theta : ndarray of shape (P,)
    names : list of str
        A name for each parameter, in the same order.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> from mixtura.autodiff import Parameters
    >>> X = np.array([[0.0], [1.0], [9.0], [10.0]])
    >>> gm = GaussianMixture(2, random_state=0, order="mean").fit(X)
    >>> parameters = Parameters.of(gm)
    >>> parameters.names
    ['log_odds[0]', 'mean[0, x0]', 'mean[1, x0]', 'log_cholesky[0, x0, x0]', 'log_cholesky[1, x0, x0]']
    >>> moved = parameters.at(parameters.theta + [0, 1, 1, 0, 0]).to_model()
    >>> (moved.means_ - gm.means_).round(6).tolist()
    [[1.0], [1.0]]
    """

    model: Any
    mixture: ParametricMixture

    @classmethod
    def of(cls, model: Differentiable | Parameters) -> Parameters:
        """The parameters of a fitted model.

        Raises
        ------
        TypeError
            The model is of another kind.
        ValueError
            Its log-likelihood has no derivatives in such parameters: a weight is 0, there is a component of noise,
            experts have priors, the gate is neither constant nor softmax.
        sklearn.exceptions.NotFittedError
            The model is not fitted.
        """
        if isinstance(model, Parameters):
            return model
        if not hasattr(type(model), "_parametric"):
            raise TypeError(
                "derivatives are for a fitted GaussianMixture or MixtureOfExperts, or a distributions.Mixture, got "
                f"{type(model).__name__}"
            )
        return cls(model, model._parametric())

    @property
    def theta(self) -> Float:
        """The parameters, (P,)."""
        return self.mixture.theta.copy()

    @property
    def names(self) -> list[str]:
        """A name for each parameter."""
        return list(self.model._parameter_names(self.mixture))

    def __len__(self) -> int:
        return self.mixture.size

    def at(self, theta: ArrayLike) -> Parameters:
        """The same form with other parameters.

        Parameters
        ----------
        theta : array-like of shape (P,)

        Raises
        ------
        ValueError
            The shape is another one, or a number is not finite.
        """
        vector = np.asarray(theta, dtype=np.float64)
        if vector.shape != (self.mixture.size,):
            raise ValueError(f"theta has shape {vector.shape}; the model has {self.mixture.size} parameters")
        if not np.isfinite(vector).all():
            raise ValueError(f"theta[{int(np.flatnonzero(~np.isfinite(vector))[0])}] is not finite")
        return replace(self, mixture=self.mixture.at(vector.copy()))

    def to_model(self) -> Any:
        """A fitted model with these parameters, of the kind that :meth:`of` was given.

        Raises
        ------
        ValueError
            The covariances, or their inverses, cannot be represented in float64.
        """
        try:
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                return self.model._with_parametric(self.mixture)
        except (np.linalg.LinAlgError, SingularError) as error:
            raise ValueError(
                "theta stands for covariances that, or whose inverses, cannot be represented in float64: its scales "
                "are too large or too small"
            ) from error

    def table(self, X: Any, y: Any = None, sample_weight: Any = None) -> Table:
        """Check and place rows."""
        table: Table = self.model._rows_to_differentiate(X, y, sample_weight)
        return table
