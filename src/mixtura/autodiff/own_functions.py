"""Derivatives of a user's own function, by dual numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.dual import Dual, levels_up_to

Float = NDArray[np.float64]

# Derivatives so far, of which each has levels of its own, with room for those that a user makes himself.
_calls = itertools.count(1)
_LEVELS = 1000


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
    at, one = _begun(x)
    base = _new_level()
    for level in range(base, base + order):
        at, one = Dual(at, one, level), one
    with levels_up_to(base + order - 1):
        answer = f(at)
    for level in reversed(range(base, base + order)):
        answer = _by(answer, level)
    return _in_shape(answer, np.shape(x))


def _begun(x: Any) -> tuple[Any, Any]:
    """The number or array x, with derivatives by what is around, if it has any, and ones in its shape."""
    if isinstance(x, Dual):
        return x, (np.ones(x.shape) if x.shape else 1.0)
    at = np.asarray(x, dtype=np.float64)
    return (at, np.ones_like(at)) if at.ndim else (float(at), 1.0)


def _new_level() -> int:
    """A level above all that are in use; further ones fit between two of them."""
    return _LEVELS * next(_calls)


def _by(answer: Any, level: int) -> Any:
    """The derivative of an answer by the numbers of one level."""
    answer = _checked(answer)
    if isinstance(answer, Dual) and answer.level > level:  # a number that f has made, and returned
        return Dual(_by(answer.value, level), _by(answer.tangent, level), answer.level)
    if isinstance(answer, Dual) and answer.level == level:
        return _whole_tangent(answer)
    return np.zeros(np.shape(answer))[()]


def _whole_tangent(number: Dual) -> Any:
    """The tangent in the shape of the value."""
    shape = np.shape(number.value)
    return number.tangent if np.shape(number.tangent) == shape else number.tangent + np.zeros(shape)


def _unwrapped(answer: Any) -> Any:
    """The object that NumPy has wrapped in an array without axes, as some of its functions do; others as they are."""
    wrapped = isinstance(answer, np.ndarray) and answer.dtype == object and not answer.ndim
    return answer.item() if wrapped else answer


def _checked(answer: Any) -> Any:
    """What a user's function has returned, if it is a number or an array of numbers."""
    answer = _unwrapped(answer)
    if isinstance(answer, Dual):
        return answer
    array = np.asarray(answer)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"f must return a number or an array of numbers, and returned {answer!r}")
    return array.astype(np.float64) if array.ndim else float(array)


def _in_shape(answer: Any, shape: tuple[int, ...]) -> Any:
    """An answer in the shape of what it is an answer about; a number as a float."""
    if isinstance(answer, Dual):
        return answer if answer.shape == shape else answer + np.zeros(shape)
    full = np.broadcast_to(np.asarray(answer, dtype=np.float64), shape)
    return np.array(full) if shape else float(full)


def jacobian_of(f: Callable[[Any], Any], x: ArrayLike) -> Any:
    """Derivatives of a function of several numbers, (m, n) or (n,): see :func:`mixtura.autodiff.jacobian`."""
    at, _ = _begun(x)
    if np.ndim(at) != 1 or not len(at):
        raise ValueError(f"x must be an array of n numbers, got shape {np.shape(x)}")
    level = _new_level()
    with levels_up_to(level):
        answers = [f(Dual(at, direction, level)) for direction in np.eye(len(at))]
    return _stacked([_by(_several(answer), level) for answer in answers], -1)


def _stacked(parts: list[Any], axis: int) -> Any:
    """Numbers or arrays of the same shape along a new axis."""
    level = max(part.level if isinstance(part, Dual) else 0 for part in parts)
    if not level:
        return np.stack([np.asarray(part, dtype=np.float64) for part in parts], axis=axis)
    here = [
        part if isinstance(part, Dual) and part.level == level else Dual(part, 0.0, level) for part in parts
    ]
    tangents = [_whole_tangent(part) for part in here]
    return Dual(_stacked([part.value for part in here], axis), _stacked(tangents, axis), level)


def _several(answer: Any) -> Any:
    """An answer in a list or an array of objects as the numbers that it has."""
    answer = _unwrapped(answer)
    if isinstance(answer, (list, tuple)) or (isinstance(answer, np.ndarray) and answer.dtype == object):
        if not len(answer):
            return np.zeros(0)
        return _stacked([_several(part) for part in answer], 0)
    return _checked(answer)


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
    x = np.array(_flat(x0, 1), dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"x0 must be a number or an array of n numbers, got shape {x.shape}")

    def together(at: Any) -> Any:
        return f(at[0]) if scalar else f(at)

    for _ in range(max_iter):
        answer = _several(together(x))
        value, J = _flat(answer, 1), _flat(jacobian_of(together, x), 2)
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
            root = _root(x, _flat(jacobian_of(together, x), 2), _several(together(x)))
            if isinstance(root, Dual):
                return root[0] if scalar else root
            return float(root[0]) if scalar else root
    raise ArithmeticError(f"no root after {max_iter} steps; the last point is {x.tolist()}")


def _flat(answer: Any, ndim: int) -> Float:
    """The values alone, without derivatives, as an array of at least so many axes."""
    while isinstance(answer, Dual):
        answer = answer.value
    return np.atleast_1d(answer) if ndim == 1 else np.atleast_2d(answer)


def _root(x: Float, J: Float, answer: Any) -> Any:
    """The root x, with its derivative by what f depends on, if it has one: ``-J^-1 df`` (implicit function theorem)."""
    if not isinstance(answer, Dual):
        return x
    tangent = _whole_tangent(answer)
    if isinstance(answer.value, Dual) or isinstance(tangent, Dual):
        raise TypeError("the root of a function has first derivatives only by what the function depends on")
    return Dual(x, -np.linalg.solve(J, np.atleast_1d(tangent)), answer.level)
