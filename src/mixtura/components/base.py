"""The interface of components of every kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mixtura.components.surfaces import Surface
from mixtura.found import Found
from mixtura.moments import Kind, Moments
from mixtura.parametric import ParametricMixture
from mixtura.parts import unchanged
from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]


class Components(ABC):
    """The densities of a mixture's K components.

    They turn parameters into quadratics, and moments into new parameters. Components are immutable: :meth:`maximize`
    returns new ones.
    """

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """The kind of moments that :meth:`maximize` needs: see :class:`mixtura.moments.Moments`."""

    @property
    @abstractmethod
    def quadratics(self) -> Quadratics:
        """The components' log-densities, which a backend evaluates."""

    @property
    def bound(self) -> float:
        """The components' own terms of the objective: divergences from priors, penalties."""
        return 0.0

    @property
    def floor(self) -> float:
        """Variance below which no digit of a moment matters."""
        return 0.0

    @abstractmethod
    def maximize(self, found: Found) -> Self:
        """The M-step: components whose objective, given the responsibilities, is not less than before."""

    def stays(self, after: Components) -> bool:
        """Whether components that the M-step gave are these, but for rounding; false where that is not known."""
        return unchanged(self, after)

    @property
    def likelihood_alone(self) -> bool:
        """Whether the M-step maximises the likelihood and nothing beside it: no prior, bound or fixed value acts."""
        return False

    def has_maximum(self, moments: Moments) -> bool:
        """Whether the likelihood alone, given the responsibilities, has a maximum, which Newton's method may find."""
        return True

    @property
    def within_bounds(self) -> bool:
        """Whether the parameters respect the bounds that the M-step keeps."""
        return True

    def parametric(self, log_odds: Float) -> ParametricMixture:
        """The mixture of these components and a gate with these log-odds as a function of one vector of parameters.

        Raises
        ------
        ValueError
            These components have no such form.
        """
        raise ValueError(f"there are no derivatives for {type(self).__name__}")

    def with_parametric(self, mixture: ParametricMixture) -> Self:
        """Components with the parameters of a mixture that :meth:`parametric` gave the form of."""
        raise ValueError(f"there are no derivatives for {type(self).__name__}")

    def surface(self) -> Surface | None:
        """What of the scales in :meth:`parametric` is free; None if all are."""
        return None

    @property
    def coordinates(self) -> Float:
        """The parameters as one vector, of which every value stands for valid parameters.

        Raises
        ------
        NotImplementedError
            These components have no such vector.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be accelerated")

    @property
    def scales(self) -> Float:
        """Sizes of a large step of each coordinate, which are therefore free of units when divided by them."""
        return np.ones_like(self.coordinates)

    def at(self, coordinates: Float) -> Self:
        """Components with other parameters, given as :attr:`coordinates`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be accelerated")
