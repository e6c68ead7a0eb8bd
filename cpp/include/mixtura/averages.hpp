// Mean and standard deviation of a mixture of linear predictions.
//
//   e_k = A_k x + l_k,   mean = sum_k r_k e_k,   deviation^2 = sum_k r_k (v_k + (e_k - mean)^2)
//
// Cost: K R Q multiply-adds a row for R predicted numbers of Q columns, from the row's responsibilities r.
#pragma once

#include "mixtura/derivatives.hpp"
#include "mixtura/parametric.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

inline size_t average_bytes(const AveragePass& p) {
  Arena arena(nullptr);
  arena.take<Lanes>(p.rows.dims);
  arena.take<Lanes>(p.components);
  arena.take<Lanes>(p.components);
  return arena.used();
}

inline void average(const AveragePass& p, int64_t begin, int64_t end, void* memory) {
  Arena arena(memory);
  const int64_t Q = p.rows.dims, K = p.components, R = p.targets;
  Lanes *row = arena.take<Lanes>(Q), *resp = arena.take<Lanes>(K), *each = arena.take<Lanes>(K);
  for (int64_t b = begin; b < end; b += wide_lanes) {
    const int64_t n = smaller(wide_lanes, end - b);
    read_rows(p.rows, b, n, row);
    for (int64_t k = 0; k < K; ++k) {
      resp[k] = Lanes{};
      for (int64_t i = 0; i < n; ++i) resp[k].v[i] = p.resp[(b + i) * K + k];
    }
    for (int64_t t = 0; t < R; ++t) {
      Lanes mean{}, variance{};
      for (int64_t k = 0; k < K; ++k) {
        const double* slope = p.slopes + (k * R + t) * Q;
        Lanes e = lanes_of(p.levels[k * R + t]);
        for (int64_t q = 0; q < Q; ++q) e = e + slope[q] * row[q];
        each[k] = e;
        mean = mean + resp[k] * e;
      }
      for (int64_t k = 0; k < K; ++k) {
        const Lanes away = each[k] - mean;
        variance = variance + resp[k] * (lanes_of(p.variances[k * R + t]) + away * away);
      }
      write_lanes(p.mean + b * R + t, R, n, mean);
      for (int64_t i = 0; i < n; ++i) p.deviation[(b + i) * R + t] = __builtin_sqrt(variance.v[i]);
    }
  }
}

constexpr AverageKernels average_kernels() {
  return AverageKernels{average_bytes, average};
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
