"""A single component of another kind beside a mixture's K components, such as noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mixtura.components.base import Components
from mixtura.components.gaussian import Gaussians
from mixtura.errors import SingularError
from mixtura.found import Found
from mixtura.layouts import LAYOUTS
from mixtura.moments import Kind, Moments
from mixtura.parametric import ParametricMixture
from mixtura.parts import Part, unchanged
from mixtura.quadratics import Quadratics
from mixtura.table import Table

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Component(Part, ABC):
    """A single component whose log-density is a quadratic, such as a box around all rows or a fixed Gaussian.

    A component is immutable: :meth:`start` and :meth:`maximize` return a new one.
    """

    @abstractmethod
    def start(self, table: Table) -> Self:
        """The component from which EM starts on a table of rows, ``table.x`` (N, D)."""

    @property
    @abstractmethod
    def quadratics(self) -> Quadratics:
        """Its log-density, as quadratics with K = 1."""

    @property
    def bound(self) -> float:
        """The component's own terms of the objective."""
        return 0.0

    def maximize(self, moments: Moments) -> Self:
        """The M-step, given the moments of the component's rows; by default nothing is learnt."""
        return self

    @abstractmethod
    def n_parameters(self, dims: int) -> int:
        """Number of free parameters, without the weight."""

    @abstractmethod
    def sample(self, n: int, rng: np.random.RandomState) -> Float:
        """Draw rows, (n, D)."""


COMPONENTS: dict[str, type[Component]] = {}

# Rows that the main components must have together.
_LEAST_ROWS = 0.5


@dataclass(frozen=True)
class Beside(Components):
    """K components of one family, followed by one component of another.

    Parameters
    ----------
    main : Components
    extra : Component
    """

    main: Gaussians
    extra: Component

    def stays(self, after: Components) -> bool:
        """See :meth:`Components.stays`."""
        return (
            isinstance(after, Beside) and self.main.stays(after.main) and unchanged(self.extra, after.extra)
        )

    def parametric(self, log_odds: Float) -> ParametricMixture:
        """Raise ValueError: what the component beside the others depends on is its own affair."""
        raise ValueError("there are no derivatives for a mixture with noise: fit with noise=None")

    @property
    def kind(self) -> Kind:
        """The kind that the main components need, kept for each: a sum over all would include the extra component."""
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
        """The M-step: each part gets the moments of its own rows."""
        moments, K = found.moments, len(found.moments.mass) - 1
        of_main = self._of_main(moments)
        main = self.main.maximize(replace(found, moments=of_main))
        return replace(self, main=main, extra=self.extra.maximize(moments.part(slice(K, K + 1))))

    def _of_main(self, moments: Moments) -> Moments:
        """The moments of the rows that are the main components', of which there must be some."""
        of_main = moments.part(slice(0, len(moments.mass) - 1)).pooled(self.main.kind)
        rows = of_main.mass.sum() * (moments.n_samples / moments.mass.sum())
        if not rows > _LEAST_ROWS:
            raise SingularError(
                f"the {self.extra.name} component beside the Gaussians has taken all rows: its density is higher than "
                "theirs at every row. Give it a lower one (noise=...), or them a smaller reg_covar or other initial "
                "means."
            )
        return of_main

    @property
    def coordinates(self) -> Float:
        """Those of the main components; the extra one stays where it is."""
        return self.main.coordinates

    @property
    def scales(self) -> Float:
        """See :attr:`Components.scales`."""
        return self.main.scales

    def at(self, coordinates: Float) -> Self:
        """See :meth:`Components.at`."""
        return replace(self, main=self.main.at(coordinates))

    def singular(self, moments: Moments, scale: Float, reg_covar: float | Float) -> NDArray[np.bool_]:
        """Which components would be singular, (K + 1,): see :meth:`Gaussians.singular`. The last one never is."""
        return np.append(self.main.singular(self._of_main(moments), scale, reg_covar), False)

    def part(self, kept: NDArray[np.bool_]) -> Self:
        """Some of the components, of which the last one must be."""
        return replace(self, main=self.main.part(kept[:-1]))
