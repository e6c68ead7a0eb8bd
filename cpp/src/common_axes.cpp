#include "mixtura/common_axes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace mixtura {
namespace {

constexpr double kTiny = std::numeric_limits<double>::min();
constexpr double kPi = 3.14159265358979323846;
// An angle that is too small to be looked for, and the width of a bracket around the present axes.
constexpr double kSmallAngle = 1e-9, kWidth = kPi / 32;

// Phi and its first two derivatives by the angle.
struct At {
  double value, slope, bend;
};

// Two axes: along them, turned by half the angle f, component k's variances have the product a^2 - u^2 with
// u = b cos f + c sin f.
struct Pair {
  const CommonAxes& problem;
  std::vector<double>& parts;  // (K, 4): a, b, c, and n_k, of one volume times the others' product^(1/D)

  Pair(const CommonAxes& problem_, std::vector<double>& parts_, int64_t i, int64_t j)
      : problem(problem_), parts(parts_) {
    const int64_t D = problem.dims;
    for (int64_t k = 0; k < problem.components; ++k) {
      const double* W = problem.matrices + k * D * D;
      double* part = parts.data() + 4 * k;
      part[0] = 0.5 * (W[i * D + i] + W[j * D + j]);
      part[1] = 0.5 * (W[i * D + i] - W[j * D + j]);
      part[2] = W[i * D + j];
      part[3] = problem.mass[k];
      if (!problem.one_volume) continue;
      double others = 0.0;
      for (int64_t d = 0; d < D; ++d)
        if (d != i && d != j) others += std::log(std::max(W[d * D + d], kTiny));
      part[3] *= std::exp(others / static_cast<double>(D));
    }
  }

  At at(double angle) const {
    const double cos = std::cos(angle), sin = std::sin(angle);
    const double p = 1.0 / static_cast<double>(problem.dims);
    At sum{0.0, 0.0, 0.0};
    for (int64_t k = 0; k < problem.components; ++k) {
      const double* part = parts.data() + 4 * k;
      const double u = part[1] * cos + part[2] * sin, v = part[2] * cos - part[1] * sin;
      const double product = std::max(part[0] * part[0] - u * u, kTiny);
      double value = 0.0, first = 0.0, second = 0.0;  // of the product
      if (problem.one_volume) {
        value = part[3] * std::pow(product, p);
        first = p * value / product;
        second = (p - 1.0) * first / product;
      } else {
        value = part[3] * std::log(product);
        first = part[3] / product;
        second = -first / product;
      }
      const double slope = -2.0 * u * v, bend = -2.0 * (v * v - u * u);
      sum.value += value;
      sum.slope += first * slope;
      sum.bend += second * slope * slope + first * bend;
    }
    return sum;
  }

  // The best angle, by Newton's method for a zero of the slope, within a bracket; 0 if it is no better than
  // none.
  double best(int angles, int steps) const {
    const At here = at(0.0);
    double start = 0.0, least = here.value;
    for (int n = 1; n < angles; ++n) {
      const double angle = n * (kPi / angles), value = at(angle).value;
      if (value < least) start = angle, least = value;
    }
    double low = start - kWidth, high = start + kWidth, angle = start;
    for (int step = 0; step < steps; ++step) {
      const At now = angle == 0.0 ? here : at(angle);
      (now.slope < 0.0 ? low : high) = angle;
      const double newton = angle - now.slope / now.bend;
      const double next = now.bend > 0.0 && newton > low && newton < high ? newton : 0.5 * (low + high);
      if (!(std::abs(next - angle) >= kSmallAngle)) break;
      angle = next;
    }
    return at(angle).value < here.value ? angle : 0.0;
  }
};

// What the axes take from -2 log-likelihood, for a unit of mass.
double objective(const CommonAxes& problem) {
  const int64_t D = problem.dims;
  double sum = 0.0, total = 0.0;
  for (int64_t k = 0; k < problem.components; ++k) {
    const double* W = problem.matrices + k * D * D;
    double logs = 0.0;
    for (int64_t d = 0; d < D; ++d) logs += std::log(std::max(W[d * D + d], kTiny));
    total += problem.mass[k];
    sum += problem.mass[k] * (problem.one_volume ? std::exp(logs / static_cast<double>(D)) : logs);
  }
  return problem.one_volume ? static_cast<double>(D) * std::log(std::max(sum / total, kTiny)) : sum / total;
}

// Columns i and j of a matrix (rows, D), times a rotation.
void turn_columns(double* a, int64_t rows, int64_t D, int64_t i, int64_t j, double cos, double sin) {
  for (int64_t row = 0; row < rows; ++row, a += D) {
    const double x = a[i], y = a[j];
    a[i] = cos * x + sin * y;
    a[j] = cos * y - sin * x;
  }
}

void turn_pair(const CommonAxes& problem, int64_t i, int64_t j, double angle) {
  const int64_t D = problem.dims;
  const double cos = std::cos(0.5 * angle), sin = std::sin(0.5 * angle);
  for (int64_t k = 0; k < problem.components; ++k) {
    double* W = problem.matrices + k * D * D;
    turn_columns(W, D, D, i, j, cos, sin);
    for (int64_t d = 0; d < D; ++d) {  // the same of rows i and j
      const double x = W[i * D + d], y = W[j * D + d];
      W[i * D + d] = cos * x + sin * y;
      W[j * D + d] = cos * y - sin * x;
    }
  }
  turn_columns(problem.axes, D, D, i, j, cos, sin);
}

}  // namespace

void turn(const CommonAxes& problem, int sweeps, int angles, int steps, double drop) {
  std::vector<double> parts(static_cast<size_t>(4 * problem.components));
  double now = objective(problem);
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    for (int64_t i = 0; i < problem.dims; ++i)
      for (int64_t j = i + 1; j < problem.dims; ++j) {
        const double angle = Pair(problem, parts, i, j).best(angles, steps);
        if (angle != 0.0) turn_pair(problem, i, j, angle);
      }
    const double last = now;
    now = objective(problem);
    if (!(last - now > drop)) break;
  }
}

}  // namespace mixtura
