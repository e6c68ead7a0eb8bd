// A block: a few hundred rows turned feature-major, so that rows lie on vector lanes.
#pragma once

#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// Brings the next block's rows towards the caches while this one is worked on, a few lines at each call: all
// at once they would fill the processor's queue of misses and stall it.
struct Prefetch {
  const char* at = nullptr;
  const char* end = nullptr;
  int64_t lines = 0;  // at each call

  Prefetch(const Rows& rows, int64_t begin, int64_t n, int64_t calls) {
    if (rows.column_stride != 1 || n <= 0) return;
    const int64_t item = rows.single_precision ? 4 : 8;
    if (rows.row_stride < 0 || rows.row_stride > 2 * rows.dims) return;  // not one stretch of memory
    at = static_cast<const char*>(rows.data) + begin * rows.row_stride * item;
    end = at + n * rows.row_stride * item;
    lines = ((end - at) / 64 + calls) / calls;
  }

  MIXTURA_INLINE void step() {
    for (int64_t l = 0; l < lines && at < end; ++l, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

typedef float half_vec __attribute__((vector_size(MIXTURA_VECTOR_BYTES / 2), may_alias, aligned(4)));

MIXTURA_INLINE vec load_row(const double* p) {
  return load_unaligned(p);
}
MIXTURA_INLINE vec load_row(const float* p) {
  return __builtin_convertvector(*reinterpret_cast<const half_vec*>(p), vec);
}

// x[d][i] = X[begin + i][d] - pivot[d] for i < n, and 0 (the pivot itself) up to `padded`, whole groups.
// Cost: one read of X, N*D moves. Rows that lie one after another are turned in registers, a square of
// lanes x lanes at a time; other layouts, and what is left at the edges, number by number.
template <class T>
inline void pack_rows(const Rows& rows, const double* pivot, int64_t begin, int64_t n, int64_t padded,
                      int64_t stride, double* x) {
  const T* first = static_cast<const T*>(rows.data) + begin * rows.row_stride;
  const int64_t dims = rows.dims;
  const bool row_major = rows.column_stride == 1;
  const int64_t square_rows = row_major ? n / lanes * lanes : 0,
                square_columns = row_major ? dims / lanes * lanes : 0;
  for (int64_t i = 0; i < square_rows; i += lanes)
    for (int64_t d = 0; d < square_columns; d += lanes) {
      vec v[lanes];
      MIXTURA_UNROLL
      for (int r = 0; r < lanes; ++r) v[r] = load_row(first + (i + r) * rows.row_stride + d);
      transpose(v);
      MIXTURA_UNROLL
      for (int c = 0; c < lanes; ++c) store(x + (d + c) * stride + i, v[c] - pivot[d + c]);
    }
  for (int64_t d = 0; d < dims; ++d) {
    const T* column = first + d * rows.column_stride;
    double* out = x + d * stride;
    const double p = pivot[d];
    const int64_t done = d < square_columns ? square_rows : 0;
    if (rows.row_stride == 1)
      for (int64_t i = done; i < n; ++i) out[i] = static_cast<double>(column[i]) - p;
    else
      for (int64_t i = done; i < n; ++i) out[i] = static_cast<double>(column[i * rows.row_stride]) - p;
    for (int64_t i = n; i < padded; ++i) out[i] = 0.0;
  }
}

inline void pack_rows(const Rows& rows, const double* pivot, int64_t begin, int64_t n, int64_t padded,
                      int64_t stride, double* x) {
  if (rows.single_precision)
    pack_rows<float>(rows, pivot, begin, n, padded, stride, x);
  else
    pack_rows<double>(rows, pivot, begin, n, padded, stride, x);
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
