#include "mixtura/clustering.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "mixtura/driver.hpp"
#include "mixtura/pool.hpp"
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

// Rows for each centre from which on the centres' distances from each other cost little beside a pass.
constexpr int64_t centres_apart = 256;

// What k-means remembers of a table's rows, and the statistics that follow from it: whole ones at first, then
// what changes.
class Remembered {
 public:
  Remembered(Pass& pass, int threads, const std::function<void()>& look)
      : pass_(pass),
        threads_(threads),
        look_(look),
        components_(pass.quadratics.components),
        dims_(pass.quadratics.dims),
        size_(statistics_size(Kind::mean, dims_)),
        usable_(skipping() && components_ > 1 && nearest_centre(pass) && no_constants(pass)) {
    if (!usable_) return;
    const auto rows = static_cast<size_t>(pass.rows.count);
    nearest_.reset(new float[rows]);
    others_.reset(new float[rows]);
    labels_.reset(new int32_t[rows]);
    moved_.resize(static_cast<size_t>(components_));
    half_.resize(static_cast<size_t>(components_));
    memory_.nearest = nearest_.get();
    memory_.others = others_.get();
    memory_.labels = labels_.get();
    memory_.moved = moved_.data();
    memory_.half = half_.data();
    memory_.part = Memory::all;
    pass.memory = &memory_;
  }

  // K x [mass | sums of z - pivot], and the log-likelihood, of all rows under the present centres.
  void take(std::vector<double>& total) {
    if (!usable_ || memory_.part == Memory::all) {
      run_pass(pass_, threads_, total.data(), look_);
      return;
    }
    std::vector<double> change(total.size());
    run_pass(pass_, threads_, change.data(), look_);
    for (size_t i = 0; i < total.size(); ++i) total[i] += change[i];
    // Of a centre that has lost nearly all its rows, sums of what came and went may hold no digits.
    double mass = 0.0;
    for (int64_t k = 0; k < components_; ++k) mass += total[k * size_];
    for (int64_t k = 0; k < components_; ++k)
      if (!(total[k * size_] > 1e-9 * mass / static_cast<double>(components_))) return recount(total);
  }

  // The same once more, as a sum over all rows, which what comes and goes leaves without some of its last
  // digits.
  void recount(std::vector<double>& total) {
    if (!usable_ || memory_.part == Memory::all) return;
    const Memory::Part before = std::exchange(memory_.part, Memory::recount);
    run_pass(pass_, threads_, total.data(), look_);
    memory_.part = before;
  }

  // The centres have moved so far, (K), to the means of their rows. That lowers the sum of squared distances
  // by sum_k n_k |m_k' - m_k|^2.
  void centres_moved(const std::vector<double>& distances, std::vector<double>& total) {
    if (!usable_) return;
    const double half_scale = 0.5 * pass_.quadratics.factors[0] * pass_.quadratics.factors[0];
    for (int64_t k = 0; k < components_; ++k)
      total.back() += half_scale * total[k * size_] * distances[k] * distances[k];
    memory_.part = Memory::changes;
    memory_.fastest = std::max_element(distances.begin(), distances.end()) - distances.begin();
    memory_.next = 0.0f;
    for (int64_t k = 0; k < components_; ++k) {
      moved_[k] = static_cast<float>(distances[k] * (1.0 + 1e-6));
      if (k != memory_.fastest) memory_.next = std::max(memory_.next, moved_[k]);
    }
    memory_.most = moved_[memory_.fastest];
    if (components_ * centres_apart <= pass_.rows.count) look_around();
  }

 private:
  static bool no_constants(const Pass& p) {
    for (int64_t k = 0; k < p.quadratics.components; ++k)
      if (p.quadratics.offsets[k] + (p.log_weights ? p.log_weights[k] : 0.0) != 0.0) return false;
    return true;
  }

  // Half of each centre's distance from the closest other one. Cost: K^2 D multiply-adds, on all threads
  // where these are many.
  void look_around() {
    const double* means = pass_.quadratics.means;
    const int limit = threads_ > 0 ? threads_ : thread_limit();
    const bool many = components_ * components_ * dims_ >= int64_t{1} << 18;
    std::atomic<int64_t> next{0};
    parallel(many ? static_cast<int>(std::min<int64_t>(limit, components_)) : 1, [&](int) {
      for (int64_t k; (k = next++) < components_;) {
        double closest = std::numeric_limits<double>::infinity();
        for (int64_t j = 0; j < components_; ++j) {
          if (j == k) continue;
          double square = 0.0;
          for (int64_t d = 0; d < dims_; ++d) {
            const double difference = means[k * dims_ + d] - means[j * dims_ + d];
            square += difference * difference;
          }
          closest = std::min(closest, square);
        }
        half_[k] = static_cast<float>(0.5 * (1.0 - 1e-6) * std::sqrt(closest));
      }
    });
  }

  Pass& pass_;
  const int threads_;
  const std::function<void()>& look_;
  const int64_t components_, dims_, size_;
  const bool usable_;
  // Not value-initialised: the first pass writes them.
  std::unique_ptr<float[]> nearest_, others_;
  std::unique_ptr<int32_t[]> labels_;
  std::vector<float> moved_, half_;
  Memory memory_{};
};

}  // namespace

LloydEnd lloyd(Pass pass, double* means, double total_weight, int64_t max_iter, double tol, int threads,
               std::vector<double>& bounds, const std::function<void()>& look) {
  const int64_t K = pass.quadratics.components, D = pass.quadratics.dims;
  pass.hard = true;
  pass.kind = Kind::mean;
  pass.quadratics.means = means;
  const int64_t size = statistics_size(pass.kind, D);
  std::vector<double> total(static_cast<size_t>(K * size + 1)), moved(static_cast<size_t>(K * D));
  std::vector<double> shift(static_cast<size_t>(D)), distances(static_cast<size_t>(K));
  Lookout lookout(look);
  Remembered remembered(pass, threads, look);
  // The centres' means from the statistics, and the sum of squared shifts.
  const auto maximize = [&] {
    double shifts = 0.0;
    for (int64_t k = 0; k < K; ++k) {
      const double *sums = total.data() + k * size, mass = sums[0];
      double square = 0.0;
      for (int64_t d = 0; d < D; ++d) {
        moved[k * D + d] = pass.pivot[d] + sums[1 + d] / mass;
        shift[d] = moved[k * D + d] - means[k * D + d];
        square += shift[d] * shift[d];
      }
      distances[k] = std::sqrt(square);
      shifts += squared_length(pass.quadratics, shift.data());
    }
    return shifts;
  };
  for (int64_t iteration = 0; iteration < max_iter; ++iteration) {
    lookout();
    remembered.take(total);
    for (const double value : total)
      if (!std::isfinite(value)) return LloydEnd::not_finite;
    for (int64_t k = 0; k < K; ++k)
      if (!(total[k * size] > 0.0)) return LloydEnd::empty;
    const bool converged = maximize() <= tol;
    if (converged || iteration + 1 == max_iter) {
      remembered.recount(total);
      maximize();
    }
    std::copy(moved.begin(), moved.end(), means);
    bounds.push_back(total.back() / total_weight);
    if (converged) return LloydEnd::converged;
    remembered.centres_moved(distances, total);
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
