"""A neural network as a gate. It needs torch, which is imported when a fit begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mixtura.found import Found
from mixtura.gates.base import Gate, log_normalized, state
from mixtura.optional import import_torch
from mixtura.table import Table

if TYPE_CHECKING:
    from mixtura.interop.graph import Graph

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NeuralGate(Gate):
    """``pi(x) = softmax(network(x))``, a multilayer perceptron with rectified units on standardised columns.

    An M-step is ``steps`` steps of Adam on ``sum_ik w_i r_ik log pi_k(x_i)`` in float64, with at most ``batch_size``
    rows in each. The optimiser's state is kept from one M-step to the next. The M-step returns the best weights it has
    seen; if none are better than before, it returns those and halves the learning rate, so the objective does not fall.
    Prediction does not need torch.

    Parameters
    ----------
    hidden : sequence of int, default=(10, 10)
        Numbers of units in the hidden layers.
    learning_rate : float, default=0.02
        Adam's first learning rate.
    steps : int, default=20
        Steps of Adam in an M-step.
    batch_size : int, default=131072
        Most rows in a step of Adam.
    device : str, default='cpu'
        The device on which torch computes: 'cpu' or 'cuda'.

    Attributes
    ----------
    center, scale : ndarray of shape (D,)
        Mean and standard deviation of the columns.
    layers : list of ndarray
        Weight (in, out) and bias (out,) of each layer.

    Examples
    --------
    >>> from mixtura import NeuralGate, MixtureOfExperts
    >>> MixtureOfExperts(gate=NeuralGate(hidden=(16,), steps=50)).gate
    NeuralGate(hidden=(16,), learning_rate=0.02, steps=50, batch_size=131072, device='cpu')
    """

    name: ClassVar[str] = "neural"
    tol: ClassVar[float] = 1e-6
    looks_at_rows: ClassVar[bool] = True
    needs_responsibilities: ClassVar[bool] = True

    hidden: Sequence[int] = (10, 10)
    learning_rate: float = 0.02
    steps: int = 20
    batch_size: int = 1 << 17
    device: str = "cpu"
    center: Float = state()
    scale: Float = state()
    layers: list[Float] = state()
    trainer: _Trainer = state(saved=False)

    def start(self, components: int, table: Table, rng: np.random.RandomState) -> Self:
        """See :meth:`Gate.start`."""
        hidden = list(self.hidden) if isinstance(self.hidden, Sequence) else [0]
        if not all(isinstance(h, int | np.integer) and h >= 1 for h in hidden):
            raise ValueError(f"hidden must be a sequence of positive numbers of units, got {self.hidden!r}")
        if not self.learning_rate > 0.0 or self.steps < 1 or self.batch_size < 1:
            raise ValueError("learning_rate, steps and batch_size must be positive")
        dims = table.x.shape[1]
        center, deviation = (column[:dims] for column in table.column_spread())
        sizes = [dims, *hidden, components]
        layers: list[Float] = []
        for inputs, outputs in pairwise(sizes):
            layers.append(rng.normal(scale=np.sqrt(2.0 / inputs), size=(inputs, outputs)))
            layers.append(np.zeros(outputs))
        layers[-2] = np.zeros_like(layers[-2])  # at first all components are equally likely
        trainer = _Trainer(layers, self.learning_rate, self.device)
        # What is left of a constant column is rounding.
        scale = np.where(deviation > 16.0 * np.finfo(np.float64).eps * np.abs(center), deviation, 1.0)
        return replace(self, center=center, scale=scale, layers=layers, trainer=trainer)

    def log_weights(self, block: Table) -> Float:
        """``log pi(x)``, (n, K)."""
        out = np.asarray((block.x - self.center) / self.scale)
        last = len(self.layers) - 2
        for i in range(0, len(self.layers), 2):
            out = out @ self.layers[i] + self.layers[i + 1]
            if i < last:
                np.maximum(out, 0.0, out=out)
        return log_normalized(out)

    def maximize(self, found: Found) -> Self:
        """Steps of Adam; the weights stay as they are if no step raises the objective."""
        assert found.resp is not None
        table, resp = found.table, found.resp
        if table.sample_weight is not None:
            resp = resp * table.sample_weight[:, None]
        size = self.batch_size
        cuts = [slice(i, min(i + size, len(resp))) for i in range(0, len(resp), size)]

        def batches() -> Iterator[tuple[Float, Float]]:
            for cut in cuts:
                yield np.asarray((table.x[cut] - self.center) / self.scale), resp[cut]

        return replace(self, layers=self.trainer.improved(self.layers, batches, len(cuts), self.steps))

    def log_probabilities(self, block: Table) -> Float:
        """``log pi(x)``, (n, K)."""
        return self.log_weights(block)

    def symbolic(self, graph: Graph, rows: str) -> str:
        """See :meth:`Gate.symbolic`."""
        moved = graph.step("Sub", rows, graph.array(self.center))
        out = graph.step("Div", moved, graph.array(self.scale))
        for i in range(0, len(self.layers), 2):
            out = graph.step("MatMul", out, graph.array(self.layers[i]))
            out = graph.step("Add", out, graph.array(self.layers[i + 1]))
            if i < len(self.layers) - 2:
                out = graph.step("Relu", out)
        return graph.log_normalized(out)[0]

    def n_parameters(self, components: int, dims: int) -> int:
        """Number of weights and biases, where the last layer counts for one component less."""
        sizes = [dims, *self.hidden, components - 1]
        return sum((i + 1) * o for i, o in pairwise(sizes))


class _Trainer:
    """The torch part of a neural gate: parameters and the state of Adam.

    Parameters
    ----------
    layers : list of ndarray
        Arrays of the layers' shapes.
    learning_rate : float
    device : str
    """

    def __init__(self, layers: list[Float], learning_rate: float, device: str) -> None:
        self._torch = import_torch("NeuralGate")
        try:
            self._layers = [
                self._torch.tensor(layer, dtype=self._torch.float64, device=device, requires_grad=True)
                for layer in layers
            ]
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"NeuralGate(device={device!r}): torch cannot use this device: {error}"
            ) from error
        self._device, self._rate = device, learning_rate
        self._adam = self._torch.optim.Adam(self._layers, lr=learning_rate)

    def __getstate__(self) -> dict[str, Any]:
        """Adam's state as arrays, from which a fit goes on in another process."""
        moments = [
            {name: value.detach().cpu().numpy() for name, value in self._adam.state[layer].items()}
            for layer in self._layers
            if layer in self._adam.state
        ]
        layers = [layer.detach().cpu().numpy() for layer in self._layers]
        return {"layers": layers, "rate": self._rate, "device": self._device, "moments": moments}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["layers"], state["rate"], state["device"])  # type: ignore[misc]
        for layer, moments in zip(self._layers, state["moments"], strict=False):
            # The number of steps stays on the host, as Adam keeps it.
            self._adam.state[layer] = {
                name: self._torch.as_tensor(value, device="cpu" if name == "step" else self._device)
                for name, value in moments.items()
            }

    def _objective(self, X: Any, resp: Any) -> Any:
        """``sum_ik r_ik log pi_k(x_i)``."""
        out = X
        last = len(self._layers) - 2
        for i in range(0, len(self._layers), 2):
            out = out @ self._layers[i] + self._layers[i + 1]
            if i < last:
                out = self._torch.relu(out)
        return (self._torch.log_softmax(out, dim=-1) * resp).sum()

    def improved(self, layers: list[Float], batches: Any, n_batches: int, steps: int) -> list[Float]:
        """Layers whose objective over all batches is not less than that of the given ones.

        Parameters
        ----------
        layers : list of ndarray
        batches : callable
            Returns a new iterator over the batches of (x, responsibilities).
        n_batches, steps : int
        """
        torch = self._torch
        with torch.no_grad():
            for parameter, layer in zip(self._layers, layers, strict=True):
                parameter.copy_(torch.as_tensor(layer))
        only_batch = None
        if n_batches == 1:
            only_batch = [
                tuple(torch.as_tensor(a, device=self._device) for a in batch) for batch in batches()
            ]

        def tensors() -> Iterator[Any]:
            yield from only_batch or (
                tuple(torch.as_tensor(a, device=self._device) for a in batch) for batch in batches()
            )

        def snapshot() -> list[Float]:
            return [layer.detach().cpu().numpy().copy() for layer in self._layers]

        best, best_layers = self._total(tensors), layers
        done = 0
        while done < steps:
            for X, resp in tensors():
                objective = self._objective(X, resp)
                value = float(objective.detach())
                if n_batches == 1 and value > best:  # of all rows, so it can be compared at no cost
                    best, best_layers = value, snapshot()
                self._adam.zero_grad()
                (-objective / resp.sum()).backward()
                self._adam.step()
                done += 1
                if done == steps:
                    break
        if self._total(tensors) > best:
            best_layers = snapshot()
        if best_layers is layers:
            self._rate *= 0.5
            self._adam.param_groups[0]["lr"] = self._rate
        return best_layers

    def _total(self, tensors: Any) -> float:
        with self._torch.no_grad():
            return sum(float(self._objective(X, resp)) for X, resp in tensors())
