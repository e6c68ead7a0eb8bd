"""First responsibilities of a mixture of experts: k-means on [x, y], random numbers, given labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.experts import RegressionTable, Responsibilities
from mixtura.initialize import column_variance, seed_rows
from mixtura.lloyd import lloyd
from mixtura.quadratics import Quadratics
from mixtura.table import Table

Float = NDArray[np.float64]

# Rows that k-means looks at: a table up to twice as long is taken whole.
_SAMPLE_ROWS = 1 << 14
_MAX_ITER = 50
_TOL = 1e-4


def _one_hot(labels: NDArray[np.integer], components: int) -> Float:
    out = np.zeros((len(labels), components))
    out[np.arange(len(labels)), labels] = 1.0
    return out


def kmeans(
    table: RegressionTable, components: int, center: Float, spread: Float, rng: np.random.RandomState
) -> Responsibilities:
    """Each row belongs to the cluster of standardised [x, y] that k-means puts it in.

    Parameters
    ----------
    table : RegressionTable
    components : int
    center, spread : ndarray of shape (D + M,)
        Mean and standard deviation of the columns.
    rng : RandomState
    """
    scale = np.where(spread > 0.0, spread, 1.0)
    X, y, weights = table.covariates.rows.X, table.targets, table.covariates.sample_weight
    counted = np.arange(len(X)) if weights is None else np.flatnonzero(weights)
    if len(counted) > 2 * _SAMPLE_ROWS:
        counted = counted[np.unique(rng.randint(len(counted), size=_SAMPLE_ROWS))]
    sample = (np.hstack([X[counted], y[counted]]) - center) / scale
    some = Table.of(table.backend, sample, None if weights is None else weights[counted])
    found = lloyd(
        some, seed_rows(some, components, rng), max_iter=_MAX_ITER, tol=_TOL * column_variance(some)
    )
    centers = center + scale * found.parameters.means
    nearest = Quadratics("diagonal", np.zeros(components), centers, 1.0 / scale[None])

    def resp(cut: slice) -> Float:
        rows = table.joined.rows.block(cut.start, cut.stop)
        joint = table.backend.log_joint(rows, nearest, np.zeros(components))
        return _one_hot(joint.argmax(axis=1), components)

    return resp


def random(
    table: RegressionTable, components: int, center: Float, spread: Float, rng: np.random.RandomState
) -> Responsibilities:
    """Each row's responsibilities are drawn from a flat Dirichlet distribution."""
    base = int(rng.randint(1 << 31))

    def resp(cut: slice) -> Float:
        own = np.random.RandomState((base + cut.start) % (1 << 32))
        drawn = own.standard_exponential(size=(cut.stop - cut.start, components))
        return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))

    return resp


def given_labels(labels: ArrayLike, components: int, table: RegressionTable) -> Responsibilities:
    """Each row belongs to the expert that its label 0 .. K - 1 names.

    Raises
    ------
    ValueError
        Not one integer for each row, a label that is no expert's, or an expert without rows.
    """
    given = np.asarray(labels)
    if given.shape != (len(table),):
        raise ValueError(f"init: labels have shape {given.shape}, not one for each of the {len(table)} rows")
    whole = given.astype(np.intp) if given.dtype.kind in "biuf" else None
    if whole is None or not np.array_equal(whole, given):
        raise ValueError(f"init: labels must be whole numbers from 0 to {components - 1}")
    if whole.min() < 0 or whole.max() >= components:
        raise ValueError(
            f"init: labels run from {whole.min()} to {whole.max()}, experts from 0 to {components - 1}"
        )
    count = np.bincount(whole, table.covariates.sample_weight, components)
    if not count.all():
        raise ValueError(f"init: no row is given to expert {int(np.argmin(count))}")
    return lambda cut: _one_hot(whole[cut], components)


RESPONSIBILITIES: dict[
    str, Callable[[RegressionTable, int, Float, Float, np.random.RandomState], Responsibilities]
] = {"kmeans": kmeans, "random": random}
