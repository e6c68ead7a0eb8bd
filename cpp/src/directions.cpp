#include "mixtura/directions.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mixtura {

namespace {

// Precisions are averaged over as many components as take about so many operations, evenly chosen, at least
// the second number of them.
constexpr double averaging_operations = 4e6;
constexpr int64_t averaged_least = 4;

// Products with the means' scatter until the directions have settled: their order matters little.
constexpr int rounds = 6;

// How much shorter a row of H_k may become when those before it are taken out of it, for its direction to
// keep digits enough for single precision.
constexpr double few_digits = 1e-7;

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// The components' shares of the rows, up to a common factor, as far as the pass knows them.
std::vector<double> shares_of(const Pass& pass) {
  const int64_t K = pass.quadratics.components;
  std::vector<double> shares(static_cast<size_t>(K), 1.0);
  if (!pass.log_weights || pass.log_weights_per_row) return shares;
  const double largest = *std::max_element(pass.log_weights, pass.log_weights + K);
  for (int64_t k = 0; k < K; ++k) shares[k] = std::exp(pass.log_weights[k] - largest);
  return shares;
}

// out (D, D) <- the lower Cholesky factor of the average precision; false if it is not definite.
bool average_factor(const Quadratics& q, const std::vector<double>& shares, std::vector<double>& out) {
  const int64_t D = q.dims, K = q.components;
  const double each = static_cast<double>(D * D * D) / 3.0;
  const auto affordable = static_cast<int64_t>(averaging_operations / each);
  const int64_t wanted = std::min(K, std::max(averaged_least, affordable)), every = K / wanted;
  out.assign(static_cast<size_t>(D * D), 0.0);
  double* P = out.data();
  for (int64_t k = 0; k < wanted; ++k) {
    const double* F = q.factors + k * every * D * D;
    for (int64_t r = 0; r < D; ++r)
      for (int64_t i = 0; i <= r; ++i) {
        const double f = shares[k * every] * F[r * D + i];
        for (int64_t j = 0; j <= i; ++j) P[i * D + j] += f * F[r * D + j];
      }
  }
  for (int64_t i = 0; i < D; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      const double left = P[i * D + j] - dot(P + i * D, P + j * D, j);
      if (i > j) {
        P[i * D + j] = left / P[j * D + j];
      } else {
        if (!(left > 0.0)) return false;
        P[i * D + i] = std::sqrt(left);
      }
    }
  return true;
}

// Makes the rows (n, length) orthonormal, one after the other; rows without anything new become 0.
void orthonormalize(double* rows, int64_t n, int64_t length) {
  for (int64_t i = 0; i < n; ++i) {
    double* row = rows + i * length;
    const double before = dot(row, row, length);
    for (int twice = 0; twice < 2; ++twice)
      for (int64_t j = 0; j < i; ++j) {
        const double along = dot(row, rows + j * length, length);
        for (int64_t d = 0; d < length; ++d) row[d] -= along * rows[j * length + d];
      }
    const double after = dot(row, row, length);
    const double scale = after > 1e-24 * before ? 1.0 / std::sqrt(after) : 0.0;
    for (int64_t d = 0; d < length; ++d) row[d] *= scale;
  }
}

// U (q, D): the leading principal axes of points (K, D), by orthogonal iteration from axes that are far
// apart.
void principal_axes(const std::vector<double>& points, int64_t K, int64_t D, int64_t q,
                    std::vector<double>& U) {
  std::vector<double> next(static_cast<size_t>(q * D));
  U.assign(static_cast<size_t>(q * D), 0.0);
  // Sums of the points with signs of their own.
  for (int64_t j = 0; j < q; ++j)
    for (int64_t k = 0; k < K; ++k) {
      const double sign = (static_cast<uint64_t>(k + 1) * (j + 1) * 0x9e3779b97f4a7c15u) >> 63 ? 1.0 : -1.0;
      for (int64_t d = 0; d < D; ++d) U[j * D + d] += sign * points[k * D + d];
    }
  for (int round = 0; round < rounds; ++round) {
    orthonormalize(U.data(), q, D);
    std::fill(next.begin(), next.end(), 0.0);
    for (int64_t k = 0; k < K; ++k)
      for (int64_t j = 0; j < q; ++j) {
        const double along = dot(U.data() + j * D, points.data() + k * D, D);
        for (int64_t d = 0; d < D; ++d) next[j * D + d] += along * points[k * D + d];
      }
    U.swap(next);
  }
  orthonormalize(U.data(), q, D);
}

// The inverse of L_k, of H_k = A F_k^-1 = L_k Q_k. `rows` (q, D) holds A, and is overwritten.
void inverse_root(const double* F, int64_t D, int64_t q, double* rows, double* root, double* out) {
  // rows F = A, from the last column on: one column of all rows at a time.
  for (int64_t i = D - 1; i >= 0; --i)
    for (int64_t r = 0; r < q; ++r) {
      double* h = rows + r * D;
      const double value = h[i] /= F[i * D + i];
      for (int64_t j = 0; j < i; ++j) h[j] -= value * F[i * D + j];
    }
  std::fill_n(root, q * q, 0.0);
  std::fill_n(out, q * q, 0.0);
  for (int64_t r = 0; r < q; ++r) {
    double* h = rows + r * D;
    const double before = std::sqrt(dot(h, h, D));
    for (int twice = 0; twice < 2; ++twice)
      for (int64_t s = 0; s < r; ++s) {
        const double along = dot(h, rows + s * D, D);
        root[r * q + s] += along;
        for (int64_t d = 0; d < D; ++d) h[d] -= along * rows[s * D + d];
      }
    const double after = std::sqrt(dot(h, h, D));
    if (!(after > few_digits * before) || !(before - before == 0.0)) return;
    root[r * q + r] = after;
    for (int64_t d = 0; d < D; ++d) h[d] /= after;
    // Row r of the inverse, of which the rows before are known.
    double* inverse = out + r * q;
    for (int64_t s = 0; s < r; ++s)
      for (int64_t t = 0; t <= s; ++t) inverse[t] -= root[r * q + s] * out[s * q + t];
    for (int64_t t = 0; t < r; ++t) inverse[t] /= after;
    inverse[r] = 1.0 / after;
  }
}

}  // namespace

Directions leading_directions(const Pass& pass, int64_t count) {
  const Quadratics& q = pass.quadratics;
  const int64_t D = q.dims, K = q.components;
  Directions out{count, std::vector<double>(static_cast<size_t>(count * D)),
                 std::vector<double>(static_cast<size_t>(K * count)),
                 std::vector<double>(static_cast<size_t>(K * count * count))};
  const std::vector<double> shares = shares_of(pass);
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<double> L, whitened(static_cast<size_t>(K * D)), axes, center(static_cast<size_t>(D));
  if (!average_factor(q, shares, L)) return out;
  for (int64_t k = 0; k < K; ++k)
    for (int64_t d = 0; d < D; ++d) center[d] += shares[k] / total * q.means[k * D + d];
  // L' (m - c), weighted, and later A = U L'.
  for (int64_t k = 0; k < K; ++k)
    for (int64_t i = 0; i < D; ++i) {
      const double away = std::sqrt(shares[k]) * (q.means[k * D + i] - center[i]);
      for (int64_t j = 0; j <= i; ++j) whitened[k * D + j] += L[i * D + j] * away;
    }
  principal_axes(whitened, K, D, count, axes);
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < D; ++i) out.map[r * D + i] = dot(axes.data() + r * D, L.data() + i * D, i + 1);
  std::vector<double> rows(static_cast<size_t>(count * D)), root(static_cast<size_t>(count * count)),
      away(static_cast<size_t>(D));
  for (int64_t k = 0; k < K; ++k) {
    for (int64_t d = 0; d < D; ++d) away[d] = q.means[k * D + d] - pass.pivot[d];
    for (int64_t r = 0; r < count; ++r)
      out.means[k * count + r] = dot(out.map.data() + r * D, away.data(), D);
    rows = out.map;
    inverse_root(q.factors + k * D * D, D, count, rows.data(), root.data(),
                 out.factors.data() + k * count * count);
  }
  return out;
}

Quadratics along(const Directions& directions, const Quadratics& quadratics) {
  Quadratics q = quadratics;
  q.dims = q.factor_rows = directions.count;
  q.means = directions.means.data();
  q.factors = directions.factors.data();
  return q;
}

}  // namespace mixtura
