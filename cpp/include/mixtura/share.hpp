// Tasks shared out among threads, each with memory of its own.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <new>

#include "mixtura/pool.hpp"

namespace mixtura {

struct FreeAligned {
  void operator()(char* p) const { ::operator delete[](p, std::align_val_t{64}); }
};

// Calls task(i, memory) for i < count, on at most `threads` threads (0: the limit in force), each with
// `bytes` of memory from a cache line's start. The calling thread calls `look` about every twentieth of a
// second; what it throws ends the work.
template <class Task>
void share_out(int64_t count, int threads, size_t bytes, const std::function<void()>& look, Task task) {
  const int limit = std::min(threads > 0 ? threads : thread_limit(), 1024);
  std::atomic<int64_t> next{0};
  using Clock = std::chrono::steady_clock;
  constexpr auto patience = std::chrono::milliseconds(50);
  parallel(static_cast<int>(std::max<int64_t>(std::min<int64_t>(limit, count), 1)), [&](int worker) {
    try {
      auto looked = Clock::now();
      const std::unique_ptr<char[], FreeAligned> memory(
          static_cast<char*>(::operator new[](std::max<size_t>(bytes, 64), std::align_val_t{64})));
      for (int64_t i; (i = next++) < count;) {
        task(i, memory.get());
        if (worker == 0 && look && Clock::now() - looked > patience) {
          look();
          looked = Clock::now();
        }
      }
    } catch (...) {
      next = count;
      throw;
    }
  });
}

}  // namespace mixtura
