// What the M half's host part does with many matrices at once, each component by one thread: nothing here is
// more than a few operations a number, and what counts is that large arrays are written once and by all
// processors.
#pragma once

#include <cstdint>

namespace mixtura {

// out (K, D, D): second moments about the means divided by the masses, (S_k - s_k s_k' / n_k) / n_k, from
// packed lower triangles S (K, D (D + 1) / 2), first moments s (K, D) and masses n (K,). Two multiply-adds
// and a division a number.
void covariances(const double* second, const double* first, const double* mass, int64_t count, int64_t dims,
                 double* out, int threads);

// out (K, C, R): each of (K, R, C) transposed.
void transpose(const double* matrices, int64_t count, int64_t rows, int64_t columns, double* out,
               int threads);

// Of factors (K, R, D) and variances v (K, D): the largest sum_d F_krd^2 v_kd, and the least and the largest
// square of a row, sum_d F_krd^2. Two multiply-adds a number. NaN where there is one.
struct Widths {
  double widest, least, largest;
};
Widths widths(const double* factors, const double* variances, int64_t count, int64_t rows, int64_t dims,
              int threads);

}  // namespace mixtura
