// The E half by warpgroups (see warpgroup.hpp): a panel of rows stays in shared memory, and factors, or
// centres, stream past it.
#pragma once

#include "mixtura/cuda/nearest.hpp"
#include "mixtura/cuda/warpgroup.hpp"

namespace mixtura::cuda {

// What streams past the rows: stages of 16 terms of 128 places, and a number for each place (a bias, a
// height).
constexpr int stream_places = 128;
template <int parts>
struct StreamStage {
  Chunk words[parts][terms / 8][stream_places];
  float numbers[stream_places];
};

// Rows of the largest panel.
constexpr int64_t largest_panel = consumers * 2 * warpgroup_rows;

// How the rows of a block are shared: each consumer has `halves` times 64 of them.
template <int parts, int halves>
struct WidePanel {
  static constexpr int rows = consumers * halves * warpgroup_rows;
  using Stage = StreamStage<parts>;

  int64_t steps;  // of 16 columns
  int slots;      // of the ring
  int row_slots;  // panels that are there at once: with two, the next one arrives while one is worked on

  MIXTURA_BOTH int64_t row_bytes() const {
    return parts * steps * (terms / 8) * rows * static_cast<int64_t>(sizeof(Chunk));
  }
  MIXTURA_BOTH int64_t shared_bytes() const {
    return barrier_bytes + row_slots * row_bytes() + slots * static_cast<int64_t>(sizeof(Stage));
  }
};

#if defined(MIXTURA_WARPGROUPS)

// The rings of panels and of stages that all kernels of this kind share. The last warpgroup produces, the
// others consume. A block has every `stride`-th panel, and the same stages pass each.
template <int parts, int halves>
struct RowsAndRing {
  using Panel = WidePanel<parts, halves>;
  using Stage = typename Panel::Stage;
  static constexpr bool exact = parts == 3;

  const Panel panel;
  char* const shared;
  int slot = 0, row_slot = 0;
  uint32_t phase = 0, row_phase = 0;

  __device__ __forceinline__ RowsAndRing(const Panel& panel_, char* shared_)
      : panel(panel_), shared(shared_) {
    constexpr int warps = consumers * warpgroup_threads / warp_size;
    if (threadIdx.x == 0) {
      for (int s = 0; s < panel.slots; ++s) {
        filled(s).init(1);
        emptied(s).init(warps);
      }
      for (int s = 0; s < panel.row_slots; ++s) {
        rows_filled(s).init(1);
        rows_emptied(s).init(warps);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
  }
  __device__ __forceinline__ Barrier filled(int s) const { return Barrier(shared + 8 * s); }
  __device__ __forceinline__ Barrier emptied(int s) const { return Barrier(shared + 8 * (most_slots + s)); }
  __device__ __forceinline__ Barrier rows_filled(int s) const {
    return Barrier(shared + 8 * (2 * most_slots + s));
  }
  __device__ __forceinline__ Barrier rows_emptied(int s) const {
    return Barrier(shared + 8 * (2 * most_slots + most_row_slots + s));
  }
  __device__ __forceinline__ char* rows() const {
    return shared + barrier_bytes + row_slot * panel.row_bytes();
  }
  __device__ __forceinline__ const Stage& stage() const {
    return reinterpret_cast<const Stage*>(shared + barrier_bytes + panel.row_slots * panel.row_bytes())[slot];
  }
  __device__ __forceinline__ void advance() {
    if (++slot == panel.slots) {
      slot = 0;
      phase ^= 1;
    }
  }
  __device__ __forceinline__ void advance_rows() {
    if (++row_slot == panel.row_slots) {
      row_slot = 0;
      row_phase ^= 1;
    }
  }

  __device__ __forceinline__ void produce(const char* row_words, int64_t first, int64_t panels,
                                          int64_t stride, const Stage* stages, int64_t count) {
    begin_producing();
    if (threadIdx.x % warpgroup_threads != 0) return;
    const int row_bytes = static_cast<int>(panel.row_bytes());
    int64_t made = 0, rows_made = 0;
    for (int64_t p = first; p < panels; p += stride, ++rows_made) {
      if (rows_made >= panel.row_slots) rows_emptied(row_slot).wait(row_phase ^ 1);
      rows_filled(row_slot).expect(row_bytes);
      copy_in_bulk(rows(), row_words + p * panel.row_bytes(), row_bytes, rows_filled(row_slot));
      advance_rows();
      for (int64_t s = 0; s < count; ++s, ++made) {
        if (made >= panel.slots) emptied(slot).wait(phase ^ 1);
        filled(slot).expect(static_cast<int>(sizeof(Stage)));
        copy_in_bulk(const_cast<Stage*>(&stage()), stages + s, static_cast<int>(sizeof(Stage)), filled(slot));
        advance();
      }
    }
  }

  __device__ __forceinline__ void wait_for_rows() const { rows_filled(row_slot).wait(row_phase); }
  __device__ __forceinline__ void give_rows_back() {
    if (threadIdx.x % warp_size == 0) rows_emptied(row_slot).arrive();
    advance_rows();
  }
  __device__ __forceinline__ void give_back(int s) const {
    if (threadIdx.x % warp_size == 0) emptied(s).arrive();
  }

  // sum = rows times `steps` stages; with the last stage's numbers, `finish(half, sum, numbers)`.
  template <class Finish>
  __device__ __forceinline__ void consume(const Turns& turns, int64_t steps, Finish finish) {
    constexpr uint32_t row_chunk = Panel::rows * sizeof(Chunk), place_chunk = stream_places * sizeof(Chunk);
    constexpr uint32_t place_part = terms / 8 * place_chunk;
    const uint32_t row_part = static_cast<uint32_t>(panel.steps) * (terms / 8) * row_chunk;
    const uint32_t first = shared_address(rows()) + static_cast<uint32_t>(warpgroup_of_thread()) * halves *
                                                        warpgroup_rows * static_cast<uint32_t>(sizeof(Chunk));
    float sum[halves][64], part_sum[halves][64];
    int before = slot;
    for (int64_t step = 0; step < steps; ++step) {
      filled(slot).wait(phase);
      const uint32_t places = shared_address(&stage());
      const uint32_t these = first + static_cast<uint32_t>(step) * (terms / 8) * row_chunk;
      MIXTURA_UNROLL
      for (int h = 0; h < halves; ++h) pin(exact ? part_sum[h] : sum[h]);
      turns.take();
      begin_products();
      MIXTURA_UNROLL
      for (int h = 0; h < halves; ++h) {
        MIXTURA_UNROLL
        for (int product = 0; product < Products<parts>::count; ++product) {
          const uint64_t a = descriptor(these + Products<parts>::first(product) * row_part +
                                            h * warpgroup_rows * static_cast<uint32_t>(sizeof(Chunk)),
                                        row_chunk);
          const uint64_t b = descriptor(places + Products<parts>::second(product) * place_part, place_chunk);
          multiply(exact ? part_sum[h] : sum[h], a, b, product > 0 || (!exact && step > 0));
        }
      }
      commit_products();
      turns.pass();
      if (exact) {
        // Hardware rounds its sums towards zero; ordinary additions, to nearest, carry from step to step.
        wait_for_products<0>();
        MIXTURA_UNROLL
        for (int h = 0; h < halves; ++h) {
          pin(part_sum[h]);
          if (step > 0) {
            MIXTURA_UNROLL
            for (int i = 0; i < 64; ++i) part_sum[h][i] += sum[h][i];
          }
          if (step + 1 < steps) {
            MIXTURA_UNROLL
            for (int i = 0; i < 64; ++i) sum[h][i] = part_sum[h][i];
          }
        }
        if (step + 1 < steps) give_back(slot);
      } else if (step > 0) {
        wait_for_products<1>();
        give_back(before);
      }
      before = slot;
      if (step + 1 < steps) advance();
    }
    if (!exact) wait_for_products<0>();
    MIXTURA_UNROLL
    for (int h = 0; h < halves; ++h) {
      if (!exact) pin(sum[h]);
      finish(h, exact ? part_sum[h] : sum[h], stage().numbers);
    }
    give_back(slot);
    advance();
  }
};

#endif

// Where a consumer's sums belong: sum j of a thread is row(j) of its 64 and column(j) of the places.
struct WideSum {
  int lane, warp, consumer;

  MIXTURA_BOTH explicit WideSum(int thread)
      : lane(thread % warp_size),
        warp(thread % warpgroup_threads / warp_size),
        consumer(thread / warpgroup_threads) {}
  MIXTURA_BOTH int row(int upper) const { return warp * 16 + lane / 4 + 8 * upper; }
  MIXTURA_BOTH int column(int j) const { return j / 4 * 8 + lane % 4 * 2 + j % 2; }
};

// EvaluateFactors by warpgroups: places are 16 factor rows of 8 components. With three parts log-densities
// are as accurate as in float32, with two they have a relative error of about 1e-5.
//
// Cost: 3 or 6 times D (D + 16) / 2 multiply-adds of bfloat16 a (row, component) of a triangle. A stage of 8
// or 12 KiB is read from the second-level cache for `rows` x 128 x 16 of them, 3 or 6 times. Grid: (panels,
// shares of the groups).
template <int parts, int halves>
struct EvaluateWide {
  static constexpr int threads = ring_threads;
  static constexpr int height = 16;
  static constexpr int components = stream_places / height;
  using Panel = WidePanel<parts, halves>;
  using Stage = StreamStage<parts>;

  Tile<float> tile;
  Panel panel;
  int64_t count;  // K
  int64_t bands;  // of 16 factor rows
  bool triangle;
  int64_t shares;          // blocks among which the groups of components are divided
  int64_t panels, blocks;  // of the tile, and those that work on them at a time
  const char* words;       // of the tile's rows, panel by panel
  const Stage* packed;     // group by group, stage by stage; numbers are the band's biases
  const float* constants;  // (K,) c_k

  int64_t shared_bytes() const { return panel.shared_bytes(); }

  MIXTURA_BOTH static int64_t steps_of(int64_t band, int64_t steps, bool triangle) {
    return triangle ? smaller(band + 1, steps) : steps;
  }
  MIXTURA_BOTH static int64_t stages_of(int64_t bands, int64_t steps, bool triangle) {
    int64_t stages = 0;
    for (int64_t band = 0; band < bands; ++band) stages += steps_of(band, steps, triangle);
    return stages;
  }

#if defined(MIXTURA_WARPGROUPS)
  // The sums over the four lanes that share a row, of its 8 components: lane q gets those of components 2 q
  // and 2 q + 1. In each of two exchanges a lane gives away half of what it has.
  __device__ __forceinline__ static void sum_over_lanes(int lane, const float (&square)[2][components],
                                                        float (&total)[2][2]) {
    MIXTURA_UNROLL
    for (int upper = 0; upper < 2; ++upper) {
      float half[4];
      MIXTURA_UNROLL
      for (int c = 0; c < 4; ++c) {
        const float low = square[upper][c], high = square[upper][4 + c];
        half[c] = (lane & 2 ? high : low) + __shfl_xor_sync(0xffffffffu, lane & 2 ? low : high, 2);
      }
      MIXTURA_UNROLL
      for (int c = 0; c < 2; ++c)
        total[upper][c] = (lane & 1 ? half[2 + c] : half[c]) +
                          __shfl_xor_sync(0xffffffffu, lane & 1 ? half[c] : half[2 + c], 1);
    }
  }
#endif

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, char* shared) const {
    const int64_t groups = (count + components - 1) / components, each = (groups + shares - 1) / shares;
    const int64_t begin = smaller(block.y * each, groups), end = smaller(begin + each, groups);
    const int64_t stages = stages_of(bands, panel.steps, triangle);
    const Stage* factors = packed + begin * stages;
    if (begin >= end) return;
#if defined(MIXTURA_WARPGROUPS)
    RowsAndRing<parts, halves> ring(panel, shared);
    if (warpgroup_of_thread() == consumers)
      return ring.produce(words, block.x, panels, blocks, factors, (end - begin) * stages);
    begin_consuming();
    const WideSum at(static_cast<int>(threadIdx.x));
    const Turns turns(warpgroup_of_thread(), false);
    for (int64_t p = block.x; p < panels; p += blocks) {
      ring.wait_for_rows();
      const int64_t first_row = p * Panel::rows + at.consumer * halves * warpgroup_rows;
      for (int64_t group = begin; group < end; ++group) {
        float square[halves][2][components];
        MIXTURA_UNROLL
        for (int h = 0; h < halves; ++h) {
          MIXTURA_UNROLL
          for (int c = 0; c < components; ++c) square[h][0][c] = square[h][1][c] = 0.0f;
        }
        for (int64_t band = 0; band < bands; ++band)
          ring.consume(
              turns, steps_of(band, panel.steps, triangle),
              [&](int h, const float (&sum)[64], const float* bias) {
                MIXTURA_UNROLL
                for (int run = 0; run < 16; ++run) {  // of 8 places, which are half of a component's rows
                  const float2 b = reinterpret_cast<const float2*>(bias)[run * 4 + at.lane % 4];
                  MIXTURA_UNROLL
                  for (int upper = 0; upper < 2; ++upper) {
                    const float y = sum[run * 4 + upper * 2] - b.x, z = sum[run * 4 + upper * 2 + 1] - b.y;
                    float& s = square[h][upper][run / 2];
                    s = fused(z, z, fused(y, y, s));
                  }
                }
              });
        float* const joint = tile.joint + (group * components + at.lane % 4 * 2) * tile.stride + first_row;
        MIXTURA_UNROLL
        for (int h = 0; h < halves; ++h) {
          float total[2][2];
          sum_over_lanes(at.lane, square[h], total);
          MIXTURA_UNROLL
          for (int c = 0; c < 2; ++c) {
            const int64_t k = group * components + at.lane % 4 * 2 + c;
            if (k >= count) continue;
            const float constant = constants[k];
            MIXTURA_UNROLL
            for (int upper = 0; upper < 2; ++upper)
              joint[c * tile.stride + h * warpgroup_rows + at.row(upper)] = constant - total[upper][c];
          }
        }
      }
      ring.give_rows_back();
    }
    turns.end();
#elif defined(__CUDACC__)
    (void)shared;
    (void)factors;
    __trap();  // such devices are not asked
#else
    (void)shared;
    block.each([&](int t) {
      if (t >= Panel::rows) return;
      for (int64_t p = block.x; p < panels; p += blocks) {
        const Chunk* row = reinterpret_cast<const Chunk*>(words + p * panel.row_bytes()) + t;
        for (int64_t group = begin; group < end; ++group) {
          const Stage* stage = factors + (group - begin) * stages;
          float square[components] = {};
          for (int64_t band = 0; band < bands; ++band) {
            float sum[stream_places] = {};
            for (int64_t step = 0; step < steps_of(band, panel.steps, triangle); ++step, ++stage)
              for (int place = 0; place < stream_places; ++place)
                sum[place] += product_of<parts, parts>(
                    row + step * 2 * Panel::rows, panel.steps * 2 * Panel::rows, Panel::rows,
                    &stage->words[0][0][place], 2 * stream_places, stream_places);
            for (int place = 0; place < stream_places; ++place) {
              const float y = sum[place] - stage[-1].numbers[place];
              square[place / height] = fused(y, y, square[place / height]);
            }
          }
          for (int c = 0; c < components; ++c) {
            const int64_t k = group * components + c;
            if (k < count) tile.joint[k * tile.stride + p * Panel::rows + t] = constants[k] - square[c];
          }
        }
      }
    });
#endif
  }
};

// Nearest by warpgroups: places are 128 centres, and each thread keeps the two best of its rows. Labels whose
// score leads by less than the scores' rounding are marked, as -2 - label, and Decide decides them.
//
// Cost: 3 N K D multiply-adds of bfloat16. Grid: (panels).
template <int halves>
struct NearestWide {
  static constexpr int parts = 2;
  static constexpr int threads = ring_threads;
  using Panel = WidePanel<parts, halves>;
  using Stage = StreamStage<parts>;
  struct Best {
    float score, second;
    int32_t label;
  };

  Tile<float> tile;
  Panel panel;
  int64_t groups;          // of 128 centres
  int64_t panels, blocks;  // of the tile, and those that work on them at a time
  const char* words;       // of the tile's rows, panel by panel
  const Stage* packed;     // group by group; numbers are the heights
  float reach, highest;    // largest |m_k|, largest |h_k|

  int64_t shared_bytes() const { return panel.shared_bytes(); }

  // What a score may be off by: three times 2^-18 of |x| |m| for what two parts leave out, and the sums'
  // rounding towards zero in every step.
  MIXTURA_KERNEL float rounding(float size) const {
    return (1.3e-5f + 8e-7f * static_cast<float>(panel.steps)) * size * reach + 5e-7f * highest;
  }
  MIXTURA_KERNEL void mark(int64_t row, const Best& best) const {
    const float size = sqrtf(tile.columns[Augmented(tile.dims).square() * tile.stride + row]);
    const bool sure = best.score - best.second > 2.0f * rounding(size);
    tile.label[row] = sure ? best.label : -2 - best.label;
  }
  MIXTURA_KERNEL static void keep(Best& best, float score, int32_t label) {
    const bool better = score > best.score;
    const float worse = better ? best.score : score;
    best.second = worse > best.second ? worse : best.second;
    best.label = better ? label : best.label;
    best.score = better ? score : best.score;
  }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, char* shared) const {
    const Best none{-3.0e38f, -3.0e38f, 0};
#if defined(MIXTURA_WARPGROUPS)
    RowsAndRing<parts, halves> ring(panel, shared);
    if (warpgroup_of_thread() == consumers)
      return ring.produce(words, block.x, panels, blocks, packed, groups * panel.steps);
    begin_consuming();
    const WideSum at(static_cast<int>(threadIdx.x));
    const Turns turns(warpgroup_of_thread(), false);
    for (int64_t p = block.x; p < panels; p += blocks) {
      ring.wait_for_rows();
      Best best[halves][2];
      MIXTURA_UNROLL
      for (int h = 0; h < halves; ++h) best[h][0] = best[h][1] = none;
      for (int64_t group = 0; group < groups; ++group)
        ring.consume(turns, panel.steps, [&](int h, const float (&sum)[64], const float* heights) {
          const int32_t first = static_cast<int32_t>(group) * stream_places;
          MIXTURA_UNROLL
          for (int j = 0; j < 64; ++j)
            keep(best[h][j / 2 % 2], sum[j] + heights[at.column(j)], first + at.column(j));
        });
      ring.give_rows_back();
      MIXTURA_UNROLL
      for (int h = 0; h < halves; ++h) {
        MIXTURA_UNROLL
        for (int upper = 0; upper < 2; ++upper) {
          Best found = best[h][upper];
          MIXTURA_UNROLL
          for (int step = 1; step < 4; step *= 2) {
            const Best other{__shfl_xor_sync(0xffffffffu, found.score, step),
                             __shfl_xor_sync(0xffffffffu, found.second, step),
                             __shfl_xor_sync(0xffffffffu, found.label, step)};
            keep(found, other.score, other.label);
            found.second = other.second > found.second ? other.second : found.second;
          }
          if (at.lane % 4 == 0)
            mark(p * Panel::rows + (at.consumer * halves + h) * warpgroup_rows + at.row(upper), found);
        }
      }
    }
    turns.end();
#elif defined(__CUDACC__)
    (void)shared;
    (void)none;
    __trap();
#else
    (void)shared;
    block.each([&](int t) {
      if (t >= Panel::rows) return;
      for (int64_t p = block.x; p < panels; p += blocks) {
        const Chunk* row = reinterpret_cast<const Chunk*>(words + p * panel.row_bytes()) + t;
        Best best = none;
        for (int64_t group = 0; group < groups; ++group) {
          const Stage* stage = packed + group * panel.steps;
          for (int place = 0; place < stream_places; ++place) {
            float sum = 0.0f;
            for (int64_t step = 0; step < panel.steps; ++step)
              sum += product_of<parts, parts>(row + step * 2 * Panel::rows, panel.steps * 2 * Panel::rows,
                                              Panel::rows, &stage[step].words[0][0][place], 2 * stream_places,
                                              stream_places);
            keep(best, sum + stage[panel.steps - 1].numbers[place],
                 static_cast<int32_t>(group * stream_places + place));
          }
        }
        mark(p * Panel::rows + t, best);
      }
    });
#endif
  }
};

// After NearestWide: rows that it marked are decided by differences, in double, by the whole block, so that
// labels are those of exact arithmetic; and every row's log-density is computed so, by eight lanes.
//
// Cost: a read of a centre's D doubles a row, of all K D of them where a row was marked. Grid: (padded /
// 128).
struct Decide {
  static constexpr int threads = 256;
  static constexpr int lanes_a_row = 8;
  static constexpr int most_dims = 1024;
  struct Shared {
    uint32_t unsure[threads / warp_size];
    Decision decision[threads];
    double log_likelihood[panel_rows];
    double row[most_dims];
  };

  Source source;
  Tile<float> tile;
  int64_t count;            // K
  const double* centres;    // (K, D), about the pivot
  const double* across;     // (D, K), the same
  const double* constants;  // (K,) c_k
  double half_precision;    // f^2 / 2
  double* best;             // (S,) or null: largest log-density
  double* log_likelihoods;  // a slot for each block

  // Of the most likely of a thread's centres, four at a time; neighbours have neighbouring centres, and read
  // side by side.
  MIXTURA_KERNEL Decision most_likely(const double* x, int t) const {
    constexpr int at_once = 4;
    Decision found{0.0, -1};
    for (int64_t first = t; first < count; first += at_once * threads) {
      double sum[at_once] = {};
      for (int64_t d = 0; d < tile.dims; ++d) {
        const double* centre = across + d * count + first;
        MIXTURA_UNROLL
        for (int j = 0; j < at_once; ++j) {
          if (first + j * threads >= count) continue;
          const double difference = x[d] - centre[j * threads];
          sum[j] = fused(difference, difference, sum[j]);
        }
      }
      MIXTURA_UNROLL
      for (int j = 0; j < at_once; ++j) {
        const int64_t k = first + j * threads;
        if (k >= count) continue;
        const double score = constants[k] - half_precision * sum[j];
        if (found.label < 0 || score > found.score) found = Decision{score, static_cast<int32_t>(k)};
      }
    }
    return found;
  }

  // By eight lanes together, each for its share of the columns; the first of them has the answer.
  MIXTURA_KERNEL double log_density_of_lanes(int lane, int64_t i, int64_t k) const {
    double sum = 0;
#if defined(__CUDACC__)
    for (int64_t d = lane; d < tile.dims; d += lanes_a_row) {
      const double difference = source(i, d) - centres[k * tile.dims + d];
      sum = fused(difference, difference, sum);
    }
    MIXTURA_UNROLL
    for (int step = lanes_a_row / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
#else
    for (int64_t d = 0; d < tile.dims && lane == 0; ++d) {
      const double difference = source(i, d) - centres[k * tile.dims + d];
      sum = fused(difference, difference, sum);
    }
#endif
    return constants[k] - half_precision * sum;
  }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t first_row = block.x * panel_rows;
    auto counts = [&](int64_t i) { return i < tile.count && tile.weight[i] != 0.0; };
    block.ballot(threads, shared.unsure, [&](int t) {
      return t < panel_rows && counts(first_row + t) && tile.label[first_row + t] < 0;
    });
    for (int word = 0; word < panel_rows / warp_size; ++word)
      for (uint32_t left = shared.unsure[word]; left; left &= left - 1) {
        const int64_t i = first_row + word * warp_size + lowest_bit(left);
        block.each([&](int t) {
          for (int64_t d = t; d < tile.dims; d += threads) shared.row[d] = source(i, d);
        });
        block.each([&](int t) { shared.decision[t] = most_likely(shared.row, t); });
        decide_together(block, shared.decision);
        block.each([&](int t) {
          if (t == 0) tile.label[i] = shared.decision[0].label;
        });
      }
    block.each([&](int t) {
      const int lane = t % lanes_a_row;
      MIXTURA_UNROLL
      for (int r = t / lanes_a_row; r < panel_rows; r += threads / lanes_a_row) {
        const int64_t i = first_row + r;
        const bool count_it = counts(i);
        // Lanes of other rows take part in the sum, so that no row is left out here.
        const double density = log_density_of_lanes(lane, count_it ? i : 0, count_it ? tile.label[i] : 0);
        if (lane != 0) continue;
        if (!count_it) tile.label[i] = -1;
        tile.share[i] = static_cast<float>(tile.weight[i]);
        if (best) best[i] = count_it ? density : 0.0;
        shared.log_likelihood[r] = count_it ? tile.weight[i] * density : 0.0;
      }
    });
    add_log_likelihoods(block, shared.log_likelihood, log_likelihoods);
  }
};

}  // namespace mixtura::cuda
