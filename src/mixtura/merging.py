"""Components into clusters: those join that are hardest to tell apart.

References
----------
Baudry, Raftery, Celeux, Lo, Gottardo (2010), Combining mixture components for clustering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

# Two clusters are apart if to join them lowers the entropy by this share, or less, of what even chances for twice the
# rows of the smaller one would be.
_SEPARATED = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class Merged:
    """A mixture's components, joined step by step until one cluster is left.

    Attributes
    ----------
    steps : list of tuple of int
        Which two clusters join; the union has the first one's number, and those above the second move down by one.
    entropy : ndarray of shape (K,)
        ``-sum_i sum_k r_ik log r_ik`` with 1, 2, ..., K clusters.
    n_clusters : int
        Where the entropy has a kink: two straight lines, one on either side, fit it best. It is not less than what is
        left when the next two to join are apart, their labels hardly ever in doubt; and K if that is 1 or 2.
    """

    steps: list[tuple[int, int]]
    entropy: Float
    n_clusters: int
    _responsibilities: Float
    _noise: Float | None = None

    def __repr__(self) -> str:
        return f"<{len(self.entropy)} components in {self.n_clusters} clusters>"

    def clusters(self, n: int | None = None) -> NDArray[np.intp]:
        """The cluster of each component, (K,).

        Parameters
        ----------
        n : int, default=None
            Number of clusters; None for ``n_clusters``.
        """
        K, n = len(self.entropy), self.n_clusters if n is None else n
        if not isinstance(n, int | np.integer) or not 1 <= n <= K:
            raise ValueError(f"{K} components make 1 to {K} clusters, not {n}")
        cluster = np.arange(K)
        for first, second in self.steps[: K - n]:
            cluster[cluster == second] = first
            cluster[cluster > second] -= 1
        return cluster

    def predict_proba(self, n: int | None = None) -> Float:
        """Probability of each cluster for the rows, (N, n); of a mixture with noise, if they are no noise.

        Parameters
        ----------
        n : int, default=None
            Number of clusters; None for ``n_clusters``.
        """
        cluster = self.clusters(n)
        return np.asarray(self._responsibilities @ (cluster[:, None] == np.arange(cluster.max() + 1)))

    def labels(self, n: int | None = None) -> NDArray[np.intp]:
        """Most likely cluster of each row, (N,); -1 for noise.

        Parameters
        ----------
        n : int, default=None
            Number of clusters; None for ``n_clusters``.
        """
        shares = self.predict_proba(n)
        labels = shares.argmax(axis=1)
        if self._noise is not None:
            labels[self._noise > (1.0 - self._noise) * shares.max(axis=1)] = -1
        return np.asarray(labels)

    def linkage(self) -> Float:
        """The merges as :func:`scipy.cluster.hierarchy.dendrogram` takes them, (K - 1, 4); merge t has height t + 1."""
        K = len(self.entropy)
        names, sizes = list(range(K)), [1] * K
        table = np.empty((K - 1, 4))
        for t, (first, second) in enumerate(self.steps):
            sizes[first] += sizes.pop(second)
            table[t] = *sorted((names[first], names.pop(second))), t + 1, sizes[first]
            names[first] = K + t
        return table

    def plot(self, ax: Any = None) -> Any:
        """Draw the merges as a dendrogram, cut into ``n_clusters``.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        mixtura.plotting.TreeDisplay
        """
        from mixtura.plotting import TreeDisplay

        return TreeDisplay.from_merged(self, ax=ax)


def merge_components(model: Any, X: ArrayLike) -> Merged:
    """Join a mixture's components into clusters, those first whose union lowers the entropy of the labels most.

    BIC takes as many Gaussians as a density needs, which is more than there are clusters where these are no Gaussians.

    Parameters
    ----------
    model : GaussianMixture
        Fitted.
    X : array-like of shape (N, D)
        The rows; N × K responsibilities are held.

    Returns
    -------
    Merged

    Examples
    --------
    >>> import numpy as np, mixtura
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(0, np.pi, 600)
    >>> arch = np.column_stack([np.cos(angle), np.sin(angle)]) * 6.0 + 0.5 * rng.normal(size=(600, 2))
    >>> X = np.concatenate([arch, rng.normal(size=(200, 2)) * 0.5 - [0.0, 4.0]])
    >>> gm = mixtura.GaussianMixture(5, random_state=0).fit(X)
    >>> mixtura.merge_components(gm, X).n_clusters
    2
    """
    if not hasattr(model, "predict_proba") or not hasattr(model, "weights_"):
        raise TypeError(
            f"merge_components takes a fitted GaussianMixture, not {model!r}; of a selector, its best_estimator_"
        )
    resp, K = np.asarray(model.predict_proba(X), dtype=np.float64), len(model.weights_)
    noise = resp[:, K] if resp.shape[1] > K else None
    # Noise is no component to be joined: what is left of each row counts as if it were the whole.
    shares = resp[:, :K]
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    now, steps = shares, list[tuple[int, int]]()
    entropies = [_entropy(now).sum()]
    # Merges so far, as long as all of them have joined components that overlap; of these, those of what has no row.
    uncertain = without_rows = 0
    while now.shape[1] > 1:
        own, mass = _entropy(now).sum(axis=0), now.sum(axis=0)
        # What has less than a row is no cluster, and is joined first.
        empty, best, pair = False, -np.inf, (0, 1)
        for i in range(now.shape[1] - 1):
            unions = _entropy(now[:, [i]] + now[:, i + 1 :]).sum(axis=0)
            falls = own[i] + own[i + 1 :] - unions
            few = np.minimum(mass[i], mass[i + 1 :]) < 1.0
            j = int(np.lexsort((falls, few))[-1])
            if (few[j], falls[j]) > (empty, best):
                empty, best, pair = bool(few[j]), float(falls[j]), (i, i + 1 + j)
        overlap = best > _SEPARATED * np.log(2.0) * 2.0 * mass[list(pair)].min()
        uncertain += len(steps) == uncertain and (empty or overlap)
        without_rows += empty
        steps.append(pair)
        now = np.delete(now, pair[1], axis=1) + np.eye(now.shape[1] - 1)[pair[0]] * now[:, [pair[1]]]
        entropies.append(_entropy(now).sum())
    entropy = np.array(entropies[::-1])
    most = K - without_rows
    n_clusters = max(_kink(entropy[:most]), K - uncertain) if most > 2 else most
    return Merged(steps, entropy, n_clusters, shares, noise)


def _entropy(shares: Float) -> Float:
    """``-r log r``, 0 at 0, and at a sum of shares that is above 1 by rounding."""
    return np.asarray(-shares * np.log(np.clip(shares, np.finfo(np.float64).tiny, 1.0)))


def _kink(entropy: Float) -> int:
    """The number of clusters at which two lines that meet there fit the entropy best."""
    numbers = np.arange(1, len(entropy) + 1)

    def misfit(x: NDArray[np.intp], y: Float) -> float:
        return float(np.sum((np.polyval(np.polyfit(x, y, 1), x) - y) ** 2)) if len(x) > 2 else 0.0

    inner = range(2, len(entropy))
    return min(
        inner, key=lambda c: misfit(numbers[:c], entropy[:c]) + misfit(numbers[c - 1 :], entropy[c - 1 :])
    )
