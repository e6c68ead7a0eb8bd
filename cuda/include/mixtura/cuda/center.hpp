// From the table as it lies to a tile: rows about the pivot, in both orders.
#pragma once

#include "mixtura/cuda/tile.hpp"

namespace mixtura::cuda {

// The table on the device, from a tile's first row on, seen from the pivot.
struct Source {
  Columns left, right;
  const double* pivot;  // (D,)

  MIXTURA_KERNEL double operator()(int64_t i, int64_t d) const {
    const Columns& columns = d < left.dims ? left : right;
    const int64_t at = i * columns.row_stride + (d < left.dims ? d : d - left.dims) * columns.column_stride;
    const double z = columns.single_precision
                         ? static_cast<double>(static_cast<const float*>(columns.data)[at])
                         : static_cast<const double*>(columns.data)[at];
    return z - pivot[d];
  }
};

// weight_i of a tile's rows: the caller's, or 1; 0 beyond the tile's end. Grid: (padded / threads).
struct Weigh {
  static constexpr int threads = 128;
  struct Shared {};

  const double* given;  // (count,) or null
  int64_t count;
  double* weight;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.x * threads + t;
      weight[i] = i >= count ? 0.0 : given ? given[i] : 1.0;
    });
  }
};

// columns[d][i] = rows[i][d] = z_i[d] - p[d], in double before it is rounded to T. A row of weight 0 is not
// looked at: it is at the pivot, and its `one` is 0. Reads the table once, writes two tiles' worth to the
// second-level cache.
//
// Patches of 32 rows x 32 columns turn in shared memory, so that reading (along whichever axis is dense) and
// both writes are coalesced. Grid: (padded / 32, ceil(W / 32)).
template <class T>
struct Center {
  static constexpr int threads = 256;
  static constexpr int side = 32;
  struct Shared {
    T patch[side][side + 1];
  };

  Source source;
  Tile<T> tile;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const Augmented augmented(tile.dims);
    const int64_t first_row = block.x * side, first_column = block.y * side;
    const bool columns_dense = source.left.column_stride <= source.left.row_stride;
    block.each([&](int t) {
      for (int step = 0; step < side * side; step += threads) {
        const int fast = (step + t) % side, slow = (step + t) / side;
        const int r = columns_dense ? slow : fast, c = columns_dense ? fast : slow;
        const int64_t i = first_row + r, d = first_column + c;
        T value = 0;
        if (i < tile.count && tile.weight[i] != 0.0) {
          if (d < tile.dims)
            value = static_cast<T>(source(i, d));
          else if (d == augmented.one())
            value = 1;
        }
        shared.patch[r][c] = value;
      }
    });
    block.each([&](int t) {
      for (int step = 0; step < side * side; step += threads) {
        const int fast = (step + t) % side, slow = (step + t) / side;
        const int64_t width = augmented.width();
        if (first_column + slow < width)
          tile.columns[(first_column + slow) * tile.stride + first_row + fast] = shared.patch[fast][slow];
        if (tile.rows && first_column + fast < width)
          tile.rows[(first_row + slow) * width + first_column + fast] = shared.patch[slow][fast];
      }
    });
  }
};

// The column of squares, |x_i|^2: one multiply-add an element. Grid: (padded / threads).
template <class T>
struct Square {
  static constexpr int threads = 128;
  struct Shared {};

  Tile<T> tile;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    const Augmented augmented(tile.dims);
    block.each([&](int t) {
      const int64_t i = block.x * threads + t;
      T sum = 0;
      for (int64_t d = 0; d < tile.dims; ++d) {
        const T x = tile.columns[d * tile.stride + i];
        sum = fused(x, x, sum);
      }
      tile.columns[augmented.square() * tile.stride + i] = sum;
      if (tile.rows) tile.rows[i * augmented.width() + augmented.square()] = sum;
    });
  }
};

// y_r = sum_d G_rd x_d of a factor that all components share: R D multiply-adds a row, done once for all of
// them. Grid: (padded / threads, ceil(R / 8)).
template <class T>
struct Transform {
  static constexpr int threads = 128;
  static constexpr int height = 8;
  struct Shared {};

  Tile<T> tile;
  const T* factor;      // (R, D)
  int64_t factor_rows;  // R
  T* out;               // (round_up(R, 8), S)

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.x * threads + t, first = block.y * height;
      T sum[height];
      MIXTURA_UNROLL
      for (int r = 0; r < height; ++r) sum[r] = 0;
      for (int64_t d = 0; d < tile.dims; ++d) {
        const T x = tile.columns[d * tile.stride + i];
        MIXTURA_UNROLL
        for (int r = 0; r < height; ++r)
          if (first + r < factor_rows) sum[r] = fused(factor[(first + r) * tile.dims + d], x, sum[r]);
      }
      MIXTURA_UNROLL
      for (int r = 0; r < height; ++r) out[(first + r) * tile.stride + i] = sum[r];
    });
  }
};

}  // namespace mixtura::cuda
