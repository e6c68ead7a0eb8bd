// k-means whole: seeds and Lloyd's iterations, one call for all of them. On a table of a few thousand rows a
// call from Python costs more than a pass.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "mixtura/problem.hpp"

namespace mixtura {

// Why Lloyd's iterations ended: all were made; the centres moved by no more than `tol`; a centre has no rows,
// which whoever called moves elsewhere; a sum is not finite.
enum class LloydEnd : int { limit = 0, converged = 1, empty = 2, not_finite = 3 };

// Lloyd's iterations
//
//   m_k <- sum_{i in k} w_i z_i / sum_{i in k} w_i,   row i in k where |F (z_i - m_k)|^2 is least,
//
// until sum_k |F (m_k' - m_k)|^2 <= tol. A pass costs N K R D multiply-adds. With the distance of the columns
// as they stand, later passes cost less: 12 bytes are remembered of each row, from which it often follows
// that no other centre has come closer than its own, and statistics are changed by the rows that change
// centres (see Memory). Labels are those of whole passes, and the last centres are means of all their rows
// again.
//
// `pass` has the rows, their weights, the pivot and quadratics with one factor F; `means` (K, D), which its
// quadratics point to, holds the first centres and receives the last ones. For each iteration, minus half the
// inertia of the centres before it, over the weight of all rows, goes to `bounds`. An iteration that finds a
// centre without rows, or a sum that is not finite, leaves no trace.
LloydEnd lloyd(Pass pass, double* means, double total_weight, int64_t max_iter, double tol, int threads,
               std::vector<double>& bounds, const std::function<void()>& look);

// Greedy k-means++ (Arthur and Vassilvitskii 2007): each next row is drawn with a chance in proportion to its
// weight times its squared distance to the nearest row drawn so far, and of `trials` draws the one that
// leaves the least sum stays. Costs N K `trials` distances.
//
// `pass` has the rows, their weights and one quadratic with the factor F; `order` (N) is the order
// in which cumulative sums go through the rows; `uniforms` (1 + (K - 1) trials) are the random numbers;
// `chosen` (K) receives the rows.
void seed(Pass pass, const int64_t* order, int64_t components, int64_t trials, const double* uniforms,
          int threads, int64_t* chosen, const std::function<void()>& look);

// What several searches of k-means find, one after the other in each array.
struct Searches {
  double* means;        // (R, K, D)
  int32_t* labels;      // (R, N)  the nearest centre of each row
  double* inertia;      // (R,)
  int32_t* iterations;  // (R,)    of Lloyd's algorithm
  int32_t* ends;        // (R,)    a LloydEnd
};

// R searches, `seed` and then `lloyd`, each on one thread; `uniforms` is (R, 1 + (K - 1) trials). `pass` has
// the rows, their weights, the pivot and one quadratic with the factor F. For tables of few rows.
void searches(const Pass& pass, const int64_t* order, int64_t count, int64_t components, int64_t trials,
              const double* uniforms, double total_weight, int64_t max_iter, double tol, int threads,
              const Searches& found, const std::function<void()>& look);

}  // namespace mixtura
