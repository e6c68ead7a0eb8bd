"""What every gate can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.found import Found
from mixtura.joint import Joint, RowwiseJoint
from mixtura.parts import Part, state
from mixtura.quadratics import Quadratics
from mixtura.table import Table

__all__ = ["Gate", "log_normalized", "state"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gate(Part, ABC):
    """Log-weights of a mixture's K components for rows of covariates x.

    A gate is a value: :meth:`start` and :meth:`maximize` give a new one. Its parameters are the user's; its
    state, what has been learnt, is None before.

    Attributes
    ----------
    name : str
        As ``MixtureOfExperts(gate=...)`` takes it.
    looks_at_rows : bool
        Whether log-weights differ from row to row, (n, K), or not, (K,).
    needs_responsibilities : bool
        Whether :meth:`maximize` must see all responsibilities (N, K): moments do not suffice.
    tol : float
        Change of the objective per unit of weight below which a fit has converged, if the user names none.
    """

    tol: ClassVar[float] = 1e-9
    looks_at_rows: ClassVar[bool] = False
    needs_responsibilities: ClassVar[bool] = False

    @abstractmethod
    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """A gate that prefers no component, for the covariates ``table.x`` (N, D).

        Raises
        ------
        ValueError
            A parameter that does not fit K components or D columns.
        ImportError
            A package that the gate needs is absent; says what to install.
        """

    def resume(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """A gate that was fitted before, on a table that need not be the same."""
        return self.start(components, table, rng).restored(self.saved)

    @abstractmethod
    def log_weights(self, block: Table) -> Float:
        """What the E-step adds to log-densities, (K,) or, if the gate looks at rows, (n, K) for those of a block.

        The expectation of log pi, plus what may depend on the row but not on the component; ``bound`` takes
        that back.
        """

    def joint(self, quadratics: Quadratics, hard: bool = False) -> Joint:
        """What the E-step evaluates, given the components' densities of the rows z = [x; y].

        Here log-weights beside the densities. A gate whose log-weights are quadratics of x makes them part of the
        densities, so that no array of N x K is written and read.
        """
        if self.looks_at_rows:
            return RowwiseJoint(quadratics, np.zeros(quadratics.components), hard, self.log_weights)
        return Joint(quadratics, self.log_weights(None), hard)  # type: ignore[arg-type]

    @property
    def bound(self) -> float:
        """The gate's own terms of the objective: divergences of what it believes from its prior, penalties."""
        return 0.0

    @abstractmethod
    def maximize(self, found: Found) -> Self:
        """The M-step: a gate whose objective, given the responsibilities, is not less.

        What there is to learn from: ``found.of_covariates``, the moments of x of kind 'full', weighted with the
        responsibilities; ``found.table.x``; and, if :attr:`needs_responsibilities`, ``found.resp`` (N, K).
        """

    @abstractmethod
    def log_probabilities(self, block: Table) -> Float:
        """Log of the probability of each component for new rows, (K,) or (n, K), normalised."""

    @abstractmethod
    def n_parameters(self, components: int, dims: int) -> int:
        """Free parameters, for information criteria."""


def log_normalized(joint: Float) -> Float:
    """Log-weights (n, K) minus the log of their sum."""
    top = joint.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        return np.asarray(joint - top - np.log(np.exp(joint - top).sum(axis=1, keepdims=True)))
