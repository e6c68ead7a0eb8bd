"""Fitted models as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def summary(
    title: str,
    facts: Mapping[str, str],
    columns: Sequence[str],
    per_component: Mapping[str, NDArray[np.floating]],
    per_column: Mapping[str, NDArray[np.floating]],
    most: int = 20,
) -> str:
    """Format a model as text: a title, facts, and a table with one line per component.

    Parameters
    ----------
    title : str
    facts : mapping of str to str
    columns : sequence of str, length D
        Names of the columns of X.
    per_component : mapping of str to ndarray of shape (K,)
    per_column : mapping of str to ndarray of shape (K, D)
    most : int, default=20
        Largest number of components, and of columns, that are shown.
    """
    lines = [title, "=" * len(title)]
    width = max(len(name) for name in facts)
    lines += [f"{name:<{width}}  {value}" for name, value in facts.items()]
    K = len(next(iter(per_column.values())))
    shown = range(min(len(columns), most // max(len(per_column), 1)))
    head = ["", *per_component, *(f"{what} {columns[j]}" for j in shown for what in per_column)]
    table = [head]
    for k in range(min(K, most)):
        table.append(
            [
                str(k),
                *(f"{values[k]:.4g}" for values in per_component.values()),
                *(f"{values[k, j]:.5g}" for j in shown for values in per_column.values()),
            ]
        )
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines.append("")
    lines += ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in table]
    if most < K:
        lines.append(f"... and {K - most} more components")
    if len(columns) > len(shown):
        lines.append(f"... and {len(columns) - len(shown)} more columns")
    return "\n".join(lines)
