"""Graphs in ONNX, as the steps that a model's predictions take.

A :class:`Graph` collects steps; each returns the name of its result, which later steps take. Numbers are float64 inside
a graph, whatever its inputs are, so that results have as many digits as the model's own.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.files import write_whole
from mixtura.quadratics import Quadratics

Float = NDArray[np.float64]

# The version of ONNX's operators.
_OPSET = 18

# The input, and what it is in float64.
INPUT, ROWS = "X", "rows"


class Graph:
    """Steps from rows X (N, D) to results.

    Parameters
    ----------
    columns : int
        D.
    dtype : {'float32', 'float64'}
        Of X, and of the results that are no labels.

    Raises
    ------
    ImportError
        The package onnx is not installed.
    """

    def __init__(self, columns: int, dtype: str) -> None:
        try:
            import onnx
        except ImportError as error:
            raise ImportError(f"onnx cannot be imported ({error}); pip install 'mixtura[onnx]'") from error
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        self._onnx: Any = onnx
        self._nodes: list[Any] = []
        self._arrays: list[Any] = []
        self._outputs: list[Any] = []
        types = onnx.TensorProto
        self._type = {"float32": types.FLOAT, "float64": types.DOUBLE}[dtype]
        self._inputs = [onnx.helper.make_tensor_value_info(INPUT, self._type, [None, columns])]
        self._nodes.append(onnx.helper.make_node("Cast", [INPUT], [ROWS], to=types.DOUBLE))

    def step(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One operator; returns the name of its result."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def array(self, values: ArrayLike) -> str:
        """A constant, of float64 or int64."""
        held = np.asarray(values)
        held = np.ascontiguousarray(held, dtype=np.int64 if held.dtype.kind in "iu" else np.float64)
        name = f"array_{len(self._arrays)}"
        self._arrays.append(self._onnx.numpy_helper.from_array(held, name))
        return name

    def joint(self, rows: str, quadratics: Quadratics) -> str:
        """The K log-densities of quadratics at rows, (N, K)."""
        center = quadratics.center  # keeps the digits of rows that are far from the origin
        moved = self.step("Sub", rows, self.array(center))
        means = quadratics.means - center
        squares = self.squares(moved, means, quadratics.factors, quadratics.form)
        out = self.step("Sub", self.array(quadratics.offsets), self.step("Mul", squares, self.array(0.5)))
        if quadratics.linear is not None:
            along = self.step("MatMul", moved, self.array(quadratics.linear.T))
            level = np.einsum("kd,kd->k", quadratics.linear, means)
            out = self.step("Add", out, self.step("Sub", along, self.array(level)))
        return out

    def squares(self, rows: str, means: Float, factors: Float, form: str) -> str:
        """``|F_k (x_i - m_k)|^2``, (N, K): see :class:`mixtura.quadratics.Quadratics`."""
        if form in ("scalar", "diagonal"):
            scale = factors[:, None] if form == "scalar" else factors
            away = self.step("Sub", self.step("Unsqueeze", rows, self.array([1])), self.array(means))
            return self.step(
                "ReduceSumSquare", self.step("Mul", away, self.array(scale)), self.array([2]), keepdims=0
            )
        turned = self.step("MatMul", rows, self.array(factors.transpose(0, 2, 1)))  # (K, N, R)
        place = np.matmul(factors, means[:, :, None]).transpose(0, 2, 1)
        away = self.step("Sub", turned, self.array(place))
        return self.step(
            "Transpose", self.step("ReduceSumSquare", away, self.array([2]), keepdims=0), perm=[1, 0]
        )

    def sums(self, name: str, axis: int) -> str:
        """The sum over an axis, which is dropped."""
        return self.step("ReduceSum", name, self.array([axis]), keepdims=0)

    def log_normalized(self, joint: str) -> tuple[str, str]:
        """Log-probabilities (N, K) and the log of the sum of the densities, (N, 1)."""
        total = self.step("ReduceLogSumExp", joint, self.array([1]), keepdims=1)
        return self.step("Sub", joint, total), total

    def reply(self, name: str, result: str, axes: list[int | str | None]) -> None:
        """Make a result one of the graph's outputs, under a name, in the type of X."""
        helper = self._onnx.helper
        self._nodes.append(helper.make_node("Cast", [result], [name], to=self._type))
        self._outputs.append(helper.make_tensor_value_info(name, self._type, axes))

    def reply_labels(self, joint: str, noise: int | None = None) -> None:
        """Make the component with the largest value, (N,), the output ``label``, and that of the noise -1."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        label = self.step("ArgMax", joint, axis=1, keepdims=0)
        if noise is not None:
            is_noise = self.step("Equal", label, self.array(noise))
            label = self.step("Where", is_noise, self.array(-1), label)
        self._nodes.append(helper.make_node("Identity", [label], ["label"]))
        self._outputs.append(helper.make_tensor_value_info("label", types.INT64, [None]))

    def model(self, name: str) -> Any:
        """The whole as a checked ``onnx.ModelProto``."""
        from mixtura._version import __version__

        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._arrays)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=9,
            producer_name="mixtura",
            producer_version=__version__,
        )
        self._onnx.checker.check_model(model, full_check=True)
        return model


def written(model: Any, path: str | os.PathLike[str] | None) -> Any:
    """The model, which is also written to a file if there is a path."""
    if path is not None:
        data = model.SerializeToString()

        def write(name: str) -> None:
            with open(name, "wb") as file:
                file.write(data)

        write_whole(path, write)
    return model
