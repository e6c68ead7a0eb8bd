// The same code on the emulated device.
#include "mixtura/cuda/device_table_of.hpp"

namespace mixtura::cuda {

void set_emulated_capacity(size_t bytes) {
  Device::capacity() = bytes;
}
void set_emulated_warpgroups(bool wanted) {
  Device::warpgroups() = wanted;
}
size_t emulated_allocated() {
  return Device::allocated();
}

}  // namespace mixtura::cuda
