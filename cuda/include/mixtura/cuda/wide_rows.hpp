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
    const Augmented augmented(tile.dims);
    const int64_t first_row = block.x * height;
    const bool columns_dense = source.left.column_stride <= source.left.row_stride;
    int64_t extent = words ? chunks * 8 : 0;
    if (blocked && width > extent) extent = width;
    if ((columns || tile.rows) && augmented.width() > extent) extent = augmented.width();
    for (int64_t first = 0; first < extent; first += side) {
      const int n = static_cast<int>(smaller(side, extent - first));
      block.each([&](int t) {
        for (int step = t; step < height * n; step += threads) {
          const int r = columns_dense ? step / n : step % height,
                    c = columns_dense ? step % n : step / height;
          const int64_t i = first_row + r, d = first + c;
          float value = 0;
          if (i < tile.count && tile.weight[i] != 0.0) {
            if (d < tile.dims)
              value = static_cast<float>(source(i, d));
            else if (d == augmented.one())
              value = 1;
          }
          shared.patch[c][r] = value;
        }
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
        put_columns(shared, t, first_row, first, n, augmented.width());
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

 private:
  MIXTURA_KERNEL void put_columns(const Shared& shared, int t, int64_t first_row, int64_t first, int n,
                                  int64_t wide) const {
    if (columns)
      for (int step = t; step < height * n; step += threads) {
        const int r = step % height, c = step / height;
        if (first_row + r < tile.padded && first + c < wide)
          tile.columns[(first + c) * tile.stride + first_row + r] = shared.patch[c][r];
      }
    if (tile.rows)
      for (int step = t; step < height * n; step += threads) {
        const int r = step / n, c = step % n;
        if (first_row + r < tile.padded && first + c < wide)
          tile.rows[(first_row + r) * wide + first + c] = shared.patch[c][r];
      }
  }

  MIXTURA_KERNEL void put_words_of(const Shared& shared, int t, int64_t first_row, int64_t first) const {
    static_assert(threads == height * side / 8, "a thread has one chunk of a patch");
    const int r = t % height, c = t / height * 8;
    const int64_t i = first_row + r, chunk = (first + c) / 8;
    if (chunk >= chunks) return;
    Chunk out[parts];
    MIXTURA_UNROLL
    for (int j = 0; j < 8; ++j) {
      const Parts<parts> found = parts_of<parts>(first + c + j < tile.dims ? shared.patch[c + j][r] : 0.0f);
      MIXTURA_UNROLL
      for (int p = 0; p < parts; ++p) out[p].of[j] = found.of[p];
    }
    MIXTURA_UNROLL
    for (int p = 0; p < parts; ++p)
      words[((i / panel * parts + p) * chunks + chunk) * panel + i % panel] = out[p];
  }

  // Blocks of 32 rows and 8 columns are 256 numbers side by side.
  MIXTURA_KERNEL void put_blocks(const Shared& shared, int t, int64_t first_row, int64_t first, int n) const {
    constexpr int rows_of_block = stage_steps * stage_rows, size = rows_of_block * feature_columns;
    const int runs = n / feature_columns;
    for (int step = t; step < height * runs * feature_columns; step += threads) {
      const int at = step % size, run = step / size % runs, part = step / size / runs;
      const int r = part * rows_of_block + at / (feature_columns * stage_rows) * stage_rows + at % stage_rows;
      const int c = run * feature_columns + at / stage_rows % feature_columns;
      if (first_row + r < tile.padded && first + c < width)
        blocked[place_in_blocks(first_row + r, first + c, width)] = shared.patch[c][r];
    }
  }
};

}  // namespace mixtura::cuda
