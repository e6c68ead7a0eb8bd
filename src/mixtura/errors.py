"""Errors of fits."""

from __future__ import annotations


class SingularError(ValueError):
    """The parameters have become singular: the likelihood has no maximum nearby."""


class NotFiniteError(ValueError):
    """The sums over the rows overflowed."""

    def __init__(self) -> None:
        super().__init__(
            "the sums over the rows are not finite: some values of X are too large for their squares to be "
            "represented in float64. Scale the input data, or remove the rows that are far from all others."
        )
