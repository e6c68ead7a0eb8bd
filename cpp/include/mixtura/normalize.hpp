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

// joint2[k][i] <- 2^(joint2[k][i] - top[i]) for C components, added to total[i]. If anyone asks, finds the
// rows that reach `least`, which is 2^lowest or a little more. Where pairs below it may be left out,
// neighbours that all lie below get zeros.
template <int C, bool finding, bool skipping>
inline void exponentiate(real* joint2, const real* top, int64_t rows, real* total, real least, real lowest,
                         RowSet* active) {
  for (int64_t w = 0; w < RowSet::words; ++w) {
    uint64_t found[C] = {};
    for (int64_t i = 64 * w; i < smaller(64 * (w + 1), rows); i += lanes) {
      const vec t = load(top + i);
      vec e[C];
      MIXTURA_UNROLL
      for (int c = 0; c < C; ++c) e[c] = load(joint2 + c * stride + i) - t;
      if (skipping) {
        ivec some{};
        MIXTURA_UNROLL
        for (int c = 0; c < C; ++c) some |= e[c] > lowest;
        if (!any(some)) {
          MIXTURA_UNROLL
          for (int c = 0; c < C; ++c) store(joint2 + c * stride + i, vec{});
          continue;
        }
      }
      MIXTURA_UNROLL
      for (int c = 0; c < C; ++c) {
        e[c] = exp2_nonpositive(e[c]);
        store(joint2 + c * stride + i, e[c]);
        if (finding) found[c] |= static_cast<uint64_t>(lanes_of(e[c] >= least)) << (i - 64 * w);
      }
      vec s = e[0];
      MIXTURA_UNROLL
      for (int c = 1; c < C; ++c) s += e[c];
      store(total + i, load(total + i) + s);
    }
    for (int c = 0; finding && c < C; ++c) active[c].word[w] = found[c];
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

template <bool finding, bool skipping>
inline void exponentiate_all(real* joint2, int64_t components, int64_t rows, const real* top, real* total,
                             RowSet* active) {
  constexpr int C = exponential_components;
  const real least = least_that_counts(components), lowest = least_exponent(components);
  int64_t k = 0;
  for (; k + C <= components; k += C)
    exponentiate<C, finding, skipping>(joint2 + k * stride, top, rows, total, least, lowest,
                                       finding ? active + k : nullptr);
  for (; k < components; ++k)
    exponentiate<1, finding, skipping>(joint2 + k * stride, top, rows, total, least, lowest,
                                       finding ? active + k : nullptr);
}

// Soft: joint2[k][i] <- 2^(joint2[k][i] - top[i]), or 0 where `skip` says that most pairs do not count and
// this one does not; share[i] <- w_i / sum_k of these, so that r_ik = share[i] * joint2[k][i]; active[k] <-
// the rows in which component k counts, if not null; returns sum_i w_i log2 p(z_i). One exponential, one
// addition and a comparison a pair; a division a row.
inline double normalize_soft(real* joint2, int64_t components, int64_t rows, const real* top,
                             const double* weight, bool weighted, bool skip, real* share, RowSet* active) {
  for (int64_t i = 0; i < rows; i += lanes) store(share + i, vec{});
  if (active && skip)
    exponentiate_all<true, true>(joint2, components, rows, top, share, active);
  else if (active)
    exponentiate_all<true, false>(joint2, components, rows, top, share, active);
  else
    exponentiate_all<false, false>(joint2, components, rows, top, share, nullptr);
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
// joint2[k][i]; density[i] <- log2 of the sum of 2^joint2. With `skip`, joint2 has zeros where pairs do not
// count: worth its branches where most do not.
inline void log2_densities(real* joint2, int64_t components, int64_t rows, const real* top, bool skip,
                           real* share, real* density) {
  for (int64_t i = 0; i < rows; i += lanes) store(share + i, vec{});
  if (skip)
    exponentiate_all<false, true>(joint2, components, rows, top, share, nullptr);
  else
    exponentiate_all<false, false>(joint2, components, rows, top, share, nullptr);
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
