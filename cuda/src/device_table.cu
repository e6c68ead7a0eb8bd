// Every kernel, for every architecture that CMakeLists.txt lists.
#include "mixtura/cuda/device_table_of.hpp"

namespace mixtura::cuda {

void set_emulated_capacity(size_t) {}
void set_emulated_warpgroups(bool) {}
size_t emulated_allocated() {
  return 0;
}

}  // namespace mixtura::cuda
