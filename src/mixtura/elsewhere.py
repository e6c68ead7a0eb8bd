"""Arrays that stay where they were computed, on a device, until somebody reads them.

An iteration of EM over many large covariance matrices would spend much of its time in copying them to the host and
back, although nobody there looks at them. So statistics and parameters may hold an array that is elsewhere: they read
like any others, and the array is copied when it is first read. Who can work with it where it is asks
:meth:`PartlyElsewhere.elsewhere`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Elsewhere(ABC):
    """An array that is not on the host."""

    @abstractmethod
    def brought(self) -> Float:
        """The array, on the host."""


class Scatters(Elsewhere):
    """Second moments of K components, packed triangles (K, D (D + 1) / 2).

    Attributes
    ----------
    diagonals : ndarray of shape (K, D)
        The second moments of single columns.
    finite : bool
        Whether all of these numbers are finite.
    """

    diagonals: Float
    finite: bool

    @abstractmethod
    def factors(self, mass: Float, added: float | Float) -> Factors | None:
        """Factors of the precisions of the covariances that these moments, and first ones with them, have.

        Parameters
        ----------
        mass : ndarray of shape (K,)
            Divisors.
        added : float or ndarray of shape (D,)
            Is added to the variances.

        Returns
        -------
        Factors or None
            None if a covariance is not positive definite.
        """


class Factors(Elsewhere):
    """Lower triangles F_k (K, D, D) with ``F_k' F_k`` the precision.

    Attributes
    ----------
    log_determinants : ndarray of shape (K,)
    """

    log_determinants: Float

    @abstractmethod
    def widths(self, around: Float, vectors: Float) -> tuple[float, float, float]:
        """The largest ``sum_d F_krd^2 (a_d + v_kd^2)``; the least and the largest ``sum_d F_krd^2``.

        Parameters
        ----------
        around : ndarray of shape (D,)
        vectors : ndarray of shape (K, D)
        """

    @abstractmethod
    def lengths(self, vectors: Float) -> Float:
        """``|F_k v_k|^2`` for vectors v (K, D), (K,)."""

    @abstractmethod
    def norms(self, variances: Float, closely: bool) -> Float:
        """Bounds (K,) of the largest eigenvalues of ``G_k' G_k`` with ``G_k = F_k diag(variances_k)^1/2``.

        With the variances (K, D) of the covariances themselves these are the eigenvalues of the inverses of their
        correlations. ``closely``: the largest sums of absolute values along a row of ``G_k' G_k``, which cost D^3
        operations; otherwise bounds from ``G_k`` alone.
        """


@dataclass
class Transposed(Elsewhere):
    """The transposes of factors, upper triangles."""

    factors: Factors

    def brought(self) -> Float:
        """See :meth:`Elsewhere.brought`: a view of the factors, which is how these lie on the host too."""
        return np.swapaxes(self.factors.brought(), -1, -2)


@dataclass
class Computed(Elsewhere):
    """An array that is computed when it is wanted."""

    compute: Callable[[], Float]

    def brought(self) -> Float:
        """See :meth:`Elsewhere.brought`."""
        return self.compute()


class PartlyElsewhere:
    """A frozen dataclass of which some fields may be given as :class:`Elsewhere`, and are then arrays when read."""

    _may_be_elsewhere: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        """Put away what is elsewhere, so that the first look at it finds nothing and asks for it."""
        values = self.__dict__
        for name in self._may_be_elsewhere:
            if type(values[name]) is not np.ndarray and isinstance(values[name], Elsewhere):
                values.setdefault("_elsewhere", {})[name] = values.pop(name)

    def __getattr__(self, name: str) -> Any:
        """Called for what the object does not have: an array that has not been read yet."""
        away = self.elsewhere(name)
        if away is not None:
            array = self.__dict__.setdefault(name, away.brought())
            # What has been read is used on the host from now on. The device's memory is free when nobody else has it.
            self.__dict__["_elsewhere"].pop(name, None)
            return array
        if name in self.__dict__:  # another thread has just read it
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def elsewhere(self, name: str) -> Any:
        """What is elsewhere in place of a field; None if the field is an array."""
        away = self.__dict__.get("_elsewhere")
        return None if away is None else away.get(name)

    def __getstate__(self) -> dict[str, Any]:
        """With all arrays on the host."""
        for name in self._may_be_elsewhere:
            getattr(self, name)
        return {name: value for name, value in self.__dict__.items() if name != "_elsewhere"}
