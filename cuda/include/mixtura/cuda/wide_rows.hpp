// From the table as it lies to all that kernels by warpgroups read of a tile's rows.
#pragma once

#include "mixtura/cuda/center.hpp"
#include "mixtura/cuda/wide_accumulate.hpp"
#include "mixtura/cuda/wide_evaluate.hpp"

namespace mixtura::cuda {

// Center, Square, and rows as operands, in one: x = z - p, in double before it is rounded, goes where it is
// wanted,
//
//   columns, rows   of the tile, as Center writes them
//   squares         the tile's column of squares, |x|^2
//   words           parts of x: (panel, parts, columns / 8, rows of a panel, 8), with zeros beyond D
//   blocked         columns in blocks: see place_in_blocks
//
// Reads the table once. Patches of 64 rows x 32 columns turn in shared memory, so that reading (along
// whichever axis is dense) and all writes are coalesced. Grid: (rows of whole panels / 64).
template <int parts>
struct WideRows {
  static constexpr int threads = 256;
  static constexpr int height = 64, side = 32;
  struct Shared {
    float patch[side][height + 1];
    float square[height];
  };

  Source source;
  Tile<float> tile;
  bool columns, squares;
  Chunk* words;           // or null
  int64_t chunks, panel;  // columns / 8, rows of a panel
  float* blocked;         // or null
  int64_t width;          // W rounded up

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
#if defined(__CUDACC__) && !defined(MIXTURA_WARPGROUPS)
    (void)block;
    (void)shared;
    __trap();  // such devices are not asked
#else
    place(block, shared);
#endif
  }

 private:
  static constexpr int rows_at_once = threads / side, columns_at_once = threads / height;

  template <class Block>
  MIXTURA_KERNEL void place(Block& block, Shared& shared) const {
    const Augmented augmented(tile.dims);
    const int64_t first_row = block.x * height;
    const bool columns_dense = source.left.column_stride <= source.left.row_stride;
    int64_t extent = words ? chunks * 8 : 0;
    if (blocked && width > extent) extent = width;
    if ((columns || tile.rows) && augmented.width() > extent) extent = augmented.width();
    for (int64_t first = 0; first < extent; first += side) {
      const int n = static_cast<int>(smaller(side, extent - first));
      block.each([&](int t) {
        columns_dense ? take_rows(shared, t, first_row, first, n)
                      : take_columns(shared, t, first_row, first, n);
      });
      if (squares)
        block.each([&](int t) {
          if (t >= height) return;
          float sum = first == 0 ? 0.0f : shared.square[t];
          for (int64_t c = 0; c < n && first + c < tile.dims; ++c)
            sum = fused(shared.patch[c][t], shared.patch[c][t], sum);
          shared.square[t] = sum;
          const int64_t place = augmented.square() - first;
          if (place >= 0 && place < n) shared.patch[place][t] = sum;
        });
      block.each([&](int t) {
        const int tiles_own = static_cast<int>(smaller(n, augmented.width() - first));
        if (columns) put_columns(shared, t, first_row, first, tiles_own);
        if (tile.rows) put_rows(shared, t, first_row, first, tiles_own, augmented.width());
        if (words) put_words_of(shared, t, first_row, first);
        if (blocked) put_blocks(shared, t, first_row, first, n);
      });
    }
    if (squares && !columns)
      block.each([&](int t) {
        if (t < height && first_row + t < tile.padded)
          tile.columns[augmented.square() * tile.stride + first_row + t] = shared.square[t];
      });
  }

  // What a row of no weight, and a column beyond the table's, has in the place of x.
  MIXTURA_KERNEL float beside(bool counts, int64_t d) const {
    return counts && d == Augmented(tile.dims).one() ? 1.0f : 0.0f;
  }
  MIXTURA_KERNEL bool counts(int64_t i) const { return i < tile.count && tile.weight[i] != 0.0; }

  // A patch whose columns lie side by side in the table: a thread has one of them, and every eighth row.
  MIXTURA_KERNEL void take_rows(Shared& shared, int t, int64_t first_row, int64_t first, int n) const {
    const int c = t % side;
    const int64_t d = first + c;
    if (c >= n) return;
    if (d < tile.dims && source.left.single_precision && source.right.dims == 0)
      return take_floats(shared, t, first_row, d, c);
    for (int step = 0; step < height / rows_at_once; ++step) {
      const int r = t / side + step * rows_at_once;
      const int64_t i = first_row + r;
      const bool here = counts(i);
      shared.patch[c][r] = here && d < tile.dims ? static_cast<float>(source(i, d)) : beside(here, d);
    }
  }

  // The same of a table of floats in one array: all are asked for before the first is used, and those of rows
  // that do not count are left again.
  MIXTURA_KERNEL void take_floats(Shared& shared, int t, int64_t first_row, int64_t d, int c) const {
    constexpr int steps = height / rows_at_once;
    const Columns& left = source.left;
    const float* from = static_cast<const float*>(left.data) + (first_row + t / side) * left.row_stride +
                        d * left.column_stride;
    const double pivot = source.pivot[d];
    float z[steps];
    MIXTURA_UNROLL
    for (int step = 0; step < steps; ++step) {
      const int64_t i = first_row + t / side + step * rows_at_once;
      z[step] = i < tile.count ? from[step * rows_at_once * left.row_stride] : 0.0f;
    }
    MIXTURA_UNROLL
    for (int step = 0; step < steps; ++step) {
      const int r = t / side + step * rows_at_once;
      shared.patch[c][r] =
          counts(first_row + r) ? static_cast<float>(static_cast<double>(z[step]) - pivot) : 0.0f;
    }
  }

  // A patch whose rows lie side by side: a thread has one of them, and every fourth column.
  MIXTURA_KERNEL void take_columns(Shared& shared, int t, int64_t first_row, int64_t first, int n) const {
    const int r = t % height;
    const int64_t i = first_row + r;
    const bool here = counts(i);
    for (int c = t / height; c < n; c += columns_at_once) {
      const int64_t d = first + c;
      shared.patch[c][r] = here && d < tile.dims ? static_cast<float>(source(i, d)) : beside(here, d);
    }
  }

  MIXTURA_KERNEL void put_columns(const Shared& shared, int t, int64_t first_row, int64_t first,
                                  int n) const {
    const int r = t % height;
    if (first_row + r >= tile.padded) return;
    float* to = tile.columns + (first + t / height) * tile.stride + first_row + r;
    for (int c = t / height; c < n; c += columns_at_once, to += columns_at_once * tile.stride)
      *to = shared.patch[c][r];
  }

  MIXTURA_KERNEL void put_rows(const Shared& shared, int t, int64_t first_row, int64_t first, int n,
                               int64_t wide) const {
    const int c = t % side;
    if (c >= n) return;
    float* to = tile.rows + (first_row + t / side) * wide + first + c;
    for (int step = 0; step < height / rows_at_once; ++step, to += rows_at_once * wide) {
      const int r = t / side + step * rows_at_once;
      if (first_row + r < tile.padded) *to = shared.patch[c][r];
    }
  }

  MIXTURA_KERNEL void put_words_of(const Shared& shared, int t, int64_t first_row, int64_t first) const {
    static_assert(threads == height * side / 8, "a thread has one chunk of a patch");
    const int r = t % height, c = t / height * 8;
    const int64_t i = first_row + r, chunk = first / 8 + t / height;
    if (chunk >= chunks) return;
    Chunk out[parts];
    MIXTURA_UNROLL
    for (int j = 0; j < 8; ++j) {
      const Parts<parts> found = parts_of<parts>(first + c + j < tile.dims ? shared.patch[c + j][r] : 0.0f);
      MIXTURA_UNROLL
      for (int p = 0; p < parts; ++p) out[p].of[j] = found.of[p];
    }
    Chunk* to = words + (i / panel * parts * chunks + chunk) * panel + i % panel;
    MIXTURA_UNROLL
    for (int p = 0; p < parts; ++p, to += chunks * panel) *to = out[p];
  }

  // Blocks of 32 rows and 8 columns are 256 numbers side by side, a thread's number the same in each.
  MIXTURA_KERNEL void put_blocks(const Shared& shared, int t, int64_t first_row, int64_t first, int n) const {
    constexpr int rows_of_block = stage_steps * stage_rows;
    static_assert(threads == rows_of_block * feature_columns, "a thread has one number of a block");
    const int r = t / (feature_columns * stage_rows) * stage_rows + t % stage_rows;
    const int c = t / stage_rows % feature_columns;
    const int64_t runs = width / feature_columns;
    MIXTURA_UNROLL
    for (int part = 0; part < height / rows_of_block; ++part) {
      const int64_t row = first_row + part * rows_of_block;
      if (row >= tile.padded) return;
      float* to = blocked + (row / rows_of_block * runs + first / feature_columns) * threads + t;
      for (int run = 0; run < n && first + run < width; run += feature_columns, to += threads)
        *to = shared.patch[run + c][part * rows_of_block + r];
    }
  }
};

}  // namespace mixtura::cuda
