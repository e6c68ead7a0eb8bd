"""The log-likelihood of a parametric mixture on a table of rows: value, gradient, Hessian, outer products of scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from mixtura.backends.base import Rows
from mixtura.backends.derivatives import Derivatives
from mixtura.complete_data import CompleteData
from mixtura.parametric import ParametricMixture
from mixtura.table import Table
from mixtura.threads import in_order

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Likelihood:
    """A mixture, and the rows at which its derivatives are wanted.

    Parameters
    ----------
    mixture : ParametricMixture
    table : Table
        Its sums are in float64.
    """

    mixture: ParametricMixture
    table: Table

    @property
    def derivatives(self) -> Derivatives:
        """What evaluates derivatives at rows."""
        return self.table.backend.derivatives()

    def of_each_row(self, answer: Callable[[Rows], Float]) -> Float:
        """Answers about rows, with a first axis of the rows: of all at once, or block by block as they are read."""
        parts = [answer(host_rows(part)) for part in self._parts()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def forward_sums(self) -> tuple[float, Float, Float]:
        """Log-likelihood, gradient and Hessian by dual numbers."""
        value, gradient, hessian = 0.0, np.zeros(self.mixture.size), np.zeros((self.mixture.size,) * 2)
        for part in self._parts():
            found = self.derivatives.forward_sums(self.mixture, host_rows(part), part.sample_weight)
            value, gradient, hessian = value + found[0], gradient + found[1], hessian + found[2]
        return value, gradient, hessian

    def _parts(self) -> Iterable[Table]:
        return [self.table] if self.table.in_memory else self.blocks()

    def blocks(self) -> Iterator[Table]:
        """The table in blocks of rows whose scores can be held."""
        return self.table.blocks(self.mixture.size)

    def value_and_grad(self) -> tuple[float, Float]:
        """Log-likelihood and its gradient (P,)."""
        complete = CompleteData.of(self.mixture, self.table)
        return complete.log_likelihood, complete.gradient(self.mixture)

    def expanded(self) -> tuple[float, Float, Float]:
        """Log-likelihood, its gradient (P,) and its Hessian (P, P).

        With r the responsibilities and s_k the scores of the complete data, the Hessian is by Louis' identity the
        expected Hessian of the complete data plus ``sum_i (sum_k r_k s_k s_k' - (sum_k r_k s_k)(sum_k r_k s_k)')``.
        Cost: N P^2 / 2 multiply-adds in BLAS, and K times as many for the parameters of one component.
        """
        m, places, P = self.mixture.unshared(), self.mixture.sharing(), self.mixture.size
        complete = CompleteData.of(m, self.table)
        gradient, H = np.zeros(P), complete.hessian(m)
        np.add.at(gradient, places, complete.gradient(m))
        self.table.tally.rows += len(self.table)
        for of_block in in_order(partial(self._of_block, m), self.blocks()):
            H += of_block
        return complete.log_likelihood, gradient, _gathered(_symmetric(H), places, P)

    def _of_block(self, m: ParametricMixture, block: Table) -> Float:
        """What a block's covariances of scores over the components, and its gate, add to the Hessian.

        Of the matrix (P, P) the lower triangle counts, of which BLAS sums products with themselves.
        """
        H = np.zeros((m.size, m.size), order="F")
        found = self.derivatives.adjoints(m, host_rows(block), resp=True, scores=True)
        resp, scores = found.resp, found.scores
        assert resp is not None
        assert scores is not None
        root = np.ones(len(block))
        if block.sample_weight is not None:
            root = np.sqrt(block.sample_weight)
            weightless = block.sample_weight == 0.0  # whatever such a row holds
            scores[weightless], resp[weightless] = 0.0, 0.0
        phi = np.ones((len(block), 1))
        if m.softmax:
            phi = np.hstack([phi, np.asarray(block.x, dtype=np.float64)])
            phi[root == 0.0] = 0.0
        of_gate = m.gate_size
        gate = resp[:, :-1, None] * phi[:, None, :]
        scores[:, :of_gate] = gate.reshape(len(block), of_gate)
        if block.sample_weight is not None:
            scores *= root[:, None]
        H = blas.dsyrk(-1.0, scores.T, beta=1.0, c=H, lower=1, overwrite_c=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            unweighted = np.where(resp > 0.0, 1.0 / np.sqrt(resp), 0.0)
        for k in range(m.components):
            own = [scores[:, m.of_coefficients(k)], scores[:, m.of_scale(k)]]
            places = [np.arange(m.size)[m.of_coefficients(k)], np.arange(m.size)[m.of_scale(k)]]
            if k < m.components - 1:
                own.insert(0, scores[:, m.of_gate(k)])
                places.insert(0, np.arange(m.size)[m.of_gate(k)])
            each = np.hstack(own) * unweighted[:, k, None]
            at = np.concatenate(places)
            H[np.ix_(at, at)] += blas.dsyrk(1.0, each.T, lower=1)  # at rises, so lower stays lower
        self._add_gate(m, block, phi, root, H)
        return H

    @staticmethod
    def _add_gate(m: ParametricMixture, block: Table, phi: Float, root: Float, H: Float) -> None:
        """Add the Hessian of the gate's log-probabilities: ``-(diag pi - pi pi') (x) phi phi'``."""
        x = block.x
        if m.softmax and not root.all():
            x = np.where(root[:, None] > 0.0, x, 0.0)
        pi = np.exp(m.log_gate(x))[:, :-1]
        weighted = phi * root[:, None]
        each = (pi[:, :, None] * weighted[:, None, :]).reshape(len(block), m.gate_size)
        H[: m.gate_size, : m.gate_size] += each.T @ each
        for k in range(m.components - 1):
            H[m.of_gate(k), m.of_gate(k)] -= (weighted * pi[:, k, None]).T @ weighted

    def outer_products(self) -> Float:
        """Sum over the rows of the outer products of their scores, (P, P)."""
        P = self.mixture.size
        total = np.zeros((P, P))
        for of_block in in_order(self._outer_products_of, self.blocks()):
            total += of_block
        return _symmetric(total)

    def _outer_products_of(self, block: Table) -> Float:
        """The same of a block, (P, P), of which the lower triangle counts."""
        scores = self.derivatives.adjoints(self.mixture, host_rows(block), scores=True).scores
        assert scores is not None
        if block.sample_weight is not None:
            scores[block.sample_weight == 0.0] = 0.0
            scores *= np.sqrt(block.sample_weight)[:, None]
        return np.asarray(blas.dsyrk(1.0, scores.T, lower=1))


def _symmetric(lower: Float) -> Float:
    """The symmetric matrix with this lower triangle."""
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def _gathered(H: Float, places: NDArray[np.intp], size: int) -> Float:
    """The Hessian with respect to parameters of which several others are copies."""
    if len(places) == size:
        return H
    rows = np.zeros((size, len(places)))
    np.add.at(rows, places, H)
    out = np.zeros((size, size))
    np.add.at(out, places, rows.T)
    return out


def host_rows(table: Table) -> Rows:
    """The rows where derivatives at rows are evaluated: on the host."""
    return Rows(np.asarray(table.x), None if table.y is None else np.asarray(table.y))
