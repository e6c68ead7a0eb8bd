// From joint log densities (base 2) to responsibilities and the log-likelihood.
#pragma once

#include "mixtura/evaluate.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// Soft: joint2[k][i] <- 2^(joint2[k][i] - max_k); share[i] <- w_i / sum_k of these, so that
// r_ik = share[i] * joint2[k][i] is never formed; returns sum_i w_i log2 p(z_i).
// One maximum, one exponential (16 operations) and one addition a pair; one logarithm a row.
inline double normalize_soft(double* joint2, int64_t components, int64_t rows, int64_t stride,
                             const double* weight, double* share) {
  vec log_likelihood{};
  for (int64_t i = 0; i < rows; i += group_rows) {
    vec top[groups], total[groups];
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) top[g] = load(joint2 + i + g * lanes), total[g] = vec{};
    for (int64_t k = 1; k < components; ++k) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) top[g] = max(top[g], load(joint2 + k * stride + i + g * lanes));
    }
    for (int64_t k = 0; k < components; ++k) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        double* at = joint2 + k * stride + i + g * lanes;
        const vec e = exp2_nonpositive(load(at) - top[g]);
        store(at, e);
        total[g] += e;
      }
    }
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      const vec w = load(weight + i + g * lanes);
      store(share + i + g * lanes, w / total[g]);
      log_likelihood += w * (top[g] + log2_positive(total[g]));
    }
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
