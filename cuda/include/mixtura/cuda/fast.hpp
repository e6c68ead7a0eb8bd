// The two products of matrices of a pass, on tensor cores: see tensor.hpp for their error, evaluate.hpp and
// accumulate.hpp for what they compute.
#pragma once

#include "mixtura/cuda/accumulate.hpp"
#include "mixtura/cuda/tensor.hpp"

namespace mixtura::cuda {

// Numbers of a tile in words, two parts: of neighbouring columns (of x), or of neighbouring rows (of
// responsibilities). A split and a store a pair. Grid: (stride of the pairs / threads, pairs of lines or
// lines).
struct SplitColumns {
  static constexpr int threads = 128;
  struct Shared {};

  Tile<float> tile;
  int64_t columns;  // D rounded up to a multiple of `terms`; beyond the tile's padding there is nothing
  uint32_t* words;  // (2, columns / 2, S)

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.x * threads + t, pair = block.y, d = 2 * pair;
      const float a = d < tile.dims ? tile.columns[d * tile.stride + i] : 0.0f;
      const float b = d + 1 < tile.dims ? tile.columns[(d + 1) * tile.stride + i] : 0.0f;
      const Split s = split(a, b);
      words[pair * tile.stride + i] = s.high;
      words[(columns / 2 + pair) * tile.stride + i] = s.low;
    });
  }
};

struct SplitJoint {
  static constexpr int threads = 64;
  struct Shared {};

  Tile<float> tile;
  int64_t count;    // K
  uint32_t* words;  // (2, K, S / 2)
  Activity activity;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    if (activity.sparse()) return;
    block.each([&](int t) {
      const int64_t pair = block.x * threads + t, k = block.y, half = tile.stride / 2;
      const float* joint = tile.joint + k * tile.stride + 2 * pair;
      const Split s = split(joint[0], joint[1]);
      words[k * half + pair] = s.high;
      words[(count + k) * half + pair] = s.low;
    });
  }
};

// EvaluateFactors with bands of 8 factor rows: the 8 columns of an instruction are one component's, so that
// squares are added up in registers, and across the four lanes that share a row once at the end. Grid:
// (padded / 128, ceil(K / 16)).
struct EvaluateFactorsFast {
  static constexpr int threads = tensor_threads;
  static constexpr int height = 8;
  static constexpr int places = 128;
  static constexpr int components = places / height;
  static constexpr int loads = 2 * word_pairs * places / threads;
  struct Shared {
    union {
      struct {
        Operand x[2], factor[2];
      } stage;
      float square[panel_rows][components][4];
    };
  };
  struct Registers {
    float sum[2][8][4], square[2][8][2];
    uint32_t next_x[loads], next_factor[loads];
  };

  Tile<float> tile;
  int64_t count;  // K
  int64_t bands;  // of factor rows
  int64_t steps;  // of 16 columns
  bool triangle;
  const uint32_t* words;   // (2, 8 steps, S) of the tile's columns
  const uint32_t* packed;  // stage by stage of each group: (2, 8 pairs, 128 places)
  const float* bias;       // (group, bands, 128 places)
  const float* constants;  // (K,)

  // Place p holds row p % 8 of component p / 8.
  MIXTURA_BOTH static int64_t steps_of(int64_t band, int64_t steps, bool triangle) {
    return triangle ? smaller(((band + 1) * height + terms - 1) / terms, steps) : steps;
  }
  MIXTURA_BOTH static int64_t stages_of(int64_t bands, int64_t steps, bool triangle) {
    int64_t stages = 0;
    for (int64_t band = 0; band < bands; ++band) stages += steps_of(band, steps, triangle);
    return stages;
  }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first_row = block.x * panel_rows, group = block.y;
    constexpr int64_t stage_words = 2 * word_pairs * places;
    const uint32_t* stage = packed + group * stages_of(bands, steps, triangle) * stage_words;
    Local<Registers, threads> local;
    auto load = [&](int t, Registers& r, const uint32_t* factor, int64_t step) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads; ++l) {
        const int at = l * threads + t, part = at / (word_pairs * places), pair = at / places % word_pairs;
        r.next_factor[l] = factor[at];
        r.next_x[l] =
            words[((part * steps + step) * word_pairs + pair) * tile.stride + first_row + at % places];
      }
    };
    auto store = [&](int t, const Registers& r, int buffer) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads; ++l) {
        const int at = l * threads + t, part = at / (word_pairs * places), pair = at / places % word_pairs;
        shared.stage.factor[buffer].words[part][pair][at % places] = r.next_factor[l];
        shared.stage.x[buffer].words[part][pair][at % places] = r.next_x[l];
      }
    };
    block.each([&](int t) {
      Registers& r = local(t);
      MIXTURA_UNROLL
      for (int m = 0; m < 2; ++m) {
        MIXTURA_UNROLL
        for (int n = 0; n < 8; ++n) r.square[m][n][0] = r.square[m][n][1] = 0.0f;
      }
      load(t, r, stage, 0);
      store(t, r, 0);
    });
    int buffer = 0;
    for (int64_t band = 0; band < bands; ++band) {
      const int64_t last = steps_of(band, steps, triangle) - 1;
      for (int64_t step = 0; step <= last; ++step, stage += stage_words, buffer ^= 1) {
        const bool more = step < last || band + 1 < bands;
        const int64_t next = step < last ? step + 1 : 0;
        block.each([&](int t) {
          Registers& r = local(t);
          const WarpTile at(t);
          if (more) load(t, r, stage + stage_words, next);
          if (step == 0) {
            const float* b = bias + (group * bands + band) * places;
            MIXTURA_UNROLL
            for (int m = 0; m < 2; ++m) {
              MIXTURA_UNROLL
              for (int n = 0; n < 8; ++n) {
                MIXTURA_UNROLL
                for (int i = 0; i < 4; ++i) r.sum[m][n][i] = -b[at.column(n, i)];
              }
            }
          }
          multiply(shared.stage.x[buffer], shared.stage.factor[buffer], at, r.sum);
          if (step == last) {
            MIXTURA_UNROLL
            for (int m = 0; m < 2; ++m) {
              MIXTURA_UNROLL
              for (int n = 0; n < 8; ++n) {
                MIXTURA_UNROLL
                for (int i = 0; i < 4; ++i)
                  r.square[m][n][i / 2] = fused(r.sum[m][n][i], r.sum[m][n][i], r.square[m][n][i / 2]);
              }
            }
          }
          if (more) store(t, r, buffer ^ 1);
        });
      }
    }
    block.each([&](int t) {
      const Registers& r = local(t);
      const WarpTile at(t);
      MIXTURA_UNROLL
      for (int m = 0; m < 2; ++m) {
        MIXTURA_UNROLL
        for (int n = 0; n < 8; ++n) {
          MIXTURA_UNROLL
          for (int i = 0; i < 2; ++i)
            shared.square[at.row(m, 2 * i)][at.column0 / height + n][at.lane % 4] = r.square[m][n][i];
        }
      }
    });
    block.each([&](int t) {
      for (int at = t; at < panel_rows * components; at += threads) {
        const int row = at % panel_rows, c = at / panel_rows;
        const int64_t k = group * components + c;
        if (k >= count) continue;
        const float* part = shared.square[row][c];
        tile.joint[k * tile.stride + first_row + row] =
            constants[k] - ((part[0] + part[1]) + (part[2] + part[3]));
      }
    });
  }
};

// AccumulateDense for 128 components x 128 features: responsibilities come in words, features are formed and
// split on the way. Grid: (ceil(P / 128), ceil(K / 128), splits).
struct AccumulateFast {
  static constexpr int threads = tensor_threads;
  static constexpr int components = 128, features = 128;
  static constexpr int loads_r = 2 * word_pairs * components / threads;
  static constexpr int loads_f = word_pairs * features / threads;
  struct Shared {
    Operand r[2], feature[2];
  };
  struct Registers {
    float sum[2][8][4];
    uint32_t next_r[loads_r];
    Split next_f[loads_f];
  };

  Tile<float> tile;
  int64_t count;  // K
  int64_t size;   // P
  int64_t splits;
  const uint32_t* words;  // (2, K, S / 2) of the responsibilities
  const Pair* columns;
  double* sums;  // (splits, K, P)
  Activity activity;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    if (activity.sparse()) return;
    const Share rows(tile.padded, splits, block.z);
    if (rows.begin >= rows.end) return;
    const int64_t first_k = block.y * components, first_f = block.x * features;
    const int first = static_cast<int>(first_k), all = static_cast<int>(count),
              half = static_cast<int>(tile.stride / 2);
    Local<Registers, threads> local;
    // Neighbouring threads take neighbouring pairs of rows, which lie side by side.
    auto load = [&](int t, Registers& r, int64_t row) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads_r; ++l) {
        const int at = l * threads + t, pair = at % word_pairs, place = at / word_pairs % components;
        const int part = at / (word_pairs * components),
                  k = first + place;  // offsets fit 32 bits: Table sees to it
        r.next_r[l] = k < all ? words[(part * all + k) * half + static_cast<int>(row / 2) + pair] : 0u;
      }
      MIXTURA_UNROLL
      for (int l = 0; l < loads_f; ++l) {
        const int at = l * threads + t;
        const int64_t i = row + 2 * (at % word_pairs);
        const Pair pair = columns[first_f + at / word_pairs];
        const float* a = tile.columns + pair.a * tile.stride + i;
        const float* b = tile.columns + pair.b * tile.stride + i;
        r.next_f[l] = split(a[0] * tile.share[i] * b[0], a[1] * tile.share[i + 1] * b[1]);
      }
    };
    auto store = [&](int t, const Registers& r, int buffer) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads_r; ++l) {
        const int at = l * threads + t;
        shared.r[buffer]
            .words[at / (word_pairs * components)][at % word_pairs][at / word_pairs % components] =
            r.next_r[l];
      }
      MIXTURA_UNROLL
      for (int l = 0; l < loads_f; ++l) {
        const int at = l * threads + t;
        shared.feature[buffer].words[0][at % word_pairs][at / word_pairs] = r.next_f[l].high;
        shared.feature[buffer].words[1][at % word_pairs][at / word_pairs] = r.next_f[l].low;
      }
    };
    block.each([&](int t) {
      Registers& r = local(t);
      MIXTURA_UNROLL
      for (int m = 0; m < 2; ++m) {
        MIXTURA_UNROLL
        for (int n = 0; n < 8; ++n) {
          MIXTURA_UNROLL
          for (int i = 0; i < 4; ++i) r.sum[m][n][i] = 0.0f;
        }
      }
      load(t, r, rows.begin);
      store(t, r, 0);
    });
    int buffer = 0;
    for (int64_t row = rows.begin; row < rows.end; row += terms, buffer ^= 1)
      block.each([&](int t) {
        Registers& r = local(t);
        const WarpTile at(t);
        if (row + terms < rows.end) load(t, r, row + terms);
        multiply(shared.r[buffer], shared.feature[buffer], at, r.sum);
        if (row + terms < rows.end) store(t, r, buffer ^ 1);
      });
    block.each([&](int t) {
      const Registers& r = local(t);
      const WarpTile at(t);
      MIXTURA_UNROLL
      for (int m = 0; m < 2; ++m) {
        MIXTURA_UNROLL
        for (int n = 0; n < 8; ++n) {
          MIXTURA_UNROLL
          for (int i = 0; i < 4; ++i) {
            const int64_t k = first_k + at.row(m, i), f = first_f + at.column(n, i);
            if (k < count && f < size)
              sums[(block.z * count + k) * size + f] += static_cast<double>(r.sum[m][n][i]);
          }
        }
      }
    });
  }
};

}  // namespace mixtura::cuda
