#include "mixtura/many_matrices.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "mixtura/pool.hpp"

namespace mixtura {

namespace {

// Calls task(k) for k < count on all threads.
template <class Task>
void for_each(int64_t count, int threads, Task task) {
  std::atomic<int64_t> next{0};
  const int limit = threads > 0 ? threads : thread_limit();
  parallel(static_cast<int>(std::min<int64_t>(limit, count)), [&](int) {
    for (int64_t k; (k = next++) < count;) task(k);
  });
}

// NaN if one of them is.
double larger(double a, double b) {
  return b > a || b != b ? b : a;
}

}  // namespace

void covariances(const double* second, const double* first, const double* mass, int64_t count, int64_t dims,
                 double* out, int threads) {
  for_each(count, threads, [&](int64_t k) {
    const double* packed = second + k * (dims * (dims + 1) / 2);
    const double* sums = first + k * dims;
    double* matrix = out + k * dims * dims;
    const double n = mass[k];
    for (int64_t i = 0; i < dims; ++i)
      for (int64_t j = 0; j <= i; ++j, ++packed) {
        const double of_means = 0.5 * sums[i] * (sums[j] / n) + sums[i] / n * (0.5 * sums[j]);
        matrix[i * dims + j] = (*packed - of_means) / n;
      }
    for (int64_t i = 0; i < dims; ++i)
      for (int64_t j = 0; j < i; ++j) matrix[j * dims + i] = matrix[i * dims + j];
  });
}

void transpose(const double* matrices, int64_t count, int64_t rows, int64_t columns, double* out,
               int threads) {
  constexpr int64_t side = 8;  // a cache line of each
  for_each(count, threads, [&](int64_t k) {
    const double* from = matrices + k * rows * columns;
    double* to = out + k * rows * columns;
    for (int64_t i = 0; i < rows; i += side)
      for (int64_t j = 0; j < columns; j += side)
        for (int64_t a = i; a < std::min(i + side, rows); ++a)
          for (int64_t b = j; b < std::min(j + side, columns); ++b) to[b * rows + a] = from[a * columns + b];
  });
}

Widths widths(const double* factors, const double* variances, int64_t count, int64_t rows, int64_t dims,
              int threads) {
  std::vector<Widths> found(static_cast<size_t>(count));
  for_each(count, threads, [&](int64_t k) {
    constexpr int64_t lanes = 4;  // sums that do not wait for one another
    Widths w{0.0, std::numeric_limits<double>::infinity(), 0.0};
    for (int64_t r = 0; r < rows; ++r) {
      const double* row = factors + (k * rows + r) * dims;
      const double* v = variances + k * dims;
      double width[lanes] = {}, square[lanes] = {};
      for (int64_t d = 0; d < dims; ++d) {
        const double f = row[d] * row[d];
        width[d % lanes] += f * v[d];
        square[d % lanes] += f;
      }
      const double all = (width[0] + width[1]) + (width[2] + width[3]);
      const double own = (square[0] + square[1]) + (square[2] + square[3]);
      w.widest = larger(w.widest, all);
      w.least = -larger(-w.least, -own);
      w.largest = larger(w.largest, own);
    }
    found[static_cast<size_t>(k)] = w;
  });
  Widths all = found.front();
  for (const Widths& w : found) {
    all.widest = larger(all.widest, w.widest);
    all.least = -larger(-all.least, -w.least);
    all.largest = larger(all.largest, w.largest);
  }
  return all;
}

}  // namespace mixtura
