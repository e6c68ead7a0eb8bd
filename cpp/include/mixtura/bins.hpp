// Full second moments of rows that each belong to one component, or to few.
//
//   sums[k] += sum over the rows of component k of w_i [1 | x_i | x_i x_i^T]
//
// A row changes all P sums of its component, for P multiply-adds. Added one by one, or a block's few by few,
// each time would read and write the whole triangle. So rows are collected in their component's bin, and a
// full bin is added as one product of its columns, which keeps a tile of the triangle in registers. The sums
// are in double precision, whatever the rows are.
#pragma once

#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"
#include "mixtura/statistics.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// H rows of the second moment, F vectors of columns: one multiply-add per (row of the bin, entry).
template <int H, int F, bool weighted>
inline void bin_tile(const double* rows, const double* weights, int64_t n, int64_t pitch, int64_t row,
                     int64_t column, double* sums, int64_t width) {
  wide total[H][F];
  MIXTURA_UNROLL
  for (int u = 0; u < H; ++u) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) total[u][f] = wide{};
  }
  for (int64_t j = 0; j < n; ++j) {
    const double* x = rows + j * pitch;
    wide v[F];
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) {
      v[f] = load_wide(x + column + f * wide_lanes);
      if (weighted) v[f] *= weights[j];
    }
    MIXTURA_UNROLL
    for (int u = 0; u < H; ++u) {
      const wide y = x[row + u] - wide{};
      MIXTURA_UNROLL
      for (int f = 0; f < F; ++f) total[u][f] += y * v[f];
    }
  }
  MIXTURA_UNROLL
  for (int u = 0; u < H; ++u) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) {
      double* at = sums + u * width + f * wide_lanes;
      store_wide(at, load_wide(at) + total[u][f]);
    }
  }
}

// A bin for each component, in memory that the caller gives.
struct Bins {
  double *rows, *weights;  // (K, bin_rows, pitch), zeros beyond D; (K, bin_rows)
  int64_t* counts;         // (K,)  rows in each bin
  int64_t pitch;
  bool weighted;

  template <class Take>
  void lay_out(const Statistics& s, const Pass& p, Take&& take) {
    const bool used = in_bins(p) || some_in_bins(p, s);
    const int64_t places = used ? p.quadratics.components * bin_rows : 0;
    pitch = scaled_pitch(s);
    weighted = !p.hard || p.sample_weight != nullptr;
    take(rows, places * pitch);
    take(weights, places);
    take(counts, used ? p.quadratics.components : 0);
  }

  void clear(int64_t components) {
    for (int64_t k = 0; k < components; ++k) counts[k] = 0;
  }

  // Row `x` - pivot, of weight w, to component k, whose sums are `own`, but for the mass.
  template <class Number>
  void add(const Statistics& s, const Number* x, double w, int64_t k, double* own) {
    const int64_t at = k * bin_rows + counts[k];
    double* copy = rows + at * pitch;
    for (int64_t d = 0; d < s.dims; ++d) {
      const double value = static_cast<double>(x[d]);
      own[d] += w * value;
      copy[d] = value;
    }
    for (int64_t d = s.dims; d < pitch; ++d) copy[d] = 0.0;
    weights[at] = w;
    if (++counts[k] == bin_rows) flush(s, k, own);
  }

  // Adds the rows that are still in bins.
  void flush_all(const Statistics& s, int64_t components, double* sums) {
    for (int64_t k = 0; k < components; ++k)
      if (counts[k]) flush(s, k, sums + k * s.size);
  }

 private:
  void flush(const Statistics& s, int64_t k, double* own) {
    double* second = own + s.linear;
    if (weighted)
      add_triangle<true>(s.dims, k, second);
    else
      add_triangle<false>(s.dims, k, second);
    counts[k] = 0;
  }

  // The lower triangle, a few vectors of columns at a time: those of all rows stay in the first-level cache.
  template <bool with_weights>
  void add_triangle(int64_t dims, int64_t k, double* second) {
    constexpr int H = block_height, F = block_vectors;
    const double *x = rows + k * bin_rows * pitch, *w = weights + k * bin_rows;
    const int64_t n = counts[k], blocks = (dims + H - 1) / H;
    for (int64_t column = 0; column < dims; column += F * wide_lanes) {
      int64_t at = 0;
      for (int64_t t = 0; t < blocks; ++t) {
        const int64_t width = block_width(t);
        double* out = second + at + column;
        at += H * width;
        if (width <= column) continue;
        switch (smaller((width - column) / wide_lanes, F)) {
          case 1: bin_tile<H, 1, with_weights>(x, w, n, pitch, t * H, column, out, width); break;
          case 2: bin_tile<H, 2, with_weights>(x, w, n, pitch, t * H, column, out, width); break;
          default: bin_tile<H, F, with_weights>(x, w, n, pitch, t * H, column, out, width); break;
        }
      }
    }
  }
};

}  // namespace MIXTURA_ISA
}  // namespace mixtura
