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
  real *x, *squares, *leading, *trailing;
  integer *label, *unsure;
  double *exact, *weight, *row;
  Bins bins;
};

inline size_t lay_out_nearest(const Pass& p, void* memory, NearestWorkspace& w) {
  char* at = static_cast<char*>(memory);
  auto take = [&at](auto*& array, int64_t size) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(at);
    at += round_up(size * static_cast<int64_t>(sizeof *array), 64);
  };
  const int64_t dims = p.rows.dims, padded_dims = round_up(dims, lanes);
  take(w.x, dims * stride);
  take(w.squares, block_rows);
  take(w.leading, padded_dims);
  take(w.trailing, padded_dims);
  take(w.label, block_rows);
  take(w.unsure, block_rows);
  take(w.exact, padded_dims);
  take(w.weight, block_rows);
  take(w.row, dims);
  w.bins.lay_out(statistics(p), p, take);
  return static_cast<size_t>(at - static_cast<char*>(memory));
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
  const int64_t dims = s.dims;
  const Pivot pivot = split_pivot(p, w.exact, w.leading, w.trailing);
  const double unit = is_double ? 1.1102230246251565e-16 : 5.9604644775390625e-08;
  const double slack = 2.02 * (static_cast<double>(dims) + 8.0) * unit;
  const double farthest = exact[l.reach];
  const real by_square = static_cast<real>(0.5 * slack);
  const real level = static_cast<real>(slack * (0.5 * farthest * farthest + exact[l.level]));
  const double* means = exact + l.means;
  const bool along = !p.own_pivots && p.rows.left.column_stride == 1 && p.kind != Kind::trace &&
                     p.kind != Kind::diagonal && p.kind != Kind::full;
  bool varied = false;
  for (int64_t k = 0; k < q.components; ++k) varied = varied || exact[l.constants + k] != 0.0;
  const bool binned = in_bins(p);
  if (binned) w.bins.clear(q.components);
  wide squares{};
  double constants = 0.0, rest = 0.0;
  for (int64_t b = begin; b < end; b += block_rows) {
    const int64_t n = smaller(end - b, block_rows), padded = round_up(n, group_rows);
    pack_rows(p.rows, pivot, b, n, padded, Packed{w.x, nullptr, 0});
    for (int64_t i = 0; i < n; ++i) w.weight[i] = p.sample_weight ? p.sample_weight[b + i] : 1.0;
    Prefetch ahead(p.rows.left, b + n, smaller(end - b - n, block_rows), n);
    for (int64_t i = 0; i < padded; i += group_rows) {
      Leader leader;
      vec square[groups];
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        leader.best[g] = leader.second[g] = splat(-__builtin_huge_val());
        leader.label[g] = ivec{};
        square[g] = vec{};
      }
      for (int64_t d = 0; d < dims; ++d) {
        MIXTURA_UNROLL
        for (int g = 0; g < groups; ++g) {
          const vec v = load(w.x + d * stride + i + g * lanes);
          square[g] += v * v;
        }
      }
      apply_factor<false>(q.components, dims, screen + l.tiles, screen + l.bias, w.x + i, leader);
      MIXTURA_UNROLL
      for (int g = 0; g < groups; ++g) {
        const int64_t at = i + g * lanes;
        *reinterpret_cast<ivec*>(w.label + at) = leader.label[g];
        // |x| |m| <= (|x|^2 + |m|^2) / 2. Not `<=`: what is not a number is not sure.
        const ivec sure = leader.best[g] - leader.second[g] > square[g] * by_square + level;
        *reinterpret_cast<ivec*>(w.unsure + at) = ~sure;
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      if (q.components == 1 || !w.unsure[i] || w.weight[i] == 0.0) continue;
      for (int64_t d = 0; d < dims; ++d) w.row[d] = number(p.rows.left, b + i, d);
      w.label[i] = static_cast<integer>(nearest_exactly(q, l, exact, w.row));
    }
    if (p.answers.labels) {
      write_labels(p, b, n, w.label, means, exact + l.constants);
      continue;
    }
    if (along && p.rows.left.single_precision) {
      add_rows<float>(p, s, means, w.exact, b, n, w.label, w.weight, sums, squares, rest, ahead);
    } else if (along) {
      add_rows<double>(p, s, means, w.exact, b, n, w.label, w.weight, sums, squares, rest, ahead);
    } else {
      for (int64_t i = 0; i < n; ++i) {
        if (w.weight[i] == 0.0) continue;
        const double* mean = means + w.label[i] * dims;
        const double* about = p.own_pivots ? p.own_pivots + w.label[i] * dims : p.pivot;
        rest += w.weight[i] * take_row(p.rows.left, b + i, mean, about, w.row);
        if (p.own_pivots && !p.wanted[w.label[i]]) continue;
        double* own = sums + w.label[i] * s.size;
        if (s.order == Order::means) {
          own[s.mass] += w.weight[i];
          for (int64_t d = 0; d < dims; ++d) own[d] += w.weight[i] * w.row[d];
        } else if (binned) {
          w.bins.add(s, w.row, w.weight[i], w.label[i], sums);
        } else {
          add_row(p.kind, dims, w.row, w.weight[i], own);
        }
      }
    }
    for (int64_t i = 0; varied && i < n; ++i) constants += w.weight[i] * exact[l.constants + w.label[i]];
  }
  if (p.answers.labels) return;
  if (binned) w.bins.flush_all(s, q.components, sums);
  const double scale = q.factors[0] * q.factors[0];
  sums[q.components * s.size] += scale * (constants - 0.5 * (sum(squares) + rest));
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
