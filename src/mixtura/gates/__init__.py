"""Gates: where the log-weights of a mixture come from."""

from mixtura.gates.constant import ConstantGate

__all__ = ["ConstantGate"]
