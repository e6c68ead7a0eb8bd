#include "mixtura/cholesky.hpp"

#include <algorithm>
#include <atomic>

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
    for (int64_t k; good && (k = next++) < count;) {
      // LAPACK reads columns where we write rows: its lower triangle is our upper one, and L^-1 is U.
      double* a = out + k * dims * dims;
      std::copy_n(matrices + k * dims * dims, dims * dims, a);
      lapack.potrf(&lower, &n, a, &n, &failed);
      if (!failed) lapack.trtri(&lower, &general, &n, a, &n, &failed);
      double finite = 0.0;  // NaN once an infinity or a NaN is multiplied by 0
      for (int64_t row = 0; row < dims; ++row) {
        std::fill_n(a + row * dims, row, 0.0);
        for (int64_t column = row; column < dims; ++column) finite += 0.0 * a[row * dims + column];
      }
      if (failed || finite != 0.0) good = false;
    }
  });
  return good;
}

}  // namespace mixtura
