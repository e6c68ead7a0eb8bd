"""Lloyd's algorithm: the limit of EM in which every row goes to one component."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mixtura import em
from mixtura.components.centers import EUCLIDEAN, Centers, Metric
from mixtura.gates.equal import EqualGate
from mixtura.mixture import Mixture
from mixtura.table import Table

Float = NDArray[np.float64]
Clusters = Mixture[EqualGate, Centers]


def lloyd(
    table: Table,
    start: Float,
    *,
    max_iter: int,
    tol: float,
    report: Callable[[em.Step[Clusters]], bool] | None = None,
    metric: Metric = EUCLIDEAN,
    keep: bool = False,
    run: Callable[..., em.Fit[Clusters]] = em.run,
) -> em.Fit[Clusters]:
    """EM with hard assignment, until the squared shifts of the centres sum to at most ``tol``.

    Parameters
    ----------
    table : Table
    start : ndarray of shape (K, D)
        The first centres.
    max_iter : int
    tol : float
        The largest sum of squared shifts at which the run has converged. With 0 it runs until no centre moves,
        which is when the labels no longer change.
    report : callable, optional
        See :func:`mixtura.em.run`.
    metric : Metric, optional
        The distance by which rows and shifts are measured.
    keep : bool, default=False
        See :func:`mixtura.em.run`.
    run : callable, optional
        Runs EM.

    Returns
    -------
    em.Fit
        Its bound is minus half the inertia per unit of weight, for the centres before their last move.
    """

    def stop(step: em.Step[Clusters]) -> bool:
        shifts = step.after.components.means - step.before.components.means
        return metric.squared_length(shifts) <= tol

    centers = Centers(np.asarray(start, dtype=np.float64), metric)
    clusters = Mixture(EqualGate(components=len(centers.means)), centers, hard=True)
    return run(clusters, table, max_iter=max_iter, stop=stop, report=report, keep=keep)
