// The host's threads, for what is packed and gathered on its way to a device.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "mixtura/pool.hpp"

namespace mixtura::cuda {

// Calls task(i) for i < n, on all processors.
template <class Task>
void in_parallel(int64_t n, int threads, Task task) {
  const int limit = threads > 0 ? threads : thread_limit();
  std::atomic<int64_t> next{0};
  parallel(static_cast<int>(std::min<int64_t>(limit, n)), [&](int) {
    for (int64_t i; (i = next++) < n;) task(i);
  });
}

}  // namespace mixtura::cuda
