"""The curvature of a concave function, approximated from a bound and from the last steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

Float = NDArray[np.float64]

_MEMORY = 8  # steps that are remembered
_BENT = 1e-10  # cosine between a step and its change of the gradient, below which the step tells nothing


@dataclass(frozen=True, eq=False)
class Curvature:
    """The negated Hessian of a function of K rows of P numbers, as L-BFGS approximates it.

    Parameters
    ----------
    factor : ndarray of shape (P, P)
        Lower Cholesky factor of the curvature B before any step, the same for each row.
    steps : ndarray of shape (m, K P)
        The last steps s_i, the oldest first.
    changes : ndarray of shape (m, K P)
        y_i, by how much the gradient fell along each of them.
    products : ndarray of shape (m, m)
        ``s_i . y_j`` for j >= i, and zeros below.

    References
    ----------
    Nocedal (1980), Updating quasi-Newton matrices with limited storage.
    """

    factor: Float
    steps: Float
    changes: Float
    products: Float

    @classmethod
    def bounded_by(cls, bound: Float, rows: int) -> Curvature:
        """The curvature ``bound`` (P, P), positive definite, of each of so many rows, and no steps."""
        none = np.empty((0, rows * len(bound)))
        factor = np.asarray(np.linalg.cholesky(bound), dtype=np.float64)
        return cls(factor, none, none, np.empty((0, 0)))

    def after(self, step: Float, change: Float) -> Curvature:
        """The curvature after one step more, both (K, P); this one if the gradient did not fall along the step."""
        s, y = step.ravel(), change.ravel()
        fallen = float(np.dot(s, y))
        if not fallen > _BENT * math.sqrt(np.dot(s, s) * np.dot(y, y)):
            return self
        kept = slice(max(0, len(self.steps) + 1 - _MEMORY), None)
        m = len(self.steps) - kept.start
        products = np.zeros((m + 1, m + 1))
        products[:m, :m] = self.products[kept, kept]
        products[:m, m] = self.steps[kept] @ y
        products[m, m] = fallen
        return replace(
            self,
            steps=np.vstack([self.steps[kept], s]),
            changes=np.vstack([self.changes[kept], y]),
            products=products,
        )

    def solve(self, gradient: Float) -> Float:
        """The inverse of the curvature times a gradient (K, P).

        With the steps as the rows of S, the changes as those of Y, and R the products, Nocedal's first loop,
        ``a_i = s_i . (g - sum_{j > i} a_j y_j) / s_i . y_i``, is the triangular system ``R a = S g``. His second loop
        begins with ``q = B^-1 (g - Y' a)`` and adds multiples c of the steps: ``R' c = diag(R) a - Y q``. The result
        is ``q + S' c``.
        """
        if not len(self.steps):
            return self._solve_before(gradient)
        g, R = gradient.ravel(), self.products
        a, _ = lapack.dtrtrs(R, self.steps @ g)
        q = self._solve_before((g - a @ self.changes).reshape(gradient.shape))
        c, _ = lapack.dtrtrs(R, R.diagonal() * a - self.changes @ q.ravel(), trans=1)
        return np.asarray(q + (c @ self.steps).reshape(gradient.shape))

    def _solve_before(self, gradient: Float) -> Float:
        solution, _ = lapack.dpotrs(self.factor, gradient.T, lower=1)
        return np.ascontiguousarray(solution.T)
