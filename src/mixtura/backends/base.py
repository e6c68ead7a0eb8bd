"""The interface between the model and the hardware: what every backend does with rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from mixtura.joint import Joint
from mixtura.moments import Kind, Moments

if TYPE_CHECKING:
    from weakref import ReferenceType

    from mixtura.backends.clustering import Clustering
    from mixtura.backends.derivatives import Derivatives
    from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]
Rows2D = NDArray[np.floating]

Precision = Literal["exact", "fast"]
PRECISIONS = get_args(Precision)

# Number of rows for which the default fused pass holds K densities each.
_BLOCK = 8192


@dataclass
class Rows:
    """A table placed with a backend: the arrays that its kernels read, and values that a fit computes once.

    Attributes
    ----------
    X : ndarray of shape (N, D), float32 or float64, any strides
    y : ndarray of shape (N, M), optional
        Targets, if the backend reads them from a separate array: rows are z = [x; y].
    sample_weight : ndarray of shape (N,), optional
        None: all weights are 1. Rows of weight 0 do not enter sums, even if they hold NaN or infinity.
    scatter : dict
        For kind 'shared': second moments of all rows, by pivot. They do not depend on the responsibilities.
    spread : tuple of ndarray of shape (D,), optional
        Mean and standard deviation of the columns; None until a backend needs them.
    width : tuple, optional
        Quadratics, weakly referenced, a pivot, and how wide the table is beside them; None until a backend needs it.
    """

    X: Rows2D
    y: Rows2D | None = None
    sample_weight: Float | None = None
    scatter: dict[bytes, Moments] = field(default_factory=dict, repr=False)
    spread: tuple[Float, Float] | None = field(default=None, repr=False)
    width: tuple[ReferenceType[Quadratics], Float, float] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.X)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is found again when it is needed, and cannot be copied to another process."""
        return {**self.__dict__, "width": None}

    @property
    def dims(self) -> int:
        """Number of columns: D, or D + M with y."""
        return int(self.X.shape[1]) + (0 if self.y is None else int(self.y.shape[1]))

    def block(self, start: int, stop: int) -> Rows:
        """A view of rows ``start`` to ``stop``."""
        return Rows(
            self.X[start:stop],
            None if self.y is None else self.y[start:stop],
            None if self.sample_weight is None else self.sample_weight[start:stop],
        )

    def without_targets(self) -> Rows:
        """The same rows without their targets, where these are in an array of their own; else as they are."""
        if self.y is None:
            return self
        D, spread = int(self.X.shape[1]), self.spread
        return Rows(self.X, None, self.sample_weight, spread=spread and (spread[0][:D], spread[1][:D]))


class Backend(ABC):
    """Evaluates quadratics and sums moments: all work that grows with N, and nothing else.

    A backend must have ``log_joint`` and ``accumulate``. The other methods have defaults made of these two, and tests
    require faster versions to equal the defaults. Results are float64 for rows of either type.

    Parameters
    ----------
    n_threads : int, default=None
        Most threads to use; None takes the limit in force (OMP_NUM_THREADS, threadpoolctl, processors).
    precision : {'exact', 'fast'}, default='exact'
        'fast' allows arithmetic with 16 significant bits for float32 rows, on backends that have it.

    Raises
    ------
    ValueError
        The precision is unknown.
    """

    name: ClassVar[str]
    summary: ClassVar[str]  # a description in a few words
    compiled: ClassVar[bool] = True  # whether the NumPy part of a fit may call the compiled library
    each_in_one_pass: ClassVar[bool] = False  # whether `expect_each` takes one pass for all components
    reads_devices: ClassVar[bool] = False  # whether `place` takes arrays on a CUDA device
    in_double: bool = False  # whether float32 rows are summed in float64 all the same

    @classmethod
    def description(cls) -> str:
        """A description of the backend as it runs here, in a few words."""
        return cls.summary

    def __init__(self, n_threads: int | None = None, precision: Precision = "exact") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}; known are 'exact' and 'fast'")
        self.n_threads = n_threads
        self.precision = precision

    def doubled(self) -> Self:
        """The same backend, which takes sums over float32 rows in float64 too, as derivatives need them."""
        backend = copy(self)
        backend.in_double = True
        return backend

    def clustering(self, rows: Rows) -> Clustering | None:
        """What runs k-means whole on these rows; None where it goes through passes one by one."""
        return None

    def derivatives(self) -> Derivatives:
        """What evaluates derivatives of a mixture's log-density at rows: by default plain NumPy, on the host."""
        from mixtura.backends.derivatives import Derivatives

        return Derivatives()

    def for_rows(self, X: Rows2D) -> Backend:
        """The backend for parts of a table that this one reads: itself, unless such rows are another one's."""
        return self

    def place(self, X: Rows2D, y: Rows2D | None = None, sample_weight: Float | None = None) -> Rows:
        """Take a table of float32 or float64 numbers (N, D), once per fit, and its rows' weights (N,).

        With y (N, M), rows are z = [x; y]. By default both are copied into one array; backends that can read from two
        arrays override this.
        """
        return Rows(X if y is None else np.hstack([X, y]), None, sample_weight)

    @abstractmethod
    def log_joint(self, rows: Rows, joint: Joint) -> Float:
        """``log pi_k + log p_k(z_i)``, (N, K)."""

    @abstractmethod
    def accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Moments:
        """Moments for given responsibilities (N, K), times the rows' weights."""

    def expect(self, rows: Rows, joint: Joint, kind: Kind, pivot: Float) -> Moments:
        """One pass of EM over the rows: log_joint, then normalise, then accumulate, without holding N x K.

        Parameters
        ----------
        rows : Rows
        joint : Joint
            The densities to evaluate, and whether each row goes wholly to one component.
        kind : str
            The kind of moments; see :class:`mixtura.moments.Moments`.
        pivot : ndarray of shape (D,)
            The point about which the moments are taken; it should be near the rows.
        """
        total = Moments.zero(kind, joint.components, pivot)
        for start in range(0, len(rows), _BLOCK):
            stop = min(start + _BLOCK, len(rows))
            block = rows.block(start, stop)
            weights = block.sample_weight
            if weights is not None:
                block = Rows(np.where(weights[:, None] != 0.0, block.X, pivot), None, weights)
            resp, density = normalize(self.log_joint(block, joint.cut(start, stop)), joint.hard)
            part = self.accumulate(block, resp, kind, pivot)
            log_likelihood = density.sum() if weights is None else (density * weights).sum()
            total += replace(part, log_likelihood=float(log_likelihood))
        return total

    def rounding(self, rows: Rows, joint: Joint, pivot: Float) -> float:
        """Machine epsilon of the arithmetic in which :meth:`expect` takes these sums."""
        return float(np.finfo(np.float64).eps)

    def expect_each(
        self, rows: Rows, joint: Joint, kind: Kind, pivots: Float, wanted: NDArray[np.bool_]
    ) -> Moments:
        """Moments of the wanted components, each about a pivot of its own; zeros for the others.

        The default takes one pass for each wanted component; some backends take one pass for all.

        Parameters
        ----------
        rows, joint
            As for :meth:`expect`.
        kind : str
            Not 'shared'.
        pivots : ndarray of shape (K, D)
        wanted : ndarray of shape (K,), bool
        """
        total = Moments.zero(kind, joint.components, pivots)
        mass, first, second = total.mass, total.first, total.second
        for k in np.flatnonzero(wanted):
            about_k = self.expect(rows, joint, kind, pivots[k])
            mass[k], first[k] = about_k.mass[k], about_k.first[k]
            if len(second):
                second[k] = about_k.second[k]
        return total

    def assign(self, rows: Rows, joint: Joint) -> tuple[NDArray[np.int32], Float]:
        """Most likely component of each row (the first of equals) and its ``log pi_k + log p_k``, (N,) and (N,)."""
        labels = np.empty(len(rows), dtype=np.int32)
        best = np.empty(len(rows))
        for cut, densities in self._joint_by_blocks(rows, joint):
            labels[cut] = densities.argmax(axis=1)
            best[cut] = np.take_along_axis(densities, labels[cut, None].astype(np.intp), axis=1)[:, 0]
        return labels, best

    def posterior(self, rows: Rows, joint: Joint, resp: NDArray[np.floating] | None = None) -> Float:
        """Log-density of each row, ``log sum_k pi_k p_k(z_i)``, (N,).

        It is not finite for a row so far from all components that its squared distances overflow.

        Parameters
        ----------
        rows : Rows
        joint : Joint
        resp : ndarray of shape (N, K), float32 or float64, row-major, optional
            If given, the responsibilities are written here.
        """
        density = np.empty(len(rows))
        for cut, densities in self._joint_by_blocks(rows, joint):
            with np.errstate(invalid="ignore"):  # if squared distances overflow
                block_resp, density[cut] = normalize(densities)
            if resp is not None:
                resp[cut] = block_resp
        return density

    def average(
        self, rows: Rows, resp: Float, slopes: Float, levels: Float, variances: Float
    ) -> tuple[Float, Float]:
        """Mean and standard deviation of a mixture of linear predictions, (N, R) each.

        Parameters
        ----------
        rows : Rows
            x, (N, Q).
        resp : ndarray of shape (N, K)
            Weights of the predictions ``slopes_k x + levels_k``.
        slopes : ndarray of shape (K, R, Q)
        levels, variances : ndarray of shape (K, R)
        """
        R = levels.shape[1]
        mean, deviation = np.empty((len(rows), R)), np.empty((len(rows), R))
        for start in range(0, len(rows), _BLOCK):
            cut = slice(start, start + _BLOCK)
            each = np.einsum("nq,krq->nkr", rows.X[cut].astype(np.float64), slopes) + levels
            mean[cut] = np.einsum("nk,nkr->nr", resp[cut], each)
            away = each - mean[cut][:, None]
            deviation[cut] = np.sqrt(np.einsum("nk,nkr->nr", resp[cut], variances + away**2))
        return mean, deviation

    def _joint_by_blocks(self, rows: Rows, joint: Joint) -> Iterator[tuple[slice, Float]]:
        """Yield slices of the rows and their joint log-densities (n, K)."""
        size = max((_BLOCK * 8) // joint.components, 1024)
        for start in range(0, len(rows), size):
            stop = min(start + size, len(rows))
            yield slice(start, stop), self.log_joint(rows.block(start, stop), joint.cut(start, stop))


def normalize(joint: Float, hard: bool = False) -> tuple[Float, Float]:
    """Responsibilities (N, K) and log-densities (N,) of joint log-densities (N, K)."""
    top = joint.max(axis=1)
    if hard:
        resp = np.zeros_like(joint)
        resp[np.arange(len(joint)), joint.argmax(axis=1)] = 1.0
        return resp, top
    with np.errstate(under="ignore"):
        resp = np.exp(joint - top[:, None])
        total = resp.sum(axis=1)
        resp /= total[:, None]
    return resp, top + np.log(total)
