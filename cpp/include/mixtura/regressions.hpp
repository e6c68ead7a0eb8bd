// The M-step of linear experts: least squares from moments, for tables so short that a call costs more than
// its work.
#pragma once

#include <cstdint>

namespace mixtura {

// Of K components: masses (K), sums of z - pivot (K, D), packed sums of its products, and one pivot (D) or
// one for each.
struct ScatterProblem {
  const double *mass, *first, *second, *pivot;
  bool own_pivots;
  int64_t components, dims;
  int64_t covariates;  // columns before the targets
  double constant;     // share of its variance in the table up to which a covariate counts as constant
};

// Means (K, D), and (K, D, D) sums of products about them, S_k = second_k - n_k m_k m_k' with m_k = first_k /
// n_k; rows and columns of covariates that are constant there are 0. Cost: K D^2.
void scatters(const ScatterProblem& p, double* means, double* about_means);

// Of K components: sums of products xx (K, D, D) of the covariates, and with M targets xy (K, D, M).
struct NormalEquations {
  const double *xx, *xy;
  int64_t components, dims, targets;
  double delicate;  // of the least eigenvalue of correlations over the largest, where the slopes lose digits
  double solved;    // relative error of slopes along a direction, times its eigenvalue
};

// Slopes (K, M, D) with xx W' = xy, inverses of xx (K, D, D), and by target (K, M) the squares that the
// slopes explain and that their rounding may leave. With standardised columns, xx = s C s, C = L L': W' =
// s^-1 L^-T (L^-1 s^-1 xy). False if a matrix is not definite, or nearly so. Cost: K (2 D^3 / 3 + D^2 M).
struct Slopes {
  double *slopes, *inverse, *explained, *spoilt;
};
bool solve(const NormalEquations& p, const Slopes& out);

}  // namespace mixtura
