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

// sum_i w_i (top[i] + log2 total[i]) over rows of which each has its own weight: one logarithm a row.
inline double weighted_log_likelihood(const double* top, const double* total, const double* weight,
                                      int64_t rows) {
  vec sum_of_logs{};
  for (int64_t i = 0; i < rows; i += lanes)
    sum_of_logs += load(weight + i) * (load(top + i) + log2_positive(load(total + i)));
  return sum(sum_of_logs);
}

// The same where weights are 1, or 0 beyond the table's end: the logarithm of a product of up to 16 totals.
// Each lies between 1 and K, so no product overflows.
inline double plain_log_likelihood(const double* top, const double* total, const double* weight,
                                   int64_t rows) {
  vec tops{}, logs{};
  for (int64_t begin = 0; begin < rows; begin += 16 * lanes) {
    const int64_t end = begin + 16 * lanes < rows ? begin + 16 * lanes : rows;
    vec product = splat(1.0);
    for (int64_t i = begin; i < end; i += lanes) {
      const vec w = load(weight + i);
      tops += w * load(top + i);
      product *= w > 0.0 ? load(total + i) : splat(1.0);
    }
    logs += log2_positive(product);
  }
  return sum(tops + logs);
}

// Soft: joint2[k][i] <- 2^(joint2[k][i] - top[i]); share[i] <- w_i / sum_k of these, so that r_ik = share[i]
// * joint2[k][i] is never formed; returns sum_i w_i log2 p(z_i). One exponential (16 operations) and one
// addition a pair; a division a row.
inline double normalize_soft(double* joint2, int64_t components, int64_t rows, int64_t stride,
                             const double* top, const double* weight, bool weighted, double* share) {
  for (int64_t i = 0; i < rows; i += lanes) store(share + i, vec{});
  constexpr int C = 4;
  int64_t k = 0;
  for (; k + C <= components; k += C) exponentiate<C>(joint2 + k * stride, top, rows, stride, share);
  for (; k < components; ++k) exponentiate<1>(joint2 + k * stride, top, rows, stride, share);
  const double log_likelihood = weighted ? weighted_log_likelihood(top, share, weight, rows)
                                         : plain_log_likelihood(top, share, weight, rows);
  for (int64_t i = 0; i < rows; i += lanes) store(share + i, load(weight + i) / load(share + i));
  return log_likelihood;
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
