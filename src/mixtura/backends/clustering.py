"""The interface of backends that run k-means whole, one call for all seeds or all iterations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixtura.quadratics import Form, Quadratics

if TYPE_CHECKING:
    from mixtura.backends.base import Rows

Float = NDArray[np.float64]


# How a run of EM that is one call to the kernels has ended: codes from FIRST_FAILURE on are failures.
CONVERGED, FIRST_FAILURE = 0, 2


class End(IntEnum):
    """Why Lloyd's iterations ended."""

    LIMIT = 0  # all iterations were made
    CONVERGED = 1
    EMPTY = 2  # a centre has no rows, and has to move elsewhere
    NOT_FINITE = 3  # a sum of squares overflows


@dataclass(frozen=True)
class Iterated:
    """The result of Lloyd's iterations.

    Parameters
    ----------
    means : ndarray of shape (K, D)
        The last centres.
    bounds : list of float
        For each iteration minus half the inertia of the centres before it, over the weight of all rows.
    end : End
    """

    means: Float
    bounds: list[float]
    end: End


@dataclass(frozen=True)
class Searched:
    """The results of R searches of k-means.

    Parameters
    ----------
    means : ndarray of shape (R, K, D)
    labels : ndarray of shape (R, N)
        The nearest centre of each row.
    inertia : ndarray of shape (R,)
    iterations : ndarray of shape (R,)
        Of Lloyd's algorithm.
    ends : ndarray of shape (R,)
        Why they ended, an :class:`End` each.
    """

    means: Float
    labels: NDArray[np.int32]
    inertia: Float
    iterations: NDArray[np.int32]
    ends: NDArray[np.int32]


@dataclass(frozen=True)
class Raced:
    """The ends of R runs of EM on the same rows.

    Parameters
    ----------
    weights : ndarray of shape (R, K)
    means : ndarray of shape (R, K, D)
    covariances : ndarray of shape (R, ...)
        In the shape in which they are kept.
    bounds : ndarray of shape (R,)
    good : ndarray of bool of shape (R,)
        Whether a run has ended without a singular covariance.
    passes : int
        Passes over the rows, of all runs together.
    """

    weights: Float
    means: Float
    covariances: Float
    bounds: Float
    good: NDArray[np.bool_]
    passes: int


@dataclass(frozen=True)
class PlainEm:
    """EM of Gaussian mixtures whose covariances are those of the rows, averaged where they are shared.

    Parameters
    ----------
    form : {'scalar', 'diagonal', 'triangle'}
        See :class:`mixtura.quadratics.Quadratics`.
    shared : bool
        Whether all components have one covariance.
    reg_covar, tol, max_iter
        As in :class:`mixtura.GaussianMixture`.
    """

    form: Form
    shared: bool
    reg_covar: float
    tol: float
    max_iter: int


class Clustering(ABC):
    """k-means and small mixtures without a call for each pass: on a small table a call costs more than a pass.

    The numbers of k-means are those of :mod:`mixtura.seeding` and :mod:`mixtura.lloyd`, which go through the passes one
    by one and are the reference.
    """

    @abstractmethod
    def seed(
        self,
        rows: Rows,
        point: Quadratics,
        order: NDArray[np.intp],
        components: int,
        trials: int,
        uniforms: Float,
    ) -> NDArray[np.intp]:
        """Indices (K,) of the rows that greedy k-means++ chooses.

        Parameters
        ----------
        rows : Rows
        point : Quadratics
            One component at any point: its factor is that of the distances.
        order : ndarray of shape (N,)
            The order in which cumulative sums go through the rows.
        components : int
            K.
        trials : int
            Candidates for each row after the first.
        uniforms : ndarray of shape (1 + (K - 1) trials,)
            Random numbers between 0 and 1, by which rows are drawn.
        """

    @abstractmethod
    def searches(
        self,
        rows: Rows,
        point: Quadratics,
        pivot: Float,
        order: NDArray[np.intp],
        components: int,
        trials: int,
        uniforms: Float,
        total_weight: float,
        max_iter: int,
        tol: float,
    ) -> Searched:
        """Several searches, each as :meth:`seed` and :meth:`lloyd` one after the other: for tables of few rows.

        Parameters
        ----------
        rows, point, order, components, trials
            As for :meth:`seed`.
        uniforms : ndarray of shape (R, 1 + (K - 1) trials)
        pivot, total_weight, max_iter, tol
            As for :meth:`lloyd`.
        """

    @abstractmethod
    def race(
        self,
        rows: Rows,
        labels: NDArray[np.int32],
        components: int,
        how: PlainEm,
    ) -> Raced:
        """EM of Gaussian mixtures from several labellings, each run from its start to its end on one thread.

        Parameters
        ----------
        rows : Rows
            Without weights.
        labels : ndarray of shape (R, N)
            The component to which each row belongs at the start of each run.
        components : int
            K.
        how : PlainEm
        """

    @abstractmethod
    def advance(
        self,
        rows: Rows,
        start: tuple[Float, Float, Float],
        how: PlainEm,
        labels: NDArray[np.int32] | None = None,
    ) -> tuple[tuple[Float, Float, Float], list[float]] | None:
        """A run of EM of a Gaussian mixture, but for its last M-step; None if it became singular.

        Parameters
        ----------
        rows : Rows
            Without weights.
        start : tuple of ndarray
            Weights (K,), means (K, D) and covariances, in the shape in which they are kept.
        how : PlainEm
        labels : ndarray of shape (N,), optional
            The component to which each row belongs at the start; of ``start`` only the shapes then count.

        Returns
        -------
        parameters : tuple of ndarray
            Those of the last E-step.
        bounds : list of float
            One for each E-step.
        """

    @abstractmethod
    def lloyd(
        self, rows: Rows, centers: Quadratics, pivot: Float, total_weight: float, max_iter: int, tol: float
    ) -> Iterated:
        """Lloyd's iterations, until the squared shifts of the centres sum to at most ``tol``."""
