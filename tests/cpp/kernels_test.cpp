// The core without Python, to run under sanitizers: every kernel at shapes around the edges of its tiles, on
// rows that end exactly where their memory ends, against plain loops; and the pool from several threads at
// once.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "mixtura/clustering.hpp"
#include "mixtura/directions.hpp"
#include "mixtura/driver.hpp"
#include "mixtura/pool.hpp"

namespace {

using namespace mixtura;
using Numbers = std::vector<double>;

int failures = 0;

void check(bool good, const std::string& what) {
  if (good) return;
  ++failures;
  std::fprintf(stderr, "FAILED %s\n", what.c_str());
}

struct Case {
  Factor factor;
  bool shared, single, hard, gate, weighted, column_major;
  bool apart;    // clusters far from each other: most pairs do not count
  bool compute;  // in single precision
  Kind kind;
  int64_t rows, dims, components;
  bool split = false;    // the last column lies in an array of its own
  bool linear = false;   // a linear term beside the square
  int64_t few_rows = 0;  // of a rectangle, if not D + 1

  std::string name() const {
    return "factor " + std::to_string(static_cast<int>(factor)) + " kind " +
           std::to_string(static_cast<int>(kind)) + (shared ? " shared" : "") + (single ? " float" : "") +
           (hard ? " hard" : "") + (apart ? " apart" : "") + (split ? " split" : "") +
           (linear ? " linear" : "") + (few_rows ? " few" : "") + (compute ? " in float" : "") + " " +
           std::to_string(rows) + " x " + std::to_string(dims) + ", K " + std::to_string(components) +
           " on " + instruction_set();
  }
};

Numbers draw(std::mt19937& g, size_t size, double low = -1.0, double high = 1.0) {
  std::uniform_real_distribution<double> uniform(low, high);
  Numbers v(size);
  for (double& x : v) x = uniform(g);
  return v;
}

// One pass through the kernels, and the same by definition.
void compare(const Case& c, std::mt19937& g) {
  const int64_t N = c.rows, D = c.dims, K = c.components,
                R = c.factor != Factor::rectangle ? D
                    : c.few_rows                  ? c.few_rows
                                                  : D + 1;
  const size_t per_factor = c.factor == Factor::scalar ? 1 : c.factor == Factor::diagonal ? D : R * D;
  const int64_t factors = c.shared ? 1 : K;
  Numbers X = draw(g, N * D), means = draw(g, K * D), offsets = draw(g, K), pivot = draw(g, D);
  Numbers F = draw(g, factors * per_factor, 0.2, 1.0);
  Numbers log_weights = draw(g, c.gate ? N * K : K), weight = draw(g, N, 0.0, 2.0);
  Numbers slopes = draw(g, c.linear ? K * D : 0);
  const double reach = c.apart ? 12.0 : 1.0;
  if (c.apart) {
    for (double& m : means) m *= reach;
    for (int64_t i = 0; i < N; ++i)
      for (int64_t d = 0; d < D; ++d) X[c.column_major ? d * N + i : i * D + d] += means[i % K * D + d];
  }
  std::vector<float> single(X.begin(), X.end());
  if (c.single)
    for (size_t i = 0; i < X.size(); ++i) X[i] = single[i];

  Pass p{};
  const int64_t targets = c.split ? 1 : 0, last = c.column_major ? (D - 1) * N : D - 1;
  Columns left{c.single ? static_cast<const void*>(single.data()) : X.data(), c.single, D - targets,
               c.column_major ? 1 : D, c.column_major ? N : 1};
  Columns right = left;
  right.dims = targets;
  right.data = c.single ? static_cast<const void*>(single.data() + last) : X.data() + last;
  p.rows = {left, right, N, D};
  p.quadratics = {c.factor,
                  c.shared && K > 1,
                  K,
                  D,
                  R,
                  offsets.data(),
                  means.data(),
                  F.data(),
                  c.linear ? slopes.data() : nullptr};
  p.pivot = pivot.data();
  p.log_weights = log_weights.data();
  p.log_weights_per_row = c.gate;
  p.sample_weight = c.weighted ? weight.data() : nullptr;
  p.hard = c.hard;
  p.single = c.compute;
  p.kind = c.kind;
  const int64_t P = statistics_size(c.kind, D);
  Numbers total(K * P + 1), joint(N * K);
  run_pass(p, 3, total.data());
  Pass q = p;
  q.answers.joint = joint.data();
  q.single = false;
  run_pass(q, 2, nullptr);

  auto at = [&](int64_t i, int64_t d) { return c.column_major ? X[d * N + i] : X[i * D + d]; };
  Numbers want(K * P + 1);
  double worst = 0.0;
  for (int64_t i = 0; i < N; ++i) {
    Numbers l(K);
    for (int64_t k = 0; k < K; ++k) {
      const double* f = F.data() + (c.shared ? 0 : k) * per_factor;
      double square = 0.0, slope = 0.0;
      for (int64_t d = 0; c.linear && d < D; ++d) slope += slopes[k * D + d] * (at(i, d) - means[k * D + d]);
      for (int64_t r = 0; r < R; ++r) {
        double y = 0.0;
        for (int64_t d = 0; d < D; ++d) {
          const double z = at(i, d) - means[k * D + d];
          if (c.factor == Factor::scalar) y += d == r ? f[0] * z : 0.0;
          if (c.factor == Factor::diagonal) y += d == r ? f[d] * z : 0.0;
          if (c.factor == Factor::triangle) y += d <= r ? f[r * D + d] * z : 0.0;
          if (c.factor == Factor::rectangle) y += f[r * D + d] * z;
        }
        square += y * y;
      }
      l[k] = offsets[k] + log_weights[c.gate ? i * K + k : k] + slope - 0.5 * square;
      worst = std::max(worst, std::abs(l[k] - joint[i * K + k]) / (1.0 + std::abs(l[k])));
    }
    int64_t best = 0;
    for (int64_t k = 1; k < K; ++k)
      if (l[k] > l[best]) best = k;
    double sum = 0.0;
    for (int64_t k = 0; k < K; ++k) sum += std::exp(l[k] - l[best]);
    const double w = c.weighted ? weight[i] : 1.0;
    want[K * P] += w * (l[best] + (c.hard ? 0.0 : std::log(sum)));
    for (int64_t k = 0; k < K; ++k) {
      const double r = w * (c.hard ? k == best : std::exp(l[k] - l[best]) / sum);
      double* t = want.data() + k * P;
      t[0] += r;
      for (int64_t d = 0; c.kind != Kind::mass && d < D; ++d) t[1 + d] += r * (at(i, d) - pivot[d]);
      int64_t next = 1 + D;
      for (int64_t a = 0; a < D; ++a) {
        const double za = at(i, a) - pivot[a];
        if (c.kind == Kind::trace) t[1 + D] += r * za * za;
        if (c.kind == Kind::diagonal) t[1 + D + a] += r * za * za;
        for (int64_t b = 0; c.kind == Kind::full && b <= a; ++b) t[next++] += r * za * (at(i, b) - pivot[b]);
      }
    }
  }
  // Sums of up to N terms below 4 D reach^2 in size: N eps of them, with room for the densities' own
  // rounding.
  const double terms = (64.0 + static_cast<double>(N)) * 4.0 * static_cast<double>(D * R + 4) * reach * reach;
  const double tolerance = (c.compute ? 6e-8 : 1e-15) * terms;
  check(worst < 1e-15 * terms, "joint, " + c.name() + ": " + std::to_string(worst));
  for (size_t i = 0; i < want.size(); ++i)
    if (!(std::abs(total[i] - want[i]) < tolerance * static_cast<double>(N + 1))) {
      check(false, "statistics " + std::to_string(i) + ", " + c.name());
      break;
    }
  Numbers again(total.size());
  run_pass(p, 1, again.data());
  check(again == total, "same bits from one thread, " + c.name());
}

void kernels() {
  std::mt19937 g(1);
  const int64_t shapes[][3] = {{1, 1, 1},    {7, 2, 3},     {33, 3, 5},   {190, 4, 8},   {260, 7, 4},
                               {131, 8, 9},  {70, 9, 13},   {300, 16, 6}, {45, 17, 2},   {20, 33, 30},
                               {140, 24, 9}, {150, 13, 40}, {65, 97, 3},  {40, 104, 11}, {129, 32, 1},
                               {270, 70, 6}, {700, 100, 4}};
  const auto in_use = instruction_set();
  int count = 0;
  for (const std::string& name : instruction_sets()) {
    set_instruction_set(name);
    for (const auto& s : shapes)
      for (const Factor factor : {Factor::scalar, Factor::diagonal, Factor::triangle, Factor::rectangle})
        for (const Kind kind : {Kind::mass, Kind::mean, Kind::trace, Kind::diagonal, Kind::full}) {
          const int n = count++;
          compare({factor, n % 3 == 0, n % 5 == 0, n % 4 == 0, n % 7 == 0, n % 2 == 0, n % 6 == 0,
                   n / 5 % 2 == 0, n / 10 % 2 == 0 && n % 4 != 0, kind, s[0], s[1], s[2], n / 3 % 3 == 0,
                   n / 2 % 3 == 0, n / 20 % 2 ? 1 + n % 4 : 0},
                  g);
        }
  }
  set_instruction_set(in_use);
  std::printf("%d passes\n", count);
}

// Runs of k-means, which remember rows, against runs that look at all of them.
void centres() {
  std::mt19937 g(3);
  const int64_t shapes[][3] = {{40, 1, 3}, {700, 3, 7}, {2500, 9, 4}, {1500, 17, 20}, {900, 40, 33}};
  const auto in_use = instruction_set();
  for (const std::string& name : instruction_sets()) {
    set_instruction_set(name);
    for (const auto& s : shapes)
      for (int layout = 0; layout < 4; ++layout) {
        const int64_t N = s[0], D = s[1], K = s[2];
        const bool column_major = layout % 2, in_float = layout / 2;
        const Numbers X = draw(g, N * D), weight = draw(g, N, 0.0, 2.0), pivot(D), offsets(K), F{1.5};
        const std::vector<float> single(X.begin(), X.end());
        Numbers first(K * D);
        for (int64_t k = 0; k < K; ++k)
          for (int64_t d = 0; d < D; ++d) {
            const int64_t at = column_major ? d * N + k : k * D + d;
            first[k * D + d] = in_float ? static_cast<double>(single[at]) : X[at];
          }
        Numbers ends[2], bounds[2];
        for (const bool all : {false, true}) {
          set_skipping(!all);
          Numbers& means = ends[all] = first;
          Pass p{};
          const Columns left{in_float ? static_cast<const void*>(single.data()) : X.data(), in_float, D,
                             column_major ? 1 : D, column_major ? N : 1};
          Columns right = left;
          right.dims = 0;
          p.rows = {left, right, N, D};
          p.quadratics = {Factor::scalar, true, K, D, D, offsets.data(), means.data(), F.data(), nullptr};
          p.pivot = pivot.data();
          p.sample_weight = weight.data();
          lloyd(p, means.data(), static_cast<double>(N), 50, 0.0, all ? 1 : 3, bounds[all], {});
        }
        const std::string what = "k-means " + std::to_string(N) + " x " + std::to_string(D) + " on " + name;
        check(ends[0] == ends[1], "centres, " + what);
        bool close = bounds[0].size() == bounds[1].size() && bounds[0].size() > 1;
        for (size_t i = 0; close && i < bounds[0].size(); ++i)
          close = std::abs(bounds[0][i] - bounds[1][i]) <= 1e-13 * std::abs(bounds[1][i]);
        check(close, "bounds, " + what);
      }
  }
  set_skipping(true);
  set_instruction_set(in_use);
}

// |L^-1 (A (z - m))| <= |F (z - m)|, with equality along as many directions as there are columns; and the
// first direction is the one along which means differ.
void few_directions() {
  std::mt19937 g(3);
  const int64_t D = 12, K = 15;
  for (const int64_t count : {int64_t{4}, D})
    for (const bool alike : {false, true}) {
      Numbers F(static_cast<size_t>(K * D * D)), means = draw(g, static_cast<size_t>(K * D));
      const Numbers all = draw(g, static_cast<size_t>(D * D)), axis = draw(g, static_cast<size_t>(D));
      const Numbers places = draw(g, static_cast<size_t>(K), -3.0, 3.0);
      for (int64_t k = 0; k < K; ++k) {
        // With equal factors, so that the best direction is known.
        const Numbers own = alike ? all : draw(g, static_cast<size_t>(D * D));
        for (int64_t i = 0; i < D; ++i)
          for (int64_t j = 0; j <= i; ++j)
            F[(k * D + i) * D + j] = (i == j ? 1.5 + own[i * D + i] : own[i * D + j]) * (1.0 + 1e3 * (j % 3));
        for (int64_t d = 0; alike && d < D; ++d) means[k * D + d] = places[k] * axis[d];
      }
      const Numbers offsets(K, 0.0), weights = draw(g, K), pivot = draw(g, D);
      Pass p{};
      p.quadratics = {Factor::triangle, false, K, D, D, offsets.data(), means.data(), F.data(), nullptr};
      p.log_weights = weights.data();
      p.pivot = pivot.data();
      const Directions d = leading_directions(p, count);
      const auto along_direction = [&](int64_t r, const double* z) {
        double sum = 0.0;
        for (int64_t i = 0; i < D; ++i) sum += d.map[r * D + i] * z[i];
        return sum;
      };
      for (int64_t k = 0; k < K; ++k) {
        const Numbers z = draw(g, D, -2.0, 2.0);
        Numbers y(count), away(D);
        for (int64_t i = 0; i < D; ++i) away[i] = z[i] - pivot[i];
        for (int64_t r = 0; r < count; ++r) y[r] = along_direction(r, away.data()) - d.means[k * count + r];
        double part = 0.0, whole = 0.0;
        for (int64_t r = 0; r < count; ++r) {
          double sum = 0.0;
          for (int64_t t = 0; t <= r; ++t) sum += d.factors[(k * count + r) * count + t] * y[t];
          part += sum * sum;
        }
        for (int64_t i = 0; i < D; ++i) {
          double sum = 0.0;
          for (int64_t j = 0; j <= i; ++j) sum += F[(k * D + i) * D + j] * (z[j] - means[k * D + j]);
          whole += sum * sum;
        }
        check(part <= whole * (1.0 + 1e-9), "a part of a distance is at most the whole");
        if (count == D && !alike)
          check(part >= whole * (1.0 - 1e-6), "all directions give all of a distance");
      }
      // Whitened, the direction and the means' axis are parallel: a = P axis up to its length.
      if (!alike) continue;
      Numbers turned(D, 0.0);
      for (int64_t r = 0; r < D; ++r) {
        double sum = 0.0;
        for (int64_t j = 0; j <= r; ++j) sum += F[r * D + j] * axis[j];
        for (int64_t j = 0; j <= r; ++j) turned[j] += sum * F[r * D + j];
      }
      double both = 0.0, one = 0.0, other = 0.0;
      for (int64_t i = 0; i < D; ++i) {
        both += turned[i] * d.map[i];
        one += turned[i] * turned[i];
        other += d.map[i] * d.map[i];
      }
      check(std::abs(both) >= (1.0 - 1e-9) * std::sqrt(one * other), "the first direction is the best one");
    }
  // Nothing to tell: equal means, for which any directions will do, and factors that are no numbers.
  for (const double value : {1.0, std::nan("")}) {
    const Numbers F(static_cast<size_t>(K * D * D), value), means(static_cast<size_t>(K * D), 2.0),
        none(K, 0.0);
    const Numbers pivot(D, 0.0);
    Pass p{};
    p.quadratics = {Factor::triangle, false, K, D, D, none.data(), means.data(), F.data(), nullptr};
    p.pivot = pivot.data();
    for (const double f : leading_directions(p, 4).factors)
      check(value == 1.0 ? std::isfinite(f) : f == 0.0, "directions of nothing");
  }
}

void pool() {
  // Several threads ask at once: one gets the workers, the others run on their own.
  std::vector<std::thread> callers;
  std::vector<long> sums(6);
  for (int t = 0; t < 6; ++t)
    callers.emplace_back([&sums, t] {
      for (int round = 0; round < 200; ++round) {
        std::atomic<long> next{0}, sum{0};
        parallel(4, [&](int) {
          for (long i; (i = next++) < 100;) sum += i;
        });
        sums[t] += sum;
      }
    });
  for (auto& t : callers) t.join();
  for (const long s : sums) check(s == 200 * 4950, "parallel sums");
  // An exception on any worker reaches the caller, and the pool goes on.
  for (int round = 0; round < 20; ++round) {
    bool thrown = false;
    try {
      parallel(3, [](int) { throw std::string("no"); });
    } catch (const std::string&) {
      thrown = true;
    }
    check(thrown, "an exception comes through");
  }
  std::mt19937 g(2);
  compare({Factor::triangle, false, false, false, false, true, false, false, false, Kind::full, 20000, 5, 40},
          g);
}

}  // namespace

int main() {
  kernels();
  centres();
  few_directions();
  pool();
  if (failures) std::printf("%d checks failed\n", failures);
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
