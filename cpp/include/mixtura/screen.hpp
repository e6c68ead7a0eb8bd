// Upper bounds of the joint densities of triangles, in single precision at twice the speed of double, for
// passes in double precision that leave out pairs that cannot count.
//
//   y = F_k x + b_k,   x = z - pivot,   computed as y' with |y - y'| <= E = g (|F_k| |x| + |b_k|) + t,
//   g = (D + 8) u,
//
// in whatever order sums are taken, with |F| the root of the sum of squares of F, u half the distance from 1
// to the next number, and t for what is lost where numbers are so small that they have few digits: D sqrt(D)
// times half the least number that is not 0 times the largest. So |y|^2 >= |y'|^2 - 2 E |y'|, and with the
// roundings of |y'|^2 = s and of c - s,
//
//   joint2[k][i] <= c - s + 2 E sqrt(s) + g s + 8 u (s + |c|).
//
// What is not finite in single precision has no bound. The squares of the first rows of F_k bound joint2 too,
// so the first half of the rows is taken for all components; the rest, once it is known what a row's best
// component reaches, for those that may still come near it, an eighth of the rows at a time. Cost: D^2 / 8
// multiply-adds a pair, twice as many at a time as in double precision, and 3 D^2 / 8 for a pair that is
// left.
#pragma once

#include "mixtura/block.hpp"
#include "mixtura/evaluate.hpp"
#include "mixtura/problem.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// Of each component, g |F_k| and g |b_k|, after the packed quadratics.
inline size_t screen_bytes(const Pass& p) {
  return (packed_layout(p.quadratics).total +
          2 * static_cast<size_t>(round_up(p.quadratics.components, lanes))) *
         sizeof(real);
}

inline void pack_screen(const Pass& p, void* memory) {
  const Quadratics& q = p.quadratics;
  const PackedLayout l = packed_layout(q);
  real* packed = static_cast<real*>(memory);
  pack_quadratics(p, packed);
  real *of_factor = packed + l.total, *of_bias = of_factor + round_up(q.components, lanes);
  const double g = (static_cast<double>(q.dims) + 8.0) * (is_double ? 1.12e-16 : 5.97e-8);
  for (int64_t k = 0; k < q.components; ++k) {
    double factor = 0.0, bias = 0.0;
    for (int64_t i = 0; i < l.factor_size; ++i) {
      const double f = static_cast<double>(packed[l.factor + k * l.factor_size + i]);
      factor += f * f;
    }
    for (int64_t i = 0; i < l.bias_size; ++i) {
      const double b = static_cast<double>(packed[l.bias + k * l.bias_size + i]);
      bias += b * b;
    }
    of_factor[k] = static_cast<real>(g * __builtin_sqrt(factor) * 1.000001);
    const double lost = 2.5e-7 * static_cast<double>(q.dims) * __builtin_sqrt(static_cast<double>(q.dims));
    of_bias[k] = static_cast<real>(g * __builtin_sqrt(bias) * 1.000001 + lost);
  }
}

struct ScreenWorkspace {
  real *x, *joint2, *length, *leading, *trailing;
  double *exact, *square;
};

inline size_t lay_out_screen(const Pass& p, void* memory, ScreenWorkspace& w) {
  Cut take{static_cast<char*>(memory)};
  const int64_t padded_dims = round_up(p.rows.dims, lanes);
  take(w.x, p.rows.dims * stride);
  take(w.joint2, p.quadratics.components * stride);
  take(w.length, stride);
  take(w.leading, padded_dims);
  take(w.trailing, padded_dims);
  take(w.exact, padded_dims);
  take(w.square, block_rows);
  return static_cast<size_t>(take.at - static_cast<char*>(memory));
}

inline size_t screen_workspace_bytes(const Pass& p) {
  ScreenWorkspace w;
  return lay_out_screen(p, nullptr, w);
}

// The bound of a pair from its joint density, up to rounding: see above.
struct Rounding {
  float g, unit;
  explicit Rounding(int64_t dims)
      : g((static_cast<float>(dims) + 8.0f) * (is_double ? 1.12e-16f : 5.97e-8f)),
        unit(is_double ? 1.12e-16f : 5.97e-8f) {}
  MIXTURA_INLINE float bound(float value, float c, float error) const {
    const float s = c - value > 0.0f ? c - value : 0.0f, level = c < 0.0f ? -c : c;
    const float bound =
        value + 2.001f * error * __builtin_sqrtf(s) + (g + 8.0f * unit) * 1.001f * s + 8.0f * unit * level;
    // Not finite: of infinities and what is not a number, the difference with itself is not 0.
    return bound - bound == 0.0f ? bound : __builtin_huge_valf();
  }
};

// The rows of a block, packed, and their lengths; joint2 before anything is subtracted.
inline void begin_screen(const Pass& p, int64_t begin, int64_t n, ScreenWorkspace& w) {
  pack_rows(p.rows, split_pivot(p, w.exact, w.leading, w.trailing), begin, n, round_up(n, group_rows),
            Packed{w.x, nullptr, 0});
  // In double, where no square becomes 0.
  for (int64_t i = 0; i < n; ++i) w.square[i] = 0.0;
  for (int64_t d = 0; d < p.rows.dims; ++d)
    for (int64_t i = 0; i < n; ++i) {
      const double x = static_cast<double>(w.x[d * stride + i]);
      w.square[i] += x * x;
    }
  for (int64_t i = 0; i < n; ++i) w.length[i] = static_cast<real>(__builtin_sqrt(w.square[i]) * 1.000001);
}

// Whether one of n bounds is not below its least.
MIXTURA_INLINE bool any_left(const float* bounds, const float* least, int64_t n) {
  bool left = false;
  for (int64_t i = 0; i < n; ++i) left |= !(bounds[i] < least[i]);
  return left;
}

// upper[k * block_rows + i] <- bounds of rows begin .. begin + n, at most a block: by the first half of F_k
// where `least` is null; else, after that, by more of it, as long as a bound of a group of rows is not below
// the row's `least`. Bounds that are below it stay as they are.
inline void screen(const Pass& p, const void* memory, int64_t begin, int64_t n, const float* least,
                   float* upper, void* workspace) {
  ScreenWorkspace w;
  lay_out_screen(p, workspace, w);
  const Quadratics& q = p.quadratics;
  const PackedLayout l = packed_layout(q);
  const real* packed = static_cast<const real*>(memory);
  const real *of_factor = packed + l.total, *of_bias = of_factor + round_up(q.components, lanes);
  const Rounding rounding(q.dims);
  // Subtracts the squares of rows first .. last of F_k from joint2 of the group of rows that begins at i.
  const auto subtract = [&](int64_t k, int64_t i, int64_t first, int64_t last) {
    SquaredNorm norm{};
    apply_factor<true>(last, last, packed + l.factor + k * l.factor_size, packed + l.bias + k * l.bias_size,
                       w.x + i, norm, first / tile_rows);
    real* joint2 = w.joint2 + k * stride + i;
    const float c = static_cast<float>(packed[l.offsets + k]);
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      const vec before = first ? load(joint2 + g * lanes) : splat(packed[l.offsets + k]);
      store(joint2 + g * lanes, before - norm.q[g]);
    }
    float* out = upper + k * block_rows + i;
    for (int64_t j = 0; j < smaller(group_rows, n - i); ++j) {
      if (least && out[j] < least[i + j]) continue;
      const real error = of_factor[k] * w.length[i + j] + of_bias[k];
      out[j] = rounding.bound(static_cast<float>(joint2[j]), c, static_cast<float>(error));
    }
  };
  const int64_t step = q.dims / 8 / tile_rows * tile_rows, middle = 4 * step;
  if (!least) begin_screen(p, begin, n, w);
  for (int64_t k = 0; k < q.components; ++k)
    for (int64_t i = 0; i < n; i += group_rows) {
      if (!least) {
        subtract(k, i, 0, middle);
        continue;
      }
      const float* bounds = upper + k * block_rows + i;
      for (int64_t row = middle, end; row < q.dims; row = end) {
        if (!any_left(bounds, least + i, smaller(group_rows, n - i))) break;
        end = row < 7 * step ? row + step : q.dims;
        subtract(k, i, row, end);
      }
    }
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
