// Factors as the operands of the E half by warpgroups, made on the device.
#pragma once

#include "mixtura/cuda/factorise.hpp"
#include "mixtura/cuda/wide_evaluate.hpp"

namespace mixtura::cuda {

// Factors on a device: triangles packed row by row, (K, D (D + 1) / 2), or rectangles, (K, R, D).
struct Factors {
  const double* numbers;
  int64_t rows, dims;  // R, D
  bool triangle;

  MIXTURA_BOTH int64_t size() const { return triangle ? triangle_size(dims) : rows * dims; }
  MIXTURA_BOTH const double* row(int64_t k, int64_t r) const {
    return numbers + k * size() + (triangle ? triangle_size(r) : r * dims);
  }
  MIXTURA_BOTH int64_t length(int64_t r) const { return triangle ? r + 1 : dims; }
};

// A number as the sum of `parts` bfloat16s, of a double.
template <int parts>
MIXTURA_BOTH Parts<parts> parts_of_double(double x) {
  Parts<parts> found;
  for (int p = 0; p < parts; ++p) {
    const uint32_t bits = round_to_half(bits_of(static_cast<float>(x)));
    found.of[p] = static_cast<uint16_t>(bits >> 16);
    x -= static_cast<double>(float_of(bits));
  }
  return found;
}

// Stages of bands of 16 factor rows of 8 components, each of 16 columns, in base 2; their numbers are the
// biases, row r of G_k (m_k - p). Reads the factors once and writes `parts` times two bytes for each of their
// numbers. Grid: (groups, bands).
template <int parts>
struct PackFactors {
  using Kernel = EvaluateWide<parts, 1>;
  using Stage = StreamStage<parts>;
  static constexpr int threads = stream_places;
  struct Shared {};

  Factors factors;
  int64_t count;         // K
  int64_t bands, steps;  // of 16 rows, of 16 columns
  const double* means;   // (K, D) about the pivot
  Stage* out;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    const int64_t group = block.x, band = block.y;
    const bool triangle = factors.triangle;
    const int64_t band_steps = Kernel::steps_of(band, steps, triangle);
    Stage* const stages =
        out + group * Kernel::stages_of(bands, steps, triangle) + Kernel::stages_of(band, steps, triangle);
    block.each([&](int place) {
      const int64_t k = group * Kernel::components + place / Kernel::height;
      const int64_t r = band * Kernel::height + place % Kernel::height;
      const bool inside = k < count && r < factors.rows;
      const double* row = inside ? factors.row(k, r) : nullptr;
      const int64_t columns = inside ? factors.length(r) : 0;
      double bias = 0;
      for (int64_t d = 0; d < columns; ++d) bias = fused(row[d], means[k * factors.dims + d], bias);
      const float number = static_cast<float>(bias * root_half_log2e);
      for (int64_t step = 0; step < band_steps; ++step) {
        MIXTURA_UNROLL
        for (int chunk = 0; chunk < terms / 8; ++chunk) {
          Chunk words[parts];
          MIXTURA_UNROLL
          for (int j = 0; j < 8; ++j) {
            const int64_t column = step * terms + chunk * 8 + j;
            const Parts<parts> found =
                parts_of_double<parts>(column < columns ? row[column] * root_half_log2e : 0.0);
            MIXTURA_UNROLL
            for (int p = 0; p < parts; ++p) words[p].of[j] = found.of[p];
          }
          MIXTURA_UNROLL
          for (int p = 0; p < parts; ++p) stages[step].words[p][chunk][place] = words[p];
        }
        stages[step].numbers[place] = number;
      }
    });
  }
};

}  // namespace mixtura::cuda
