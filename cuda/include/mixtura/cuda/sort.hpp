// The rows of a tile by their labels, for sums over hard assignments: component after component, and each
// one's rows in the table's order, whatever order the blocks run in. A counting sort: a look at each label in
// three kernels.
#pragma once

#include "mixtura/cuda/tile.hpp"

namespace mixtura::cuda {

// Rows that a block counts and places.
constexpr int64_t sorted_rows = 2048;

// Where the sorted rows of a tile are.
struct Sorted {
  unsigned long long* counts;  // (blocks, K): rows of each label in a block
  unsigned long long* starts;  // (blocks, K): of them in earlier blocks; then also in what a block has placed
  unsigned long long* first;   // (K + 1): place of a component's first row
  int32_t* order;              // (S,): rows of the tile
};

// Grid: (blocks).
struct CountLabels {
  static constexpr int threads = 256;
  struct Shared {};

  const int32_t* label;
  int64_t rows;   // of the tile
  int64_t count;  // K
  Sorted sorted;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t end = smaller((block.x + 1) * sorted_rows, rows);
      for (int64_t i = block.x * sorted_rows + t; i < end; i += threads)
        if (label[i] >= 0) block.add(sorted.counts + block.x * count + label[i], 1);
    });
  }
};

// starts_bk = sum over earlier blocks of counts; first_k <- sum over all of them. Grid: (ceil(K / threads)).
struct AddCounts {
  static constexpr int threads = 128;
  static constexpr int at_once = 8;
  struct Shared {};

  int64_t blocks;
  int64_t count;  // K
  Sorted sorted;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t k = block.x * threads + t;
      if (k >= count) return;
      unsigned long long sum = 0;
      for (int64_t b = 0; b < blocks; b += at_once) {
        unsigned long long found[at_once];
        MIXTURA_UNROLL
        for (int j = 0; j < at_once; ++j) found[j] = b + j < blocks ? sorted.counts[(b + j) * count + k] : 0;
        MIXTURA_UNROLL
        for (int j = 0; j < at_once; ++j) {
          if (b + j < blocks) sorted.starts[(b + j) * count + k] = sum;
          sum += found[j];
        }
      }
      sorted.first[k] = sum;
    });
  }
};

// first_k <- sum over earlier components of what AddCounts found. Grid: (1).
struct AddComponents {
  static constexpr int threads = 256;
  struct Shared {
    unsigned long long sum[threads];
  };

  int64_t count;  // K
  Sorted sorted;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t each = (count + threads - 1) / threads;
    block.each([&](int t) {
      unsigned long long sum = 0;
      for (int64_t k = t * each; k < smaller((t + 1) * each, count); ++k) sum += sorted.first[k];
      shared.sum[t] = sum;
    });
    block.each([&](int t) {
      if (t != 0) return;
      unsigned long long sum = 0;
      for (int i = 0; i < threads; ++i) {
        const unsigned long long here = shared.sum[i];
        shared.sum[i] = sum;
        sum += here;
      }
      sorted.first[count] = sum;
    });
    block.each([&](int t) {
      unsigned long long sum = shared.sum[t];
      for (int64_t k = t * each; k < smaller((t + 1) * each, count); ++k) {
        const unsigned long long here = sorted.first[k];
        sorted.first[k] = sum;
        sum += here;
      }
    });
  }
};

// A row's place is after those of its label in earlier blocks, and before it in this one: it counts the
// latter among the 256 rows that its block looks at together. Grid: (blocks).
struct PlaceRows {
  static constexpr int threads = 256;
  struct Shared {
    int32_t label[threads];
  };
  struct Registers {
    int before;
    bool last;  // of its label, among these rows
  };

  const int32_t* label;
  int64_t rows;   // of the tile
  int64_t count;  // K
  Sorted sorted;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    unsigned long long* starts = sorted.starts + block.x * count;
    const int64_t end = smaller((block.x + 1) * sorted_rows, rows);
    Local<Registers, threads> local;
    for (int64_t begin = block.x * sorted_rows; begin < end; begin += threads) {
      block.each([&](int t) { shared.label[t] = begin + t < end ? label[begin + t] : -1; });
      block.each([&](int t) {
        const int32_t mine = shared.label[t];
        int before = 0, after = 0;
        for (int j = 0; j < threads; ++j) {
          const int same = shared.label[j] == mine ? 1 : 0;
          before += j < t ? same : 0;
          after += j > t ? same : 0;
        }
        local(t) = Registers{before, after == 0};
        if (mine >= 0)
          sorted.order[sorted.first[mine] + starts[mine] + static_cast<unsigned long long>(before)] =
              static_cast<int32_t>(begin + t);
      });
      block.each([&](int t) {
        const int32_t mine = shared.label[t];
        if (mine >= 0 && local(t).last) starts[mine] += static_cast<unsigned long long>(local(t).before) + 1;
      });
    }
  }
};

}  // namespace mixtura::cuda
