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

}  // namespace mixtura
