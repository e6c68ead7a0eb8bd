// From joint log densities (base 2) to responsibilities and the log-likelihood.
#pragma once

#include "mixtura/evaluate.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// The largest joint2[k][i] of each row, where evaluation could not see it yet.
inline void find_top(const real* joint2, int64_t components, int64_t rows, real* top) {
  for (int64_t k = 0; k < components; ++k)
    for (int64_t i = 0; i < rows; i += lanes) {
      const vec value = load(joint2 + k * stride + i);
      store(top + i, k ? max(load(top + i), value) : value);
    }
}

// joint2[k][i] <- 2^(joint2[k][i] - top[i]) for C components, added to total[i]; counts in active[k] how many
// reach `least`, if anyone asks.
template <int C, bool counting>
inline void exponentiate(real* joint2, const real* top, int64_t rows, real* total, real least,
                         int64_t* active) {
  ivec count[C];
  MIXTURA_UNROLL
  for (int c = 0; c < C; ++c) count[c] = ivec{};
  for (int64_t i = 0; i < rows; i += lanes) {
    const vec t = load(top + i);
    vec e[C];
    MIXTURA_UNROLL
    for (int c = 0; c < C; ++c) {
      e[c] = exp2_nonpositive(load(joint2 + c * stride + i) - t);
      store(joint2 + c * stride + i, e[c]);
      if (counting) count[c] -= e[c] >= least;
    }
    vec s = e[0];
    MIXTURA_UNROLL
    for (int c = 1; c < C; ++c) s += e[c];
    store(total + i, load(total + i) + s);
  }
  if (!counting) return;
  MIXTURA_UNROLL
  for (int c = 0; c < C; ++c) {
    active[c] = 0;
    for (int j = 0; j < lanes; ++j) active[c] += count[c][j];
  }
}

// sum_i w_i (top[i] + log2 total[i]) over rows of which each has its own weight: one logarithm a row.
inline double weighted_log_likelihood(const real* top, const real* total, const double* weight,
                                      int64_t rows) {
  wide sum_of_logs{};
  for (int64_t i = 0; i < rows; i += wide_lanes)
    sum_of_logs += load_wide(weight + i) * (load_wide(top + i) + log2_positive(load_wide(total + i)));
  return sum(sum_of_logs);
}

// The same where weights are 1, or 0 beyond the table's end: the logarithm of a product of up to 16 totals.
// Each lies between 1 and K, so no product overflows.
inline double plain_log_likelihood(const real* top, const real* total, const double* weight, int64_t rows) {
  wide tops{}, logs{};
  const wide one = wide{} + 1.0;
  for (int64_t begin = 0; begin < rows; begin += 16 * wide_lanes) {
    const int64_t end = smaller(begin + 16 * wide_lanes, rows);
    wide product = one;
    for (int64_t i = begin; i < end; i += wide_lanes) {
      const wide w = load_wide(weight + i);
      tops += w * load_wide(top + i);
      product *= w > 0.0 ? load_wide(total + i) : one;
    }
    logs += log2_positive(product);
  }
  return sum(tops + logs);
}

template <bool counting>
inline void exponentiate_all(real* joint2, int64_t components, int64_t rows, const real* top, real* total,
                             int64_t* active) {
  constexpr int C = exponential_components;
  const real least = least_that_counts(components);
  int64_t k = 0;
  for (; k + C <= components; k += C)
    exponentiate<C, counting>(joint2 + k * stride, top, rows, total, least, counting ? active + k : nullptr);
  for (; k < components; ++k)
    exponentiate<1, counting>(joint2 + k * stride, top, rows, total, least, counting ? active + k : nullptr);
}

// Soft: joint2[k][i] <- 2^(joint2[k][i] - top[i]); share[i] <- w_i / sum_k of these, so that r_ik = share[i]
// * joint2[k][i]; active[k] <- how many rows of component k count, if not null; returns sum_i w_i log2
// p(z_i). One exponential, one addition and a comparison a pair; a division a row.
inline double normalize_soft(real* joint2, int64_t components, int64_t rows, const real* top,
                             const double* weight, bool weighted, real* share, int64_t* active) {
  for (int64_t i = 0; i < rows; i += lanes) store(share + i, vec{});
  if (active)
    exponentiate_all<true>(joint2, components, rows, top, share, active);
  else
    exponentiate_all<false>(joint2, components, rows, top, share, nullptr);
  const double log_likelihood = weighted ? weighted_log_likelihood(top, share, weight, rows)
                                         : plain_log_likelihood(top, share, weight, rows);
  for (int64_t i = 0; i < rows; i += wide_lanes) {
    const wide quotient = load_wide(weight + i) / load_wide(share + i);
    if constexpr (is_double) {
      store_wide(reinterpret_cast<double*>(share + i), quotient);
    } else {
      *reinterpret_cast<half*>(share + i) = __builtin_convertvector(quotient, half);
    }
  }
  return log_likelihood;
}

// joint2[k][i] <- 2^(joint2[k][i] - top[i]); share[i] <- 1 / sum_k of these, so that r_ik = share[i] *
// joint2[k][i]; density[i] <- log2 of the sum of 2^joint2.
inline void log2_densities(real* joint2, int64_t components, int64_t rows, const real* top, real* share,
                           real* density) {
  for (int64_t i = 0; i < rows; i += lanes) store(share + i, vec{});
  exponentiate_all<false>(joint2, components, rows, top, share, nullptr);
  for (int64_t i = 0; i < rows; i += wide_lanes) {
    const wide log2 = load_wide(top + i) + log2_positive(load_wide(share + i));
    for (int j = 0; j < wide_lanes; ++j) density[i + j] = static_cast<real>(log2[j]);
  }
  for (int64_t i = 0; i < rows; i += lanes) store(share + i, splat(1) / load(share + i));
}

// Hard: label[i] <- the first k with the largest joint2[k][i]; returns sum_i w_i max_k joint2[k][i].
inline double normalize_hard(const real* joint2, int64_t components, int64_t rows, const double* weight,
                             integer* label) {
  double log_likelihood = 0.0;
  for (int64_t i = 0; i < rows; i += lanes) {
    vec top = load(joint2 + i);
    ivec best{};
    for (int64_t k = 1; k < components; ++k) {
      const vec value = load(joint2 + k * stride + i);
      const ivec better = value > top;
      best = better ? static_cast<integer>(k) - ivec{} : best;
      top = better ? value : top;
    }
    *reinterpret_cast<ivec*>(label + i) = best;
    for (int j = 0; j < lanes; ++j) log_likelihood += weight[i + j] * static_cast<double>(top[j]);
  }
  return log_likelihood;
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
