// A thread block, on a device or emulated. Kernel bodies are written once against it and compiled twice: by
// nvcc for devices, and by the C++ compiler for tests on machines that have none.
//
// A body is a sequence of phases. `block.each(f)` runs f(thread) for all threads of the block and then waits
// for them (a barrier), so what one phase writes to shared or global memory, a later phase of any thread may
// read; within a phase no thread may read what another one writes. What a thread keeps in registers from one
// phase to the next is a Local. The emulation runs a phase's threads one after another, in both directions:
// results that depend on the direction are races.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__)
  #define MIXTURA_KERNEL __device__ __forceinline__
  #define MIXTURA_BOTH __host__ __device__ __forceinline__
  #define MIXTURA_UNROLL _Pragma("unroll")
#else
  #include <math.h>
  #include <string.h>

  #include <memory>
  #define MIXTURA_KERNEL inline
  #define MIXTURA_BOTH inline
  #define MIXTURA_UNROLL _Pragma("GCC unroll 16")
#endif

namespace mixtura::cuda {

constexpr int warp_size = 32;

struct Grid {
  int64_t x, y, z;
};

#if defined(__CUDACC__)

template <class Value, int threads>
struct Local {
  Value value;
  __device__ __forceinline__ Value& operator()(int) { return value; }
};

template <int threads>
struct Block {
  int64_t x, y, z;  // this block's place in the grid

  __device__ __forceinline__ Block() : x(blockIdx.x), y(blockIdx.y), z(blockIdx.z) {}

  template <class Phase>
  __device__ __forceinline__ void each(Phase phase) {
    phase(static_cast<int>(threadIdx.x));
    __syncthreads();
  }

  // Bit i of words is test(i), for i < n; n is a multiple of `threads`.
  template <class Test>
  __device__ __forceinline__ void ballot(int n, uint32_t* words, Test test) {
    for (int i = static_cast<int>(threadIdx.x); i < n; i += threads) {
      const uint32_t word = __ballot_sync(0xffffffffu, test(i));
      if (i % warp_size == 0) words[i / warp_size] = word;
    }
    __syncthreads();
  }

  // Adds to an integer that all blocks share; exact, so in any order.
  __device__ __forceinline__ void add(unsigned long long* total, unsigned long long value) {
    atomicAdd(total, value);
  }
};

#else

template <class Value, int threads>
struct Local {
  std::unique_ptr<Value[]> values{new Value[threads]};
  Local() {
    memset(static_cast<void*>(values.get()), 0xff, sizeof(Value) * threads);
  }  // garbage, as registers are
  Value& operator()(int thread) { return values[static_cast<size_t>(thread)]; }
};

template <int threads>
struct Block {
  int64_t x, y, z;
  bool backwards;

  template <class Phase>
  void each(Phase phase) {
    if (backwards)
      for (int t = threads; t-- > 0;) phase(t);
    else
      for (int t = 0; t < threads; ++t) phase(t);
  }

  template <class Test>
  void ballot(int n, uint32_t* words, Test test) {
    for (int i = 0; i < n; i += warp_size) {
      words[i / warp_size] = 0;
      for (int j = 0; j < warp_size; ++j)
        words[i / warp_size] |= static_cast<uint32_t>(test(i + j) ? 1 : 0) << j;
    }
  }

  void add(unsigned long long* total, unsigned long long value) { *total += value; }
};

#endif

MIXTURA_BOTH int64_t round_up(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

MIXTURA_BOTH int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

MIXTURA_KERNEL float fused(float a, float b, float c) {
  return fmaf(a, b, c);
}
MIXTURA_KERNEL double fused(double a, double b, double c) {
  return fma(a, b, c);
}
MIXTURA_KERNEL float power_of_two(float x) {
  return exp2f(x);
}
MIXTURA_KERNEL double power_of_two(double x) {
  return exp2(x);
}

// Place of the lowest bit that is set.
MIXTURA_KERNEL int lowest_bit(uint32_t word) {
#if defined(__CUDACC__)
  return __ffs(static_cast<int>(word)) - 1;
#else
  return __builtin_ctz(word);
#endif
}

}  // namespace mixtura::cuda
