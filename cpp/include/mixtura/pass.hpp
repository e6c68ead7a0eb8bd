// One pass over a range of rows, block by block: pack, evaluate, normalise, accumulate.
#pragma once

#include "mixtura/accumulate.hpp"
#include "mixtura/block.hpp"
#include "mixtura/evaluate.hpp"
#include "mixtura/normalize.hpp"
#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// One vector of padding: columns a power of two apart would fall on the same few cache sets.
MIXTURA_INLINE int64_t block_stride(const Pass& p) {
  return p.block + 8;
}

// The block's arrays, each a row of `stride` doubles, one after another.
struct Workspace {
  double *x, *weighted, *joint2, *transformed, *panel, *top, *weight, *share, *row;
  int64_t* label;
};

inline size_t lay_out(const Pass& p, double* memory, Workspace& w) {
  const int64_t stride = block_stride(p);
  double* at = memory;
  auto take = [&at, stride](int64_t rows) {
    double* here = at;
    at += rows * stride;
    return here;
  };
  const Quadratics& q = p.quadratics;
  const int64_t dims = p.rows.dims;
  const bool statistics = !p.joint;
  w.x = take(dims);
  w.joint2 = take(q.components);
  w.top = take(1);
  w.weight = take(1);
  w.share = take(1);
  w.label = reinterpret_cast<int64_t*>(take(1));
  w.weighted = take(statistics && p.kind != Kind::mass && !p.hard ? dims : 0);
  w.panel = take(statistics && !p.hard ? tile_features : 0);
  const bool shared = q.shared && tiled(q) && !p.resp;
  w.transformed = take(shared ? tiles(q.factor_rows) * tile_rows : 0);
  if (shared && memory) {
    double* zero = at;
    for (int64_t i = 0; i < tiles(q.factor_rows) * tile_rows; ++i) zero[i] = 0.0;
  }
  if (shared) at += (tiles(q.factor_rows) * tile_rows + 7) / 8 * 8;
  w.row = at;
  at += (dims + 7) / 8 * 8;
  return static_cast<size_t>(at - memory);
}

inline size_t workspace_size(const Pass& p) {
  Workspace w;
  return lay_out(p, nullptr, w);
}

// joint2[k][i] += log2 weights of (row, component), from a gate.
inline void add_log_weights(const Pass& p, int64_t begin, int64_t n, int64_t stride, double* joint2) {
  const int64_t components = p.quadratics.components;
  for (int64_t k = 0; k < components; ++k) {
    double* out = joint2 + k * stride;
    const double* in = p.log_weights + begin * components + k;
    for (int64_t i = 0; i < n; ++i) out[i] += in[i * components] * log2e;
  }
}

// A row of weight 0 is read as the pivot: whatever it holds, no infinity of its squares meets that 0.
inline void skip_weightless(const double* weight, int64_t dims, int64_t n, int64_t stride, double* x) {
  for (int64_t i = 0; i < n; ++i)
    if (weight[i] == 0.0)
      for (int64_t d = 0; d < dims; ++d) x[d * stride + i] = 0.0;
}

inline void run(const Pass& p, const double* packed, int64_t begin, int64_t end, double* total,
                double* memory) {
  Workspace w;
  lay_out(p, memory, w);
  const Quadratics& q = p.quadratics;
  const int64_t components = q.components, dims = p.rows.dims, stride = block_stride(p);
  double log2_likelihood = 0.0;
  for (int64_t b = begin; b < end; b += p.block) {
    const int64_t n = end - b < p.block ? end - b : p.block;
    const int64_t padded = (n + group_rows - 1) / group_rows * group_rows;
    pack_rows(p.rows, p.pivot, b, n, padded, stride, w.x);
    for (int64_t i = 0; i < n; ++i) w.weight[i] = p.sample_weight ? p.sample_weight[b + i] : 1.0;
    for (int64_t i = n; i < padded; ++i) w.weight[i] = 0.0;
    if (p.sample_weight) skip_weightless(w.weight, dims, n, stride, w.x);
    if (p.resp) {
      for (int64_t k = 0; k < components; ++k) {
        const double* in = p.resp + b * components + k;
        double* out = w.joint2 + k * stride;
        for (int64_t i = 0; i < padded; ++i) out[i] = i < n ? in[i * components] : 0.0;
      }
      accumulate_soft(p.kind, dims, components, w.x, w.joint2, w.weight, padded, stride, w.weighted, w.panel,
                      total);
      continue;
    }
    // One call per group and component, or four components where factors are elementwise.
    const int64_t calls = padded / group_rows * (components + 3) / (tiled(q) && !q.shared ? 1 : 4);
    Prefetch ahead(p.rows, b + n, end - b - n < p.block ? end - b - n : p.block, calls);
    evaluate(q, packed, w.x, padded, stride, w.transformed, w.joint2, w.top, ahead);
    if (p.log_weights && p.log_weights_per_row) {
      add_log_weights(p, b, n, stride, w.joint2);
      find_top(w.joint2, components, padded, stride, w.top);
    }
    if (p.joint) {
      double* out = p.joint + b * components;
      for (int64_t i = 0; i < n; ++i)
        for (int64_t k = 0; k < components; ++k) out[i * components + k] = w.joint2[k * stride + i] * ln2;
    } else if (p.hard) {
      log2_likelihood += normalize_hard(w.joint2, components, padded, stride, w.weight, w.label);
      accumulate_hard(p.kind, dims, w.x, w.label, w.weight, n, stride, w.row, total);
    } else {
      log2_likelihood += normalize_soft(w.joint2, components, padded, stride, w.top, w.weight,
                                        p.sample_weight != nullptr, w.share);
      accumulate_soft(p.kind, dims, components, w.x, w.joint2, w.share, padded, stride, w.weighted, w.panel,
                      total);
    }
  }
  if (!p.joint) total[components * statistics_size(p.kind, dims)] += log2_likelihood * ln2;
}

constexpr Kernels kernels(const char* name) {
  return Kernels{name, MIXTURA_VECTOR_BYTES, packed_size, pack, workspace_size, run};
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
