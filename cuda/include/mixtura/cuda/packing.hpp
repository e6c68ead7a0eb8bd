// Quadratics as the E half's kernels read them: in base 2, about the pivot, stage by stage. Host code.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "mixtura/cuda/evaluate.hpp"
#include "mixtura/cuda/fast.hpp"
#include "mixtura/cuda/nearest.hpp"
#include "mixtura/cuda/parallel.hpp"
#include "mixtura/cuda/wide_accumulate.hpp"
#include "mixtura/cuda/wide_packing.hpp"
#include "mixtura/problem.hpp"

namespace mixtura::cuda {

// c_k = (offset + log weight + b_k . (p - m_k)) in base 2.
template <class T>
std::vector<T> pack_constants(const Pass& pass) {
  std::vector<T> constants(static_cast<size_t>(pass.quadratics.components));
  for (size_t k = 0; k < constants.size(); ++k) {
    const double weight = pass.log_weights && !pass.log_weights_per_row ? pass.log_weights[k] : 0.0;
    double offset = pass.quadratics.offsets[k] + weight;
    if (const double* linear = pass.quadratics.linear) {
      const size_t dims = static_cast<size_t>(pass.quadratics.dims), first = k * dims;
      for (size_t d = 0; d < dims; ++d)
        offset += linear[first + d] * (pass.pivot[d] - pass.quadratics.means[first + d]);
    }
    constants[k] = static_cast<T>(offset * log2e);
  }
  return constants;
}

// b_k in base 2, eight components side by side.
template <class T>
std::vector<typename AddLinear<T>::Weights> pack_linear(const Quadratics& q) {
  constexpr int64_t height = AddLinear<T>::height;
  std::vector<typename AddLinear<T>::Weights> packed(
      static_cast<size_t>((q.components + height - 1) / height * q.dims));
  for (int64_t k = 0; k < q.components; ++k)
    for (int64_t d = 0; d < q.dims; ++d)
      packed[static_cast<size_t>(k / height * q.dims + d)].of[k % height] =
          static_cast<T>(q.linear[k * q.dims + d] * log2e);
  return packed;
}

// Row r of G_k (m_k - p).
inline double bias_of(const Pass& pass, int64_t k, const double* factor_row) {
  const double* mean = pass.quadratics.means + k * pass.quadratics.dims;
  double sum = 0;
  for (int64_t d = 0; d < pass.quadratics.dims; ++d) sum += factor_row[d] * (mean[d] - pass.pivot[d]);
  return sum * root_half_log2e;
}

inline const double* factor_row(const Quadratics& q, int64_t k, int64_t r) {
  return q.factors + ((q.shared ? 0 : k) * q.factor_rows + r) * q.dims;
}

// Triangles and rectangles of their own for each component.
template <class T, int height>
struct PackedFactors {
  using Kernel = EvaluateFactors<T, height>;
  int64_t rows, columns;
  bool triangle;
  std::vector<T> packed, bias;

  PackedFactors(const Pass& pass, int threads) {
    const Quadratics& q = pass.quadratics;
    rows = round_up(q.factor_rows, height);
    columns = round_up(q.dims, height);
    triangle = q.factor == Factor::triangle;
    const int64_t groups = (q.components + Kernel::components - 1) / Kernel::components;
    const int64_t stages = Kernel::stages_of(rows, columns, triangle), bands = rows / height;
    packed.resize(static_cast<size_t>(groups * stages * height * Kernel::places));
    bias.resize(static_cast<size_t>(groups * bands * Kernel::places));
    in_parallel(groups, threads, [&](int64_t group) {
      T* out = packed.data() + group * stages * height * Kernel::places;
      for (int64_t band = 0; band < bands; ++band)
        for (int64_t step = 0; step < (triangle ? band + 1 : columns / height); ++step)
          for (int d = 0; d < height; ++d)
            for (int p = 0; p < Kernel::places; ++p, ++out) {
              const int64_t k = group * Kernel::components + Kernel::component_at(p);
              const int64_t r = band * height + Kernel::row_at(p), column = step * height + d;
              const bool inside = k < q.components && r < q.factor_rows && column < q.dims;
              *out = inside ? static_cast<T>(factor_row(q, k, r)[column] * root_half_log2e) : T(0);
            }
      T* b = bias.data() + group * bands * Kernel::places;
      for (int64_t band = 0; band < bands; ++band)
        for (int p = 0; p < Kernel::places; ++p, ++b) {
          const int64_t k = group * Kernel::components + Kernel::component_at(p);
          const int64_t r = band * height + Kernel::row_at(p);
          *b = k < q.components && r < q.factor_rows ? static_cast<T>(bias_of(pass, k, factor_row(q, k, r)))
                                                     : T(0);
        }
    });
  }
};

// The same for tensor cores: bands of 8 factor rows, steps of 16 columns, words of two numbers.
struct PackedFast {
  using Kernel = EvaluateFactorsFast;
  int64_t bands, steps;
  bool triangle;
  std::vector<uint32_t> packed;
  std::vector<float> bias;

  PackedFast(const Pass& pass, int threads) {
    const Quadratics& q = pass.quadratics;
    bands = (q.factor_rows + Kernel::height - 1) / Kernel::height;
    steps = (q.dims + terms - 1) / terms;
    triangle = q.factor == Factor::triangle;
    const int64_t groups = (q.components + Kernel::components - 1) / Kernel::components;
    const int64_t stages = Kernel::stages_of(bands, steps, triangle);
    packed.resize(static_cast<size_t>(groups * stages * 2 * word_pairs * Kernel::places));
    bias.resize(static_cast<size_t>(groups * bands * Kernel::places));
    in_parallel(groups, threads, [&](int64_t group) {
      uint32_t* out = packed.data() + group * stages * 2 * word_pairs * Kernel::places;
      float* b = bias.data() + group * bands * Kernel::places;
      for (int64_t band = 0; band < bands; ++band) {
        auto number = [&](int p, int64_t column) {
          const int64_t k = group * Kernel::components + p / Kernel::height,
                        r = band * Kernel::height + p % 8;
          const bool inside = k < q.components && r < q.factor_rows && column < q.dims;
          return inside ? static_cast<float>(factor_row(q, k, r)[column] * root_half_log2e) : 0.0f;
        };
        for (int64_t step = 0; step < Kernel::steps_of(band, steps, triangle); ++step) {
          for (int pair = 0; pair < word_pairs; ++pair)
            for (int p = 0; p < Kernel::places; ++p) {
              const int64_t column = step * terms + 2 * pair;
              const Split s = split(number(p, column), number(p, column + 1));
              out[pair * Kernel::places + p] = s.high;
              out[(word_pairs + pair) * Kernel::places + p] = s.low;
            }
          out += 2 * word_pairs * Kernel::places;
        }
        for (int p = 0; p < Kernel::places; ++p, ++b) {
          const int64_t k = group * Kernel::components + p / Kernel::height,
                        r = band * Kernel::height + p % 8;
          *b = k < q.components && r < q.factor_rows
                   ? static_cast<float>(bias_of(pass, k, factor_row(q, k, r)))
                   : 0.0f;
        }
      }
    });
  }
};

// Scales and biases: of scalars and diagonals, or of rows that a shared factor has transformed, where scales
// are 1.
template <class T>
struct PackedElementwise {
  using Kernel = EvaluateElementwise<T>;
  static constexpr int64_t components = Kernel::components;
  bool transformed;
  int64_t width, columns, groups;

  explicit PackedElementwise(const Quadratics& q)
      : transformed(q.factor == Factor::triangle || q.factor == Factor::rectangle),
        width(transformed ? q.factor_rows : q.dims),
        columns(round_up(width, Kernel::depth)),
        groups((q.components + components - 1) / components) {}
  int64_t size() const { return groups * columns * 2 * components; }

  void pack(const Pass& pass, int threads, T* packed) const {
    const Quadratics& q = pass.quadratics;
    in_parallel(groups, size() < in_parallel_from ? 1 : threads, [&](int64_t group) {
      const int64_t first = group * components, count = std::min<int64_t>(components, q.components - first);
      T* out = packed + group * columns * 2 * components;
      std::fill_n(out, columns * 2 * components, T(0));
      for (int64_t d = 0; d < width; ++d, out += 2 * components)
        for (int64_t place = 0; place < count; ++place) {
          const int64_t k = first + place, at = q.shared ? 0 : k;
          double scale = 1.0, bias = 0.0;
          if (transformed) {
            bias = bias_of(pass, k, factor_row(q, 0, d));
          } else {
            scale =
                root_half_log2e * (q.factor == Factor::scalar ? q.factors[at] : q.factors[at * q.dims + d]);
            bias = scale * (q.means[k * q.dims + d] - pass.pivot[d]);
          }
          out[place] = static_cast<T>(scale);
          out[components + place] = static_cast<T>(bias);
        }
    });
  }
};

// Centres of k-means for warpgroups, 128 at a time, and what Decide needs of them.
struct PackedCentresWide {
  using Stage = StreamStage<2>;
  int64_t steps, groups;
  double half_precision, reach = 0, highest = 0;
  std::vector<Stage> packed;
  std::vector<double> centres, across, constants;

  explicit PackedCentresWide(const Pass& pass) {
    const Quadratics& q = pass.quadratics;
    steps = (q.dims + terms - 1) / terms;
    groups = (q.components + stream_places - 1) / stream_places;
    half_precision = 0.5 * q.factors[0] * q.factors[0];
    packed.resize(static_cast<size_t>(groups * steps), Stage{});
    centres.resize(static_cast<size_t>(q.components * q.dims));
    across.resize(centres.size());
    constants.resize(static_cast<size_t>(q.components));
    for (int64_t k = 0; k < groups * stream_places; ++k) {
      Stage* stages = packed.data() + k / stream_places * steps;
      const int64_t place = k % stream_places;
      double height = -3.0e38;
      if (k < q.components) {
        double square = 0;
        for (int64_t d = 0; d < q.dims; ++d) {
          const double m = q.means[k * q.dims + d] - pass.pivot[d];
          square += m * m;
          centres[static_cast<size_t>(k * q.dims + d)] = across[static_cast<size_t>(d * q.components + k)] =
              m;
          const Parts<2> found = parts_of_double<2>(m);
          for (int p = 0; p < 2; ++p)
            stages[d / terms].words[p][d % terms / 8][place].of[d % 8] = found.of[p];
        }
        double& constant = constants[static_cast<size_t>(k)];
        constant = q.offsets[k] + (pass.log_weights ? pass.log_weights[k] : 0.0);
        height = 0.5 * constant / half_precision - 0.5 * square;
        reach = std::max(reach, std::sqrt(square));
        highest = std::max(highest, std::abs(height));
      }
      for (int64_t step = 0; step < steps; ++step) stages[step].numbers[place] = static_cast<float>(height);
    }
  }
};

// Centres of k-means.
template <class T>
struct PackedCentres {
  using Kernel = Nearest<T>;
  int64_t columns;
  double half_precision, reach = 0, highest = 0;
  std::vector<T> packed, heights;
  std::vector<double> centres, constants;

  explicit PackedCentres(const Pass& pass) {
    const Quadratics& q = pass.quadratics;
    columns = round_up(q.dims, Kernel::depth);
    half_precision = 0.5 * q.factors[0] * q.factors[0];
    const int64_t groups = (q.components + Kernel::group - 1) / Kernel::group;
    packed.resize(static_cast<size_t>(groups * columns * Kernel::group));
    heights.assign(static_cast<size_t>(groups * Kernel::group),
                   sizeof(T) == 4 ? T(-3.0e38) : static_cast<T>(-1e308));
    for (int64_t k = 0; k < q.components; ++k) {
      double square = 0;
      for (int64_t d = 0; d < q.dims; ++d) {
        const double m = q.means[k * q.dims + d] - pass.pivot[d];
        square += m * m;
        centres.push_back(m);
        packed[static_cast<size_t>(((k / Kernel::group) * columns + d) * Kernel::group + k % Kernel::group)] =
            static_cast<T>(m);
      }
      constants.push_back(q.offsets[k] + (pass.log_weights ? pass.log_weights[k] : 0.0));
      const double height = 0.5 * constants.back() / half_precision - 0.5 * square;
      heights[static_cast<size_t>(k)] = static_cast<T>(height);
      reach = std::max(reach, std::sqrt(square));
      highest = std::max(highest, std::abs(height));
    }
  }
};

}  // namespace mixtura::cuda
