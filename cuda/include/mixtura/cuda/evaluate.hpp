// The E half: joint_ki = log2 weight_k + log2 p_k(z_i) = c_k - |G_k x_i - b_k|^2, with G_k = sqrt(log2(e) /
// 2) F_k and b_k = G_k (m_k - p), for panels of 128 rows and groups of components. Base 2 saves a
// multiplication an exponential.
#pragma once

#include "mixtura/cuda/tile.hpp"

namespace mixtura::cuda {

// Triangles and rectangles, as a product of matrices: 128 rows against 128 / height components' `height`
// factor rows at a time. A triangle's factor rows [j height, (j + 1) height) meet only columns up to (j + 1)
// height, so its upper half costs (height - 1) / (D + 1) of the lower one. Their squares are added up in
// registers: nothing of size rows x D leaves them.
//
// Cost: for each (row, component) D (D + height) / 2 multiply-adds of a triangle, R D of a rectangle. A stage
// is `height` columns: 2 x 128 numbers loaded for 128 x 128 multiply-adds each, while the one before is
// computed with. Grid: (padded / 128, ceil(K / components)).
template <class T, int height>
struct EvaluateFactors {
  static constexpr int threads = 256;
  static constexpr int places = 128;
  static constexpr int components = places / height;
  static constexpr int groups = 8 / height;  // components of one thread
  static constexpr int loads = height * places / threads;
  struct Shared {
    T x[2][height][places];
    T factor[2][height][places];
  };
  struct Registers {
    T sum[8][8], square[8][groups], next_x[loads], next_factor[loads];
  };

  Tile<T> tile;
  int64_t count;    // K
  int64_t rows;     // R, rounded up to a multiple of `height`
  int64_t columns;  // D, rounded up likewise
  bool triangle;
  const T* packed;     // stage by stage of each group: (height columns, 128 places)
  const T* bias;       // (group, R / height, 128 places)
  const T* constants;  // (K,) c_k

  MIXTURA_BOTH static int64_t stages_of(int64_t rows, int64_t columns, bool triangle) {
    const int64_t bands = rows / height, steps = columns / height;
    return triangle ? bands * (bands + 1) / 2 : bands * steps;
  }

  // Which component of a group, and which row of a band, place p holds.
  MIXTURA_BOTH static int component_at(int p) { return height == 8 ? p % 64 / 4 : p / 64 * 16 + p % 64 / 4; }
  MIXTURA_BOTH static int row_at(int p) { return height == 8 ? p / 64 * 4 + p % 4 : p % 4; }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first_row = block.x * panel_rows, group = block.y;
    const int64_t bands = rows / height, steps = columns / height;
    const T* stage = packed + group * stages_of(rows, columns, triangle) * height * places;
    Local<Registers, threads> local;
    auto load = [&](int t, Registers& r, const T* factor, int64_t step) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads; ++l) {
        const int at = l * threads + t;
        r.next_factor[l] = factor[at];
        r.next_x[l] = tile.columns[(step * height + at / places) * tile.stride + first_row + at % places];
      }
    };
    auto store = [&](int t, const Registers& r, int buffer) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads; ++l) {
        const int at = l * threads + t;
        shared.factor[buffer][at / places][at % places] = r.next_factor[l];
        shared.x[buffer][at / places][at % places] = r.next_x[l];
      }
    };
    block.each([&](int t) {
      Registers& r = local(t);
      MIXTURA_UNROLL
      for (int i = 0; i < 8; ++i) {
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) r.square[i][g] = 0;
      }
      load(t, r, stage, 0);
      store(t, r, 0);
    });
    int buffer = 0;
    for (int64_t band = 0; band < bands; ++band) {
      const int64_t last = triangle ? band : steps - 1;
      for (int64_t step = 0; step <= last; ++step, stage += height * places, buffer ^= 1) {
        const bool more = step < last || band + 1 < bands;
        const int64_t next = step < last ? step + 1 : 0;
        block.each([&](int t) {
          Registers& r = local(t);
          const int tx = t % 16, ty = t / 16;
          if (more) load(t, r, stage + height * places, next);
          if (step == 0) {
            MIXTURA_UNROLL
            for (int j = 0; j < 8; ++j) {
              const T b = bias[(group * bands + band) * places + place_of(tx, j)];
              MIXTURA_UNROLL
              for (int i = 0; i < 8; ++i) r.sum[i][j] = -b;
            }
          }
          MIXTURA_UNROLL
          for (int d = 0; d < height; ++d) {
            T x[8], f[8];
            MIXTURA_UNROLL
            for (int i = 0; i < 8; ++i) {
              x[i] = shared.x[buffer][d][place_of(ty, i)];
              f[i] = shared.factor[buffer][d][place_of(tx, i)];
            }
            MIXTURA_UNROLL
            for (int i = 0; i < 8; ++i) {
              MIXTURA_UNROLL
              for (int j = 0; j < 8; ++j) r.sum[i][j] = fused(x[i], f[j], r.sum[i][j]);
            }
          }
          if (step == last) {
            MIXTURA_UNROLL
            for (int i = 0; i < 8; ++i) {
              MIXTURA_UNROLL
              for (int j = 0; j < 8; ++j) {
                T& square = r.square[i][groups == 1 ? 0 : j / 4];
                square = fused(r.sum[i][j], r.sum[i][j], square);
              }
            }
          }
          if (more) store(t, r, buffer ^ 1);
        });
      }
    }
    block.each([&](int t) {
      const Registers& r = local(t);
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const int64_t k = group * components + component_at(place_of(t % 16, 4 * g));
        if (k >= count) continue;
        const T c = constants[k];
        MIXTURA_UNROLL
        for (int i = 0; i < 8; ++i)
          tile.joint[k * tile.stride + first_row + place_of(t / 16, i)] = c - r.square[i][g];
      }
    });
  }
};

// Scalars, diagonals, and rows that a shared factor has transformed: y_d = x_d s_kd - b_kd, its square added
// up. Two multiply-adds an element, by differences, so that nothing cancels.
//
// 128 rows x 64 components, 8 x 8 a thread (doubles 8 x 4); a stage is 8 columns: 128 + 2 x 64 numbers loaded
// for 2 x 128 x 64 operations each. Grid: (padded / 128, ceil(K / 64)).
template <class T>
struct EvaluateElementwise {
  static constexpr int each = sizeof(T) == 4 ? 8 : 4;  // components of a thread
  static constexpr int components = 64;
  static constexpr int across = components / each;  // threads
  static constexpr int threads = panel_rows / 8 * across;
  static constexpr int depth = elementwise_depth;
  static constexpr int loads_x = depth * panel_rows / threads;
  static constexpr int loads_factor = depth * 2 * components / threads;
  struct Shared {
    T x[2][depth][panel_rows];
    T factor[2][depth][2 * components];
  };
  struct Registers {
    T square[8][each], next_x[loads_x], next_factor[loads_factor];
    const T *x_at, *factor_at;  // of the next stage
  };

  Tile<T> tile;
  const T* source;  // (columns, S): the tile's columns, or the transformed ones
  int64_t count;    // K
  int64_t columns;  // rounded up to a multiple of `depth`; the factor is 0 beyond them
  const T* packed;  // (group, columns, [64 scales | 64 biases])
  const T* constants;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first_row = block.x * panel_rows, group = block.y, stages = columns / depth;
    const T* factors = packed + group * columns * 2 * components;
    Local<Registers, threads> local;
    const int64_t line = threads / panel_rows * tile.stride;  // columns from one load to the next
    auto load = [&](Registers& r) {
      const T* x = r.x_at;
      MIXTURA_UNROLL
      for (int l = 0; l < loads_x; ++l, x += line) r.next_x[l] = *x;
      r.x_at = x;
      MIXTURA_UNROLL
      for (int l = 0; l < loads_factor; ++l) r.next_factor[l] = r.factor_at[l * threads];
      r.factor_at += depth * 2 * components;
    };
    auto store = [&](int t, const Registers& r, int buffer) {
      MIXTURA_UNROLL
      for (int l = 0; l < loads_x; ++l) {
        const int at = l * threads + t;
        shared.x[buffer][at / panel_rows][at % panel_rows] = r.next_x[l];
      }
      MIXTURA_UNROLL
      for (int l = 0; l < loads_factor; ++l) {
        const int at = l * threads + t;
        shared.factor[buffer][at / (2 * components)][at % (2 * components)] = r.next_factor[l];
      }
    };
    block.each([&](int t) {
      Registers& r = local(t);
      MIXTURA_UNROLL
      for (int i = 0; i < 8; ++i) {
        MIXTURA_UNROLL
        for (int j = 0; j < each; ++j) r.square[i][j] = 0;
      }
      r.x_at = source + t / panel_rows * tile.stride + first_row + t % panel_rows;
      r.factor_at = factors + t;
      load(r);
      store(t, r, 0);
    });
    for (int64_t stage = 0; stage < stages; ++stage) {
      const int buffer = static_cast<int>(stage % 2);
      block.each([&](int t) {
        Registers& r = local(t);
        const int tx = t % across, ty = t / across;
        if (stage + 1 < stages) load(r);
        MIXTURA_UNROLL
        for (int d = 0; d < depth; ++d) {
          T x[8], s[each], b[each];
          MIXTURA_UNROLL
          for (int i = 0; i < 8; ++i) x[i] = shared.x[buffer][d][place_of(ty, i)];
          MIXTURA_UNROLL
          for (int j = 0; j < each; ++j) {
            s[j] = shared.factor[buffer][d][place_of(tx, j, components)];
            b[j] = shared.factor[buffer][d][components + place_of(tx, j, components)];
          }
          MIXTURA_UNROLL
          for (int i = 0; i < 8; ++i) {
            MIXTURA_UNROLL
            for (int j = 0; j < each; ++j) {
              const T y = fused(x[i], s[j], -b[j]);
              r.square[i][j] = fused(y, y, r.square[i][j]);
            }
          }
        }
        if (stage + 1 < stages) store(t, r, buffer ^ 1);
      });
    }
    block.each([&](int t) {
      const Registers& r = local(t);
      MIXTURA_UNROLL
      for (int j = 0; j < each; ++j) {
        const int64_t k = group * components + place_of(t % across, j, components);
        if (k >= count) continue;
        const T c = constants[k];
        MIXTURA_UNROLL
        for (int i = 0; i < 8; ++i)
          tile.joint[k * tile.stride + first_row + place_of(t / across, i)] = c - r.square[i][j];
      }
    });
  }
};

// joint_ki += b_k . x_i, the linear terms of all components; their constants are in c_k. K D multiply-adds a
// row, and one more reading and writing of its K numbers. A thread has one row and 8 components: gates have
// few, and most of a square tile would be empty. All threads of a warp load the same 8 weights, in wide
// words: 3 loads for 8 multiply-adds, 5 of doubles. Grid: (padded / threads, ceil(K / 8)).
template <class T>
struct AddLinear {
  static constexpr int threads = 128;
  static constexpr int height = linear_components;
  struct Shared {};
  struct alignas(16) Weights {
    T of[height];
  };

  Tile<T> tile;
  const Weights* linear;  // (ceil(K / 8), D) in base 2; zeros beyond K
  int64_t count;          // K

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.x * threads + t, first = block.y * height;
      const Weights* weights = linear + block.y * tile.dims;
      T sum[height];
      MIXTURA_UNROLL
      for (int k = 0; k < height; ++k) sum[k] = 0;
      for (int64_t d = 0; d < tile.dims; ++d) {
        const T x = tile.columns[d * tile.stride + i];
        const Weights w = weights[d];
        MIXTURA_UNROLL
        for (int k = 0; k < height; ++k) sum[k] = fused(w.of[k], x, sum[k]);
      }
      MIXTURA_UNROLL
      for (int k = 0; k < height; ++k)
        if (first + k < count) tile.joint[(first + k) * tile.stride + i] += sum[k];
    });
  }
};

}  // namespace mixtura::cuda
