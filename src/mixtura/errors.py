"""Errors of fits."""

from __future__ import annotations


class SingularError(ValueError):
    """The parameters have become singular: the likelihood has no maximum nearby."""


class InformationError(ValueError):
    """The log-likelihood does not say how sure a model's parameters are."""


class NotFiniteError(ValueError):
    """The sums over the rows overflowed."""

    def __init__(self, name: str = "X") -> None:
        super().__init__(
            f"the sums over the rows are not finite: some values of {name} are too large for their squares to be "
            "represented in float64. Scale the input data, or remove the rows that are far from all others."
        )
