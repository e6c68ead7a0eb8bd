// From joint log densities (base 2) to responsibilities and the log-likelihood.
#pragma once

#include "mixtura/evaluate.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// The largest joint2[k][i] of each row, where evaluation could not see it yet.
inline void find_top(const double* joint2, int64_t components, int64_t rows, int64_t stride, double* top) {
  for (int64_t k = 0; k < components; ++k)
    for (int64_t i = 0; i < rows; i += lanes) {
      const vec value = load(joint2 + k * stride + i);
      store(top + i, k ? max(load(top + i), value) : value);
    }
}

// joint2[k][i] <- 2^(joint2[k][i] - top[i]) for C components, added to total[i].
template <int C>
inline void exponentiate(double* joint2, const double* top, int64_t rows, int64_t stride, double* total) {
  for (int64_t i = 0; i < rows; i += lanes) {
    const vec t = load(top + i);
    vec e[C];
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      e[c] = exp2_nonpositive(load(joint2 + c * stride + i) - t);
      store(joint2 + c * stride + i, e[c]);
    }
    vec s = e[0];
    MIXTURA_UNROLL
    for (int c = 1; c < C; ++c) s += e[c];
    store(total + i, load(total + i) + s);
  }
}

// Soft: joint2[k][i] <- 2^(joint2[k][i] - top[i]); share[i] <- w_i / sum_k of these, so that r_ik = share[i]
// * joint2[k][i] is never formed; returns sum_i w_i log2 p(z_i). One exponential (16 operations) and one
// addition a pair; one logarithm a row.
inline double normalize_soft(double* joint2, int64_t components, int64_t rows, int64_t stride,
                             const double* top, const double* weight, double* share) {
  for (int64_t i = 0; i < rows; i += lanes) store(share + i, vec{});
  constexpr int C = 4;
  int64_t k = 0;
  for (; k + C <= components; k += C) exponentiate<C>(joint2 + k * stride, top, rows, stride, share);
  for (; k < components; ++k) exponentiate<1>(joint2 + k * stride, top, rows, stride, share);
  vec log_likelihood{};
  for (int64_t i = 0; i < rows; i += lanes) {
    const vec total = load(share + i), w = load(weight + i);
    store(share + i, w / total);
    log_likelihood += w * (load(top + i) + log2_positive(total));
  }
  return sum(log_likelihood);
}

// Hard: label[i] <- the first k with the largest joint2[k][i]; returns sum_i w_i max_k joint2[k][i].
inline double normalize_hard(const double* joint2, int64_t components, int64_t rows, int64_t stride,
                             const double* weight, int64_t* label) {
  vec log_likelihood{};
  for (int64_t i = 0; i < rows; i += lanes) {
    vec top = load(joint2 + i);
    ivec best{};
    for (int64_t k = 1; k < components; ++k) {
      const vec value = load(joint2 + k * stride + i);
      const ivec better = value > top;
      best = better ? k - ivec{} : best;
      top = better ? value : top;
    }
    *reinterpret_cast<ivec*>(label + i) = best;
    log_likelihood += load(weight + i) * top;
  }
  return sum(log_likelihood);
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
