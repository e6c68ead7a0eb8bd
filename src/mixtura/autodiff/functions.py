"""Derivatives of a fitted mixture's log-likelihood, with respect to its parameters and to the rows.

Reverse mode throughout: sums over rows follow from one pass of moments (Fisher's identity), answers about rows from
adjoint kernels. Forward mode, by dual numbers, gives products with a direction, and checks the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.array_kinds import to_host
from mixtura.autodiff.own_functions import jacobian_of
from mixtura.autodiff.parameters import Differentiable, Parameters
from mixtura.backends.base import Rows
from mixtura.estimators.validation import check_finite
from mixtura.likelihood import Likelihood

Float = NDArray[np.float64]

# A fitted model, or the parameters of one.
Model = Differentiable | Parameters

MODES = ("reverse", "forward")


class Prepared(Likelihood):
    """The log-likelihood of a model at rows that were checked."""

    @classmethod
    def of(cls, model: Model, X: Any, y: Any, sample_weight: Any) -> Prepared:
        """Check and place the rows for a model."""
        parameters = Parameters.of(model)
        return cls(parameters.mixture, parameters.table(X, y, sample_weight))

    def adjoint(self, rows: Rows, what: str) -> Float:
        """One of the derivatives that reverse mode gives for each of some rows, by its name."""
        found: Float = getattr(self.derivatives.adjoints(self.mixture, rows, **{what: True}), what)
        return found

    def checked(self, *answers: Any) -> None:
        """Raise ValueError if an answer is not finite: rows that hold NaN are looked for only then."""
        if all(np.isfinite(answer).all() for answer in answers):
            return
        if self.table.in_memory:  # others were looked at block by block
            counted, x = self.table.counted, np.asarray(self.table.x)
            check_finite(x if counted is None else x[counted])
        raise ValueError(
            "rows of X are so far from every component that their log-density cannot be represented: scale the input "
            "data, or remove such rows"
        )


def _check_mode(mode: str) -> bool:
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; known are 'reverse' and 'forward'")
    return mode == "forward"


def _vector(values: ArrayLike, size: int, name: str, of: str) -> Float:
    vector = np.array(to_host(values), dtype=np.float64)
    if vector.shape != (size,):
        raise ValueError(f"{name} has shape {vector.shape}, not ({size},), one number for each {of}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name}[{int(np.flatnonzero(~np.isfinite(vector))[0])}] is not finite")
    return vector


def value_and_grad(
    model: Model,
    X: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    y: ArrayLike | None = None,
    mode: str = "reverse",
) -> tuple[float, Float]:
    """Total log-likelihood of rows, and its gradient with respect to the parameters.

    It takes one pass of EM over the rows, on the model's backend, and never holds an array of N x K or N x P numbers.

    Parameters
    ----------
    model : GaussianMixture, MixtureOfExperts, distributions.Mixture or Parameters
        A fitted model; experts with a constant or a softmax gate and without priors.
    X : array-like of shape (N, D)
    sample_weight : array-like of shape (N,), default=None
        A row of weight 2 counts as two rows.
    y : array-like of shape (N,) or (N, M), default=None
        The targets, for a mixture of experts: the log-likelihood is that of y given X.
    mode : {'reverse', 'forward'}, default='reverse'
        'forward' evaluates the rows P^2 / 32 times with nested dual numbers: a check, for models with few parameters.

    Returns
    -------
    value : float
        The sum over the rows.
    gradient : ndarray of shape (P,)
        In the order of :attr:`Parameters.names`.

    Raises
    ------
    TypeError, ValueError
        The model has no derivatives (see :meth:`Parameters.of`), or rows do not fit it.

    References
    ----------
    Fisher's identity: Dempster, Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm,
        equation (2.13).

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> from mixtura.autodiff import value_and_grad
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> gm = GaussianMixture(1, reg_covar=0).fit(X)
    >>> value, gradient = value_and_grad(gm, X)
    >>> bool(abs(gradient).max() < 1e-9 * len(X))  # the fit is a maximum
    True
    """
    at = Prepared.of(model, X, y, sample_weight)
    with at.table.host_limits(), np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        value, gradient = at.forward_sums()[:2] if _check_mode(mode) else at.value_and_grad()
    at.checked(value, gradient)
    return value, gradient


def hessian(
    model: Model,
    X: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    y: ArrayLike | None = None,
    mode: str = "reverse",
) -> Float:
    """Second derivatives of the total log-likelihood with respect to the parameters.

    Parameters
    ----------
    model, X, sample_weight, y, mode
        As for :func:`value_and_grad`.

    Returns
    -------
    hessian : ndarray of shape (P, P)

    Notes
    -----
    Memory grows with P^2, not with N; time is that of N P^2 / 2 multiply-adds in BLAS.

    References
    ----------
    Louis (1982), Finding the observed information matrix when using the EM algorithm.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> from mixtura.autodiff import hessian
    >>> X = np.random.default_rng(0).normal(size=(500, 1))
    >>> gm = GaussianMixture(1, reg_covar=0).fit(X)
    >>> H = hessian(gm, X)  # by the mean and the logarithm of the standard deviation
    >>> (-H[1, 1] / 500).round(9).item()  # two for each row
    2.0
    """
    at = Prepared.of(model, X, y, sample_weight)
    with at.table.host_limits():
        if _check_mode(mode):
            second = at.forward_sums()[2]
            at.checked(second)
            return second
        second = at.expanded()[2]
    at.checked(second)
    return second


def jvp(
    model: Model,
    X: ArrayLike,
    direction: ArrayLike,
    *,
    y: ArrayLike | None = None,
) -> Float:
    """Derivative of each row's log-density along a direction in the parameters: the Jacobian times the direction.

    Forward mode: one pass of dual numbers, at about three times the cost of the densities.

    Parameters
    ----------
    model, X, y
        As for :func:`value_and_grad`.
    direction : array-like of shape (P,)

    Returns
    -------
    derivative : ndarray of shape (N,)

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> from mixtura.autodiff import jacobian, jvp
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> gm = GaussianMixture(2, random_state=0, tol=0.1).fit(X)
    >>> J = jacobian(gm, X)
    >>> bool(np.allclose(jvp(gm, X, np.ones(J.shape[1])), J.sum(axis=1)))
    True
    """
    at = Prepared.of(model, X, y, None)
    vector = _vector(direction, at.mixture.size, "direction", "parameter")
    with at.table.host_limits():
        along = at.of_each_row(lambda rows: at.derivatives.tangent(at.mixture, rows, vector)[1])
    at.checked(along)
    return along


def vjp(
    model: Model,
    X: ArrayLike,
    cotangent: ArrayLike,
    *,
    y: ArrayLike | None = None,
) -> Float:
    """Gradient of a weighted sum of the rows' log-densities: the cotangent times the Jacobian.

    Reverse mode: one pass of EM for the positive weights and one for the negative ones.

    Parameters
    ----------
    model, X, y
        As for :func:`value_and_grad`.
    cotangent : array-like of shape (N,)

    Returns
    -------
    gradient : ndarray of shape (P,)

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> from mixtura.autodiff import jacobian, vjp
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> gm = GaussianMixture(2, random_state=0, tol=0.1).fit(X)
    >>> weights = np.linspace(-1, 1, 100)
    >>> bool(np.allclose(vjp(gm, X, weights), weights @ jacobian(gm, X)))
    True
    """
    parameters = Parameters.of(model)
    rows = len(parameters.table(X, y))
    weights = _vector(cotangent, rows, "cotangent", "row")
    total = np.zeros(parameters.mixture.size)
    for sign in (1.0, -1.0):
        part = np.maximum(sign * weights, 0.0)
        if part.any():
            at = Prepared.of(parameters, X, y, part)
            with at.table.host_limits():
                gradient = at.value_and_grad()[1]
            at.checked(gradient)
            total += sign * gradient
    return total


def jacobian(
    model: Model | Callable[[Any], Any],
    X: ArrayLike,
    *,
    y: ArrayLike | None = None,
) -> Float:
    """Gradient of each row's log-density with respect to the parameters (the scores), or Jacobian of a function.

    Parameters
    ----------
    model : GaussianMixture, MixtureOfExperts, distributions.Mixture, Parameters or callable
        As for :func:`value_and_grad`; or a function of one's own, which takes n numbers and returns one or m, computed
        with operators and NumPy's functions.
    X : array-like of shape (N, D)
        The rows; for a function the point (n,) at which it is differentiated.
    y : array-like of shape (N,) or (N, M), default=None
        As for :func:`value_and_grad`.

    Returns
    -------
    jacobian : ndarray of shape (N, P)
        The scores; for a large table take them block by block. For a function (m, n), or (n,) if it returns one
        number; each column is one evaluation with dual numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura import GaussianMixture
    >>> from mixtura.autodiff import jacobian
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> jacobian(GaussianMixture(2, random_state=0, tol=0.1).fit(X), X).shape
    (100, 11)
    >>> jacobian(lambda x: x[0] * x[1] + np.sin(x[0]), [0.0, 3.0])
    array([4., 0.])
    """
    if callable(model):
        found: Float = jacobian_of(model, X)  # or a Dual, within another derivative
        return found
    at = Prepared.of(model, X, y, None)
    with at.table.host_limits():
        scores = at.of_each_row(lambda rows: at.adjoint(rows, "scores"))
    at.checked(scores)
    return scores


def grad_x(
    model: Model,
    X: ArrayLike,
    *,
    y: ArrayLike | None = None,
    mode: str = "reverse",
) -> Float:
    """Gradient of each row's log-density with respect to the row.

    Parameters
    ----------
    model, X, y, mode
        As for :func:`value_and_grad`.

    Returns
    -------
    gradient : ndarray of shape (N, D)
        For a mixture of experts that of ``log p(y | x)`` with respect to x.

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura.autodiff import grad_x
    >>> from mixtura.distributions import Mixture
    >>> grad_x(Mixture([1.0], [[0.0, 0.0]], [[[4.0, 0.0], [0.0, 1.0]]]), [[2.0, 3.0]]).tolist()
    [[-0.5, -3.0]]
    """
    at = Prepared.of(model, X, y, None)
    with at.table.host_limits():
        if _check_mode(mode):
            gradient = at.of_each_row(lambda rows: at.derivatives.forward_rows(at.mixture, rows)[1])
        else:
            gradient = at.of_each_row(lambda rows: at.adjoint(rows, "gradient"))
    at.checked(gradient)
    return gradient[:, : at.mixture.covariates or None]


def hessian_x(
    model: Model,
    X: ArrayLike,
    *,
    y: ArrayLike | None = None,
    mode: str = "reverse",
) -> Float:
    """Second derivatives of each row's log-density with respect to the row.

    Parameters
    ----------
    model, X, y, mode
        As for :func:`grad_x`.

    Returns
    -------
    hessian : ndarray of shape (N, D, D)

    Examples
    --------
    >>> import numpy as np
    >>> from mixtura.autodiff import hessian_x
    >>> from mixtura.distributions import Mixture
    >>> hessian_x(Mixture([1.0], [[0.0]], [[[4.0]]]), [[2.0]]).tolist()
    [[[-0.25]]]
    """
    at = Prepared.of(model, X, y, None)
    with at.table.host_limits():
        if _check_mode(mode):
            second = at.of_each_row(lambda rows: at.derivatives.forward_rows(at.mixture, rows)[2])
        else:
            second = at.of_each_row(lambda rows: at.adjoint(rows, "hessian"))
    at.checked(second)
    Q = at.mixture.covariates or None
    return second[:, :Q, :Q]
