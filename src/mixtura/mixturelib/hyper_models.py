"""Hyper models: which local model a row listens to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mixtura.found import Found
from mixtura.gates import DirichletGate, NeuralGate, SparseGate
from mixtura.gates.base import Gate
from mixtura.mixturelib._tensors import (
    Float,
    Tensor,
    floating,
    placed,
    random_state,
    to_array,
    to_rows,
    to_tensor,
    torch,
)
from mixtura.mixturelib.state import Immutable, Stateful
from mixtura.moments import Moments
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
        covariates, resp = placed(X), self._responsibilities(X, Z)
        self._begin(covariates)
        mass = Moments.of(to_rows(X, "X"), "mass", resp=resp)
        self._gate = self._gate.maximize(Found(covariates, mass, resp=resp))

    def _responsibilities(self, X: Tensor, Z: Tensor) -> Float:
        """Z as (N, K): one row, or one column, stands for all."""
        resp, shape = to_rows(Z, "Z"), (len(X), self.output_dim)
        if any(found not in (1, wanted) for found, wanted in zip(resp.shape, shape, strict=True)):
            raise ValueError(f"Z must be {shape}, it is {resp.shape}")
        return np.array(np.broadcast_to(resp, shape))

    def _evaluate(self, X: Tensor, of: Callable[[Table], Float]) -> Tensor:
        covariates = placed(X)
        self._begin(covariates)
        weights = of(covariates)
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
        return self._evaluate(X, lambda rows: self._gate.log_weights(rows))

    def PredictPi(self, X: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Probability of each local model for each row, (N, K)."""
        return self._evaluate(X, lambda rows: np.exp(self._gate.log_probabilities(rows)))


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
        self.mu, self.N = torch.ones(output_dim), 0

    @property
    def m(self) -> Tensor:
        """The posterior Dir(m), (K,)."""
        return to_tensor(self._gate.saved["posterior"], self.mu) if self._begun else self.mu.clone()

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """``m = mu + sum_i z_i``, over the rows of Z (N, K)."""
        resp = to_rows(Z, "Z")
        if resp.shape[1] != self.output_dim:
            raise ValueError(f"Z must be (N, {self.output_dim}), it is {resp.shape}")
        self._begin(placed(X))
        mass = Moments.of(np.zeros((len(resp), 1)), "mass", resp=resp)
        self._gate = self._gate.maximize(Found(placed(X), mass, resp=resp))
        self.N = len(resp)

    def PredictPi(self, X: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """``m / sum m``, (N, K); zeros where m sums to 0, as responsibilities of less than nothing can make it."""
        if float(self.m.sum()) == 0.0:
            return torch.zeros(len(X), self.output_dim)
        return super().PredictPi(X, HyperParameters)


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
        self.gamma = float(gamma)
        self._given_mu = None if mu is None else to_array(mu).reshape(-1)
        super().__init__(SparseGate(self.gamma, self._given_mu), output_dim, device)
        if self._given_mu is None:
            # The E-step holds the prior's mean, which the M-step learns.
            self._gate = SparseGate(self.gamma, np.full(output_dim, 1.0 / output_dim))

    @property
    def mu(self) -> Tensor:
        """Mean of the prior, (K,)."""
        mean = self._gate.saved["mean"]
        if mean is None:
            mean = np.asarray(self._gate.parameters["mu"])
            mean = mean / mean.sum()
        return to_tensor(mean, torch.empty(0))

    @property
    def gamma_posterior(self) -> Tensor:
        """Concentrations of the rows' posteriors, (N, 1), after an E-step."""
        return to_tensor(self._alpha().sum(axis=1, keepdims=True), torch.empty(0))

    @property
    def mu_posterior(self) -> Tensor:
        """Means of the rows' posteriors, (N, K), after an E-step."""
        alpha = self._alpha()
        return to_tensor(alpha / alpha.sum(axis=1, keepdims=True), torch.empty(0))

    def _alpha(self) -> Float:
        if not self._begun:
            raise AttributeError("the rows have no posteriors before an E_step")
        return np.asarray(getattr(self._gate, "alpha"))  # noqa: B009

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Learn the prior's mean from the rows' posteriors, unless it was given."""
        gate = self._gate
        if self._begun and self._given_mu is None and isinstance(gate, SparseGate):
            resp = self._responsibilities(X, Z)
            found = Found(placed(X), Moments.of(resp, "mass", resp=resp), resp=resp)
            learnt = replace(gate, mu=None).maximize(found)
            self._gate = replace(learnt, mu=gate.mu)

    def LogPiExpectation(self, X: Tensor, Y: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Of the rows of the last E-step; as many others as there may be have the prior's."""
        gate = self._gate
        if isinstance(gate, SparseGate) and self._begun and len(X) != len(gate.alpha):
            return self._evaluate(X, gate.resume(self.output_dim, placed(X), random_state()).log_weights)
        return super().LogPiExpectation(X, Y, HyperParameters)


class HyperExpertNN(torch.nn.Module, _OfGate):  # type: ignore[misc]
    """Weights that a neural network reads from x: :class:`mixtura.NeuralGate` with two hidden layers.

    A torch module, whose parameters are the network of x itself; it is trained on standardised columns.

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
        torch.nn.Module.__init__(self)
        gate = NeuralGate(hidden=(hidden_dim, hidden_dim), steps=epochs, device=device)
        _OfGate.__init__(self, gate, output_dim, device)
        self.input_dim, self.epochs = input_dim, epochs
        self.linear1 = torch.nn.Linear(input_dim, hidden_dim)
        self.linear2 = torch.nn.Linear(hidden_dim, hidden_dim)
        self.linear3 = torch.nn.Linear(hidden_dim, output_dim)
        self.to(device)

    def state(self) -> dict[str, Any]:
        """What the object holds now, the network's parameters copied."""
        return {"network": copy.deepcopy(self.state_dict()), "gate": self._gate, "begun": self._begun}

    def restore(self, state: dict[str, Any]) -> None:
        """Hold what :meth:`state` gave."""
        self.load_state_dict(state["network"])
        self._gate, self._begun = state["gate"], state["begun"]

    def _check(self, X: Tensor) -> None:
        if to_rows(X, "X").shape[1] != self.input_dim:
            raise ValueError(f"X must have {self.input_dim} columns, it has {X.shape[1]}")

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Nothing to do: the network is trained in the M-step."""

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: dict[str, Tensor]) -> None:
        """Train the network on ``sum_ik z_ik log pi_k(x_i)``, which does not fall."""
        self._check(X)
        covariates = placed(X)
        self._begin(covariates)
        gate = self._gate
        assert isinstance(gate, NeuralGate)
        linear = (self.linear1, self.linear2, self.linear3)
        layers = [to_array(p).T.copy() for one in linear for p in (one.weight, one.bias)]
        # The first layer of x, and of the standardised x.
        layers[1] = layers[1] + gate.center @ layers[0]
        layers[0] = layers[0] * gate.scale[:, None]
        self._gate = replace(gate, layers=layers)
        self._learn(X, Z)
        learnt = [np.array(layer) for layer in self._gate.saved["layers"]]
        learnt[0] = learnt[0] / gate.scale[:, None]
        learnt[1] = learnt[1] - gate.center @ learnt[0]
        with torch.no_grad():
            for i, one in enumerate(linear):
                one.weight.copy_(torch.as_tensor(learnt[2 * i].T))
                one.bias.copy_(torch.as_tensor(learnt[2 * i + 1]))

    def forward(self, input: Tensor) -> Tensor:
        """Log-weights, up to a constant a row, (N, K), of rows (N, D)."""
        self._check(input)
        hidden = torch.relu(self.linear1(input.to(self.linear1.weight.dtype)))
        return self.linear3(torch.relu(self.linear2(hidden)))

    def LogPiExpectation(self, X: Tensor, Y: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Log-probability of each local model for each row, (N, K)."""
        with torch.no_grad():
            return torch.log_softmax(self.forward(X), dim=-1).to(floating(X))

    def PredictPi(self, X: Tensor, HyperParameters: dict[str, Tensor]) -> Tensor:
        """Probability of each local model for each row, (N, K)."""
        return torch.exp(self.LogPiExpectation(X, None, HyperParameters))
