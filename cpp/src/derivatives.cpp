#include "mixtura/derivatives.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "mixtura/driver.hpp"
#include "mixtura/pool.hpp"

namespace mixtura {

#define MIXTURA_DECLARE(isa)                    \
  namespace isa##_double {                      \
    extern const DerivativeKernels derivatives; \
    extern const AverageKernels averages;       \
  }
MIXTURA_DECLARE(portable)
#if defined(__x86_64__)
MIXTURA_DECLARE(v2)
MIXTURA_DECLARE(v3)
MIXTURA_DECLARE(v4)
#endif
#undef MIXTURA_DECLARE

namespace {

// Rows of a chunk: their bounds do not depend on the number of threads, and neither do sums over them.
constexpr int64_t chunk = 512;

struct RowKernels {
  const DerivativeKernels& derivatives;
  const AverageKernels& averages;
};

RowKernels kernels() {
  const std::string set = instruction_set();
#if defined(__x86_64__)
  if (set == "x86-64-v4") return {v4_double::derivatives, v4_double::averages};
  if (set == "x86-64-v3") return {v3_double::derivatives, v3_double::averages};
  if (set == "x86-64-v2") return {v2_double::derivatives, v2_double::averages};
#endif
  return {portable_double::derivatives, portable_double::averages};
}

struct Free {
  void operator()(char* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Memory = std::unique_ptr<char[], Free>;

Memory memory_of(size_t bytes) {
  return Memory(static_cast<char*>(::operator new[](std::max<size_t>(bytes, 64), std::align_val_t{64})));
}

// Calls task(i, memory) for i < count, on at most `threads` threads, each with a memory of its own. The
// calling thread looks for signals about every twentieth of a second.
template <class Task>
void share_out(int64_t count, int threads, size_t bytes, const std::function<void()>& look, Task task) {
  const int limit = std::min(threads > 0 ? threads : thread_limit(), 1024);
  std::atomic<int64_t> next{0};
  using Clock = std::chrono::steady_clock;
  constexpr auto patience = std::chrono::milliseconds(50);
  parallel(static_cast<int>(std::max<int64_t>(std::min<int64_t>(limit, count), 1)), [&](int worker) {
    try {
      auto looked = Clock::now();
      const Memory memory = memory_of(bytes);
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

template <class Pass, class Kernel>
void run_chunks(const Pass& pass, int threads, size_t bytes, const std::function<void()>& look,
                Kernel kernel) {
  const int64_t rows = pass.rows.count;
  share_out((rows + chunk - 1) / chunk, threads, bytes, look, [&](int64_t c, char* memory) {
    kernel(pass, c * chunk, std::min((c + 1) * chunk, rows), memory);
  });
}

}  // namespace

void run_adjoint(const DerivativePass& pass, int threads, const std::function<void()>& look) {
  run_chunks(pass, threads, kernels().derivatives.adjoint_bytes(pass), look, kernels().derivatives.adjoint);
}

void run_tangent(const DerivativePass& pass, int threads, const std::function<void()>& look) {
  run_chunks(pass, threads, kernels().derivatives.tangent_bytes(pass), look, kernels().derivatives.tangent);
}

void run_forward_rows(const DerivativePass& pass, int threads, const std::function<void()>& look) {
  run_chunks(pass, threads, kernels().derivatives.forward_bytes(pass), look,
             kernels().derivatives.forward_rows);
}

void run_average(const AveragePass& pass, int threads, const std::function<void()>& look) {
  run_chunks(pass, threads, kernels().averages.bytes(pass), look, kernels().averages.run);
}

void run_forward_sums(const DerivativePass& pass, int threads, double* value, double* gradient,
                      double* hessian, const std::function<void()>& look) {
  const int64_t P = pass.shape.size(), rows = pass.rows.count;
  const int64_t groups = (P + directions - 1) / directions;
  const DerivativeKernels& set = kernels().derivatives;
  // Each pair of groups of parameters is one task, which adds up its rows in order.
  share_out(groups * (groups + 1) / 2, threads, set.forward_bytes(pass), look,
            [&](int64_t task, char* memory) {
              int64_t a = 0, left = task;
              while (left > a) left -= ++a;
              const int64_t i = a * directions, j = left * directions;
              double sums[forward_sums_size] = {};
              for (int64_t b = 0; b < rows; b += chunk)
                set.forward_sums(pass, i, j, b, std::min(b + chunk, rows), sums, memory);
              for (int64_t r = 0; r < directions && i + r < P; ++r) {
                if (i == j) gradient[i + r] = sums[1 + r];
                for (int64_t c = 0; c < directions && j + c < P; ++c)
                  hessian[(i + r) * P + j + c] = hessian[(j + c) * P + i + r] =
                      sums[1 + 2 * directions + r * directions + c];
              }
              if (task == 0) *value = sums[0];
            });
}

}  // namespace mixtura
