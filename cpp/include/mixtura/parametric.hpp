// The log-density of a mixture as a template over the type of number, and its adjoint.
//
//   log p(y | x) = log sum_k exp(j_k),   j_k = log pi_k(x) - sum_i log L_ii - M/2 log 2 pi - 1/2 |z_k|^2,
//   L_k z_k = e_k = y - C_k [1; x]
#pragma once

#include "mixtura/derivatives.hpp"
#include "mixtura/dual.hpp"
#include "mixtura/evaluate.hpp"
#include "mixtura/nearest.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

constexpr double log_two_pi = 1.8378770664093454836;

// Hands out parts of a block of memory, each from a cache line's start; with null memory it only counts.
class Arena {
 public:
  explicit Arena(void* memory) : at_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    T* found = reinterpret_cast<T*>(at_ ? at_ + used_ : nullptr);
    used_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return found;
  }
  size_t used() const { return static_cast<size_t>(used_); }

 private:
  char* at_;
  int64_t used_ = 0;
};

// What the density needs of theta, worked out once for all rows.
template <class Number>
struct Decoded {
  Number* theta;    // (P,) with the reciprocals of L's diagonal in place of its logarithms
  Number* weights;  // (K,) log pi of a constant gate
  Number* offsets;  // (K,) - sum_i log L_ii - M/2 log 2 pi
};

template <class Number>
inline Decoded<Number> take_decoded(const Parametric& s, Arena& arena) {
  Decoded<Number> d;
  d.theta = arena.take<Number>(s.size());
  d.weights = arena.take<Number>(s.components);
  d.offsets = arena.take<Number>(s.components);
  return d;
}

template <class Number>
inline Number log_sum_exp(const Number* v, int64_t count) {
  Lanes top = plain(v[0]);
  for (int64_t k = 1; k < count; ++k) {
    const Lanes next = plain(v[k]);
    top.v = top.v > next.v ? top.v : next.v;
  }
  Number peak, total;
  set_constant(peak, top);
  total = exp(v[0] - peak);
  for (int64_t k = 1; k < count; ++k) total = total + exp(v[k] - peak);
  return log(total) + peak;
}

// `theta` holds the parameters as numbers, derivatives included.
template <class Number>
inline void decode(const Parametric& s, Decoded<Number>& d) {
  const int64_t scales = s.shared ? 1 : s.components, M = s.targets;
  for (int64_t k = 0; k < scales; ++k) {
    Number* scale = d.theta + s.scale_of(k);
    Number offset;
    set_constant(offset, lanes_of(-0.5 * static_cast<double>(M) * log_two_pi));
    const int64_t entries = s.form == Factor::scalar ? 1 : M;
    for (int64_t i = 0; i < entries; ++i) {
      Number& entry = scale[s.form == Factor::triangle ? i * (i + 3) / 2 : i];
      offset = offset - (s.form == Factor::scalar ? static_cast<double>(M) : 1.0) * entry;
      entry = exp(-1.0 * entry);
    }
    for (int64_t l = k; l < (s.shared ? s.components : k + 1); ++l) d.offsets[l] = offset;
  }
  if (s.softmax) return;
  for (int64_t k = 0; k < s.components - 1; ++k) d.weights[k] = d.theta[k];
  set_constant(d.weights[s.components - 1], Lanes{});
  const Number norm = log_sum_exp(d.weights, s.components);
  for (int64_t k = 0; k < s.components; ++k) d.weights[k] = d.weights[k] - norm;
}

// log pi_k(x), (K,)
template <class Number>
inline void log_gate(const Parametric& s, const Decoded<Number>& d, const Number* x, Number* out) {
  if (!s.softmax) {
    for (int64_t k = 0; k < s.components; ++k) out[k] = d.weights[k];
    return;
  }
  for (int64_t k = 0; k < s.components - 1; ++k) {
    const Number* row = d.theta + k * s.gate_row();
    out[k] = row[0];
    for (int64_t q = 0; q < s.covariates; ++q) out[k] = out[k] + row[1 + q] * x[q];
  }
  set_constant(out[s.components - 1], Lanes{});
  const Number norm = log_sum_exp(out, s.components);
  for (int64_t k = 0; k < s.components; ++k) out[k] = out[k] - norm;
}

// z of component k from [x; y]; returns |z|^2. Cost: M B + M^2 / 2 multiply-adds.
template <class Number>
inline Number whitened(const Parametric& s, const Decoded<Number>& d, int64_t k, const Number* row,
                       Number* z) {
  const int64_t M = s.targets, Q = s.covariates, B = s.coefficients();
  const Number* scale = d.theta + s.scale_of(k);
  Number squares;
  set_constant(squares, Lanes{});
  for (int64_t i = 0; i < M; ++i) {
    const Number* c = d.theta + s.coefficients_of(k) + i * B;
    Number e = s.intercept ? row[Q + i] - c[0] : row[Q + i];
    for (int64_t q = 0; q < Q; ++q) e = e - c[B - Q + q] * row[q];
    if (s.form == Factor::triangle) {
      const Number* l = scale + i * (i + 1) / 2;
      for (int64_t j = 0; j < i; ++j) e = e - l[j] * z[j];
      z[i] = e * l[i];
    } else {
      z[i] = e * scale[s.form == Factor::diagonal ? i : 0];
    }
    squares = squares + z[i] * z[i];
  }
  return squares;
}

// log p(y | x). `work` holds K + M numbers.
template <class Number>
inline Number log_density(const Parametric& s, const Decoded<Number>& d, const Number* row, Number* work) {
  Number *joint = work, *z = work + s.components;
  log_gate(s, d, row, joint);
  for (int64_t k = 0; k < s.components; ++k)
    joint[k] = joint[k] + d.offsets[k] - 0.5 * whitened(s, d, k, row, z);
  return log_sum_exp(joint, s.components);
}

// Rows begin .. begin + count of the table on lanes, zeros after them: out (D,).
template <class Number>
inline void read_rows(const Rows& rows, int64_t begin, int64_t count, Number* out) {
  for (int64_t d = 0; d < rows.dims; ++d) {
    Lanes column{};
    for (int64_t i = 0; i < count; ++i)
      column.v[i] = d < rows.left.dims ? number(rows.left, begin + i, d)
                                       : number(rows.right, begin + i, d - rows.left.dims);
    set_constant(out[d], column);
  }
}

inline void write_lanes(double* out, int64_t row_stride, int64_t count, Lanes values) {
  for (int64_t i = 0; i < count; ++i) out[i * row_stride] = values.v[i];
}

// ---- forward mode ----------------------------------------------------------------------------------------

typedef Dual<Lanes, 1> Tangent;
typedef Dual<Dual<Lanes, directions>, directions> Second;

template <class Number>
struct Forward {
  Decoded<Number> decoded;
  Number *row, *work;

  Forward(const Parametric& s, Arena& arena)
      : decoded(take_decoded<Number>(s, arena)),
        row(arena.take<Number>(s.dims())),
        work(arena.take<Number>(s.components + s.targets)) {}
};

inline size_t tangent_bytes(const DerivativePass& p) {
  Arena arena(nullptr);
  Forward<Tangent> counted(p.shape, arena);
  return arena.used();
}

inline void tangent(const DerivativePass& p, int64_t begin, int64_t end, void* memory) {
  Arena arena(memory);
  Forward<Tangent> f(p.shape, arena);
  for (int64_t i = 0; i < p.shape.size(); ++i)
    f.decoded.theta[i] = Tangent{lanes_of(p.theta[i]), {lanes_of(p.direction[i])}};
  decode(p.shape, f.decoded);
  for (int64_t b = begin; b < end; b += wide_lanes) {
    const int64_t n = smaller(wide_lanes, end - b);
    read_rows(p.rows, b, n, f.row);
    const Tangent found = log_density(p.shape, f.decoded, f.row, f.work);
    if (p.density) write_lanes(p.density + b, 1, n, found.value);
    write_lanes(p.tangent + b, 1, n, found.tangent[0]);
  }
}

inline size_t forward_bytes(const DerivativePass& p) {
  Arena arena(nullptr);
  Forward<Second> counted(p.shape, arena);
  return arena.used();
}

// Numbers i, i + 1, ... are the inner directions, numbers j, j + 1, ... the outer ones.
inline void seed(Second* numbers, int64_t count, int64_t i, int64_t j) {
  for (int64_t a = 0; a < directions; ++a) {
    if (i + a < count) numbers[i + a].value.tangent[a] = lanes_of(1.0);
    if (j + a < count) numbers[j + a].tangent[a].value = lanes_of(1.0);
  }
}

inline void forward_rows(const DerivativePass& p, int64_t begin, int64_t end, void* memory) {
  Arena arena(memory);
  Forward<Second> f(p.shape, arena);
  for (int64_t i = 0; i < p.shape.size(); ++i) set_constant(f.decoded.theta[i], lanes_of(p.theta[i]));
  decode(p.shape, f.decoded);
  const int64_t D = p.shape.dims();
  for (int64_t b = begin; b < end; b += wide_lanes) {
    const int64_t n = smaller(wide_lanes, end - b);
    for (int64_t i = 0; i < D; i += directions) {
      for (int64_t j = 0; j <= i; j += directions) {
        read_rows(p.rows, b, n, f.row);
        seed(f.row, D, i, j);
        const Second found = log_density(p.shape, f.decoded, f.row, f.work);
        if (p.density) write_lanes(p.density + b, 1, n, found.value.value);
        for (int64_t a = 0; a < directions && i + a < D; ++a) {
          write_lanes(p.row_gradient + b * D + i + a, D, n, found.value.tangent[a]);
          for (int64_t c = 0; c < directions && j + c < D; ++c) {
            write_lanes(p.row_hessian + (b * D + i + a) * D + j + c, D * D, n, found.tangent[c].tangent[a]);
            write_lanes(p.row_hessian + (b * D + j + c) * D + i + a, D * D, n, found.tangent[c].tangent[a]);
          }
        }
      }
    }
  }
}

inline void forward_sums(const DerivativePass& p, int64_t i, int64_t j, int64_t begin, int64_t end,
                         double* sums, void* memory) {
  Arena arena(memory);
  Forward<Second> f(p.shape, arena);
  const int64_t P = p.shape.size();
  for (int64_t a = 0; a < P; ++a) set_constant(f.decoded.theta[a], lanes_of(p.theta[a]));
  seed(f.decoded.theta, P, i, j);
  decode(p.shape, f.decoded);
  for (int64_t b = begin; b < end; b += wide_lanes) {
    const int64_t n = smaller(wide_lanes, end - b);
    read_rows(p.rows, b, n, f.row);
    const Second found = log_density(p.shape, f.decoded, f.row, f.work);
    for (int64_t r = 0; r < n; ++r) {
      const double w = p.weight ? p.weight[b + r] : 1.0;
      if (w == 0.0) continue;  // whatever the row holds
      sums[0] += w * found.value.value.v[r];
      for (int64_t a = 0; a < directions; ++a) {
        sums[1 + a] += w * found.value.tangent[a].v[r];
        sums[1 + directions + a] += w * found.tangent[a].value.v[r];
        for (int64_t c = 0; c < directions; ++c)
          sums[1 + 2 * directions + a * directions + c] += w * found.tangent[c].tangent[a].v[r];
      }
    }
  }
}

// ---- reverse mode ----------------------------------------------------------------------------------------

// Derivatives of j_k, with L' u = z:
//
//   by C_k        u [1; x]'                     by L_ij, j < i        u_i z_j
//   by y, x       -u, and C_k' u without the intercept      by log L_ii           u_i z_i L_ii - 1
//
// The density's are their averages with the responsibilities r_k, and for the gate r_k - pi_k times [1; x].
struct Adjoint {
  Decoded<Lanes> decoded;
  Lanes *row, *gate, *resp, *z, *u, *scores, *shared, *gradient, *of_component, *hessian;
  double *curvature, *inverse;  // (K, D, D) E' (L L')^-1 E with E = [-C | I]; (M, D)

  Adjoint(const DerivativePass& p, Arena& arena) : decoded(take_decoded<Lanes>(p.shape, arena)) {
    const Parametric& s = p.shape;
    const int64_t M = s.targets, K = s.components, D = s.dims(), widest = M * s.coefficients();
    row = arena.take<Lanes>(D);
    gate = arena.take<Lanes>(K);
    resp = arena.take<Lanes>(K);
    z = arena.take<Lanes>(K * M);
    u = arena.take<Lanes>(M);
    const int64_t own = widest > s.scale_row() ? widest : s.scale_row();
    scores = arena.take<Lanes>(p.scores ? (own > s.gate_size() ? own : s.gate_size()) : 0);
    shared = arena.take<Lanes>(p.scores && s.shared ? s.scale_row() : 0);
    gradient = arena.take<Lanes>(D);
    of_component = arena.take<Lanes>(D);
    hessian = arena.take<Lanes>(p.row_hessian ? D * D : 0);
    curvature = arena.take<double>(p.row_hessian ? K * D * D : 0);
    inverse = arena.take<double>(p.row_hessian ? M * D : 0);
  }
};

inline size_t adjoint_bytes(const DerivativePass& p) {
  Arena arena(nullptr);
  Adjoint counted(p, arena);
  return arena.used();
}

// out[i * pitch + p] <- values[p] lane i, a square of lanes at a time.
inline void write_row_major(const Lanes* values, int64_t size, double* out, int64_t pitch, int64_t count) {
  int64_t p = 0;
  for (; count == wide_lanes && p + wide_lanes <= size; p += wide_lanes) {
    vec square[lanes];
    MIXTURA_UNROLL
    for (int i = 0; i < lanes; ++i) square[i] = values[p + i].v;
    transpose(square);
    MIXTURA_UNROLL
    for (int i = 0; i < lanes; ++i) store_unaligned(out + i * pitch + p, square[i]);
  }
  for (; p < size; ++p)
    for (int64_t i = 0; i < count; ++i) out[i * pitch + p] = values[p].v[i];
}

// Back substitution: L' u = z.
inline void solve_transposed(const Parametric& s, const Decoded<Lanes>& d, int64_t k, const Lanes* z,
                             Lanes* u) {
  const Lanes* scale = d.theta + s.scale_of(k);
  const int64_t M = s.targets;
  for (int64_t i = M; i-- > 0;) {
    if (s.form == Factor::triangle) {
      Lanes e = z[i];
      for (int64_t j = i + 1; j < M; ++j) e = e - scale[j * (j + 1) / 2 + i] * u[j];
      u[i] = e * scale[i * (i + 3) / 2];
    } else {
      u[i] = z[i] * scale[s.form == Factor::diagonal ? i : 0];
    }
  }
}

// E' (L L')^-1 E of every component: L^-1 E column by column, then its products.
inline void find_curvatures(const Parametric& s, const Adjoint& a) {
  const int64_t M = s.targets, Q = s.covariates, D = s.dims(), B = s.coefficients();
  for (int64_t k = 0; k < s.components; ++k) {
    const Lanes* scale = a.decoded.theta + s.scale_of(k);
    for (int64_t i = 0; i < M; ++i) {
      for (int64_t d = 0; d < D; ++d) {
        double e = d < Q ? -a.decoded.theta[s.coefficients_of(k) + i * B + B - Q + d].v[0]
                         : (d - Q == i ? 1.0 : 0.0);
        if (s.form == Factor::triangle) {
          for (int64_t j = 0; j < i; ++j) e -= scale[i * (i + 1) / 2 + j].v[0] * a.inverse[j * D + d];
          e *= scale[i * (i + 3) / 2].v[0];
        } else {
          e *= scale[s.form == Factor::diagonal ? i : 0].v[0];
        }
        a.inverse[i * D + d] = e;
      }
    }
    double* out = a.curvature + k * D * D;
    for (int64_t b = 0; b < D; ++b)
      for (int64_t c = 0; c < D; ++c) {
        double sum = 0.0;
        for (int64_t i = 0; i < M; ++i) sum += a.inverse[i * D + b] * a.inverse[i * D + c];
        out[b * D + c] = sum;
      }
  }
}

// The scores of one component of the rows begin .. begin + n.
inline void write_scores(const DerivativePass& p, const Adjoint& a, int64_t k, int64_t begin, int64_t n) {
  const Parametric& s = p.shape;
  const int64_t M = s.targets, Q = s.covariates, B = s.coefficients(), P = s.size();
  const Lanes r = a.resp[k], *z = a.z + k * M, *u = a.u;
  double* out = p.scores + begin * P;
  for (int64_t i = 0; i < M; ++i) {
    const Lanes ru = r * u[i];
    Lanes* c = a.scores + i * B;
    if (s.intercept) c[0] = ru;
    for (int64_t q = 0; q < Q; ++q) c[B - Q + q] = ru * a.row[q];
  }
  write_row_major(a.scores, M * B, out + s.coefficients_of(k), P, n);
  const Lanes* scale = a.decoded.theta + s.scale_of(k);
  Lanes* of_scale = a.scores;
  if (s.form == Factor::triangle) {
    for (int64_t i = 0; i < M; ++i) {
      const Lanes ru = r * u[i];
      Lanes* l = of_scale + i * (i + 1) / 2;
      for (int64_t j = 0; j < i; ++j) l[j] = ru * z[j];
      l[i] = ru * z[i] / scale[i * (i + 3) / 2] - r;
    }
  } else if (s.form == Factor::diagonal) {
    for (int64_t i = 0; i < M; ++i) of_scale[i] = r * (z[i] * z[i]) - r;
  } else {
    Lanes squares{};
    for (int64_t i = 0; i < M; ++i) squares = squares + z[i] * z[i];
    of_scale[0] = r * squares - static_cast<double>(M) * r;
  }
  if (s.shared)
    for (int64_t i = 0; i < s.scale_row(); ++i) a.shared[i] = a.shared[i] + of_scale[i];
  else
    write_row_major(of_scale, s.scale_row(), out + s.scale_of(k), P, n);
}

inline void write_gate_scores(const DerivativePass& p, const Adjoint& a, int64_t begin, int64_t n) {
  const Parametric& s = p.shape;
  for (int64_t k = 0; k < s.components - 1; ++k) {
    const Lanes away = a.resp[k] - a.gate[k];
    Lanes* out = a.scores + k * s.gate_row();
    out[0] = away;
    if (s.softmax)
      for (int64_t q = 0; q < s.covariates; ++q) out[1 + q] = away * a.row[q];
  }
  write_row_major(a.scores, s.gate_size(), p.scores + begin * s.size(), s.size(), n);
}

// The gradient of j_k, less that of the gate's norm, by [x; y]: (D,)
inline void find_row_gradient(const Parametric& s, const Adjoint& a, int64_t k) {
  const int64_t M = s.targets, Q = s.covariates, B = s.coefficients();
  for (int64_t q = 0; q < Q; ++q) {
    Lanes g = s.softmax && k < s.components - 1 ? a.decoded.theta[k * s.gate_row() + 1 + q] : Lanes{};
    for (int64_t i = 0; i < M; ++i)
      g = g + a.decoded.theta[s.coefficients_of(k) + i * B + B - Q + q] * a.u[i];
    a.of_component[q] = g;
  }
  for (int64_t i = 0; i < M; ++i) a.of_component[Q + i] = -1.0 * a.u[i];
}

// One component more in the mean g of the gradients g_k with weights r_k, and in r_k (g_k - g) (g_k - g)',
// which is kept centred: far from all components g_k g_k' is so large that its differences would have no
// digits. With W the weight seen so far, d = g_k - g and s = r_k / (W + r_k) (West 1979):
//   g <- g + s d     H <- H + s W d d' - r_k E' (L L')^-1 E
inline void add_to_mean(const DerivativePass& p, const Adjoint& a, int64_t k, wide& seen) {
  const int64_t D = p.shape.dims();
  const Lanes r = a.resp[k];
  const wide total = seen + r.v;
  const Lanes share{total > 0.0 ? r.v / total : wide{}}, spread{share.v * seen};
  for (int64_t d = 0; d < D; ++d) a.of_component[d] = a.of_component[d] - a.gradient[d];
  for (int64_t d = 0; d < D; ++d) a.gradient[d] = a.gradient[d] + share * a.of_component[d];
  seen = total;
  if (!p.row_hessian) return;
  const double* curvature = a.curvature + k * D * D;
  for (int64_t i = 0; i < D; ++i)
    for (int64_t j = 0; j <= i; ++j)
      a.hessian[i * D + j] = a.hessian[i * D + j] + spread * a.of_component[i] * a.of_component[j] -
                             r * lanes_of(curvature[i * D + j]);
}

// With g_k the gradients of j_k and v_k the gate's slopes, averaged with r and with pi:
//   gradient  <g>_r - <v>_pi     Hessian  <(g - <g>_r) (g - <g>_r)' - E' (L L')^-1 E>_r - <v v'>_pi + <v>_pi
//   <v>_pi'
inline void finish_rows(const DerivativePass& p, const Adjoint& a, int64_t begin, int64_t n) {
  const Parametric& s = p.shape;
  const int64_t Q = s.covariates, D = s.dims(), last = s.components - 1;
  if (s.softmax) {
    for (int64_t b = 0; b < Q; ++b) a.of_component[b] = Lanes{};
    for (int64_t k = 0; k < last; ++k) {
      const Lanes* v = a.decoded.theta + k * s.gate_row() + 1;
      for (int64_t b = 0; b < Q; ++b) {
        a.of_component[b] = a.of_component[b] + a.gate[k] * v[b];
        for (int64_t c = 0; p.row_hessian && c <= b; ++c)
          a.hessian[b * D + c] = a.hessian[b * D + c] - a.gate[k] * v[b] * v[c];
      }
    }
    for (int64_t b = 0; b < Q; ++b) {
      a.gradient[b] = a.gradient[b] - a.of_component[b];
      for (int64_t c = 0; p.row_hessian && c <= b; ++c)
        a.hessian[b * D + c] = a.hessian[b * D + c] + a.of_component[b] * a.of_component[c];
    }
  }
  if (p.row_gradient) write_row_major(a.gradient, D, p.row_gradient + begin * D, D, n);
  if (p.row_hessian) {
    for (int64_t b = 0; b < D; ++b)
      for (int64_t c = 0; c < b; ++c) a.hessian[c * D + b] = a.hessian[b * D + c];
    write_row_major(a.hessian, D * D, p.row_hessian + begin * D * D, D * D, n);
  }
}

inline void adjoint(const DerivativePass& p, int64_t begin, int64_t end, void* memory) {
  Arena arena(memory);
  Adjoint a(p, arena);
  const Parametric& s = p.shape;
  const int64_t K = s.components, M = s.targets, D = s.dims();
  for (int64_t i = 0; i < s.size(); ++i) a.decoded.theta[i] = lanes_of(p.theta[i]);
  decode(s, a.decoded);
  const bool of_rows = p.row_gradient || p.row_hessian;
  if (p.row_hessian) find_curvatures(s, a);
  for (int64_t b = begin; b < end; b += wide_lanes) {
    const int64_t n = smaller(wide_lanes, end - b);
    read_rows(p.rows, b, n, a.row);
    log_gate(s, a.decoded, a.row, a.gate);
    for (int64_t k = 0; k < K; ++k)
      a.resp[k] = a.gate[k] + a.decoded.offsets[k] - 0.5 * whitened(s, a.decoded, k, a.row, a.z + k * M);
    wide top = a.resp[0].v, total{};
    for (int64_t k = 1; k < K; ++k) top = a.resp[k].v > top ? a.resp[k].v : top;
    for (int64_t k = 0; k < K; ++k) {
      a.resp[k].v = exp2_nonpositive((a.resp[k].v - top) * log2e);
      total += a.resp[k].v;
    }
    if (p.density) write_lanes(p.density + b, 1, n, {top + log2_positive(total) * ln2});
    for (int64_t k = 0; k < K; ++k) a.resp[k].v /= total;
    if (p.resp) write_row_major(a.resp, K, p.resp + b * K, K, n);
    if (p.scores || of_rows)
      for (int64_t k = 0; k < K; ++k) a.gate[k].v = exp2_nonpositive(a.gate[k].v * log2e);
    if (p.scores) {
      write_gate_scores(p, a, b, n);
      for (int64_t i = 0; s.shared && i < s.scale_row(); ++i) a.shared[i] = Lanes{};
    }
    for (int64_t d = 0; d < D; ++d) a.gradient[d] = Lanes{};
    for (int64_t i = 0; p.row_hessian && i < D * D; ++i) a.hessian[i] = Lanes{};
    wide seen{};
    for (int64_t k = 0; (p.scores || of_rows) && k < K; ++k) {
      solve_transposed(s, a.decoded, k, a.z + k * M, a.u);
      if (p.scores) write_scores(p, a, k, b, n);
      if (!of_rows) continue;
      find_row_gradient(s, a, k);
      add_to_mean(p, a, k, seen);
    }
    if (p.scores && s.shared)
      write_row_major(a.shared, s.scale_row(), p.scores + b * s.size() + s.scale_begin(), s.size(), n);
    if (of_rows) finish_rows(p, a, b, n);
  }
}

constexpr DerivativeKernels derivative_kernels() {
  return DerivativeKernels{adjoint_bytes, adjoint,      tangent_bytes, tangent,
                           forward_bytes, forward_rows, forward_sums};
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
