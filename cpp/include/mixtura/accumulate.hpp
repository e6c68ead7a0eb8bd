// The M half: weighted moments of a block, added to the running statistics.
//
//   sums[k][p] += sum_i r_ik phi_p(x_i),   phi = [1 | x | second moment of x]
//
// 1 multiply-add per (row, component, feature), symmetric halves only. Three ways, by shape:
//
//   few features     rows on lanes: a K x B by B x P product whose accumulators are added up at the end of a
//                    block. Features, with the rows' shares of the responsibilities folded in, are formed
//                    once a block.
//   circulant        features on lanes: a tile of C components and F vectors of features loads F vectors (or
//                    forms them, one multiplication each) and C numbers for C*F multiply-adds, and ends with
//                    sums that need no further adding.
//   blocks           one component at a time: rows scaled by r, their columns against the rows' columns.
//
// The last two can take a component's rows from a list: where most pairs are far from each other, that
// leaves their work out. Of many columns, a block's few rows wait in a bin for more (bins.hpp), since for
// each the whole triangle of sums would be read and written.
#pragma once

#include "mixtura/bins.hpp"
#include "mixtura/normalize.hpp"
#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"
#include "mixtura/statistics.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// A block's M half: its rows both ways, unnormalised responsibilities (K x stride) and the rows' shares.
struct Accumulation {
  const real* x;
  real* rows;
  int64_t row_stride;
  real* resp;
  const real* share;
  int64_t count, components;
  const RowSet* active;  // the rows in which each component counts; null: all
  Bins* bins;            // where few rows of a component wait for more; null: nowhere
};

// What the M half writes between: weighted rows feature-major, a panel of features, a component's scaled
// rows, a strip of some of their columns unscaled, which rows those are and their weights.
struct Scratch {
  real *weighted, *panel, *scaled, *strip, *weights;
  integer* list;
};

static_assert(tile_features <= (long_vectors ? 6 : 4) && tile_components <= (long_vectors ? 8 : 4) &&
                  tile_accumulators <= (long_vectors ? 24 : 16),
              "product and all_components know no larger tiles");
static_assert(block_rows % panel_rows == 0 && panel_rows % lanes == 0, "panels are whole vectors of a block");
static_assert(shifts_together % 2 == 0, "accumulate_shifts halves it");

// ---- rows on lanes -------------------------------------------------------------------------------------

template <int C, int F>
inline void product_tile(const real* resp, const real* const* features, int64_t rows, double* total,
                         int64_t total_stride) {
  vec a[C][F];
  MIXTURA_UNROLL
  for (int c = 0; c < C; ++c) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) a[c][f] = vec{};
  }
  for (int64_t i = 0; i < rows; i += lanes) {
    vec r[C];
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) r[c] = load(resp + c * stride + i);
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) {
      const vec v = load(features[f] + i);
      MIXTURA_UNROLL
      for (int c = 0; c < C; ++c) a[c][f] += r[c] * v;
    }
  }
  constexpr int wholes = (C * F + lanes - 1) / lanes;
  alignas(64) real reduced[wholes * lanes];
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
    for (int f = 0; f < F; ++f) total[c * total_stride + f] += static_cast<double>(reduced[c * F + f]);
  }
}

template <int F>
inline void product_components(const Accumulation& a, const real* const* features, double* total,
                               int64_t total_stride) {
  constexpr int C = lane_components;
  int64_t k = 0;
  for (; k + C <= a.components; k += C)
    product_tile<C, F>(a.resp + k * stride, features, a.count, total + k * total_stride, total_stride);
  for (; k < a.components; ++k)
    product_tile<1, F>(a.resp + k * stride, features, a.count, total + k * total_stride, total_stride);
}

inline void product(const Accumulation& a, const real* const* features, int64_t count, double* total,
                    int64_t total_stride) {
  switch (count) {
    case 1: product_components<1>(a, features, total, total_stride); break;
    case 2: product_components<2>(a, features, total, total_stride); break;
    case 3: product_components<3>(a, features, total, total_stride); break;
    case 4: product_components<4>(a, features, total, total_stride); break;
#if MIXTURA_VECTOR_BYTES == 64
    case 5: product_components<5>(a, features, total, total_stride); break;
    case 6: product_components<6>(a, features, total, total_stride); break;
#endif
    default: break;
  }
}

// out[i] = a[i] * b[i], or += with `add`.
template <bool add>
MIXTURA_INLINE void multiply(const real* a, const real* b, int64_t rows, real* out) {
  for (int64_t i = 0; i < rows; i += lanes) {
    const vec v = load(a + i) * load(b + i);
    store(out + i, add ? load(out + i) + v : v);
  }
}

// out[i] = |x_i|^2
inline void squared_norms(const Accumulation& a, int64_t dims, real* out) {
  for (int64_t i = 0; i < a.count; i += lanes) {
    vec square{};
    for (int64_t d = 0; d < dims; ++d) {
      const vec v = load(a.x + d * stride + i);
      square += v * v;
    }
    store(out + i, square);
  }
}

// Walks phi in order, a tile of features at a time: the share, the weighted rows, then the second moment.
inline void accumulate_few(const Statistics& s, const Accumulation& a, const Scratch& w, double* sums) {
  if (s.kind != Kind::mass)
    for (int64_t d = 0; d < s.dims; ++d)
      multiply<false>(a.share, a.x + d * stride, a.count, w.weighted + d * stride);
  int64_t row = 0, column = 0;  // the pair of the next second moment
  for (int64_t p = 0; p < s.size; p += tile_features) {
    const real* features[tile_features];
    const int64_t count = smaller(s.size - p, tile_features);
    for (int64_t f = 0; f < count; ++f) {
      real* out = w.panel + f * stride;
      features[f] = out;
      if (p + f == 0) {
        features[f] = a.share;
      } else if (p + f <= s.dims) {
        features[f] = w.weighted + (p + f - 1) * stride;
      } else if (s.kind == Kind::trace) {
        squared_norms(a, s.dims, out);
        multiply<false>(a.share, out, a.count, out);
      } else {
        multiply<false>(w.weighted + row * stride, a.x + column * stride, a.count, out);
        if (s.kind == Kind::diagonal || column == row) {
          ++row;
          column = s.kind == Kind::diagonal ? row : 0;
        } else {
          ++column;
        }
      }
    }
    product(a, features, count, sums + p, s.size);
  }
}

// ---- circulant -----------------------------------------------------------------------------------------

// Distance between rows that lie row-major: room for a row and, after it, as much of it again as shifts
// reach, an odd number of vectors, so that rows spread over the cache's sets.
MIXTURA_INLINE int64_t row_stride(const Statistics& s) {
  const int64_t wrapped = s.order == Order::circulant && s.kind == Kind::full ? s.dims / 2 : 0;
  const int64_t whole = round_up(s.order == Order::blocks ? round_up(s.dims, block_height) : s.dims, lanes);
  return ((round_up(whole + wrapped, lanes) / lanes) | 1) * lanes;
}

// rows[i][D + j] = rows[i][j]: a shift of the row is then a load from further on. Zeros follow.
inline void wrap_rows(const Statistics& s, const Accumulation& a) {
  if (s.order != Order::circulant || s.kind != Kind::full) return;
  for (int64_t i = 0; i < a.count; ++i) {
    real* row = a.rows + i * a.row_stride;
    for (int64_t j = 0; j < s.dims / 2; ++j) row[s.dims + j] = row[j];
    for (int64_t j = s.dims + s.dims / 2; j < a.row_stride; ++j) row[j] = 0;
  }
}

// out[i][v] = x_d x_(d + shift) for V vectors from column d; shift -1 stands for x itself.
template <int V>
inline void form_columns(const Accumulation& a, int64_t d, int64_t shift, int64_t pitch, real* out) {
  const real* x = a.rows + d;
  if (shift < 0) {
    for (int64_t i = 0; i < a.count; ++i) {
      MIXTURA_UNROLL
      for (int v = 0; v < V; ++v)
        store_unaligned(out + i * pitch + v * lanes, load_unaligned(x + i * a.row_stride + v * lanes));
    }
    return;
  }
  for (int64_t i = 0; i < a.count; ++i) {
    const real* row = x + i * a.row_stride;
    MIXTURA_UNROLL
    for (int v = 0; v < V; ++v)
      store_unaligned(out + i * pitch + v * lanes,
                      load_unaligned(row + v * lanes) * load_unaligned(row + shift + v * lanes));
  }
}

// panel[i] = features [begin, end) of row i. What a piece writes beyond its shift, the next piece writes
// again; what the last one writes beyond the features is added to sums that nobody reads, or to none.
inline void form_panel(const Statistics& s, const Accumulation& a, int64_t begin, int64_t end, int64_t pitch,
                       real* panel) {
  for (int64_t f = begin; f < end;) {
    const int64_t shift = f / s.dims - 1, d = f % s.dims, n = smaller(s.dims - d, end - f);
    real* out = panel + (f - begin);
    switch ((n + lanes - 1) / lanes) {
      case 1: form_columns<1>(a, d, shift, pitch, out); break;
      case 2: form_columns<2>(a, d, shift, pitch, out); break;
      case 3: form_columns<3>(a, d, shift, pitch, out); break;
      case 4: form_columns<4>(a, d, shift, pitch, out); break;
      case 5: form_columns<5>(a, d, shift, pitch, out); break;
      default: form_columns<6>(a, d, shift, pitch, out); break;
    }
    f += n;
  }
}

// F vectors of features of each row: a panel's, or products of two vectors of the row, formed as they are
// needed.
struct Features {
  const real* left[tile_features];
  const real* right[tile_features];
  int64_t pitch;
};

// sums[c][f] += sum_i resp[c][i] features[i][f], C components and F vectors. Forming a product costs one of C
// + 1 operations; a panel, for many components, one store for all of them.
template <int C, int F, bool formed>
inline void feature_tile(const Accumulation& a, int64_t k, const Features& features, double* sums,
                         int64_t size) {
  const real* resp = a.resp + k * stride;
  const real *left[F], *right[F];
  vec total[C][F];
  MIXTURA_UNROLL
  for (int f = 0; f < F; ++f) {
    left[f] = formed ? features.left[f] : features.left[0] + f * lanes;
    right[f] = formed ? features.right[f] : nullptr;
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) total[c][f] = vec{};
  }
  for (int64_t i = 0; i < a.count; ++i) {
    vec v[F];
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) {
      v[f] = load(left[f] + i * features.pitch);
      if (formed) v[f] *= load_unaligned(right[f] + i * features.pitch);
    }
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      const vec r = splat(resp[c * stride + i]);
      MIXTURA_UNROLL
      for (int f = 0; f < F; ++f) total[c][f] += r * v[f];
    }
  }
  MIXTURA_UNROLL
  for (int c = 0; c < C; ++c) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) add_to(sums + (k + c) * size + f * lanes, total[c][f]);
  }
}

// Cuts n into the fewest parts of at most `most`, as even as can be: calls part(begin, length).
template <class Part>
MIXTURA_INLINE void cut_evenly(int64_t n, int64_t most, Part part) {
  const int64_t parts = (n + most - 1) / most;
  for (int64_t p = 0, begin = 0; p < parts; ++p) {
    const int64_t length = n / parts + (p < n % parts);
    part(begin, length);
    begin += length;
  }
}

// Whether a tile's sums stay in registers, beside its vectors of features, where these are formed, and a
// weight.
constexpr bool tile_fits(int64_t components, int64_t vectors, bool formed) {
  return components * vectors <= tile_accumulators &&
         (!formed || (components + 1) * vectors < vector_registers);
}

template <int F, bool formed, int C = tile_components>
inline void all_components(int64_t count, const Accumulation& a, int64_t k, const Features& v, double* sums,
                           int64_t size) {
  if constexpr (C > 1)
    if (count < C) return all_components<F, formed, C - 1>(count, a, k, v, sums, size);
  if constexpr (tile_fits(C, F, formed)) feature_tile<C, F, formed>(a, k, v, sums, size);
}

template <int F, bool formed>
inline void all_components(const Accumulation& a, const Features& v, double* sums, int64_t size) {
  cut_evenly(a.components, tile_components,
             [&](int64_t k, int64_t count) { all_components<F, formed>(count, a, k, v, sums, size); });
}

template <bool formed>
inline void all_components(int64_t width, const Accumulation& a, const Features& v, double* sums,
                           int64_t size) {
  switch (width) {
    case 1: all_components<1, formed>(a, v, sums, size); break;
    case 2: all_components<2, formed>(a, v, sums, size); break;
    case 3: all_components<3, formed>(a, v, sums, size); break;
    case 4: all_components<4, formed>(a, v, sums, size); break;
#if MIXTURA_VECTOR_BYTES == 64
    case 5: all_components<5, formed>(a, v, sums, size); break;
    case 6: all_components<6, formed>(a, v, sums, size); break;
#endif
    default: break;
  }
}

// All features, as many vectors at a time as a tile of all components is wide.
inline void accumulate_circulant(const Statistics& s, const Accumulation& a, const Scratch& w, double* sums) {
  int64_t features = s.dims * (1 + shifts(s.kind, s.dims));
  if (s.kind == Kind::full && s.dims % 2 == 0)
    features -= s.dims / 2;  // the last shift meets every pair twice
  const int64_t parts = (a.components + tile_components - 1) / tile_components;
  const int64_t together = (a.components + parts - 1) / parts;
  int64_t most = tile_features, most_formed = tile_features;
  while (!tile_fits(together, most, false)) --most;
  while (!tile_fits(together, most_formed, true)) --most_formed;
  // Products can be formed in registers where no vector of them straddles two shifts.
  const bool whole = s.dims % lanes == 0, form = whole && a.components <= many_components;
  const int64_t vectors = (features + lanes - 1) / lanes;
  // The rows as they stand, also where they are all that there is: what follows them is added to sums that
  // nobody reads.
  const int64_t linear = whole || features == s.dims ? (s.dims + lanes - 1) / lanes : 0;
  cut_evenly(linear, most, [&](int64_t first, int64_t width) {
    const int64_t begin = first * lanes;
    all_components<false>(width, a, Features{{a.rows + begin}, {}, a.row_stride}, sums + begin, s.size);
  });
  const int64_t panels = form ? linear : vectors;
  cut_evenly(panels - linear, most, [&](int64_t part, int64_t width) {
    const int64_t first = linear + part;
    // A vector to spare between rows where the last piece can write beyond its features.
    const int64_t begin = first * lanes, pitch = (width + !whole) * lanes;
    form_panel(s, a, begin, smaller(begin + width * lanes, features), pitch, w.panel);
    all_components<false>(width, a, Features{{w.panel}, {}, pitch}, sums + begin, s.size);
  });
  cut_evenly(vectors - panels, most_formed, [&](int64_t first, int64_t width) {
    Features v{{}, {}, a.row_stride};
    const int64_t begin = (panels + first) * lanes;
    for (int64_t f = 0; f < width; ++f) {
      const int64_t p = begin + f * lanes, d = p % s.dims;
      v.left[f] = a.rows + d;
      v.right[f] = a.rows + d + p / s.dims - 1;
    }
    all_components<true>(width, a, v, sums + begin, s.size);
  });
}

// ---- one component at a time ---------------------------------------------------------------------------

// The rows of component k, and their weights: r_ik. All of them, or those that count.
inline int64_t list_rows(const Accumulation& a, int64_t k, bool all, const Scratch& w) {
  const real* resp = a.resp + k * stride;
  if (all) {
    for (int64_t i = 0; i < a.count; i += lanes) store(w.weights + i, load(resp + i) * load(a.share + i));
    for (int64_t i = 0; i < a.count; ++i) w.list[i] = static_cast<integer>(i);
    return a.count;
  }
  int64_t n = 0;
  a.active[k].for_each([&](int64_t i) {
    w.list[n] = static_cast<integer>(i);
    w.weights[n++] = resp[i] * a.share[i];
  });
  return n;
}

// Where column d of scaled row j lies: row after row, or panel after panel of a few columns of all rows.
struct ScaledRows {
  static constexpr int64_t width = block_height > lanes ? block_height : lanes;
  int64_t row, panel;
  MIXTURA_INLINE int64_t at(int64_t j, int64_t d) const { return d / width * panel + j * row + d % width; }
};

// scaled[j] = weights[j] x[list[j]], zeros beyond D; and the sum of these.
inline void scale_rows(const Statistics& s, const Accumulation& a, const Scratch& w, int64_t n,
                       const ScaledRows& scaled, double* sum) {
  for (int64_t d = 0; d < s.dims; d += lanes) {
    vec total{};
    ivec inside;
    for (int u = 0; u < lanes; ++u) inside[u] = d + u < s.dims ? -1 : 0;
    for (int64_t j = 0; j < n; ++j) {
      const vec product = splat(w.weights[j]) * load(a.rows + w.list[j] * a.row_stride + d);
      const vec y = inside ? product : vec{};
      store(w.scaled + scaled.at(j, d), y);
      total += y;
    }
    add_to(sum + d, total);
  }
}

// T neighbouring shifts of one vector of columns.
template <int T>
inline void shifts_tile(const Accumulation& a, const Scratch& w, int64_t n, int64_t pitch, int64_t d,
                        int64_t shift, int64_t dims, double* sums) {
  vec total[T];
  MIXTURA_UNROLL
  for (int t = 0; t < T; ++t) total[t] = vec{};
  for (int64_t j = 0; j < n; ++j) {
    const vec y = load(w.scaled + j * pitch + d);
    const real* x = a.rows + w.list[j] * a.row_stride + d + shift;
    MIXTURA_UNROLL
    for (int t = 0; t < T; ++t) total[t] += y * load_unaligned(x + t);
  }
  MIXTURA_UNROLL
  for (int t = 0; t < T; ++t) add_to(sums + t * dims, total[t]);
}

// Circulant sums of listed rows: one unaligned load a multiply-add. Lanes beyond D add zeros to what follows.
inline void accumulate_shifts(const Statistics& s, const Accumulation& a, const Scratch& w, int64_t n,
                              int64_t pitch, double* sums) {
  const int64_t end = shifts(s.kind, s.dims);
  for (int64_t d = 0; d < s.dims; d += lanes)
    for (int64_t shift = 0; shift < end;) {
      // The last shift of an even D is needed for its first half only.
      if (s.kind == Kind::full && shift == end - 1 && s.dims % 2 == 0 && 2 * d >= s.dims) break;
      double* out = sums + s.dims * (1 + shift) + d;
      constexpr int T = shifts_together;
      if (shift + T <= end) {
        shifts_tile<T>(a, w, n, pitch, d, shift, s.dims, out);
        shift += T;
      } else if (shift + T / 2 <= end) {
        shifts_tile<T / 2>(a, w, n, pitch, d, shift, s.dims, out);
        shift += T / 2;
      } else {
        shifts_tile<1>(a, w, n, pitch, d, shift, s.dims, out);
        shift += 1;
      }
    }
}

// H columns of the scaled rows, which lie in a panel, against F vectors of the rows' strip.
template <int H, int F>
inline void block_tile(const real* scaled, const real* strip, int64_t n, int64_t pitch, double* sums,
                       int64_t width) {
  vec total[H][F];
  MIXTURA_UNROLL
  for (int u = 0; u < H; ++u) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) total[u][f] = vec{};
  }
  // The sums, which are in a cache further off, arrive while rows are added up.
  MIXTURA_UNROLL
  for (int u = 0; u < H; ++u) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) __builtin_prefetch(sums + u * width + f * lanes, 1);
  }
  for (int64_t j = 0; j < n; ++j) {
    const real *x = strip + j * pitch, *y = scaled + j * ScaledRows::width;
    vec v[F];
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) v[f] = load(x + f * lanes);
    MIXTURA_UNROLL
    for (int u = 0; u < H; ++u) {
      const vec r = splat(y[u]);
      MIXTURA_UNROLL
      for (int f = 0; f < F; ++f) total[u][f] += r * v[f];
    }
  }
  MIXTURA_UNROLL
  for (int u = 0; u < H; ++u) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) add_to(sums + u * width + f * lanes, total[u][f]);
  }
}

// As many columns of the scaled rows as are left, block_height at most: padding would cost a small triangle a
// fifth.
template <int F, int H = block_height>
inline void block_rows_left(int64_t left, const real* scaled, const real* strip, int64_t n, int64_t pitch,
                            double* sums, int64_t width) {
  if constexpr (H > 1)
    if (left < H) return block_rows_left<F, H - 1>(left, scaled, strip, n, pitch, sums, width);
  block_tile<H, F>(scaled, strip, n, pitch, sums, width);
}

static_assert(block_vectors <= 3, "accumulate_blocks knows no more");

// strip[j] = F vectors of columns of x[list[j]].
template <int F>
inline void pack_strip(const Accumulation& a, const Scratch& w, int64_t n, int64_t column) {
  for (int64_t j = 0; j < n; ++j) {
    const real* x = a.rows + w.list[j] * a.row_stride + column;
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) store(w.strip + (j * F + f) * lanes, load(x + f * lanes));
  }
}

// The lower triangle, a few vectors of columns at a time. These are packed into a strip, and scaled rows lie
// in panels, so that all rows of either stay in the first-level cache, on few pages of memory.
inline void accumulate_blocks(const Statistics& s, const Accumulation& a, const Scratch& w, int64_t n,
                              const ScaledRows& scaled, double* sums) {
  constexpr int64_t F = block_vectors;
  const int64_t blocks = (s.dims + block_height - 1) / block_height;
  for (int64_t column = 0; column < s.dims; column += F * lanes) {
    const int64_t vectors = smaller((block_width(blocks - 1) - column) / lanes, F), pitch = vectors * lanes;
    switch (vectors) {
      case 1: pack_strip<1>(a, w, n, column); break;
      case 2: pack_strip<2>(a, w, n, column); break;
      default: pack_strip<block_vectors>(a, w, n, column); break;
    }
    int64_t at = s.linear;
    for (int64_t t = 0; t < blocks; ++t) {
      const int64_t width = block_width(t);
      double* out = sums + at + column;
      at += block_height * width;
      if (width <= column) continue;
      const int64_t row = t * block_height, left = s.dims - row;
      const real* y = w.scaled + scaled.at(0, row);
      switch (smaller((width - column) / lanes, F)) {
        case 1: block_rows_left<1>(left, y, w.strip, n, pitch, out, width); break;
        case 2: block_rows_left<2>(left, y, w.strip, n, pitch, out, width); break;
        default: block_rows_left<block_vectors>(left, y, w.strip, n, pitch, out, width); break;
      }
    }
  }
}

inline void accumulate_component(const Statistics& s, const Accumulation& a, const Scratch& w, int64_t k,
                                 bool all, double* sums) {
  const int64_t n = list_rows(a, k, all, w), pitch = scaled_pitch(s);
  if (n == 0) return;
  double* own = sums + k * s.size;
  if (a.bins && n < binned_rows) {
    for (int64_t j = 0; j < n; ++j)
      a.bins->add(s, a.rows + w.list[j] * a.row_stride, static_cast<double>(w.weights[j]), k, own);
    return;
  }
  const bool blocks = s.order == Order::blocks;
  const ScaledRows scaled{blocks ? ScaledRows::width : pitch, ScaledRows::width * (blocks ? n : 1)};
  scale_rows(s, a, w, n, scaled, own);
  if (blocks)
    accumulate_blocks(s, a, w, n, scaled, own);
  else
    accumulate_shifts(s, a, w, n, pitch, own);
}

// resp[k][i] *= share[i], and on the way their sums, and with `trace` those of resp * squares, for C
// components.
template <int C, bool trace>
inline void share_out(const Accumulation& a, int64_t k, const real* squares, double* sums, int64_t size) {
  vec masses[lanes]{}, traces[lanes]{};
  for (int64_t i = 0; i < a.count; i += lanes) {
    const vec share = load(a.share + i), square = trace ? load(squares + i) : vec{};
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      real* resp = a.resp + (k + c) * stride + i;
      const vec r = load(resp) * share;
      store(resp, r);
      masses[c] += r;
      if (trace) traces[c] += r * square;
    }
  }
  const vec mass = mixtura::MIXTURA_ISA::sums(masses);
  for (int c = 0; c < C; ++c) sums[(k + c) * size] += static_cast<double>(mass[c]);
  if (!trace) return;
  const vec total = mixtura::MIXTURA_ISA::sums(traces);
  for (int c = 0; c < C; ++c) sums[(k + c) * size + 1] += static_cast<double>(total[c]);
}

template <bool trace>
inline void share_out(const Accumulation& a, const real* squares, double* sums, int64_t size) {
  constexpr int C = lanes < 8 ? lanes : 8;
  int64_t k = 0;
  for (; k + C <= a.components; k += C) share_out<C, trace>(a, k, squares, sums, size);
  for (; k < a.components; ++k) share_out<1, trace>(a, k, squares, sums, size);
}

// ---- the choice ----------------------------------------------------------------------------------------

inline void accumulate_soft(const Statistics& s, const Accumulation& a, const Scratch& w, double* sums) {
  if (s.order == Order::plain) {
    accumulate_few(s, a, w, sums);
    return;
  }
  wrap_rows(s, a);
  int64_t active = 0;
  for (int64_t k = 0; a.active && k < a.components; ++k) active += a.active[k].size();
  const bool sparse = a.active && 5 * active < sparse_fifths * a.count * a.components;
  const bool together = s.order == Order::circulant && a.components > few_components && !sparse;
  const bool trace = s.kind == Kind::trace;
  if (trace) squared_norms(a, s.dims, w.weighted);
  if (together) {
    trace ? share_out<true>(a, w.weighted, sums + s.mass, s.size)
          : share_out<false>(a, nullptr, sums + s.mass, s.size);
    for (int64_t i = 0; i < a.count; i += panel_rows) {
      Accumulation part = a;
      part.rows += i * a.row_stride;
      part.resp += i;
      part.count = smaller(a.count - i, panel_rows);
      accumulate_circulant(s, part, w, sums);
    }
    return;
  }
  if (trace) multiply<false>(a.share, w.weighted, a.count, w.weighted);
  const real* scalars[2] = {a.share, w.weighted};
  product(a, scalars, trace ? 2 : 1, sums + s.mass, s.size);
  for (int64_t k = 0; k < a.components; ++k) {
    const bool some =
        a.active &&
        (sparse || (s.order == Order::blocks && 5 * a.active[k].size() < listed_fifths * a.count));
    accumulate_component(s, a, w, k, !some, sums);
  }
}

// Every row goes to one component: P additions a row instead of K * P multiply-adds. `row` is z - pivot.
MIXTURA_INLINE void add_row(Kind kind, int64_t dims, const double* row, double w, double* t) {
  t[0] += w;
  if (kind == Kind::mass) return;
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

}  // namespace MIXTURA_ISA
}  // namespace mixtura
