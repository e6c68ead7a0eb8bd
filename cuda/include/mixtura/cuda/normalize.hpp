// Between the halves: from joint log-densities (base 2) to responsibilities and the log-likelihood.
#pragma once

#include "mixtura/cuda/tile.hpp"

namespace mixtura::cuda {

// A number below this is 0 beside the 1 that is the largest of its row: it and its products stay clear of
// subnormals.
template <class T>
MIXTURA_BOTH T least_power() {
  return sizeof(T) == 4 ? static_cast<T>(2.6469779601696886e-23) : static_cast<T>(3.0549363634996047e-151);
}

// Soft: joint_ki <- 2^(joint_ki - max_k joint_ki); share_i <- w_i / sum_k of these; adds sum_i w_i log p(z_i)
// to its slot, and the number of pairs above `least` to the tile's. A share folds the division by the sum
// into the M half.
//
// One exponential a pair; reads K numbers a row twice and writes them once, all within the second-level
// cache. Eight threads share a row, so that a tile of few rows fills the device. Grid: (padded / 32).
template <class T>
struct NormalizeSoft {
  static constexpr int threads = 256;
  static constexpr int side = 32;
  static constexpr int parts = threads / side;
  struct Shared {
    T top[parts][side];
    double total[parts][side], log_likelihood[side];
    unsigned long long pairs[parts][side];
  };

  Tile<T> tile;
  int64_t count;            // K
  T least;                  // of a row's largest: what counts
  double* log_likelihoods;  // a slot for each block of the grid, tile after tile
  Activity activity;
  double* density;  // (S,) or null: log p(z_i), base e

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first = block.x * side;
    auto row = [&](int t) { return tile.joint + first + t % side; };
    block.each([&](int t) {
      const T* joint = row(t);
      const int part = t / side;
      T top = part < count ? joint[part * tile.stride] : joint[0];
      for (int64_t k = part + parts; k < count; k += parts) {
        const T value = joint[k * tile.stride];
        top = value > top ? value : top;
      }
      shared.top[part][t % side] = top;
    });
    block.each([&](int t) {
      T top = shared.top[0][t % side];
      for (int p = 1; p < parts; ++p) {
        const T value = shared.top[p][t % side];
        top = value > top ? value : top;
      }
      T* joint = row(t);
      double total = 0;
      unsigned long long pairs = 0;
      for (int64_t k = t / side; k < count; k += parts) {
        T e = power_of_two(joint[k * tile.stride] - top);
        e = e < least_power<T>() ? T(0) : e;
        joint[k * tile.stride] = e;
        total += static_cast<double>(e);
        pairs += e >= least;
      }
      shared.total[t / side][t % side] = total;
      shared.pairs[t / side][t % side] = pairs;
    });
    block.each([&](int t) {
      if (t >= side) return;
      const int64_t i = first + t;
      T top = shared.top[0][t];
      double total = 0;
      unsigned long long pairs = 0;
      for (int p = 0; p < parts; ++p) {
        const T value = shared.top[p][t];
        top = value > top ? value : top;
        total += shared.total[p][t];
        pairs += shared.pairs[p][t];
      }
      const double weight = tile.weight[i];
      tile.share[i] = static_cast<T>(weight / total);
      const double log_density = ln2 * (static_cast<double>(top) + log2(total));
      if (density) density[i] = log_density;
      shared.log_likelihood[t] = weight != 0.0 ? weight * log_density : 0.0;
      shared.pairs[0][t] = weight != 0.0 ? pairs : 0;
    });
    block.each([&](int t) {
      if (t != 0) return;
      double log_likelihood = 0;
      unsigned long long pairs = 0;
      for (int i = 0; i < side; ++i) {
        log_likelihood += shared.log_likelihood[i];
        pairs += shared.pairs[0][i];
      }
      log_likelihoods[block.x] += log_likelihood;
      block.add(activity.pairs, pairs);
    });
  }
};

// Hard: label_i <- the first k with the largest joint_ki, share_i <- w_i; adds sum_i w_i max_k log p to its
// slot. A comparison a pair. Grid: (padded / 32).
template <class T>
struct NormalizeHard {
  static constexpr int threads = 256;
  static constexpr int side = 32;
  static constexpr int parts = threads / side;
  struct Shared {
    T top[parts][side];
    int32_t label[parts][side];
    double log_likelihood[side];
  };

  Tile<T> tile;
  int64_t count;            // K
  double* best;             // (S,) or null: the largest, base e
  double* log_likelihoods;  // as above

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first = block.x * side;
    block.each([&](int t) {
      const T* joint = tile.joint + first + t % side;
      const int part = t / side;
      int32_t label = part < count ? part : 0;
      T top = joint[label * tile.stride];
      for (int64_t k = part + parts; k < count; k += parts) {
        const T value = joint[k * tile.stride];
        if (value > top) {
          top = value;
          label = static_cast<int32_t>(k);
        }
      }
      shared.top[part][t % side] = top;
      shared.label[part][t % side] = label;
    });
    block.each([&](int t) {
      if (t >= side) return;
      T top = shared.top[0][t];
      int32_t label = shared.label[0][t];
      for (int p = 1; p < parts; ++p) {
        const T value = shared.top[p][t];
        const int32_t other = shared.label[p][t];
        if (value > top || (value == top && other < label)) {
          top = value;
          label = other;
        }
      }
      const int64_t i = first + t;
      const double weight = tile.weight[i], density = ln2 * static_cast<double>(top);
      tile.label[i] = weight != 0.0 ? label : -1;
      tile.share[i] = static_cast<T>(weight);
      if (best) best[i] = density;
      shared.log_likelihood[t] = weight != 0.0 ? weight * density : 0.0;
    });
    block.each([&](int t) {
      if (t != 0) return;
      double log_likelihood = 0;
      for (int i = 0; i < side; ++i) log_likelihood += shared.log_likelihood[i];
      log_likelihoods[block.x] += log_likelihood;
    });
  }
};

// What a kernel does with (N, K) numbers of the caller: add them to the joint log-densities (a gate's
// log-weights, turned to base 2), take them for responsibilities, or write the joint log-densities there,
// base e, or the responsibilities.
enum class Exchange : int { add, take, give, give_responsibilities };

// What a row of weight 0 has there may be anything, and is taken for 0.
//
// Patches of 32 rows x 32 components turn in shared memory between (rows, K) and (K, S). Grid: (padded / 32,
// ceil(K / 32)).
template <class T>
struct ExchangeJoint {
  static constexpr int threads = 256;
  static constexpr int side = 32;
  struct Shared {
    double patch[side][side + 1];
  };

  Tile<T> tile;
  int64_t count;  // K
  double* table;  // (rows of the tile, K)
  Exchange exchange;
  float* single;  // in place of `table`, where responsibilities are given as floats

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first_row = block.x * side, first = block.y * side;
    const bool shares = exchange == Exchange::give_responsibilities,
               gives = exchange == Exchange::give || shares;
    block.each([&](int t) {
      for (int step = 0; step < side * side; step += threads) {
        const int fast = (step + t) % side, slow = (step + t) / side;
        const int r = gives ? fast : slow, c = gives ? slow : fast;
        const int64_t i = first_row + r, k = first + c;
        double value = 0;
        if (k < count && i < tile.count && (gives || tile.weight[i] != 0.0))
          value = gives ? static_cast<double>(tile.joint[k * tile.stride + i]) *
                              (shares ? static_cast<double>(tile.share[i]) : ln2)
                        : table[i * count + k];
        shared.patch[r][c] = value;
      }
    });
    block.each([&](int t) {
      for (int step = 0; step < side * side; step += threads) {
        const int fast = (step + t) % side, slow = (step + t) / side;
        const int r = gives ? slow : fast, c = gives ? fast : slow;
        const int64_t i = first_row + r, k = first + c;
        if (k >= count) continue;
        const double value = shared.patch[r][c];
        T* joint = tile.joint + k * tile.stride + i;
        if (gives) {
          if (i >= tile.count) continue;
          if (single)
            single[i * count + k] = static_cast<float>(value);
          else
            table[i * count + k] = value;
        } else if (exchange == Exchange::take) {
          *joint = static_cast<T>(value);
        } else {
          *joint += static_cast<T>(value * log2e);
        }
      }
    });
  }
};

// Given responsibilities: share_i <- w_i, and all pairs count. Grid: (padded / threads).
template <class T>
struct ShareGiven {
  static constexpr int threads = 128;
  struct Shared {};

  Tile<T> tile;
  Activity activity;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.x * threads + t;
      tile.share[i] = static_cast<T>(tile.weight[i]);
      if (i == 0) *activity.pairs = static_cast<unsigned long long>(activity.components * activity.rows);
    });
  }
};

}  // namespace mixtura::cuda
