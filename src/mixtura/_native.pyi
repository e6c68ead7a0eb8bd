import numpy as np
from numpy.typing import NDArray

_Float = NDArray[np.float64]
_Rows = NDArray[np.floating]

class Table:
    def __init__(self, left: _Rows, right: _Rows | None) -> None: ...

class Quadratics:
    def __init__(
        self, form: str, offsets: _Float, means: _Float, factors: _Float, linear: _Float | None = None
    ) -> None: ...

def expect(
    rows: Table,
    quadratics: Quadratics,
    log_weights: _Float,
    kind: str,
    pivot: _Float,
    sample_weight: _Float | None,
    hard: bool,
    single: bool,
    threads: int,
) -> tuple[_Float, float]: ...
def expect_each(
    rows: Table,
    quadratics: Quadratics,
    log_weights: _Float,
    kind: str,
    pivot: _Float,
    own_pivots: _Float,
    wanted: NDArray[np.bool_],
    sample_weight: _Float | None,
    hard: bool,
    threads: int,
) -> tuple[_Float, float]: ...
def accumulate(
    rows: Table, resp: _Float, kind: str, pivot: _Float, sample_weight: _Float | None, threads: int
) -> tuple[_Float, float]: ...
def log_joint(
    rows: Table, quadratics: Quadratics, log_weights: _Float, pivot: _Float, threads: int
) -> _Float: ...
def assign(
    rows: Table, quadratics: Quadratics, log_weights: _Float, pivot: _Float, threads: int
) -> tuple[NDArray[np.int32], _Float]: ...
def posterior(
    rows: Table,
    quadratics: Quadratics,
    log_weights: _Float,
    pivot: _Float,
    resp: _Rows | None,
    threads: int,
) -> _Float: ...
def lloyd(
    rows: Table,
    quadratics: Quadratics,
    pivot: _Float,
    sample_weight: _Float | None,
    total_weight: float,
    max_iter: int,
    tol: float,
    threads: int,
) -> tuple[_Float, list[float], int]: ...
def seed(
    rows: Table,
    quadratics: Quadratics,
    sample_weight: _Float | None,
    order: NDArray[np.intp],
    components: int,
    trials: int,
    uniforms: _Float,
    threads: int,
) -> NDArray[np.intp]: ...
def searches(
    rows: Table,
    quadratics: Quadratics,
    pivot: _Float,
    sample_weight: _Float | None,
    order: NDArray[np.intp],
    components: int,
    trials: int,
    uniforms: _Float,
    total_weight: float,
    max_iter: int,
    tol: float,
    threads: int,
) -> tuple[_Float, NDArray[np.int32], _Float, NDArray[np.int32], NDArray[np.int32]]: ...

class Parametric:
    def __init__(
        self,
        components: int,
        covariates: int,
        targets: int,
        intercept: bool,
        softmax: bool,
        shared: bool,
        form: str,
        theta: _Float,
    ) -> None: ...

def adjoint(
    rows: Table, mixture: Parametric, resp: bool, scores: bool, gradient: bool, hessian: bool, threads: int
) -> tuple[_Float, _Float | None, _Float | None, _Float | None, _Float | None]: ...
def tangent(rows: Table, mixture: Parametric, direction: _Float, threads: int) -> tuple[_Float, _Float]: ...
def forward_rows(rows: Table, mixture: Parametric, threads: int) -> tuple[_Float, _Float, _Float]: ...
def forward_sums(
    rows: Table, mixture: Parametric, sample_weight: _Float | None, threads: int
) -> tuple[float, _Float, _Float]: ...
def average(
    rows: Table, resp: _Float, slopes: _Float, levels: _Float, variances: _Float, threads: int
) -> tuple[_Float, _Float]: ...
def fit_many(
    rows: Table,
    offsets: NDArray[np.int64],
    components: int,
    form: str,
    tied: bool,
    tol: float,
    reg_covar: _Float | float,
    max_iter: int,
    seed: int,
    labels: NDArray[np.int32] | None,
    start: tuple[_Float, _Float, _Float] | None,
    threads: int,
) -> tuple[_Float, _Float, _Float, _Float, NDArray[np.int32], NDArray[np.int32]]: ...
def advance(
    rows: Table,
    form: str,
    tied: bool,
    tol: float,
    reg_covar: _Float | float,
    max_iter: int,
    weights: _Float,
    means: _Float,
    covariances: _Float,
    labels: NDArray[np.int32] | None,
) -> tuple[_Float, _Float, _Float, list[float], int]: ...
def assign_many(
    rows: Table,
    offsets: NDArray[np.int64],
    form: str,
    tied: bool,
    weights: _Float,
    means: _Float,
    covariances: _Float,
    outcome: NDArray[np.int32],
    threads: int,
) -> NDArray[np.int32]: ...
def covariances(second: _Float, first: _Float, mass: _Float, threads: int) -> _Float: ...
def scatters(
    mass: _Float, first: _Float, second: _Float, pivot: _Float, covariates: int, constant: float
) -> tuple[_Float, _Float]: ...
def solve(
    xx: _Float, xy: _Float, delicate: float, solved: float
) -> tuple[_Float, _Float, _Float, _Float] | None: ...
def transposed(matrices: _Float, threads: int) -> _Float: ...
def widths(factors: _Float, variances: _Float, threads: int) -> tuple[float, float, float]: ...
def regress(
    mass: _Float,
    first: _Float,
    second: _Float,
    pivot: _Float,
    covariates: int,
    constant: float,
    delicate: float,
    solved: float,
    noise_floor: _Float,
    shared_noise: bool,
    rounding: float,
    nearly_exact: float,
    near_floor: float,
    empty: float,
) -> tuple[_Float, _Float, _Float, _Float, NDArray[np.bool_], NDArray[np.bool_]] | None: ...
def quadratics_of_experts(slopes: _Float, noise: _Float) -> tuple[_Float, _Float]: ...
def any_far(
    form: str, factors: _Float, means: _Float, point: _Float, lengths: float, distance: float
) -> bool: ...
def all_finite(*arrays: _Float) -> bool: ...
def ratios_to_spread(
    kind: str,
    mass: _Float,
    first: _Float,
    second: _Float,
    floor: float,
    near: float,
    wanted: bool,
    threads: int,
) -> tuple[bool, _Float]: ...
def diagonal_estimates(
    mass: _Float, first: _Float, second: _Float, added: _Float, threads: int
) -> tuple[_Float, _Float] | None: ...
def means_of(first: _Float, mass: _Float, pivot: _Float, threads: int) -> _Float: ...
def sums_of_logarithms(numbers: _Float, threads: int) -> _Float: ...
def elementwise_widths(
    factors: _Float, means: _Float, pivot: _Float, around: _Float, threads: int
) -> tuple[float, float, float]: ...
def inverse_cholesky(matrices: _Float, potrf: object, trtri: object, threads: int) -> _Float | None: ...
def common_axes(
    matrices: _Float,
    axes: _Float,
    mass: _Float,
    one_volume: bool,
    sweeps: int,
    angles: int,
    steps: int,
    drop: float,
) -> _Float: ...
def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def set_instruction_set(name: str) -> None: ...
def skipping() -> bool: ...
def set_skipping(on: bool) -> None: ...
def thread_limit() -> int: ...
def set_thread_limit(threads: int) -> None: ...
