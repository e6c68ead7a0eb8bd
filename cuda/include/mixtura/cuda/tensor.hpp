// Products of matrices on tensor cores, in float32's range with 16 of its 24 digits: a number is the sum of
// two bfloat16s, x = high + low (to 2^-17 of it), and a product is high high + high low + low high, added up
// in float32. Three times the work of bfloat16, which runs at 15 times float32's rate.
//
// Operands lie in shared memory as words of two bfloat16s that are neighbours along the axis that is summed
// over, words[part][pair][place]: 8 pairs are the 16 terms of one instruction, m16n8k16.
#pragma once

#include <string.h>

#include "mixtura/cuda/block.hpp"

namespace mixtura::cuda {

constexpr int terms = 16;              // that one instruction sums over
constexpr int word_pairs = terms / 2;  // words of them
// Of 128: rows of words begin 8 banks apart, so that a warp's loads meet none twice.
constexpr int padded_places = 136;

struct Split {
  uint32_t high, low;  // two numbers each, the first in the lower half
};

// The nearest bfloat16, ties to even, as the upper half of a float. NaN stays NaN, whatever its digits.
MIXTURA_BOTH uint32_t round_to_half(uint32_t bits) {
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits | 0x00400000u) & 0xffff0000u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
}

MIXTURA_BOTH uint32_t bits_of(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  uint32_t bits = 0;
  memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}
MIXTURA_BOTH float float_of(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float x = 0;
  memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

MIXTURA_BOTH Split split(float a, float b) {
  const uint32_t high_a = round_to_half(bits_of(a)), high_b = round_to_half(bits_of(b));
  const uint32_t low_a = round_to_half(bits_of(a - float_of(high_a)));
  const uint32_t low_b = round_to_half(bits_of(b - float_of(high_b)));
  return {high_a >> 16 | high_b, low_a >> 16 | low_b};
}

// Words of a stage's operand.
struct Operand {
  uint32_t words[2][word_pairs][padded_places];
};

// What a lane holds of 16 rows, or of 8 columns, of an operand: on a device, registers in the order in which
// mma.sync wants them; emulated, where they are.
struct RowsFragment {
#if defined(__CUDACC__)
  uint32_t words[2][4];
#else
  const Operand* operand;
  int first;
#endif
};
struct ColumnsFragment {
#if defined(__CUDACC__)
  uint32_t words[2][2];
#else
  const Operand* operand;
  int first;
#endif
};

MIXTURA_KERNEL void fetch(const Operand& operand, int first, int lane, RowsFragment& fragment) {
#if defined(__CUDACC__)
  MIXTURA_UNROLL
  for (int part = 0; part < 2; ++part) {
    MIXTURA_UNROLL
    for (int i = 0; i < 4; ++i)
      fragment.words[part][i] = operand.words[part][lane % 4 + i / 2 * 4][first + lane / 4 + i % 2 * 8];
  }
#else
  (void)lane;
  fragment = {&operand, first};
#endif
}
MIXTURA_KERNEL void fetch(const Operand& operand, int first, int lane, ColumnsFragment& fragment) {
#if defined(__CUDACC__)
  MIXTURA_UNROLL
  for (int part = 0; part < 2; ++part) {
    MIXTURA_UNROLL
    for (int i = 0; i < 2; ++i)
      fragment.words[part][i] = operand.words[part][lane % 4 + i * 4][first + lane / 4];
  }
#else
  (void)lane;
  fragment = {&operand, first};
#endif
}

// sum[0], sum[1]: rows lane / 4, columns 2 (lane % 4) + {0, 1}; sum[2], sum[3]: rows 8 further down. Adds the
// sums over 16 terms of the products of rows and columns. All lanes of a warp come here together.
//
// Tensor cores round their sums towards zero: over a thousand instructions on one accumulator that is a bias
// of 1e-4. So they sum three products from zero, and ordinary additions, which round to nearest, do the rest.
MIXTURA_KERNEL void multiply(const RowsFragment& a, const ColumnsFragment& b, int lane, float* sum) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  (void)lane;
  float part_sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  MIXTURA_UNROLL
  for (int product = 0; product < 3; ++product) {  // low high, high low, high high: small ones first
    const uint32_t* x = a.words[product == 0 ? 1 : 0];
    const uint32_t* y = b.words[product == 1 ? 1 : 0];
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(part_sum[0]), "+f"(part_sum[1]), "+f"(part_sum[2]), "+f"(part_sum[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  }
  MIXTURA_UNROLL
  for (int i = 0; i < 4; ++i) sum[i] += part_sum[i];
#elif defined(__CUDACC__)
  __trap();  // such devices have no bfloat16 tensor cores, and are not asked
#else
  for (int i = 0; i < 4; ++i) {
    const int row = a.first + lane / 4 + i / 2 * 8, column = b.first + 2 * (lane % 4) + i % 2;
    float part_sum = 0.0f;
    for (int product = 0; product < 3; ++product) {
      const int p = product == 0 ? 1 : 0, q = product == 1 ? 1 : 0;
      for (int pair = 0; pair < word_pairs; ++pair) {
        const uint32_t x = a.operand->words[p][pair][row], y = b.operand->words[q][pair][column];
        part_sum = fused(float_of(x << 16), float_of(y << 16), part_sum);
        part_sum = fused(float_of(x & 0xffff0000u), float_of(y & 0xffff0000u), part_sum);
      }
    }
    sum[i] += part_sum;
  }
#endif
}

// A block's 8 warps share 128 x 128 sums: 4 x 2 warps of 32 rows x 64 columns, 2 x 8 instructions a stage.
constexpr int tensor_threads = 256;
struct WarpTile {
  int lane, row0, column0;

  MIXTURA_BOTH explicit WarpTile(int thread)
      : lane(thread % warp_size), row0(thread / warp_size % 4 * 32), column0(thread / warp_size / 4 * 64) {}
  MIXTURA_BOTH int row(int m, int i) const { return row0 + m * 16 + lane / 4 + i / 2 * 8; }
  MIXTURA_BOTH int column(int n, int i) const { return column0 + n * 8 + 2 * (lane % 4) + i % 2; }
};

// A stage of a warp's tile: fragments of rows are fetched once, those of columns as they are needed, which
// makes one load an instruction.
MIXTURA_KERNEL void multiply(const Operand& a, const Operand& b, const WarpTile& at, float (&sum)[2][8][4]) {
  RowsFragment rows[2];
  fetch(a, at.row0, at.lane, rows[0]);
  fetch(a, at.row0 + 16, at.lane, rows[1]);
  MIXTURA_UNROLL
  for (int n = 0; n < 8; ++n) {
    ColumnsFragment columns;
    fetch(b, at.column0 + n * 8, at.lane, columns);
    multiply(rows[0], columns, at.lane, sum[0][n]);
    multiply(rows[1], columns, at.lane, sum[1][n]);
  }
}

}  // namespace mixtura::cuda
