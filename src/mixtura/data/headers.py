"""Decides whether the first line of a text file holds column names or the first row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

# Texts of cells without a value, in lower case.
MISSING = {
    *("", "na", "n/a", "<na>", "#na", "#n/a", "null", "none", "nan", "-nan", "nil", "missing"),
    *(".", "?", "-", "--", "#div/0!", "#value!", "#ref!", "#num!", "#null!"),
}

# Names that pandas (in Parquet, and after reading its own CSV) and R give to columns of row names.
ROW_NAMES = re.compile(
    r"|unnamed: \d+(\.\d+)?|__index_level_\d+__|rownames?|row\.names?|row_names?", re.IGNORECASE
)


def is_row_names(name: str) -> bool:
    """Whether a column's name is missing, or is one that pandas or R give to row names."""
    return ROW_NAMES.fullmatch(name.strip()) is not None


class _Cells:
    """Recognises numbers in cells of text, with a given decimal point."""

    def __init__(self, decimal: str) -> None:
        point = re.escape(decimal)
        self._number = re.compile(
            rf"[+-]?(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE | re.ASCII
        )

    def is_number(self, cell: str) -> bool:
        return self._number.fullmatch(cell.strip()) is not None


def is_missing(cell: str) -> bool:
    """Whether a cell has no value."""
    return cell.strip().lower() in MISSING


def guess(
    first: Sequence[str], below: Sequence[Sequence[str]], wanted: Sequence[str], decimal: str = "."
) -> tuple[bool, str | None]:
    """Whether the first line holds names and, if that is a guess, the reason in a few words.

    Text above numbers is a name. A line of numbers is taken for names if it counts 0, 1, 2, ... as pandas does, runs
    through years, or has whole numbers above fractions.

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
    if any(_numeric(columns[j], cells) for j in text):
        return True, None  # names stand above numbers
    if not any(map(cells.is_number, names)):
        return True, None  # text above text, or only words for missing values: more likely names than a row
    if not below:
        return bool(text), None
    # Cells above row names or text do not help: the decision depends on numbers above numbers.
    above = [j for j in range(len(names)) if j not in text and (names[j] or not _full(columns[j]))]
    why = _counts([names[j] for j in above], [columns[j] for j in above])
    if not names[0] and _full(columns[0]) and (why or _whole([names[j] for j in above])):
        return True, why or "its first line has no name above the first column, which has no empty cell"
    if why:
        return True, why
    plain = any(cells.is_number(names[j]) and _numeric(columns[j], cells) for j in above)
    if text and not plain:
        return True, None
    if text or (len(names) > 1 and _whole(names)):
        return False, "its first line has numbers where the lines below have them"
    return False, None


def _full(column: Sequence[str]) -> bool:
    """Whether no cell of a column is empty."""
    return bool(column) and all(cell.strip() for cell in column)


def _numeric(column: Sequence[str], cells: _Cells) -> bool:
    """Whether all cells that are not missing are numbers, and there are any."""
    present = [c for c in column if not is_missing(c)]
    return bool(present) and all(map(cells.is_number, present))


def _numbers(names: Sequence[str]) -> list[int]:
    """Cells as whole numbers; an empty list if a cell is not a whole number, or if two are equal."""
    if not all(re.fullmatch(r"\d+([.,]0*)?", c.strip(), re.ASCII) for c in names):
        return []
    values = [int(re.split("[.,]", c.strip())[0]) for c in names]
    return values if len(set(values)) == len(values) else []


def _whole(names: Sequence[str]) -> bool:
    return bool(_numbers(names))


def _monotone(values: Sequence[int]) -> bool:
    return len(values) > 1 and (
        all(a < b for a, b in pairwise(values)) or all(a > b for a, b in pairwise(values))
    )


def _dates(values: Sequence[int]) -> bool:
    """Whether numbers are years, or years and months."""
    years = all(1000 <= v < 3000 for v in values)
    return years or all(1000 <= v // 100 < 3000 and 1 <= v % 100 <= 12 for v in values)


def _counts(names: Sequence[str], columns: Sequence[Sequence[str]]) -> str | None:
    """Why a line of numbers above numbers looks like names; None if it does not."""
    values = _numbers(names)
    if not values:
        return None
    rows = [_numbers(row) for row in zip(*columns, strict=False)]
    if len(values) == 1:
        above_fractions = all("." in c or "," in c for c in columns[0] if not is_missing(c))
        if values == [0] and names[0] not in columns[0]:
            return "its first line is 0"
        return "its first line is a year above fractions" if above_fractions and _dates(values) else None
    # If the next line counts on with the same step, the lines are a grid of numbers. With two columns of zeros and
    # ones, 0, 1 may be a row like any other.
    steps = {b - a for a, b in pairwise(values)}
    continues = bool(rows) and steps == {b - a for a, b in pairwise(rows[0])}
    common = len(values) == 2 and all(n in c for n, c in zip(names, columns, strict=True))
    least = {0: 2, 1: 3}.get(values[0])  # pandas counts from 0, so two columns are enough there
    if steps == {1} and least is not None and len(values) >= least and not continues and not common:
        return f"its first line counts {values[0]}, {values[0] + 1}, {values[0] + 2}, ..."
    if _dates(values) and _monotone(values) and not any(row and _dates(row) for row in rows):
        return f"its first line runs through the years {names[0]} to {names[-1]}"
    fractions = all(sum(map(_is_fraction, column)) >= max(1, len(column) / 2) for column in columns)
    return "its first line has whole numbers above fractions" if fractions else None


def _is_fraction(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d*[.,]\d*[1-9]\d*", cell.strip(), re.ASCII) is not None
