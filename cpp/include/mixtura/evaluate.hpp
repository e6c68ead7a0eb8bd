// The E half: quadratics evaluated on a block.
//
//   joint2[k][i] = c_k log2(e) - || sqrt(log2(e) / 2) F_k (z_i - m_k) ||^2
//
// in base 2, so that the exponential needs no multiplication. With x = z - pivot and
// b_k = -F_k (m_k - pivot), both scaled, y = F_k x + b_k costs one multiply-add per entry of F_k that is
// not zero: D(D+1)/2 per (row, component) for a triangle, R*D for a rectangle, 2*D for a diagonal (y and y^2)
// and for a scalar (x - m, exactly zero where they are equal, and its square).
// Reuse: a tile of `tile_rows` rows of F meets `groups` vectors of rows, so `tile_rows * groups`
// multiply-adds share `tile_rows + groups` loads.
#pragma once

#include "mixtura/block.hpp"
#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// 16 accumulators of 32 registers with AVX-512, 8 of 16 elsewhere.
constexpr int tile_rows = lanes == 8 ? 8 : 4;
constexpr int groups = 2;
constexpr int group_rows = groups * lanes;

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

// Packed quadratics: c (K), the factors, and per component b. A factor is a number for a scalar, D numbers
// for a diagonal, else tiles [column][tile_rows]; b is F_k (pivot - m_k), or pivot - m_k for a scalar. A
// shared triangle or rectangle is stored once.
struct PackedLayout {
  int64_t factor_size;
  int64_t bias_size;
  int64_t factors;
  size_t offsets, factor, bias, total;
};

MIXTURA_INLINE bool tiled(const Quadratics& q) {
  return q.factor == Factor::triangle || q.factor == Factor::rectangle;
}

inline PackedLayout packed_layout(const Quadratics& q) {
  PackedLayout l{};
  if (tiled(q)) {
    for (int64_t t = 0; t < tiles(q.factor_rows); ++t) l.factor_size += tile_columns(q, t) * tile_rows;
    l.bias_size = tiles(q.factor_rows) * tile_rows;
    l.factors = q.shared ? 1 : q.components;
  } else {
    l.factor_size = q.factor == Factor::scalar ? 1 : q.dims;
    l.bias_size = q.dims;
    l.factors = q.components;
  }
  l.offsets = 0;
  l.factor = static_cast<size_t>(q.components);
  l.bias = l.factor + static_cast<size_t>(l.factors * l.factor_size);
  l.total = l.bias + static_cast<size_t>(q.components * l.bias_size);
  return l;
}

inline size_t packed_size(const Quadratics& q) {
  return packed_layout(q).total;
}

inline void pack_elementwise(const Quadratics& q, const double* pivot, double* packed) {
  const PackedLayout l = packed_layout(q);
  const bool scalar = q.factor == Factor::scalar;
  for (int64_t k = 0; k < q.components; ++k) {
    const double* mean = q.means + k * q.dims;
    const double* source = q.factors + (q.shared ? 0 : k * l.factor_size);
    double* factor = packed + l.factor + k * l.factor_size;
    double* bias = packed + l.bias + k * l.bias_size;
    if (scalar) factor[0] = source[0] * source[0] * (0.5 * log2e);
    for (int64_t d = 0; d < q.dims; ++d) {
      bias[d] = pivot[d] - mean[d];
      if (scalar) continue;
      factor[d] = source[d] * half_log2e_root;
      bias[d] *= factor[d];
    }
  }
}

inline void pack_tiles(const Quadratics& q, const double* pivot, double* packed) {
  const PackedLayout l = packed_layout(q);
  const bool triangle = q.factor == Factor::triangle;
  for (int64_t k = 0; k < q.components; ++k) {
    const double* mean = q.means + k * q.dims;
    const double* source = q.factors + (q.shared ? 0 : k * q.factor_rows * q.dims);
    double* bias = packed + l.bias + k * l.bias_size;
    for (int64_t r = 0; r < q.factor_rows; ++r) {
      const int64_t columns = triangle ? r + 1 : q.dims;
      double b = 0.0;
      for (int64_t d = 0; d < columns; ++d) b += source[r * q.dims + d] * (pivot[d] - mean[d]);
      bias[r] = b * half_log2e_root;
    }
    if (q.shared && k) continue;
    double* factor = packed + l.factor + k * l.factor_size;
    for (int64_t t = 0; t < tiles(q.factor_rows); ++t) {
      const int64_t columns = tile_columns(q, t);
      for (int64_t d = 0; d < columns; ++d)
        for (int64_t u = 0; u < tile_rows; ++u) {
          const int64_t r = t * tile_rows + u;
          if (r < q.factor_rows && (!triangle || d <= r))
            factor[d * tile_rows + u] = source[r * q.dims + d] * half_log2e_root;
        }
      factor += columns * tile_rows;
    }
  }
}

// Log-weights of components are folded into c_k; those of rows wait for the block.
inline void pack(const Pass& p, double* packed) {
  const Quadratics& q = p.quadratics;
  const PackedLayout l = packed_layout(q);
  for (size_t i = 0; i < l.total; ++i) packed[i] = 0.0;
  for (int64_t k = 0; k < q.components; ++k) {
    packed[l.offsets + k] = q.offsets[k] * log2e;
    if (p.log_weights && !p.log_weights_per_row) packed[l.offsets + k] += p.log_weights[k] * log2e;
  }
  if (tiled(q))
    pack_tiles(q, p.pivot, packed);
  else
    pack_elementwise(q, p.pivot, packed);
}

// y[u] = sum_d F[d][u] x[d] + b[u] for J rows of a factor and one group of rows. The last J columns of a
// triangle's tile are its diagonal part: column J-end+t meets only rows u >= t.
template <int J, bool triangle>
MIXTURA_INLINE void factor_tile(const double* factor, int64_t columns, const double* bias, const double* x,
                                int64_t stride, vec (&y)[J][groups]) {
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
    const double* corner = factor + square * tile_rows;
    const double* xc = x + square * stride;
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
  double* out;
  int64_t stride;
  template <int J>
  MIXTURA_INLINE void operator()(int64_t row, const vec (&y)[J][groups]) {
    MIXTURA_UNROLL
    for (int u = 0; u < J; ++u) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) store(out + (row + u) * stride + g * lanes, y[u][g]);
    }
  }
};

template <int J, bool triangle, class Epilogue>
MIXTURA_INLINE void one_tile(const double* factor, int64_t columns, const double* bias, const double* x,
                             int64_t stride, int64_t row, Epilogue& done) {
  vec y[J][groups];
  factor_tile<J, triangle>(factor, columns, bias, x, stride, y);
  done(row, y);
}

// All rows of one factor against one group of rows of the block.
template <bool triangle, class Epilogue>
inline void apply_factor(const Quadratics& q, const double* factor, const double* bias, const double* x,
                         int64_t stride, Epilogue& done) {
  const int64_t whole = q.factor_rows / tile_rows;
  for (int64_t t = 0; t < whole; ++t) {
    const int64_t columns = triangle ? (t + 1) * tile_rows : q.dims;
    one_tile<tile_rows, triangle>(factor, columns, bias + t * tile_rows, x, stride, t * tile_rows, done);
    factor += columns * tile_rows;
  }
  const int64_t row = whole * tile_rows;
  const double* b = bias + row;
  switch (q.factor_rows - row) {
    case 1: one_tile<1, triangle>(factor, q.dims, b, x, stride, row, done); break;
    case 2: one_tile<2, triangle>(factor, q.dims, b, x, stride, row, done); break;
    case 3: one_tile<3, triangle>(factor, q.dims, b, x, stride, row, done); break;
#if MIXTURA_VECTOR_BYTES == 64
    case 4: one_tile<4, triangle>(factor, q.dims, b, x, stride, row, done); break;
    case 5: one_tile<5, triangle>(factor, q.dims, b, x, stride, row, done); break;
    case 6: one_tile<6, triangle>(factor, q.dims, b, x, stride, row, done); break;
    case 7: one_tile<7, triangle>(factor, q.dims, b, x, stride, row, done); break;
#endif
    default: break;
  }
}

// The same for triangles of up to four rows: the whole factor stays in registers while the block passes, and
// no tile is left half empty.
constexpr int64_t tiny_dims = 4;

template <int D>
inline void evaluate_tiny(const Quadratics& q, const double* packed, const double* x, int64_t rows,
                          int64_t stride, double* joint2, double* top, Prefetch& ahead) {
  const PackedLayout l = packed_layout(q);
  for (int64_t k = 0; k < q.components; ++k) {
    const double* factor = packed + l.factor + k * l.factor_size;
    const double* b = packed + l.bias + k * l.bias_size;
    const vec offset = splat(packed[l.offsets + k]);
    vec f[D][D], bias[D];
    MIXTURA_UNROLL
    for (int r = 0; r < D; ++r) {
      bias[r] = splat(b[r]);
      MIXTURA_UNROLL
      for (int d = 0; d <= r; ++d) f[r][d] = splat(factor[d * tile_rows + r]);
    }
    double* out = joint2 + k * stride;
    for (int64_t i = 0; i < rows; i += group_rows) {
      ahead.step();
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const int64_t at = i + g * lanes;
        vec v[D];
        MIXTURA_UNROLL
        for (int d = 0; d < D; ++d) v[d] = load(x + d * stride + at);
        vec value = offset;
        MIXTURA_UNROLL
        for (int r = 0; r < D; ++r) {
          vec y = bias[r];
          MIXTURA_UNROLL
          for (int d = 0; d <= r; ++d) y += f[r][d] * v[d];
          value -= y * y;
        }
        store(out + at, value);
        store(top + at, k ? max(load(top + at), value) : value);
      }
    }
  }
}

// joint2[k][i] for a triangle or a rectangle per component, and the largest of them so far, top[i].
template <bool triangle>
inline void evaluate_factors(const Quadratics& q, const double* packed, const double* x, int64_t rows,
                             int64_t stride, double* joint2, double* top, Prefetch& ahead) {
  const PackedLayout l = packed_layout(q);
  for (int64_t k = 0; k < q.components; ++k) {
    const double* factor = packed + l.factor + k * l.factor_size;
    const double* bias = packed + l.bias + k * l.bias_size;
    const vec offset = splat(packed[l.offsets + k]);
    for (int64_t i = 0; i < rows; i += group_rows) {
      SquaredNorm norm{};
      ahead.step();
      apply_factor<triangle>(q, factor, bias, x + i, stride, norm);
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const vec value = offset - norm.q[g];
        double* t = top + i + g * lanes;
        store(joint2 + k * stride + i + g * lanes, value);
        store(t, k ? max(load(t), value) : value);
      }
    }
  }
}

// joint2[k][i] = c_k - sum_d (s_kd x_d + b_kd)^2, or, without a scale for each column,
//                c_k - s_k sum_d (x_d + b_kd)^2,       for C components at once.
// 2*D operations a pair; C * groups of them share C * 2 + groups loads. A null s counts as ones.
template <int C, bool each_column>
inline void evaluate_elementwise(const double* offsets, const double* s, const double* b, int64_t dims,
                                 int64_t bias_size, const double* x, int64_t rows, int64_t stride,
                                 double* joint2, double* top, bool first, Prefetch& ahead) {
  for (int64_t i = 0; i < rows; i += group_rows) {
    ahead.step();
    vec q[C][groups];
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) q[c][g] = vec{};
    }
    for (int64_t d = 0; d < dims; ++d) {
      vec v[groups];
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) v[g] = load(x + d * stride + i + g * lanes);
      MIXTURA_UNROLL
      for (int c = 0; c < C; ++c) {
        const vec bias = splat(b[c * bias_size + d]);
        const vec scale = each_column ? splat(s[c * dims + d]) : vec{};
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) {
          const vec y = each_column ? v[g] * scale + bias : v[g] + bias;
          q[c][g] += y * y;
        }
      }
    }
    vec largest[groups];
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      const double scale = each_column || !s ? 1.0 : s[c];
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const vec value = offsets[c] - scale * q[c][g];
        store(joint2 + c * stride + i + g * lanes, value);
        largest[g] = c ? max(largest[g], value) : value;
      }
    }
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      double* t = top + i + g * lanes;
      store(t, first ? largest[g] : max(load(t), largest[g]));
    }
  }
}

template <bool each_column>
inline void evaluate_all_elementwise(const double* offsets, const double* s, const double* b,
                                     int64_t components, int64_t dims, int64_t bias_size, const double* x,
                                     int64_t rows, int64_t stride, double* joint2, double* top,
                                     Prefetch& ahead) {
  constexpr int C = 4;
  const int64_t factor_size = each_column ? dims : 1;
  for (int64_t k = 0; k < components;) {
    const double* scale = s ? s + k * factor_size : s;
    const double* bias = b + k * bias_size;
    double* out = joint2 + k * stride;
    if (k + C <= components) {
      evaluate_elementwise<C, each_column>(offsets + k, scale, bias, dims, bias_size, x, rows, stride, out,
                                           top, !k, ahead);
      k += C;
    } else {
      evaluate_elementwise<1, each_column>(offsets + k, scale, bias, dims, bias_size, x, rows, stride, out,
                                           top, !k, ahead);
      k += 1;
    }
  }
}

// joint2 (K x stride) of a block x (D x stride), and top (stride), the largest of each row. `transformed` (R
// padded x stride) holds the rows under a shared factor, where the quadratics become spherical: one
// transformation, then one subtraction and one multiply-add per entry.
inline void evaluate(const Quadratics& q, const double* packed, const double* x, int64_t rows, int64_t stride,
                     double* transformed, double* joint2, double* top, Prefetch& ahead) {
  const PackedLayout l = packed_layout(q);
  const double* offsets = packed + l.offsets;
  const double* factor = packed + l.factor;
  const double* bias = packed + l.bias;
  if (q.factor == Factor::scalar) {
    evaluate_all_elementwise<false>(offsets, factor, bias, q.components, q.dims, q.dims, x, rows, stride,
                                    joint2, top, ahead);
  } else if (q.factor == Factor::diagonal) {
    evaluate_all_elementwise<true>(offsets, factor, bias, q.components, q.dims, q.dims, x, rows, stride,
                                   joint2, top, ahead);
  } else if (q.shared) {
    for (int64_t i = 0; i < rows; i += group_rows) {
      StoreRows out{transformed + i, stride};
      const double* zero = transformed + l.bias_size * stride;  // kept zero by the workspace
      if (q.factor == Factor::triangle)
        apply_factor<true>(q, factor, zero, x + i, stride, out);
      else
        apply_factor<false>(q, factor, zero, x + i, stride, out);
    }
    evaluate_all_elementwise<false>(offsets, nullptr, bias, q.components, q.factor_rows, l.bias_size,
                                    transformed, rows, stride, joint2, top, ahead);
  } else if (q.factor == Factor::triangle && q.dims <= tiny_dims) {
    switch (q.dims) {
      case 1: evaluate_tiny<1>(q, packed, x, rows, stride, joint2, top, ahead); break;
      case 2: evaluate_tiny<2>(q, packed, x, rows, stride, joint2, top, ahead); break;
      case 3: evaluate_tiny<3>(q, packed, x, rows, stride, joint2, top, ahead); break;
      default: evaluate_tiny<4>(q, packed, x, rows, stride, joint2, top, ahead); break;
    }
  } else if (q.factor == Factor::triangle) {
    evaluate_factors<true>(q, packed, x, rows, stride, joint2, top, ahead);
  } else {
    evaluate_factors<false>(q, packed, x, rows, stride, joint2, top, ahead);
  }
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
