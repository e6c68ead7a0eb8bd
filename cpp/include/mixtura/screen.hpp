// Upper bounds of the joint densities of triangles, in single precision at twice the speed of double, for
// passes that leave out pairs that cannot count.
//
//   y = F_k x + b_k,   x = z - pivot,   computed as y' with |y - y'| <= E = g (|F_k| |x| + |b_k|) + t,
//   g = (D + 9) u,
//
// in whatever order sums are taken, with |F| the root of the sum of squares of F, u half the distance from 1
// to the next number, and t for what is lost where numbers are so small that they have few digits: D sqrt(D)
// times half the least number that is not 0 times the largest. So |y|^2 >= |y'|^2 - 2 E |y'|, of which the
// last is at most h |y'|^2 + E^2 / h for any h > 0; here h = 1/256. With the roundings of |y'|^2 = s and of
// c - s, of up to D sums, and of these terms themselves,
//
//   joint2[k][i] <= c + 8 u |c| + 257 E^2 - (1 - 1/256 - g - 16 u) s.
//
// Where that is not a number a pair counts as left. The squares of the first rows of F_k bound joint2 too, so
// half of them are taken for all components; the rest, once it is known what a row's best component reaches,
// for those that may still come near it, an eighth of the rows at a time.
//
// F_k is either the pass's own, or its triangle along a few directions A of all columns (directions.hpp), of
// which x are then A (z - pivot): rounding them adds (D + 3) u |A| |z - pivot| to |x|'s error, so what |x| is
// taken to be is longer by that over g. Cost: D^2 / 8 multiply-adds a pair, twice as many at a time as in
// double precision, and 3 D^2 / 8 for a pair that is left; along q directions q^2 / 2 a pair, and q D a row.
#pragma once

#include "mixtura/block.hpp"
#include "mixtura/evaluate.hpp"
#include "mixtura/problem.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// After the packed quadratics: of each component, g |F_k| and g |b_k| + t, and the directions.
struct ScreenLayout {
  PackedLayout quadratics;
  size_t of_factor, of_bias, map, total;
};

inline ScreenLayout screen_layout(const Pass& p, const Screen& screen) {
  ScreenLayout l{packed_layout(screen.quadratics), 0, 0, 0, 0};
  const auto components = static_cast<size_t>(round_up(screen.quadratics.components, lanes));
  l.of_factor = l.quadratics.total;
  l.of_bias = l.of_factor + components;
  l.map = l.of_bias + components;
  l.total = l.map + (screen.map ? static_cast<size_t>(screen.quadratics.dims * p.rows.dims) : 0);
  return l;
}

inline size_t screen_bytes(const Pass& p, const Screen& screen) {
  return screen_layout(p, screen).total * sizeof(real);
}

constexpr double half_unit = is_double ? 1.12e-16 : 5.97e-8;

// g of so many columns.
inline double rounding_of(int64_t dims) {
  return (static_cast<double>(dims) + 9.0) * half_unit;
}

// |a| of n numbers.
inline double length_of(const real* a, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  return __builtin_sqrt(sum) * 1.000001;
}

inline void pack_screen(const Pass& p, const Screen& screen, void* memory) {
  const Quadratics& q = screen.quadratics;
  const ScreenLayout l = screen_layout(p, screen);
  real* packed = static_cast<real*>(memory);
  const double origin[most_directions] = {};
  Pass of = p;
  of.quadratics = q;
  if (screen.map) of.pivot = origin;
  pack_quadratics(of, packed);
  const double g = rounding_of(q.dims), dims = static_cast<double>(q.dims);
  const int64_t factor_size = l.quadratics.factor_size, bias_size = l.quadratics.bias_size;
  for (int64_t k = 0; k < q.components; ++k) {
    const double factor = length_of(packed + l.quadratics.factor + k * factor_size, factor_size);
    const double bias = length_of(packed + l.quadratics.bias + k * bias_size, bias_size);
    packed[l.of_factor + k] = static_cast<real>(g * factor);
    packed[l.of_bias + k] = static_cast<real>(g * bias + 2.5e-7 * dims * __builtin_sqrt(dims));
  }
  if (!screen.map) return;
  for (int64_t i = 0; i < q.dims * p.rows.dims; ++i) packed[l.map + i] = static_cast<real>(screen.map[i]);
}

struct ScreenWorkspace {
  real *x, *along, *length, *leading, *trailing;
  double *exact, *square;
};

inline size_t lay_out_screen(const Pass& p, const Screen& screen, void* memory, ScreenWorkspace& w) {
  Cut take{static_cast<char*>(memory)};
  const int64_t padded_dims = round_up(p.rows.dims, lanes);
  take(w.x, p.rows.dims * stride);
  take(w.along, screen.map ? screen.quadratics.dims * stride : 0);
  take(w.length, stride);
  take(w.leading, padded_dims);
  take(w.trailing, padded_dims);
  take(w.exact, padded_dims);
  take(w.square, block_rows);
  return static_cast<size_t>(take.at - static_cast<char*>(memory));
}

inline size_t screen_workspace_bytes(const Pass& p, const Screen& screen) {
  ScreenWorkspace w;
  return lay_out_screen(p, screen, nullptr, w);
}

// Adds `weight` times the lengths of n packed rows to w.length. In double, where no square becomes 0.
inline void add_lengths(const real* x, int64_t dims, int64_t n, double weight, const ScreenWorkspace& w) {
  for (int64_t i = 0; i < n; ++i) w.square[i] = 0.0;
  for (int64_t d = 0; d < dims; ++d)
    for (int64_t i = 0; i < n; ++i) {
      const double value = static_cast<double>(x[d * stride + i]);
      w.square[i] += value * value;
    }
  for (int64_t i = 0; i < n; ++i)
    w.length[i] += static_cast<real>(weight * __builtin_sqrt(w.square[i]) * 1.000001);
}

// The rows of a block, packed, or along the directions, and what their lengths are taken to be; returns them.
inline const real* begin_screen(const Pass& p, const Screen& screen, int64_t begin, int64_t n,
                                const ScreenWorkspace& w) {
  const int64_t padded = round_up(n, group_rows), dims = p.rows.dims, count = screen.quadratics.dims;
  pack_rows(p.rows, split_pivot(p, w.exact, w.leading, w.trailing), begin, n, padded,
            Packed{w.x, nullptr, 0});
  for (int64_t i = 0; i < padded; i += lanes) store(w.length + i, vec{});
  if (!screen.map) {
    add_lengths(w.x, dims, n, 1.0, w);
    return w.x;
  }
  const real* map = static_cast<const real*>(screen.packed) + screen_layout(p, screen).map;
  const double of_map =
      (static_cast<double>(dims) + 3.0) * half_unit * length_of(map, count * dims) / rounding_of(count);
  add_lengths(w.x, dims, n, of_map, w);
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < padded; i += lanes) {
      vec sum{};
      for (int64_t d = 0; d < dims; ++d) sum += splat(map[r * dims + d]) * load(w.x + d * stride + i);
      store(w.along + r * stride + i, sum);
    }
  add_lengths(w.along, count, n, 1.0, w);
  return w.along;
}

// upper[k * block_rows + i] <- bounds of rows begin .. begin + n, at most a block: by the first rows of F_k
// where `least` is null, and best[i] <- whose is the largest; else, after that, by more rows of F_k, as long
// as a bound of a group of rows is not below the row's `least`, and left[k] <- the rows whose bound never
// was. Bounds that are below it stay as they are. Where n ends no group, the rows that fill the last one have
// bounds, too. Of kernels in single precision.
inline void screen(const Pass& p, const Screen& s, int64_t begin, int64_t n, const float* least, float* upper,
                   int32_t* best, uint64_t* left, void* workspace) {
  ScreenWorkspace w;
  lay_out_screen(p, s, workspace, w);
  const Quadratics& q = s.quadratics;
  const ScreenLayout layout = screen_layout(p, s);
  const PackedLayout& l = layout.quadratics;
  const real* packed = static_cast<const real*>(s.packed);
  const real* x = least ? (s.map ? w.along : w.x) : begin_screen(p, s, begin, n, w);
  const real* reached = reinterpret_cast<const real*>(least);
  real* bounds = reinterpret_cast<real*>(upper);
  const vec kept = splat(static_cast<real>(1.0 - 1.0 / 256 - rounding_of(q.dims) - 16.0 * half_unit));
  const auto squares = [&](int64_t k, int64_t i, int64_t first, int64_t last, SquaredNorm& norm) {
    apply_factor<true>(last, last, packed + l.factor + k * l.factor_size, packed + l.bias + k * l.bias_size,
                       x + i, norm, first / tile_rows);
  };
  for (int64_t i = 0; i < n && !least; i += group_rows) {
    vec top[groups];
    ivec candidate[groups];
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      top[g] = splat(-__builtin_huge_val());
      candidate[g] = ivec{};
    }
    for (int64_t k = 0; k < q.components; ++k) {
      SquaredNorm norm{};
      squares(k, i, 0, s.first, norm);
      const real c = packed[l.offsets + k];
      const vec level = splat(c + static_cast<real>(8.0 * half_unit) * (c < 0 ? -c : c));
      const vec of_factor = splat(packed[layout.of_factor + k]), of_bias = splat(packed[layout.of_bias + k]);
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const vec error = of_factor * load(w.length + i + g * lanes) + of_bias;
        const vec bound = level + splat(257) * (error * error) - kept * norm.q[g];
        store(bounds + k * block_rows + i + g * lanes, bound);
        const ivec better = bound > top[g];
        candidate[g] = better ? static_cast<integer>(k) - ivec{} : candidate[g];
        top[g] = better ? bound : top[g];
      }
    }
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) reinterpret_cast<ivec*>(best + i)[g] = candidate[g];
  }
  for (int64_t k = 0; k < q.components && least; ++k) {
    RowSet counts{};
    for (int64_t i = 0; i < n; i += group_rows) {
      real* bound = bounds + k * block_rows + i;
      ivec reach[groups];
      const auto any_reach = [&] {
        ivec some{};
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) {
          reach[g] = ~(load(bound + g * lanes) < load(reached + i + g * lanes));
          some |= reach[g];
        }
        return any(some);
      };
      bool remains = any_reach();
      for (int64_t row = s.first, end; remains && row < q.dims; row = end) {
        end = row + 2 * s.step > q.dims ? q.dims : row + s.step;
        SquaredNorm norm{};
        squares(k, i, row, end, norm);
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) store(bound + g * lanes, load(bound + g * lanes) - kept * norm.q[g]);
        remains = any_reach();
      }
      if (!remains) continue;
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) counts.add(i + g * lanes, reach[g]);
    }
    __builtin_memcpy(left + k * RowSet::words, counts.word, sizeof counts.word);
  }
}

// A screen of quadratics as they are, or along directions, as yet unpacked. All directions are taken at once:
// by some of them alone the component that looks best often is not.
inline Screen screen_of(const Quadratics& q, const double* map) {
  const int64_t step = q.dims / 8 / tile_rows * tile_rows;
  return Screen{q, map, map ? q.dims : 4 * step, step, nullptr, 0, screen};
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
