"""Local models: what the experts of a mixture say of y."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from mixtura import backends
from mixtura.components.linear import LinearExpert, LinearExperts, Priors
from mixtura.joint import Joint
from mixtura.mixturelib._tensors import Float, Tensor, number, to_array, to_rows, to_tensor, torch
from mixtura.mixturelib.state import Immutable, Stateful
from mixtura.moments import Moments

__all__ = ["EachModel", "EachModelLinear"]

# MixtureLib's names of what an expert's prior holds.
_NAMES = {"w_0": "prior_mean", "A": "prior_covariance"}


# Variance along a direction in which a prior has none: as good as none, and it can be inverted.
_LEAST = 2.0**-32

# Least standard deviation of the noise, as a share of the targets'.
_LEAST_NOISE = 2.0**-32


def _definite(A: Float) -> Float:
    """A prior covariance, where it is singular with variances that are as good as none."""
    if A.ndim < 2:
        return np.where(A == 0.0, _LEAST, A)
    if A.shape[0] != A.shape[1] or not (np.isfinite(A).all() and np.allclose(A, A.T)):
        return A
    values, vectors = np.linalg.eigh(A)
    if values[0] > 0.0 or values[0] < -1e-6 * abs(values[-1]):
        return A
    return np.asarray((vectors * np.maximum(values, _LEAST)) @ vectors.T)


class EachModel(Stateful):
    """Base class of local models: derive from it to bring a model of your own to :class:`MixtureEM`."""

    bound: float = 0.0  # the model's own term of the objective, minus the divergence from its prior

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Find the distribution of the parameters, given the weights Z (N, 1) of the rows."""
        raise NotImplementedError

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Find the model's own hyperparameters."""
        raise NotImplementedError

    def LogLikeLihoodExpectation(self, X: Tensor, Y: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Expected log-likelihood of each row, (N, 1)."""
        raise NotImplementedError

    def OptimizeHyperParameters(
        self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor], Parameter: str
    ) -> Tensor | None:
        """The model's part of a hyperparameter's new value, which is the sum of all parts; None: it has none.

        A model that does not define it has none of any.
        """
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """Predictions (N, 1) for rows (N, D)."""
        raise NotImplementedError

    def __call__(self, input: Tensor) -> Tensor:
        """See :meth:`forward`."""
        return self.forward(input)


class EachModelLinear(EachModel, Immutable):
    """Linear regression without an intercept, ``y = x'w + noise``: :class:`mixtura.LinearExpert` by another name.

    Parameters
    ----------
    input_dim : int, default=20
        D.
    device : str, default='cpu'
        Where W, B, A and w_0 live. The arithmetic is done by mixtura's kernels.
    A : tensor of shape (D,) or (D, D), default=None
        Prior covariance of w; None: no prior, maximum likelihood.
    w : tensor of shape (D,) or (D, 1), default=None
        Prior mean of w; None is 0 where there is an A.
    OptimizedHyper : collection of {'A', 'w_0', 'beta'}, default=all
        Which hyperparameters are learnt.

    Attributes
    ----------
    W : tensor of shape (D, 1)
        Mean of w; before a fit, within 1e-5 of w_0.
    B : tensor of shape (D, D)
        Covariance of w.
    A, w_0 : tensors, or None without a prior

    Examples
    --------
    >>> import torch
    >>> from mixtura.mixturelib.local_models import EachModelLinear
    >>> _ = torch.random.manual_seed(42)
    >>> w = torch.randn(2, 1)
    >>> X = torch.randn(10, 2)
    >>> Z = torch.ones(10, 1)
    >>> Y = X @ w + 0.1 * torch.randn(10, 1)
    >>> model = EachModelLinear(input_dim=2)
    >>> model.E_step(X[:8], Y[:8], Z[:8], {"beta": torch.tensor(1.0)})
    >>> model(X[8:]).view(-1)
    tensor([-0.1975, -0.2427])
    """

    def __init__(
        self,
        input_dim: int = 20,
        device: str = "cpu",
        A: Tensor | None = None,
        w: Tensor | None = None,
        OptimizedHyper: Collection[str] = ("w_0", "A", "beta"),
    ) -> None:
        unknown = set(OptimizedHyper) - {"w_0", "A", "beta"}
        if unknown:
            raise ValueError(f"OptimizedHyper knows 'w_0', 'A' and 'beta', not {sorted(unknown)}")
        self.input_dim, self.device, self.OptimizedHyper = input_dim, device, set(OptimizedHyper)
        spec = LinearExpert(
            None if w is None else to_array(w).reshape(-1),
            None if A is None else _definite(to_array(A)),
        )
        self._diagonal = A is not None and to_array(A).ndim < 2
        priors = Priors.of([spec], 1, input_dim, False, None)
        near = 1e-5 * to_array(torch.randn(1, 1, input_dim))
        if w is not None:
            near = priors.mean + 1e-5 * to_array(torch.randn(1, 1, input_dim))
        begun = LinearExperts.start(priors, False, True, np.full(1, 1e-30), np.ones(1))
        # Before the first E-step w is as uncertain as its prior says; without one, as a unit Gaussian.
        self._experts = replace(begun, slopes=near, posterior=priors.covariance[:, None])
        self._begun = False

    def _tensor(self, array: Float) -> Tensor:
        return to_tensor(array, torch.empty(0, device=self.device))

    @property
    def W(self) -> Tensor:
        """Mean of w, (D, 1)."""
        return self._tensor(self._experts.slopes[0].T)

    @property
    def B(self) -> Tensor:
        """Covariance of w, (D, D)."""
        if not (self._begun or self._experts.priors.present[0]):
            return self._tensor(np.eye(self.input_dim))
        return self._tensor(self._experts.posterior[0, 0])

    @property
    def A(self) -> Tensor | None:
        """Prior covariance, (D,) or (D, D) as it was given."""
        if not self._experts.priors.present[0]:
            return None
        covariance = self._experts.priors.covariance[0]
        return self._tensor(np.diag(covariance) if self._diagonal else covariance)

    @property
    def w_0(self) -> Tensor | None:
        """Prior mean, (D, 1)."""
        return self._tensor(self._experts.priors.mean[0].T) if self._experts.priors.present[0] else None

    @property
    def bound(self) -> float:  # type: ignore[override]
        """Minus the divergence of q(w) from its prior."""
        return self._experts.bound if self._begun else 0.0

    def _given(self, HyperParameters: dict[str, Tensor]) -> LinearExperts:
        if "beta" not in HyperParameters:
            raise ValueError("EachModelLinear needs the hyperparameter 'beta', the variance of the noise")
        return replace(self._experts, noise=np.full((1, 1), number(HyperParameters["beta"], "beta")))

    def _rows(self, X: Tensor, Y: Tensor) -> Float:
        x, y = to_rows(X, "X"), to_rows(Y, "Y")
        if x.shape[1] != self.input_dim or y.shape != (len(x), 1):
            raise ValueError(
                f"X and Y must be (N, {self.input_dim}) and (N, 1), they are {x.shape} and {y.shape}"
            )
        return np.hstack([x, y])

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """``B = (A^-1 + Z'XX / s)^-1``, ``W = B (A^-1 w_0 + Z'XY / s)``, with s the noise variance 'beta'.

        A model that got no rows stays as it is.
        """
        rows, resp = self._rows(X, Y), to_rows(Z, "Z")
        if resp.shape != (len(rows), 1):
            raise ValueError(f"Z must be ({len(rows)}, 1), it is {resp.shape}")
        if not resp.any():
            return
        moments = Moments.of(rows, "full", resp=resp, pivot=rows.mean(axis=0))
        given = self._given(HyperParameters)
        self._experts, self._begun = replace(given.fitted(moments), noise=given.noise), True

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """``w_0 = W``, ``A = B + (W - w_0)(W - w_0)'``, those of them that are learnt."""
        learnt = frozenset(_NAMES[name] for name in self.OptimizedHyper & set(_NAMES))
        priors = replace(self._experts.priors, learnt=(learnt,))
        if priors.present[0] and self._begun:
            updated = priors.updated(self._experts.slopes, self._experts.posterior)
            self._experts = replace(self._experts, priors=replace(updated, learnt=(frozenset(),)))

    def LogLikeLihoodExpectation(self, X: Tensor, Y: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """``-1/2 log(2 pi s) - E(y - x'w)^2 / 2s`` of each row, (N, 1); no array of N x N."""
        return to_tensor(self._log_densities(X, Y, HyperParameters), X)

    def _log_densities(self, X: Tensor, Y: Tensor, HyperParameters: dict[str, Tensor]) -> Float:
        backend, given, rows = backends.create("auto"), self._given(HyperParameters), self._rows(X, Y)
        joint = backend.log_joint(backend.place(rows), Joint(given.quadratics, np.zeros(1)))
        if not (self._begun or given.priors.present[0]):
            joint -= 0.5 * np.sum(rows[:, :-1] ** 2, axis=1, keepdims=True) / given.noise[0, 0]
        return joint

    def OptimizeHyperParameters(
        self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor], Parameter: str
    ) -> Tensor | None:
        """Of 'beta': ``sum_i z_i E(y_i - x_i'w)^2 / N``, so that the sum over the models is the mean over the rows.

        A model that does not learn 'beta' hands on the present one for its rows.
        """
        if Parameter != "beta":
            return None
        s, z = number(HyperParameters["beta"], "beta"), to_rows(Z, "Z")
        squares = np.full((len(z), 1), s)
        if "beta" in self.OptimizedHyper:
            density = self._log_densities(X, Y, HyperParameters)
            squares = -2.0 * s * (density + 0.5 * np.log(2.0 * np.pi * s))
        # Rows that are met exactly would leave no noise, under which nothing has a density.
        least = (_LEAST_NOISE * (float(to_array(Y).std()) or 1.0)) ** 2
        return to_tensor(max(float(np.sum(z * squares)) / len(z), least), X)

    def forward(self, input: Tensor) -> Tensor:
        """``input @ W``."""
        return to_tensor(to_rows(input, "X") @ self._experts.slopes[0].T, input)
