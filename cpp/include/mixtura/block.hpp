// A block: a few hundred rows turned feature-major, so that rows lie on vector lanes.
#pragma once

#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// x[d][i] = X[begin + i][d] - pivot[d] for i < n, and 0 (the pivot itself) up to n rounded up to whole
// groups. Cost: one read of X, N*D moves.
template <class T>
inline void pack_rows(const Rows& rows, const double* pivot, int64_t begin, int64_t n, int64_t padded,
                      int64_t stride, double* x) {
  const T* first = static_cast<const T*>(rows.data) + begin * rows.row_stride;
  for (int64_t d = 0; d < rows.dims; ++d) {
    const T* column = first + d * rows.column_stride;
    double* out = x + d * stride;
    const double p = pivot[d];
    if (rows.row_stride == 1)
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<double>(column[i]) - p;
    else
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<double>(column[i * rows.row_stride]) - p;
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
