"""The interface of all gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.found import Found
from mixtura.joint import Joint, RowwiseJoint
from mixtura.parts import Part, state
from mixtura.quadratics import Quadratics
from mixtura.table import Table

if TYPE_CHECKING:
    from mixtura.interop.graph import Graph

__all__ = ["Gate", "log_normalized", "state"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gate(Part, ABC):
    """Log-weights of a mixture's K components for rows of covariates x.

    A gate is immutable: :meth:`start` and :meth:`maximize` return a new one. The user sets its parameters; its state is
    what a fit learns, and is None before.

    Attributes
    ----------
    name : str
        The name that ``MixtureOfExperts(gate=...)`` takes.
    looks_at_rows : bool
        Whether log-weights differ from row to row, (n, K), or are the same for all rows, (K,).
    needs_responsibilities : bool
        Whether :meth:`maximize` needs all responsibilities (N, K), because moments do not suffice.
    moments_suffice : bool
        Whether :meth:`maximize` looks at nothing but ``found.moments``, so that moments of other rows will do.
    tol : float
        Default tolerance: a fit has converged when the objective per unit of weight changes by less.
    """

    tol: ClassVar[float] = 1e-9
    looks_at_rows: ClassVar[bool] = False
    needs_responsibilities: ClassVar[bool] = False
    moments_suffice: ClassVar[bool] = True

    @abstractmethod
    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """A gate that prefers no component, for the covariates ``table.x`` (N, D).

        Raises
        ------
        ValueError
            A parameter does not fit K components or D columns.
        ImportError
            A package that the gate needs is not installed; the message says what to install.
        """

    def resume(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """Prepare a fitted gate for another fit, on the same table or another one."""
        return self.start(components, table, rng).restored(self.saved)

    @abstractmethod
    def log_weights(self, block: Table) -> Float:
        """What the E-step adds to log-densities: (K,) or, if the gate looks at rows, (n, K) for a block of rows.

        This is the expectation of log pi. A term that depends on the row but not on the component may be added, if
        ``bound`` subtracts its sum over the rows.
        """

    def joint(self, quadratics: Quadratics, hard: bool = False) -> Joint:
        """The joint log-densities for the E-step, given the components' densities of the rows z = [x; y].

        By default the log-weights are added to the densities. A gate whose log-weights are quadratics of x includes
        them in the densities instead, so that no array of N x K is written and read.
        """
        if self.looks_at_rows:
            return RowwiseJoint(quadratics, np.zeros(quadratics.components), hard, self.log_weights)
        return Joint(quadratics, self.log_weights(None), hard)  # type: ignore[arg-type]

    @property
    def bound(self) -> float:
        """The gate's own terms of the objective: divergences of its posterior from its prior, penalties."""
        return 0.0

    @abstractmethod
    def maximize(self, found: Found) -> Self:
        """The M-step: a gate whose objective, given the responsibilities, is not less than before.

        It can use ``found.of_covariates``, the moments of x weighted with the responsibilities (of kind 'full' with
        linear experts); ``found.table.x``; and, if :attr:`needs_responsibilities`, ``found.resp`` (N, K).
        """

    @property
    def coordinates(self) -> Float:
        """The gate's state as one vector, of which every value stands for a valid gate.

        Raises
        ------
        NotImplementedError
            The gate has no such vector.
        """
        raise NotImplementedError(f"the {self.name} gate cannot be accelerated")

    @property
    def scales(self) -> Float:
        """Sizes of a large step of each coordinate."""
        return np.ones_like(self.coordinates)

    def at(self, coordinates: Float, table: Table) -> Self:
        """The gate with another state, given as :attr:`coordinates`, for an E-step on a table."""
        raise NotImplementedError(f"the {self.name} gate cannot be accelerated")

    @property
    def log_odds(self) -> Float:
        """The gate as log-odds against the last component, linear in x: (K - 1, 1), or rows of [intercept, slopes].

        Raises
        ------
        ValueError
            The gate has no such form, or a weight is 0.
        """
        raise ValueError(
            f"derivatives are for mixtures with a constant or a softmax gate, not for the {self.name} gate"
        )

    @property
    def likelihood_alone(self) -> bool:
        """Whether the M-step maximises the likelihood and nothing beside it: no prior or fixed value acts."""
        return False

    @property
    def penalty(self) -> tuple[float, Float, Float]:
        """What the objective has beside the log-likelihood, with gradient and Hessian by the log-odds, row by row."""
        size = self.log_odds.size
        return 0.0, np.zeros(size), np.zeros((size, size))

    def with_log_odds(self, log_odds: Float) -> Self:
        """The gate with other log-odds."""
        raise ValueError(f"the {self.name} gate is not given by log-odds")

    @abstractmethod
    def log_probabilities(self, block: Table) -> Float:
        """Normalised log-probabilities of the components for new rows, (K,) or (n, K)."""

    def symbolic(self, graph: Graph, rows: str) -> str:
        """:meth:`log_probabilities` as steps of a graph, of which ``rows`` (N, D) is a result: the name of (N, K).

        Raises
        ------
        ValueError
            The gate has no such steps.
        """
        raise ValueError(f"the {self.name} gate has no ONNX graph")

    def _symbolic_constant(self, graph: Graph, rows: str) -> str:
        """:meth:`symbolic` of a gate whose log-probabilities are the same for all rows."""
        shares = self.log_probabilities(None)  # type: ignore[arg-type]
        nothing = graph.sums(graph.step("Mul", rows, graph.array(0.0)), 1)
        return graph.step("Add", graph.step("Unsqueeze", nothing, graph.array([1])), graph.array(shares))

    @abstractmethod
    def n_parameters(self, components: int, dims: int) -> int:
        """Number of free parameters, for information criteria."""


def log_normalized(joint: Float) -> Float:
    """Log-weights (n, K) minus the log of their sum."""
    top = joint.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        return np.asarray(joint - top - np.log(np.exp(joint - top).sum(axis=1, keepdims=True)))
