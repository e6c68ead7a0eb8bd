// The M half by warpgroups (see warpgroup.hpp): responsibilities stream through shared memory as operands,
// and each consumer forms the products of two columns that it multiplies them with in registers.
#pragma once

#if !defined(__CUDACC__)
  #include <vector>
#endif

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

// 64 statistics that one consumer sums: products of 8 columns with 8 others, or 64 columns, or their squares;
// or none.
enum class Features : int32_t { products, columns, squares, nothing };
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

// A tile's columns in blocks of 32 rows and 8 columns, each (2, 8, 16): so that some columns of a stage's
// rows are one copy, and what a warp reads together lies together. W is rounded up to 8.
constexpr int stage_steps = 2;  // of 16 rows in a stage
MIXTURA_BOTH int64_t place_in_blocks(int64_t i, int64_t column, int64_t width) {
  const int64_t block = i / (stage_steps * stage_rows) * (width / feature_columns) + column / feature_columns;
  return ((block * stage_steps + i / stage_rows % stage_steps) * feature_columns + column % feature_columns) *
             stage_rows +
         i % stage_rows;
}

// Where the words of a component's 16 rows go: (group of `components`, S / 16, parts, 2, components, 8).
// Those of rows 4 q to 4 q + 3 are terms 2 q and 2 q + 1 of both chunks.
template <int parts, int components>
MIXTURA_KERNEL void put_words(Chunk* words, int64_t stride, int64_t k, int64_t stage, int q,
                              const Four& numbers) {
  Chunk* to = words + (k / components * (stride / stage_rows) + stage) * parts * (terms / 8) * components +
              k % components;
  uint32_t out[parts][terms / 8];
  MIXTURA_UNROLL
  for (int chunk = 0; chunk < terms / 8; ++chunk) {
    const Parts<parts> low = parts_of<parts>(numbers.of[2 * chunk]),
                       high = parts_of<parts>(numbers.of[2 * chunk + 1]);
    MIXTURA_UNROLL
    for (int p = 0; p < parts; ++p)
      out[p][chunk] = static_cast<uint32_t>(low.of[p]) | static_cast<uint32_t>(high.of[p]) << 16;
  }
  MIXTURA_UNROLL
  for (int p = 0; p < parts; ++p) {
    MIXTURA_UNROLL
    for (int chunk = 0; chunk < terms / 8; ++chunk)
      to[(p * (terms / 8) + chunk) * components].pairs[q] = out[p][chunk];
  }
}

// NormalizeSoft for warpgroups: 2^(joint_ki - max_k joint_ki) goes to words, and joint stays as it is; top_i,
// share_i, the log-likelihood and the number of pairs that count as there. A block has the 16 rows of a
// stage, and a thread four of them, side by side in memory and among the terms of a word, of every so many
// components; where they fit, their numbers stay in shared memory from one reading to the next.
//
// Reads K numbers a row, twice where they do not fit, and writes two bytes a part of each; one exponential a
// pair. Grid: (padded / 16).
template <int parts, int components>
struct NormalizeWide {
  static constexpr int quarters = stage_rows / 4;  // threads that share a component
  static constexpr int at_once = components == 64 ? 16 : components;
  static constexpr int threads = quarters * at_once;
  static constexpr int pieces = threads / stage_rows;  // of a row's sum
  struct Shared {
    Four of[threads];
    uint32_t pairs[threads][4];
    float top[stage_rows];
    float piece[stage_rows][pieces + 1];
    double total[stage_rows][pieces + 1], log_likelihood[stage_rows];
    uint32_t counted[stage_rows][pieces + 1];
  };

  Tile<float> tile;
  int64_t count;  // K
  float least;    // of a row's largest: what counts
  Chunk* words;
  double* log_likelihoods;  // a slot for each block of the grid, tile after tile
  Activity activity;
  bool holds;  // whether the numbers stay in shared memory

  static int64_t bytes_to_hold(int64_t count) {
    return static_cast<int64_t>(sizeof(Shared)) + count * stage_rows * 4;
  }
  int64_t shared_bytes() const { return bytes_to_hold(holds ? count : 0); }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, char* memory) const {
#if !defined(__CUDACC__)
    std::vector<double> emulated(static_cast<size_t>(shared_bytes()) / 8 + 2);
    memory = reinterpret_cast<char*>(emulated.data());
#endif
    static_assert(sizeof(Shared) % sizeof(Four) == 0, "what is held begins after the rest");
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    Four* const held = reinterpret_cast<Four*>(memory + sizeof(Shared));
    const int64_t first = block.x * stage_rows, groups = round_up(count, components);
    auto load = [&](int64_t k, int quarter) {
      return *reinterpret_cast<const Four*>(tile.joint + k * tile.stride + first + quarter * 4);
    };
    block.each([&](int t) {
      Four top;
      MIXTURA_UNROLL
      for (int j = 0; j < 4; ++j) top.of[j] = float_of(0xff800000u);  // minus infinity
#if defined(__CUDACC__)
  #pragma unroll 4
#endif
      for (int64_t k = t / quarters; k < count; k += at_once) {
        const Four numbers = load(k, t % quarters);
        if (holds) held[k * quarters + t % quarters] = numbers;
        MIXTURA_UNROLL
        for (int j = 0; j < 4; ++j) top.of[j] = numbers.of[j] > top.of[j] ? numbers.of[j] : top.of[j];
      }
      shared.of[t] = top;
    });
    // A row's numbers are those of every `quarters`-th thread.
    auto of_row = [&](int row, int i) { return i * quarters + row / 4; };
    block.each([&](int t) {
      const int row = t % stage_rows, piece = t / stage_rows;
      float top = float_of(0xff800000u);
      for (int i = piece; i < at_once; i += pieces) {
        const float value = shared.of[of_row(row, i)].of[row % 4];
        top = value > top ? value : top;
      }
      shared.piece[row][piece] = top;
    });
    block.each([&](int t) {
      if (t >= stage_rows) return;
      float top = shared.piece[t][0];
      for (int piece = 1; piece < pieces; ++piece)
        top = shared.piece[t][piece] > top ? shared.piece[t][piece] : top;
      shared.top[t] = top;
      tile.top[first + t] = top;
    });
    block.each([&](int t) {
      const int quarter = t % quarters;
      const Four top = *reinterpret_cast<const Four*>(shared.top + quarter * 4);
      Four total{};
      uint32_t pairs[4] = {};
      for (int64_t k = t / quarters; k < groups; k += at_once) {
        Four numbers{};
        if (k < count) {
          numbers = holds ? held[k * quarters + quarter] : load(k, quarter);
          MIXTURA_UNROLL
          for (int j = 0; j < 4; ++j) {
            float& e = numbers.of[j];
            e = power_of_two(e - top.of[j]);
            e = e < least_power<float>() ? 0.0f : e;
            total.of[j] += e;
            pairs[j] += e >= least ? 1u : 0u;
          }
        }
        put_words<parts, components>(words, tile.stride, k, block.x, quarter, numbers);
      }
      shared.of[t] = total;
      MIXTURA_UNROLL
      for (int j = 0; j < 4; ++j) shared.pairs[t][j] = pairs[j];
    });
    block.each([&](int t) {
      const int row = t % stage_rows, piece = t / stage_rows;
      double total = 0;
      uint32_t pairs = 0;
      for (int i = piece; i < at_once; i += pieces) {
        total += static_cast<double>(shared.of[of_row(row, i)].of[row % 4]);
        pairs += shared.pairs[of_row(row, i)][row % 4];
      }
      shared.total[row][piece] = total;
      shared.counted[row][piece] = pairs;
    });
    block.each([&](int t) {
      if (t >= stage_rows) return;
      double total = 0;
      uint32_t pairs = 0;
      for (int piece = 0; piece < pieces; ++piece) {
        total += shared.total[t][piece];
        pairs += shared.counted[t][piece];
      }
      const int64_t i = first + t;
      const double weight = tile.weight[i];
      tile.share[i] = static_cast<float>(weight / total);
      shared.log_likelihood[t] =
          weight != 0.0 ? weight * ln2 * (static_cast<double>(shared.top[t]) + log2(total)) : 0.0;
      shared.counted[t][0] = weight != 0.0 ? pairs : 0;
    });
    block.each([&](int t) {
      if (t != 0) return;
      double log_likelihood = 0;
      unsigned long long pairs = 0;
      for (int i = 0; i < stage_rows; ++i) {
        log_likelihood += shared.log_likelihood[i];
        pairs += shared.counted[i][0];
      }
      log_likelihoods[block.x] += log_likelihood;
      block.add(activity.pairs, pairs);
    });
  }
};

// AccumulateDense by warpgroups: each consumer has a tile of features, and all of a block the same
// components. Features are formed from columns and shares, and cut into parts, in the registers that the
// product takes them from.
//
// With two parts of a feature, responsibilities have one: the largest of each row, 1 before it is shared out,
// is exact, and the others keep 8 digits, rounded to nearest, in all of a component's statistics alike.
//
// Cost: 2 or 6 times 64 N K multiply-adds of bfloat16 a tile of features, and for each 16 rows of it about 40
// or 60 instructions a thread. Grid: (ceil(tiles / 2), ceil(K / components), splits).
template <int parts, int components>
struct AccumulateWide {
  static constexpr int threads = ring_threads;
  static constexpr int word_parts = parts == 3 ? 3 : 1;
  using Pairs = Products<parts, word_parts>;
  static constexpr int steps = stage_steps;
  static constexpr int slots = parts == 3 ? 4 : 8;
  static constexpr int sums_of_thread = components / 2;
  static constexpr int stages_of_panel = panel_rows / (steps * stage_rows);
  // Stages after which sums leave the hardware's accumulators, which round towards zero.
  static constexpr int stages_together = parts == 3 ? 1 : stages_of_panel;
  struct Stage {
    Chunk words[steps][word_parts][terms / 8][components];
    float columns[consumers][warpgroup_rows / feature_columns][steps][feature_columns][stage_rows];
    float share[steps][stage_rows];
  };

  Tile<float> tile;
  int64_t count;  // K
  int64_t size;   // P
  int64_t splits;
  int64_t width;             // W rounded up
  const Chunk* words;        // of NormalizeWide
  const float* columns;      // in blocks, of WideRows
  const FeatureTile* tiles;  // an even number of them
  const int32_t* places;     // (tiles, 64): which statistic each feature is; -1: none
  double* sums;              // (splits, K, P)
  Activity activity;

  int64_t shared_bytes() const { return barrier_bytes + slots * static_cast<int64_t>(sizeof(Stage)); }

#if defined(MIXTURA_WARPGROUPS)
  // What a thread multiplies in one step: two features, of four rows each, as the product wants them.
  struct Fragment {
    uint32_t of[parts][4];

    __device__ __forceinline__ void put(int place, float x, float y) {
      MIXTURA_UNROLL
      for (int p = 0; p < parts; ++p) {
        const uint32_t word = pair_of(x, y);
        of[p][place] = word;
        x -= float_of(word << 16);
        y -= float_of(word & 0xffff0000u);
      }
    }
    // (a, b) times (f, g), row by row.
    __device__ __forceinline__ void form(const float4& a, const float4& b, const float4& f, const float4& g) {
      put(0, a.x * f.x, a.y * f.y);
      put(1, b.x * g.x, b.y * g.y);
      put(2, a.z * f.z, a.w * f.w);
      put(3, b.z * g.z, b.w * g.w);
    }
  };

  __device__ __forceinline__ static Barrier filled(char* shared, int s) { return Barrier(shared + 8 * s); }
  __device__ __forceinline__ static Barrier emptied(char* shared, int s) {
    return Barrier(shared + 8 * (most_slots + s));
  }

  // Starting a copy takes a thread about as long as some products, so that warps share them: one thread of
  // each starts those of responsibilities and shares, or of one consumer's columns.
  template <class Block>
  __device__ __forceinline__ void produce(const Block& block, Stage* stages, const Share& rows,
                                          const Chunk* group_words, char* shared) const {
    begin_producing();
    const int warp =
        __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) % warpgroup_threads / warp_size, 0);
    if (threadIdx.x % warp_size != 0 || warp > consumers) return;
    const int count_stages = static_cast<int>((rows.end - rows.begin) / (steps * stage_rows));
    constexpr int word_bytes = static_cast<int>(sizeof(Stage::words)), share_bytes = steps * stage_rows * 4;
    constexpr int64_t run_floats = steps * feature_columns * stage_rows;  // of 8 columns
    auto runs_of = [&](const FeatureTile& mine) {
      if (mine.features == Features::nothing) return 0;
      if (mine.features == Features::products) return 1;
      return static_cast<int>(smaller(warpgroup_rows, width - mine.a)) / feature_columns;
    };
    if (warp == consumers) {
      int bytes = word_bytes + share_bytes;
      for (int c = 0; c < consumers; ++c) {
        const FeatureTile mine = tiles[block.x * consumers + c];
        bytes +=
            runs_of(mine) * static_cast<int>(run_floats) * 4 * (mine.features == Features::products ? 2 : 1);
      }
      const Chunk* next_words = group_words + rows.begin / stage_rows * (word_bytes / steps / 16);
      const float* next_share = tile.share + rows.begin;
      for (int s = 0; s < count_stages; ++s) {
        const int slot = s % slots;
        if (s >= slots) emptied(shared, slot).wait(static_cast<uint32_t>(s / slots - 1) & 1);
        filled(shared, slot).expect(bytes);
        copy_in_bulk(&stages[slot].words, next_words, word_bytes, filled(shared, slot));
        copy_in_bulk(&stages[slot].share, next_share, share_bytes, filled(shared, slot));
        next_words += word_bytes / 16;
        next_share += steps * stage_rows;
      }
      return;
    }
    const FeatureTile mine = tiles[block.x * consumers + warp];
    const int bytes = runs_of(mine) * static_cast<int>(run_floats) * 4;
    if (bytes == 0) return;
    const int64_t runs = width / feature_columns;  // of a stage's rows
    const float* next = columns + rows.begin / (steps * stage_rows) * runs * run_floats;
    for (int s = 0; s < count_stages; ++s, next += runs * run_floats) {
      const int slot = s % slots;
      if (s >= slots) emptied(shared, slot).wait(static_cast<uint32_t>(s / slots - 1) & 1);
      copy_in_bulk(stages[slot].columns[warp][0], next + mine.a / feature_columns * run_floats, bytes,
                   filled(shared, slot));
      if (mine.features == Features::products)
        copy_in_bulk(stages[slot].columns[warp][1], next + mine.b / feature_columns * run_floats, bytes,
                     filled(shared, slot));
    }
  }

  // A consumer's sums over all stages, of one kind of features.
  template <Features kind>
  __device__ __forceinline__ static void add_up(char* shared, int count_stages, const Turns& turns,
                                                float (&sum)[sums_of_thread]) {
    constexpr int buffers = stages_together > 1 ? 2 : 1;  // products read one while the next is formed
    const Stage* const stages = reinterpret_cast<const Stage*>(shared + barrier_bytes);
    const int lane = static_cast<int>(threadIdx.x) % warp_size, q = lane % 4;
    const int warp = static_cast<int>(threadIdx.x) % warpgroup_threads / warp_size;
    const int low = warp * 16 + lane / 4, high = low + 8;  // this thread's features
    constexpr bool products = kind == Features::products;
    // Four rows of a column, in the first stage and step; others are at fixed distances.
    auto first_of = [&](int column) {
      const auto& run = stages->columns[turns.consumer][column / feature_columns][0];
      return reinterpret_cast<const char*>(run[column % feature_columns]) + q * 16;
    };
    const char* const at_low = first_of(products ? first_of_feature(low) : low);
    const char* const at_high = first_of(products ? first_of_feature(high) : high);
    const char* const at_both = first_of(feature_columns + second_of_feature(low));
    const char* const at_share = reinterpret_cast<const char*>(stages->share[0]) + q * 16;
    constexpr int step_bytes = feature_columns * stage_rows * 4, share_step_bytes = stage_rows * 4;
    auto read = [](const char* from, int offset) { return *reinterpret_cast<const float4*>(from + offset); };
    auto release = [&](int slot) {
      if (lane == 0) emptied(shared, slot).arrive();
    };
    float part_sum[sums_of_thread];
    Fragment fragments[buffers][steps];
    MIXTURA_UNROLL
    for (int i = 0; i < sums_of_thread; ++i) sum[i] = 0.0f;
    int slot = 0, before = 0;
    uint32_t phase = 0;
    for (int first = 0; first < count_stages; first += stages_of_panel) {
  #pragma unroll(stages_together > 1 ? stages_together : 1)
      for (int u = 0; u < stages_of_panel; ++u) {
        filled(shared, slot).wait(phase);
        const int offset = slot * static_cast<int>(sizeof(Stage));
        float4 a[steps], b[steps], f[steps], g[steps];
        MIXTURA_UNROLL
        for (int step = 0; step < steps; ++step) {
          a[step] = read(at_low, offset + step * step_bytes);
          b[step] = read(at_high, offset + step * step_bytes);
          f[step] = read(at_share, offset + step * share_step_bytes);
          if (products) g[step] = read(at_both, offset + step * step_bytes);
        }
        MIXTURA_UNROLL
        for (int step = 0; step < steps; ++step) {
          if (products) {
            f[step] = g[step] = times(f[step], g[step]);
          } else if (kind == Features::squares) {
            g[step] = times(f[step], b[step]);
            f[step] = times(f[step], a[step]);
          } else {
            g[step] = f[step];
          }
          fragments[u % buffers][step].form(a[step], b[step], f[step], g[step]);
        }
        pin(part_sum);
        MIXTURA_UNROLL
        for (int step = 0; step < steps; ++step) {
          MIXTURA_UNROLL
          for (int p = 0; p < parts; ++p) pin(fragments[u % buffers][step].of[p]);
        }
        const uint32_t words_at = shared_address(stages) + static_cast<uint32_t>(offset);
        turns.take();
        begin_products();
        MIXTURA_UNROLL
        for (int step = 0; step < steps; ++step) {
          MIXTURA_UNROLL
          for (int product = 0; product < Pairs::count; ++product)
            multiply(part_sum, fragments[u % buffers][step].of[Pairs::first(product)],
                     descriptor(words_at + static_cast<uint32_t>(step * word_parts + Pairs::second(product)) *
                                               static_cast<uint32_t>(sizeof(Stage::words[0][0])),
                                components * static_cast<uint32_t>(sizeof(Chunk))),
                     product > 0 || step > 0 || u % stages_together > 0);
        }
        commit_products();
        turns.pass();
        if ((u + 1) % stages_together == 0) {
          wait_for_products<0>();
          pin(part_sum);
          MIXTURA_UNROLL
          for (int i = 0; i < sums_of_thread; ++i) sum[i] += part_sum[i];
          if (stages_together > 1) release(before);
          release(slot);
        } else if (u > 0) {
          wait_for_products<1>();
          release(before);
        }
        before = slot;
        if (++slot == slots) {
          slot = 0;
          phase ^= 1;
        }
      }
    }
  }
#endif

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, char* shared) const {
    if (activity.sparse()) return;
    const Share rows(tile.padded, splits, block.z);
    if (rows.begin >= rows.end) return;
    const Chunk* group_words =
        words + block.y * (tile.stride / stage_rows) * word_parts * (terms / 8) * components;
#if defined(MIXTURA_WARPGROUPS)
    Stage* const stages = reinterpret_cast<Stage*>(shared + barrier_bytes);
    if (threadIdx.x == 0) {
      for (int s = 0; s < slots; ++s) {
        filled(shared, s).init(1);
        emptied(shared, s).init(consumers * warpgroup_threads / warp_size);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    const int count_stages = static_cast<int>((rows.end - rows.begin) / (steps * stage_rows));
    const int consumer = warpgroup_of_thread();
    if (consumer == consumers) return produce(block, stages, rows, group_words, shared);
    begin_consuming();
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const FeatureTile mine = tiles[block.x * consumers + consumer];
    const bool alone = tiles[block.x * consumers + 1 - consumer].features == Features::nothing;
    if (mine.features == Features::nothing) {
      for (int s = 0; s < count_stages; ++s) {
        filled(shared, s % slots).wait(static_cast<uint32_t>(s / slots) & 1);
        if (lane == 0) emptied(shared, s % slots).arrive();
      }
      return;
    }
    float sum[sums_of_thread];
    const Turns turns(consumer, alone);
    if (mine.features == Features::products)
      add_up<Features::products>(shared, count_stages, turns, sum);
    else if (mine.features == Features::squares)
      add_up<Features::squares>(shared, count_stages, turns, sum);
    else
      add_up<Features::columns>(shared, count_stages, turns, sum);
    turns.end();
    const int low = static_cast<int>(threadIdx.x) % warpgroup_threads / warp_size * 16 + lane / 4;
    const int32_t* place = places + (block.x * consumers + consumer) * 64;
    const int32_t at_low = place[low], at_high = place[low + 8];
    // Many at a time are read before the first is written: one after the other each would wait for memory.
    constexpr int at_once = 16;
    MIXTURA_UNROLL
    for (int first = 0; first < sums_of_thread; first += at_once) {
      double before[at_once];
      auto place_of_sum = [&](int j) -> double* {
        const int64_t k = block.y * components + j / 4 * 8 + lane % 4 * 2 + j % 2;
        const int32_t at = j / 2 % 2 ? at_high : at_low;
        return at >= 0 && k < count ? sums + (block.z * count + k) * size + at : nullptr;
      };
      MIXTURA_UNROLL
      for (int j = 0; j < at_once; ++j) {
        const double* from = place_of_sum(first + j);
        before[j] = from ? *from : 0.0;
      }
      MIXTURA_UNROLL
      for (int j = 0; j < at_once; ++j)
        if (double* to = place_of_sum(first + j)) *to = before[j] + static_cast<double>(sum[first + j]);
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
          Chunk feature[parts][terms / 8];
          for (int term = 0; term < terms; ++term) {
            const int row = stage_row_of(term);
            const int64_t i = stage * stage_rows + row;
            const float first = columns[place_in_blocks(i, a, width)], share = tile.share[i];
            const float second = products ? share * columns[place_in_blocks(i, b, width)]
                                 : mine.features == Features::squares ? share * first
                                                                      : share;
            const Parts<parts> found = parts_of<parts>(first * second);
            for (int p = 0; p < parts; ++p) feature[p][term / 8].of[term % 8] = found.of[p];
          }
          sum += product_of<parts, word_parts>(
              feature[0], terms / 8, 1,
              group_words + stage * word_parts * (terms / 8) * components + k % components,
              terms / 8 * components, components);
        }
        sums[(block.z * count + k) * size + at] += static_cast<double>(sum);
      }
    });
#endif
  }
};

}  // namespace mixtura::cuda
