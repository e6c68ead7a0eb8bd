// EM on a few hundred rows, on one thread, with rows on vector lanes.
#pragma once

#include "mixtura/many.hpp"
#include "mixtura/parametric.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// Searches of k-means, of which the one of least inertia is the start; iterations of each.
constexpr int searches = 3, search_iterations = 30;

// A search is over when so small a share of the rows changes its cluster: EM does the rest.
constexpr double few_changes = 0.01;

// The smallest mass of a component, as of one fit: its weight is then not 0.
constexpr double mass_floor = 10 * 2.220446049250313e-16;

// A small generator of random numbers (splitmix64), the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint64_t state_;
};

inline double sum_of(Lanes a) {
  double total = 0.0;
  for (int i = 0; i < wide_lanes; ++i) total += a.v[i];
  return total;
}

// One group: rows about their mean on lanes, parameters, and sums about the present means.
struct SmallEm {
  int64_t N, D, K, T, blocks;  // T = D (D + 1) / 2, or as many numbers as the form has
  Factor form;
  Lanes *rows, *z, *joint, *first, *second, *mass;  // rows (blocks, D); sums (K, D), (K, T), (K,)
  Lanes *distance, *label, *best_label;             // (blocks,)
  double *center, *means, *factors, *offsets, *scratch, *best_means;

  SmallEm(const Many& m, int64_t rows_of_group, Arena& arena)
      : N(rows_of_group), D(m.rows.dims), K(m.components), form(m.form) {
    T = form == Factor::triangle ? D * (D + 1) / 2 : D;
    blocks = (N + wide_lanes - 1) / wide_lanes;
    rows = arena.take<Lanes>(blocks * D);
    z = arena.take<Lanes>(D);
    joint = arena.take<Lanes>(K);
    first = arena.take<Lanes>(K * D);
    second = arena.take<Lanes>(K * T);
    mass = arena.take<Lanes>(K);
    center = arena.take<double>(D);
    means = arena.take<double>(K * D);
    factors = arena.take<double>(K * T);
    offsets = arena.take<double>(K);
    scratch = arena.take<double>(D);
    distance = arena.take<Lanes>(blocks);
    best_means = arena.take<double>(K * D);
    label = arena.take<Lanes>(blocks);
    best_label = arena.take<Lanes>(blocks);
  }

  double at(int64_t i, int64_t d) const { return rows[i / wide_lanes * D + d].v[i % wide_lanes]; }
};

// 1 for the rows of a block, 0 for what fills its last vector.
MIXTURA_INLINE wide rows_that_count(const SmallEm& s, int64_t b) {
  wide counted = wide{} + 1.0;
  if (b + 1 < s.blocks) return counted;
  for (int64_t i = s.N - b * wide_lanes; i < wide_lanes; ++i) counted[i] = 0.0;
  return counted;
}

template <class T>
inline void read_columns(const Columns& rows, int64_t begin, SmallEm& s) {
  const T* first = static_cast<const T*>(rows.data) + begin * rows.row_stride;
  for (int64_t b = 0; b < s.blocks; ++b) {
    const T* block = first + b * wide_lanes * rows.row_stride;
    const int64_t n = smaller(wide_lanes, s.N - b * wide_lanes);
    for (int64_t d = 0; d < s.D; ++d) {
      const T* column = block + d * rows.column_stride;
      Lanes values{};
      if (n == wide_lanes) {
        MIXTURA_UNROLL
        for (int i = 0; i < wide_lanes; ++i) values.v[i] = static_cast<double>(column[i * rows.row_stride]);
      } else {
        for (int64_t i = 0; i < n; ++i) values.v[i] = static_cast<double>(column[i * rows.row_stride]);
      }
      s.rows[b * s.D + d] = values;
    }
  }
}

// Reads the group's rows, about their mean. Whether they are finite.
inline bool read_group(const Many& m, int64_t begin, SmallEm& s) {
  if (m.rows.left.single_precision)
    read_columns<float>(m.rows.left, begin, s);
  else
    read_columns<double>(m.rows.left, begin, s);
  bool finite = true;
  for (int64_t d = 0; d < s.D; ++d) {
    wide total{};
    for (int64_t b = 0; b < s.blocks; ++b) total += s.rows[b * s.D + d].v;
    s.center[d] = sum_of(Lanes{total}) / static_cast<double>(s.N);
    finite = finite && s.center[d] - s.center[d] == 0.0;
  }
  for (int64_t b = 0; b < s.blocks; ++b) {
    const wide counted = rows_that_count(s, b);
    for (int64_t d = 0; d < s.D; ++d) s.rows[b * s.D + d].v = (s.rows[b * s.D + d].v - s.center[d]) * counted;
  }
  return finite;
}

inline void clear_sums(SmallEm& s) {
  for (int64_t i = 0; i < s.K * s.D; ++i) s.first[i] = Lanes{};
  for (int64_t i = 0; i < s.K * s.T; ++i) s.second[i] = Lanes{};
  for (int64_t k = 0; k < s.K; ++k) s.mass[k] = Lanes{};
}

// Squared distances of a block's rows from a point. DIMS is D, if it is known when this is compiled, else 0.
template <int DIMS>
MIXTURA_INLINE wide squared_distances(const SmallEm& s, int64_t b, const double* mean) {
  const int64_t D = DIMS ? DIMS : s.D;
  wide square{};
  MIXTURA_UNROLL
  for (int64_t d = 0; d < D; ++d) {
    const wide e = s.rows[b * D + d].v - mean[d];
    square += e * e;
  }
  return square;
}

// k-means++: each next centre is a row drawn with a chance in proportion to its squared distance.
template <int DIMS>
inline void seed_centers(SmallEm& s, Random& random) {
  for (int64_t k = 0; k < s.K; ++k) {
    wide totals{};
    for (int64_t b = 0; b < s.blocks; ++b) {
      if (k == 0) s.distance[b].v = rows_that_count(s, b);
      totals += s.distance[b].v;
    }
    const double drawn = random.uniform() * sum_of(Lanes{totals});
    double below = 0.0;
    int64_t chosen = s.N - 1, b = 0;
    for (; b + 1 < s.blocks && below + sum_of(s.distance[b]) <= drawn; ++b) below += sum_of(s.distance[b]);
    for (int64_t i = b * wide_lanes; i < smaller((b + 1) * wide_lanes, s.N); ++i) {
      below += s.distance[b].v[i - b * wide_lanes];
      if (below > drawn) {
        chosen = i;
        break;
      }
    }
    double* mean = s.means + k * s.D;
    for (int64_t d = 0; d < s.D; ++d) mean[d] = s.at(chosen, d);
    for (b = 0; b < s.blocks; ++b) {
      const wide near = squared_distances<DIMS>(s, b, mean) * rows_that_count(s, b);
      s.distance[b].v = k == 0 ? near : (near < s.distance[b].v ? near : s.distance[b].v);
    }
  }
}

// Lloyd's algorithm from the present means; returns the inertia, and leaves labels, as doubles on lanes.
template <int DIMS>
inline double lloyd(SmallEm& s) {
  const int64_t D = DIMS ? DIMS : s.D;
  double inertia = 0.0;
  for (int iteration = 0; iteration < search_iterations; ++iteration) {
    wide squares{}, changes{};
    clear_sums(s);
    for (int64_t b = 0; b < s.blocks; ++b) {
      const wide counted = rows_that_count(s, b);
      wide nearest = squared_distances<DIMS>(s, b, s.means), own{};
      for (int64_t k = 1; k < s.K; ++k) {
        const wide next = squared_distances<DIMS>(s, b, s.means + k * D);
        own = next < nearest ? wide{} + static_cast<double>(k) : own;
        nearest = next < nearest ? next : nearest;
      }
      squares += nearest * counted;
      changes += (own != s.label[b].v ? wide{} + 1.0 : wide{}) * counted;
      s.label[b].v = own;
      for (int64_t k = 0; k < s.K; ++k) {
        const wide mine = own == static_cast<double>(k) ? counted : wide{};
        s.mass[k].v += mine;
        MIXTURA_UNROLL
        for (int64_t d = 0; d < D; ++d) s.first[k * D + d].v += mine * s.rows[b * D + d].v;
      }
    }
    inertia = sum_of(Lanes{squares});
    if (iteration > 0 && sum_of(Lanes{changes}) <= few_changes * static_cast<double>(s.N)) break;
    for (int64_t k = 0; k < s.K; ++k) {
      const double count = sum_of(s.mass[k]);
      if (count == 0.0) continue;  // an empty cluster stays where it is
      for (int64_t d = 0; d < D; ++d) s.means[k * D + d] = sum_of(s.first[k * D + d]) / count;
    }
  }
  return inertia;
}

template <int DIMS>
inline void find_start(SmallEm& s, Random& random) {
  double least = 0.0;
  for (int search = 0; search < (s.K > 1 ? searches : 1); ++search) {
    seed_centers<DIMS>(s, random);
    const double inertia = lloyd<DIMS>(s);
    if (search > 0 && !(inertia < least)) continue;
    least = inertia;
    for (int64_t b = 0; b < s.blocks; ++b) s.best_label[b] = s.label[b];
    for (int64_t i = 0; i < s.K * s.D; ++i) s.best_means[i] = s.means[i];
  }
  for (int64_t b = 0; b < s.blocks; ++b) s.label[b] = s.best_label[b];
  for (int64_t i = 0; i < s.K * s.D; ++i) s.means[i] = s.best_means[i];
}

// Adds the rows of a block to component k with weights r, about the component's present mean.
template <int DIMS>
MIXTURA_INLINE void add_block(SmallEm& s, int64_t b, int64_t k, Lanes r) {
  const int64_t D = DIMS ? DIMS : s.D;
  Lanes own[DIMS ? DIMS : 1];
  Lanes* z = DIMS ? own : s.z;
  const Lanes* row = s.rows + b * D;
  s.mass[k] = s.mass[k] + r;
  Lanes *first = s.first + k * D, *second = s.second + k * s.T;
  const double* mean = s.means + k * D;
  MIXTURA_UNROLL
  for (int64_t i = 0; i < D; ++i) {
    z[i] = row[i] - lanes_of(mean[i]);
    const Lanes weighted = r * z[i];
    first[i] = first[i] + weighted;
    if (s.form == Factor::triangle) {
      Lanes* out = second + i * (i + 1) / 2;
      MIXTURA_UNROLL
      for (int64_t j = 0; j <= i; ++j) out[j] = out[j] + weighted * z[j];
    } else {
      second[i] = second[i] + weighted * z[i];
    }
  }
}

// Sums of the rows' first labels.
template <int DIMS>
inline void accumulate_labels(SmallEm& s) {
  clear_sums(s);
  for (int64_t b = 0; b < s.blocks; ++b)
    for (int64_t k = 0; k < s.K; ++k) {
      const wide counted = rows_that_count(s, b);
      add_block<DIMS>(s, b, k, Lanes{s.label[b].v == static_cast<double>(k) ? counted : wide{}});
    }
}

// Joint log-densities of a block's rows, in `joint`; returns the largest ones.
template <int DIMS>
MIXTURA_INLINE wide evaluate_block(SmallEm& s, int64_t b) {
  const int64_t D = DIMS ? DIMS : s.D;
  Lanes own[DIMS ? DIMS : 1];
  Lanes* z = DIMS ? own : s.z;
  const Lanes* row = s.rows + b * D;
  wide top{};
  for (int64_t k = 0; k < s.K; ++k) {
    const double *factor = s.factors + k * s.T, *mean = s.means + k * D;
    Lanes square{};
    MIXTURA_UNROLL
    for (int64_t i = 0; i < D; ++i) {
      z[i] = row[i] - lanes_of(mean[i]);
      Lanes w{};
      if (s.form == Factor::triangle) {
        MIXTURA_UNROLL
        for (int64_t j = 0; j <= i; ++j) w = w + factor[i * (i + 1) / 2 + j] * z[j];
      } else {
        w = factor[i] * z[i];
      }
      square = square + w * w;
    }
    s.joint[k] = lanes_of(s.offsets[k]) - 0.5 * square;
    top = k == 0 ? s.joint[k].v : (s.joint[k].v > top ? s.joint[k].v : top);
  }
  return top;
}

// The E-step: responsibilities and sums; returns the log-likelihood.
template <int DIMS>
inline double expect(SmallEm& s) {
  clear_sums(s);
  Lanes total{};
  for (int64_t b = 0; b < s.blocks; ++b) {
    const wide top = evaluate_block<DIMS>(s, b);
    wide sum{};
    for (int64_t k = 0; k < s.K; ++k) {
      s.joint[k].v = exp2_nonpositive((s.joint[k].v - top) * log2e);
      sum += s.joint[k].v;
    }
    const wide counted = rows_that_count(s, b);
    total.v += (top + log2_positive(sum) * ln2) * counted;
    const wide share = counted / sum;
    for (int64_t k = 0; k < s.K; ++k) add_block<DIMS>(s, b, k, Lanes{s.joint[k].v * share});
  }
  return sum_of(total);
}

// The inverse of the lower Cholesky factor of a packed covariance, in its place, and the log of the factor's
// determinant. False where the covariance is not definite.
inline bool invert_cholesky(double* a, int64_t D, double* log_det) {
  *log_det = 0.0;
  for (int64_t i = 0; i < D; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double value = a[i * (i + 1) / 2 + j];
      for (int64_t l = 0; l < j; ++l) value -= a[i * (i + 1) / 2 + l] * a[j * (j + 1) / 2 + l];
      if (i == j) {
        if (!(value > 0.0)) return false;
        a[i * (i + 1) / 2 + i] = __builtin_sqrt(value);
        *log_det += __builtin_log(a[i * (i + 1) / 2 + i]);
      } else {
        a[i * (i + 1) / 2 + j] = value / a[j * (j + 3) / 2];
      }
    }
  }
  for (int64_t i = 0; i < D; ++i) {
    double* row = a + i * (i + 1) / 2;
    const double inverse = 1.0 / row[i];
    // Column by column: what is written in column j is not needed by columns after it.
    for (int64_t j = 0; j < i; ++j) {
      double sum = 0.0;
      for (int64_t l = j; l < i; ++l) sum += row[l] * a[l * (l + 1) / 2 + j];
      row[j] = -inverse * sum;
    }
    row[i] = inverse;
  }
  return true;
}

// The covariance of component k about its mean, packed, from the sums about its mean before; the mean moves.
inline void find_covariance(SmallEm& s, int64_t k, double mass) {
  double *factor = s.factors + k * s.T, *shift = s.scratch;
  for (int64_t d = 0; d < s.D; ++d) shift[d] = sum_of(s.first[k * s.D + d]) / mass;
  if (s.form == Factor::triangle) {
    for (int64_t i = 0; i < s.D; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        const int64_t p = i * (i + 1) / 2 + j;
        factor[p] = sum_of(s.second[k * s.T + p]) / mass - shift[i] * shift[j];
      }
  } else {
    double mean = 0.0;
    for (int64_t d = 0; d < s.D; ++d) {
      factor[d] = sum_of(s.second[k * s.T + d]) / mass - shift[d] * shift[d];
      mean += factor[d] / static_cast<double>(s.D);
    }
    for (int64_t d = 0; d < s.D && s.form == Factor::scalar; ++d) factor[d] = mean;
  }
  for (int64_t d = 0; d < s.D; ++d) s.means[k * s.D + d] += shift[d];
}

// Turns a packed covariance into the inverse of its factor. False where it is not definite.
inline bool factorize(const SmallEm& s, double* factor, double* log_det) {
  if (s.form == Factor::triangle) return invert_cholesky(factor, s.D, log_det);
  *log_det = 0.0;
  for (int64_t d = 0; d < s.D; ++d) {
    if (!(factor[d] > 0.0)) return false;
    *log_det += 0.5 * __builtin_log(factor[d]);
    factor[d] = 1.0 / __builtin_sqrt(factor[d]);
  }
  return true;
}

inline void set_offset(SmallEm& s, int64_t k, double weight, double log_det) {
  s.offsets[k] = __builtin_log(weight) - log_det - 0.5 * static_cast<double>(s.D) * log_two_pi;
}

// Copies a packed covariance to the form in which it is returned, and back.
inline void unpack(const SmallEm& s, const double* packed, double* out) {
  if (s.form == Factor::scalar) {
    out[0] = packed[0];
  } else if (s.form == Factor::diagonal) {
    for (int64_t d = 0; d < s.D; ++d) out[d] = packed[d];
  } else {
    for (int64_t i = 0; i < s.D; ++i)
      for (int64_t j = 0; j <= i; ++j) out[i * s.D + j] = out[j * s.D + i] = packed[i * (i + 1) / 2 + j];
  }
}

inline void pack(const SmallEm& s, const double* covariance, double* packed) {
  if (s.form != Factor::triangle) {
    for (int64_t d = 0; d < s.D; ++d) packed[d] = covariance[s.form == Factor::scalar ? 0 : d];
  } else {
    for (int64_t i = 0; i < s.D; ++i)
      for (int64_t j = 0; j <= i; ++j) packed[i * (i + 1) / 2 + j] = covariance[i * s.D + j];
  }
}

// The M-step. Covariances are written to `covariances` (C, S), weights to `weights` (K,). Whether all are
// definite.
inline bool maximize(const Many& m, SmallEm& s, const double* reg_covar, double* weights,
                     double* covariances) {
  double total = 0.0;
  for (int64_t k = 0; k < s.K; ++k) {
    total += weights[k] = sum_of(s.mass[k]) + mass_floor;
    find_covariance(s, k, weights[k]);
  }
  for (int64_t k = 0; k < s.K; ++k) weights[k] /= total;
  if (m.tied) {  // the average of all, in the place of the first
    for (int64_t p = 0; p < s.T; ++p) {
      double average = 0.0;
      for (int64_t k = 0; k < s.K; ++k) average += weights[k] * s.factors[k * s.T + p];
      s.factors[p] = average;
    }
  }
  double log_det = 0.0;
  for (int64_t k = 0; k < s.K; ++k) {
    double* factor = s.factors + k * s.T;
    if (k == 0 || !m.tied) {
      for (int64_t d = 0; d < s.D; ++d)
        factor[s.form == Factor::triangle ? d * (d + 3) / 2 : d] += reg_covar[d];
      unpack(s, factor, covariances + k * m.covariance_size());
      if (!factorize(s, factor, &log_det)) return false;
    } else {
      for (int64_t p = 0; p < s.T; ++p) factor[p] = s.factors[p];
    }
    set_offset(s, k, weights[k], log_det);
    if (s.offsets[k] - s.offsets[k] != 0.0) return false;
  }
  return true;
}

// Whether sums of squares are so large that they cannot be represented.
inline bool overflown(const SmallEm& s) {
  double total = 0.0;
  for (int64_t p = 0; p < s.K * s.T; ++p) total += sum_of(s.second[p]);
  return total - total != 0.0;
}

inline size_t many_bytes(const Many& m) {
  int64_t most = 0;
  for (int64_t g = 0; g < m.groups; ++g) {
    const int64_t n = m.offsets[g + 1] - m.offsets[g];
    most = n > most ? n : most;
  }
  Arena arena(nullptr);
  SmallEm counted(m, most, arena);
  return arena.used();
}

// The parameters of a group's mixture, as a caller or an earlier fit left them. Whether covariances are
// definite.
inline bool read_parameters(const Many& m, int64_t group, SmallEm& s) {
  const int64_t K = m.components, D = m.rows.dims, S = m.covariance_size();
  const double* covariances = m.covariances + group * m.covariances_of_group() * S;
  for (int64_t k = 0; k < K; ++k) {
    double log_det = 0.0;
    pack(s, covariances + (m.tied ? 0 : k * S), s.factors + k * s.T);
    if (!factorize(s, s.factors + k * s.T, &log_det)) return false;
    for (int64_t d = 0; d < D; ++d) s.means[k * D + d] = m.means[(group * K + k) * D + d] - s.center[d];
    set_offset(s, k, m.weights[group * K + k], log_det);
  }
  return true;
}

template <int DIMS>
void fit_group(const Many& m, int64_t group, void* memory) {
  const int64_t begin = m.offsets[group], N = m.offsets[group + 1] - begin;
  const int64_t K = m.components, D = m.rows.dims;
  double* weights = m.weights + group * K;
  double* covariances = m.covariances + group * m.covariances_of_group() * m.covariance_size();
  const double* reg_covar = m.reg_covar + group * D;
  const auto finish = [&](Outcome outcome, int64_t iterations, double bound) {
    m.outcome[group] = static_cast<int32_t>(outcome);
    m.iterations[group] = static_cast<int32_t>(iterations);
    m.bound[group] = bound;
  };
  const double nothing = -__builtin_inf();
  if (N < K || N < 2) return finish(Outcome::too_few, 0, nothing);
  Arena arena(memory);
  SmallEm s(m, N, arena);
  if (!read_group(m, begin, s)) return finish(Outcome::not_finite, 0, nothing);
  bool definite = true, converged = false;
  if (m.started) {
    definite = read_parameters(m, group, s);
  } else if (m.labels) {
    for (int64_t i = 0; i < N; ++i) s.label[i / wide_lanes].v[i % wide_lanes] = m.labels[begin + i];
    for (int64_t i = 0; i < K * D; ++i) s.means[i] = 0.0;
  } else {
    Random random(m.seed + static_cast<uint64_t>(group) * 0x9e3779b97f4a7c15u);
    find_start<DIMS>(s, random);
  }
  if (!m.started) {
    accumulate_labels<DIMS>(s);
    definite = maximize(m, s, reg_covar, weights, covariances);
  }
  double bound = nothing;
  int64_t iteration = 0;
  while (definite && !converged && iteration < m.max_iter) {
    const double before = bound;
    bound = expect<DIMS>(s) / static_cast<double>(N);
    if (bound - bound != 0.0) return finish(Outcome::not_finite, iteration, bound);
    const double change = bound - before;
    converged = (change < 0 ? -change : change) < m.tol;
    if (m.trace) m.trace[iteration] = bound;
    ++iteration;
    if (m.trace && (converged || iteration == m.max_iter)) break;
    definite = maximize(m, s, reg_covar, weights, covariances);
  }
  for (int64_t k = 0; k < K; ++k)
    for (int64_t d = 0; d < D; ++d) m.means[(group * K + k) * D + d] = s.means[k * D + d] + s.center[d];
  const bool summed = !m.started || iteration > 0;
  finish(!definite && summed && overflown(s) ? Outcome::not_finite
         : !definite                         ? Outcome::singular
         : converged                         ? Outcome::converged
                                             : Outcome::not_converged,
         iteration, bound);
}

// The most likely component of each of a group's rows.
template <int DIMS>
void assign_group(const Many& m, int64_t group, void* memory) {
  const int64_t begin = m.offsets[group], N = m.offsets[group + 1] - begin, K = m.components;
  Arena arena(memory);
  SmallEm s(m, N, arena);
  const bool usable = m.outcome[group] <= static_cast<int32_t>(Outcome::not_converged) && N > 0 &&
                      read_group(m, begin, s) && read_parameters(m, group, s);
  for (int64_t b = 0; b < s.blocks; ++b) {
    if (usable) evaluate_block<DIMS>(s, b);
    for (int64_t i = b * wide_lanes; i < smaller((b + 1) * wide_lanes, N); ++i) {
      int64_t best = 0;
      for (int64_t k = 1; k < K && usable; ++k)
        if (s.joint[k].v[i % wide_lanes] > s.joint[best].v[i % wide_lanes]) best = k;
      m.assigned[begin + i] = usable ? static_cast<int32_t>(best) : -1;
    }
  }
}

template <int VALUE>
struct Constant {
  static constexpr int value = VALUE;
};

// Calls a function with the number of columns as a constant, if it is a small one, else with 0.
template <class F>
inline void with_dims(int64_t D, F&& f) {
  switch (D) {
    case 1: return f(Constant<1>{});
    case 2: return f(Constant<2>{});
    case 3: return f(Constant<3>{});
    case 4: return f(Constant<4>{});
    case 5: return f(Constant<5>{});
    case 6: return f(Constant<6>{});
    default: return f(Constant<0>{});
  }
}

inline void fit_small(const Many& m, int64_t group, void* memory) {
  with_dims(m.rows.dims, [&](auto dims) { fit_group<dims.value>(m, group, memory); });
}

inline void assign_small(const Many& m, int64_t group, void* memory) {
  with_dims(m.rows.dims, [&](auto dims) { assign_group<dims.value>(m, group, memory); });
}

constexpr ManyKernels many_kernels() {
  return ManyKernels{many_bytes, fit_small, assign_small};
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
