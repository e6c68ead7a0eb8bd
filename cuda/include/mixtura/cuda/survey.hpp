// What must be known of a table before work begins, for tables that lie on the device: column by column how
// many NaN, how many infinities, the least and the largest of the finite numbers.
#pragma once

#include "mixtura/cuda/request.hpp"

namespace mixtura::cuda {

// Reads the table once. A block looks at 32 columns and every gridDim.x-th run of 8 rows. Grid: (runs, ceil(D
// / 32)).
struct Survey {
  static constexpr int threads = 256;
  static constexpr int side = 32;
  static constexpr int height = threads / side;
  struct Shared {
    Finding finding[height][side];
  };

  Columns columns;       // on the device
  int64_t count;         // N
  const double* weight;  // (N,) or null; rows of weight 0 are not looked at
  int64_t runs;          // blocks that share the rows
  Finding* out;          // (runs, D)

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    block.each([&](int t) {
      const int64_t d = block.y * side + t % side;
      Finding found{0.0, 0.0, 1.7976931348623157e308, -1.7976931348623157e308};
      if (d < columns.dims)
        for (int64_t i = block.x * height + t / side; i < count; i += runs * height) {
          if (weight && weight[i] == 0.0) continue;
          const int64_t at = i * columns.row_stride + d * columns.column_stride;
          const double z = columns.single_precision
                               ? static_cast<double>(static_cast<const float*>(columns.data)[at])
                               : static_cast<const double*>(columns.data)[at];
          if (z != z)
            found.nans += 1.0;
          else if (z - z != 0.0)
            found.infinities += 1.0;
          else
            found.merge(Finding{0.0, 0.0, z, z});
        }
      shared.finding[t / side][t % side] = found;
    });
    block.each([&](int t) {
      const int64_t d = block.y * side + t;
      if (t >= side || d >= columns.dims) return;
      Finding found = shared.finding[0][t];
      for (int h = 1; h < height; ++h) found.merge(shared.finding[h][t]);
      out[block.x * columns.dims + d] = found;
    });
  }
};

// Copies of some rows, (count, D). Grid: (ceil(count D / threads)).
struct Gather {
  static constexpr int threads = 256;
  struct Shared {};

  Columns columns;       // on the device
  const int64_t* index;  // (count,) which rows
  int64_t count;
  double* out;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t j = block.x * threads + t;
      if (j >= count * columns.dims) return;
      const int64_t at =
          index[j / columns.dims] * columns.row_stride + j % columns.dims * columns.column_stride;
      out[j] = columns.single_precision ? static_cast<double>(static_cast<const float*>(columns.data)[at])
                                        : static_cast<const double*>(columns.data)[at];
    });
  }
};

}  // namespace mixtura::cuda
