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

// The whole M-step of K experts that have intercepts and no priors.
struct RegressionProblem {
  ScatterProblem moments;     // of z = [x; y]; M targets are the columns after the covariates
  double delicate, solved;    // as of NormalEquations
  const double* noise_floor;  // (M) least variance of the noise
  bool shared_noise;          // one noise for all experts
  double rounding;            // share of a sum of squares that is rounding
  double nearly_exact;  // share of a sum of squares, and multiple of the floor, up to which what regressions
  double near_floor;    // leave is rounding
  double empty;         // share of the mass up to which an expert has no rows
};

// Means (K, D + M), slopes (K, M, D), noise (K, M), covariances of the slopes (K, M, D, D), and by expert (K)
// whether residuals hold too few digits, and whether it has no rows. False if columns depend on each other,
// or nearly so.
struct Regressions {
  double *means, *slopes, *noise, *posterior;
  bool *delicate, *empty;
};
bool regress(const RegressionProblem& p, const Regressions& out);

// What K experts evaluate, as quadratics of z = [x; y]: log-densities c_k at their means, (K), and factors
// (K, M, D + M) with rows [-w_m | e_m] over the noise's deviation.
void quadratics_of_experts(const double* slopes, const double* noise, int64_t components, int64_t dims,
                           int64_t targets, double* offsets, double* factors);

}  // namespace mixtura
