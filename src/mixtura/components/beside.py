"""One component of another kind beside a mixture's K, such as noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixtura.components.base import Components
from mixtura.found import Found
from mixtura.layouts import LAYOUTS
from mixtura.moments import Kind, Moments
from mixtura.parts import Part
from mixtura.quadratics import Quadratics
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Component(Part, ABC):
    """A single component, whose log-density is a quadratic: a box around all rows, a Gaussian that stays where it is.

    A component is a value: :meth:`start` and :meth:`maximize` give a new one.
    """

    @abstractmethod
    def start(self, table: Table) -> Self:
        """A component for a table of rows, ``table.x`` (N, D)."""

    @property
    @abstractmethod
    def quadratics(self) -> Quadratics:
        """Its log-density, as quadratics with K = 1."""

    @property
    def bound(self) -> float:
        """Its own terms of the objective."""
        return 0.0

    def maximize(self, moments: Moments) -> Self:
        """The M-step, given the moments of its rows; here nothing is learnt."""
        return self

    @abstractmethod
    def n_parameters(self, dims: int) -> int:
        """Free parameters, its weight not counted."""

    @abstractmethod
    def sample(self, n: int, rng: np.random.RandomState) -> Float:
        """Draw rows, (n, D)."""


COMPONENTS: dict[str, type[Component]] = {}


C = TypeVar("C", bound=Components)


@dataclass(frozen=True)
class Beside(Components, Generic[C]):
    """K components of one family and, the last, one of another.

    Parameters
    ----------
    main : Components
    extra : Component
    """

    main: C
    extra: Component

    @property
    def kind(self) -> Kind:
        """What the main components need, kept for each of them: what they share is not the other's to share."""
        return LAYOUTS[self.main.kind].each.name

    @property
    def floor(self) -> float:
        """See :attr:`Components.floor`."""
        return self.main.floor

    @property
    def bound(self) -> float:
        """See :attr:`Components.bound`."""
        return self.main.bound + self.extra.bound

    @property
    def quadratics(self) -> Quadratics:
        """The K + 1 quadratics."""
        return self.main.quadratics.beside(self.extra.quadratics)

    def maximize(self, found: Found) -> Self:
        """The M-step: each part given the moments of its own rows."""
        moments, K = found.moments, len(found.moments.mass) - 1
        of_main = moments.part(slice(0, K)).pooled(self.main.kind)
        main = self.main.maximize(replace(found, moments=of_main))
        return replace(self, main=main, extra=self.extra.maximize(moments.part(slice(K, K + 1))))
