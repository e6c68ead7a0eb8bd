#include "mixtura/derivatives.hpp"

#include <algorithm>
#include <string>

#include "mixtura/driver.hpp"
#include "mixtura/many.hpp"
#include "mixtura/share.hpp"

namespace mixtura {

#define MIXTURA_DECLARE(isa)                    \
  namespace isa##_double {                      \
    extern const DerivativeKernels derivatives; \
    extern const AverageKernels averages;       \
    extern const ManyKernels many;              \
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
  const ManyKernels& many;
};

RowKernels kernels() {
  const std::string set = instruction_set();
#if defined(__x86_64__)
  if (set == "x86-64-v4") return {v4_double::derivatives, v4_double::averages, v4_double::many};
  if (set == "x86-64-v3") return {v3_double::derivatives, v3_double::averages, v3_double::many};
  if (set == "x86-64-v2") return {v2_double::derivatives, v2_double::averages, v2_double::many};
#endif
  return {portable_double::derivatives, portable_double::averages, portable_double::many};
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

void fit_many(const Many& many, int threads, const std::function<void()>& look) {
  const ManyKernels& set = kernels().many;
  share_out(many.groups, threads, set.bytes(many), look,
            [&](int64_t group, char* memory) { set.fit(many, group, memory); });
}

void assign_many(const Many& many, int threads, const std::function<void()>& look) {
  const ManyKernels& set = kernels().many;
  share_out(many.groups, threads, set.bytes(many), look,
            [&](int64_t group, char* memory) { set.assign(many, group, memory); });
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
