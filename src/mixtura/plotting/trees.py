"""Pictures of trees: of rows that join into groups, and of components that join into clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mixtura.plotting.figures import axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mixtura.hierarchical import Tree
    from mixtura.merging import Merged


class TreeDisplay:
    """A dendrogram. Use :meth:`from_tree` or :meth:`from_merged` to make one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    """

    def __init__(self, figure: Figure, ax: Axes) -> None:
        self.figure_, self.ax_ = figure, ax

    @classmethod
    def from_tree(cls, tree: Tree, *, most: int = 30, ax: Any = None) -> TreeDisplay:
        """Draw the last merges of a tree of rows; the height of a merge is the number of groups that it leaves.

        Parameters
        ----------
        tree : Tree
            From :func:`mixtura.hierarchical.tree`.
        most : int, default=30
            The groups from which the picture starts; each is labelled with its number of rows.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            ``most`` is no whole number of at least 2.
        """
        from scipy.cluster.hierarchy import dendrogram

        if isinstance(most, bool) or not isinstance(most, int | np.integer) or most < 2:
            raise ValueError(f"most must be a whole number of at least 2 groups, got {most!r}")
        ax = axes_for(ax)
        N, most = tree.rows, min(int(most), tree.rows)
        linkage = tree.linkage()
        linkage[:, 2] = np.maximum(linkage[:, 2] - (N - most), 0.0)  # the first merges lie on the axis
        dendrogram(
            linkage, p=most, truncate_mode="lastp", ax=ax, color_threshold=0.0, above_threshold_color="0.3"
        )
        left = np.unique(np.round(np.geomspace(1, most, 8)).astype(int))
        ax.set_yticks(most - left, left)
        ax.set(xlabel="rows of a group, or the number of a row (in brackets: rows)", ylabel="groups left")
        ax.set(title=f"{N:,} rows in {most} groups and fewer")
        if most > 12:
            ax.tick_params(axis="x", labelrotation=90)
        return cls(ax.figure, ax)

    @classmethod
    def from_merged(cls, merged: Merged, *, ax: Any = None) -> TreeDisplay:
        """Draw how components join; the height of a merge is the number of clusters that it leaves.

        Parameters
        ----------
        merged : Merged
            From :func:`mixtura.merge_components`. A dashed line cuts the tree into its ``n_clusters``.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            There is one component only, which makes no tree.
        """
        from scipy.cluster.hierarchy import dendrogram

        K = len(merged.entropy)
        if K < 2:
            raise ValueError("a mixture of one component makes no tree")
        ax = axes_for(ax)
        dendrogram(merged.linkage(), ax=ax, color_threshold=0.0, above_threshold_color="0.3")
        ax.axhline(K - merged.n_clusters + 0.5, ls="--", color="C1")
        entropy = merged.entropy[::-1]
        ax.set_yticks(np.arange(K), [f"{K - t}: {entropy[t]:.3g}" for t in range(K)])
        ax.set(xlabel="component", ylabel="clusters left: entropy of their labels (nats)")
        ax.set(title=f"{K} components in {merged.n_clusters} clusters")
        return cls(ax.figure, ax)
