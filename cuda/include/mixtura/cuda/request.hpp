// What callers ask of a table on a device, and what they get: plain data.
#pragma once

#include <stdint.h>

#include <memory>

#include "mixtura/cuda/block.hpp"
#include "mixtura/problem.hpp"

namespace mixtura::cuda {

// Matrices that stay on the device of a table, until nobody wants them any more: see kept.hpp.
class Kept;

// A pass over some rows; with `labels` (and `best`), most likely components (and their joint log-densities)
// are wanted instead of statistics.
struct Request {
  Pass pass{};
  int64_t begin = 0;  // first row of the table; pass.rows.count says how many
  int32_t* labels = nullptr;
  double* best = nullptr;
  const Kept* factors = nullptr;  // in place of the quadratics' own, which are triangles and null
  bool fast = false;              // products of matrices on tensor cores, where the device has them
  int threads = 0;                // on the host: 0, the limit in force
};

// Where the statistics of a pass go: masses (K,), first moments (K, D) and second moments (K, ...), as far as
// its kind has them; and its log-likelihood.
//
// With `diagonals` (K, D), second moments of many large components stay on the device, as `kept`, and their
// diagonals and whether all statistics are finite are told; `second` is then left as it is.
struct Totals {
  double *mass = nullptr, *first = nullptr, *second = nullptr;
  double* diagonals = nullptr;
  std::shared_ptr<Kept> kept{};
  bool finite = true;
  double log_likelihood = 0;
};

// Of a column: how many NaN and infinities, the least and the largest of the finite numbers.
struct Finding {
  double nans, infinities, least, largest;

  MIXTURA_BOTH void merge(const Finding& other) {
    nans += other.nans;
    infinities += other.infinities;
    least = other.least < least ? other.least : least;
    largest = other.largest > largest ? other.largest : largest;
  }
};

}  // namespace mixtura::cuda
