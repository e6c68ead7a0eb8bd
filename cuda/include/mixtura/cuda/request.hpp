// What callers ask of a table on a device, and what they get: plain data.
#pragma once

#include <stdint.h>

#include "mixtura/cuda/block.hpp"
#include "mixtura/problem.hpp"

namespace mixtura::cuda {

// A pass over some rows; with `labels` (and `best`), most likely components (and their joint log-densities)
// are wanted instead of statistics.
struct Request {
  Pass pass{};
  int64_t begin = 0;  // first row of the table; pass.rows.count says how many
  int32_t* labels = nullptr;
  double* best = nullptr;
  bool fast = false;  // products of matrices on tensor cores, where the device has them
  int threads = 0;    // on the host: 0, the limit in force
};

// Where the statistics of a pass go: masses (K,), first moments (K, D) and second moments (K, ...), as far as
// its kind has them; and its log-likelihood.
struct Totals {
  double *mass = nullptr, *first = nullptr, *second = nullptr;
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
