"""Dual numbers over NumPy arrays: forward-mode differentiation of whatever is computed with them.

``(a, a') + (b, b') = (a + b, a' + b')``, ``(a, a') (b, b') = (a b, a' b + a b')``, and ``f(a, a') = (f(a), f'(a) a')``.

A derivative may be taken within the computation of another. Each of them has a level of its own, the inner one the
higher: to a number of a higher level, one of a lower level is a constant (Siskind and Pearlmutter 2008, Nesting
forward-mode AD in a functional framework).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dual", "levels_up_to"]

# The highest level of the derivatives that are being taken.
_highest: ContextVar[int] = ContextVar("highest", default=0)


class Dual:
    """A number, or an array of numbers, with its derivative along one direction.

    Both parts may be dual numbers themselves: these then carry second derivatives. NumPy's functions (``np.exp``,
    ``np.log``, ``np.sqrt``, ``np.sin``, ``np.tanh``, ...) and operators work on dual numbers, in any mixture with plain
    numbers and arrays. Comparisons compare the values, so that a function with branches is differentiated along the
    branch that it takes.

    Parameters
    ----------
    value : float, ndarray or Dual
    tangent : float, ndarray or Dual, default=0.0
        The derivative of ``value`` along the direction; it is broadcast to the shape of ``value``.
    level : int, default=None
        Tells derivatives by unlike things apart: numbers of the same level have derivatives along the same direction.
        None takes one more than those of the two parts, and of the derivative within which the number is made.

    References
    ----------
    Wengert (1964), A simple automatic derivative evaluation program. Griewank, Walther (2008), Evaluating Derivatives.

    Examples
    --------
    >>> from mixtura.autodiff import Dual
    >>> x = Dual(2.0, 1.0)
    >>> x**3
    Dual(8.0, 12.0)
    >>> import numpy as np
    >>> np.log(x * x)
    Dual(1.3862943611198906, 1.0)
    """

    __array_priority__ = 1000.0
    __slots__ = ("level", "tangent", "value")

    def __init__(self, value: Any, tangent: Any = 0.0, level: int | None = None) -> None:
        self.value = _number(value, "value")
        self.tangent = _number(tangent, "tangent")
        below = max(_level(self.value), _level(self.tangent))
        self.level = max(below, _highest.get()) + 1 if level is None else level
        if self.level <= below:
            raise ValueError(f"a Dual of level {self.level} cannot have parts of level {below}")
        shape, of_tangent = np.shape(self.value), np.shape(self.tangent)
        if of_tangent not in ((), shape):
            raise ValueError(f"a tangent of shape {of_tangent} does not fit a value of shape {shape}")

    def __setstate__(self, state: Any) -> None:
        _, held = state
        self.value, self.tangent = held["value"], held["tangent"]
        # Earlier versions knew no levels.
        self.level = held.get("level", max(_level(self.value), _level(self.tangent)) + 1)

    # ------------------------------------------------------------------ as an array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return tuple(np.shape(self.value))

    @property
    def ndim(self) -> int:
        """Number of axes of the value."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers the value has."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def T(self) -> Dual:  # noqa: N802 - as NumPy calls it
        """The transposed array."""
        return self._each(lambda part: part.T)

    def _each(self, f: Callable[[Any], Any]) -> Dual:
        """A linear map of the array, such as a sum or a choice of entries, applied to both parts."""
        return Dual(f(self.value), f(_full(self.tangent, self.value)), self.level)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a Dual that is one number has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Dual]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Dual:
        return self._each(lambda part: part[key])

    def reshape(self, *shape: Any) -> Dual:
        """The same numbers in another shape."""
        return self._each(lambda part: part.reshape(*shape))

    def ravel(self) -> Dual:
        """The same numbers as one row."""
        return self.reshape(-1)

    def sum(self, axis: Any = None, keepdims: bool = False, **others: Any) -> Dual:
        """Sum along axes."""
        if others.get("dtype") is not None and np.dtype(others["dtype"]) == np.float64:
            del others["dtype"]  # as it is
        unknown = [name for name, value in others.items() if value is not None]
        if unknown:
            raise TypeError(f"sums and means of Dual numbers do not take {', '.join(unknown)}")
        return self._each(lambda part: part.sum(axis=axis, keepdims=keepdims))

    def mean(self, axis: Any = None, keepdims: bool = False, **others: Any) -> Dual:
        """Mean along axes."""
        total = self.sum(axis=axis, keepdims=keepdims, **others)
        mean: Dual = total * (total.size / self.size)
        return mean

    def dot(self, other: Any) -> Dual:
        """The product of vectors or matrices."""
        product: Dual = self @ other
        return product

    def __repr__(self) -> str:
        def text(part: Any) -> str:
            return repr(float(part) if np.ndim(part) == 0 and not isinstance(part, Dual) else part)

        return f"Dual({text(self.value)}, {text(self.tangent)})"

    # ------------------------------------------------------------------ NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        rule = _RULES.get(ufunc)
        comparison = ufunc in _COMPARISONS
        if method != "__call__" or kwargs or not (rule or comparison):
            raise TypeError(
                f"np.{ufunc.__name__} has no derivative here"
                + (
                    ""
                    if method == "__call__" and not kwargs
                    else f" when called by {method} or with keywords"
                )
                + f"; those known are {', '.join(sorted(f.__name__ for f in _RULES))}"
            )
        if comparison:
            return ufunc(*(_plain(x) for x in inputs))
        assert rule is not None
        return rule(*inputs)

    def __array_function__(self, function: Any, types: Any, inputs: Any, keywords: Any) -> Any:
        if function is np.where and len(inputs) == 3 and not keywords:
            condition, first, second = inputs
            return _chosen(np.asarray(_plain(condition), dtype=bool), first, second)
        return function._implementation(*inputs, **keywords)

    # ------------------------------------------------------------------ operators

    def __add__(self, other: Any) -> Any:
        return _add(self, other)

    def __radd__(self, other: Any) -> Any:
        return _add(other, self)

    def __sub__(self, other: Any) -> Any:
        return _subtract(self, other)

    def __rsub__(self, other: Any) -> Any:
        return _subtract(other, self)

    def __mul__(self, other: Any) -> Any:
        return _multiply(self, other)

    def __rmul__(self, other: Any) -> Any:
        return _multiply(other, self)

    def __truediv__(self, other: Any) -> Any:
        return _divide(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _divide(other, self)

    def __pow__(self, other: Any) -> Any:
        return _power(self, other)

    def __rpow__(self, other: Any) -> Any:
        return _power(other, self)

    def __matmul__(self, other: Any) -> Any:
        return _matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _matmul(other, self)

    def __neg__(self) -> Any:
        return Dual(-self.value, -self.tangent, self.level)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return _absolute(self)

    def __lt__(self, other: Any) -> Any:
        return _plain(self) < _plain(other)

    def __le__(self, other: Any) -> Any:
        return _plain(self) <= _plain(other)

    def __gt__(self, other: Any) -> Any:
        return _plain(self) > _plain(other)

    def __ge__(self, other: Any) -> Any:
        return _plain(self) >= _plain(other)

    def __eq__(self, other: object) -> Any:
        return _plain(self) == _plain(other)

    def __ne__(self, other: object) -> Any:
        return _plain(self) != _plain(other)

    __hash__ = None  # type: ignore[assignment]

    def __float__(self) -> float:
        raise TypeError(
            "a Dual as a plain float would lose its derivative: use NumPy's functions instead of math's"
        )

    def __bool__(self) -> bool:
        return bool(_plain(self))


@contextmanager
def levels_up_to(level: int) -> Iterator[None]:
    """Numbers that are made meanwhile, without a level of their own, are of higher levels than this."""
    before = _highest.set(level)
    try:
        yield
    finally:
        _highest.reset(before)


def _number(part: Any, name: str) -> Any:
    """A part of a dual number: a float, an array of floats, or a Dual."""
    if isinstance(part, (Dual, float)):
        return part
    array = np.asarray(part)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"the {name} of a Dual must be real numbers, got {part!r}")
    return array.astype(np.float64) if array.dtype.kind != "f" else array[()]


def _plain(x: Any) -> Any:
    """The number without its derivatives."""
    while isinstance(x, Dual):
        x = x.value
    return x


def _level(x: Any) -> int:
    """A number's level; 0 for plain numbers."""
    return x.level if isinstance(x, Dual) else 0


def _parts(x: Any, level: int) -> tuple[Any, Any]:
    """Value and tangent of a number, as one of this level."""
    return (x.value, x.tangent) if isinstance(x, Dual) and x.level == level else (x, 0.0)


def _both(a: Any, b: Any) -> tuple[tuple[Any, Any], tuple[Any, Any], int]:
    """The parts of two numbers at the higher level of the two, and that level."""
    a, b = _as_array(a), _as_array(b)
    level = max(_level(a), _level(b))
    return _parts(a, level), _parts(b, level), level


def _full(tangent: Any, value: Any) -> Any:
    """The tangent in the shape of the value."""
    if np.shape(tangent) == np.shape(value) or isinstance(tangent, Dual):
        return tangent
    return np.broadcast_to(tangent, np.shape(value))


def _as_array(x: Any) -> Any:
    """A list of numbers as an array; dual numbers and numbers as they are, also where NumPy has wrapped one."""
    if isinstance(x, np.ndarray) and x.dtype == object:
        if x.ndim:
            raise TypeError("arrays of Dual numbers are Dual numbers of arrays: Dual(values, tangents)")
        return x.item()
    return np.asarray(x, dtype=np.float64) if isinstance(x, (list, tuple)) else x


def _spread(tangent: Any, value: Any) -> Any:
    """The tangent of a sum whose other term may have more axes."""
    return tangent + np.zeros(np.shape(value)) if np.shape(tangent) != np.shape(value) else tangent


def _add(a: Any, b: Any) -> Dual:
    (u, du), (v, dv), level = _both(a, b)
    value = u + v
    return Dual(value, _spread(du + dv, value), level)


def _subtract(a: Any, b: Any) -> Dual:
    (u, du), (v, dv), level = _both(a, b)
    value = u - v
    return Dual(value, _spread(du - dv, value), level)


def _multiply(a: Any, b: Any) -> Dual:
    (u, du), (v, dv), level = _both(a, b)
    return Dual(u * v, du * v + u * dv, level)


def _divide(a: Any, b: Any) -> Dual:
    (u, du), (v, dv), level = _both(a, b)
    value = u / v
    return Dual(value, (du - value * dv) / v, level)


def _matmul(a: Any, b: Any) -> Dual:
    a, b = _as_array(a), _as_array(b)
    (u, du), (v, dv), level = _both(a, b)
    value = u @ v
    parts = []
    if _level(a) == level:
        parts.append(_full(du, u) @ v)
    if _level(b) == level:
        parts.append(u @ _full(dv, v))
    return Dual(value, parts[0] if len(parts) == 1 else parts[0] + parts[1], level)


def _power(a: Any, b: Any) -> Dual:
    a, b = _as_array(a), _as_array(b)
    (u, du), (v, dv), level = _both(a, b)
    value = u**v
    if _level(b) < level and not isinstance(v, Dual):
        # An exponent of 0 has derivative 0, also at 0.
        exponent = np.asarray(v, dtype=np.float64)
        safe = np.where(exponent == 0.0, 1.0, exponent) if exponent.ndim else (v if v != 0 else 1.0)
        slope = v * u ** (safe - 1)
        return Dual(value, slope * du, level)
    by_base = v * u ** (v - 1) * du if _level(a) == level else None
    by_exponent = value * np.log(u) * dv if _level(b) == level else None
    parts = [part for part in (by_base, by_exponent) if part is not None]
    return Dual(value, parts[0] if len(parts) == 1 else parts[0] + parts[1], level)


def _elementwise(f: Callable[[Any], Any], slope: Callable[[Any, Any], Any]) -> Callable[[Any], Dual]:
    """The rule of a function of one number; ``slope(x, f(x))`` is its derivative."""

    def rule(x: Dual) -> Dual:
        value = f(x.value)
        return Dual(value, slope(x.value, value) * x.tangent, x.level)

    return rule


def _chosen(takes_first: NDArray[np.bool_], a: Any, b: Any) -> Any:
    """One of two numbers; not a sum with weights of 0, which an infinite number would spoil."""
    if not isinstance(a, Dual) and not isinstance(b, Dual):
        return np.where(takes_first, a, b)[()]
    (u, du), (v, dv), level = _both(a, b)
    return Dual(_chosen(takes_first, u, v), _chosen(takes_first, du, dv), level)


def _choice(first: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Dual]:
    """The rule of the larger or smaller of two numbers."""

    def rule(a: Any, b: Any) -> Dual:
        takes_first = np.asarray(first(_plain(a), _plain(b)))
        chosen: Dual = _chosen(takes_first, a, b)
        return chosen

    return rule


_absolute = _elementwise(lambda x: abs(x), lambda x, _: np.sign(_plain(x)))

_RULES: dict[np.ufunc, Callable[..., Dual]] = {
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: _multiply,
    np.divide: _divide,
    np.power: _power,
    np.matmul: _matmul,
    np.negative: lambda x: -x,
    np.positive: lambda x: x,
    np.absolute: _absolute,
    np.square: _elementwise(lambda x: x * x, lambda x, _: 2.0 * x),
    np.reciprocal: _elementwise(lambda x: 1.0 / x, lambda _, y: -(y * y)),
    np.sqrt: _elementwise(np.sqrt, lambda _, y: 0.5 / y),
    np.exp: _elementwise(np.exp, lambda _, y: y),
    np.expm1: _elementwise(np.expm1, lambda x, _: np.exp(x)),
    np.log: _elementwise(np.log, lambda x, _: 1.0 / x),
    np.log1p: _elementwise(np.log1p, lambda x, _: 1.0 / (1.0 + x)),
    np.sin: _elementwise(np.sin, lambda x, _: np.cos(x)),
    np.cos: _elementwise(np.cos, lambda x, _: -np.sin(x)),
    np.tan: _elementwise(np.tan, lambda _, y: 1.0 + y * y),
    np.arctan: _elementwise(np.arctan, lambda x, _: 1.0 / (1.0 + x * x)),
    np.sinh: _elementwise(np.sinh, lambda x, _: np.cosh(x)),
    np.cosh: _elementwise(np.cosh, lambda x, _: np.sinh(x)),
    np.tanh: _elementwise(np.tanh, lambda _, y: 1.0 - y * y),
    np.maximum: _choice(lambda a, b: a >= b),
    np.minimum: _choice(lambda a, b: a <= b),
}

_COMPARISONS = {
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
    np.isfinite,
    np.isnan,
    np.sign,
}
