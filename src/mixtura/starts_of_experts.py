"""First responsibilities of a mixture of experts: k-means on [x, y], random numbers, given labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.joint import Joint
from mixtura.lloyd import lloyd
from mixtura.quadratics import Quadratics
from mixtura.randomness import generator
from mixtura.starts import column_variance, seed_rows
from mixtura.table import Responsibilities, Table, drawn_rows

Float = NDArray[np.float64]

# Number of rows in the sample for k-means; a table up to twice as long is taken whole.
_SAMPLE_ROWS = 1 << 14
_MAX_ITER = 50

# Number of rows through which a random regression goes, for each of its coefficients.
_ROWS_PER_COLUMN = 2
_TOL = 1e-4


def _one_hot(labels: NDArray[np.integer], components: int) -> Float:
    out = np.zeros((len(labels), components))
    out[np.arange(len(labels)), labels] = 1.0
    return out


def kmeans(
    table: Table, components: int, center: Float, spread: Float, rng: np.random.RandomState
) -> Responsibilities:
    """Each row is assigned to its cluster in k-means on the standardised rows [x, y].

    Parameters
    ----------
    table : Table
    components : int
    center, spread : ndarray of shape (D + M,)
        Mean and standard deviation of the columns.
    rng : RandomState
    """
    scale = np.where(spread > 0.0, spread, 1.0)
    counted = table.counted
    if counted is None and len(table) > 2 * _SAMPLE_ROWS:
        counted = np.arange(len(table))
    if counted is not None and len(counted) > 2 * _SAMPLE_ROWS:
        counted = counted[drawn_rows(len(counted), _SAMPLE_ROWS, rng)]
    subset = table.standardized(center, scale, counted)
    fit = lloyd(
        subset, seed_rows(subset, components, rng), max_iter=_MAX_ITER, tol=_TOL * column_variance(subset)
    )
    centers = center + scale * fit.parameters.components.means
    nearest = Joint(
        Quadratics("diagonal", np.zeros(components), centers, 1.0 / scale[None]), np.zeros(components)
    )

    def resp(block: Table) -> Float:
        labels, _ = block.assign(nearest)
        return _one_hot(labels, components)

    return resp


def random(
    table: Table, components: int, center: Float, spread: Float, rng: np.random.RandomState
) -> Responsibilities:
    """Each row's responsibilities are drawn from a flat Dirichlet distribution."""
    base_seed = int(rng.randint(1 << 31))

    def resp(block: Table) -> Float:
        with generator((base_seed + block.start) % (1 << 32)) as block_rng:
            drawn = block_rng.standard_exponential(size=(len(block), components))
        return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))

    return resp


def nearly_equal(components: int, share: float, rng: np.random.RandomState) -> Responsibilities:
    """Responsibilities of about 1 / K, of which ``share`` is random: all experts begin as nearly one regression."""
    base_seed = int(rng.randint(1 << 31))

    def resp(block: Table) -> Float:
        with generator((base_seed + block.start) % (1 << 32)) as block_rng:
            drawn = block_rng.standard_exponential(size=(len(block), components))
        drawn /= drawn.sum(axis=1, keepdims=True)
        return np.asarray((1.0 - share) / components + share * drawn)

    return resp


def residual_bands(
    table: Table, components: int, center: Float, spread: Float, rng: np.random.RandomState
) -> Responsibilities:
    """Each row is assigned by the residual of one regression of the first target on x: bands of equal numbers of rows.

    This tells regressions apart that are parallel, or that differ most where x is large.
    """
    slopes, level, anchor = _regression(table)
    rows = np.arange(len(table)) if table.counted is None else table.counted
    rows = rows if len(rows) <= _SAMPLE_ROWS else rows[rng.randint(len(rows), size=_SAMPLE_ROWS)]
    z, d = table.points(rows), table.covariates
    residuals = z[:, d] - level - (z[:, :d] - anchor) @ slopes
    edges = np.quantile(residuals, np.arange(1, components) / components)

    def resp(block: Table) -> Float:
        assert block.y is not None
        residual = block.y[:, 0] - level - (block.x - anchor) @ slopes
        return _one_hot(np.searchsorted(edges, residual), components)

    return resp


def _regression(table: Table) -> tuple[Float, float, Float]:
    """Least squares of the first target on x: slopes (D,), and the level at the anchor (D,)."""
    moments, d = table.moments("full"), table.covariates
    mean, C = moments.means()[0], moments.covariances()[0]
    scale = np.sqrt(np.maximum(np.diagonal(C)[:d], np.finfo(np.float64).tiny))
    slopes = np.linalg.lstsq(C[:d, :d] / np.outer(scale, scale), C[:d, d] / scale, rcond=1e-10)[0] / scale
    return slopes, float(mean[d]), mean[:d]


def through_rows(
    table: Table, components: int, center: Float, spread: Float, rng: np.random.RandomState
) -> Responsibilities:
    """Each row is assigned to the nearest of K regressions, each through few rows drawn at random."""
    d, M = table.covariates, table.targets
    counted = np.arange(len(table)) if table.counted is None else table.counted
    slopes, level = np.zeros((components, d, M)), np.zeros((components, M))
    scale = np.where(spread > 0.0, spread, 1.0)
    for k in range(components):
        rows = counted[rng.randint(len(counted), size=min(_ROWS_PER_COLUMN * (d + 1), len(counted)))]
        z = (table.points(rows) - center) / scale
        solved = np.linalg.lstsq(np.column_stack([z[:, :d], np.ones(len(z))]), z[:, d:], rcond=1e-10)[0]
        slopes[k], level[k] = solved[:d], solved[d]

    def resp(block: Table) -> Float:
        assert block.y is not None
        x = (block.x - center[:d]) / scale[:d]
        y = (block.y - center[d:]) / scale[d:]
        away = [np.sum((y - x @ slopes[k] - level[k]) ** 2, axis=1) for k in range(components)]
        return _one_hot(np.argmin(away, axis=0), components)

    return resp


def given_labels(labels: ArrayLike, components: int, table: Table) -> Responsibilities:
    """Each row is assigned to the expert that its label, from 0 to K - 1, names.

    Raises
    ------
    ValueError
        There is not one integer for each row, a label is out of range, or an expert has no rows.
    """
    array = np.asarray(labels)
    if array.shape != (len(table),):
        raise ValueError(f"init: labels have shape {array.shape}, not one for each of the {len(table)} rows")
    with np.errstate(invalid="ignore"):  # NaN and infinity are no labels, and are refused below
        expert_of_row = array.astype(np.intp) if array.dtype.kind in "biuf" else None
    if expert_of_row is None or not np.array_equal(expert_of_row, array):
        raise ValueError(f"init: labels must be whole numbers from 0 to {components - 1}")
    if expert_of_row.min() < 0 or expert_of_row.max() >= components:
        raise ValueError(
            f"init: labels run from {expert_of_row.min()} to {expert_of_row.max()}, "
            f"experts from 0 to {components - 1}"
        )
    count = np.bincount(expert_of_row, table.sample_weight, components)
    if not count.all():
        raise ValueError(f"init: no row is given to expert {int(np.argmin(count))}")
    return lambda block: _one_hot(expert_of_row[block.cut], components)


RESPONSIBILITIES: dict[str, Callable[[Table, int, Float, Float, np.random.RandomState], Responsibilities]] = {
    "kmeans": kmeans,
    "random": random,
}

# Unlike starts, which 'auto' tries: each is a way to make first responsibilities.
CANDIDATES = (kmeans, kmeans, residual_bands, *[through_rows] * 6, random)
