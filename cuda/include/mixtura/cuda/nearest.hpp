// k-means: the nearest of K centres to each row, which is the largest of x . m_k + h_k with h_k = c_k / f^2 -
// |m_k|^2 / 2.
#pragma once

#include "mixtura/cuda/center.hpp"

namespace mixtura::cuda {

// A centre, and how it scores.
struct Decision {
  double score;
  int32_t label;  // -1: none
};

// Of one decision for each thread of a block the best, and the first of equals; in the first place. A barrier
// a halving.
template <class Block, int threads>
MIXTURA_KERNEL void decide_together(Block& block, Decision (&decision)[threads]) {
  for (int step = threads / 2; step > 0; step /= 2)
    block.each([&](int t) {
      if (t >= step) return;
      Decision& a = decision[t];
      const Decision& b = decision[t + step];
      if (b.label >= 0 && (a.label < 0 || b.score > a.score || (b.score == a.score && b.label < a.label)))
        a = b;
    });
}

// Adds a panel's log-likelihoods, in the order of its rows, to the block's slot.
template <class Block>
MIXTURA_KERNEL void add_log_likelihoods(Block& block, const double (&of_rows)[panel_rows],
                                        double* log_likelihoods) {
  block.each([&](int t) {
    if (t != 0) return;
    double log_likelihood = 0;
    for (int i = 0; i < panel_rows; ++i) log_likelihood += of_rows[i];
    log_likelihoods[block.x] += log_likelihood;
  });
}

// A product of matrices whose result is only looked at: 128 rows meet 128 centres at a time, and each thread
// keeps the two best of its rows. Rows whose two best lie within the scores' rounding are decided by
// differences, in double, by the whole block: labels are those of exact arithmetic, whatever T is.
//
// Cost: N K D multiply-adds; nothing of size N K is written. Grid: (padded / 128).
template <class T>
struct Nearest {
  static constexpr int threads = 256;
  static constexpr int depth = sizeof(T) == 4 ? nearest_depth_single : nearest_depth_double;
  static constexpr int group = 128;  // centres
  static constexpr int loads = depth * group / threads;
  struct Best {
    T score, second;
    int32_t label;
  };
  struct Shared {
    union {
      struct {
        T x[2][depth][panel_rows], centre[2][depth][group];
      } stage;
      struct {
        T score[panel_rows][16], second[panel_rows][16];
        int32_t label[panel_rows][16];
      } best;
      Decision decision[threads];
      double log_likelihood[panel_rows];
    };
    uint32_t unsure[threads / warp_size];
    int32_t label[panel_rows];
  };
  struct Registers {
    T sum[8][8], next_x[loads], next_centre[loads];
    Best best[8];
  };

  Source source;
  Tile<T> tile;
  int64_t count;     // K
  int64_t columns;   // D, rounded up to a multiple of `depth`
  const T* packed;   // (group, columns, 128), about the pivot
  const T* heights;  // (K rounded up to whole groups,) h_k, about the pivot; of no centre: as low as T goes
  const double* centres;    // (K, D), about the pivot
  const double* constants;  // (K,) c_k
  double half_precision;    // f^2 / 2
  double reach, highest;    // largest |m_k|, largest |h_k|
  double* best;             // (S,) or null: largest log-density
  double* log_likelihoods;  // a slot for each block

  MIXTURA_KERNEL double log_density(int64_t i, int64_t k) const {
    double sum = 0;
    for (int64_t d = 0; d < tile.dims; ++d) {
      const double difference = source(i, d) - centres[k * tile.dims + d];
      sum = fused(difference, difference, sum);
    }
    return constants[k] - half_precision * sum;
  }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first_row = block.x * panel_rows, stages = columns / depth;
    const int64_t groups = (count + group - 1) / group;
    Local<Registers, threads> local;
    auto load = [&](int t, Registers& r, int64_t g, int64_t stage) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads; ++l) {
        const int at = l * threads + t;
        r.next_x[l] =
            tile.columns[(stage * depth + at / panel_rows) * tile.stride + first_row + at % panel_rows];
        r.next_centre[l] = packed[(g * columns + stage * depth) * group + at];
      }
    };
    auto store = [&](int t, const Registers& r, int buffer) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads; ++l) {
        const int at = l * threads + t;
        shared.stage.x[buffer][at / panel_rows][at % panel_rows] = r.next_x[l];
        shared.stage.centre[buffer][at / group][at % group] = r.next_centre[l];
      }
    };
    block.each([&](int t) {
      Registers& r = local(t);
      MIXTURA_UNROLL
      for (int i = 0; i < 8; ++i) r.best[i] = Best{lowest<T>(), lowest<T>(), 0};
      load(t, r, 0, 0);
      store(t, r, 0);
    });
    int buffer = 0;
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t stage = 0; stage < stages; ++stage, buffer ^= 1) {
        const bool more = stage + 1 < stages || g + 1 < groups;
        block.each([&](int t) {
          Registers& r = local(t);
          const int tx = t % 16, ty = t / 16;
          if (more) load(t, r, stage + 1 < stages ? g : g + 1, stage + 1 < stages ? stage + 1 : 0);
          if (stage == 0) {
            MIXTURA_UNROLL
            for (int j = 0; j < 8; ++j) {
              const T h = heights[g * group + place_of(tx, j)];
              MIXTURA_UNROLL
              for (int i = 0; i < 8; ++i) r.sum[i][j] = h;
            }
          }
          MIXTURA_UNROLL
          for (int d = 0; d < depth; ++d) {
            T x[8], m[8];
            MIXTURA_UNROLL
            for (int i = 0; i < 8; ++i) {
              x[i] = shared.stage.x[buffer][d][place_of(ty, i)];
              m[i] = shared.stage.centre[buffer][d][place_of(tx, i)];
            }
            MIXTURA_UNROLL
            for (int i = 0; i < 8; ++i) {
              MIXTURA_UNROLL
              for (int j = 0; j < 8; ++j) r.sum[i][j] = fused(x[i], m[j], r.sum[i][j]);
            }
          }
          if (stage + 1 == stages) {
            MIXTURA_UNROLL
            for (int i = 0; i < 8; ++i) {
              MIXTURA_UNROLL
              for (int j = 0; j < 8; ++j)
                keep(r.best[i], r.sum[i][j], static_cast<int32_t>(g * group + place_of(tx, j)));
            }
          }
          if (more) store(t, r, buffer ^ 1);
        });
      }
    block.each([&](int t) {
      const Registers& r = local(t);
      MIXTURA_UNROLL
      for (int i = 0; i < 8; ++i) {
        const int row = place_of(t / 16, i);
        shared.best.score[row][t % 16] = r.best[i].score;
        shared.best.second[row][t % 16] = r.best[i].second;
        shared.best.label[row][t % 16] = r.best[i].label;
      }
    });
    block.each([&](int t) {
      if (t >= panel_rows) return;
      Best found{lowest<T>(), lowest<T>(), 0};
      for (int j = 0; j < 16; ++j) {
        keep(found, shared.best.score[t][j], shared.best.label[t][j]);
        const T second = shared.best.second[t][j];
        found.second = second > found.second ? second : found.second;
      }
      shared.best.score[t][0] = found.score;
      shared.best.second[t][0] = found.second;
      shared.label[t] = found.label;
    });
    // |computed - exact| of a score is at most (D + 8) eps (|x| |m| + |h|), in any order of summation.
    const double rounding = 2.0 * static_cast<double>(tile.dims + 8) * (sizeof(T) == 4 ? 1.2e-7 : 2.3e-16);
    block.ballot(threads, shared.unsure, [&](int t) {
      if (t >= panel_rows || first_row + t >= tile.count || tile.weight[first_row + t] == 0.0) return false;
      const double size =
          static_cast<double>(tile.columns[Augmented(tile.dims).square() * tile.stride + first_row + t]);
      const double gap =
          static_cast<double>(shared.best.score[t][0]) - static_cast<double>(shared.best.second[t][0]);
      return !(gap > rounding * (sqrt(size) * reach + highest));
    });
    for (int word = 0; word < panel_rows / warp_size; ++word)
      for (uint32_t left = shared.unsure[word]; left; left &= left - 1) {
        const int row = word * warp_size + lowest_bit(left);
        block.each([&](int t) {
          Decision mine{0.0, -1};
          for (int64_t k = t; k < count; k += threads) {
            const double score = log_density(first_row + row, k);
            if (mine.label < 0 || score > mine.score) mine = Decision{score, static_cast<int32_t>(k)};
          }
          shared.decision[t] = mine;
        });
        decide_together(block, shared.decision);
        block.each([&](int t) {
          if (t == 0) shared.label[row] = shared.decision[0].label;
        });
      }
    block.each([&](int t) {
      if (t >= panel_rows) return;
      const int64_t i = first_row + t;
      const bool counts = i < tile.count && tile.weight[i] != 0.0;
      const double density = counts ? log_density(i, shared.label[t]) : 0.0;
      tile.label[i] = counts ? shared.label[t] : -1;
      tile.share[i] = static_cast<T>(tile.weight[i]);
      if (best) best[i] = density;
      shared.log_likelihood[t] = counts ? tile.weight[i] * density : 0.0;
    });
    add_log_likelihoods(block, shared.log_likelihood, log_likelihoods);
  }

 private:
  template <class Number>
  MIXTURA_BOTH static Number lowest() {
    return sizeof(Number) == 4 ? static_cast<Number>(-3.0e38) : static_cast<Number>(-1.0e308);
  }

  MIXTURA_KERNEL static void keep(Best& best, T score, int32_t label) {
    if (score > best.score) {
      best.second = best.score;
      best.score = score;
      best.label = label;
    } else if (score > best.second) {
      best.second = score;
    }
  }
};

}  // namespace mixtura::cuda
