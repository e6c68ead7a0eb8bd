#include "mixtura/elementwise.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace mixtura {

namespace {

// The larger one; NaN where one is.
double larger(double a, double b) {
  return a > b || std::isnan(a) ? a : b;
}

// A positive number as mantissa, 1/2 to 1, times a power of two: std::frexp, which takes a call.
struct Scaled {
  double mantissa;
  int exponent;
};
Scaled scaled(double x) {
  uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  const int exponent = static_cast<int>(bits >> 52);
  Scaled found{x, 0};
  if (exponent <= 0 || exponent >= 0x7ff) {  // zero, subnormal, negative, infinite or no number
    found.mantissa = std::frexp(x, &found.exponent);
    return found;
  }
  bits = (bits & ((uint64_t{1} << 52) - 1)) | (uint64_t{1022} << 52);
  std::memcpy(&found.mantissa, &bits, sizeof bits);
  found.exponent = exponent - 1022;
  return found;
}

}  // namespace

bool ratios_to_spread(const MomentsView& moments, double floor, double near, double* ratios) {
  const int64_t dims = moments.dims;
  bool all = true;
  for (int64_t k = 0; k < moments.components; ++k) {
    const double n = std::max(moments.mass[k], std::numeric_limits<double>::min()), inverse = 1.0 / n;
    const double* first = moments.first + k * dims;
    double largest = 0, sum = 0;
    auto look = [&](double about_pivot, double of_mean) {
      const double variance = about_pivot - of_mean;
      all = all && of_mean * near < variance + floor;
      if (!ratios) return;
      double ratio = of_mean / ((variance > 0.0 ? variance : 0.0) + floor);
      if (std::isnan(ratio) || std::isnan(variance)) ratio = 0;
      largest = std::max(largest, ratio);
      sum += ratio;
    };
    if (moments.kind == Kind::trace) {
      double square = 0;
      for (int64_t d = 0; d < dims; ++d) square += (first[d] * inverse) * (first[d] * inverse);
      look(moments.second[k] * inverse / static_cast<double>(dims), square / static_cast<double>(dims));
    } else {
      const bool packed = moments.kind == Kind::full;
      const double* second = moments.second + k * (packed ? dims * (dims + 1) / 2 : dims);
      for (int64_t d = 0; d < dims; ++d) {
        const double mean = first[d] * inverse;
        look(*second * inverse, mean * mean);
        second += packed ? d + 2 : 1;
      }
    }
    if (!ratios) continue;
    const bool counts = moments.mass[k] > 0.0;
    ratios[2 * k] = counts ? largest : 0.0;
    ratios[2 * k + 1] = counts && std::isfinite(largest) ? sum : 0.0;
  }
  return all;
}

bool diagonal_estimates(const MomentsView& moments, const double* added, double* covariances,
                        double* cholesky) {
  bool good = true;
  const int64_t dims = moments.dims;
  for (int64_t k = 0; k < moments.components; ++k) {
    const double n = moments.mass[k];
    const double *first = moments.first + k * dims, *second = moments.second + k * dims;
    double *variance = covariances + k * dims, *root = cholesky + k * dims;
    for (int64_t d = 0; d < dims; ++d) variance[d] = (second[d] - first[d] * (first[d] / n)) / n + added[d];
    for (int64_t d = 0; d < dims; ++d) root[d] = 1.0 / std::sqrt(variance[d]);
    for (int64_t d = 0; d < dims; ++d)
      good = good && variance[d] > 0.0 && root[d] * root[d] <= std::numeric_limits<double>::max();
  }
  return good;
}

void sums_of_logarithms(const double* numbers, int64_t rows, int64_t columns, double* out) {
  constexpr double ln2 = 0.69314718055994530942;
  for (int64_t k = 0; k < rows; ++k, numbers += columns) {
    double mantissa = 1.0;
    int64_t exponents = 0;
    for (int64_t d = 0; d < columns; ++d) {
      const Scaled number = scaled(numbers[d]);
      mantissa *= number.mantissa;  // 1/2 to 1, so that 512 of them stay normal
      exponents += number.exponent;
      if (d % 512 == 511) {
        const Scaled product = scaled(mantissa);
        mantissa = product.mantissa;
        exponents += product.exponent;
      }
    }
    out[k] = std::log(mantissa) + static_cast<double>(exponents) * ln2;
  }
}

ElementwiseWidths elementwise_widths(const double* factors, bool scalar, const double* means,
                                     const double* pivot, const double* around, int64_t components,
                                     int64_t dims) {
  ElementwiseWidths found{0.0, std::numeric_limits<double>::infinity(), 0.0};
  for (int64_t k = 0; k < components; ++k)
    for (int64_t d = 0; d < dims; ++d) {
      const double away = means[k * dims + d] - pivot[d];
      const double factor = std::abs(factors[scalar ? k : k * dims + d]);
      found.widest = larger(found.widest, (around[d] + away * away) * (factor * factor));
      found.least = -larger(-found.least, -factor);
      found.largest = larger(found.largest, factor);
    }
  return found;
}

}  // namespace mixtura
