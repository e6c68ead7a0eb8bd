// The M half by warpgroups (see warpgroup.hpp): responsibilities stream through shared memory as operands,
// and each consumer forms the products of two columns that it multiplies them with in registers.
#pragma once

#include "mixtura/cuda/accumulate.hpp"
#include "mixtura/cuda/normalize.hpp"
#include "mixtura/cuda/warpgroup.hpp"

namespace mixtura::cuda {

// Rows of a stage. Their order within it is free as long as both operands agree: thread q of four has rows 4
// q to 4 q + 3, which lie side by side, as terms 2 q, 2 q + 1, 8 + 2 q and 9 + 2 q.
constexpr int stage_rows = terms;
MIXTURA_BOTH int stage_row_of(int term) {
  return term % 8 / 2 * 4 + term / 8 * 2 + term % 2;
}

// Numbers that are read together.
struct alignas(16) Four {
  float of[4];
};

// 64 statistics that one consumer sums: products of 8 columns with 8 others, or 64 columns, or their squares.
enum class Features : int32_t { products, columns, squares };
struct FeatureTile {
  Features features;
  int32_t a, b;  // first columns; b of products alone
};
constexpr int feature_columns = 8;

// Which of a tile's columns feature f multiplies: for products a + first, b + second.
MIXTURA_BOTH int first_of_feature(int f) {
  return f / 16 * 2 + f % 16 / 8;
}
MIXTURA_BOTH int second_of_feature(int f) {
  return f % 8;
}

// A tile's columns by 16 rows: (S / 16, W rounded up to 8, 16), so that some columns of some rows are one
// copy. Grid: (padded / threads, W).
struct BlockColumns {
  static constexpr int threads = 128;
  struct Shared {};

  Tile<float> tile;
  int64_t width;  // W rounded up
  float* out;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t i = block.x * threads + t, d = block.y;
      const bool inside = d < Augmented(tile.dims).width();
      out[(i / stage_rows * width + d) * stage_rows + i % stage_rows] =
          inside ? tile.columns[d * tile.stride + i] : 0.0f;
    });
  }
};

// Where the words of a component's 16 rows go: (group of `components`, S / 16, parts, 2, components, 8).
template <int parts, int components>
MIXTURA_KERNEL void put_words(Chunk* words, int64_t stride, int64_t k, int64_t stage,
                              const Four (&numbers)[4]) {
  Chunk out[parts][terms / 8];
  MIXTURA_UNROLL
  for (int term = 0; term < terms; ++term) {
    const int i = stage_row_of(term);
    const Parts<parts> found = parts_of<parts>(numbers[i / 4].of[i % 4]);
    MIXTURA_UNROLL
    for (int p = 0; p < parts; ++p) out[p][term / 8].of[term % 8] = found.of[p];
  }
  Chunk* to = words + (k / components * (stride / stage_rows) + stage) * parts * (terms / 8) * components +
              k % components;
  MIXTURA_UNROLL
  for (int p = 0; p < parts; ++p) {
    MIXTURA_UNROLL
    for (int chunk = 0; chunk < terms / 8; ++chunk)
      to[(p * (terms / 8) + chunk) * components] = out[p][chunk];
  }
}

// NormalizeSoft for warpgroups: 2^(joint_ki - max_k joint_ki) goes to words, and joint stays as it is; top_i,
// share_i, the log-likelihood and the number of pairs that count as there. A thread has every `components`-th
// component, for the 16 rows of a stage.
//
// Two exponentials' worth of reading, one of arithmetic a pair; writes its parts. Grid: (padded / 16).
template <int parts, int components>
struct NormalizeWide {
  static constexpr int threads = components;
  static constexpr int pieces = threads / stage_rows;
  struct Shared {
    float of[stage_rows][threads + 1];
    unsigned long long pairs[stage_rows][threads + 1];
    float top[stage_rows];
    double log_likelihood[stage_rows];
  };

  Tile<float> tile;
  int64_t count;  // K
  float least;    // of a row's largest: what counts
  Chunk* words;
  double* log_likelihoods;  // a slot for each block of the grid, tile after tile
  Activity activity;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first = block.x * stage_rows, groups = round_up(count, components);
    auto load = [&](int64_t k, Four(&numbers)[4]) {
      MIXTURA_UNROLL
      for (int four = 0; four < 4; ++four)
        numbers[four] = reinterpret_cast<const Four*>(tile.joint + k * tile.stride + first)[four];
    };
    block.each([&](int t) {
      float top[stage_rows];
      Four numbers[4];
      load(smaller(t, count - 1), numbers);
      MIXTURA_UNROLL
      for (int i = 0; i < stage_rows; ++i) top[i] = numbers[i / 4].of[i % 4];
      for (int64_t k = t + threads; k < count; k += threads) {
        load(k, numbers);
        MIXTURA_UNROLL
        for (int i = 0; i < stage_rows; ++i) {
          const float value = numbers[i / 4].of[i % 4];
          top[i] = value > top[i] ? value : top[i];
        }
      }
      MIXTURA_UNROLL
      for (int i = 0; i < stage_rows; ++i) shared.of[i][t] = top[i];
    });
    block.each([&](int t) {
      const int i = t % stage_rows, piece = t / stage_rows * stage_rows;
      float top = shared.of[i][piece];
      for (int j = 1; j < stage_rows; ++j) {
        const float value = shared.of[i][piece + j];
        top = value > top ? value : top;
      }
      shared.of[i][piece] = top;
    });
    block.each([&](int t) {
      if (t >= stage_rows) return;
      float top = shared.of[t][0];
      for (int piece = 1; piece < pieces; ++piece) {
        const float value = shared.of[t][piece * stage_rows];
        top = value > top ? value : top;
      }
      shared.top[t] = top;
      tile.top[first + t] = top;
    });
    block.each([&](int t) {
      float total[stage_rows];
      unsigned pairs[stage_rows];
      MIXTURA_UNROLL
      for (int i = 0; i < stage_rows; ++i) {
        total[i] = 0.0f;
        pairs[i] = 0;
      }
      for (int64_t k = t; k < groups; k += threads) {
        Four numbers[4] = {};
        if (k < count) {
          load(k, numbers);
          MIXTURA_UNROLL
          for (int i = 0; i < stage_rows; ++i) {
            float& e = numbers[i / 4].of[i % 4];
            e = power_of_two(e - shared.top[i]);
            e = e < least_power<float>() ? 0.0f : e;
            total[i] += e;
            pairs[i] += e >= least ? 1u : 0u;
          }
        }
        put_words<parts, components>(words, tile.stride, k, block.x, numbers);
      }
      MIXTURA_UNROLL
      for (int i = 0; i < stage_rows; ++i) {
        shared.of[i][t] = total[i];
        shared.pairs[i][t] = pairs[i];
      }
    });
    block.each([&](int t) {
      if (t >= stage_rows) return;
      double total = 0;
      unsigned long long pairs = 0;
      for (int j = 0; j < threads; ++j) {
        total += static_cast<double>(shared.of[t][j]);
        pairs += shared.pairs[t][j];
      }
      const int64_t i = first + t;
      const double weight = tile.weight[i];
      tile.share[i] = static_cast<float>(weight / total);
      shared.log_likelihood[t] =
          weight != 0.0 ? weight * ln2 * (static_cast<double>(shared.top[t]) + log2(total)) : 0.0;
      shared.pairs[t][0] = weight != 0.0 ? pairs : 0;
    });
    block.each([&](int t) {
      if (t != 0) return;
      double log_likelihood = 0;
      unsigned long long pairs = 0;
      for (int i = 0; i < stage_rows; ++i) {
        log_likelihood += shared.log_likelihood[i];
        pairs += shared.pairs[i][0];
      }
      log_likelihoods[block.x] += log_likelihood;
      block.add(activity.pairs, pairs);
    });
  }
};

// Given responsibilities go to words as they are. Grid: (padded / 16, groups).
template <int parts, int components>
struct SplitGiven {
  static constexpr int threads = components;
  struct Shared {};

  Tile<float> tile;
  int64_t count;  // K
  Chunk* words;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared&) const {
    block.each([&](int t) {
      const int64_t k = block.y * components + t, first = block.x * stage_rows;
      Four numbers[4] = {};
      if (k < count) {
        MIXTURA_UNROLL
        for (int four = 0; four < 4; ++four)
          numbers[four] = reinterpret_cast<const Four*>(tile.joint + k * tile.stride + first)[four];
      }
      put_words<parts, components>(words, tile.stride, k, block.x, numbers);
    });
  }
};

// AccumulateDense by warpgroups: each consumer has a tile of features, and all of a block the same
// components. Features are formed from columns and shares, and cut into parts, in the registers that the
// product takes them from.
//
// Cost: 3 or 6 times 64 N K multiply-adds of bfloat16 a tile of features, and for each 16 rows of it about 40
// or 60 instructions a thread. Grid: (ceil(tiles / 2), ceil(K / components), splits).
template <int parts, int components>
struct AccumulateWide {
  static constexpr int threads = ring_threads;
  static constexpr int slots = 8;
  static constexpr int sums_of_thread = components / 2;
  // Stages after which sums leave the hardware's accumulators, which round towards zero.
  static constexpr int stages_together = parts == 3 ? 1 : 8;
  struct Stage {
    Chunk words[parts][terms / 8][components];
    float columns[consumers][64][stage_rows];
    float share[stage_rows];
    float unused[stage_rows];  // stages begin at multiples of 128 bytes
  };

  Tile<float> tile;
  int64_t count;  // K
  int64_t size;   // P
  int64_t splits;
  int64_t width;             // W rounded up
  const Chunk* words;        // of NormalizeWide or SplitGiven
  const float* columns;      // of BlockColumns
  const FeatureTile* tiles;  // an even number of them
  const int32_t* places;     // (tiles, 64): which statistic each feature is; -1: none
  double* sums;              // (splits, K, P)
  Activity activity;

  int64_t shared_bytes() const { return barrier_bytes + slots * static_cast<int64_t>(sizeof(Stage)); }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, char* shared) const {
    if (activity.sparse()) return;
    const Share rows(tile.padded, splits, block.z);
    if (rows.begin >= rows.end) return;
    const Chunk* group_words =
        words + block.y * (tile.stride / stage_rows) * parts * (terms / 8) * components;
#if defined(MIXTURA_WARPGROUPS)
    auto filled = [&](int s) { return Barrier(shared + 8 * s); };
    auto emptied = [&](int s) { return Barrier(shared + 8 * (most_slots + s)); };
    Stage* const stages = reinterpret_cast<Stage*>(shared + barrier_bytes);
    if (threadIdx.x == 0) {
      for (int s = 0; s < slots; ++s) {
        filled(s).init(1);
        emptied(s).init(consumers * warpgroup_threads / warp_size);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    const int64_t first = rows.begin / stage_rows, count_stages = (rows.end - rows.begin) / stage_rows;
    const int consumer = warpgroup_of_thread();
    if (consumer == consumers) {
      begin_producing();
      if (threadIdx.x % warpgroup_threads != 0) return;
      constexpr int word_bytes = static_cast<int>(sizeof(Stage::words)), column_bytes = stage_rows * 4;
      int bytes = word_bytes + column_bytes;
      FeatureTile mine[consumers];
      int run[consumers];  // columns of one copy
      MIXTURA_UNROLL
      for (int c = 0; c < consumers; ++c) {
        mine[c] = tiles[block.x * consumers + c];
        const bool products = mine[c].features == Features::products;
        run[c] = products ? feature_columns : static_cast<int>(smaller(64, width - mine[c].a));
        bytes += run[c] * column_bytes * (products ? 2 : 1);
      }
      for (int64_t s = 0; s < count_stages; ++s) {
        const int slot = static_cast<int>(s % slots);
        if (s >= slots) emptied(slot).wait(static_cast<uint32_t>(s / slots - 1) & 1);
        filled(slot).expect(bytes);
        copy_in_bulk(&stages[slot].words, group_words + (first + s) * (word_bytes / 16), word_bytes,
                     filled(slot));
        copy_in_bulk(&stages[slot].share, tile.share + (first + s) * stage_rows, column_bytes, filled(slot));
        const float* from = columns + (first + s) * width * stage_rows;
        MIXTURA_UNROLL
        for (int c = 0; c < consumers; ++c) {
          copy_in_bulk(stages[slot].columns[c][0], from + mine[c].a * stage_rows, run[c] * column_bytes,
                       filled(slot));
          if (mine[c].features == Features::products)
            copy_in_bulk(stages[slot].columns[c][feature_columns], from + mine[c].b * stage_rows,
                         run[c] * column_bytes, filled(slot));
        }
      }
      return;
    }
    begin_consuming();
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const int warp = static_cast<int>(threadIdx.x) % warpgroup_threads / warp_size;
    const int low = warp * 16 + lane / 4, high = low + 8;  // this thread's features
    const FeatureTile mine = tiles[block.x * consumers + consumer];
    const bool products = mine.features == Features::products, squares = mine.features == Features::squares;
    const int column_low = products ? first_of_feature(low) : low;
    const int column_high = products ? first_of_feature(high) : high;
    const int column_both = feature_columns + second_of_feature(low);
    float sum[sums_of_thread], part_sum[sums_of_thread];
    MIXTURA_UNROLL
    for (int i = 0; i < sums_of_thread; ++i) sum[i] = 0.0f;
    uint32_t fragments[2][parts][4];
    for (int64_t s = 0; s < count_stages; s += 8) {
      MIXTURA_UNROLL
      for (int u = 0; u < 8; ++u) {
        const int slot = static_cast<int>((s + u) % slots);
        filled(slot).wait(static_cast<uint32_t>((s + u) / slots) & 1);
        const Stage& stage = stages[slot];
        const int q = lane % 4;
        const float4 a = reinterpret_cast<const float4*>(stage.columns[consumer][column_low])[q];
        const float4 b = reinterpret_cast<const float4*>(stage.columns[consumer][column_high])[q];
        float4 f = reinterpret_cast<const float4*>(stage.share)[q], g = f;
        if (products) {
          const float4 c = reinterpret_cast<const float4*>(stage.columns[consumer][column_both])[q];
          f = g = float4{f.x * c.x, f.y * c.y, f.z * c.z, f.w * c.w};
        } else if (squares) {
          g = float4{f.x * b.x, f.y * b.y, f.z * b.z, f.w * b.w};
          f = float4{f.x * a.x, f.y * a.y, f.z * a.z, f.w * a.w};
        }
        uint32_t (&fragment)[parts][4] = fragments[u % 2];
        auto put = [&](int place, float x, float y) {
          MIXTURA_UNROLL
          for (int p = 0; p < parts; ++p) {
            const uint32_t word = pair_of(x, y);
            fragment[p][place] = word;
            x -= float_of(word << 16);
            y -= float_of(word & 0xffff0000u);
          }
        };
        put(0, a.x * f.x, a.y * f.y);
        put(1, b.x * g.x, b.y * g.y);
        put(2, a.z * f.z, a.w * f.w);
        put(3, b.z * g.z, b.w * g.w);
        const uint32_t places_at = shared_address(&stage.words);
        pin(part_sum);
        MIXTURA_UNROLL
        for (int p = 0; p < parts; ++p) pin(fragment[p]);
        begin_products();
        MIXTURA_UNROLL
        for (int product = 0; product < Products<parts>::count; ++product)
          multiply(part_sum, fragment[Products<parts>::first(product)],
                   descriptor(places_at + Products<parts>::second(product) * (terms / 8) * components *
                                              static_cast<uint32_t>(sizeof(Chunk)),
                              components * static_cast<uint32_t>(sizeof(Chunk))),
                   product > 0 || u % stages_together > 0);
        commit_products();
        if ((u + 1) % stages_together == 0) {
          wait_for_products<0>();
          pin(part_sum);
          MIXTURA_UNROLL
          for (int i = 0; i < sums_of_thread; ++i) sum[i] += part_sum[i];
          if (lane == 0) {
            if (stages_together > 1) emptied(static_cast<int>((s + u - 1) % slots)).arrive();
            emptied(slot).arrive();
          }
        } else if (u > 0) {
          wait_for_products<1>();
          if (lane == 0) emptied(static_cast<int>((s + u - 1) % slots)).arrive();
        }
      }
    }
    const int32_t* place = places + (block.x * consumers + consumer) * 64;
    const int32_t at_low = place[low], at_high = place[high];
    MIXTURA_UNROLL
    for (int j = 0; j < sums_of_thread; ++j) {
      const int64_t k = block.y * components + j / 4 * 8 + lane % 4 * 2 + j % 2;
      const int32_t at = j / 2 % 2 ? at_high : at_low;
      if (at >= 0 && k < count) sums[(block.z * count + k) * size + at] += static_cast<double>(sum[j]);
    }
#elif defined(__CUDACC__)
    (void)shared;
    (void)group_words;
    __trap();  // such devices are not asked
#else
    (void)shared;
    block.each([&](int t) {
      if (t >= consumers * 64) return;
      const FeatureTile mine = tiles[block.x * consumers + t / 64];
      const int f = t % 64;
      const bool products = mine.features == Features::products;
      const int64_t a = mine.a + (products ? first_of_feature(f) : f), b = mine.b + second_of_feature(f);
      const int32_t at = places[(block.x * consumers + t / 64) * 64 + f];
      if (at < 0) return;
      for (int64_t k = block.y * components; k < smaller((block.y + 1) * components, count); ++k) {
        float sum = 0;
        for (int64_t stage = rows.begin / stage_rows; stage < rows.end / stage_rows; ++stage) {
          const float* x = columns + stage * width * stage_rows;
          Chunk feature[parts][terms / 8];
          for (int term = 0; term < terms; ++term) {
            const int row = stage_row_of(term);
            const float first = x[a * stage_rows + row], share = tile.share[stage * stage_rows + row];
            const float second = products                             ? share * x[b * stage_rows + row]
                                 : mine.features == Features::squares ? share * first
                                                                      : share;
            const Parts<parts> found = parts_of<parts>(first * second);
            for (int p = 0; p < parts; ++p) feature[p][term / 8].of[term % 8] = found.of[p];
          }
          sum += product_of<parts>(feature[0], terms / 8, 1,
                                   group_words + stage * parts * (terms / 8) * components + k % components,
                                   terms / 8 * components, components);
        }
        sums[(block.z * count + k) * size + at] += static_cast<double>(sum);
      }
    });
#endif
  }
};

}  // namespace mixtura::cuda
