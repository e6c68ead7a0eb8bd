// Where the running statistics of a component lie while rows are added up. Each way of accumulating has the
// order in which it adds fastest; `unpack` puts them in the order that callers know.
#pragma once

#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

//   plain      [mass | mean | second]: rows on lanes, or one row at a time
//   means      columns on lanes: [x, up to a whole vector | mass]
//   circulant  features on lanes: [x | x_d x_d | x_d x_(d+1) | x_d x_(d+2) | ...], indices modulo D, up to a
//   shift
//              of D/2: every pair once, and never a vector partly empty for being at a triangle's edge
//   blocks     features on lanes: [x | the lower triangle, block_height rows at a time]
enum class Order : int { plain, means, circulant, blocks };

// Whether second moments are taken for one component at a time: of many columns, of one component, or of few
// components whose columns fill no whole vectors.
MIXTURA_INLINE bool one_at_a_time(int64_t dims, int64_t components) {
  if (dims >= blocks_dims) return true;
  if (components == 1) return dims >= blocks_dims_alone;
  return components <= blocks_components_broken && dims >= blocks_dims_broken && dims % lanes != 0;
}

// Whether rows that each belong to one component are collected in bins before they are added (bins.hpp). With
// more components a chunk has too few rows of each.
MIXTURA_INLINE bool in_bins(const Pass& p) {
  return p.hard && !p.own_pivots && !has_answers(p) && p.kind == Kind::full && p.rows.dims >= bins_dims &&
         8 * p.quadratics.components <= chunk_rows_least;
}

// Shifts of the circulant order: 0 for the squares alone.
MIXTURA_INLINE int64_t shifts(Kind kind, int64_t dims) {
  return kind == Kind::full ? dims / 2 + 1 : kind == Kind::diagonal ? 1 : 0;
}

struct Statistics {
  Kind kind;
  int64_t dims;
  Order order;
  int64_t mass;    // where a component's mass lies; then, for the trace, the sum of squares
  int64_t linear;  // length of the sums of x
  int64_t size;    // of one component's statistics
};

MIXTURA_INLINE int64_t block_width(int64_t t) {
  return round_up((t + 1) * block_height, lanes);
}

// Where block t begins, after the sums of x.
MIXTURA_INLINE int64_t block_offset(int64_t t) {
  int64_t at = 0;
  for (int64_t u = 0; u < t; ++u) at += block_height * block_width(u);
  return at;
}

inline Statistics statistics(const Pass& p) {
  Statistics s{};
  s.kind = p.kind;
  s.dims = p.rows.dims;
  const int64_t size = statistics_size(s.kind, s.dims), scalars = s.kind == Kind::trace ? 2 : 1;
  if (p.kind == Kind::mean && !p.own_pivots && nearest_centre(p)) {
    s.order = Order::means;
    s.linear = s.mass = round_up(s.dims, wide_lanes);
    s.size = round_up(s.mass + 1, 8);
  } else if ((p.hard && !in_bins(p)) || p.own_pivots || size - scalars < 2 * lanes) {
    s.order = Order::plain;
    s.size = size;
  } else if (in_bins(p) || (s.kind == Kind::full && one_at_a_time(s.dims, p.quadratics.components))) {
    s.order = Order::blocks;
    s.linear = round_up(s.dims, lanes);
    s.mass = s.linear + block_offset(round_up(s.dims, block_height) / block_height);
    s.size = round_up(s.mass + 1, 8);
  } else {
    s.order = Order::circulant;
    s.linear = s.dims;
    s.mass = round_up(s.dims * (1 + shifts(s.kind, s.dims)) + lanes, 8);
    s.size = s.mass + 8;
  }
  return s;
}

// Whether rows of a pass with responsibilities may be collected in bins too, where few of a block count for a
// component.
MIXTURA_INLINE bool some_in_bins(const Pass& p, const Statistics& s) {
  return p.skip && !p.hard && !p.resp && !has_answers(p) && s.order == Order::blocks &&
         s.dims >= some_bins_dims && 8 * p.quadratics.components <= chunk_rows_least;
}

// Distance between a component's scaled rows.
MIXTURA_INLINE int64_t scaled_pitch(const Statistics& s) {
  return ((round_up(round_up(s.dims, lanes), block_height) / lanes) | 1) * lanes;
}

inline size_t sums_size(const Pass& p) {
  return has_answers(p) ? 0 : static_cast<size_t>(p.quadratics.components * statistics(p).size) + 1;
}

// Where x_a x_b, b <= a, lies in the circulant order.
MIXTURA_INLINE int64_t pair_offset(int64_t dims, int64_t a, int64_t b) {
  const int64_t gap = a - b;
  return gap <= dims / 2 ? dims * (1 + gap) + b : dims * (1 + dims - gap) + a;
}

inline void unpack(const Pass& p, const double* sums, double* total) {
  const Statistics s = statistics(p);
  const int64_t size = statistics_size(s.kind, s.dims), components = p.quadratics.components;
  total[components * size] = sums[components * s.size];
  for (int64_t k = 0; k < components; ++k, sums += s.size, total += size) {
    if (s.order == Order::plain) {
      for (int64_t i = 0; i < size; ++i) total[i] = sums[i];
      continue;
    }
    total[0] = sums[s.mass];
    for (int64_t d = 0; d < s.dims; ++d) total[1 + d] = sums[d];
    double* second = total + 1 + s.dims;
    if (s.kind == Kind::trace) second[0] = sums[s.mass + 1];
    if (s.kind == Kind::diagonal)
      for (int64_t d = 0; d < s.dims; ++d) second[d] = sums[s.dims + d];
    if (s.kind == Kind::full && s.order == Order::circulant)
      for (int64_t a = 0; a < s.dims; ++a)
        for (int64_t b = 0; b <= a; ++b) *second++ = sums[pair_offset(s.dims, a, b)];
    if (s.kind == Kind::full && s.order == Order::blocks) {
      const double* row = sums + s.linear;
      for (int64_t a = 0; a < s.dims; row += block_width(a / block_height), ++a)
        for (int64_t b = 0; b <= a; ++b) *second++ = row[b];
    }
  }
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
