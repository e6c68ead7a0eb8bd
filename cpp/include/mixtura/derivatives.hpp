// Derivatives of a mixture's log-density, as plain data that every instruction set's translation unit shares.
// Shapes: N rows, K components, M targets, Q covariates, B coefficients of a target, P parameters.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <functional>

#include "mixtura/problem.hpp"

namespace mixtura {

// The mixture  p(y | x) = sum_k pi_k(x) N(y | C_k [1; x], L_k L_k')  as a function of one vector theta:
//
//   gate          (K - 1) numbers  log(w_k / w_K), or (K - 1) x (1 + Q) for a softmax gate, which is
//                 pi_k(x) proportional to exp(theta_k . [1; x])
//   coefficients  C_k, K x M x B, row by row: an intercept, where there is one, then Q slopes
//   scales        L_k, packed row by row, with the logarithms of the diagonal; for a diagonal the M
//   logarithms,
//                 for a scalar one. Once for all components where they are shared.
//
// A Gaussian mixture has no covariates: its rows are the targets, and its coefficients are the means.
struct Parametric {
  int64_t components, covariates, targets;
  bool intercept, softmax, shared;
  Factor form;  // of L: scalar, diagonal or triangle

  int64_t coefficients() const { return covariates + (intercept ? 1 : 0); }  // B
  int64_t gate_row() const { return softmax ? 1 + covariates : 1; }
  int64_t gate_size() const { return (components - 1) * gate_row(); }
  int64_t coefficient_size() const { return components * targets * coefficients(); }
  int64_t scale_row() const {
    if (form == Factor::scalar) return 1;
    return form == Factor::diagonal ? targets : targets * (targets + 1) / 2;
  }
  int64_t scale_begin() const { return gate_size() + coefficient_size(); }
  int64_t scale_of(int64_t k) const { return scale_begin() + (shared ? 0 : k) * scale_row(); }
  int64_t coefficients_of(int64_t k) const { return gate_size() + k * targets * coefficients(); }
  int64_t size() const { return scale_begin() + (shared ? 1 : components) * scale_row(); }  // P
  int64_t dims() const { return covariates + targets; }                                     // D
};

// One pass over the rows [x; y]. Answers that are null are not computed.
struct DerivativePass {
  Rows rows;
  Parametric shape;
  const double* theta;      // (P,)
  const double* direction;  // (P,) for `tangent`
  const double* weight;     // (N,) for sums; null: all are 1
  double* density;          // (N,)       log p(y | x)
  double* tangent;          // (N,)       its derivative along `direction`
  double* resp;             // (N, K)     responsibilities
  double* scores;           // (N, P)     its gradient with respect to theta
  double* row_gradient;     // (N, D)     its gradient with respect to [x; y]
  double* row_hessian;      // (N, D, D)
};

// What one instruction set offers. Rows `begin` to `end`; `memory` has as many bytes as asked for.
struct DerivativeKernels {
  size_t (*adjoint_bytes)(const DerivativePass&);
  void (*adjoint)(const DerivativePass&, int64_t begin, int64_t end, void* memory);
  size_t (*tangent_bytes)(const DerivativePass&);
  void (*tangent)(const DerivativePass&, int64_t begin, int64_t end, void* memory);
  size_t (*forward_bytes)(const DerivativePass&);
  void (*forward_rows)(const DerivativePass&, int64_t begin, int64_t end, void* memory);
  // sums: value, derivatives along parameters i .. i + directions, along j .. j + directions, second ones.
  void (*forward_sums)(const DerivativePass&, int64_t i, int64_t j, int64_t begin, int64_t end, double* sums,
                       void* memory);
};

// Mean and deviation of linear predictions of R targets, weighted with the rows' responsibilities.
struct AveragePass {
  Rows rows;                      // of Q columns
  int64_t components, targets;    // K, R
  const double* resp;             // (N, K)
  const double *slopes, *levels;  // (K, R, Q), (K, R)
  const double* variances;        // (K, R)
  double *mean, *deviation;       // (N, R)
};

struct AverageKernels {
  size_t (*bytes)(const AveragePass&);
  void (*run)(const AveragePass&, int64_t begin, int64_t end, void* memory);
};

void run_average(const AveragePass& pass, int threads, const std::function<void()>& look = {});

// Parameters whose derivatives are taken together in forward mode.
constexpr int64_t directions = 4;
constexpr int64_t forward_sums_size = 1 + 2 * directions + directions * directions;

// Reverse mode: `density`, `scores`, `row_gradient` and `row_hessian` by adjoints derived by hand. For each
// row K M^2 multiply-adds, and the answers' sizes (for the Hessian K D^2).
void run_adjoint(const DerivativePass& pass, int threads, const std::function<void()>& look = {});

// Forward mode: `density` and `tangent` in one pass of dual numbers, at three times the density's cost.
void run_tangent(const DerivativePass& pass, int threads, const std::function<void()>& look = {});

// Forward mode of second order: `density`, `row_gradient`, `row_hessian` by nested dual numbers.
void run_forward_rows(const DerivativePass& pass, int threads, const std::function<void()>& look = {});

// The same of the weighted sum over the rows with respect to theta: value, gradient (P,), Hessian (P, P). It
// evaluates the rows P^2 / 32 times: a check of the other ways, and for few parameters.
void run_forward_sums(const DerivativePass& pass, int threads, double* value, double* gradient,
                      double* hessian, const std::function<void()>& look = {});

}  // namespace mixtura
