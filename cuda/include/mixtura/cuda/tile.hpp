// A tile: the rows that a device works on at a time, so many that they fill it, so few that their K numbers
// each stay in its second-level cache between the E half and the M half.
#pragma once

#include "mixtura/cuda/block.hpp"
#include "mixtura/cuda/tuning.hpp"
#include "mixtura/problem.hpp"

namespace mixtura::cuda {

// Exponentials and logarithms are of base 2.
constexpr double log2e = 1.44269504088896340736;
constexpr double ln2 = 0.69314718055994530942;

// sqrt(log2(e) / 2): what turns a factor to base 2.
constexpr double root_half_log2e = 0.84932180028801904272;

// Rows of a tile come in panels of this many.
constexpr int panel_rows = 128;

// Columns that a tile holds beside its D: a one for every row that counts, the square |x|^2, and a zero. With
// them every statistic is a product of two columns.
struct Augmented {
  int64_t dims;    // D
  int64_t padded;  // D, rounded up; zeros between

  MIXTURA_BOTH explicit Augmented(int64_t dims_) : dims(dims_), padded(round_up(dims_, 8)) {}
  MIXTURA_BOTH int64_t one() const { return padded; }
  MIXTURA_BOTH int64_t square() const { return padded + 1; }
  MIXTURA_BOTH int64_t zero() const { return padded + 2; }
  MIXTURA_BOTH int64_t width() const { return padded + 4; }
};

// Thread t's i-th place of `width`: runs of four, half the width apart, so that a warp's loads of four
// numbers at a time meet no bank twice.
MIXTURA_BOTH int place_of(int thread, int i, int width = panel_rows) {
  return (i / 4) * (width / 2) + thread * 4 + i % 4;
}

// Device memory of a tile. S is its stride, a multiple of panel_rows; W the width of Augmented.
template <class T>
struct Tile {
  int64_t dims;    // D
  int64_t count;   // rows in it
  int64_t padded;  // count, rounded up to whole panels; the rest of the last panel has weight 0
  int64_t stride;  // S
  T* columns;      // (W, S) rows about the pivot, column by column
  T* rows;         // (S, W) the same, row by row; or null
  double* weight;  // (S,)   weights of the rows
  T* joint;        // (K, S) log2 of weight times density; then 2^(that - the row's largest); or given
                   // responsibilities
  T* share;        // (S,)   weight / sum of these: r_ik = share_i joint_ki
  T* top;          // (S,)   the row's largest, where `joint` still holds logarithms; else null
  int32_t* label;  // (S,)   most likely component, where assignment is hard; -1: a row that does not count
};

// Pairs (row, component) of a tile that count, and whether so few that lists of them pay.
struct Activity {
  unsigned long long* pairs;  // one counter for the tile
  int64_t components;
  int64_t rows;

  MIXTURA_KERNEL bool sparse() const {
    return *pairs * sparse_pairs < static_cast<unsigned long long>(components * rows);
  }
};

// A statistic is a sum of responsibility times product of two columns.
struct Pair {
  int32_t a, b;
};

}  // namespace mixtura::cuda
