"""What is known beforehand of the components that rows belong to: labels, or sets of allowed components."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Indices = NDArray[np.intp]


class Membership(ABC):
    """Restricts rows to some of the components."""

    @abstractmethod
    def log_weights(self, rows: slice, components: int) -> Float:
        """0 where a row may belong to a component and minus infinity elsewhere, (n, K)."""

    @abstractmethod
    def taken(self, indices: Indices) -> Self:
        """The same for the rows with these indices."""

    @abstractmethod
    def joined(self, others: Sequence[Self]) -> Self:
        """The same for these rows and then those of others."""

    @abstractmethod
    def part(self, kept: NDArray[np.bool_]) -> Self:
        """The same for some of the components, (K,), when the others are removed."""

    @abstractmethod
    def possible(self, components: int) -> NDArray[np.bool_]:
        """Whether some row may belong to each component, (K,)."""

    @property
    @abstractmethod
    def labels(self) -> Indices:
        """The only component that a row may belong to, or -1 where there are several, (N,)."""


@dataclass(frozen=True, eq=False)
class Labels(Membership):
    """Rows of which some have a known component.

    Parameters
    ----------
    known : ndarray of int of shape (N,)
        The component; -1 where it is not known.
    """

    known: Indices

    def log_weights(self, rows: slice, components: int) -> Float:
        """See :meth:`Membership.log_weights`."""
        labels = self.known[rows]
        allowed = np.zeros((len(labels), components))
        labelled = np.flatnonzero(labels >= 0)
        allowed[labelled] = -np.inf
        allowed[labelled, labels[labelled]] = 0.0
        return allowed

    def taken(self, indices: Indices) -> Self:
        """See :meth:`Membership.taken`."""
        return type(self)(self.known[indices])

    def joined(self, others: Sequence[Self]) -> Self:
        """See :meth:`Membership.joined`."""
        return type(self)(np.concatenate([self.known, *(other.known for other in others)]))

    def part(self, kept: NDArray[np.bool_]) -> Self:
        """See :meth:`Membership.part`."""
        renumbered: Indices = np.append(
            np.where(kept, np.cumsum(kept) - 1, -1), -1
        )  # the last one is for label -1
        return type(self)(renumbered[self.known])

    def possible(self, components: int) -> NDArray[np.bool_]:
        """See :meth:`Membership.possible`."""
        return np.asarray(np.any(self.known < 0) | np.isin(np.arange(components), self.known))

    @property
    def labels(self) -> Indices:
        """See :attr:`Membership.labels`."""
        return self.known


@dataclass(frozen=True, eq=False)
class Allowed(Membership):
    """Rows that may belong to some of the components.

    Parameters
    ----------
    allowed : ndarray of bool of shape (N, K)
        At least one in each row. Components beyond K, such as noise, are open to rows that no component is closed to.
    """

    allowed: NDArray[np.bool_]

    def log_weights(self, rows: slice, components: int) -> Float:
        """See :meth:`Membership.log_weights`."""
        allowed = self.allowed[rows]
        beyond = components - allowed.shape[1]
        if beyond:
            everywhere = np.logical_and.reduce(allowed, axis=1)
            allowed = np.hstack([allowed, np.repeat(everywhere[:, None], beyond, axis=1)])
        return np.asarray(np.where(allowed, 0.0, -np.inf))

    def taken(self, indices: Indices) -> Self:
        """See :meth:`Membership.taken`."""
        return type(self)(self.allowed[indices])

    def joined(self, others: Sequence[Self]) -> Self:
        """See :meth:`Membership.joined`."""
        return type(self)(np.concatenate([self.allowed, *(other.allowed for other in others)]))

    def part(self, kept: NDArray[np.bool_]) -> Self:
        """See :meth:`Membership.part`."""
        rest = np.array(self.allowed[:, kept])
        nowhere = np.logical_not(np.logical_or.reduce(rest, axis=1))
        rest[nowhere] = True  # a row whose components have all gone may belong to any other
        return type(self)(rest)

    def possible(self, components: int) -> NDArray[np.bool_]:
        """See :meth:`Membership.possible`."""
        return np.asarray(np.logical_or.reduce(self.allowed, axis=0))

    @property
    def labels(self) -> Indices:
        """See :attr:`Membership.labels`."""
        only = self.allowed.sum(axis=1) == 1
        return np.where(only, self.allowed.argmax(axis=1), -1)
