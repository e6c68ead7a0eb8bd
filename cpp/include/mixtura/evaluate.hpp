// The E half: quadratics evaluated on a block.
//
//   joint2[k][i] = c_k log2(e) - || sqrt(log2(e) / 2) F_k (z_i - m_k) ||^2 + log2(e) b_k . (z_i - m_k)
//
// in base 2, so that the exponential needs no multiplication. With x = z - pivot and
// b_k = -F_k (m_k - pivot), both scaled, y = F_k x + b_k costs one multiply-add per entry of F_k that is
// not zero: D(D+1)/2 per (row, component) for a triangle, R*D for a rectangle, 2*D for a diagonal (y and
// y^2). Where all that differs between components is their means (a scalar, or a shared factor once the rows
// are transformed), the square is multiplied out: c_k - |m_k|^2 + 2 m_k.x - |x|^2, one multiply-add per
// column, unless the means lie so far from the pivot that the difference would cancel. A linear term, where
// there is one, is a product of its own: D multiply-adds a pair, and its constant goes into c_k. A scalar's
// is part of its multiplied-out square, and costs nothing there. Reuse: a tile of `tile_rows` rows of F meets
// `groups` vectors of rows, so `tile_rows * groups` multiply-adds share `tile_rows + groups` loads.
#pragma once

#include "mixtura/block.hpp"
#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// A responsibility below 2^-50 / K of its row's largest does not count: all that a row can lose by leaving
// such pairs out is below K 2^-50 / K < 1e-15 of it.
MIXTURA_INLINE real least_that_counts(int64_t components) {
  return static_cast<real>(8.8817841970012523e-16 / static_cast<double>(components));
}

// Its log2, or a little less.
MIXTURA_INLINE real least_exponent(int64_t components) {
  return static_cast<real>(__builtin_clzll(static_cast<uint64_t>(components)) - 64 - 50);
}

constexpr int group_rows = groups * lanes;
static_assert(tile_rows <= (long_vectors ? 8 : 4), "apply_factor knows no larger tiles");
static_assert(block_rows % group_rows == 0, "a block is whole groups of rows");

constexpr double half_log2e_root = 0.84932180028801904272;  // sqrt(log2(e) / 2)
constexpr double log2e = 1.4426950408889634074;
constexpr double ln2 = 0.69314718055994530942;

MIXTURA_INLINE int64_t tiles(int64_t rows) {
  return (rows + tile_rows - 1) / tile_rows;
}

// Columns that tile t of a triangle touches; a rectangle's tiles touch all.
MIXTURA_INLINE int64_t tile_columns(const Quadratics& q, int64_t t) {
  const int64_t end = (t + 1) * tile_rows;
  return q.factor == Factor::triangle && end < q.dims ? end : q.dims;
}

MIXTURA_INLINE bool tiled(const Quadratics& q) {
  return q.factor == Factor::triangle || q.factor == Factor::rectangle;
}

// Components that differ in their means alone, once rows are transformed and scaled.
MIXTURA_INLINE bool centred(const Quadratics& q) {
  return q.factor == Factor::scalar || (q.shared && tiled(q));
}

// Components whose rows are stacked in one tile, if more than one: those of rectangles of few rows, such as
// linear experts have, whose own tiles would be empty for the most part and share no loads.
MIXTURA_INLINE int64_t stacked(const Quadratics& q) {
  const bool few = q.factor == Factor::rectangle && !q.shared && q.factor_rows <= tile_rows / 2;
  return few ? tile_rows / q.factor_rows : 1;
}

// Packed quadratics. `offsets` are c (K); `factor` is, by form: scalar, the scale of a square (K); diagonal,
// D numbers a component and, after one vector or more of them, zeros up to a whole one; else tiles
// [column][tile_rows], once if shared, or one for several components whose rows are stacked in it. `bias` is
// F_k (pivot - m_k) per component (pivot - m_k for a scalar). For centred forms also the multiplied-out
// square: `product` tiles of components [column][tile_rows], their constants `product_offset` (K padded) and
// the factor of |x|^2, `product_scale` (K padded). `use_product` says which of the two to use, see Product.
// `linear` are tiles of components [column][tile_rows] of the linear terms, `zeros` their biases (K padded).
enum Product { by_differences, multiplied_out, without_squares };  // the last: of factors that are 0

struct PackedLayout {
  int64_t factor_size, bias_size, factors, centre_dims;
  size_t use_product, offsets, factor, bias, product, product_offset, product_scale, linear, zeros, total;
};

inline PackedLayout packed_layout(const Quadratics& q) {
  PackedLayout l{};
  if (tiled(q)) {
    for (int64_t t = 0; t < tiles(q.factor_rows); ++t) l.factor_size += tile_columns(q, t) * tile_rows;
    l.bias_size = tiles(q.factor_rows) * tile_rows;
    l.factors = q.shared ? 1 : (q.components + stacked(q) - 1) / stacked(q);
  } else {
    l.bias_size = q.factor == Factor::diagonal && q.dims >= lanes ? round_up(q.dims, lanes) : q.dims;
    l.factor_size = q.factor == Factor::scalar ? 1 : l.bias_size;
    l.factors = q.components;
  }
  l.centre_dims = tiled(q) ? q.factor_rows : q.dims;
  size_t at = 0;
  auto take = [&at](int64_t size) {
    const size_t here = at;
    at += static_cast<size_t>(round_up(size, lanes));
    return here;
  };
  const int64_t padded = centred(q) ? tiles(q.components) * tile_rows : 0;
  l.use_product = take(1);
  l.offsets = take(q.components);
  l.factor = take(l.factors * l.factor_size);
  l.bias = take(q.components * l.bias_size);
  l.product = take(padded * l.centre_dims);
  l.product_offset = take(padded);
  l.product_scale = take(padded);
  const int64_t tilted = q.linear ? tiles(q.components) * tile_rows : 0;
  l.linear = take(tilted * q.dims);
  l.zeros = take(tilted);
  l.total = at;
  return l;
}

inline void pack_elementwise(const Quadratics& q, const double* pivot, const PackedLayout& l, real* packed) {
  const bool scalar = q.factor == Factor::scalar;
  for (int64_t k = 0; k < q.components; ++k) {
    const double* mean = q.means + k * q.dims;
    const double* source = q.factors + (q.shared ? 0 : k * (scalar ? 1 : q.dims));
    real* factor = packed + l.factor + k * l.factor_size;
    real* bias = packed + l.bias + k * l.bias_size;
    if (scalar) factor[0] = static_cast<real>(source[0] * source[0] * (0.5 * log2e));
    for (int64_t d = 0; d < q.dims; ++d) {
      const double scale = scalar ? 1.0 : source[d] * half_log2e_root;
      bias[d] = static_cast<real>((pivot[d] - mean[d]) * scale);
      if (!scalar) factor[d] = static_cast<real>(scale);
    }
  }
}

inline void pack_tiles(const Quadratics& q, const double* pivot, const PackedLayout& l, real* packed) {
  const bool triangle = q.factor == Factor::triangle;
  const int64_t together = stacked(q);
  for (int64_t k = 0; k < q.components; ++k) {
    const int64_t place = k % together * q.factor_rows;  // of its first row in a tile that is shared
    const double* mean = q.means + k * q.dims;
    const double* source = q.factors + (q.shared ? 0 : k * q.factor_rows * q.dims);
    real* bias = packed + l.bias + k / together * l.bias_size + place;
    for (int64_t r = 0; r < q.factor_rows; ++r) {
      const int64_t columns = triangle ? r + 1 : q.dims;
      double b = 0.0;
      for (int64_t d = 0; d < columns; ++d) b += source[r * q.dims + d] * (pivot[d] - mean[d]);
      bias[r] = static_cast<real>(b * half_log2e_root);
    }
    if (q.shared && k) continue;
    real* factor = packed + l.factor + k / together * l.factor_size + place;
    for (int64_t t = 0; t < tiles(q.factor_rows); ++t) {
      const int64_t columns = tile_columns(q, t);
      for (int64_t d = 0; d < columns; ++d)
        for (int64_t u = 0; u < tile_rows; ++u) {
          const int64_t r = t * tile_rows + u;
          if (r < q.factor_rows && (!triangle || d <= r))
            factor[d * tile_rows + u] = static_cast<real>(source[r * q.dims + d] * half_log2e_root);
        }
      factor += columns * tile_rows;
    }
  }
}

// From the biases: with y = x (scalar, scale s) or y = F x, joint2 = c - s |y + b|^2
//                                                                 = (c - s |b|^2) + (-2 s b).y - s |y|^2.
// A scalar's linear term joins (-2 s b).x. Densities that are written out are evaluated by differences: of
// equal points, distances are to be exactly 0, as they are anyway where all scales are 0.
inline void pack_product(const Pass& p, const PackedLayout& l, real* packed) {
  const Quadratics& q = p.quadratics;
  bool close = true, flat = q.factor == Factor::scalar;
  for (int64_t k = 0; k < q.components; ++k) {
    const double scale = q.factor == Factor::scalar ? static_cast<double>(packed[l.factor + k]) : 1.0;
    const real* bias = packed + l.bias + k * l.bias_size;
    const double* slope = q.linear && q.factor == Factor::scalar ? q.linear + k * q.dims : nullptr;
    real* tile = packed + l.product + k / tile_rows * tile_rows * l.centre_dims + k % tile_rows;
    double square = 0.0;
    for (int64_t d = 0; d < l.centre_dims; ++d) {
      const double b = static_cast<double>(bias[d]);
      square += scale * b * b;
      const double product = -2.0 * scale * b;
      tile[d * tile_rows] = static_cast<real>(slope ? product + slope[d] * log2e : product);
    }
    close = close && square <= product_limit;
    flat = flat && scale == 0.0;
    packed[l.product_offset + k] = static_cast<real>(static_cast<double>(packed[l.offsets + k]) - square);
    packed[l.product_scale + k] = static_cast<real>(scale);
  }
  const bool product = close && (flat || !has_answers(p));
  packed[l.use_product] = static_cast<real>(flat      ? without_squares
                                            : product ? multiplied_out
                                                      : by_differences);
}

// Whether joint2 has the linear terms once it has the squares.
MIXTURA_INLINE bool linear_in_product(const Quadratics& q, const PackedLayout& l, const real* packed) {
  return q.factor == Factor::scalar && packed[l.use_product] != by_differences;
}

// Log-weights of components are folded into c_k; those of rows wait for the block.
inline void pack_quadratics(const Pass& p, real* packed) {
  const Quadratics& q = p.quadratics;
  const PackedLayout l = packed_layout(q);
  for (size_t i = 0; i < l.total; ++i) packed[i] = 0;
  for (int64_t k = 0; k < q.components; ++k) {
    const double weight = p.log_weights && !p.log_weights_per_row ? p.log_weights[k] : 0.0;
    double offset = q.offsets[k] + weight;
    for (int64_t d = 0; q.linear && d < q.dims; ++d) {
      const double b = q.linear[k * q.dims + d];
      offset += b * (p.pivot[d] - q.means[k * q.dims + d]);
      packed[l.linear + k / tile_rows * tile_rows * q.dims + d * tile_rows + k % tile_rows] =
          static_cast<real>(b * log2e);
    }
    packed[l.offsets + k] = static_cast<real>(offset * log2e);
  }
  if (tiled(q))
    pack_tiles(q, p.pivot, l, packed);
  else
    pack_elementwise(q, p.pivot, l, packed);
  if (centred(q)) pack_product(p, l, packed);
}

// y[u] = sum_d F[d][u] x[d] + b[u] for J rows of a factor and one group of rows. The last J columns of a
// triangle's tile are its diagonal part: column J-end+t meets only rows u >= t.
template <int J, bool triangle>
MIXTURA_INLINE void factor_tile(const real* factor, int64_t columns, const real* bias, const real* x,
                                vec (&y)[J][groups]) {
  MIXTURA_UNROLL
  for (int u = 0; u < J; ++u) {
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) y[u][g] = splat(bias[u]);
  }
  const int64_t square = triangle ? columns - J : columns;
  for (int64_t d = 0; d < square; ++d) {
    vec v[groups];
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) v[g] = load(x + d * stride + g * lanes);
    MIXTURA_UNROLL
    for (int u = 0; u < J; ++u) {
      const vec f = splat(factor[d * tile_rows + u]);
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) y[u][g] += f * v[g];
    }
  }
  if (triangle) {
    const real* corner = factor + square * tile_rows;
    const real* xc = x + square * stride;
    MIXTURA_UNROLL
    for (int t = 0; t < J; ++t) {
      vec v[groups];
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) v[g] = load(xc + t * stride + g * lanes);
      MIXTURA_UNROLL
      for (int u = t; u < J; ++u) {
        const vec f = splat(corner[t * tile_rows + u]);
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) y[u][g] += f * v[g];
      }
    }
  }
}

// Adds ||y||^2 of J rows of one factor to q[g]; two chains a group, so that adding does not wait for itself.
struct SquaredNorm {
  vec q[groups];
  template <int J>
  MIXTURA_INLINE void operator()(int64_t, const vec (&y)[J][groups]) {
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      vec even = y[0][g] * y[0][g];
      vec odd = J > 1 ? y[J > 1][g] * y[J > 1][g] : vec{};
      MIXTURA_UNROLL
      for (int u = 2; u < J; u += 2) even += y[u][g] * y[u][g];
      MIXTURA_UNROLL
      for (int u = 3; u < J; u += 2) odd += y[u][g] * y[u][g];
      q[g] += even + odd;
    }
  }
};

// Writes y of J rows of the shared factor.
struct StoreRows {
  real* out;
  template <int J>
  MIXTURA_INLINE void operator()(int64_t row, const vec (&y)[J][groups]) {
    MIXTURA_UNROLL
    for (int u = 0; u < J; ++u) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) store(out + (row + u) * stride + g * lanes, y[u][g]);
    }
  }
};

// joint2 of J components from their products with the rows: subtracts s_k |x|^2 and keeps the largest.
template <bool squares>
struct StoreJoint {
  real* joint2;
  const real* scale;
  vec square[groups], top[groups];
  template <int J>
  MIXTURA_INLINE void operator()(int64_t k, const vec (&y)[J][groups]) {
    MIXTURA_UNROLL
    for (int u = 0; u < J; ++u) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const vec value = squares ? y[u][g] - splat(scale[k + u]) * square[g] : y[u][g];
        store(joint2 + (k + u) * stride + g * lanes, value);
        top[g] = max(top[g], value);
      }
    }
  }
};

// Adds the linear terms of J components to joint2, and keeps the largest.
struct AddToJoint {
  real* joint2;
  vec top[groups];
  template <int J>
  MIXTURA_INLINE void operator()(int64_t k, const vec (&y)[J][groups]) {
    MIXTURA_UNROLL
    for (int u = 0; u < J; ++u) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        real* at = joint2 + (k + u) * stride + g * lanes;
        const vec value = load(at) + y[u][g];
        store(at, value);
        top[g] = max(top[g], value);
      }
    }
  }
};

template <int J, bool triangle, class Epilogue>
MIXTURA_INLINE void one_tile(const real* factor, int64_t columns, const real* bias, const real* x,
                             int64_t row, Epilogue& done) {
  vec y[J][groups];
  factor_tile<J, triangle>(factor, columns, bias, x, y);
  done(row, y);
}

// The `rows` rows of one factor of `dims` columns, from its tile `from` on, against one group of rows of the
// block; its tiles hold `filled` rows each.
template <bool triangle, int filled = tile_rows, class Epilogue>
MIXTURA_INLINE void apply_factor(int64_t rows, int64_t dims, const real* factor, const real* bias,
                                 const real* x, Epilogue& done, int64_t from = 0) {
  const int64_t whole = rows / filled;
  factor += (triangle ? from * (from + 1) / 2 * filled : from * dims) * tile_rows;
  for (int64_t t = from; t < whole; ++t) {
    const int64_t columns = triangle ? (t + 1) * filled : dims;
    one_tile<filled, triangle>(factor, columns, bias + t * tile_rows, x, t * filled, done);
    factor += columns * tile_rows;
  }
  const int64_t row = whole * filled;
  const real* b = bias + whole * tile_rows;
  switch (rows - row) {
    case 1: one_tile<1, triangle>(factor, dims, b, x, row, done); break;
    case 2: one_tile<2, triangle>(factor, dims, b, x, row, done); break;
    case 3: one_tile<3, triangle>(factor, dims, b, x, row, done); break;
#if MIXTURA_VECTOR_BYTES == 64
    case 4: one_tile<4, triangle>(factor, dims, b, x, row, done); break;
    case 5: one_tile<5, triangle>(factor, dims, b, x, row, done); break;
    case 6: one_tile<6, triangle>(factor, dims, b, x, row, done); break;
    case 7: one_tile<7, triangle>(factor, dims, b, x, row, done); break;
#endif
    default: break;
  }
}

// A block's E half: where its rows are, and where the densities go. `transformed` (R padded x stride) holds
// the rows under a shared factor; `zero` is that many zeros.
struct Evaluation {
  const real* x;
  int64_t rows;
  real* joint2;       // K x stride
  real* top;          // stride: the largest of each row
  real* transformed;  //
  const real* zero;   //
};

// The same for triangles of up to four rows: the factors of C components stay in registers while the block
// passes, and no tile is left half empty.
static_assert(tiny_dims <= 4, "evaluate knows no larger ones");

template <int C, int D>
inline void evaluate_tiny(const PackedLayout& l, const real* packed, const Evaluation& e, int64_t k,
                          Prefetch& ahead) {
  vec offset[C], f[C][D][D], bias[C][D];
  MIXTURA_UNROLL
  for (int c = 0; c < C; ++c) {
    const real* factor = packed + l.factor + (k + c) * l.factor_size;
    const real* b = packed + l.bias + (k + c) * l.bias_size;
    offset[c] = splat(packed[l.offsets + k + c]);
    MIXTURA_UNROLL
    for (int r = 0; r < D; ++r) {
      bias[c][r] = splat(b[r]);
      MIXTURA_UNROLL
      for (int d = 0; d <= r; ++d) f[c][r][d] = splat(factor[d * tile_rows + r]);
    }
  }
  real* out = e.joint2 + k * stride;
  for (int64_t i = 0; i < e.rows; i += lanes) {
    if (i % group_rows == 0) ahead.step();
    vec v[D];
    MIXTURA_UNROLL
    for (int d = 0; d < D; ++d) v[d] = load(e.x + d * stride + i);
    vec top = k ? load(e.top + i) : splat(-__builtin_huge_val());
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      vec value = offset[c];
      MIXTURA_UNROLL
      for (int r = 0; r < D; ++r) {
        vec y = bias[c][r];
        MIXTURA_UNROLL
        for (int d = 0; d <= r; ++d) y += f[c][r][d] * v[d];
        value -= y * y;
      }
      store(out + c * stride + i, value);
      top = max(top, value);
    }
    store(e.top + i, top);
  }
}

template <int D>
inline void evaluate_tiny(const Quadratics& q, const PackedLayout& l, const real* packed, const Evaluation& e,
                          Prefetch& ahead) {
  constexpr int C = D <= tiny_pair_dims ? 2 : 1;
  int64_t k = 0;
  for (; k + C <= q.components; k += C) evaluate_tiny<C, D>(l, packed, e, k, ahead);
  for (; k < q.components; ++k) evaluate_tiny<1, D>(l, packed, e, k, ahead);
}

// joint2[k][i] for a triangle or a rectangle per component, and the largest of them so far, top[i]. As many
// components at a time as have factors that stay in the first-level cache.
template <bool triangle>
inline void evaluate_factors(const Quadratics& q, const PackedLayout& l, const real* packed,
                             const Evaluation& e, Prefetch& ahead) {
  const int64_t fit = factor_bytes / (l.factor_size * static_cast<int64_t>(sizeof(real)));
  const int64_t together = fit < 1 ? 1 : fit;
  for (int64_t first = 0; first < q.components; first += together) {
    const int64_t last = smaller(first + together, q.components);
    for (int64_t i = 0; i < e.rows; i += group_rows) {
      vec top[groups];
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g)
        top[g] = first ? load(e.top + i + g * lanes) : splat(-__builtin_huge_val());
      for (int64_t k = first; k < last; ++k) {
        SquaredNorm norm{};
        ahead.step();
        apply_factor<triangle>(q.factor_rows, q.dims, packed + l.factor + k * l.factor_size,
                               packed + l.bias + k * l.bias_size, e.x + i, norm);
        const vec offset = splat(packed[l.offsets + k]);
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) {
          const vec value = offset - norm.q[g];
          store(e.joint2 + k * stride + i + g * lanes, value);
          top[g] = max(top[g], value);
        }
      }
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) store(e.top + i + g * lanes, top[g]);
    }
  }
}

// joint2 of J / R components whose R rows each are stacked in one tile, and the largest.
template <int R>
struct StackedSquares {
  real* joint2;
  const real* offsets;
  Prefetch* ahead;
  vec top[groups];
  template <int J>
  MIXTURA_INLINE void operator()(int64_t row, const vec (&y)[J][groups]) {
    if constexpr (J % R == 0) {  // no other tiles are there
      const int64_t first = row / R;
      ahead->step();
      MIXTURA_UNROLL
      for (int c = 0; c < J / R; ++c) {
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) {
          vec value = splat(offsets[first + c]);
          MIXTURA_UNROLL
          for (int r = 0; r < R; ++r) value -= y[c * R + r][g] * y[c * R + r][g];
          store(joint2 + (first + c) * stride + g * lanes, value);
          top[g] = max(top[g], value);
        }
      }
    }
  }
};

// The same as evaluate_factors for rectangles of R rows, tile_rows / R components to a tile.
template <int R>
inline void evaluate_stacked(const Quadratics& q, const PackedLayout& l, const real* packed,
                             const Evaluation& e, Prefetch& ahead) {
  constexpr int together = tile_rows / R;
  const int64_t fit = factor_bytes / (l.factor_size * static_cast<int64_t>(sizeof(real)));
  const int64_t step = fit < 1 ? 1 : fit;  // tiles
  for (int64_t tile = 0; tile < l.factors; tile += step) {
    const int64_t first = tile * together, last = smaller(first + step * together, q.components);
    for (int64_t i = 0; i < e.rows; i += group_rows) {
      StackedSquares<R> squares{e.joint2 + first * stride + i, packed + l.offsets + first, &ahead, {}};
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g)
        squares.top[g] = first ? load(e.top + i + g * lanes) : splat(-__builtin_huge_val());
      apply_factor<false, R * together>((last - first) * R, q.dims, packed + l.factor + tile * l.factor_size,
                                        packed + l.bias + tile * l.bias_size, e.x + i, squares);
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) store(e.top + i + g * lanes, squares.top[g]);
    }
  }
}

// Centres by the multiplied-out square, on the rows or the transformed rows `y`; without squares of these
// where all are to be multiplied by 0.
template <bool squares>
inline void evaluate_product(const Quadratics& q, const PackedLayout& l, const real* packed, const real* y,
                             const Evaluation& e, Prefetch& ahead) {
  for (int64_t i = 0; i < e.rows; i += group_rows) {
    StoreJoint<squares> joint{e.joint2 + i, packed + l.product_scale, {}, {}};
    for (int64_t d = 0; squares && d < l.centre_dims; ++d) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const vec v = load(y + d * stride + i + g * lanes);
        joint.square[g] += v * v;
      }
    }
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) joint.top[g] = splat(-__builtin_huge_val());
    ahead.step();
    apply_factor<false>(q.components, l.centre_dims, packed + l.product, packed + l.product_offset, y + i,
                        joint);
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) store(e.top + i + g * lanes, joint.top[g]);
  }
}

// square[c][g] <- the sum over columns of (s_cd x_d + b_cd)^2, or, without a scale for each column, of
// (x_d + b_cd)^2, for C components, whose factors lie `size` numbers apart, and one group of rows.
template <int C, bool each_column>
MIXTURA_INLINE void sum_squares(const real* s, const real* b, int64_t size, const real* x, int64_t columns,
                                vec (&square)[C][groups]) {
  MIXTURA_UNROLL
  for (int c = 0; c < C; ++c) {
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) square[c][g] = vec{};
  }
  for (int64_t d = 0; d < columns; ++d) {
    vec v[groups];
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) v[g] = load(x + d * stride + g * lanes);
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      const vec bias = splat(b[c * size + d]);
      const vec scale = each_column ? splat(s[c * size + d]) : vec{};
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const vec y = each_column ? v[g] * scale + bias : v[g] + bias;
        square[c][g] += y * y;
      }
    }
  }
}

// joint2[k][i] = c_k - sum_d (s_kd x_d + b_kd)^2, or, without a scale for each column,
//                c_k - s_k sum_d (x_d + b_kd)^2,       for C components at once.
// 2*D operations a pair; C * groups of them share C * 2 + groups loads. A null s counts as ones.
template <int C, bool each_column>
inline void evaluate_elementwise(const real* offsets, const real* s, const real* b, int64_t dims,
                                 int64_t bias_size, const real* x, const Evaluation& e, int64_t k,
                                 Prefetch& ahead) {
  for (int64_t i = 0; i < e.rows; i += group_rows) {
    ahead.step();
    vec q[C][groups];
    sum_squares<C, each_column>(s, b, bias_size, x + i, dims, q);
    vec largest[groups];
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      const vec scale = splat(each_column || !s ? real(1) : s[c]);
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const vec value = offsets[c] - scale * q[c][g];
        store(e.joint2 + (k + c) * stride + i + g * lanes, value);
        largest[g] = c ? max(largest[g], value) : value;
      }
    }
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      real* t = e.top + i + g * lanes;
      store(t, k ? max(load(t), largest[g]) : largest[g]);
    }
  }
}

template <bool each_column>
inline void evaluate_all_elementwise(const real* offsets, const real* s, const real* b, int64_t components,
                                     int64_t dims, int64_t bias_size, const real* x, const Evaluation& e,
                                     Prefetch& ahead) {
  constexpr int C = elementwise_components;
  const int64_t factor_size = each_column ? bias_size : 1;
  for (int64_t k = 0; k < components;) {
    const real* scale = s ? s + k * factor_size : s;
    const real* bias = b + k * bias_size;
    if (k + C <= components) {
      evaluate_elementwise<C, each_column>(offsets + k, scale, bias, dims, bias_size, x, e, k, ahead);
      k += C;
    } else {
      evaluate_elementwise<1, each_column>(offsets + k, scale, bias, dims, bias_size, x, e, k, ahead);
      k += 1;
    }
  }
}

// The rows under the factor that all components share.
inline void transform(const Quadratics& q, const real* factor, const Evaluation& e) {
  for (int64_t i = 0; i < e.rows; i += group_rows) {
    StoreRows out{e.transformed + i};
    if (q.factor == Factor::triangle)
      apply_factor<true>(q.factor_rows, q.dims, factor, e.zero, e.x + i, out);
    else
      apply_factor<false>(q.factor_rows, q.dims, factor, e.zero, e.x + i, out);
  }
}

// joint2[k][i] += b_k . x_i, and the largest of each row once more. D multiply-adds a pair, and joint2 is
// read and written again.
inline void evaluate_linear(const Quadratics& q, const PackedLayout& l, const real* packed,
                            const Evaluation& e) {
  for (int64_t i = 0; i < e.rows; i += group_rows) {
    AddToJoint joint{e.joint2 + i, {}};
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) joint.top[g] = splat(-__builtin_huge_val());
    apply_factor<false>(q.components, q.dims, packed + l.linear, packed + l.zeros, e.x + i, joint);
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) store(e.top + i + g * lanes, joint.top[g]);
  }
}

// How often evaluation asks for rows of the next block, for each group of rows: for all components at once,
// for each tile that they are stacked in, for each of them, or for four where factors are elementwise.
MIXTURA_INLINE int64_t prefetches(const Quadratics& q) {
  if (centred(q)) return 1;
  const int64_t together = tiled(q) ? stacked(q) : 4;
  return (q.components + together - 1) / together;
}

// joint2 (K x stride) of a block x (D x stride), and top (stride), the largest of each row.
inline void evaluate(const Quadratics& q, const real* packed, const Evaluation& e, Prefetch& ahead) {
  const PackedLayout l = packed_layout(q);
  const real* offsets = packed + l.offsets;
  const real* factor = packed + l.factor;
  const real* bias = packed + l.bias;
  if (centred(q)) {
    const real* y = tiled(q) ? e.transformed : e.x;
    if (tiled(q)) transform(q, factor, e);
    if (packed[l.use_product] == without_squares)
      evaluate_product<false>(q, l, packed, y, e, ahead);
    else if (packed[l.use_product] == multiplied_out)
      evaluate_product<true>(q, l, packed, y, e, ahead);
    else
      evaluate_all_elementwise<false>(offsets, tiled(q) ? nullptr : factor, bias, q.components, l.centre_dims,
                                      l.bias_size, y, e, ahead);
  } else if (q.factor == Factor::diagonal) {
    evaluate_all_elementwise<true>(offsets, factor, bias, q.components, q.dims, l.bias_size, e.x, e, ahead);
  } else if (q.factor == Factor::triangle && q.dims <= tiny_dims) {
    switch (q.dims) {
      case 1: evaluate_tiny<1>(q, l, packed, e, ahead); break;
      case 2: evaluate_tiny<2>(q, l, packed, e, ahead); break;
      case 3: evaluate_tiny<3>(q, l, packed, e, ahead); break;
      default: evaluate_tiny<4>(q, l, packed, e, ahead); break;
    }
  } else if (q.factor == Factor::triangle) {
    evaluate_factors<true>(q, l, packed, e, ahead);
  } else if (stacked(q) > 1) {
    switch (q.factor_rows) {
      case 1: evaluate_stacked<1>(q, l, packed, e, ahead); break;
#if MIXTURA_VECTOR_BYTES == 64
      case 3: evaluate_stacked<3>(q, l, packed, e, ahead); break;
      case 4: evaluate_stacked<4>(q, l, packed, e, ahead); break;
#endif
      default: evaluate_stacked<2>(q, l, packed, e, ahead); break;
    }
  } else {
    evaluate_factors<false>(q, l, packed, e, ahead);
  }
  if (q.linear && !linear_in_product(q, l, packed)) evaluate_linear(q, l, packed, e);
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
