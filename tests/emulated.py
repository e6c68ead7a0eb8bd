"""The CUDA backend on a device that is emulated on the processor, and arrays that say they lie on one."""

from mixtura import backends
from mixtura.backends.cuda import CudaBackend


class EmulatedBackend(CudaBackend):
    """Every kernel of the CUDA backend, its threads run one after another."""

    name = "emulated"
    _module_name = "mixtura._cuda_emulated"


class EmulatedWarpgroups(EmulatedBackend):
    """The same on a device that multiplies by warpgroups, as those of compute capability 9.0 do."""

    name = "emulated-warpgroups"

    def place(self, X, y=None, sample_weight=None):
        self._module.set_emulated_warpgroups(True)
        try:
            return super().place(X, y, sample_weight)
        finally:
            self._module.set_emulated_warpgroups(False)


def _factory(kind):
    def factory():
        kind.module()
        return kind

    return factory


for kind in (EmulatedBackend, EmulatedWarpgroups):
    backends.register(kind.name, _factory(kind))


class InterfaceArray:
    """Shows an array of the host by ``__cuda_array_interface__`` alone."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": 3,
        }

    def copy_to_host(self):
        return self.array


class CapsuleArray:
    """Shows an array of the host by DLPack alone, as if it lay on a device."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **_):
        return self.array.__dlpack__()

    def get(self):
        return self.array
