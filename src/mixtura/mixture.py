"""The mixture: a gate times components, and its E- and M-steps on a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from mixtura.components.base import Components
from mixtura.found import Found
from mixtura.gates.base import Gate
from mixtura.joint import Joint
from mixtura.parametric import ParametricMixture
from mixtura.parts import ROUNDING, unchanged
from mixtura.table import Responsibilities, Table

Float = NDArray[np.float64]
G = TypeVar("G", bound=Gate)
C = TypeVar("C", bound=Components)


@dataclass(frozen=True)
class Mixture(Generic[G, C]):
    """``p(z) = sum_k pi_k(x) p_k(z)``, or ``p(y | x)`` where rows are z = [x; y].

    Parameters
    ----------
    gate : Gate
        The mixing weights pi.
    components : Components
        The densities p.
    hard : bool, default=False
        Assign each row wholly to its most likely component. With centres as components this is k-means.
    """

    gate: G
    components: C
    hard: bool = False

    @property
    def bound(self) -> float:
        """The terms of the objective that are not sums over rows: priors, divergences from them, penalties."""
        return self.gate.bound + self.components.bound

    @property
    def likelihood_alone(self) -> bool:
        """Whether the M-step maximises the likelihood and nothing beside it."""
        return self.gate.bound == 0.0 and self.gate.likelihood_alone and self.components.likelihood_alone

    @property
    def joint(self) -> Joint:
        """The joint log-densities that a pass over the rows evaluates."""
        return self.gate.joint(self.components.quadratics, self.hard)

    def expect(self, table: Table, rng: np.random.RandomState | None = None) -> Found:
        """The E-step: moments and objective under these parameters.

        Parameters
        ----------
        table : Table
        rng : RandomState, optional
            Assign each row to one component drawn from its responsibilities (stochastic EM). A gate that needs all
            responsibilities gets them, not the draw: a flexible gate would overfit the draw.
        """
        components, joint = self.components, self.joint
        if rng is None and not self.gate.needs_responsibilities:
            moments = table.expect(joint, components.kind, components.floor)
            return Found(table, moments, moments.log_likelihood + self.bound, joint)
        resp, log_likelihood = table.responsibilities(joint)
        given = resp if rng is None else _drawn(resp, rng)
        moments = table.accumulate(lambda block: given[block.cut], joint.components, components.kind)
        kept = resp if self.gate.needs_responsibilities else None
        return Found(table, moments, log_likelihood + self.bound, joint, kept, given)

    def maximize(self, found: Found) -> Self:
        """The M-step: new gate and components from the result of the E-step.

        It is this mixture itself if nothing but rounding has changed. Then EM has come to rest.
        """
        gate, components = self.gate.maximize(found), self.components.maximize(found)
        at_rest = not self.gate.looks_at_rows and unchanged(self.gate, gate, ROUNDING)
        if at_rest and self.components.stays(components):
            return self
        return replace(self, gate=gate, components=components)

    def parametric(self) -> ParametricMixture:
        """The mixture as a function of one vector of parameters.

        Raises
        ------
        ValueError
            Gate or components have no such form; the message says which.
        """
        return self.components.parametric(self.gate.log_odds)

    def with_parametric(self, mixture: ParametricMixture) -> Self:
        """The mixture with the parameters of a mixture that :meth:`parametric` gave the form of."""
        gate = self.gate.with_log_odds(mixture.log_odds)
        return replace(self, gate=gate, components=self.components.with_parametric(mixture))

    @property
    def coordinates(self) -> Float:
        """The parameters as one vector: the gate's, then the components'."""
        return np.concatenate([self.gate.coordinates, self.components.coordinates])

    @property
    def scales(self) -> Float:
        """Sizes of a large step of each coordinate."""
        return np.concatenate([self.gate.scales, self.components.scales])

    def at(self, coordinates: Float, table: Table) -> Self:
        """The mixture with other parameters, given as :attr:`coordinates`, for an E-step on a table."""
        of_gate = len(self.gate.coordinates)
        gate = self.gate.at(coordinates[:of_gate], table)
        return replace(self, gate=gate, components=self.components.at(coordinates[of_gate:]))

    def begun(self, table: Table, resp: Responsibilities, components: int) -> Found:
        """The statistics under first responsibilities, from which EM starts when there are no parameters yet."""
        given = None
        if self.gate.needs_responsibilities:
            given = table.gathered(components, resp)
        of_block = resp if given is None else lambda block: given[block.cut]
        return Found(
            table, table.accumulate(of_block, components, self.components.kind), resp=given, given=given
        )


def _drawn(resp: Float, rng: np.random.RandomState) -> Float:
    """Draw one component for each row, with probabilities resp (n, K), as zeros and ones."""
    above = rng.uniform(size=len(resp))[:, None] < np.cumsum(resp, axis=1)
    above[:, -1] = True
    drawn = np.zeros_like(resp)
    drawn[np.arange(len(resp)), above.argmax(axis=1)] = 1.0
    return drawn
