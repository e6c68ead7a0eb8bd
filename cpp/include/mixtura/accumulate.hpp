// The M half: weighted moments of a block, added to the running statistics.
//
//   total[k][p] += sum_i r_ik phi_p(x_i),   phi = [1 | x | second moment of x]
//
// a product of the K x B responsibilities and the P x B features, with rows on lanes in both operands.
// 1 multiply-add per (row, component, feature). Reuse: a tile of C components and F features keeps C*F
// accumulators and loads C + F vectors for them; features of the second moment are formed once per block
// (one multiplication per (row, feature)) for all components. The row's share w_i / sum_k of the
// responsibilities is folded into the features, so r is never normalised.
#pragma once

#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

constexpr int tile_components = lanes == 8 ? 4 : 2;
constexpr int tile_features = lanes == 8 ? 6 : 4;

template <int C, int F>
inline void product_tile(const double* resp, int64_t resp_stride, const double* const* features, int64_t rows,
                         double* total, int64_t total_stride) {
  vec a[C][F];
  MIXTURA_UNROLL
  for (int c = 0; c < C; ++c) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) a[c][f] = vec{};
  }
  for (int64_t i = 0; i < rows; i += lanes) {
    vec r[C];
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) r[c] = load(resp + c * resp_stride + i);
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) {
      const vec v = load(features[f] + i);
      MIXTURA_UNROLL
      for (int c = 0; c < C; ++c) a[c][f] += r[c] * v;
    }
  }
  constexpr int wholes = (C * F + lanes - 1) / lanes;
  alignas(64) double reduced[wholes * lanes];
  MIXTURA_UNROLL
  for (int w = 0; w < wholes; ++w) {
    vec v[lanes];
    MIXTURA_UNROLL
    for (int i = 0; i < lanes; ++i)
      v[i] = w * lanes + i < C * F ? a[(w * lanes + i) / F][(w * lanes + i) % F] : vec{};
    store(reduced + w * lanes, sums(v));
  }
  MIXTURA_UNROLL
  for (int c = 0; c < C; ++c) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) total[c * total_stride + f] += reduced[c * F + f];
  }
}

template <int F>
inline void product_components(const double* resp, int64_t resp_stride, int64_t components,
                               const double* const* features, int64_t rows, double* total,
                               int64_t total_stride) {
  int64_t k = 0;
  for (; k + tile_components <= components; k += tile_components)
    product_tile<tile_components, F>(resp + k * resp_stride, resp_stride, features, rows,
                                     total + k * total_stride, total_stride);
  for (; k < components; ++k)
    product_tile<1, F>(resp + k * resp_stride, resp_stride, features, rows, total + k * total_stride,
                       total_stride);
}

inline void product(const double* resp, int64_t resp_stride, int64_t components,
                    const double* const* features, int64_t count, int64_t rows, double* total,
                    int64_t total_stride) {
  switch (count) {
    case 1: product_components<1>(resp, resp_stride, components, features, rows, total, total_stride); break;
    case 2: product_components<2>(resp, resp_stride, components, features, rows, total, total_stride); break;
    case 3: product_components<3>(resp, resp_stride, components, features, rows, total, total_stride); break;
    case 4: product_components<4>(resp, resp_stride, components, features, rows, total, total_stride); break;
#if MIXTURA_VECTOR_BYTES == 64
    case 5: product_components<5>(resp, resp_stride, components, features, rows, total, total_stride); break;
    case 6: product_components<6>(resp, resp_stride, components, features, rows, total, total_stride); break;
#endif
    default: break;
  }
}

// out[i] = a[i] * b[i], or += with `add`.
template <bool add>
MIXTURA_INLINE void multiply(const double* a, const double* b, int64_t rows, double* out) {
  for (int64_t i = 0; i < rows; i += lanes) {
    const vec v = load(a + i) * load(b + i);
    store(out + i, add ? load(out + i) + v : v);
  }
}

// Walks phi in order, a tile of features at a time: the share, the weighted rows (which are features as they
// stand), then the second moment, formed in `panel` (tile_features x stride). `weighted` gets share * x.
inline void accumulate_soft(Kind kind, int64_t dims, int64_t components, const double* x, const double* resp,
                            const double* share, int64_t rows, int64_t stride, double* weighted,
                            double* panel, double* total) {
  const int64_t size = statistics_size(kind, dims);
  if (kind != Kind::mass)
    for (int64_t d = 0; d < dims; ++d) multiply<false>(share, x + d * stride, rows, weighted + d * stride);
  int64_t a = 0, b = 0;  // the pair of columns of the next second moment
  for (int64_t p = 0; p < size; p += tile_features) {
    const double* features[tile_features];
    const int64_t count = size - p < tile_features ? size - p : tile_features;
    for (int64_t f = 0; f < count; ++f) {
      if (p + f == 0) {
        features[f] = share;
      } else if (p + f <= dims) {
        features[f] = weighted + (p + f - 1) * stride;
      } else {
        double* out = panel + f * stride;
        features[f] = out;
        if (kind == Kind::trace) {
          multiply<false>(weighted, x, rows, out);
          for (int64_t d = 1; d < dims; ++d) multiply<true>(weighted + d * stride, x + d * stride, rows, out);
        } else {
          multiply<false>(weighted + a * stride, x + b * stride, rows, out);
          if (kind == Kind::diagonal || b == a) {
            ++a;
            b = kind == Kind::diagonal ? a : 0;
          } else {
            ++b;
          }
        }
      }
    }
    product(resp, stride, components, features, count, rows, total + p, size);
  }
}

// Every row goes to one component: P additions a row instead of K * P multiply-adds.
inline void accumulate_hard(Kind kind, int64_t dims, const double* x, const int64_t* label,
                            const double* weight, int64_t n, int64_t stride, double* row, double* total) {
  const int64_t size = statistics_size(kind, dims);
  for (int64_t i = 0; i < n; ++i) {
    double* t = total + label[i] * size;
    const double w = weight[i];
    t[0] += w;
    if (kind == Kind::mass) continue;
    for (int64_t d = 0; d < dims; ++d) row[d] = x[d * stride + i];
    double* first = t + 1;
    double* second = first + dims;
    for (int64_t d = 0; d < dims; ++d) first[d] += w * row[d];
    if (kind == Kind::trace) {
      double s = 0.0;
      for (int64_t d = 0; d < dims; ++d) s += row[d] * row[d];
      second[0] += w * s;
    } else if (kind == Kind::diagonal) {
      for (int64_t d = 0; d < dims; ++d) second[d] += w * row[d] * row[d];
    } else if (kind == Kind::full) {
      for (int64_t a = 0; a < dims; ++a) {
        const double wa = w * row[a];
        for (int64_t b = 0; b <= a; ++b) second[b] += wa * row[b];
        second += a + 1;
      }
    }
  }
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
