"""Model-based agglomeration: from single rows, those two groups join whose union costs least likelihood.

Each group of n rows with scatter W counts as a Gaussian of its own. Its cost is

    n log(|W / n| + (tr W + a) / n)    if n > D,    n log((tr W + a) / n)    otherwise,

with a = tr W_all / (N D), so that single rows have a cost too (the criterion VVV); or tr W (the criterion EII, which is
Ward's). One tree serves every number of groups.

References
----------
Fraley (1998), Algorithms for model-based Gaussian hierarchical clustering. Fraley, Raftery (2002), Model-based
clustering, discriminant analysis, and density estimation. Scrucca, Raftery (2015), Improved initialisation of
model-based clustering using Gaussian hierarchical partitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from mixtura.array_kinds import to_host, unmasked

Float = NDArray[np.float64]

# Most rows of a tree: it holds half the square of their number, and takes 1 to 20 s for 2000 rows.
MOST_ROWS = 2000


@dataclass(frozen=True)
class Tree:
    """Merges of N rows, from single rows to one group.

    Parameters
    ----------
    merges : ndarray of int of shape (N - 1, 2)
        Slots i < j of the two groups that join. The union takes slot i, and the last slot's group moves to slot j.
    """

    merges: NDArray[np.intp]

    @property
    def rows(self) -> int:
        """N."""
        return len(self.merges) + 1

    def labels(self, groups: int) -> NDArray[np.intp]:
        """The group of each row when so many are left, from 0, (N,), numbered as they appear."""
        if not isinstance(groups, int | np.integer) or not 1 <= groups <= self.rows:
            raise ValueError(f"a tree of {self.rows} rows has no cut into {groups} groups")
        members: list[list[int]] = [[i] for i in range(self.rows)]
        for i, j in self.merges[: self.rows - groups]:
            members[i] += members[j]
            last = members.pop()
            if j < len(members):
                members[j] = last
        labels = np.empty(self.rows, dtype=np.intp)
        for number, rows in enumerate(sorted(members, key=min)):
            labels[rows] = number
        return labels

    def linkage(self) -> Float:
        """The merges as :func:`scipy.cluster.hierarchy.dendrogram` takes them, (N - 1, 4); merge t has height t + 1."""
        N = self.rows
        slots, sizes = list(range(N)), [1] * N
        table = np.empty((N - 1, 4))
        for t, (i, j) in enumerate(self.merges):
            sizes[i] += sizes[j]
            table[t] = *sorted((slots[i], slots[j])), t + 1, sizes[i]
            slots[i] = N + t
            last, size = slots.pop(), sizes.pop()
            if j < len(slots):
                slots[j], sizes[j] = last, size
        return table

    def plot(self, most: int = 30, ax: Any = None) -> Any:
        """Draw the last merges as a dendrogram.

        Parameters
        ----------
        most : int, default=30
            The groups from which the picture starts.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        mixtura.plotting.TreeDisplay
        """
        from mixtura.plotting import TreeDisplay

        return TreeDisplay.from_tree(self, most=most, ax=ax)


def scaled(X: Float, scaling: str) -> Float:
    """Rows in the units in which a tree is made.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    scaling : {'svd', 'std', 'none'}
        'svd': standard units, then along the principal axes, each divided by the fourth root of its variance times N,
        which is half-way to white. 'std': standard units. 'none': as they are.

    Raises
    ------
    ValueError
        X is no table of finite numbers, or the scaling is unknown.
    """
    if scaling not in ("svd", "std", "none"):
        raise ValueError(f"scaling must be 'svd', 'std' or 'none', got {scaling!r}")
    X = check_array(unmasked(to_host(X), "X"), dtype=np.float64)
    if scaling == "none":
        return X
    deviations = X.std(axis=0, ddof=1) if len(X) > 1 else np.ones(X.shape[1])
    Z = (X - X.mean(axis=0)) / np.where(deviations > 0.0, deviations, 1.0)
    if scaling == "std":
        return np.asarray(Z)
    _, values, axes = np.linalg.svd(Z, full_matrices=False)
    kept = values > values[0] * 1e-10
    if not kept.any():  # all rows are equal
        return np.zeros((len(X), 1))
    return np.asarray(Z @ axes[kept].T / np.sqrt(values[kept]))


def tree(X: Float, criterion: str = "VVV") -> Tree:
    """The tree of rows, which are in the units that matter (:func:`scaled`).

    Of equal costs the last one counts, in the order of the pairs' second slot, then of their first: trees of rows that
    stand several times in the table are then those of mclust. Cost: N^2 D^3 operations, and N^2 numbers.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    criterion : {'VVV', 'EII'}

    Raises
    ------
    ValueError
        X is no table of finite numbers, or the criterion is unknown.
    """
    if criterion not in ("VVV", "EII"):
        raise ValueError(f"criterion must be 'VVV' or 'EII', got {criterion!r}")
    rows = check_array(unmasked(to_host(X), "X"), dtype=np.float64)
    N, D = rows.shape
    centered = rows - rows.mean(axis=0)
    least = max(float(np.sum(centered**2)) / max(N * D, 1), float(np.finfo(np.float64).tiny))
    gaussian = criterion == "VVV"
    counts, means, traces = np.ones(N), centered.copy(), np.zeros(N)
    scatters = np.zeros((N, D, D)) if gaussian else np.zeros((N, 0, 0))
    costs = np.log(np.full(N, least)) if gaussian else np.zeros(N)

    def scatter_of(i: int, others: NDArray[np.intp], share: Float, away: Float) -> Float:
        """Scatters of the unions of group i with others, (n, D, D)."""
        between = share[:, None, None] * away[:, :, None] * away[:, None, :]
        return np.asarray(scatters[i] + scatters[others] + between)

    def joined(i: int, others: NDArray[np.intp]) -> tuple[Float, Float, Float, Float, Float]:
        """Counts of the unions of group i with others, shares, ways between the means, traces and costs."""
        n = counts[i] + counts[others]
        away = means[others] - means[i]
        share = counts[i] * counts[others] / n
        trace = traces[i] + traces[others] + share * np.sum(away**2, axis=1)
        if not gaussian:
            return n, share, away, trace, trace
        volume, many = np.zeros(len(n)), n > D  # fewer rows have no volume
        if many.any():
            scatter = scatter_of(i, others[many], share[many], away[many])
            volume[many] = np.maximum(np.linalg.det(scatter / n[many, None, None]), 0.0)
        with np.errstate(divide="ignore"):
            return n, share, away, trace, n * np.log(volume + (trace + least) / n)

    # increases[i, j] for i < j; the least of each column j, and the last i that has it.
    increases = np.full((N, N), np.inf, order="F")
    lowest, where = np.full(N, np.inf), np.zeros(N, dtype=np.intp)

    def look_at_column(j: int) -> None:
        column = increases[:j, j]
        if len(column):
            where[j] = len(column) - 1 - int(np.argmin(column[::-1]))
            lowest[j] = column[where[j]]

    plain = not gaussian or D >= 2  # two rows have no volume
    for j in range(1, N):
        if plain:
            square = 0.5 * np.sum((centered[:j] - centered[j]) ** 2, axis=1)
            both = 2.0 * np.log((square + least) / 2.0) if gaussian else square
        else:
            both = joined(j, np.arange(j))[-1]
        increases[:j, j] = both - costs[j] - costs[:j]
        look_at_column(j)
    merges = np.empty((max(N - 1, 0), 2), dtype=np.intp)
    for step in range(N - 1):
        size = N - step
        j = size - 1 - int(np.argmin(lowest[1:size][::-1]))
        i = int(where[j])
        merges[step] = i, j
        other = np.array([j])
        n, share, away, trace, both = joined(i, other)
        if gaussian:
            scatters[i] = scatter_of(i, other, share, away)[0]
        means[i] += away[0] * (counts[j] / n[0])
        counts[i], traces[i], costs[i] = n[0], trace[0], both[0]
        last = size - 1
        if j != last:  # the last group moves to slot j
            for held in (counts, means, scatters, traces, costs):
                held[j] = held[last]
            increases[:j, j] = increases[:j, last]
            increases[j, j + 1 : last] = increases[j + 1 : last, last]
        others = np.delete(np.arange(last), i)
        if not len(others):
            break
        increase = joined(i, others)[-1] - costs[i] - costs[others]
        below, above = others < i, others > i
        increases[others[below], i] = increase[below]
        increases[i, others[above]] = increase[above]
        look_at_column(i)
        stale = (where[:last] == i) | (where[:last] == j) | (where[:last] == last)
        for q in np.flatnonzero(stale[1:]) + 1:
            look_at_column(int(q))
        if j < last:
            look_at_column(j)
        # Of equal increases in a column, the last row counts.
        for row in (i, j):
            right = np.arange(row + 1, last)
            better = (increases[row, right] < lowest[right]) | (
                (increases[row, right] == lowest[right]) & (row > where[right])
            )
            lowest[right[better]], where[right[better]] = increases[row, right[better]], row
    return Tree(merges)
