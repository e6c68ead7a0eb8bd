// The M half: sums over a tile's rows of r_ik times products of two columns, for every kind of moments alike:
// the mass is 1 * 1, the mean 1 * x_d, the trace 1 * |x|^2, a second moment x_a * x_b.
//
// Three ways to the same sums, each into running sums in double that belong to one block of the grid alone:
// no sum depends on which block comes first, so results are the same bits every time.
#pragma once

#include "mixtura/cuda/center.hpp"
#include "mixtura/cuda/sort.hpp"

namespace mixtura::cuda {

// A share of a tile's rows, in whole panels: what block z of `splits` looks at.
struct Share {
  int64_t begin, end;

  MIXTURA_BOTH Share(int64_t padded, int64_t splits, int64_t z) {
    const int64_t panels = padded / panel_rows, each = (panels + splits - 1) / splits;
    begin = smaller(z * each, panels) * panel_rows;
    end = smaller((z + 1) * each, panels) * panel_rows;
  }
};

// Dense: a product of matrices, K x rows times rows x P, whose second operand is formed on the way, share_i
// x_a x_b: each pair of columns once, no triangle wasted. `components` x `features` sums a block, 8 x 8 a
// thread (8 x 4 with few components); a stage is 4 or 16 rows (half as many of doubles), loaded and
// multiplied while the one before is computed with.
//
// Cost: N K P multiply-adds, and two multiplications for each feature of each row in every group of
// components. Grid: (ceil(P / features), ceil(K / components), splits).
template <class T, int components>
struct AccumulateDense {
  static constexpr int features = components >= 128 ? 128 : components >= 32 ? 256 : 512;
  static constexpr int run = components >= 32 ? 8 : 4;  // features of a thread
  static constexpr int across = features / run, down = components / 8;
  static constexpr int threads = across * down;
  static constexpr int depth =
      (components >= 128 ? dense_depth_high : dense_depth_low) * 4 / static_cast<int>(sizeof(T));
  static constexpr int loads_r = (depth * components + threads - 1) / threads;
  static constexpr int loads_f = depth * features / threads;
  struct Shared {
    T r[2][depth][components + 4];
    T feature[2][depth][features];
  };
  struct Registers {
    T sum[8][run], next_r[loads_r], next_f[loads_f];
  };

  Tile<T> tile;
  int64_t count;  // K
  int64_t size;   // P
  int64_t splits;
  const Pair* pairs;  // (P rounded up to whole blocks): offsets of two columns, in columns
  double* sums;       // (splits, K, P)
  Activity activity;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    if (activity.sparse()) return;
    const Share rows(tile.padded, splits, block.z);
    const int64_t first_k = block.y * components, first_f = block.x * features;
    Local<Registers, threads> local;
    auto load = [&](int t, Registers& r, int64_t row) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads_r; ++l) {
        const int at = l * threads + t;
        const int64_t k = first_k + at / depth;
        r.next_r[l] =
            at < depth * components && k < count ? tile.joint[k * tile.stride + row + at % depth] : T(0);
      }
      MIXTURA_UNROLL
      for (int l = 0; l < loads_f; ++l) {
        const int at = l * threads + t;
        const int64_t i = row + at % depth;
        const Pair pair = pairs[first_f + at / depth];
        r.next_f[l] =
            tile.columns[pair.a * tile.stride + i] * tile.share[i] * tile.columns[pair.b * tile.stride + i];
      }
    };
    auto store = [&](int t, const Registers& r, int buffer) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads_r; ++l) {
        const int at = l * threads + t;
        if (at < depth * components) shared.r[buffer][at % depth][at / depth] = r.next_r[l];
      }
      MIXTURA_UNROLL
      for (int l = 0; l < loads_f; ++l) {
        const int at = l * threads + t;
        shared.feature[buffer][at % depth][at / depth] = r.next_f[l];
      }
    };
    if (rows.begin >= rows.end) return;
    block.each([&](int t) {
      Registers& r = local(t);
      MIXTURA_UNROLL
      for (int i = 0; i < 8; ++i) {
        MIXTURA_UNROLL
        for (int j = 0; j < run; ++j) r.sum[i][j] = 0;
      }
      load(t, r, rows.begin);
      store(t, r, 0);
    });
    int buffer = 0;
    for (int64_t row = rows.begin; row < rows.end; row += depth, buffer ^= 1) {
      block.each([&](int t) {
        Registers& r = local(t);
        const int tx = t % across, ty = t / across;
        if (row + depth < rows.end) load(t, r, row + depth);
        MIXTURA_UNROLL
        for (int i = 0; i < depth; ++i) {
          T a[8], b[run];
          MIXTURA_UNROLL
          for (int p = 0; p < 8; ++p) a[p] = shared.r[buffer][i][place_of(ty, p, components)];
          MIXTURA_UNROLL
          for (int q = 0; q < run; ++q) b[q] = shared.feature[buffer][i][place_of(tx, q, features)];
          MIXTURA_UNROLL
          for (int p = 0; p < 8; ++p) {
            MIXTURA_UNROLL
            for (int q = 0; q < run; ++q) r.sum[p][q] = fused(a[p], b[q], r.sum[p][q]);
          }
        }
        if (row + depth < rows.end) store(t, r, buffer ^ 1);
      });
    }
    block.each([&](int t) {
      const Registers& r = local(t);
      MIXTURA_UNROLL
      for (int p = 0; p < 8; ++p) {
        const int64_t k = first_k + place_of(t / across, p, components);
        if (k >= count) continue;
        double* out = sums + (block.z * count + k) * size;
        MIXTURA_UNROLL
        for (int q = 0; q < run; ++q) {
          const int64_t f = first_f + place_of(t % across, q, features);
          if (f < size) out[f] += static_cast<double>(r.sum[p][q]);
        }
      }
    });
  }
};

// Listed: one component's rows that count, found by looking at all of the tile's responsibilities for it, in
// the rows' order; some features a thread, the row read from the copy in which its columns lie side by side.
// Rows that do not count cost a comparison each.
//
// Cost: a read of N numbers a component, and 2 reads, a multiplication and a multiply-add for each feature of
// each row that counts. Grid: (ceil(P / (threads features)), K, splits).
template <class T>
struct AccumulateListed {
  static constexpr int threads = 128;
  static constexpr int features = listed_features;
  static constexpr int window = listed_window;  // rows looked at before those that count are added up
  struct Shared {
    uint32_t counts[window / warp_size];
  };
  struct Registers {
    double sum[features];
    Pair pair[features];
  };

  Tile<T> tile;
  int64_t count;  // K
  int64_t size;   // P
  int64_t splits;
  T least;
  const Pair* pairs;
  double* sums;
  Activity activity;

  MIXTURA_KERNEL T power(const T* joint, int64_t row) const {
    return tile.top ? power_of_two(joint[row] - tile.top[row]) : joint[row];
  }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    if (!activity.sparse()) return;
    const Share rows(tile.padded, splits, block.z);
    const int64_t k = block.y, first = block.x * threads * features, width = Augmented(tile.dims).width();
    const T* joint = tile.joint + k * tile.stride;
    if (rows.begin >= rows.end) return;
    Local<Registers, threads> local;
    block.each([&](int t) {
      Registers& r = local(t);
      MIXTURA_UNROLL
      for (int j = 0; j < features; ++j) {
        const int64_t f = first + j * threads + t;
        r.sum[j] = 0;
        r.pair[j] = f < size ? pairs[f] : Pair{0, 0};
      }
    });
    for (int64_t begin = rows.begin; begin < rows.end; begin += window) {
      block.ballot(window, shared.counts, [&](int i) {
        const int64_t row = begin + i;
        return row < rows.end && power(joint, row) >= least && tile.share[row] != T(0);
      });
      block.each([&](int t) {
        Registers& r = local(t);
        for (int word = 0; word < window / warp_size; ++word)
          for (uint32_t left = shared.counts[word]; left; left &= left - 1) {
            const int64_t row = begin + word * warp_size + lowest_bit(left);
            const T* x = tile.rows + row * width;
            const T weight = power(joint, row) * tile.share[row];
            MIXTURA_UNROLL
            for (int j = 0; j < features; ++j) {
              if (first + j * threads >= size) continue;
              const Pair pair = r.pair[j];
              r.sum[j] += static_cast<double>(weight * x[pair.a] * x[pair.b]);
            }
          }
      });
    }
    block.each([&](int t) {
      const Registers& r = local(t);
      double* out = sums + (block.z * count + k) * size;
      MIXTURA_UNROLL
      for (int j = 0; j < features; ++j) {
        const int64_t f = first + j * threads + t;
        if (f < size) out[f] += r.sum[j];
      }
    });
  }
};

// Hard assignments, from rows sorted by label: a component's rows one after another, some features a thread,
// summed in double from the table itself, because labels do not depend on the digits that x - p loses in
// float, and sums of one cluster's rows would. Several rows are read before they are added, so that reads
// wait together.
//
// Cost: a read, two multiplications and an addition for each feature of each row. Grid: (ceil(P / (threads
// features)), K, splits).
template <class T>
struct AccumulateSorted {
  static constexpr int threads = 128;
  static constexpr int features = sorted_features;
  static constexpr int at_once = 8;  // rows
  struct Shared {};

  Source source;
  Tile<T> tile;
  int64_t count;  // K
  int64_t size;   // P
  int64_t splits;
  const Pair* pairs;
  Sorted sorted;
  double* sums;

  // Of weight times value, over rows that were sorted.
  template <class Value>
  MIXTURA_KERNEL double sum_of(int64_t begin, int64_t end, Value value) const {
    double sum = 0;
    int64_t at = begin;
    for (; at + at_once <= end; at += at_once) {
      int64_t row[at_once];
      double weight[at_once], number[at_once];
      MIXTURA_UNROLL
      for (int i = 0; i < at_once; ++i) row[i] = sorted.order[at + i];
      MIXTURA_UNROLL
      for (int i = 0; i < at_once; ++i) {
        weight[i] = tile.weight[row[i]];
        number[i] = value(row[i]);
      }
      MIXTURA_UNROLL
      for (int i = 0; i < at_once; ++i) sum = fused(weight[i], number[i], sum);
    }
    for (; at < end; ++at) sum = fused(tile.weight[sorted.order[at]], value(sorted.order[at]), sum);
    return sum;
  }

  // A number of the augmented row, of the table's own digits where it is the table's.
  MIXTURA_KERNEL double exact(int64_t row, int64_t column) const {
    if (column < tile.dims) return source(row, column);
    if (column == Augmented(tile.dims).one()) return 1.0;
    double square = 0;
    for (int64_t d = 0; d < tile.dims; ++d) square = fused(source(row, d), source(row, d), square);
    return square;
  }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    const int64_t k = block.y;
    const auto first = static_cast<int64_t>(sorted.first[k]),
               last = static_cast<int64_t>(sorted.first[k + 1]);
    const int64_t each = (last - first + splits - 1) / splits;
    const int64_t begin = smaller(first + block.z * each, last), end = smaller(begin + each, last);
    double* out = sums + (block.z * count + k) * size;
    block.each([&](int t) {
      MIXTURA_UNROLL
      for (int j = 0; j < features; ++j) {
        const int64_t f = (block.x * features + j) * threads + t;
        if (f >= size) continue;
        const Pair pair = pairs[f];
        // Most features are products of two columns of the table, or one of them alone.
        const bool first_is_one = pair.a == Augmented(tile.dims).one();
        if (pair.b >= tile.dims || (pair.a >= tile.dims && !first_is_one))
          out[f] += sum_of(begin, end, [&](int64_t row) { return exact(row, pair.a) * exact(row, pair.b); });
        else if (first_is_one)
          out[f] += sum_of(begin, end, [&](int64_t row) { return source(row, pair.b); });
        else
          out[f] +=
              sum_of(begin, end, [&](int64_t row) { return source(row, pair.a) * source(row, pair.b); });
      }
    });
  }
};

// total_j = sum over splits of sums_zj, in order. Grid: (ceil(entries / threads)).
struct Reduce {
  static constexpr int threads = 256;
  struct Shared {};

  int64_t entries;  // K P
  int64_t splits;
  const double* sums;
  double* total;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t j = block.x * threads + t;
      if (j >= entries) return;
      double sum = 0;
      for (int64_t z = 0; z < splits; ++z) sum += sums[z * entries + j];
      total[j] = sum;
    });
  }
};

}  // namespace mixtura::cuda
