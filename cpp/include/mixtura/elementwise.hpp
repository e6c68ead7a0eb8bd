// What the host asks of moments and of diagonal covariances between two passes, each in one reading and
// without arrays for what is between: with a thousand components of a hundred columns, a dozen of these would
// take longer than a device's pass over the rows.
#pragma once

#include <cstdint>

#include "mixtura/problem.hpp"

namespace mixtura {

// Moments of K components about a pivot: masses n (K,), first moments s (K, D), and second moments as `kind`
// says, their trace (K,), diagonals (K, D) or packed lower triangles (K, D (D + 1) / 2).
struct MomentsView {
  Kind kind;
  int64_t components, dims;
  const double *mass, *first, *second;
};

// Of each component, for the ratios (s_d / n)^2 / (v_d + floor) of means to variances v: the largest and the
// sum over the columns, (K, 2); 0 for components without mass, and for what is not a number. Returns whether
// all squared means are below `near` times the variances (with the floor): false if one is not a number.
// `ratios` may be null.
bool ratios_to_spread(const MomentsView& moments, double floor, double near, double* ratios, int threads);

// Variances (S_d - s_d s_d / n) / n + a_d and one over their roots, (K, D) each. False if one is not
// positive, or its inverse not finite.
bool diagonal_estimates(const MomentsView& moments, const double* added, double* covariances,
                        double* cholesky, int threads);

// out (K, D): pivots p (D,), or (K, D) of each component, plus first moments over masses.
void means_of(const double* first, const double* mass, const double* pivot, bool own_pivots,
              int64_t components, int64_t dims, double* out, int threads);

// out (K,): the sums of the logarithms of each of K rows of D numbers; NaN where one is negative. One
// logarithm a row: products of mantissas, and sums of exponents.
void sums_of_logarithms(const double* numbers, int64_t rows, int64_t columns, double* out, int threads);

// Of factors (K, D), or (K,) with one for all columns: the largest (a_d + (m_kd - p_d)^2) f_kd^2, and the
// least and the largest |f_kd|; NaN where there is one.
struct ElementwiseWidths {
  double widest, least, largest;
};
ElementwiseWidths elementwise_widths(const double* factors, bool scalar, const double* means,
                                     const double* pivot, const double* around, int64_t components,
                                     int64_t dims, int threads);

// Whether a component's mean m lies so far from a point p that what is summed about it loses digits: |F (m -
// p)|^2 is above `lengths` and |m - p|^2 above `distance`. Factors are scalars (K,), diagonals (K, D), or
// matrices (K, R, D); a first axis of 1 is one factor for all.
struct FactorsView {
  Factor form;
  const double* factors;
  int64_t count, rows;
};
bool any_far(const FactorsView& factors, const double* means, const double* point, int64_t components,
             int64_t dims, double lengths, double distance);

// Whether all numbers are finite.
bool all_finite(const double* numbers, int64_t count);

}  // namespace mixtura
