import numpy as np
from numpy.typing import NDArray

_Float = NDArray[np.float64]
_Rows = NDArray[np.floating]
_Pointer = tuple[int, bool, tuple[int, int], tuple[int, int]]

class DeviceError(RuntimeError): ...
class DeviceMemoryError(MemoryError): ...

class Quadratics:
    def __init__(self, form: str, offsets: _Float, means: _Float, factors: _Float) -> None: ...

class Scatters:
    diagonals: _Float
    finite: bool
    def brought(self, threads: int) -> _Float: ...
    def factors(self, mass: _Float, added: _Float) -> Factors | None: ...

class Factors:
    log_determinants: _Float
    def brought(self, threads: int) -> _Float: ...
    def measured(self, widths: _Float, vectors: _Float | None = None) -> _Float: ...
    def norms(self, variances: _Float) -> _Float: ...

class Table:
    def __init__(
        self,
        left: _Rows,
        right: _Rows | None,
        device: int,
        tile_bytes: int,
        budget: int,
        pinnable: bool,
        threads: int,
    ) -> None: ...
    @classmethod
    def on_device(cls, pointer: _Pointer, device: int, tile_bytes: int) -> Table: ...
    @property
    def resident(self) -> bool: ...
    def expect(
        self,
        begin: int,
        end: int,
        quadratics: Quadratics,
        log_weights: _Float,
        kind: str,
        pivot: _Float,
        sample_weight: _Float | None,
        hard: bool,
        single: bool,
        fast: bool,
        keep: bool,
        factors: Factors | None,
        threads: int,
    ) -> tuple[_Float, _Float, _Float | Scatters, float]: ...
    def accumulate(
        self,
        begin: int,
        end: int,
        resp: _Float,
        kind: str,
        pivot: _Float,
        sample_weight: _Float | None,
        threads: int,
    ) -> tuple[_Float, _Float, _Float, float]: ...
    def log_joint(
        self,
        begin: int,
        end: int,
        quadratics: Quadratics,
        log_weights: _Float,
        pivot: _Float,
        threads: int,
    ) -> _Float: ...
    def posterior(
        self,
        begin: int,
        end: int,
        quadratics: Quadratics,
        log_weights: _Float,
        pivot: _Float,
        resp: NDArray[np.floating] | None,
        threads: int,
    ) -> _Float: ...
    def assign(
        self,
        begin: int,
        end: int,
        quadratics: Quadratics,
        log_weights: _Float,
        pivot: _Float,
        single: bool,
        threads: int,
    ) -> tuple[NDArray[np.int32], _Float]: ...
    def survey(self, sample_weight: _Float | None) -> _Float: ...
    def gather(self, index: NDArray[np.int64]) -> _Float: ...

def unavailable() -> str: ...
def describe() -> str: ...
def device_of(address: int) -> int: ...
def read_dlpack(capsule: object) -> tuple[int, tuple[int, ...], str, tuple[int, ...]]: ...
def emulated() -> bool: ...
def set_emulated_capacity(bytes: int) -> None: ...
def set_emulated_warpgroups(wanted: bool) -> None: ...
def emulated_allocated() -> int: ...
