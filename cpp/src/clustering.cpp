#include "mixtura/clustering.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "mixtura/driver.hpp"
#include "mixtura/share.hpp"

namespace mixtura {
namespace {

// Calls `look` about every twentieth of a second, between passes that are too short to do it themselves.
class Lookout {
 public:
  explicit Lookout(const std::function<void()>& look) : look_(look), looked_(Clock::now()) {}
  void operator()() {
    if (!look_ || Clock::now() - looked_ < std::chrono::milliseconds(50)) return;
    look_();
    looked_ = Clock::now();
  }

 private:
  using Clock = std::chrono::steady_clock;
  const std::function<void()>& look_;
  Clock::time_point looked_;
};

// |F v|^2.
double squared_length(const Quadratics& q, const double* v) {
  double sum = 0.0;
  if (q.factor == Factor::scalar || q.factor == Factor::diagonal) {
    for (int64_t d = 0; d < q.dims; ++d) {
      const double along = v[d] * q.factors[q.factor == Factor::scalar ? 0 : d];
      sum += along * along;
    }
    return sum;
  }
  for (int64_t r = 0; r < q.factor_rows; ++r) {
    double along = 0.0;
    for (int64_t d = 0; d < q.dims; ++d) along += q.factors[r * q.dims + d] * v[d];
    sum += along * along;
  }
  return sum;
}

double number(const Columns& columns, int64_t i, int64_t d) {
  const int64_t at = i * columns.row_stride + d * columns.column_stride;
  return columns.single_precision ? static_cast<double>(static_cast<const float*>(columns.data)[at])
                                  : static_cast<const double*>(columns.data)[at];
}

void read_row(const Rows& rows, int64_t i, double* out) {
  for (int64_t d = 0; d < rows.left.dims; ++d) out[d] = number(rows.left, i, d);
  for (int64_t d = 0; d < rows.right.dims; ++d) out[rows.left.dims + d] = number(rows.right, i, d);
}

// A point among `count` points (count, D): the middle value of each column. It cannot overflow.
void middle_of(const double* points, int64_t count, int64_t D, double* out) {
  std::vector<double> column(static_cast<size_t>(count));
  for (int64_t d = 0; d < D; ++d) {
    for (int64_t j = 0; j < count; ++j) column[j] = points[j * D + d];
    std::nth_element(column.begin(), column.begin() + count / 2, column.end());
    out[d] = column[count / 2];
  }
}

}  // namespace

LloydEnd lloyd(Pass pass, double* means, double total_weight, int64_t max_iter, double tol, int threads,
               std::vector<double>& bounds, const std::function<void()>& look) {
  const int64_t K = pass.quadratics.components, D = pass.quadratics.dims;
  pass.hard = true;
  pass.kind = Kind::mean;
  pass.quadratics.means = means;
  const int64_t size = statistics_size(pass.kind, D);
  std::vector<double> total(static_cast<size_t>(K * size + 1)), moved(static_cast<size_t>(K * D));
  std::vector<double> shift(static_cast<size_t>(D));
  Lookout lookout(look);
  for (int64_t iteration = 0; iteration < max_iter; ++iteration) {
    lookout();
    run_pass(pass, threads, total.data(), look);
    for (const double value : total)
      if (!std::isfinite(value)) return LloydEnd::not_finite;
    double shifts = 0.0;
    for (int64_t k = 0; k < K; ++k) {
      const double *sums = total.data() + k * size, mass = sums[0];
      if (!(mass > 0.0)) return LloydEnd::empty;
      for (int64_t d = 0; d < D; ++d) {
        moved[k * D + d] = pass.pivot[d] + sums[1 + d] / mass;
        shift[d] = moved[k * D + d] - means[k * D + d];
      }
      shifts += squared_length(pass.quadratics, shift.data());
    }
    std::copy(moved.begin(), moved.end(), means);
    bounds.push_back(total.back() / total_weight);
    if (shifts <= tol) return LloydEnd::converged;
  }
  return LloydEnd::limit;
}

void seed(Pass pass, const int64_t* order, int64_t components, int64_t trials, const double* uniforms,
          int threads, int64_t* chosen, const std::function<void()>& look) {
  const int64_t N = pass.rows.count, D = pass.rows.dims;
  const auto weight = [&](int64_t i) { return pass.sample_weight ? pass.sample_weight[i] : 1.0; };
  std::vector<double> offsets(static_cast<size_t>(trials)), points(static_cast<size_t>(trials * D));
  std::vector<double> closest(static_cast<size_t>(N)), cumulative(static_cast<size_t>(N));
  std::vector<double> distances(static_cast<size_t>(N * trials)), sums(static_cast<size_t>(trials));
  std::vector<int64_t> candidates(static_cast<size_t>(trials));
  std::vector<double> pivot(static_cast<size_t>(D));
  pass.pivot = pivot.data();
  pass.quadratics.offsets = offsets.data();
  pass.quadratics.means = points.data();
  pass.log_weights = nullptr;

  // Squared distances (N, count) of all rows from the points.
  const auto evaluate = [&](int64_t count, std::vector<double>& out) {
    middle_of(points.data(), count, D, pivot.data());
    pass.quadratics.components = count;
    pass.quadratics.shared = count > 1;
    pass.answers.joint = out.data();
    run_pass(pass, threads, nullptr, look);
    for (double& value : out) value *= -2.0;
  };
  // The first row, in order, whose cumulative mass exceeds the draw; this never chooses a row without mass.
  const auto draw = [&](double uniform) {
    const auto first = cumulative.begin(), last = cumulative.end();
    const auto drawn = std::upper_bound(first, last, uniform * cumulative.back());
    return order[std::min(drawn, std::lower_bound(first, last, cumulative.back())) - first];
  };
  const auto accumulate = [&](const auto& mass) {
    double total = 0.0;
    for (int64_t i = 0; i < N; ++i) cumulative[i] = total += mass(order[i]);
    return total;
  };

  accumulate(weight);
  chosen[0] = draw(uniforms[0]);
  read_row(pass.rows, chosen[0], points.data());
  evaluate(1, closest);
  Lookout lookout(look);
  for (int64_t k = 1; k < components; ++k) {
    lookout();
    const double total = accumulate([&](int64_t i) { return weight(i) * closest[i]; });
    // If all distances are 0 there are fewer distinct rows than clusters, and any row will do.
    if (!(total > 0.0)) accumulate(weight);
    for (int64_t j = 0; j < trials; ++j) {
      candidates[j] = draw(uniforms[1 + (k - 1) * trials + j]);
      read_row(pass.rows, candidates[j], points.data() + j * D);
    }
    evaluate(trials, distances);
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t i = 0; i < N; ++i)
      for (int64_t j = 0; j < trials; ++j) {
        double& distance = distances[i * trials + j];
        distance = std::min(distance, closest[i]);
        sums[j] += weight(i) * distance;
      }
    const int64_t best = std::min_element(sums.begin(), sums.end()) - sums.begin();
    chosen[k] = candidates[best];
    for (int64_t i = 0; i < N; ++i) closest[i] = distances[i * trials + best];
  }
}

void searches(const Pass& pass, const int64_t* order, int64_t count, int64_t components, int64_t trials,
              const double* uniforms, double total_weight, int64_t max_iter, double tol, int threads,
              const Searches& found, const std::function<void()>& look) {
  const int64_t N = pass.rows.count, D = pass.rows.dims, K = components;
  share_out(count, threads, 0, look, [&](int64_t r, char*) {
    std::vector<int64_t> chosen(static_cast<size_t>(K));
    std::vector<double> offsets(static_cast<size_t>(K)), best(static_cast<size_t>(N)), bounds;
    double* means = found.means + r * K * D;
    seed(pass, order, K, trials, uniforms + r * (1 + (K - 1) * trials), 1, chosen.data(), {});
    for (int64_t k = 0; k < K; ++k) read_row(pass.rows, chosen[k], means + k * D);
    Pass own = pass;
    own.quadratics.components = K;
    own.quadratics.shared = K > 1;
    own.quadratics.offsets = offsets.data();
    found.ends[r] = static_cast<int32_t>(lloyd(own, means, total_weight, max_iter, tol, 1, bounds, {}));
    found.iterations[r] = static_cast<int32_t>(bounds.size());
    own.quadratics.means = means;
    own.answers.labels = found.labels + r * N;
    own.answers.best = best.data();
    run_pass(own, 1, nullptr);
    double inertia = 0.0;
    for (int64_t i = 0; i < N; ++i)
      inertia -= 2.0 * best[i] * (pass.sample_weight ? pass.sample_weight[i] : 1.0);
    found.inertia[r] = inertia;
  });
}

}  // namespace mixtura
