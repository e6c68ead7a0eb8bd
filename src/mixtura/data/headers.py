"""Whether the first line of a text file holds the names of its columns, or already a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

# What a cell without a value may say, beside nothing.
MISSING = {"", "na", "n/a", "#n/a", "null", "none", "nan", "-nan"}

# Names that programs give to the column of row names: pandas (in Parquet, and after reading its own CSV), R.
ROW_NAMES = re.compile(r"|unnamed: 0|__index_level_\d+__|rownames?|row\.names?|row_names?", re.IGNORECASE)


def is_row_names(name: str) -> bool:
    """Whether a column's name is one that programs give to row names, or is missing."""
    return ROW_NAMES.fullmatch(name.strip()) is not None


class _Cells:
    """What cells of text are, for a decimal point or comma."""

    def __init__(self, decimal: str) -> None:
        point = re.escape(decimal)
        self._number = re.compile(
            rf"[+-]?(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE | re.ASCII
        )
        self._fraction = re.compile(rf"[+-]?\d*{point}\d*[1-9]\d*", re.ASCII)

    def is_number(self, cell: str) -> bool:
        return self._number.fullmatch(cell.strip()) is not None

    def is_fraction(self, cell: str) -> bool:
        return self._fraction.fullmatch(cell.strip()) is not None


def is_missing(cell: str) -> bool:
    """Whether a cell has no value."""
    return cell.strip().lower() in MISSING


def guess(
    first: Sequence[str], below: Sequence[Sequence[str]], wanted: Sequence[str], decimal: str = "."
) -> tuple[bool, str | None]:
    """Whether the first line holds names, and, where that is a guess, what was decided and why, in a few words.

    Text above numbers is a name. A line of numbers is taken for names where it counts 0, 1, 2, ... as pandas does,
    runs through years, or has whole numbers above fractions.

    Parameters
    ----------
    first : sequence of str
        Cells of the first line.
    below : sequence of sequences of str
        Cells of some lines below.
    wanted : sequence of str
        Columns that will be asked for by name.
    decimal : str, default='.'

    Examples
    --------
    >>> from mixtura.data.headers import guess
    >>> guess(["a", "2019"], [["1", "0.5"]], [])
    (True, None)
    >>> guess(["0.5", "2"], [["1.5", "7"]], [])
    (False, None)
    >>> guess(["0", "1", "2"], [["3", "1", "4"]], [])
    (True, 'its first line counts 0, 1, 2, ...')
    """
    cells = _Cells(decimal)
    names = [cell.strip() for cell in first]
    if wanted and set(wanted) <= set(names):
        return True, None
    text = [j for j, c in enumerate(names) if not is_missing(c) and not cells.is_number(c)]
    columns = [[row[j] for row in below if j < len(row)] for j in range(len(names))]
    if text:
        # Names stand above numbers; text above text is either.
        if any(_numeric(columns[j], cells) for j in text):
            return True, None
        plain = [j for j, c in enumerate(names) if cells.is_number(c) and _numeric(columns[j], cells)]
        if plain and not _counts(names, columns, cells):
            return False, "its first line has numbers where the lines below have them"
        return True, None
    if not any(map(cells.is_number, names)):
        return True, None  # nothing but words for missing values: names, if anything
    if not below or (wanted and all(re.fullmatch(r"x\d+", name) for name in wanted)):
        return False, None
    why = _counts(names, columns, cells)
    if why:
        return True, why
    whole = all(re.fullmatch(r"\d+", c, re.ASCII) for c in names) and len(set(names)) == len(names) > 1
    return False, "its first line has numbers as the lines below" if whole else None


def _numeric(column: Sequence[str], cells: _Cells) -> bool:
    """Whether the cells are numbers, but for missing ones."""
    there = [c for c in column if not is_missing(c)]
    return bool(there) and all(map(cells.is_number, there))


def _counts(names: Sequence[str], columns: Sequence[Sequence[str]], cells: _Cells) -> str | None:
    """Why a line of numbers looks like names; None if it does not."""
    at = (
        1 if names and not names[0] and any(not is_missing(c) for c in columns[0]) else 0
    )  # over row names: no name
    names, columns = names[at:], columns[at:]
    if not names or not all(re.fullmatch(r"\d+", c, re.ASCII) for c in names) or len(set(names)) < len(names):
        return None
    values = [int(c) for c in names]
    steps = {b - a for a, b in pairwise(values)}
    if len(values) > 1 and len(steps) == 1 and min(steps) > 0:
        rows = list(zip(*columns, strict=False))
        again = bool(rows) and _steady(rows[0])
        # Of two columns of zeros and ones, 0, 1 is as good a row as any.
        common = len(values) == 2 and all(n in c for n, c in zip(names, columns, strict=True))
        least = {0: 2, 1: 3}.get(values[0])  # pandas counts from 0: two of these are enough
        if steps == {1} and least is not None and len(values) >= least and not again and not common:
            return f"its first line counts {values[0]}, {values[0] + 1}, {values[0] + 2}, ..."
        if min(values) >= 1000 and max(values) < 3000 and not again:
            return f"its first line runs through the years {values[0]} to {values[-1]}"
    fractions = [sum(map(cells.is_fraction, c)) >= max(1, len(c) / 2) for c in columns]
    if all(fractions) and (len(names) > 1 or names[0] == "0"):
        return "its first line has whole numbers above fractions"
    return None


def _steady(row: Sequence[str]) -> bool:
    """Whether a line of whole numbers goes up in equal steps."""
    if not all(re.fullmatch(r"\d+", c.strip(), re.ASCII) for c in row):
        return False
    values = [int(c) for c in row]
    steps = {b - a for a, b in pairwise(values)}
    return len(steps) == 1 and min(steps) > 0
