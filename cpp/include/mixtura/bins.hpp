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

// H rows of the second moment, from a panel of H columns, F vectors of columns, from a strip that is scaled
// by the weights: one multiply-add per (row of the bin, entry).
template <int H, int F>
inline void bin_tile(const double* panel, const double* strip, int64_t n, int64_t pitch, double* sums,
                     int64_t width) {
  wide total[H][F];
  MIXTURA_UNROLL
  for (int u = 0; u < H; ++u) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) total[u][f] = wide{};
  }
  // The sums, which are in a cache further off, arrive while rows are added up.
  MIXTURA_UNROLL
  for (int u = 0; u < H; ++u) {
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) __builtin_prefetch(sums + u * width + f * wide_lanes, 1);
  }
  for (int64_t j = 0; j < n; ++j) {
    const double *x = strip + j * pitch, *y = panel + j * H;
    wide v[F];
    MIXTURA_UNROLL
    for (int f = 0; f < F; ++f) v[f] = load_wide(x + f * wide_lanes);
    MIXTURA_UNROLL
    for (int u = 0; u < H; ++u) {
      const wide r = y[u] - wide{};
      MIXTURA_UNROLL
      for (int f = 0; f < F; ++f) total[u][f] += r * v[f];
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

static_assert(block_height % wide_lanes == 0, "a panel of a bin holds whole vectors");

// A bin for each component, in memory that the caller gives: panels of block_height columns of all its rows.
struct Bins {
  double *rows, *weights;  // (K, pitch / block_height, bin_rows, block_height), zeros beyond D; (K, bin_rows)
  int64_t* counts;         // (K,)  rows in each bin
  int64_t pitch;
  bool weighted;

  template <class Take>
  void lay_out(const Statistics& s, const Pass& p, Take&& take) {
    const bool used = in_bins(p) || some_in_bins(p, s);
    const int64_t places = used ? p.quadratics.components * bin_rows : 0;
    pitch = round_up(round_up(s.dims, lanes), block_height);
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
    double* copy = rows + k * bin_rows * pitch + counts[k] * block_height;
    int64_t d = 0;
    for (; d < s.dims; d += block_height, copy += bin_rows * block_height)
      for (int64_t u = 0; u < block_height; ++u) {
        const double value = d + u < s.dims ? static_cast<double>(x[d + u]) : 0.0;
        copy[u] = value;
        if (d + u < s.dims) own[d + u] += w * value;
      }
    for (; d < pitch; d += block_height, copy += bin_rows * block_height)
      for (int64_t u = 0; u < block_height; ++u) copy[u] = 0.0;
    weights[k * bin_rows + counts[k]] = w;
    if (++counts[k] == bin_rows) flush(s, k, own);
  }

  // Adds the rows that are still in bins.
  void flush_all(const Statistics& s, int64_t components, double* sums) {
    for (int64_t k = 0; k < components; ++k)
      if (counts[k]) flush(s, k, sums + k * s.size);
  }

 private:
  void flush(const Statistics& s, int64_t k, double* own) {
    weighted ? add_triangle<true>(s.dims, k, own + s.linear) : add_triangle<false>(s.dims, k, own + s.linear);
    counts[k] = 0;
  }

  // strip[j] = F vectors of columns of row j, of weight w_j.
  template <bool with_weights>
  void pack_strip(int64_t k, int64_t n, int64_t column, int64_t columns, double* strip) const {
    for (int64_t c = 0; c < columns; c += wide_lanes) {
      const int64_t d = column + c;
      const double* x = rows + (k * pitch + d / block_height * block_height) * bin_rows + d % block_height;
      for (int64_t j = 0; j < n; ++j) {
        const wide v = load_wide(x + j * block_height);
        store_wide(strip + j * columns + c, with_weights ? v * weights[k * bin_rows + j] : v);
      }
    }
  }

  // The lower triangle, a few vectors of columns at a time: those of all rows stay in the first-level cache.
  template <bool with_weights>
  void add_triangle(int64_t dims, int64_t k, double* second) const {
    constexpr int H = block_height, F = block_vectors;
    alignas(64) double strip[bin_rows * F * wide_lanes];
    const double* x = rows + k * bin_rows * pitch;
    const int64_t n = counts[k], blocks = (dims + H - 1) / H;
    for (int64_t column = 0; column < dims; column += F * wide_lanes) {
      const int64_t columns = smaller(block_width(blocks - 1) - column, F * wide_lanes);
      pack_strip<with_weights>(k, n, column, columns, strip);
      int64_t at = 0;
      for (int64_t t = 0; t < blocks; ++t) {
        const int64_t width = block_width(t);
        double* out = second + at + column;
        at += H * width;
        if (width <= column) continue;
        const double* panel = x + t * bin_rows * H;
        switch (smaller((width - column) / wide_lanes, F)) {
          case 1: bin_tile<H, 1>(panel, strip, n, columns, out, width); break;
          case 2: bin_tile<H, 2>(panel, strip, n, columns, out, width); break;
          default: bin_tile<H, F>(panel, strip, n, columns, out, width); break;
        }
      }
    }
  }
};

}  // namespace MIXTURA_ISA
}  // namespace mixtura
