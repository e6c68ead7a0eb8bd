// One pass over a range of rows, block by block: pack, evaluate, normalise, accumulate.
#pragma once

#include "mixtura/accumulate.hpp"
#include "mixtura/bins.hpp"
#include "mixtura/block.hpp"
#include "mixtura/evaluate.hpp"
#include "mixtura/nearest.hpp"
#include "mixtura/normalize.hpp"
#include "mixtura/problem.hpp"
#include "mixtura/prune.hpp"
#include "mixtura/screen.hpp"
#include "mixtura/simd.hpp"
#include "mixtura/statistics.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// The block's arrays, one after another, each from a cache line's start. From `rows` on they must be zero at
// first, because padding is read but not written.
struct Workspace {
  real *x, *rows, *joint2, *transformed, *zero, *top, *share, *leading, *trailing;
  Scratch scratch;
  Pruning pruning;
  integer* label;
  double *exact, *weight, *row;
  RowSet* active;
  Bins bins;
};

// Whether pairs that cannot count may be left out before they are evaluated, if there are bounds: the answer
// is sums over rows, labels or densities, and nothing is added to the joint densities.
inline bool may_leave_out(const Pass& p) {
  return p.skip && p.bounds != Bounds::none && !p.resp && !p.answers.joint && !p.answers.resp &&
         !(p.log_weights && p.log_weights_per_row);
}

// The same, with the bounds that there are.
inline bool pruned(const Pass& p) {
  return may_leave_out(p) && (p.directions || prunable(p.quadratics));
}

// How many directions may bound triangles for less than a part of their columns, in whole tiles; 0 if none.
inline int64_t directions(const Pass& p) {
  const Quadratics& q = p.quadratics;
  const bool known = may_leave_out(p) && q.factor == Factor::triangle && !q.shared && !q.linear;
  const int64_t work = q.components * q.dims * q.dims;
  if (!known || work < turned_work || q.dims > turned_dims || p.rows.count < turned_rows) return 0;
  const int64_t apart = smaller(q.components - 1, smaller(q.dims / 2, most_directions));
  const int64_t count = round_up(apart, tile_rows);
  return count < q.dims ? count : 0;
}

// Whether bounds in single precision by all columns cost so much less than densities that they may pay where
// those by a part of the factors do not tell enough.
inline bool screened(const Pass& p) {
  return is_double && pruned(p) && p.quadratics.factor == Factor::triangle &&
         p.quadratics.dims >= screened_dims;
}

inline size_t lay_out(const Pass& p, const Statistics& s, void* memory, Workspace& w) {
  Cut take{static_cast<char*>(memory)};
  const Quadratics& q = p.quadratics;
  const int64_t dims = p.rows.dims, components = q.components;
  const int64_t padded_dims = round_up(dims, lanes), lists = round_up(block_rows, lanes);
  const bool soft = !has_answers(p) && !p.hard && !p.own_pivots;
  const bool features = soft && s.order != Order::plain, panels = features && s.order == Order::circulant;
  const int64_t transformed = q.shared && tiled(q) && !p.resp ? tiles(q.factor_rows) * tile_rows : 0;
  take(w.x, dims * stride);
  take(w.joint2, components * stride);
  take(w.top, stride);
  take(w.share, stride);
  take(w.weight, stride);
  take(w.label, stride);
  take(w.exact, padded_dims);
  take(w.leading, padded_dims);
  take(w.trailing, padded_dims);
  take(w.row, dims);
  take(w.active, components);
  w.bins.lay_out(s, p, take);
  const bool prune = pruned(p);
  take(w.pruning.gathered, prune ? dims * stride : 0);
  take(w.pruning.candidate, prune ? stride : 0);
  take(w.pruning.list, prune ? stride : 0);
  take(w.pruning.own, prune ? components : 0);
  take(w.pruning.exact, prune ? stride : 0);
  take(w.pruning.least, prune ? stride : 0);
  const bool screens = prune && (p.directions || p.columns);
  take(w.pruning.upper, screens ? components * block_rows : 0);
  take(w.pruning.best, screens ? block_rows : 0);
  take(w.pruning.left, screens ? components : 0);
  const auto of_screen = [&](const Screen* screen) {
    return prune && screen ? static_cast<int64_t>(screen->workspace_bytes) : 0;
  };
  const int64_t of_directions = of_screen(p.directions), of_columns = of_screen(p.columns);
  take(w.pruning.screen, of_directions > of_columns ? of_directions : of_columns);
  take(w.rows, features || prune ? block_rows * row_stride(s) : 0);
  take(w.transformed, transformed * stride);
  take(w.zero, transformed);
  take(w.scratch.weighted, soft && !features && s.kind != Kind::mass ? dims * stride : stride);
  take(w.scratch.panel, panels ? panel_rows * (tile_features + 1) * lanes
                        : soft ? tile_features * stride
                               : 0);
  take(w.scratch.scaled, features ? block_rows * scaled_pitch(s) : 0);
  take(w.scratch.strip, features && s.order == Order::blocks ? block_rows * block_vectors * lanes : 0);
  take(w.scratch.weights, features ? lists : 0);
  take(w.scratch.list, features ? lists + 1 : 0);
  return static_cast<size_t>(take.at - static_cast<char*>(memory));
}

inline size_t workspace_bytes(const Pass& p) {
  if (nearest_centre(p)) {
    NearestWorkspace w;
    return lay_out_nearest(p, nullptr, w);
  }
  Workspace w;
  return lay_out(p, statistics(p), nullptr, w);
}

// A workspace as a pass begins with it.
inline void set_up(const Pass& p, const Statistics& s, void* memory, Workspace& w) {
  const size_t bytes = lay_out(p, s, memory, w);
  char* first = reinterpret_cast<char*>(w.rows);
  __builtin_memset(first, 0, bytes - static_cast<size_t>(first - static_cast<char*>(memory)));
  w.pruning.rows = w.rows;
  w.pruning.row_stride = row_stride(s);
  w.pruning.away = farthest(p);
  w.pruning.bounds = p.bounds;
  w.pruning.resting = 0;
}

inline size_t packed_bytes(const Pass& p) {
  if (p.resp) return 0;
  return nearest_centre(p) ? centre_layout(p.quadratics).bytes
                           : packed_layout(p.quadratics).total * sizeof(real);
}

inline void pack(const Pass& p, void* packed) {
  if (p.resp) return;
  if (nearest_centre(p))
    pack_centres(p, packed);
  else
    pack_quadratics(p, static_cast<real*>(packed));
}

// joint2[k][i] += log2 weights of (row, component), from a gate.
inline void add_log_weights(const Pass& p, int64_t begin, int64_t n, real* joint2) {
  const int64_t components = p.quadratics.components;
  for (int64_t k = 0; k < components; ++k) {
    real* out = joint2 + k * stride;
    const double* in = p.log_weights + begin * components + k;
    for (int64_t i = 0; i < n; ++i) out[i] += static_cast<real>(in[i * components] * log2e);
  }
}

// joint2[k][i] <- given responsibilities, zeros beyond the table's end.
inline void take_responsibilities(const Pass& p, int64_t begin, int64_t n, int64_t padded, real* joint2) {
  const int64_t components = p.quadratics.components;
  for (int64_t k = 0; k < components; ++k) {
    const double* in = p.resp + begin * components + k;
    real* out = joint2 + k * stride;
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<real>(in[i * components]);
    for (int64_t i = n; i < padded; ++i) out[i] = 0;
  }
}

inline void accumulate_hard(const Statistics& s, Workspace& w, int64_t n, double* sums) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t d = 0; d < s.dims; ++d) w.row[d] = static_cast<double>(w.x[d * stride + i]);
    double* own = sums + w.label[i] * s.size;
    if (s.order == Order::blocks) {
      own[s.mass] += w.weight[i];
      w.bins.add(s, w.row, w.weight[i], w.label[i], own);
    } else {
      add_row(s.kind, s.dims, w.row, w.weight[i], own);
    }
  }
}

// out[i][k] <- joint2[k][i] * scale[i], a square of lanes x lanes turned in registers at a time.
template <class T>
inline void write_rows(const real* joint2, int64_t components, int64_t n, const real* scale, T* out) {
  const int64_t whole = n / lanes * lanes, columns = components / lanes * lanes;
  for (int64_t i = 0; i < whole; i += lanes) {
    const vec s = load(scale + i);
    for (int64_t k = 0; k < columns; k += lanes) {
      vec v[lanes];
      MIXTURA_UNROLL
      for (int c = 0; c < lanes; ++c) v[c] = load(joint2 + (k + c) * stride + i) * s;
      transpose(v);
      MIXTURA_UNROLL
      for (int r = 0; r < lanes; ++r) store_numbers(out + (i + r) * components + k, v[r]);
    }
    for (int64_t k = columns; k < components; ++k)
      for (int r = 0; r < lanes; ++r)
        out[(i + r) * components + k] = static_cast<T>(joint2[k * stride + i + r] * scale[i + r]);
  }
  for (int64_t i = whole; i < n; ++i)
    for (int64_t k = 0; k < components; ++k)
      out[i * components + k] = static_cast<T>(joint2[k * stride + i] * scale[i]);
}

// What the pass was asked about rows b .. b + n, from their joint log densities (base 2). Cost: a pass over
// the block's K numbers a row, from the caches, and one write of what was asked.
inline void answer(const Pass& p, int64_t b, int64_t n, int64_t padded, const Workspace& w) {
  const Answers& a = p.answers;
  const int64_t components = p.quadratics.components;
  if (a.joint) {
    for (int64_t i = 0; i < padded; i += lanes) store(w.share + i, splat(static_cast<real>(ln2)));
    write_rows(w.joint2, components, n, w.share, a.joint + b * components);
  } else if (a.labels) {
    normalize_hard(w.joint2, components, padded, w.weight, w.label);
    for (int64_t i = 0; i < n; ++i) {
      a.labels[b + i] = static_cast<int32_t>(w.label[i]);
      a.best[b + i] = static_cast<double>(w.joint2[w.label[i] * stride + i]) * ln2;
    }
  } else {
    log2_densities(w.joint2, components, padded, w.top, pruned(p), w.share, w.scratch.weighted);
    for (int64_t i = 0; i < n; ++i) a.density[b + i] = static_cast<double>(w.scratch.weighted[i]) * ln2;
    if (a.resp && a.resp_in_single)
      write_rows(w.joint2, components, n, w.share, static_cast<float*>(a.resp) + b * components);
    else if (a.resp)
      write_rows(w.joint2, components, n, w.share, static_cast<double*>(a.resp) + b * components);
  }
}

// Statistics of the wanted components about their own pivots, from the table's own digits: of a component
// that lies far from the common pivot nothing would be left of its spread. Pairs that do not count are left
// out, so the cost is P a pair that does: one or two a row where components lie far apart.
inline void accumulate_each(const Pass& p, const Statistics& s, int64_t b, int64_t n, const Workspace& w,
                            double* sums) {
  const int64_t components = p.quadratics.components, dims = s.dims, left = p.rows.left.dims;
  const vec least = splat(p.skip ? least_that_counts(components) : real(0));
  const auto add = [&](int64_t k, int64_t i, double r) {
    const double* pivot = p.own_pivots + k * dims;
    for (int64_t d = 0; d < left; ++d) w.row[d] = number(p.rows.left, b + i, d) - pivot[d];
    for (int64_t d = left; d < dims; ++d) w.row[d] = number(p.rows.right, b + i, d - left) - pivot[d];
    add_row(s.kind, dims, w.row, r, sums + k * s.size);
  };
  if (p.hard) {
    for (int64_t i = 0; i < n; ++i)
      if (w.weight[i] != 0.0 && p.wanted[w.label[i]]) add(static_cast<int64_t>(w.label[i]), i, w.weight[i]);
    return;
  }
  for (int64_t k = 0; k < components; ++k) {
    if (!p.wanted[k]) continue;
    const real* resp = w.joint2 + k * stride;
    for (int64_t i = 0; i < n; i += lanes) {
      const ivec counts = load(resp + i) > least;
      if (!any(counts)) continue;
      for (int64_t j = i; j < smaller(i + lanes, n); ++j)
        if (counts[j - i] && w.weight[j] != 0.0)
          add(k, j, static_cast<double>(resp[j]) * static_cast<double>(w.share[j]));
    }
  }
}

// Whether a row costs few multiply-adds for its bytes, so that rows arrive as fast as memory gives them: the
// next block's are then asked for while this one is packed, too.
inline bool arrive_as_read(const Pass& p) {
  const int64_t bytes = p.rows.left.dims * (p.rows.left.single_precision ? 4 : 8);
  return stacked(p.quadratics) > 1 || (p.quadratics.components <= early_components && bytes >= early_bytes);
}

inline void run_blocks(const Pass& p, const void* packed, int64_t begin, int64_t end, double* sums,
                       void* memory) {
  const Statistics s = statistics(p);
  const Quadratics& q = p.quadratics;
  const int64_t components = q.components, dims = p.rows.dims;
  Workspace w;
  set_up(p, s, memory, w);
  const bool features = !has_answers(p) && !p.hard && !p.own_pivots && s.order != Order::plain;
  const Pivot pivot = split_pivot(p, w.exact, w.leading, w.trailing);
  const bool prune = pruned(p);
  const int64_t row_length = features || prune ? row_stride(s) : 0;
  RowSet* active = p.skip && features ? w.active : nullptr;
  const bool early = arrive_as_read(p);
  const bool binned = in_bins(p) || some_in_bins(p, s);
  if (binned) w.bins.clear(components);
  double log2_likelihood = 0.0;
  for (int64_t b = begin; b < end; b += block_rows) {
    const int64_t n = smaller(end - b, block_rows), padded = round_up(n, group_rows);
    const int64_t calls = padded / group_rows * prefetches(q) + (early ? padded / lanes : 0);
    Prefetch ahead(p.rows.left, b + n, smaller(end - b - n, block_rows), calls);
    const bool bounded = prune && w.pruning.resting-- <= 0;
    const Packed out{w.x, features || bounded ? w.rows : nullptr, row_length};
    pack_rows(p.rows, pivot, b, n, padded, out, early ? &ahead : nullptr);
    if (p.sample_weight || b == begin || n < block_rows) {
      for (int64_t i = 0; i < n; ++i) w.weight[i] = p.sample_weight ? p.sample_weight[b + i] : 1.0;
      for (int64_t i = n; i < padded; ++i) w.weight[i] = 0.0;
    }
    if (p.sample_weight) skip_weightless(w.weight, dims, n, out);
    Accumulation a{w.x, w.rows, row_length, w.joint2, w.share, padded, components, nullptr, nullptr};
    if (p.resp) {
      take_responsibilities(p, b, n, padded, w.joint2);
      for (int64_t i = 0; i < padded; ++i) w.share[i] = static_cast<real>(w.weight[i]);
      accumulate_soft(s, a, w.scratch, sums);
      continue;
    }
    const Evaluation evaluation{w.x, padded, w.joint2, w.top, w.transformed, w.zero};
    const auto* form = static_cast<const real*>(packed);
    if (bounded)
      evaluate_bounded(p, form, evaluation, w.pruning, b, n, ahead);
    else
      evaluate(q, form, evaluation, ahead);
    if (p.log_weights && p.log_weights_per_row) {
      add_log_weights(p, b, n, w.joint2);
      find_top(w.joint2, components, padded, w.top);
    }
    if (has_answers(p)) {
      answer(p, b, n, padded, w);
    } else if (p.hard) {
      log2_likelihood += normalize_hard(w.joint2, components, padded, w.weight, w.label);
      if (p.own_pivots)
        accumulate_each(p, s, b, n, w, sums);
      else
        accumulate_hard(s, w, n, sums);
    } else {
      log2_likelihood += normalize_soft(w.joint2, components, padded, w.top, w.weight,
                                        p.sample_weight != nullptr, prune, w.share, active);
      a.active = active;
      a.bins = binned ? &w.bins : nullptr;
      if (p.own_pivots)
        accumulate_each(p, s, b, n, w, sums);
      else
        accumulate_soft(s, a, w.scratch, sums);
    }
  }
  if (binned) w.bins.flush_all(s, components, sums);
  if (!has_answers(p)) sums[components * s.size] += log2_likelihood * ln2;
}

// Which bounds a pass does best to begin with, as far as a few rows tell, at equal distances in the table.
inline Bounds first_bounds(Pass p, const void* packed, void* memory) {
  const int64_t n = smaller(pruning_tries * group_rows, p.rows.count), every = p.rows.count / n;
  p.rows.left.row_stride *= every;
  p.rows.right.row_stride *= every;
  const Statistics s = statistics(p);
  Workspace w;
  set_up(p, s, memory, w);
  const int64_t padded = round_up(n, group_rows);
  pack_rows(p.rows, split_pivot(p, w.exact, w.leading, w.trailing), 0, n, padded,
            Packed{w.x, w.rows, w.pruning.row_stride}, nullptr);
  const Evaluation evaluation{w.x, padded, w.joint2, w.top, w.transformed, w.zero};
  const auto* form = static_cast<const real*>(packed);
  Prefetch none;
  const Quadratics& q = p.quadratics;
  const auto left_by = [&](Bounds bounds) {
    w.pruning.bounds = bounds;
    const Screen* screen = screen_in(p, bounds);
    return screen ? evaluate_screened(p, *screen, form, evaluation, w.pruning, 0, n)
                  : evaluate_pruned(q, form, evaluation, w.pruning, none);
  };
  const auto few = [&](int64_t left, Bounds bounds) { return few_left(left, n, q, bounds); };
  const int64_t pairs = n * q.components;
  const int64_t by_quarter = prunable(q) ? left_by(Bounds::by_quarter) : pairs;
  if (q.factor == Factor::diagonal) {
    if (few(by_quarter, Bounds::by_quarter)) return Bounds::by_quarter;
    return few(left_by(Bounds::by_half), Bounds::by_half) ? Bounds::by_half : Bounds::none;
  }
  const int64_t by_directions = p.directions ? left_by(Bounds::by_directions) : pairs;
  const bool fewer = 100 * (by_quarter - by_directions) > fewer_by_directions * pairs;
  if (fewer && few(by_directions, Bounds::by_directions)) return Bounds::by_directions;
  if (few(by_quarter, Bounds::by_quarter)) return Bounds::by_quarter;
  return p.columns && few(left_by(Bounds::by_columns), Bounds::by_columns) ? Bounds::by_columns
                                                                           : Bounds::none;
}

inline void run(const Pass& p, const void* packed, int64_t begin, int64_t end, double* sums, void* memory) {
  if (nearest_centre(p))
    run_nearest(p, packed, begin, end, sums, memory);
  else
    run_blocks(p, packed, begin, end, sums, memory);
}

constexpr Kernels kernels() {
  return Kernels{packed_bytes, pack,         workspace_bytes,        sums_size,  run,
                 unpack,       pruned,       first_bounds,           directions, screened,
                 screen_of,    screen_bytes, screen_workspace_bytes, pack_screen};
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
