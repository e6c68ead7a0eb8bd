"""Lloyd's algorithm: the limit of EM in which every row goes to one component."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mixtura import em
from mixtura.backends.clustering import End
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

    def clusters(means: Float) -> Clusters:
        return Mixture(EqualGate(components=len(means)), Centers(means, metric), hard=True)

    means = np.array(start, dtype=np.float64, order="C")
    if report is None and run is em.run and not keep:
        fit = _whole(table, clusters, means, max_iter, tol, stop)
        if fit is not None:
            return fit
    return run(clusters(means), table, max_iter=max_iter, stop=stop, report=report, keep=keep)


def _whole(
    table: Table,
    clusters: Callable[[Float], Clusters],
    means: Float,
    max_iter: int,
    tol: float,
    stop: Callable[[em.Step[Clusters]], bool],
) -> em.Fit[Clusters] | None:
    """The run with one call for all iterations, if the table's backend has one."""
    bounds = list[float]()
    while len(bounds) < max_iter:
        found = table.lloyd(clusters(means).joint, max_iter - len(bounds), tol)
        if found is None:
            return None
        means = found.means
        bounds += found.bounds
        if found.end is End.NOT_FINITE:
            raise em.NotFiniteError
        if found.end is not End.EMPTY:
            return _finished(clusters(means), bounds, found.end is End.CONVERGED)
        # The M-step of centres moves those without rows: one iteration of EM.
        step = em.run(clusters(means), table, max_iter=1, stop=stop)
        means = step.parameters.components.means
        bounds += step.bounds
        if step.converged:
            return _finished(clusters(means), bounds, True)
    return _finished(clusters(means), bounds, False)


def _finished(clusters: Clusters, bounds: list[float], converged: bool) -> em.Fit[Clusters]:
    return em.Fit(clusters, bounds[-1] if bounds else -np.inf, bounds, converged)
