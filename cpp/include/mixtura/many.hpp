// Many small mixtures: one for each group of rows, each fitted by one thread from start to end.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <functional>

#include "mixtura/problem.hpp"

namespace mixtura {

enum class Outcome : int32_t { converged, not_converged, singular, not_finite, too_few };

// G mixtures of K Gaussians in D columns. Rows are in the groups' order.
struct Many {
  Rows rows;
  const int64_t* offsets;  // (G + 1,) where groups begin and end
  int64_t groups, components;
  Factor form;              // of covariances: triangle (full, tied), diagonal, scalar
  bool tied;                // whether a group's components share one covariance
  double tol;               // as of one fit
  const double* reg_covar;  // (G, D) what is added to the variances of each group
  int64_t max_iter;
  uint64_t seed;
  const int32_t* labels;  // (N,) the first component of each row; null: k-means
  bool started;           // weights, means and covariances hold the first parameters; instead of labels
  double* trace;          // (max_iter,) or null: the bounds of one group, whose run then ends before its last
                          // M-step
  double *weights, *means,
      *covariances;     // (G, K), (G, K, D), (G, C, S) with S = D D, D or 1; C = 1 if tied, else K
  double* bound;        // (G,)  log-likelihood per row
  int32_t* iterations;  // (G,)
  int32_t* outcome;     // (G,)  an Outcome
  int32_t* assigned;    // (N,)  the most likely component of each row, for `assign`

  int64_t covariance_size() const {
    const int64_t D = rows.dims;
    return form == Factor::scalar ? 1 : form == Factor::diagonal ? D : D * D;
  }
  int64_t covariances_of_group() const { return tied ? 1 : components; }
};

struct ManyKernels {
  size_t (*bytes)(const Many&);
  void (*fit)(const Many&, int64_t group, void* memory);
  void (*assign)(const Many&, int64_t group, void* memory);
};

// Cost: for each group, iteration and row K D^2 multiply-adds; nothing is shared between groups, so threads
// take one after the other.
void fit_many(const Many& many, int threads, const std::function<void()>& look = {});

// The most likely component of each row in its group's mixture; -1 in groups whose outcome is a failure.
void assign_many(const Many& many, int threads, const std::function<void()>& look = {});

}  // namespace mixtura
