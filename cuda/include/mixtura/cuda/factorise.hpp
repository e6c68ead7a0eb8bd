// The M-step of many covariance matrices where their statistics are: what the host must know of the
// statistics, the Cholesky factors of the precisions, and how long vectors are that these factors turn.
//
// Statistics are (K, P), each [mass | mean | second moment]; factors are lower triangles F_k with F_k' F_k
// the precision, packed row by row, (K, D (D + 1) / 2).
#pragma once

#if !defined(__CUDACC__)
  #include <vector>
#endif

#include "mixtura/cuda/block.hpp"

namespace mixtura::cuda {

MIXTURA_BOTH int64_t triangle_size(int64_t dims) {
  return dims * (dims + 1) / 2;
}

MIXTURA_KERNEL bool is_finite(double x) {
  return x - x == 0.0;
}

// The larger one; NaN where one is.
MIXTURA_KERNEL double larger(double a, double b) {
  return a > b || a != a ? a : b;
}

// Of each component [mass | mean | diagonal of the second moment | 1 if all its statistics are finite, else
// 0], (K, 2 + 2 D). Reads the statistics once. Grid: (K).
struct Outline {
  static constexpr int threads = 128;
  struct Shared {
    int finite[threads];
  };

  const double* statistics;
  int64_t dims;
  double* out;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const int64_t size = 1 + dims + triangle_size(dims);
    const double* from = statistics + block.x * size;
    double* to = out + block.x * (2 + 2 * dims);
    block.each([&](int t) {
      int finite = 1;
      for (int64_t i = t; i < size; i += threads) finite &= is_finite(from[i]) ? 1 : 0;
      shared.finite[t] = finite;
      for (int64_t i = t; i <= dims; i += threads) to[i] = from[i];
      for (int64_t d = t; d < dims; d += threads) to[1 + dims + d] = from[1 + dims + triangle_size(d) + d];
    });
    block.each([&](int t) {
      if (t != 0) return;
      int finite = 1;
      for (int i = 0; i < threads; ++i) finite &= shared.finite[i];
      to[1 + 2 * dims] = finite;
    });
  }
};

// Factors F_k of the covariances C_k = (S_k - f_k f_k' / n_k) / n_k + diag(a), from second moments S, first
// moments f, divisors n and what is added to variances, a: with C = L L', F = L^-1. Also log |F_k|, NaN where
// C_k is not positive definite.
//
// C is factorised column by column, and L inverted row by row, both in place in shared memory: D^3 / 3
// multiply-adds of doubles, and 4 D barriers. Grid: (K).
struct InverseCholeskys {
  static constexpr int threads = 256;
  static constexpr int warps = threads / warp_size;

  const double* statistics;
  const double* mass;   // (K,) n
  const double* added;  // (D,) a
  int64_t dims;
  double* factors;
  double* log_determinants;  // (K,)

  static int64_t shared_bytes_of(int64_t dims) { return (triangle_size(dims) + dims) * 8 + threads * 4; }
  int64_t shared_bytes() const { return shared_bytes_of(dims); }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, char* shared) const {
    const int64_t size = triangle_size(dims), k = block.x;
#if !defined(__CUDACC__)
    std::vector<char> memory(static_cast<size_t>(shared_bytes()));
    shared = memory.data();
#endif
    double* const a = reinterpret_cast<double*>(shared);  // the triangle
    double* const line = a + size;                        // a column of L, or one of its rows
    int* const good = reinterpret_cast<int*>(line + dims);
    const double n = mass[k];
    const double* const first = statistics + k * (1 + dims + size) + 1;
    const double* const second = first + dims;

    // A warp has every so many rows, and its lanes have their columns.
    block.each([&](int t) {
      for (int64_t r = t / warp_size; r < dims; r += warps)
        for (int64_t c = t % warp_size; c <= r; c += warp_size) {
          const int64_t at = triangle_size(r) + c;
          a[at] = (second[at] - first[r] * (first[c] / n)) / n + (r == c ? added[r] : 0.0);
        }
    });
    for (int64_t j = 0; j < dims; ++j) {
      block.each([&](int t) {
        const double scale = 1.0 / sqrt(a[triangle_size(j) + j]);
        for (int64_t r = j + 1 + t; r < dims; r += threads) line[r] = a[triangle_size(r) + j] * scale;
      });
      block.each([&](int t) {
        if (t == 0) a[triangle_size(j) + j] = sqrt(a[triangle_size(j) + j]);
        for (int64_t r = j + 1 + t / warp_size; r < dims; r += warps) {
          double* row = a + triangle_size(r);
          const double factor = line[r];
          if (t % warp_size == 0) row[j] = factor;
          for (int64_t c = j + 1 + t % warp_size; c <= r; c += warp_size)
            row[c] = fused(-factor, line[c], row[c]);
        }
      });
    }
    for (int64_t r = 0; r < dims; ++r) {
      double* const row = a + triangle_size(r);
      block.each([&](int t) {
        for (int64_t c = t; c <= r; c += threads) line[c] = row[c];
      });
      block.each([&](int t) {
        const double scale = 1.0 / line[r];
        for (int64_t c = t; c <= r; c += threads) {
          double even = 0, odd = 0;
          const double* above = a + triangle_size(c) + c;  // F_mc, from m = c on
          int64_t m = c;
          for (; m + 1 < r; m += 2) {
            even = fused(line[m], above[0], even);
            odd = fused(line[m + 1], above[m + 1], odd);
            above += 2 * m + 3;
          }
          if (m < r) even = fused(line[m], above[0], even);
          row[c] = c == r ? scale : -(even + odd) * scale;
        }
      });
    }
    block.each([&](int t) {
      int finite = 1;
      for (int64_t i = t; i < size; i += threads) {
        factors[k * size + i] = a[i];
        finite &= is_finite(a[i]) ? 1 : 0;
      }
      good[t] = finite;
      for (int64_t d = t; d < dims; d += threads) line[d] = log(a[triangle_size(d) + d]);
    });
    block.each([&](int t) {
      if (t != 0) return;
      double sum = 0;
      int finite = 1;
      for (int64_t d = 0; d < dims; ++d) sum += line[d];
      for (int i = 0; i < threads; ++i) finite &= good[i];
      log_determinants[k] = finite ? sum : sqrt(-1.0);
    });
  }
};

// The largest sum of absolute values along a row of G' G, for G = F diag(v)^1/2: of each component's factor F
// and variances v, (K). D^3 / 3 multiply-adds of doubles, from shared memory. Grid: (K).
struct Norms {
  static constexpr int threads = 256;

  const double* factors;
  const double* variances;  // (K, D) v
  int64_t dims;
  double* out;

  static int64_t shared_bytes_of(int64_t dims) { return (triangle_size(dims) + dims) * 8; }
  int64_t shared_bytes() const { return shared_bytes_of(dims); }

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, char* shared) const {
    const int64_t size = triangle_size(dims), k = block.x;
#if !defined(__CUDACC__)
    std::vector<double> memory(static_cast<size_t>(shared_bytes() / 8));
    shared = reinterpret_cast<char*>(memory.data());
#endif
    double* const g = reinterpret_cast<double*>(shared);
    double* const sums = g + size;
    block.each([&](int t) {
      for (int64_t r = t / warp_size; r < dims; r += threads / warp_size)
        for (int64_t c = t % warp_size; c <= r; c += warp_size)
          g[triangle_size(r) + c] = factors[k * size + triangle_size(r) + c] * sqrt(variances[k * dims + c]);
    });
    block.each([&](int t) {
      for (int64_t a = t; a < dims; a += threads) {
        double sum = 0;
        for (int64_t b = 0; b < dims; ++b) {
          double product = 0;
          for (int64_t r = a > b ? a : b; r < dims; ++r)
            product = fused(g[triangle_size(r) + a], g[triangle_size(r) + b], product);
          sum += product < 0 ? -product : product;
        }
        sums[a] = sum;
      }
    });
    block.each([&](int t) {
      if (t != 0) return;
      double largest = 0;
      for (int64_t a = 0; a < dims; ++a) largest = larger(largest, sums[a]);
      out[k] = largest;
    });
  }
};

// Of each component's factor F, for squared widths w of the table about it and a vector v: the largest sum of
// F_rc^2 w_c over a row r; the smallest and the largest sum of F_rc^2; |F v|^2; and a bound of the largest
// eigenvalue of G G' with G = F diag(w)^1/2, the smaller of |G|^2 and |G|_1 |G|_inf. (K, 5). Reads the
// factors twice. Grid: (K).
struct Lengths {
  static constexpr int threads = 128;
  static constexpr int results = 5;
  static constexpr int most_dims = 256;
  struct Found {
    double widest, least, most, length, square, row, column;

    MIXTURA_KERNEL void merge(const Found& other) {
      widest = larger(widest, other.widest);
      least = other.least < least ? other.least : least;
      most = larger(most, other.most);
      length += other.length;
      square += other.square;
      row = larger(row, other.row);
      column = larger(column, other.column);
    }
  };
  struct Shared {
    double root[most_dims], vector[most_dims];
    Found found[threads];
  };

  const double* factors;
  const double* widths;   // (K, D) w, not below 0; or (D,), to which the vectors' squares are added
  const double* vectors;  // (K, D) v, or null: zeros
  int64_t dims;
  bool around;  // whether widths are (D,)
  double* out;

  template <class Block>
  MIXTURA_KERNEL void operator()(Block& block, Shared& shared) const {
    const double* const factor = factors + block.x * triangle_size(dims);
    block.each([&](int t) {
      for (int64_t c = t; c < dims; c += threads) {
        const double v = vectors ? vectors[block.x * dims + c] : 0.0;
        shared.vector[c] = v;
        shared.root[c] = sqrt(around ? widths[c] + v * v : widths[block.x * dims + c]);
      }
    });
    block.each([&](int t) {
      Found found{0, 1e300, 0, 0, 0, 0, 0};
      for (int64_t r = t; r < dims; r += threads) {
        const double* row = factor + triangle_size(r);
        Found of_row{0, 0, 0, 0, 0, 0, 0};
        double turned = 0;
        for (int64_t c = 0; c <= r; ++c) {
          const double f = row[c], g = f * shared.root[c];
          of_row.square = fused(g, g, of_row.square);
          of_row.least = fused(f, f, of_row.least);
          turned = fused(f, shared.vector[c], turned);
          of_row.row += g < 0 ? -g : g;
        }
        of_row.widest = of_row.square;
        of_row.most = of_row.least;
        of_row.length = turned * turned;
        for (int64_t below = r; below < dims; ++below) {  // of column r
          const double g = factor[triangle_size(below) + r] * shared.root[r];
          of_row.column += g < 0 ? -g : g;
        }
        found.merge(of_row);
      }
      shared.found[t] = found;
    });
    block.each([&](int t) {
      if (t != 0) return;
      Found found = shared.found[0];
      for (int i = 1; i < threads; ++i) found.merge(shared.found[i]);
      double* to = out + block.x * results;
      const double bound = found.row * found.column;
      to[0] = found.widest;
      to[1] = found.least;
      to[2] = found.most;
      to[3] = found.length;
      to[4] = bound < found.square ? bound : found.square;
    });
  }
};

}  // namespace mixtura::cuda
