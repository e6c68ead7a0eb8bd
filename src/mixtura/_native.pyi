import numpy as np
from numpy.typing import NDArray

_Float = NDArray[np.float64]
_Rows = NDArray[np.floating]

class Quadratics:
    def __init__(self, form: str, offsets: _Float, means: _Float, factors: _Float) -> None: ...

def expect(
    X: _Rows,
    quadratics: Quadratics,
    log_weights: _Float,
    kind: str,
    pivot: _Float,
    sample_weight: _Float | None,
    hard: bool,
    threads: int,
) -> tuple[_Float, float]: ...
def accumulate(
    X: _Rows, resp: _Float, kind: str, pivot: _Float, sample_weight: _Float | None, threads: int
) -> tuple[_Float, float]: ...
def log_joint(
    X: _Rows, quadratics: Quadratics, log_weights: _Float, pivot: _Float, threads: int
) -> _Float: ...
def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def set_instruction_set(name: str) -> None: ...
def thread_limit() -> int: ...
def set_thread_limit(threads: int) -> None: ...
