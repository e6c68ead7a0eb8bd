#include "mixtura/cholesky.hpp"

#include <algorithm>
#include <atomic>
#include <vector>

#include "mixtura/pool.hpp"

namespace mixtura {

bool inverse_cholesky(const Lapack& lapack, const double* matrices, double* out, int64_t count, int64_t dims,
                      int threads) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> good{true};
  const int limit = threads > 0 ? threads : thread_limit();
  parallel(static_cast<int>(std::min<int64_t>(limit, count)), [&](int) {
    char lower = 'L', general = 'N';
    int n = static_cast<int>(dims), failed = 0;
    std::vector<double> scratch(static_cast<size_t>(dims * dims));
    double* a = scratch.data();
    for (int64_t k; good && (k = next++) < count;) {
      // LAPACK reads columns where we write rows: its lower triangle is our upper one, and L^-1 is U.
      std::copy_n(matrices + k * dims * dims, dims * dims, a);
      lapack.potrf(&lower, &n, a, &n, &failed);
      if (!failed) lapack.trtri(&lower, &general, &n, a, &n, &failed);
      double* to = out + k * dims * dims;
      double finite = 0.0;  // NaN once an infinity or a NaN is multiplied by 0
      for (int64_t row = 0; row < dims; ++row) {
        for (int64_t column = 0; column <= row; ++column) {
          to[row * dims + column] = a[column * dims + row];
          finite += 0.0 * a[column * dims + row];
        }
        std::fill_n(to + row * dims + row + 1, dims - row - 1, 0.0);
      }
      if (failed || finite != 0.0) good = false;
    }
  });
  return good;
}

}  // namespace mixtura
