// What this machine can do: multiply-adds, exponentials and reads a second, on so many threads.
// Compiled by peers.py for the instruction set that the kernels use; prints one line of JSON.
#define MIXTURA_ISA ceilings
#define MIXTURA_REAL double
#ifndef MIXTURA_VECTOR_BYTES
  #error "define MIXTURA_VECTOR_BYTES"
#endif
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "mixtura/simd.hpp"

namespace {

using mixtura::ceilings::lanes;
using mixtura::ceilings::vec;
typedef float vec32 __attribute__((vector_size(MIXTURA_VECTOR_BYTES)));

volatile double sink;

// Best of several tries of `work` on all threads at once, in seconds.
double best(int threads, const std::function<void(int)>& work) {
  double seconds = 1e9;
  for (int attempt = 0; attempt < 7; ++attempt) {
    const auto began = std::chrono::steady_clock::now();
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t) team.emplace_back(work, t);
    for (auto& t : team) t.join();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    seconds = std::min(seconds, took.count());
  }
  return seconds;
}

// 12 independent chains of multiply-adds: enough to hide their latency on two ports.
template <class V>
void multiply_add(long rounds) {
  V a[12], m = V{} + 0.999f, c = V{} + 1e-3f;
  for (int i = 0; i < 12; ++i) a[i] = V{} + static_cast<float>(i);
  for (long r = 0; r < rounds; ++r) MIXTURA_UNROLL
  for (int i = 0; i < 12; ++i) a[i] = a[i] * m + c;
  V s{};
  for (int i = 0; i < 12; ++i) s += a[i];
  sink = s[0];
}

void exponential(long rounds) {
  alignas(64) static thread_local double x[1024];
  for (int i = 0; i < 1024; ++i) x[i] = -0.01 * i;
  for (long r = 0; r < rounds; ++r) {
    vec s{};
    for (int i = 0; i < 1024; i += lanes)
      s += mixtura::ceilings::exp2_nonpositive(mixtura::ceilings::load(x + i));
    x[r % 1024] = -s[0] * 1e-3;
  }
  sink = x[0];
}

// expf as a compiler vectorises a polynomial of degree 6: the single-precision rate.
void exponential32(long rounds) {
  alignas(64) static thread_local float x[1024];
  for (int i = 0; i < 1024; ++i) x[i] = -0.01f * static_cast<float>(i);
  const vec32 round = vec32{} + 12582912.0f;
  typedef int ivec32 __attribute__((vector_size(MIXTURA_VECTOR_BYTES)));
  for (long r = 0; r < rounds; ++r) {
    vec32 s{};
    for (int i = 0; i < 1024; i += MIXTURA_VECTOR_BYTES / 4) {
      const vec32 v = *reinterpret_cast<const vec32*>(x + i);
      const vec32 shifted = v + round;
      const vec32 f = v - (shifted - round);
      vec32 p = 1.5403530e-4f * f + 1.3333558e-3f;
      p = p * f + 9.6181291e-3f;
      p = p * f + 5.5504109e-2f;
      p = p * f + 2.4022651e-1f;
      p = p * f + 6.9314718e-1f;
      p = p * f + 1.0f;
      const vec32 e =
          reinterpret_cast<vec32>(reinterpret_cast<ivec32>(p) + (reinterpret_cast<ivec32>(shifted) << 23));
      s += v > -100.0f ? e : vec32{};
    }
    x[r % 1024] = -s[0] * 1e-3f;
  }
  sink = x[0];
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const long rounds = 4000000;
  const double fma64 =
      24.0 * lanes * rounds * threads / best(threads, [&](int) { multiply_add<vec>(rounds); });
  const double fma32 =
      48.0 * lanes * rounds * threads / best(threads, [&](int) { multiply_add<vec32>(rounds); });
  const double exp64 = 1024.0 * 20000 * threads / best(threads, [&](int) { exponential(20000); });
  const double exp32 = 1024.0 * 20000 * threads / best(threads, [&](int) { exponential32(20000); });
  const size_t size = size_t{1} << 27;  // 1 GiB of doubles, past every cache
  std::vector<double> memory(size, 1.0);
  const double read = 8.0 * size / best(threads, [&](int t) {
                        vec s[4]{};
                        const size_t begin = size / threads * t, end = begin + size / threads / 64 * 64;
                        for (size_t i = begin; i + 4 * lanes <= end; i += 4 * lanes) MIXTURA_UNROLL
                        for (int j = 0; j < 4; ++j)
                          s[j] += mixtura::ceilings::load_unaligned(memory.data() + i + j * lanes);
                        sink = s[0][0] + s[1][0] + s[2][0] + s[3][0];
                      });
  std::printf("{\"fma64\": %.4g, \"fma32\": %.4g, \"exp64\": %.4g, \"exp32\": %.4g, \"read\": %.4g}\n", fma64,
              fma32, exp64, exp32, read);
}
