#include "mixtura/regressions.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace mixtura {

void scatters(const ScatterProblem& p, double* means, double* about_means) {
  const int64_t K = p.components, D = p.dims, square = D * D;
  const auto mass = [&](int64_t k) { return std::max(p.mass[k], std::numeric_limits<double>::min()); };
  for (int64_t k = 0; k < K; ++k) {
    const double n = mass(k);
    const double* first = p.first + k * D;
    const double* packed = p.second + k * (D * (D + 1) / 2);
    const double* pivot = p.pivot + (p.own_pivots ? k * D : 0);
    double* matrix = about_means + k * square;
    for (int64_t i = 0; i < D; ++i) {
      means[k * D + i] = pivot[i] + first[i] / n;
      for (int64_t j = 0; j <= i; ++j)
        matrix[i * D + j] = matrix[j * D + i] = *packed++ - first[i] / n * first[j];
    }
  }
  double weight = 0.0;
  for (int64_t k = 0; k < K; ++k) weight += mass(k);
  for (int64_t d = 0; d < p.covariates; ++d) {
    double mean = 0.0, total = 0.0;
    for (int64_t k = 0; k < K; ++k) mean += mass(k) / weight * means[k * D + d];
    for (int64_t k = 0; k < K; ++k) {
      const double away = means[k * D + d] - mean;
      total += about_means[k * square + d * D + d] + mass(k) * away * away;
    }
    for (int64_t k = 0; k < K; ++k) {
      double* matrix = about_means + k * square;
      if (!(matrix[d * D + d] <= p.constant * (total / weight) * mass(k))) continue;
      for (int64_t j = 0; j < D; ++j) matrix[d * D + j] = matrix[j * D + d] = 0.0;
    }
  }
}

namespace {

// The inverse of the lower Cholesky factor of a matrix (D, D), over its lower triangle. False if it is not
// definite.
bool invert_factor(double* a, int64_t D) {
  for (int64_t i = 0; i < D; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double sum = a[i * D + j];
      for (int64_t d = 0; d < j; ++d) sum -= a[i * D + d] * a[j * D + d];
      if (i == j && !(sum > 0.0)) return false;
      a[i * D + j] = i == j ? std::sqrt(sum) : sum / a[j * D + j];
    }
  for (int64_t j = 0; j < D; ++j) {
    a[j * D + j] = 1.0 / a[j * D + j];
    for (int64_t i = j + 1; i < D; ++i) {
      double sum = 0.0;
      for (int64_t d = j; d < i; ++d) sum -= a[i * D + d] * a[d * D + j];
      a[i * D + j] = sum / a[i * D + i];
    }
  }
  return true;
}

// The largest sum of absolute values of a row.
double norm(const double* matrix, int64_t D) {
  double largest = 0.0;
  for (int64_t i = 0; i < D; ++i) {
    double sum = 0.0;
    for (int64_t j = 0; j < D; ++j) sum += std::abs(matrix[i * D + j]);
    largest = std::max(largest, sum);
  }
  return largest;
}

}  // namespace

bool solve(const NormalEquations& p, const Slopes& out) {
  const int64_t D = p.dims, M = p.targets;
  std::vector<double> memory(static_cast<size_t>(D * D + D * (M + 1)));
  double *root = memory.data(), *scale = root + D * D, *half = scale + D;
  for (int64_t k = 0; k < p.components; ++k) {
    const double *xx = p.xx + k * D * D, *xy = p.xy + k * D * M;
    double *inverse = out.inverse + k * D * D, *slopes = out.slopes + k * M * D;
    for (int64_t d = 0; d < D; ++d) {
      if (!(xx[d * D + d] > 0.0)) return false;
      scale[d] = std::sqrt(xx[d * D + d]);
    }
    for (int64_t i = 0; i < D; ++i)
      for (int64_t j = 0; j < D; ++j) root[i * D + j] = xx[i * D + j] / (scale[i] * scale[j]);
    const double before = norm(root, D);
    if (!invert_factor(root, D)) return false;
    for (int64_t i = 0; i < D; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0.0;
        for (int64_t d = i; d < D; ++d) sum += root[d * D + i] * root[d * D + j];
        inverse[i * D + j] = inverse[j * D + i] = sum;
      }
    const double condition = before * norm(inverse, D);
    if (!(condition * p.delicate < 1.0)) return false;
    for (int64_t m = 0; m < M; ++m) {
      double explained = 0.0;
      for (int64_t i = 0; i < D; ++i) {
        double sum = 0.0;
        for (int64_t d = 0; d <= i; ++d) sum += root[i * D + d] * (xy[d * M + m] / scale[d]);
        half[i] = sum;
        explained += sum * sum;
      }
      for (int64_t d = 0; d < D; ++d) {
        double sum = 0.0;
        for (int64_t i = d; i < D; ++i) sum += root[i * D + d] * half[i];
        slopes[m * D + d] = sum / scale[d];
      }
      const double lost = p.solved * condition;
      out.explained[k * M + m] = explained;
      out.spoilt[k * M + m] = explained * (lost * lost);
    }
    for (int64_t i = 0; i < D; ++i)
      for (int64_t j = 0; j < D; ++j) inverse[i * D + j] /= scale[i] * scale[j];
  }
  return true;
}

bool regress(const RegressionProblem& p, const Regressions& out) {
  const int64_t K = p.moments.components, whole = p.moments.dims, D = p.moments.covariates, M = whole - D;
  const double* mass = p.moments.mass;
  std::vector<double> memory(static_cast<size_t>(K * (whole * whole + 2 * D * D + D * M + 3 * M)));
  double *about_means = memory.data(), *xx = about_means + K * whole * whole, *inverse = xx + K * D * D,
         *xy = inverse + K * D * D, *explained = xy + K * D * M, *spoilt = explained + K * M,
         *squares = spoilt + K * M;
  scatters(p.moments, out.means, about_means);
  double total = 0.0;
  for (int64_t k = 0; k < K; ++k) total += mass[k];
  // For a tiny mass the inverse of the sums could overflow, so means are used instead.
  const auto divisor = [&](int64_t k) { return std::max(mass[k], std::numeric_limits<double>::min()); };
  for (int64_t k = 0; k < K; ++k)
    for (int64_t i = 0; i < D; ++i) {
      const double* row = about_means + (k * whole + i) * whole;
      for (int64_t j = 0; j < D; ++j) xx[(k * D + i) * D + j] = row[j] / divisor(k);
      for (int64_t m = 0; m < M; ++m) xy[(k * D + i) * M + m] = row[D + m] / divisor(k);
    }
  if (!solve({xx, xy, K, D, M, p.delicate, p.solved}, {out.slopes, inverse, explained, spoilt})) return false;
  const double least_mass = p.empty * total;
  std::vector<double> pooled(static_cast<size_t>(M));
  for (int64_t k = 0; k < K; ++k) {
    out.empty[k] = mass[k] <= least_mass;
    bool delicate = false;
    for (int64_t m = 0; m < M; ++m) {
      const double yy = std::max(about_means[(k * whole + D + m) * whole + D + m], 0.0);
      const double n = divisor(k), left = yy - n * explained[k * M + m];
      const double square = std::max(left, n * spoilt[k * M + m] + p.rounding * yy);
      squares[k * M + m] = square;
      pooled[static_cast<size_t>(m)] += square;
      delicate =
          delicate || square <= std::max(p.nearly_exact * yy, p.near_floor * p.noise_floor[m] * mass[k]);
    }
    out.delicate[k] = delicate && !out.empty[k];
  }
  for (int64_t k = 0; k < K; ++k) {
    const double rows = std::max(divisor(k), least_mass);
    for (int64_t m = 0; m < M; ++m) {
      const double own = p.shared_noise || out.empty[k] ? pooled[static_cast<size_t>(m)] / total
                                                        : squares[k * M + m] / mass[k];
      const double noise = std::max(own, p.noise_floor[m]);
      out.noise[k * M + m] = noise;
      for (int64_t i = 0; i < D * D; ++i)
        out.posterior[(k * M + m) * D * D + i] = inverse[k * D * D + i] / rows * noise;
    }
  }
  return true;
}

void quadratics_of_experts(const double* slopes, const double* noise, int64_t components, int64_t dims,
                           int64_t targets, double* offsets, double* factors) {
  constexpr double two_pi = 6.28318530717958647693;
  const int64_t whole = dims + targets;
  std::fill_n(factors, components * targets * whole, 0.0);
  for (int64_t k = 0; k < components; ++k) {
    double sum = 0.0;
    for (int64_t m = 0; m < targets; ++m) {
      const double variance = noise[k * targets + m], deviation = std::sqrt(variance);
      double* row = factors + (k * targets + m) * whole;
      for (int64_t d = 0; d < dims; ++d) row[d] = -slopes[(k * targets + m) * dims + d] / deviation;
      row[dims + m] = 1.0 / deviation;
      sum += std::log(two_pi * variance);
    }
    offsets[k] = -0.5 * sum;
  }
}

}  // namespace mixtura
