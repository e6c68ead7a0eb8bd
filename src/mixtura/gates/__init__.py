"""Gates: the log-weights of a mixture's components."""

from mixtura.gates.base import Gate
from mixtura.gates.constant import ConstantGate
from mixtura.gates.dirichlet import DirichletGate
from mixtura.gates.gaussian import GaussianGate
from mixtura.gates.neural import NeuralGate
from mixtura.gates.softmax import SoftmaxGate
from mixtura.gates.sparse import SparseGate

__all__ = [
    "GATES",
    "ConstantGate",
    "DirichletGate",
    "Gate",
    "GaussianGate",
    "NeuralGate",
    "SoftmaxGate",
    "SparseGate",
]

GATES: dict[str, type[Gate]] = {
    gate.name: gate
    for gate in (ConstantGate, DirichletGate, SparseGate, SoftmaxGate, GaussianGate, NeuralGate)
}
