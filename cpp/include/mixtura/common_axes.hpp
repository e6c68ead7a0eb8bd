// One orientation for several covariances: the M-step of the families VVE and EVE, which has no closed form.
#pragma once

#include <cstdint>

namespace mixtura {

// Symmetric W_k (K, D, D), given along axes, the columns of a matrix (D, D). With the variances w_kd on its
// diagonals, the axes are to minimise Phi = sum_k n_k sum_d log w_kd or, for ellipses of one volume, sum_k
// n_k prod_d w_kd^(1/D).
struct CommonAxes {
  double* matrices;
  double* axes;
  const double* mass;  // n_k (K)
  int64_t components, dims;
  bool one_volume;
};

// Rotates all pairs of axes, one after the other, each by the angle that lowers Phi most, in so many sweeps
// or until a sweep lowers the log-likelihood's part of it by less than `drop` for each unit of mass. `angles`
// says how many angles the search looks at before Newton's method; with 0 it starts from where the axes are.
//
// A rotation costs K (4 D + 10 (angles + steps)) operations, and a sweep D (D - 1) / 2 rotations.
void turn(const CommonAxes& problem, int sweeps, int angles, int steps, double drop);

}  // namespace mixtura
