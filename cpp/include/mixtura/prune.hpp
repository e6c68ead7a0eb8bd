// The E half of triangles where most pairs of a row and a component cannot count.
//
// || F_k (z_i - m_k) ||^2 is a sum of squares, one for each row of F_k, so its first R rows bound it:
//
//   joint2[k][i] <= u_ik = c_k log2(e) - (the squares of the first R rows).
//
// The component of a row's largest u is evaluated to the end first. A component whose u lies so far below the
// value found there that its responsibility cannot count (see least_that_counts) keeps it; where only the
// most likely component is asked for, one whose u lies below it at all. Groups of rows of which one is left
// are bounded once more, by 2 R rows of F_k. Rows that are left then are gathered side by side, component by
// component, and evaluated R rows at a time, to the end or until they cannot count. Cost: K R^2 / 2
// multiply-adds a row, with R = D / 4 a sixteenth of all, and up to a quarter of all for the second bound;
// then D moves and at most 3 D^2 / 8 multiply-adds for a pair that is left. Where columns depend on each
// other, bounds in single precision along a few directions of all columns leave fewer; where many pairs are
// left, bounds by as many rows of F_k as it takes may cost less (screen.hpp). With which of these a pass
// begins, if any, a few rows of the table tell. After a block of which more than two fifths of the pairs are
// left the first two give way to the third, and that to blocks as they stand. Diagonals have bounds of their
// own (prune_diagonals.hpp).
#pragma once

#include "mixtura/evaluate.hpp"
#include "mixtura/prune_diagonals.hpp"
#include "mixtura/pruning.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// joint2[k][i] <- u_ik, and of each row the largest, top[i], and whose it is, candidate[i].
inline void bound(const Quadratics& q, const PackedLayout& l, const real* packed, const Evaluation& e,
                  const Pruning& p, Prefetch& ahead) {
  const int64_t rows = bounding_part(q);
  const int64_t fit = factor_bytes / (rows * (rows + tile_rows) / 2 * static_cast<int64_t>(sizeof(real)));
  const int64_t together = fit < 1 ? 1 : fit;
  for (int64_t first = 0; first < q.components; first += together) {
    const int64_t last = smaller(first + together, q.components);
    for (int64_t i = 0; i < e.rows; i += group_rows) {
      vec top[groups];
      ivec candidate[groups];
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        top[g] = first ? load(e.top + i + g * lanes) : splat(-__builtin_huge_val());
        candidate[g] = first ? *reinterpret_cast<const ivec*>(p.candidate + i + g * lanes) : ivec{};
      }
      for (int64_t k = first; k < last; ++k) {
        SquaredNorm norm{};
        ahead.step();
        apply_factor<true>(rows, rows, packed + l.factor + k * l.factor_size,
                           packed + l.bias + k * l.bias_size, e.x + i, norm);
        const vec offset = splat(packed[l.offsets + k]);
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) {
          const vec value = offset - norm.q[g];
          store(e.joint2 + k * stride + i + g * lanes, value);
          const ivec better = value > top[g];
          candidate[g] = better ? static_cast<integer>(k) - ivec{} : candidate[g];
          top[g] = better ? value : top[g];
        }
      }
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        store(e.top + i + g * lanes, top[g]);
        *reinterpret_cast<ivec*>(p.candidate + i + g * lanes) = candidate[g];
      }
    }
  }
}

// gathered[d][j] = x of row list[j], a square of lanes x lanes turned in registers at a time; n is whole
// groups.
inline void gather(const Pruning& p, int64_t dims, int64_t n) {
  for (int64_t j = 0; j < n; j += lanes)
    for (int64_t d = 0; d < dims; d += lanes) {
      vec v[lanes];
      MIXTURA_UNROLL
      for (int r = 0; r < lanes; ++r) v[r] = load(p.rows + p.list[j + r] * p.row_stride + d);
      transpose(v);
      MIXTURA_UNROLL
      for (int c = 0; c < lanes; ++c)
        if (d + c < dims) store(p.gathered + (d + c) * stride + j, v[c]);
    }
}

// value[g] -= the squares of F_k's rows from tile `from` on, for one group of rows: of all others at once,
// or, where some before are known, a quarter of them at a time, and minus infinity as soon as no value
// reaches its least.
MIXTURA_INLINE void add_squares(const Quadratics& q, const real* factor, const real* bias, const real* x,
                                int64_t from, const vec (&least)[groups], vec (&value)[groups]) {
  const int64_t step = from ? bounding_part(q) : q.dims;
  for (int64_t row = from * tile_rows, end; row < q.dims; row = end) {
    end = smaller(row + step, q.dims);
    SquaredNorm norm{};
    apply_factor<true>(end, end, factor, bias, x, norm, row / tile_rows);
    ivec counts{};
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      value[g] -= norm.q[g];
      counts |= ~(value[g] < least[g]);
    }
    if (any(counts)) continue;
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) value[g] = splat(-__builtin_huge_val());
    return;
  }
}

// joint2[k][i] from its bound by the rows of F_k before tile `from`, for n listed rows, which are gathered,
// and top[i]: the value itself, or the larger of the two.
template <bool first>
inline void finish_listed(const Quadratics& q, const PackedLayout& l, const real* packed, const Evaluation& e,
                          const Pruning& p, int64_t k, int64_t n, int64_t from) {
  const int64_t padded = round_up(n, group_rows);
  for (int64_t j = n; j < padded; ++j) p.list[j] = p.list[n - 1];
  gather(p, q.dims, padded);
  real* joint2 = e.joint2 + k * stride;
  for (int64_t j = 0; j < padded; j += group_rows) {
    alignas(64) real values[group_rows], leasts[group_rows];
    for (int u = 0; u < group_rows; ++u) {
      const integer i = p.list[j + u];
      values[u] = joint2[i];
      leasts[u] = first ? -static_cast<real>(__builtin_huge_val()) : e.top[i] + p.away;
    }
    vec value[groups], least[groups];
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      value[g] = load(values + g * lanes);
      least[g] = load(leasts + g * lanes);
    }
    add_squares(q, packed + l.factor + k * l.factor_size, packed + l.bias + k * l.bias_size, p.gathered + j,
                from, least, value);
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) store(values + g * lanes, value[g]);
    for (int u = 0; u < group_rows; ++u) {
      const integer i = p.list[j + u];
      joint2[i] = values[u];
      if (first || values[u] > e.top[i]) e.top[i] = values[u];
    }
  }
}

// The same for all rows, as they stand.
inline void finish_all(const Quadratics& q, const PackedLayout& l, const real* packed, const Evaluation& e,
                       const Pruning& p, int64_t k, int64_t from) {
  for (int64_t i = 0; i < e.rows; i += group_rows) {
    real* joint2 = e.joint2 + k * stride + i;
    vec value[groups], least[groups];
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      value[g] = load(joint2 + g * lanes);
      least[g] = load(e.top + i + g * lanes) + p.away;
    }
    add_squares(q, packed + l.factor + k * l.factor_size, packed + l.bias + k * l.bias_size, e.x + i, from,
                least, value);
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      store(joint2 + g * lanes, value[g]);
      store(e.top + i + g * lanes, max(load(e.top + i + g * lanes), value[g]));
    }
  }
}

// Bounds component k by `rows` rows of F_k, in groups of rows of the block in one of which it may count;
// lists the rows in which it still may, and returns how many these are.
inline int64_t bound_again(const Quadratics& q, const PackedLayout& l, const real* packed,
                           const Evaluation& e, const Pruning& p, int64_t k, int64_t rows) {
  RowSet left{};
  for (int64_t i = 0; i < e.rows; i += group_rows) {
    real* joint2 = e.joint2 + k * stride + i;
    ivec counts{};
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) counts |= load(joint2 + g * lanes) >= load(p.least + i + g * lanes);
    if (!any(counts)) continue;
    SquaredNorm norm{};
    apply_factor<true>(rows, rows, packed + l.factor + k * l.factor_size, packed + l.bias + k * l.bias_size,
                       e.x + i, norm, bounding_part(q) / tile_rows);
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      const vec closer = load(joint2 + g * lanes) - norm.q[g];
      store(joint2 + g * lanes, closer);
      left.add(i + g * lanes, closer >= load(p.least + i + g * lanes));
    }
  }
  return put_on_list(p, left);
}

// The components that look best are evaluated to the end, each for its own rows, from tile `from` on.
inline void finish_candidates(const Quadratics& q, const PackedLayout& l, const real* packed,
                              const Evaluation& e, const Pruning& p, int64_t from) {
  for (int64_t k = 0; k < q.components; ++k) p.own[k].clear();
  for (int64_t i = 0; i < e.rows; ++i) p.own[p.candidate[i]].add(i);
  for (int64_t k = 0; k < q.components; ++k)
    if (const int64_t n = put_on_list(p, p.own[k])) finish_listed<true>(q, l, packed, e, p, k, n, from);
}

// The same as evaluate for triangles, but that pairs that cannot count keep a bound; returns how many were
// left.
inline int64_t evaluate_triangles(const Quadratics& q, const real* packed, const Evaluation& e,
                                  const Pruning& p, Prefetch& ahead) {
  const PackedLayout l = packed_layout(q);
  const int64_t once = bounding_part(q), twice = 2 * once;
  bound(q, l, packed, e, p, ahead);
  finish_candidates(q, l, packed, e, p, once / tile_rows);
  set_aside(e, p);
  int64_t left = 0;
  for (int64_t k = 0; k < q.components; ++k) {
    const int64_t n = bound_again(q, l, packed, e, p, k, twice);
    if (4 * n >= 3 * e.rows)
      finish_all(q, l, packed, e, p, k, twice / tile_rows);
    else if (n)
      finish_listed<false>(q, l, packed, e, p, k, n, twice / tile_rows);
    left += n;
  }
  put_back(e, p);
  return left;
}

// The same for triangles and diagonals.
inline int64_t evaluate_pruned(const Quadratics& q, const real* packed, const Evaluation& e, const Pruning& p,
                               Prefetch& ahead) {
  return q.factor == Factor::diagonal ? evaluate_diagonals(q, packed, e, p, ahead)
                                      : evaluate_triangles(q, packed, e, p, ahead);
}

// The same as evaluate for rows begin .. begin + n, but for pairs that cannot count, with bounds in single
// precision; returns how many were left. Cost: the screen's, and D^2 / 2 multiply-adds for a pair that is
// left.
inline int64_t evaluate_screened(const Pass& pass, const Screen& screen, const real* packed,
                                 const Evaluation& e, const Pruning& p, int64_t begin, int64_t n) {
  const Quadratics& q = pass.quadratics;
  const PackedLayout l = packed_layout(q);
  screen.bound(pass, screen, begin, n, nullptr, p.upper, p.best, nullptr, p.screen);
  // Rows beyond n are evaluated with the others: what they hold is not used, but it is read.
  for (int64_t i = 0; i < e.rows; ++i) {
    p.candidate[i] = i < n ? static_cast<integer>(p.best[i]) : integer(0);
    e.joint2[static_cast<int64_t>(p.candidate[i]) * stride + i] = packed[l.offsets + p.candidate[i]];
  }
  finish_candidates(q, l, packed, e, p, 0);
  set_aside(e, p);
  float least[block_rows];
  for (int64_t i = 0; i < block_rows; ++i) least[i] = __builtin_huge_valf();  // which nothing reaches
  for (int64_t i = 0; i < n; ++i) {
    const float nearest = static_cast<float>(p.least[i]);
    least[i] = nearest - 1.2e-7f * (nearest < 0.0f ? -nearest : nearest);  // rounded down
    p.upper[p.candidate[i] * block_rows + i] = -__builtin_huge_valf();
  }
  screen.bound(pass, screen, begin, n, least, p.upper, p.best, p.left->word, p.screen);
  const vec nothing = splat(-__builtin_huge_val());
  int64_t left = 0;
  for (int64_t k = 0; k < q.components; ++k) {
    real* joint2 = e.joint2 + k * stride;
    for (int64_t i = 0; i < e.rows; i += lanes) store(joint2 + i, nothing);
    const int64_t listed = put_on_list(p, p.left[k]);
    if (!listed) continue;
    for (int64_t j = 0; j < listed; ++j) joint2[p.list[j]] = packed[l.offsets + k];
    finish_listed<false>(q, l, packed, e, p, k, listed, 0);
    left += listed;
  }
  put_back(e, p);
  return left;
}

// The screen of a pass that these bounds are by; null if they are by none.
MIXTURA_INLINE const Screen* screen_in(const Pass& pass, Bounds bounds) {
  return bounds == Bounds::by_directions ? pass.directions
         : bounds == Bounds::by_columns  ? pass.columns
                                         : nullptr;
}

// Evaluates a block with bounds, and sees how the next ones are to be.
inline void evaluate_bounded(const Pass& pass, const real* packed, const Evaluation& e, Pruning& p,
                             int64_t begin, int64_t n, Prefetch& ahead) {
  const Screen* screen = screen_in(pass, p.bounds);
  const int64_t left = screen ? evaluate_screened(pass, *screen, packed, e, p, begin, n)
                              : evaluate_pruned(pass.quadratics, packed, e, p, ahead);
  if (few_left(left, n, pass.quadratics, p.bounds)) return;
  if (pass.columns && screen != pass.columns) {
    p.bounds = Bounds::by_columns;
    return;
  }
  p.bounds = pass.bounds;
  p.resting = pruning_rests;
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
