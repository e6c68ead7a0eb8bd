"""Hyper models: which local model a row listens to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixtura.gates import DirichletGate, NeuralGate, SparseGate
from mixtura.gates.base import Gate
from mixtura.mixturelib._tensors import (
    Float,
    Tensor,
    placed,
    random_state,
    to_array,
    to_rows,
    to_tensor,
)
from mixtura.mixturelib.state import Immutable, Stateful
from mixtura.statistics import Moments
from mixtura.table import Table

__all__ = ["HyperExpertNN", "HyperModel", "HyperModelDirichlet", "HyperModelGateSparsed"]


class HyperModel(Stateful):
    """Base class of hyper models: derive from it to bring a gate of your own to :class:`MixtureEM`."""

    bound: float = 0.0  # the model's own term of the objective, minus the divergence from its prior

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Find the distribution of the weights, given responsibilities Z (N, K)."""
        raise NotImplementedError

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Find the model's parameters, given responsibilities Z (N, K)."""
        raise NotImplementedError

    def LogPiExpectation(self, X: Tensor, Y: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Expected log-probability of each local model for each row, (N, K)."""
        raise NotImplementedError

    def PredictPi(self, X: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Probability of each local model for each row, (N, K)."""
        raise NotImplementedError


class _OfGate(HyperModel, Immutable):
    """A hyper model that is one of mixtura's gates."""

    def __init__(self, gate: Gate, output_dim: int, device: str) -> None:
        if output_dim < 1:
            raise ValueError(f"output_dim must be positive, got {output_dim}")
        self.output_dim, self.device = output_dim, device
        self._gate, self._begun = gate, False

    def _begin(self, covariates: Table) -> None:
        if not self._begun:
            self._gate, self._begun = self._gate.start(self.output_dim, covariates, random_state()), True

    def _learn(self, X: Tensor, Z: Tensor) -> None:
        covariates, resp = placed(X), to_rows(Z, "Z")
        if resp.shape != (len(covariates), self.output_dim):
            raise ValueError(f"Z must be ({len(covariates)}, {self.output_dim}), it is {resp.shape}")
        self._begin(covariates)
        mass = Moments.of(to_rows(X, "X"), "mass", resp=resp)
        self._gate = self._gate.maximize(covariates, mass, resp)

    def _evaluate(self, X: Tensor, of: Callable[[Table, slice], Float]) -> Tensor:
        covariates = placed(X)
        self._begin(covariates)
        weights = of(covariates, slice(0, len(covariates)))
        return to_tensor(np.broadcast_to(weights, (len(covariates), self.output_dim)), X)

    @property
    def bound(self) -> float:  # type: ignore[override]
        """The gate's own terms of the objective."""
        return self._gate.bound if self._begun else 0.0

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Find the distribution of the weights, given responsibilities Z (N, K)."""
        self._learn(X, Z)

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Nothing is left to do."""

    def LogPiExpectation(self, X: Tensor, Y: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Expected log-probability of each local model for each row, (N, K)."""
        return self._evaluate(X, lambda covariates, cut: self._gate.log_weights(covariates, cut))

    def PredictPi(self, X: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Probability of each local model for each row, (N, K)."""
        return self._evaluate(
            X, lambda covariates, cut: np.exp(self._gate.log_probabilities(covariates, cut))
        )


class HyperModelDirichlet(_OfGate):
    """One distribution of the weights for all rows, Dirichlet with prior 1: :class:`mixtura.DirichletGate`.

    Parameters
    ----------
    output_dim : int, default=2
        K.
    device : str, default='cpu'
        Accepted; the arithmetic is done by mixtura's kernels.

    Examples
    --------
    >>> import torch
    >>> from mixtura.mixturelib.hyper_models import HyperModelDirichlet
    >>> X, Y = torch.zeros(3, 2), torch.zeros(3, 1)
    >>> HyperModelDirichlet(output_dim=2).LogPiExpectation(X, Y, {})[0]
    tensor([-1., -1.])
    """

    def __init__(self, output_dim: int = 2, device: str = "cpu") -> None:
        super().__init__(DirichletGate(1.0), output_dim, device)


class HyperModelGateSparsed(_OfGate):
    """A distribution of the weights for each row, Dirichlet with prior gamma mu: :class:`mixtura.SparseGate`.

    Parameters
    ----------
    output_dim : int, default=2
        K.
    gamma : float, default=1
    mu : tensor of shape (K,), default=None
        Mean of the prior, scaled to sum to 1; None learns it, from equal shares on.
    device : str, default='cpu'
    """

    def __init__(
        self, output_dim: int = 2, gamma: float = 1.0, mu: Tensor | None = None, device: str = "cpu"
    ) -> None:
        gate = SparseGate(float(gamma), None if mu is None else to_array(mu).reshape(-1))
        super().__init__(gate, output_dim, device)

    def LogPiExpectation(self, X: Tensor, Y: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Of the rows of the last E-step; as many others as there may be have the prior's."""
        gate = self._gate
        if isinstance(gate, SparseGate) and self._begun and len(X) != len(gate.alpha):
            return self._evaluate(X, gate.resume(self.output_dim, placed(X), random_state()).log_weights)
        return super().LogPiExpectation(X, Y, HyperParameters)


class HyperExpertNN(_OfGate):
    """Weights that a neural network reads from x: :class:`mixtura.NeuralGate` with two hidden layers.

    Parameters
    ----------
    input_dim : int, default=20
        D.
    hidden_dim : int, default=10
        Units of each hidden layer.
    output_dim : int, default=10
        K.
    epochs : int, default=100
        Steps of Adam in an M-step, each over all rows.
    device : str, default='cpu'
        Where torch trains the network.
    """

    def __init__(
        self,
        input_dim: int = 20,
        hidden_dim: int = 10,
        output_dim: int = 10,
        epochs: int = 100,
        device: str = "cpu",
    ) -> None:
        gate = NeuralGate(hidden=(hidden_dim, hidden_dim), steps=epochs, device=device)
        super().__init__(gate, output_dim, device)
        self.input_dim = input_dim

    def _begin(self, covariates: Table) -> None:
        if covariates.rows.dims != self.input_dim:
            raise ValueError(f"X must have {self.input_dim} columns, it has {covariates.rows.dims}")
        super()._begin(covariates)

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Nothing to do: the network is trained in the M-step."""

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Train the network on ``sum_ik z_ik log pi_k(x_i)``, which does not fall."""
        self._learn(X, Z)

    def forward(self, input: Tensor) -> Tensor:
        """Log-weights (N, K) of rows (N, D)."""
        return self.LogPiExpectation(input, None, {})

    def __call__(self, input: Tensor) -> Tensor:
        """See :meth:`forward`."""
        return self.forward(input)
