"""What every gate can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.moments import Moments
from mixtura.table import Table

Float = NDArray[np.float64]


def state(*, saved: bool = True) -> Any:
    """A field that fitting fills: not among the parameters; ``saved`` if a model file keeps it."""
    return field(default=None, kw_only=True, repr=False, metadata={"state": True, "saved": saved})


@dataclass(frozen=True, eq=False)
class Gate(ABC):
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

    name: ClassVar[str]
    tol: ClassVar[float] = 1e-9
    looks_at_rows: ClassVar[bool] = False
    needs_responsibilities: ClassVar[bool] = False

    @abstractmethod
    def start(self, components: int, covariates: Table, rng: np.random.RandomState) -> Self:
        """A gate that prefers no component, for a table of covariates (N, D).

        Raises
        ------
        ValueError
            A parameter that does not fit K components or D columns.
        ImportError
            A package that the gate needs is absent; says what to install.
        """

    def resume(self, components: int, covariates: Table, rng: np.random.RandomState) -> Self:
        """A gate that was fitted before, on a table of covariates that need not be the same."""
        return self.start(components, covariates, rng).restored(self.saved)

    @abstractmethod
    def log_weights(self, covariates: Table, cut: slice) -> Float:
        """What the E-step adds to log-densities, (K,) or (n, K) for the rows of the cut.

        The expectation of log pi, plus what may depend on the row but not on the component; ``bound`` takes
        that back.
        """

    @property
    def bound(self) -> float:
        """The gate's own terms of the objective: divergences of what it believes from its prior, penalties."""
        return 0.0

    @abstractmethod
    def maximize(self, covariates: Table, moments: Moments, resp: Float | None) -> Self:
        """The M-step: a gate whose objective, given the responsibilities, is not less.

        Parameters
        ----------
        covariates : Table
            x (N, D), the rows of the fit.
        moments : Moments
            Of kind 'full', of x, weighted with the responsibilities.
        resp : ndarray of shape (N, K) or None
            The responsibilities, if :attr:`needs_responsibilities`.
        """

    @abstractmethod
    def log_probabilities(self, covariates: Table, cut: slice) -> Float:
        """Log of the probability of each component for new rows, (K,) or (n, K), normalised."""

    @abstractmethod
    def n_parameters(self, components: int, dims: int) -> int:
        """Free parameters, for information criteria."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What the constructor was given."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("state")}

    @property
    def saved(self) -> dict[str, Any]:
        """The part of the state that predictions need, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("saved")}

    def restored(self, saved: Mapping[str, Any]) -> Self:
        """A gate with the state that :attr:`saved` gave."""
        unknown = set(saved) - set(self.saved)
        if unknown:
            raise ValueError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        return replace(self, **saved)

    def without_rows(self) -> Self:
        """A gate without what it keeps of the fit alone: rows, optimisers."""
        return replace(self, **{f.name: None for f in fields(self) if f.metadata.get("saved") is False})


def log_normalized(joint: Float) -> Float:
    """Log-weights (n, K) minus the log of their sum."""
    top = joint.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        return np.asarray(joint - top - np.log(np.exp(joint - top).sum(axis=1, keepdims=True)))
