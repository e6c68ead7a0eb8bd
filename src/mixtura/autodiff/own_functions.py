"""Derivatives of a user's own function, by dual numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.dual import Dual

Float = NDArray[np.float64]


def derivative(f: Callable[[Any], Any], x: ArrayLike, order: int = 1) -> Any:
    """Derivative of a function of one number.

    Parameters
    ----------
    f : callable
        Takes a number and returns one, computed with operators and NumPy's functions. It may also work entry by entry
        on an array.
    x : float or array-like
        Where; for an array, the derivative at each entry.
    order : int, default=1
        2 for the second derivative, and so on.

    Returns
    -------
    derivative : float or ndarray

    Examples
    --------
    >>> from mixtura.autodiff import derivative
    >>> derivative(lambda x: x**3, 2.0)
    12.0
    >>> derivative(lambda x: x**3, 2.0, order=2)
    12.0
    """
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or order < 1:
        raise ValueError(f"order must be a positive integer, got {order!r}")
    at: Any = np.asarray(x, dtype=np.float64)
    at = float(at) if at.ndim == 0 else at
    one: Any = 1.0 if isinstance(at, float) else np.ones_like(at)
    for _ in range(order):
        at, one = Dual(at, one), one
    answer = f(at)
    for _ in range(order):
        if isinstance(answer, np.ndarray) and answer.dtype == object and not answer.ndim:
            answer = answer.item()  # NumPy wraps what some of its functions choose
        answer = answer.tangent if isinstance(answer, Dual) else 0.0 * answer
    while isinstance(answer, Dual):
        answer = answer.value
    shape = np.shape(x)
    full = np.broadcast_to(np.asarray(answer, dtype=np.float64), shape)
    return float(full) if not shape else np.array(full)


def jacobian_of(f: Callable[[Any], Any], x: ArrayLike) -> Float:
    """Derivatives of a function of several numbers, (m, n) or (n,): see :func:`mixtura.autodiff.jacobian`."""
    at = np.asarray(x, dtype=np.float64)
    if at.ndim != 1 or not len(at):
        raise ValueError(f"x must be an array of n numbers, got shape {at.shape}")
    return np.stack([_tangents(f(Dual(at, direction))) for direction in np.eye(len(at))], axis=-1)


def _tangents(answer: Any) -> Float:
    if isinstance(answer, Dual):
        return np.asarray(answer.tangent + np.zeros(np.shape(answer.value)), dtype=np.float64)
    if isinstance(answer, (list, tuple)) or (isinstance(answer, np.ndarray) and answer.dtype == object):
        return np.array([_tangents(part) for part in answer])
    return np.zeros(np.shape(answer))


def _values(answer: Any) -> Float:
    if isinstance(answer, Dual):
        return np.asarray(answer.value, dtype=np.float64)
    if isinstance(answer, (list, tuple)) or (isinstance(answer, np.ndarray) and answer.dtype == object):
        return np.array([_values(part) for part in answer])
    return np.asarray(answer, dtype=np.float64)


def newton(f: Callable[[Any], Any], x0: ArrayLike, tol: float = 1e-12, max_iter: int = 50) -> Any:
    """A root of a function by Newton's method, ``x <- x - J(x)^-1 f(x)``, with derivatives by dual numbers.

    Parameters
    ----------
    f : callable
        Takes a number and returns one, or takes n numbers and returns n.
    x0 : float or array-like of shape (n,)
        Where to start.
    tol : float, default=1e-12
        It stops when a step is no longer than this, times the length of x or 1, whichever is larger.
    max_iter : int, default=50
        Most steps.

    Returns
    -------
    x : float or ndarray of shape (n,)

    Raises
    ------
    ValueError
        f does not return as many numbers as it takes.
    ArithmeticError
        There is no next step, because the derivative is singular or f is not finite, or the steps do not end.

    Examples
    --------
    >>> from mixtura.autodiff import newton
    >>> round(newton(lambda x: x * x - 2.0, 1.0), 12)
    1.414213562373
    """
    scalar = np.ndim(x0) == 0
    x = np.atleast_1d(np.array(x0, dtype=np.float64))
    if x.ndim != 1:
        raise ValueError(f"x0 must be a number or an array of n numbers, got shape {x.shape}")

    def together(at: Dual) -> Any:
        return f(at[0]) if scalar else f(at)

    for _ in range(max_iter):
        value = np.atleast_1d(_values(f(x[0]) if scalar else f(x)))
        J = np.atleast_2d(jacobian_of(together, x))
        if value.shape != x.shape or J.shape != (len(x), len(x)):
            raise ValueError(
                f"f takes {len(x)} numbers and returns {value.size}; a root needs as many of both"
            )
        if not (np.isfinite(value).all() and np.isfinite(J).all()):
            raise ArithmeticError(f"f or its derivative is not finite at {x.tolist()}: start elsewhere")
        try:
            step = np.linalg.solve(J, value)
        except np.linalg.LinAlgError:
            raise ArithmeticError(f"the derivative is singular at {x.tolist()}: start elsewhere") from None
        x = x - step
        if np.linalg.norm(step) <= tol * max(1.0, float(np.linalg.norm(x))):
            return float(x[0]) if scalar else x
    raise ArithmeticError(f"no root after {max_iter} steps; the last point is {x.tolist()}")
