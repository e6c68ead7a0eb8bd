// The E half of diagonals where most pairs of a row and a component cannot count.
//
//   joint2[k][i] <= u_ik = c_k log2(e) - sum over the first R columns of (s_kd x_d + b_kd)^2
//
// Of each row, the component of the largest u is evaluated to the end first. One whose u lies so far below
// the value found there that its responsibility cannot count (see farthest) keeps it. What is left is
// evaluated R columns at a time, to the end or until it cannot count, from rows as they lie in memory: a
// vector holds neighbouring columns of one row, so that rows need not be gathered. R is a quarter of the
// columns or half of them, whichever a few rows of the table say is enough. Cost: 2 K R operations a row for
// the bounds, and at most 2 (D - R) for a pair that is left, which take several times as long as those of
// bounds. Pairs are evaluated alike whichever comes first, so that of equal components the first stays the
// most likely.
#pragma once

#include "mixtura/evaluate.hpp"
#include "mixtura/pruning.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

MIXTURA_INLINE int64_t bounding_columns(const Quadratics& q, const Pruning& p) {
  return (p.bounds == Bounds::by_half ? 2 : 1) * bounding_part(q);
}

// joint2[k][i] <- u_ik for C components, and of each row the largest so far, top[i], and whose it is,
// candidate[i].
template <int C>
inline void bound_diagonals(const Quadratics& q, const PackedLayout& l, const real* packed,
                            const Evaluation& e, const Pruning& p, int64_t k, Prefetch& ahead) {
  const real *s = packed + l.factor + k * l.factor_size, *b = packed + l.bias + k * l.bias_size;
  for (int64_t i = 0; i < e.rows; i += group_rows) {
    ahead.step();
    vec norm[C][groups];
    sum_squares<C, true>(s, b, l.bias_size, e.x + i, bounding_columns(q, p), norm);
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      const int64_t row = i + g * lanes;
      vec top = k ? load(e.top + row) : splat(-__builtin_huge_val());
      ivec candidate = k ? *reinterpret_cast<const ivec*>(p.candidate + row) : ivec{};
      MIXTURA_UNROLL
      for (int c = 0; c < C; ++c) {
        const vec value = splat(packed[l.offsets + k + c]) - norm[c][g];
        store(e.joint2 + (k + c) * stride + row, value);
        const ivec better = value > top;
        candidate = better ? static_cast<integer>(k + c) - ivec{} : candidate;
        top = better ? value : top;
      }
      store(e.top + row, top);
      *reinterpret_cast<ivec*>(p.candidate + row) = candidate;
    }
  }
}

// value[u] -= the squares of row u's columns beyond the first part, under the factor s[u], b[u], as many
// columns at a time; minus infinity as soon as no value reaches its least. Where `shared`, all rows meet
// s[0], b[0].
template <bool shared>
MIXTURA_INLINE vec finish_rows(const Quadratics& q, const Pruning& p, const real* const (&rows)[lanes],
                               const real* const* s, const real* const* b, vec least, vec value) {
  const int64_t part = bounding_columns(q, p);
  for (int64_t begin = part, end; begin < q.dims; begin = end) {
    end = smaller(begin + part, q.dims);
    vec square[lanes];
    MIXTURA_UNROLL
    for (int u = 0; u < lanes; ++u) square[u] = vec{};
    for (int64_t d = begin; d < end; d += lanes) {
      vec scale = load_unaligned(s[0] + d), bias = load_unaligned(b[0] + d);
      MIXTURA_UNROLL
      for (int u = 0; u < lanes; ++u) {
        if (!shared && u) {
          scale = load_unaligned(s[u] + d);
          bias = load_unaligned(b[u] + d);
        }
        const vec y = load(rows[u] + d) * scale + bias;
        square[u] += y * y;
      }
    }
    value -= sums(square);
    if (!any(~(value < least))) return splat(-__builtin_huge_val());
  }
  return value;
}

// The component of each row's largest bound is evaluated to the end: top[i] <- what it reaches.
inline void finish_candidates(const Quadratics& q, const PackedLayout& l, const real* packed,
                              const Evaluation& e, const Pruning& p) {
  for (int64_t i = 0; i < e.rows; i += lanes) {
    const real *rows[lanes], *s[lanes], *b[lanes];
    MIXTURA_UNROLL
    for (int u = 0; u < lanes; ++u) {
      const int64_t k = static_cast<int64_t>(p.candidate[i + u]);
      rows[u] = p.rows + (i + u) * p.row_stride;
      s[u] = packed + l.factor + k * l.factor_size;
      b[u] = packed + l.bias + k * l.bias_size;
    }
    store(e.top + i, finish_rows<false>(q, p, rows, s, b, splat(-__builtin_huge_val()), load(e.top + i)));
  }
}

// joint2[k][i] from its bound for n listed rows, and top[i] if it is larger.
inline void finish_listed_diagonal(const Quadratics& q, const PackedLayout& l, const real* packed,
                                   const Evaluation& e, const Pruning& p, int64_t k, int64_t n) {
  const real *s = packed + l.factor + k * l.factor_size, *b = packed + l.bias + k * l.bias_size;
  real* joint2 = e.joint2 + k * stride;
  for (int64_t j = n; j < round_up(n, lanes); ++j) p.list[j] = p.list[n - 1];
  for (int64_t j = 0; j < n; j += lanes) {
    const real* rows[lanes];
    vec value{}, least{};
    MIXTURA_UNROLL
    for (int u = 0; u < lanes; ++u) {
      const integer i = p.list[j + u];
      rows[u] = p.rows + i * p.row_stride;
      value[u] = joint2[i];
      least[u] = e.top[i] + p.away;
    }
    value = finish_rows<true>(q, p, rows, &s, &b, least, value);
    MIXTURA_UNROLL
    for (int u = 0; u < lanes; ++u) {
      const integer i = p.list[j + u];
      joint2[i] = value[u];
      if (value[u] > e.top[i]) e.top[i] = value[u];
    }
  }
}

// Lists the rows in which component k may count, and returns how many these are.
inline int64_t list_left(const Evaluation& e, const Pruning& p, int64_t k) {
  RowSet left{};
  const real* joint2 = e.joint2 + k * stride;
  for (int64_t i = 0; i < e.rows; i += lanes) left.add(i, load(joint2 + i) >= load(p.least + i));
  return put_on_list(p, left);
}

// The same as evaluate, but that pairs that cannot count keep a bound; returns how many were left.
inline int64_t evaluate_diagonals(const Quadratics& q, const real* packed, const Evaluation& e,
                                  const Pruning& p, Prefetch& ahead) {
  const PackedLayout l = packed_layout(q);
  constexpr int C = elementwise_components;
  int64_t k = 0;
  for (; k + C <= q.components; k += C) bound_diagonals<C>(q, l, packed, e, p, k, ahead);
  for (; k < q.components; ++k) bound_diagonals<1>(q, l, packed, e, p, k, ahead);
  finish_candidates(q, l, packed, e, p);
  set_aside(e, p);
  int64_t left = 0;
  for (k = 0; k < q.components; ++k) {
    const int64_t n = list_left(e, p, k);
    if (n) finish_listed_diagonal(q, l, packed, e, p, k, n);
    left += n;
  }
  put_back(e, p);
  return left;
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
