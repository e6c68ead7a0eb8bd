// k-means: the nearest of K centres for each row, and the statistics of the rows that each has.
//
//   argmax_k  score_k(x) = c_k + x.m_k - |m_k|^2 / 2,   for rows and centres about the pivot
//
// One multiply-add per (row, centre, column) and five operations per pair for the best, the second best and
// the label. The scores may be computed in single precision, whatever the rows are: a score is wrong by at
// most
//
//   (D + 8) u (|x| max_k |m_k| + max_k |c_k - |m_k|^2 / 2|),   u half the distance from 1 to the next number,
//
// so a best score that leads by twice that belongs to the nearest centre. Other rows are decided by
// differences in double precision, over all centres: labels are those of exact arithmetic up to the rounding
// of doubles.
#pragma once

#include "mixtura/accumulate.hpp"
#include "mixtura/bins.hpp"
#include "mixtura/block.hpp"
#include "mixtura/evaluate.hpp"
#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// Packed centres: doubles first, then the screen's tiles. `columns` holds m column by column (D x K padded)
// and `constants` c_k (-infinity in the padding); `means` m row by row; `reach` is max |m - pivot|, `level`
// the largest constant of the screen.
struct CentreLayout {
  int64_t padded;  // K, whole vectors
  size_t columns, constants, means, reach, level, doubles;
  size_t tiles, bias, reals;
  size_t bytes;
};

inline CentreLayout centre_layout(const Quadratics& q) {
  CentreLayout l{};
  l.padded = round_up(q.components, wide_lanes);
  size_t at = 0;
  auto take = [&at](int64_t size) {
    const size_t here = at;
    at += static_cast<size_t>(round_up(size, 8));
    return here;
  };
  l.columns = take(q.dims * l.padded);
  l.constants = take(l.padded);
  l.means = take(q.components * q.dims);
  l.reach = take(1);
  l.level = take(1);
  l.doubles = at;
  at = 0;
  l.tiles = take(tiles(q.components) * tile_rows * q.dims);
  l.bias = take(tiles(q.components) * tile_rows);
  l.reals = at;
  l.bytes = l.doubles * sizeof(double) + l.reals * sizeof(real);
  return l;
}

inline void pack_centres(const Pass& p, void* packed) {
  const Quadratics& q = p.quadratics;
  const CentreLayout l = centre_layout(q);
  double* exact = static_cast<double*>(packed);
  real* screen = reinterpret_cast<real*>(exact + l.doubles);
  for (size_t i = 0; i < l.doubles; ++i) exact[i] = 0.0;
  for (size_t i = 0; i < l.reals; ++i) screen[i] = 0;
  for (int64_t k = q.components; k < l.padded; ++k) exact[l.constants + k] = -__builtin_huge_val();
  const double scale = 1.0 / (q.factors[0] * q.factors[0]);
  for (int64_t k = 0; k < q.components; ++k) {
    const double c = scale * (q.offsets[k] + (p.log_weights ? p.log_weights[k] : 0.0));
    real* tile = screen + l.tiles + k / tile_rows * tile_rows * q.dims + k % tile_rows;
    double square = 0.0;
    for (int64_t d = 0; d < q.dims; ++d) {
      const double m = q.means[k * q.dims + d], about = m - p.pivot[d];
      square += about * about;
      exact[l.columns + d * l.padded + k] = m;
      exact[l.means + k * q.dims + d] = m;
      tile[d * tile_rows] = static_cast<real>(about);
    }
    const double bias = c - 0.5 * square;
    exact[l.constants + k] = c;
    screen[l.bias + k] = static_cast<real>(bias);
    const double reach = __builtin_sqrt(square), level = __builtin_fabs(bias);
    if (!(reach <= exact[l.reach])) exact[l.reach] = reach;
    if (!(level <= exact[l.level])) exact[l.level] = level;
  }
}

// The best and the second best score of each row of a group, and the best's centre: the first of equals.
struct Leader {
  vec best[groups], second[groups];
  ivec label[groups];
  template <int J>
  MIXTURA_INLINE void operator()(int64_t k, const vec (&y)[J][groups]) {
    MIXTURA_UNROLL
    for (int u = 0; u < J; ++u) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const ivec better = y[u][g] > best[g];
        second[g] = max(second[g], min(best[g], y[u][g]));
        label[g] = better ? static_cast<integer>(k + u) - ivec{} : label[g];
        best[g] = better ? y[u][g] : best[g];
      }
    }
  }
};

// The nearest centre by differences in double precision.
inline int64_t nearest_exactly(const Quadratics& q, const CentreLayout& l, const double* exact,
                               const double* row) {
  wide best = wide{} - __builtin_huge_val();
  wide_integers label{};
  for (int64_t k = 0; k < l.padded; k += wide_lanes) {
    wide square{};
    for (int64_t d = 0; d < q.dims; ++d) {
      const wide difference = row[d] - load_wide(exact + l.columns + d * l.padded + k);
      square += difference * difference;
    }
    const wide score = load_wide(exact + l.constants + k) - 0.5 * square;
    const wide_integers better = score > best;
    label = better ? k - wide_integers{} : label;
    best = better ? score : best;
  }
  int64_t winner = 0;
  double top = -__builtin_huge_val();
  for (int j = 0; j < wide_lanes; ++j) {
    const int64_t k = label[j] + j;
    if (best[j] > top || (best[j] == top && k < winner)) {
      top = best[j];
      winner = k;
    }
  }
  return winner < q.components ? winner : 0;
}

MIXTURA_INLINE double number(const Columns& rows, int64_t i, int64_t d) {
  const int64_t at = i * rows.row_stride + d * rows.column_stride;
  return rows.single_precision ? static_cast<double>(static_cast<const float*>(rows.data)[at])
                               : static_cast<const double*>(rows.data)[at];
}

// Adds rows b .. b + n of type T, which lie along memory, to their centres' statistics, masses or means, and
// the squared distances to those centres, lane by lane, to `squares`. `means` and `pivot` can be read up to
// whole vectors.
//
// The last columns of a row, if they fill no vector, are read together with the beginning of the next row,
// which is then left out; only the table's last rows go number by number.
template <class T>
inline void add_rows(const Pass& p, const Statistics& s, const double* means, const double* pivot, int64_t b,
                     int64_t n, const integer* label, const double* weight, double* sums, wide& squares,
                     double& rest, Prefetch& ahead) {
  const int64_t dims = s.dims, step = p.rows.left.row_stride;
  const int64_t whole = dims / wide_lanes * wide_lanes;
  // Where the last vector of the last row that is read so may begin; of rows in reverse order none is.
  const int64_t end = step > 0 ? (p.rows.count - 1) * step + dims - wide_lanes : -1;
  const bool with_means = s.kind != Kind::mass;
  wide_integers inside{};
  for (int64_t d = 0; d < dims - whole; ++d) inside[d] = -1;
  for (int64_t i = 0; i < n; ++i) {
    const double w = weight[i];
    ahead.step();
    if (w == 0.0) continue;
    const T* row = static_cast<const T*>(p.rows.left.data) + (b + i) * step;
    const double* mean = means + label[i] * dims;
    double* t = sums + label[i] * s.size;
    t[s.mass] += w;
    for (int64_t d = 0; d < whole; d += wide_lanes) {
      const wide x = load_wide(row + d);
      const wide difference = x - load_wide(mean + d);
      squares += w * difference * difference;
      if (with_means) store_wide(t + d, load_wide(t + d) + w * (x - load_wide(pivot + d)));
    }
    if (whole == dims) continue;
    if ((b + i) * step + whole <= end) {
      const wide x = load_wide(row + whole);
      const wide difference = inside ? x - load_wide(mean + whole) : wide{};
      squares += w * difference * difference;
      const wide away = inside ? x - load_wide(pivot + whole) : wide{};
      if (with_means) store_wide(t + whole, load_wide(t + whole) + w * away);
      continue;
    }
    for (int64_t d = whole; d < dims; ++d) {
      const double x = static_cast<double>(row[d]), difference = x - mean[d];
      rest += w * difference * difference;
      if (with_means) t[d] += w * (x - pivot[d]);
    }
  }
}

// out = row - about, and the row's squared distance to `mean`.
template <class T>
inline double take_row(const T* row, int64_t dims, const double* mean, const double* about, double* out) {
  wide squares{};
  int64_t d = 0;
  for (; d + wide_lanes <= dims; d += wide_lanes) {
    const wide x = load_wide(row + d), difference = x - load_wide(mean + d);
    squares += difference * difference;
    store_wide(out + d, x - load_wide(about + d));
  }
  double square = sum(squares);
  for (; d < dims; ++d) {
    const double x = static_cast<double>(row[d]), difference = x - mean[d];
    square += difference * difference;
    out[d] = x - about[d];
  }
  return square;
}

inline double take_row(const Columns& rows, int64_t i, const double* mean, const double* about, double* out) {
  if (rows.column_stride == 1) {
    const int64_t at = i * rows.row_stride;
    return rows.single_precision
               ? take_row(static_cast<const float*>(rows.data) + at, rows.dims, mean, about, out)
               : take_row(static_cast<const double*>(rows.data) + at, rows.dims, mean, about, out);
  }
  double square = 0.0;
  for (int64_t d = 0; d < rows.dims; ++d) {
    const double x = number(rows, i, d), difference = x - mean[d];
    square += difference * difference;
    out[d] = x - about[d];
  }
  return square;
}

// Labels of rows b .. b + n, and the log densities of their centres, by differences in double precision.
inline void write_labels(const Pass& p, int64_t b, int64_t n, const integer* label, const double* means,
                         const double* constants) {
  const int64_t dims = p.rows.dims;
  const double scale = p.quadratics.factors[0] * p.quadratics.factors[0];
  for (int64_t i = 0; i < n; ++i) {
    const double* mean = means + label[i] * dims;
    double square = 0.0;
    for (int64_t d = 0; d < dims; ++d) {
      const double difference = number(p.rows.left, b + i, d) - mean[d];
      square += difference * difference;
    }
    p.answers.labels[b + i] = static_cast<int32_t>(label[i]);
    p.answers.best[b + i] = scale * (constants[label[i]] - 0.5 * square);
  }
}

struct NearestWorkspace {
  real *x, *leading, *trailing, *nearest, *others;
  integer *label, *unsure, *list;
  double *exact, *weight, *row;
  Bins bins;
};

inline size_t lay_out_nearest(const Pass& p, void* memory, NearestWorkspace& w) {
  Cut take{static_cast<char*>(memory)};
  const int64_t dims = p.rows.dims, padded_dims = round_up(dims, lanes);
  take(w.x, dims * stride);
  take(w.leading, padded_dims);
  take(w.trailing, padded_dims);
  take(w.label, block_rows);
  take(w.unsure, block_rows);
  take(w.list, block_rows);
  take(w.nearest, block_rows);
  take(w.others, block_rows);
  take(w.exact, padded_dims);
  take(w.weight, block_rows);
  take(w.row, dims);
  w.bins.lay_out(statistics(p), p, take);
  return static_cast<size_t>(take.at - static_cast<char*>(memory));
}

// How far rounding may lead the scores of the screen astray: see above. `of_square` times |x|^2, and `level`,
// add up to twice the error of a score, and to more than the error of |x|^2.
struct Slack {
  real of_square, level;
};

inline Slack slack_of(const CentreLayout& l, const double* exact, int64_t dims) {
  const double unit = is_double ? 1.1102230246251565e-16 : 5.9604644775390625e-08;
  const double slack = 2.02 * (static_cast<double>(dims) + 8.0) * unit, farthest = exact[l.reach];
  return {static_cast<real>(0.5 * slack),
          static_cast<real>(slack * (0.5 * farthest * farthest + exact[l.level]))};
}

// The screen of n rows of w.x: of each the best centre, whether another may be nearer, and, if `distances`,
// bounds of the distances from it and from all others: |x - m|^2 = |x|^2 - 2 score, where constants are 0.
inline void screen_rows(const Quadratics& q, const CentreLayout& l, const real* screen, const Slack& slack,
                        int64_t padded, bool distances, const NearestWorkspace& w) {
  for (int64_t i = 0; i < padded; i += group_rows) {
    Leader leader;
    vec square[groups];
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      leader.best[g] = leader.second[g] = splat(-__builtin_huge_val());
      leader.label[g] = ivec{};
      square[g] = vec{};
    }
    for (int64_t d = 0; d < q.dims; ++d) {
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const vec v = load(w.x + d * stride + i + g * lanes);
        square[g] += v * v;
      }
    }
    apply_factor<false>(q.components, q.dims, screen + l.tiles, screen + l.bias, w.x + i, leader);
    MIXTURA_UNROLL
    for (int g = 0; g < groups; ++g) {
      const int64_t at = i + g * lanes;
      *reinterpret_cast<ivec*>(w.label + at) = leader.label[g];
      // |x| |m| <= (|x|^2 + |m|^2) / 2. Not `<=`: what is not a number is not sure.
      const vec error = square[g] * slack.of_square + slack.level;
      const ivec sure = leader.best[g] - leader.second[g] > error;
      *reinterpret_cast<ivec*>(w.unsure + at) = ~sure;
      if (!distances) continue;
      const vec nothing{};
      const vec near = square[g] - 2 * leader.best[g] + 2 * error;
      const vec far = square[g] - 2 * leader.second[g] - 2 * error;
      store(w.nearest + at, near);
      store(w.others + at, (sure & (far > nothing)) ? far : nothing);
    }
  }
  if (!distances) return;
  constexpr float smaller_by = 1 - 4.8e-7f, larger_by = 1 + 4.8e-7f;  // a few roundings
  for (int64_t i = 0; i < padded; ++i) {
    w.nearest[i] = larger_by * __builtin_sqrtf(static_cast<float>(w.nearest[i]));
    w.others[i] = smaller_by * __builtin_sqrtf(static_cast<float>(w.others[i]));
  }
}

// The statistics of rows that each belong to one centre.
class Tally {
 public:
  Tally(const Pass& p, const Statistics& s, const double* means, double* sums, NearestWorkspace& w)
      : p_(p), s_(s), means_(means), sums_(sums), w_(w), binned_(in_bins(p)) {
    along_ = !p.own_pivots && p.rows.left.column_stride == 1 && p.kind != Kind::trace &&
             p.kind != Kind::diagonal && p.kind != Kind::full;
    if (binned_) w.bins.clear(p.quadratics.components);
  }

  // Rows b .. b + n, whose centres are w.label.
  void add(int64_t b, int64_t n, Prefetch& ahead) {
    if (along_ && p_.rows.left.single_precision) {
      add_rows<float>(p_, s_, means_, w_.exact, b, n, w_.label, w_.weight, sums_, squares_, rest_, ahead);
    } else if (along_) {
      add_rows<double>(p_, s_, means_, w_.exact, b, n, w_.label, w_.weight, sums_, squares_, rest_, ahead);
    } else {
      for (int64_t i = 0; i < n; ++i)
        if (w_.weight[i] != 0.0) add_one(b + i, w_.weight[i], w_.label[i]);
    }
  }

  // One row, to one centre's statistics and from another's.
  void move(int64_t row, double weight, int64_t from, int64_t to) {
    rest_ -= weight * take_row(p_.rows.left, row, means_ + from * s_.dims, p_.pivot, w_.row);
    rest_ += weight * take_row(p_.rows.left, row, means_ + to * s_.dims, p_.pivot, w_.row);
    add_taken(weight, to);
    add_taken(-weight, from);
  }

  // The log-likelihood, where components' constants are 0.
  double finish() {
    if (binned_) w_.bins.flush_all(s_, p_.quadratics.components, sums_);
    const double scale = p_.quadratics.factors[0] * p_.quadratics.factors[0];
    return -0.5 * scale * (sum(squares_) + rest_);
  }

 private:
  void add_one(int64_t row, double weight, int64_t k) {
    const double* about = p_.own_pivots ? p_.own_pivots + k * s_.dims : p_.pivot;
    rest_ += weight * take_row(p_.rows.left, row, means_ + k * s_.dims, about, w_.row);
    if (!p_.own_pivots || p_.wanted[k]) add_taken(weight, k);
  }

  void add_taken(double weight, int64_t k) {
    double* own = sums_ + k * s_.size;
    if (s_.order == Order::means) {
      own[s_.mass] += weight;
      for (int64_t d = 0; d < s_.dims; ++d) own[d] += weight * w_.row[d];
    } else if (binned_) {
      own[s_.mass] += weight;
      w_.bins.add(s_, w_.row, weight, k, own);
    } else {
      add_row(p_.kind, s_.dims, w_.row, weight, own);
    }
  }

  const Pass& p_;
  const Statistics& s_;
  const double* means_;
  double* sums_;
  NearestWorkspace& w_;
  bool binned_, along_;
  wide squares_{};
  double rest_ = 0.0;
};

// The nearest centre of those rows of the block that are not sure.
inline void decide(const Pass& p, const CentreLayout& l, const double* exact, int64_t row, int64_t j,
                   const NearestWorkspace& w) {
  for (int64_t d = 0; d < p.rows.dims; ++d) w.row[d] = number(p.rows.left, row, d);
  w.label[j] = static_cast<integer>(nearest_exactly(p.quadratics, l, exact, w.row));
}

// w.list <- the rows b .. b + n for which another centre may have become the nearest; how many. Cost: 12
// bytes a row, read and mostly written.
inline int64_t list_rows(const Memory& m, int64_t b, int64_t n, const NearestWorkspace& w) {
  constexpr float smaller_by = 1 - 2.4e-7f, larger_by = 1 + 2.4e-7f;  // two roundings
  const int32_t *labels = m.labels + b, fastest = static_cast<int32_t>(m.fastest);
  float *nearest = m.nearest + b, *others = m.others + b;
  const float *moved = m.moved, *apart = m.half, most = m.most, next = m.next;
  int32_t look[block_rows];
  for (int64_t i = 0; i < n; ++i) {
    const int32_t label = labels[i];
    const float near = (nearest[i] + moved[label]) * larger_by;
    const float far = (others[i] - (label == fastest ? next : most)) * smaller_by;
    nearest[i] = near;
    others[i] = far;
    look[i] = !(near < (far > apart[label] ? far : apart[label]));
  }
  int64_t listed = 0;
  for (int64_t i = 0; i < n; ++i) {
    w.list[listed] = static_cast<integer>(i);
    listed += look[i];
  }
  return listed;
}

// Looks at the listed rows of a block and moves those that change centres.
inline void update_rows(const Pass& p, const CentreLayout& l, const void* packed, const Slack& slack,
                        const Pivot& pivot, int64_t b, int64_t n, NearestWorkspace& w, Tally& tally) {
  const Memory& m = *p.memory;
  const double* exact = static_cast<const double*>(packed);
  const real* screen = reinterpret_cast<const real*>(exact + l.doubles);
  int64_t listed = list_rows(m, b, n, w);
  if (!listed) return;
  if (2 * listed > n) {  // as they stand: reading them costs less than choosing them
    listed = n;
    for (int64_t i = 0; i < n; ++i) w.list[i] = static_cast<integer>(i);
    pack_rows(p.rows, pivot, b, n, round_up(n, group_rows), Packed{w.x, nullptr, 0});
  } else {
    pack_listed(p.rows, pivot, b, w.list, listed, round_up(listed, group_rows), w.x);
  }
  screen_rows(p.quadratics, l, screen, slack, round_up(listed, group_rows), true, w);
  for (int64_t j = 0; j < listed; ++j) {
    const int64_t row = b + static_cast<int64_t>(w.list[j]);
    const double weight = p.sample_weight ? p.sample_weight[row] : 1.0;
    if (weight == 0.0) continue;
    if (w.unsure[j]) decide(p, l, exact, row, j, w);
    m.nearest[row] = static_cast<float>(w.nearest[j]);
    m.others[row] = static_cast<float>(w.others[j]);
    const int32_t before = m.labels[row], now = static_cast<int32_t>(w.label[j]);
    if (now == before) continue;
    m.labels[row] = now;
    tally.move(row, weight, before, now);
  }
}

inline void run_nearest(const Pass& p, const void* packed, int64_t begin, int64_t end, double* sums,
                        void* memory) {
  NearestWorkspace w;
  lay_out_nearest(p, memory, w);
  const Quadratics& q = p.quadratics;
  const CentreLayout l = centre_layout(q);
  const double* exact = static_cast<const double*>(packed);
  const real* screen = reinterpret_cast<const real*>(exact + l.doubles);
  const Statistics s = statistics(p);
  const Pivot pivot = split_pivot(p, w.exact, w.leading, w.trailing);
  const Slack slack = slack_of(l, exact, s.dims);
  const double* means = exact + l.means;
  const Memory* m = p.memory;
  Tally tally(p, s, means, sums, w);
  bool varied = false;
  for (int64_t k = 0; k < q.components; ++k) varied = varied || exact[l.constants + k] != 0.0;
  double constants = 0.0;
  for (int64_t b = begin; b < end; b += block_rows) {
    const int64_t n = smaller(end - b, block_rows), padded = round_up(n, group_rows);
    if (m && m->part == Memory::changes) {
      update_rows(p, l, packed, slack, pivot, b, n, w, tally);
      continue;
    }
    for (int64_t i = 0; i < n; ++i) w.weight[i] = p.sample_weight ? p.sample_weight[b + i] : 1.0;
    Prefetch ahead(p.rows.left, b + n, smaller(end - b - n, block_rows), n);
    if (m && m->part == Memory::recount) {
      for (int64_t i = 0; i < n; ++i) w.label[i] = static_cast<integer>(m->labels[b + i]);
      tally.add(b, n, ahead);
      continue;
    }
    pack_rows(p.rows, pivot, b, n, padded, Packed{w.x, nullptr, 0});
    screen_rows(q, l, screen, slack, padded, m, w);
    for (int64_t i = 0; i < n; ++i)
      if (q.components > 1 && w.unsure[i] && w.weight[i] != 0.0) decide(p, l, exact, b + i, i, w);
    if (p.answers.labels) {
      write_labels(p, b, n, w.label, means, exact + l.constants);
      continue;
    }
    for (int64_t i = 0; m && i < n; ++i) {
      m->labels[b + i] = static_cast<int32_t>(w.label[i]);
      m->nearest[b + i] = static_cast<float>(w.nearest[i]);
      m->others[b + i] = static_cast<float>(w.others[i]);
    }
    tally.add(b, n, ahead);
    for (int64_t i = 0; varied && i < n; ++i) constants += w.weight[i] * exact[l.constants + w.label[i]];
  }
  if (p.answers.labels) return;
  sums[q.components * s.size] += tally.finish() + q.factors[0] * q.factors[0] * constants;
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
