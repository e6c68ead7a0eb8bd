"""A mixture of experts' parameters, gate and experts together, and its E- and M-steps on a table of x and y."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import Backend, Rows, normalize
from mixtura.components.linear import Baseline, LinearExperts, leading
from mixtura.gates.base import Gate
from mixtura.mixture import moments_of_all, refined
from mixtura.moments import Kind, Moments
from mixtura.table import Table, pivot_of

Float = NDArray[np.float64]

# Log-weights or responsibilities in a block.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class RegressionTable:
    """Covariates x (N, D) and targets y (N, M), placed with a backend as rows z = [x; y].

    Parameters
    ----------
    covariates : Table
    targets : ndarray of shape (N, M)
    joined : Table
        Of z (N, D + M).
    """

    covariates: Table
    targets: NDArray[np.floating]
    joined: Table

    @classmethod
    def of(
        cls,
        backend: Backend,
        X: NDArray[np.floating],
        y: NDArray[np.floating],
        sample_weight: Float | None = None,
    ) -> RegressionTable:
        """Place X (N, D) and y (N, M)."""
        covariates = Table.of(backend, X, sample_weight)
        pivot = np.concatenate([covariates.pivot, pivot_of(y, sample_weight)])
        return cls(covariates, y, Table(backend, backend.place(X, y), pivot, sample_weight))

    def __len__(self) -> int:
        return len(self.covariates)

    @property
    def backend(self) -> Backend:
        """What the rows are placed with."""
        return self.joined.backend

    @property
    def pivot(self) -> Float:
        """A point inside the rows z, (D + M,)."""
        return self.joined.pivot

    @property
    def total_weight(self) -> float:
        """Sum of the weights; N without."""
        return self.joined.total_weight

    def blocks(self, width: int) -> Iterator[tuple[slice, Rows, Float | None]]:
        """Cuts with bounds that depend on shapes alone, their rows z, and their weights.

        Parameters
        ----------
        width : int
            Numbers that the caller will hold for each row; 0: one cut is all rows.
        """
        size = max(_BLOCK // width // 1024, 1) * 1024 if width else len(self)
        weights = self.joined.sample_weight
        for start in range(0, len(self), size):
            cut = slice(start, min(start + size, len(self)))
            rows = self.joined.rows.block(cut.start, cut.stop)
            yield cut, rows, None if weights is None else weights[cut]

    def column_spread(self) -> tuple[Float, Float]:
        """Weighted mean and standard deviation of the columns of z, (D + M,) each."""
        moments = moments_of_all(self.joined, "diagonal")
        return moments.means()[0], np.sqrt(np.maximum(moments.covariances()[0], 0.0))


# Responsibilities of given rows, (n, K).
Responsibilities = Callable[[slice], Float]


@dataclass(frozen=True)
class Expectation:
    """What an E-step finds.

    Parameters
    ----------
    moments : Moments
        Of kind 'full', of z = [x; y], weighted with the responsibilities.
    log_likelihood : float
        The objective under the parameters of the E-step: the log-likelihood, or, where gate or experts have
        priors, its evidence lower bound.
    resp : ndarray of shape (N, K), optional
        The responsibilities, if the gate needs them.
    baseline : Baseline, optional
        What y was measured from in the moments, if not from 0.
    """

    moments: Moments
    log_likelihood: float
    resp: Float | None = None
    baseline: Baseline | None = None

    def is_finite(self) -> bool:
        """Whether every sum is finite."""
        return bool(np.isfinite(self.log_likelihood)) and self.moments.is_finite()


def accumulate(table: RegressionTable, components: int, resp: Responsibilities, keep: bool) -> Expectation:
    """Moments for given responsibilities, which are kept if the gate needs them."""
    kept = np.empty((len(table), components)) if keep else None

    def about(pivot: Float) -> Moments:
        total = Moments.zero("full", components, pivot)
        for cut, rows, weights in table.blocks(components):
            r = resp(cut) if kept is None else kept[cut]
            total += table.backend.accumulate(rows, r, "full", pivot, weights)
        return total

    def each(pivots: Float, wanted: NDArray[np.bool_], kind: Kind) -> Moments:
        total = Moments.zero(kind, components, pivots)
        for k in np.flatnonzero(wanted):
            own = about(pivots[k])
            total.mass[k], total.first[k], total.second[k] = own.mass[k], own.first[k], own.second[k]
        return total

    if kept is not None:
        for cut, _, _ in table.blocks(components):
            kept[cut] = resp(cut)
    return Expectation(refined(about(table.pivot), each), -np.inf, kept)


@dataclass(frozen=True)
class ExpertsParameters:
    """Parameters of a mixture of experts, in float64: ``p(y | x) = sum_k pi_k(x) p_k(y | x)``.

    Parameters
    ----------
    gate : Gate
    experts : LinearExperts
    """

    gate: Gate
    experts: LinearExperts

    @property
    def bound(self) -> float:
        """Terms of the objective that do not depend on the rows."""
        return self.gate.bound + self.experts.bound

    def expect(self, table: RegressionTable, rng: np.random.RandomState | None = None) -> Expectation:
        """The E-step.

        Parameters
        ----------
        table : RegressionTable
        rng : RandomState, optional
            Give each row to one expert drawn from its responsibilities (stochastic EM).
        """
        if rng is not None or self.gate.needs_responsibilities:
            return self._expect_in_steps(table, rng)
        quadratics = self.experts.quadratics
        K = quadratics.components
        width = K if self.gate.looks_at_rows else 0

        moments = Moments.zero("full", K, table.pivot)
        for cut, rows, weights in table.blocks(width):
            log_weights = self.gate.log_weights(table.covariates, cut)
            moments += table.backend.expect(rows, quadratics, log_weights, "full", table.pivot, weights)

        def each(pivots: Float, wanted: NDArray[np.bool_], kind: Kind) -> Moments:
            total = Moments.zero(kind, K, pivots)
            for cut, rows, weights in table.blocks(width):
                log_weights = self.gate.log_weights(table.covariates, cut)
                total += table.backend.expect_each(
                    rows, quadratics, log_weights, kind, pivots, wanted, weights
                )
            return total

        eps = table.backend.rounding(table.joined.rows, quadratics, table.pivot, hard=False)
        moments = refined(moments, each, eps=eps)
        found = Expectation(moments, moments.log_likelihood + self.bound)

        def resp(cut: slice, rows: Rows) -> Float:
            log_weights = self.gate.log_weights(table.covariates, cut)
            with np.errstate(invalid="ignore"):  # of a row of weight 0 that no expert reaches
                return normalize(table.backend.log_joint(rows, quadratics, log_weights))[0]

        return self._from_baseline(table, found, resp)

    def _from_baseline(
        self, table: RegressionTable, found: Expectation, resp: Callable[[slice, Rows], Float]
    ) -> Expectation:
        """Moments with y measured from the present regressions, for the experts that need it: one more pass.

        Parameters
        ----------
        table : RegressionTable
        found : Expectation
            With moments of y itself.
        resp : callable
            Responsibilities (n, K) of the rows of a cut.
        """
        baseline = self.experts.baseline()
        if baseline is None:
            return found
        moments, dims = found.moments, table.covariates.rows.dims
        K = len(moments.mass)
        some = [int(k) for k in baseline.some if moments.mass[k] > 0.0]
        pivot = np.array(np.broadcast_to(moments.pivot, (K, moments.pivot.shape[-1])))
        pivot[some, :dims] = moments.means(np.maximum(moments.mass, np.finfo(np.float64).tiny))[some, :dims]
        pivot[some, dims:] = 0.0
        own = [Moments.zero("full", 1, pivot[k]) for k in some]
        for cut, rows, weights in table.blocks(K):
            r, X = resp(cut, rows), table.covariates.rows.X[cut]
            if weights is not None:
                r = np.where(weights[:, None] > 0.0, r, 0.0)
            for i, k in enumerate(some):
                residuals = table.targets[cut] - baseline.of(k, X)
                placed = table.backend.place(X, residuals)
                own[i] += table.backend.accumulate(placed, r[:, [k]], "full", pivot[k], weights)
        first, second = moments.first.copy(), moments.second.copy()
        for i, k in enumerate(some):
            first[k], second[k] = own[i].first[0], own[i].second[0]
        return replace(
            found, moments=replace(moments, pivot=pivot, first=first, second=second), baseline=baseline
        )

    def _expect_in_steps(self, table: RegressionTable, rng: np.random.RandomState | None) -> Expectation:
        """Responsibilities first, then their moments, or those of a draw from them.

        A gate that needs responsibilities sees them, not the draw: a flexible one would learn the draw by heart.
        """
        quadratics = self.experts.quadratics
        K = quadratics.components
        resp, log_likelihood = np.empty((len(table), K)), 0.0
        for cut, rows, weights in table.blocks(K):
            joint = table.backend.log_joint(rows, quadratics, self.gate.log_weights(table.covariates, cut))
            if weights is not None:
                joint[weights <= 0.0] = 0.0  # such a row may lie beyond the reach of every expert
            resp[cut], density = normalize(joint)
            log_likelihood += float(density.sum() if weights is None else density @ weights)
        given = resp if rng is None else _drawn(resp, rng)
        found = accumulate(table, K, lambda cut: given[cut], keep=False)
        found = replace(
            found,
            log_likelihood=log_likelihood + self.bound,
            resp=resp if self.gate.needs_responsibilities else None,
        )
        return self._from_baseline(table, found, lambda cut, _: given[cut])

    def maximize(self, table: RegressionTable, found: Expectation) -> ExpertsParameters:
        """The M-step: gate and experts, each given the responsibilities."""
        dims = table.covariates.rows.dims
        gate = self.gate.maximize(table.covariates, leading(found.moments, dims), found.resp)
        return ExpertsParameters(gate, self.experts.maximize(found.moments, found.baseline))


def _drawn(resp: Float, rng: np.random.RandomState) -> Float:
    """One component a row, with probability resp (n, K), as zeros and ones."""
    above = rng.uniform(size=len(resp))[:, None] < np.cumsum(resp, axis=1)
    above[:, -1] = True
    out = np.zeros_like(resp)
    out[np.arange(len(resp)), above.argmax(axis=1)] = 1.0
    return out
