#include "mixtura/elementwise.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "mixtura/pool.hpp"

namespace mixtura {

namespace {

// The larger one; NaN where one is.
double larger(double a, double b) {
  return a > b || std::isnan(a) ? a : b;
}

// Numbers that take one thread about as long as it takes to wake the others.
constexpr int64_t alone = int64_t{1} << 15;

// Calls task(begin, end) for ranges of components, on all threads where there are many numbers.
template <class Task>
void for_ranges(int64_t components, int64_t dims, int threads, Task task) {
  const int limit = threads > 0 ? threads : thread_limit();
  const int64_t worth = components * dims / alone + 1;
  const int ranges = static_cast<int>(std::min<int64_t>({worth, limit, components}));
  if (ranges <= 1) return task(int64_t{0}, components);
  std::atomic<int> next{0};
  parallel(ranges, [&](int) {
    for (int i; (i = next++) < ranges;) task(components * i / ranges, components * (i + 1) / ranges);
  });
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

bool ratios_of_range(const MomentsView& moments, double floor, double near, double* ratios, int64_t begin,
                     int64_t end) {
  const int64_t dims = moments.dims;
  bool all = true;
  for (int64_t k = begin; k < end; ++k) {
    const double n = std::max(moments.mass[k], std::numeric_limits<double>::min()), inverse = 1.0 / n;
    const double* first = moments.first + k * dims;
    double largest = 0, sum = 0;
    auto look = [&](double variance, double of_mean) {
      double ratio = of_mean / ((variance > 0.0 ? variance : 0.0) + floor);
      if (std::isnan(ratio) || std::isnan(variance)) ratio = 0;
      largest = std::max(largest, ratio);
      sum += ratio;
    };
    if (moments.kind == Kind::trace) {  // one variance for all columns
      double of_means = 0;
      for (int64_t d = 0; d < dims; ++d) of_means += (first[d] * inverse) * (first[d] * inverse);
      of_means /= static_cast<double>(dims);
      const double variance = moments.second[k] * inverse / static_cast<double>(dims) - of_means;
      all = all && of_means * near < variance + floor;
      for (int64_t d = 0; ratios && d < dims; ++d)
        look(variance, (first[d] * inverse) * (first[d] * inverse));
    } else {
      const bool packed = moments.kind == Kind::full;
      const double* second = moments.second + k * (packed ? dims * (dims + 1) / 2 : dims);
      for (int64_t d = 0; d < dims; ++d) {
        const double of_mean = (first[d] * inverse) * (first[d] * inverse);
        const double variance = *second * inverse - of_mean;
        all = all && of_mean * near < variance + floor;
        if (ratios) look(variance, of_mean);
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

bool estimates_of_range(const MomentsView& moments, const double* added, double* covariances,
                        double* cholesky, int64_t begin, int64_t end) {
  bool good = true;
  const int64_t dims = moments.dims;
  for (int64_t k = begin; k < end; ++k) {
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

// One logarithm of a product of mantissas, and a sum of exponents.
double sum_of_logarithms(const double* numbers, int64_t columns) {
  constexpr double ln2 = 0.69314718055994530942;
  double mantissa = 1.0;
  int64_t exponents = 0;
  for (int64_t d = 0; d < columns; ++d) {
    const Scaled number = scaled(numbers[d]);
    if (number.mantissa < 0.0) return std::numeric_limits<double>::quiet_NaN();
    mantissa *= number.mantissa;  // 1/2 to 1, so that 512 of them stay normal
    exponents += number.exponent;
    if (d % 512 == 511) {
      const Scaled product = scaled(mantissa);
      mantissa = product.mantissa;
      exponents += product.exponent;
    }
  }
  return std::log(mantissa) + static_cast<double>(exponents) * ln2;
}

void merge(ElementwiseWidths& found, const ElementwiseWidths& other) {
  found.widest = larger(found.widest, other.widest);
  found.least = -larger(-found.least, -other.least);
  found.largest = larger(found.largest, other.largest);
}

}  // namespace

bool ratios_to_spread(const MomentsView& moments, double floor, double near, double* ratios, int threads) {
  std::atomic<bool> all{true};
  for_ranges(moments.components, moments.dims, threads, [&](int64_t begin, int64_t end) {
    if (!ratios_of_range(moments, floor, near, ratios, begin, end)) all = false;
  });
  return all;
}

bool diagonal_estimates(const MomentsView& moments, const double* added, double* covariances,
                        double* cholesky, int threads) {
  std::atomic<bool> good{true};
  for_ranges(moments.components, moments.dims, threads, [&](int64_t begin, int64_t end) {
    if (!estimates_of_range(moments, added, covariances, cholesky, begin, end)) good = false;
  });
  return good;
}

void means_of(const double* first, const double* mass, const double* pivot, bool own_pivots,
              int64_t components, int64_t dims, double* out, int threads) {
  for_ranges(components, dims, threads, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const double* from = pivot + (own_pivots ? k * dims : 0);
      for (int64_t d = 0; d < dims; ++d) out[k * dims + d] = from[d] + first[k * dims + d] / mass[k];
    }
  });
}

void sums_of_logarithms(const double* numbers, int64_t rows, int64_t columns, double* out, int threads) {
  for_ranges(rows, columns, threads, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) out[k] = sum_of_logarithms(numbers + k * columns, columns);
  });
}

bool any_far(const FactorsView& factors, const double* means, const double* point, int64_t components,
             int64_t dims, double lengths, double distance) {
  std::vector<double> away(static_cast<size_t>(dims));
  const int64_t size = factors.form == Factor::scalar     ? 1
                       : factors.form == Factor::diagonal ? dims
                                                          : factors.rows * dims;
  for (int64_t k = 0; k < components; ++k) {
    double square = 0, length = 0;
    for (int64_t d = 0; d < dims; ++d) {
      const double difference = means[k * dims + d] - point[d];
      away[static_cast<size_t>(d)] = difference;
      square += difference * difference;
    }
    const double* f = factors.factors + (factors.count == 1 ? 0 : k) * size;
    if (factors.form == Factor::scalar) {
      length = f[0] * f[0] * square;
    } else if (factors.form == Factor::diagonal) {
      for (int64_t d = 0; d < dims; ++d)
        length += (f[d] * away[static_cast<size_t>(d)]) * (f[d] * away[static_cast<size_t>(d)]);
    } else {
      for (int64_t r = 0; r < factors.rows; ++r) {
        double turned = 0;
        for (int64_t d = 0; d < dims; ++d) turned += f[r * dims + d] * away[static_cast<size_t>(d)];
        length += turned * turned;
      }
    }
    if (length > lengths && square > distance) return true;
  }
  return false;
}

bool all_finite(const double* numbers, int64_t count) {
  // A finite sum has finite terms. It may overflow although all of them are finite, so they are then looked
  // at.
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += numbers[i];
  return std::isfinite(sum) ||
         std::all_of(numbers, numbers + count, [](double x) { return std::isfinite(x); });
}

ElementwiseWidths elementwise_widths(const double* factors, bool scalar, const double* means,
                                     const double* pivot, const double* around, int64_t components,
                                     int64_t dims, int threads) {
  const ElementwiseWidths none{0.0, std::numeric_limits<double>::infinity(), 0.0};
  ElementwiseWidths found = none;
  std::mutex mutex;
  for_ranges(components, dims, threads, [&](int64_t begin, int64_t end) {
    ElementwiseWidths here = none;
    for (int64_t k = begin; k < end; ++k)
      for (int64_t d = 0; d < dims; ++d) {
        const double away = means[k * dims + d] - pivot[d];
        const double factor = std::abs(factors[scalar ? k : k * dims + d]);
        merge(here, {(around[d] + away * away) * (factor * factor), factor, factor});
      }
    const std::lock_guard<std::mutex> lock(mutex);
    merge(found, here);
  });
  return found;
}

}  // namespace mixtura
