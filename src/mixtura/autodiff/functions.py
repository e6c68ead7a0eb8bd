"""Derivatives of a fitted mixture's log-likelihood, with respect to its parameters and to the rows.

Reverse mode throughout: sums over rows follow from one pass of moments (Fisher's identity), answers about rows from
adjoint kernels. Forward mode, by dual numbers, gives products with a direction, and checks the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas

from mixtura.array_kinds import to_host
from mixtura.autodiff.complete import CompleteData
from mixtura.autodiff.own_functions import jacobian_of
from mixtura.autodiff.parameters import Differentiable, Parameters
from mixtura.backends.base import Rows
from mixtura.backends.derivatives import Derivatives
from mixtura.estimators.validation import check_finite
from mixtura.parametric import ParametricMixture
from mixtura.table import Table
from mixtura.threads import allow

Float = NDArray[np.float64]

# A fitted model, or the parameters of one.
Model = Differentiable | Parameters

MODES = ("reverse", "forward")

# How many numbers of a block of scores (n, P) are held at a time.
_HELD = 1 << 23


@dataclass(frozen=True)
class Prepared:
    """A mixture and the rows at which its derivatives are wanted.

    Parameters
    ----------
    mixture : ParametricMixture
    table : Table
        Its sums are in float64.
    """

    mixture: ParametricMixture
    table: Table

    @classmethod
    def of(cls, model: Model, X: Any, y: Any, sample_weight: Any) -> Prepared:
        """Check and place the rows for a model."""
        parameters = Parameters.of(model)
        return cls(parameters.mixture, parameters.table(X, y, sample_weight))

    @property
    def derivatives(self) -> Derivatives:
        """What evaluates derivatives at rows."""
        return self.table.backend.derivatives()

    @property
    def rows(self) -> Rows:
        """The rows, on the host."""
        return _host_rows(self.table)

    def blocks(self) -> Any:
        """The table in blocks of rows whose scores can be held."""
        size = max(_HELD // self.mixture.size, 256)
        for start in range(0, len(self.table), size):
            yield self.table.block(start, min(start + size, len(self.table)))

    def checked(self, *answers: Any) -> None:
        """Raise ValueError if an answer is not finite: rows that hold NaN are looked for only then."""
        if all(np.isfinite(answer).all() for answer in answers):
            return
        counted = self.table.counted
        check_finite(self.rows.X if counted is None else self.rows.X[counted])
        raise ValueError(
            "rows of X are so far from every component that their log-density cannot be represented: scale the input "
            "data, or remove such rows"
        )

    def complete(self, mixture: ParametricMixture) -> CompleteData:
        """The moments of a mixture, from one pass."""
        complete = CompleteData.of(mixture, self.table)
        self.checked(complete.log_likelihood, complete.mass)
        return complete

    def value_and_grad(self) -> tuple[float, Float]:
        """Log-likelihood and its gradient (P,)."""
        complete = self.complete(self.mixture)
        return complete.log_likelihood, complete.gradient(self.mixture)

    def hessian(self) -> Float:
        """Hessian of the log-likelihood, (P, P).

        With r the responsibilities and s_k the scores of the complete data, it is by Louis' identity the expected
        Hessian of the complete data plus ``sum_i (sum_k r_k s_k s_k' - (sum_k r_k s_k)(sum_k r_k s_k)')``. Cost:
        N P^2 / 2 multiply-adds in BLAS, and K times as many for the parameters of one component.
        """
        m = self.mixture.unshared()
        H = self.complete(m).hessian(m)
        # BLAS wants columns in order; the products are symmetric, so only one triangle is summed.
        spread = np.asfortranarray(np.zeros((m.size, m.size)))
        for block in self.blocks():
            self._add_spread(m, block, spread, H)
        H -= np.tril(spread) + np.tril(spread, -1).T
        return _gathered(H, self.mixture.sharing(), self.mixture.size)

    def _add_spread(self, m: ParametricMixture, block: Table, spread: Float, H: Float) -> None:
        """Add a block's covariances of scores over the components: the mean's square to ``spread``, the rest to H."""
        found = self.derivatives.adjoints(m, _host_rows(block), resp=True, scores=True)
        resp, scores = found.resp, found.scores
        assert resp is not None
        assert scores is not None
        root = np.ones(len(block))
        if block.sample_weight is not None:
            root = np.sqrt(block.sample_weight)
            weightless = block.sample_weight == 0.0  # whatever such a row holds
            scores[weightless], resp[weightless] = 0.0, 0.0
        phi = np.ones((len(block), 1))
        if m.softmax:
            phi = np.hstack([phi, np.asarray(block.x, dtype=np.float64)])
            phi[root == 0.0] = 0.0
        of_gate = m.gate_size
        gate = resp[:, :-1, None] * phi[:, None, :]
        scores[:, :of_gate] = gate.reshape(len(block), of_gate)
        if block.sample_weight is not None:
            scores *= root[:, None]
        blas.dsyrk(1.0, scores.T, beta=1.0, c=spread, lower=1, overwrite_c=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            unweighted = np.where(resp > 0.0, 1.0 / np.sqrt(resp), 0.0)
        for k in range(m.components):
            own = [scores[:, m.of_coefficients(k)], scores[:, m.of_scale(k)]]
            places = [np.arange(m.size)[m.of_coefficients(k)], np.arange(m.size)[m.of_scale(k)]]
            if k < m.components - 1:
                own.insert(0, scores[:, m.of_gate(k)])
                places.insert(0, np.arange(m.size)[m.of_gate(k)])
            each = np.hstack(own) * unweighted[:, k, None]
            at = np.concatenate(places)
            square = blas.dsyrk(1.0, each.T, lower=1)
            H[np.ix_(at, at)] += np.tril(square) + np.tril(square, -1).T
        self._add_gate(m, block, phi, root, H)

    @staticmethod
    def _add_gate(m: ParametricMixture, block: Table, phi: Float, root: Float, H: Float) -> None:
        """Add the Hessian of the gate's log-probabilities: ``-(diag pi - pi pi') (x) phi phi'``."""
        x = block.x
        if m.softmax and not root.all():
            x = np.where(root[:, None] > 0.0, x, 0.0)
        pi = np.exp(m.log_gate(x))[:, :-1]
        weighted = phi * root[:, None]
        each = (pi[:, :, None] * weighted[:, None, :]).reshape(len(block), m.gate_size)
        H[: m.gate_size, : m.gate_size] += each.T @ each
        for k in range(m.components - 1):
            H[m.of_gate(k), m.of_gate(k)] -= (weighted * pi[:, k, None]).T @ weighted

    def outer_products(self) -> Float:
        """Sum over the rows of the outer products of their scores, (P, P)."""
        P = self.mixture.size
        total = np.asfortranarray(np.zeros((P, P)))
        for block in self.blocks():
            scores = self.derivatives.adjoints(self.mixture, _host_rows(block), scores=True).scores
            assert scores is not None
            if block.sample_weight is not None:
                scores[block.sample_weight == 0.0] = 0.0
                scores *= np.sqrt(block.sample_weight)[:, None]
            blas.dsyrk(1.0, scores.T, beta=1.0, c=total, lower=1, overwrite_c=1)
        return np.asarray(np.tril(total) + np.tril(total, -1).T)


def _gathered(H: Float, places: NDArray[np.intp], size: int) -> Float:
    """The Hessian with respect to parameters of which several others are copies."""
    if len(places) == size:
        return H
    rows = np.zeros((size, len(places)))
    np.add.at(rows, places, H)
    out = np.zeros((size, size))
    np.add.at(out, places, rows.T)
    return out


def _host_rows(table: Table) -> Rows:
    """The rows where derivatives at rows are evaluated: on the host."""
    return Rows(np.asarray(table.x), None if table.y is None else np.asarray(table.y))


def threads_of(table: Table) -> Any:
    """Hold BLAS to the threads that the model allows."""
    return allow(table.backend.n_threads, table.backend.compiled)


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
    with threads_of(at.table):
        if _check_mode(mode):
            value, gradient, _ = at.derivatives.forward_sums(at.mixture, at.rows, at.table.sample_weight)
            at.checked(value, gradient)
            return value, gradient
        return at.value_and_grad()


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
    with threads_of(at.table):
        if _check_mode(mode):
            second = at.derivatives.forward_sums(at.mixture, at.rows, at.table.sample_weight)[2]
            at.checked(second)
            return second
        return at.hessian()


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
    with threads_of(at.table):
        along = at.derivatives.tangent(at.mixture, at.rows, vector)[1]
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
            with threads_of(at.table):
                total += sign * at.value_and_grad()[1]
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
        return jacobian_of(model, X)
    at = Prepared.of(model, X, y, None)
    with threads_of(at.table):
        scores = at.derivatives.adjoints(at.mixture, at.rows, scores=True).scores
    assert scores is not None
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
    with threads_of(at.table):
        if _check_mode(mode):
            gradient = at.derivatives.forward_rows(at.mixture, at.rows)[1]
        else:
            found = at.derivatives.adjoints(at.mixture, at.rows, gradient=True).gradient
            assert found is not None
            gradient = found
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
    with threads_of(at.table):
        if _check_mode(mode):
            second = at.derivatives.forward_rows(at.mixture, at.rows)[2]
        else:
            found = at.derivatives.adjoints(at.mixture, at.rows, hessian=True).hessian
            assert found is not None
            second = found
    at.checked(second)
    Q = at.mixture.covariates or None
    return second[:, :Q, :Q]
