"""CUDA kernels: one fused pass per iteration over rows that are on a device, or are streamed through it."""

from __future__ import annotations

import importlib
import operator
import os
from copy import copy
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixtura.backends.base import Float, Precision, Rows, Rows2D
from mixtura.backends.compiled import CompiledBackend, is_single, readable, relative_width
from mixtura.backends.derivatives import Derivatives
from mixtura.backends.device_arrays import Description, is_device_array
from mixtura.backends.device_matrices import DeviceScatters
from mixtura.joint import Joint
from mixtura.moments import Kind, Moments, Parts
from mixtura.quadratics import Quadratics

# Largest width of a table, in spreads of a component, at which products of bfloat16 pairs are accurate enough. They
# have a relative error of 2^-17, and a whitened row has an error of that times the width. A log-density of D columns is
# about 1.4 D, and its relative error about 2^-17 width / (1.4 sqrt(D)), which for 16 columns is 1e-5 at this width.
_FAST_WIDTH = 8.0

# What the kernels are given as the factors of quadratics that have theirs on the device.
_ON_THE_DEVICE = np.zeros((0, 0, 0))


def _in_memory(array: Any) -> bool:
    """Whether an array's numbers are NumPy's own memory, not a file's or another library's."""
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        if array.base is None:
            return True
        array = array.base
    return False


class DeviceArray:
    """A table on a device, of which the host can read parts and statistics without copying the whole.

    Indexing copies the chosen rows to the host.

    Parameters
    ----------
    X : array with ``__cuda_array_interface__`` or DLPack, (N, D), float32 or float64
    module : module
        The kernels.
    tile_bytes : int
        See :class:`CudaBackend`.
    """

    ndim = 2

    def __init__(self, X: Any, module: ModuleType, tile_bytes: int = 0) -> None:
        described = Description.of(X, module.read_dlpack)
        self._owner = described.owner
        self.shape = described.shape
        self.dtype = described.dtype
        self.device = module.device_of(described.address) if described.shape[0] * described.shape[1] else 0
        if self.device < 0:
            raise ValueError("X says that it lies on a CUDA device, but no device knows its memory")
        pointer = (described.address, described.dtype == np.float32, described.shape, described.strides)
        self.table = module.Table.on_device(pointer, self.device, tile_bytes)
        self._findings: dict[int, tuple[Float | None, Float]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Copy rows to the host; with two indices, the second selects columns of these rows."""
        if isinstance(index, tuple):
            rows, columns = index
            return np.asarray(self[rows][..., columns])
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.flatnonzero(index) if np.asarray(index).dtype == bool else np.asarray(index)
        chosen = np.atleast_1d(index).astype(np.int64)
        rows = self.table.gather(np.where(chosen < 0, chosen + len(self), chosen))
        return np.asarray(rows[0] if np.ndim(index) == 0 else rows, dtype=self.dtype)

    def survey(self, sample_weight: Float | None = None) -> Float:
        """For each column the number of NaN, of infinities, the least and the largest finite number, (D, 4).

        Rows of weight 0 are ignored.
        """
        key = id(sample_weight)
        if key not in self._findings:
            self._findings[key] = (sample_weight, self.table.survey(sample_weight))
        return self._findings[key][1]


@dataclass
class CudaRows(Rows):
    """Rows of a table that is placed with a device: all of them, or those from ``begin`` to ``end``."""

    table: Any = None
    begin: int = 0
    end: int = 0

    def __len__(self) -> int:
        return self.end - self.begin

    def block(self, start: int, stop: int) -> CudaRows:
        """Rows ``start`` to ``stop``, without a copy."""
        weights = None if self.sample_weight is None else self.sample_weight[start:stop]
        begin, end = (self.begin + min(max(at, 0), len(self)) for at in (start, stop))
        return CudaRows(self.X, self.y, weights, table=self.table, begin=begin, end=max(begin, end))

    def without_targets(self) -> CudaRows:
        """As they are: the table on the device has both."""
        return self


class CudaBackend(CompiledBackend):
    """Kernels for CUDA devices of compute capability 7.5 and later.

    Parameters
    ----------
    n_threads : int, default=None
        Number of host threads that gather rows before they go to the device.
    precision : {'exact', 'fast'}, default='exact'
        'exact': float32 or float64, with all their digits; on devices of compute capability 9.0 a product of float32s
        is the sum of six products of bfloat16s. 'fast': fits of 64 components and more use tensor cores for float32
        rows, as pairs of bfloat16; log-densities have a relative error of about 1e-5. If a component is too narrow
        beside the table for that accuracy, or the device has no such cores, the arithmetic is exact all the same.
    device : int, default=None
        The device; None takes the device that X is on, or the first one.
    memory : int, default=None
        Most bytes of a host table to keep on the device; a larger table is streamed through it in every pass. None
        takes MIXTURA_CUDA_MEMORY, or else four fifths of the free memory.
    tile_bytes : int, default=0
        Bytes of a tile: the rows, and K numbers for each, that are processed at a time. 0 takes 24 MiB, about half the
        second-level cache of a large device, or, where products are by warpgroups, up to 512 MiB.

    Notes
    -----
    MIXTURA_CUDA_WARPGROUPS=0 does without the products by warpgroups of compute capability 9.0, as on other devices.
    """

    name = "cuda"
    summary = "CUDA kernels"
    reads_devices = True
    _module_name: ClassVar[str] = "mixtura._cuda"

    def __init__(
        self,
        n_threads: int | None = None,
        precision: Precision = "exact",
        *,
        device: int | None = None,
        memory: int | None = None,
        tile_bytes: int = 0,
    ) -> None:
        super().__init__(n_threads, precision)
        for name, value in (("device", device), ("memory", memory), ("tile_bytes", tile_bytes)):
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value!r}")
        self.device = None if device is None else operator.index(device)
        self.memory = None if memory is None else int(memory)
        self.tile_bytes = int(tile_bytes)
        self._keeps = True  # whether second moments may stay on the device
        self._module = self.module()

    @classmethod
    def module(cls) -> Any:
        """The kernels, if there is a device to run them.

        Raises
        ------
        ImportError
            They were not built, or no device can be used; the message says why.
        """
        try:
            module = importlib.import_module(cls._module_name)
        except ImportError as error:
            raise ImportError(
                f"the CUDA kernels are not in this installation ({error}); they are built where nvcc, of CUDA 12 or "
                "later, is found: install the CUDA toolkit and reinstall mixtura from source"
            ) from error
        reason = module.unavailable()
        if reason:
            raise ImportError(reason)
        return module

    @classmethod
    def description(cls) -> str:
        """A description that names the device."""
        return f"{cls.summary} on {cls.module().describe()}"

    def _budget(self) -> int:
        """Bytes of a host table that the device may keep; -1 lets the C++ code choose."""
        if self.memory is not None:
            return self.memory
        text = os.environ.get("MIXTURA_CUDA_MEMORY", "")
        if not text:
            return -1
        try:
            memory = int(float(text))
            if memory >= 0:
                return memory
        except (ValueError, OverflowError):
            pass
        raise ValueError(f"MIXTURA_CUDA_MEMORY is {text!r}; it must be a number of bytes, such as 8e9")

    def place(self, X: Rows2D, y: Rows2D | None = None, sample_weight: Float | None = None) -> CudaRows:
        """Take a table: as it is if on a device; else it is uploaded once, or streamed if it is too large for that."""
        if is_device_array(X):
            X = DeviceArray(X, self._module, self.tile_bytes)  # type: ignore[assignment]
        if isinstance(X, DeviceArray):
            if y is not None:
                raise TypeError("X lies on a CUDA device and y is given: pass both as host arrays")
            if self.device not in (None, X.device):
                raise ValueError(
                    f"X lies on device {X.device}, and the backend was made for device {self.device}"
                )
            return CudaRows(X, None, sample_weight, table=X.table, end=len(X))
        left, right = readable(X), None if y is None else readable(y)
        table = self._module.Table(
            left,
            right,
            -1 if self.device is None else self.device,
            self.tile_bytes,
            self._budget(),
            _in_memory(left) and (right is None or _in_memory(right)),
            self.threads,
        )
        return CudaRows(left, right, sample_weight, table=table, end=len(left))

    def _placed(self, rows: Rows) -> CudaRows:
        return rows if isinstance(rows, CudaRows) else self.place(rows.X, rows.y, rows.sample_weight)

    def _packed(self, quadratics: Quadratics) -> Any:
        q = quadratics
        return self._module.Quadratics(q.form, q.offsets, q.means, q.factors, q.linear)

    def derivatives(self) -> Derivatives:
        """See :meth:`mixtura.backends.base.Backend.derivatives`: on the processor, with the C++ kernels."""
        from mixtura.backends.native_derivatives import NativeDerivatives

        return NativeDerivatives(self.threads)

    def _single_enough(self, rows: Rows, joint: Joint, pivot: Float) -> bool:
        # Nearest centres are searched for in the rows' own type; near ties are decided by the kernel in float64.
        return (
            is_single(rows) and not self.in_double
            if joint.hard
            else super()._single_enough(rows, joint, pivot)
        )

    def _fast_enough(self, rows: Rows, quadratics: Quadratics, pivot: Float) -> bool:
        # Linear terms are float32's products here too, and asked for beside this.
        if self.precision != "fast":
            return False
        squares = quadratics if quadratics.linear is None else replace(quadratics, linear=None)
        return relative_width(rows, squares, pivot) <= _FAST_WIDTH

    def log_joint(self, rows: Rows, joint: Joint) -> Float:
        """See :meth:`mixtura.backends.base.Backend.log_joint`; always in float64."""
        rows, q = self._placed(rows), joint.quadratics
        return np.asarray(
            rows.table.log_joint(
                rows.begin, rows.end, self._packed(q), joint.log_weights, q.center, self.threads
            )
        )

    def assign(self, rows: Rows, joint: Joint) -> tuple[NDArray[np.int32], Float]:
        """See :meth:`mixtura.backends.base.Backend.assign`; N x K numbers stay on the device, tile by tile."""
        rows, q = self._placed(rows), joint.quadratics
        # Nearest centres are searched for in the rows' own type; for other components the kernels ignore this flag.
        labels, best = rows.table.assign(
            rows.begin,
            rows.end,
            self._packed(q),
            joint.log_weights,
            q.center,
            is_single(rows),
            self.threads,
        )
        return labels, best

    def posterior(self, rows: Rows, joint: Joint, resp: NDArray[np.floating] | None = None) -> Float:
        """See :meth:`mixtura.backends.base.Backend.posterior`; only what is asked for leaves the device."""
        rows, q = self._placed(rows), joint.quadratics
        density = rows.table.posterior(
            rows.begin, rows.end, self._packed(q), joint.log_weights, q.center, resp, self.threads
        )
        return np.asarray(density)

    def _run_expect(
        self, rows: Rows, joint: Joint, kind: Kind, pivot: Float, single: bool
    ) -> tuple[Parts, float]:
        rows, q = self._placed(rows), joint.quadratics
        factors = q.elsewhere("factors")
        given = q.factors if factors is None else _ON_THE_DEVICE
        mass, first, second, log_likelihood = rows.table.expect(
            rows.begin,
            rows.end,
            self._module.Quadratics(q.form, q.offsets, q.means, given, q.linear),
            joint.log_weights,
            kind,
            pivot,
            rows.sample_weight,
            joint.hard,
            single,
            single and not joint.hard and self._fast_enough(rows, q, pivot),
            self._keeps,
            None if factors is None else factors.handle,
            self.threads,
        )
        if not isinstance(second, np.ndarray):
            second = DeviceScatters(second, self.threads)
        return (mass, first, second), log_likelihood

    def expect_each(
        self, rows: Rows, joint: Joint, kind: Kind, pivots: Float, wanted: NDArray[np.bool_]
    ) -> Moments:
        """See :meth:`mixtura.backends.base.Backend.expect_each`; its parts are put together on the host."""
        here = copy(self)
        here._keeps = False
        return CompiledBackend.expect_each(here, rows, joint, kind, pivots, wanted)

    def _run_accumulate(self, rows: Rows, resp: Float, kind: Kind, pivot: Float) -> Parts:
        rows = self._placed(rows)
        mass, first, second, _ = rows.table.accumulate(
            rows.begin, rows.end, resp, kind, pivot, rows.sample_weight, self.threads
        )
        return mass, first, second
