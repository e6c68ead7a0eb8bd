"""A mixture's density as a function of one vector of parameters.

::

    p(y | x) = sum_k pi_k(x) N(y | C_k [1; x], L_k L_k')

A Gaussian mixture has no covariates x: its rows are the targets y, and its coefficients C_k are the means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixtura.joint import Joint
from mixtura.layouts import Kind
from mixtura.quadratics import Quadratics
from mixtura.triangles import packed_size

Float = NDArray[np.float64]
Form = Literal["scalar", "diagonal", "triangle"]

# The kinds of moments that hold the scatter of each form of scale: for each component, and for all of them.
_KINDS: dict[Form, Kind] = {"scalar": "trace", "diagonal": "diagonal", "triangle": "full"}


@dataclass(frozen=True)
class ParametricMixture:
    """A mixture of Gaussians or of linear experts, given by its vector of parameters theta.

    Theta holds, one after the other:

    - the gate: ``log(w_k / w_K)`` for k < K; of a softmax gate the K - 1 rows ``[intercept, slopes]`` of the log-odds
      of component k against the last one;
    - the coefficients C_k, row by row: for each target an intercept, where there is one, and the slopes;
    - the scales L_k, packed row by row with logarithms on the diagonal: for 'diagonal' M logarithms of standard
      deviations, for 'scalar' one; one set for all components if they are shared.

    Parameters
    ----------
    components, covariates, targets : int
        K, Q and M.
    form : {'scalar', 'diagonal', 'triangle'}
        The form of the scales L.
    theta : ndarray of shape (P,)
    intercept : bool, default=True
        Whether each target has an intercept.
    softmax : bool, default=False
        Whether the weights depend on x.
    shared : bool, default=False
        Whether all components have one scale.
    """

    components: int
    covariates: int
    targets: int
    form: Form
    theta: Float
    intercept: bool = True
    softmax: bool = False
    shared: bool = False

    def __post_init__(self) -> None:
        if self.theta.shape != (self.size,):
            raise ValueError(
                f"theta has shape {self.theta.shape}, but this mixture has {self.size} parameters"
            )

    # ------------------------------------------------------------------ sizes and places

    @property
    def dims(self) -> int:
        """D: columns of a row [x; y]."""
        return self.covariates + self.targets

    @property
    def per_target(self) -> int:
        """B: coefficients of one target."""
        return self.covariates + int(self.intercept)

    @property
    def gate_row(self) -> int:
        """Numbers of one component's log-odds."""
        return 1 + self.covariates if self.softmax else 1

    @property
    def scale_row(self) -> int:
        """S: numbers of one scale."""
        return {"scalar": 1, "diagonal": self.targets, "triangle": packed_size(self.targets)}[self.form]

    @property
    def scale_count(self) -> int:
        """How many scales there are: 1 or K."""
        return 1 if self.shared else self.components

    @property
    def gate_size(self) -> int:
        """Numbers of the gate."""
        return (self.components - 1) * self.gate_row

    @property
    def coefficient_size(self) -> int:
        """Numbers of the coefficients."""
        return self.components * self.targets * self.per_target

    @property
    def size(self) -> int:
        """P."""
        return self.gate_size + self.coefficient_size + self.scale_count * self.scale_row

    def of_gate(self, k: int) -> slice:
        """Where the log-odds of component k < K - 1 stand."""
        return slice(k * self.gate_row, (k + 1) * self.gate_row)

    def of_coefficients(self, k: int) -> slice:
        """Where the coefficients of component k stand."""
        each = self.targets * self.per_target
        return slice(self.gate_size + k * each, self.gate_size + (k + 1) * each)

    def of_scale(self, k: int) -> slice:
        """Where the scale of component k stands."""
        start = self.gate_size + self.coefficient_size + (0 if self.shared else k) * self.scale_row
        return slice(start, start + self.scale_row)

    # ------------------------------------------------------------------ parts of theta

    @property
    def log_odds(self) -> Float:
        """The gate, (K - 1, 1) or (K - 1, 1 + Q)."""
        return self.theta[: self.gate_size].reshape(self.components - 1, self.gate_row)

    @property
    def coefficients(self) -> Float:
        """C, (K, M, B)."""
        part = self.theta[self.gate_size : self.gate_size + self.coefficient_size]
        return part.reshape(self.components, self.targets, self.per_target)

    @property
    def scales(self) -> Float:
        """The scales as they are kept, (1, S) or (K, S)."""
        return self.theta[self.gate_size + self.coefficient_size :].reshape(self.scale_count, self.scale_row)

    @property
    def deviations(self) -> Float:
        """The diagonals of L, (1, M) or (K, M)."""
        logs = self.scales
        if self.form == "triangle":
            logs = logs[:, diagonal_places(self.targets)]
        return np.exp(np.broadcast_to(logs, (self.scale_count, self.targets)))

    @property
    def choleskys(self) -> Float:
        """L, (1, M, M) or (K, M, M)."""
        M = self.targets
        L = np.zeros((self.scale_count, M, M))
        if self.form == "triangle":
            i, j = np.tril_indices(M)
            L[:, i, j] = self.scales
        L[:, np.arange(M), np.arange(M)] = self.deviations
        return L

    @cached_property
    def inverse_choleskys(self) -> Float:
        """L^-1, (1, M, M) or (K, M, M), by forward substitution.

        It is written in NumPy, because LAPACK's routine wakes the threads of BLAS, which then spin beside the kernels.
        """
        M = self.targets
        inverse = np.zeros((self.scale_count, M, M))
        reciprocals = 1.0 / self.deviations
        inverse[:, np.arange(M), np.arange(M)] = reciprocals
        if self.form == "triangle":
            L = self.choleskys
            for i in range(1, M):
                products = np.einsum("kj,kjm->km", L[:, i, :i], inverse[:, :i, :i])
                inverse[:, i, :i] = -reciprocals[:, i, None] * products
        return inverse

    @property
    def log_weights(self) -> Float:
        """Log pi of a gate that is the same for all rows, (K,)."""
        odds = np.append(self.log_odds[:, 0], 0.0)
        top = odds.max()
        return np.asarray(odds - top - math.log(np.exp(odds - top).sum()))

    def log_gate(self, x: NDArray[np.floating]) -> Float:
        """Log pi at rows of covariates (n, Q): (n, K)."""
        if not self.softmax:
            return np.broadcast_to(self.log_weights, (len(x), self.components))
        odds = np.zeros((len(x), self.components))
        odds[:, :-1] = self.log_odds[:, 0] + np.asarray(x, dtype=np.float64) @ self.log_odds[:, 1:].T
        top = odds.max(axis=1, keepdims=True)
        return np.asarray(odds - top - np.log(np.exp(odds - top).sum(axis=1, keepdims=True)))

    @property
    def sizes(self) -> Float:
        """Sizes of a large step of each parameter, (P,): the standard deviation of what it adds to, or 1."""
        sizes = np.ones(self.size)
        roots = np.broadcast_to(self.choleskys, (self.components, self.targets, self.targets))
        deviations = np.sqrt(np.sum(roots**2, axis=2))
        each = deviations
        if self.covariates:
            each = np.abs(self.coefficients) + deviations[:, :, None]
        sizes[self.gate_size : self.gate_size + self.coefficient_size] = each.ravel()
        if self.form == "triangle":
            i, j = np.tril_indices(self.targets)
            for k in range(self.scale_count):
                sizes[self.of_scale(k)] = np.where(i == j, 1.0, deviations[k, i])
        return sizes

    # ------------------------------------------------------------------ other forms

    def at(self, theta: Float) -> ParametricMixture:
        """The same mixture with other parameters (P,)."""
        return replace(self, theta=np.asarray(theta, dtype=np.float64))

    def unshared(self) -> ParametricMixture:
        """The same density with a scale for each component."""
        if not self.shared:
            return self
        scales = np.tile(self.scales[0], self.components)
        theta = np.concatenate([self.theta[: self.gate_size + self.coefficient_size], scales])
        return replace(self, shared=False, theta=theta)

    def sharing(self) -> NDArray[np.intp]:
        """For each parameter of :meth:`unshared`, the parameter of this mixture that it equals, (P',)."""
        if not self.shared:
            return np.arange(self.size)
        before = np.arange(self.gate_size + self.coefficient_size)
        scale = np.arange(self.scale_row) + len(before)
        return np.concatenate([before, np.tile(scale, self.components)])

    @property
    def kind(self) -> Kind:
        """The kind of moments of the rows from which gradients follow."""
        if self.covariates or (self.form == "triangle" and not self.shared):
            return "full"
        return "shared" if self.form == "triangle" else _KINDS[self.form]

    def joint(self, pivot: Float) -> Joint:
        """What a pass over rows evaluates; a softmax gate is not normalised: see :meth:`gate_joint`.

        Parameters
        ----------
        pivot : ndarray of shape (D,)
            A point among the rows.
        """
        log_norm = -np.log(self.deviations).sum(axis=1) - 0.5 * self.targets * math.log(2.0 * math.pi)
        offsets = np.array(np.broadcast_to(log_norm, self.components))
        C = self.coefficients
        if not self.covariates and self.intercept:
            if self.form == "triangle":
                factors = self.inverse_choleskys
            else:
                factors = 1.0 / (self.deviations[:, 0] if self.form == "scalar" else self.deviations)
            quadratics = Quadratics(self.form, offsets, np.ascontiguousarray(C[:, :, 0]), factors)
            return Joint(quadratics, self.log_weights)
        Q = self.covariates
        inverse = np.broadcast_to(self.inverse_choleskys, (self.components, self.targets, self.targets))
        factors = np.concatenate([-inverse @ C[:, :, self.per_target - Q :], inverse], axis=2)
        means = np.hstack([np.broadcast_to(pivot[:Q], (self.components, Q)), self._at(pivot[:Q])])
        quadratics = Quadratics("rectangle", offsets, means, np.ascontiguousarray(factors))
        if not self.softmax:
            return Joint(quadratics, self.log_weights)
        return Joint(quadratics.tilted(*self._tilt(pivot[:Q])), np.zeros(self.components))

    def gate_joint(self, pivot: Float) -> Joint:
        """The softmax gate alone, whose sum over the components is its normaliser."""
        flat = Quadratics.flat(self.components, pivot)
        return Joint(flat.tilted(*self._tilt(pivot[: self.covariates])), np.zeros(self.components))

    def _tilt(self, about: Float) -> tuple[Float, Float, Float]:
        odds = np.vstack([self.log_odds, np.zeros((1, self.gate_row))])
        return odds[:, 0] + odds[:, 1:] @ about, odds[:, 1:], about

    def _at(self, x: Float) -> Float:
        """The components' means of y at one point x (Q,): (K, M)."""
        C, first = self.coefficients, int(self.intercept)
        means = C[:, :, first:] @ x
        return np.asarray(means + C[:, :, 0] if self.intercept else means)

    def maps_to_residuals(self) -> tuple[Float, Float]:
        """A (K, D, D) and b (K, D) with ``A_k [x; y] + b_k = [x; y - C_k [1; x]]``."""
        Q, C = self.covariates, self.coefficients
        A = np.tile(np.eye(self.dims), (self.components, 1, 1))
        A[:, Q:, :Q] = -C[:, :, self.per_target - Q :]
        b = np.zeros((self.components, self.dims))
        if self.intercept:
            b[:, Q:] = -C[:, :, 0]
        return A, b

    def names(self, columns: list[str], targets: list[str]) -> list[str]:
        """A name for each parameter, (P,).

        Parameters
        ----------
        columns : list of str
            The Q names of the covariates.
        targets : list of str
            The M names of the targets.
        """
        K = self.components
        design = ["intercept"] * self.intercept + columns
        names = []
        for k in range(K - 1):
            names.append(f"log_odds[{k}]")
            names += [f"log_odds[{k}, {column}]" for column in columns] if self.softmax else []
        for k in range(K):
            for target in targets:
                if self.covariates:
                    names += [f"coef[{k}, {target}, {term}]" for term in design]
                else:
                    names.append(f"mean[{k}, {target}]")
        for k in range(self.scale_count):
            of = "" if self.shared else f"{k}"
            names += [f"{text.format(of)}".replace("[, ", "[") for text in self._scale_names(targets)]
        return names

    def _scale_names(self, targets: list[str]) -> Iterator[str]:
        if self.form == "scalar":
            yield "log_sd" if self.shared else "log_sd[{}]"
        elif self.form == "diagonal":
            yield from (f"log_sd[{{}}, {target}]" for target in targets)
        else:
            for i, row in enumerate(targets):
                yield from (f"cholesky[{{}}, {row}, {column}]" for column in targets[:i])
                yield f"log_cholesky[{{}}, {row}, {row}]"


def diagonal_places(size: int) -> NDArray[np.intp]:
    """Where the diagonal of a triangle stands when it is packed row by row, (M,)."""
    i = np.arange(size)
    return np.asarray(i * (i + 3) // 2)


def packed_scales(form: Form, choleskys: Float) -> Float:
    """Scales as theta keeps them, (n, S), from triangles (n, M, M) with a positive diagonal."""
    diagonal = np.log(np.diagonal(choleskys, axis1=1, axis2=2))
    if form == "scalar":
        return np.ascontiguousarray(diagonal[:, :1])
    if form == "diagonal":
        return diagonal
    M = choleskys.shape[-1]
    i, j = np.tril_indices(M)
    packed = np.array(choleskys[:, i, j])
    packed[:, diagonal_places(M)] = diagonal
    return packed
