// Vectors of the number type that a translation unit computes in, and the transcendental functions that
// mixtures need. Compiled once per instruction set and number type, inside a namespace of its own; no
// functions of the standard library here, because an inline one compiled for AVX-512 could be the copy that
// the linker keeps for everyone.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <utility>

#ifdef __x86_64__
  #include <immintrin.h>
#endif

#if !defined(MIXTURA_ISA) || !defined(MIXTURA_VECTOR_BYTES) || !defined(MIXTURA_REAL)
  #error "define MIXTURA_ISA (a namespace), MIXTURA_VECTOR_BYTES and MIXTURA_REAL (float or double)"
#endif

#define MIXTURA_INLINE inline __attribute__((always_inline))
#ifdef __clang__
  #define MIXTURA_UNROLL _Pragma("clang loop unroll_count(32)")
#else
  #define MIXTURA_UNROLL _Pragma("GCC unroll 32")
#endif

namespace mixtura {
namespace MIXTURA_ISA {

typedef MIXTURA_REAL real;
constexpr bool is_double = sizeof(real) == 8;
constexpr int lanes = MIXTURA_VECTOR_BYTES / sizeof(real);

template <bool eight_bytes>
struct Integers {
  typedef int64_t signed_type;
  typedef uint64_t unsigned_type;
};
template <>
struct Integers<false> {
  typedef int32_t signed_type;
  typedef uint32_t unsigned_type;
};
typedef Integers<is_double>::signed_type integer;
typedef Integers<is_double>::unsigned_type bits;

typedef real vec __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias));
typedef integer ivec __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias));
typedef bits uvec __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias));
typedef real unaligned_vec
    __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias, aligned(sizeof(real))));

// Doubles whatever the real: sums over many rows, logarithms.
constexpr int wide_lanes = MIXTURA_VECTOR_BYTES / 8;
typedef double wide __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias));
typedef double unaligned_wide __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias, aligned(8)));
typedef int64_t wide_integers __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias));
typedef float half __attribute__((vector_size(MIXTURA_VECTOR_BYTES / 2), may_alias, aligned(4)));

MIXTURA_INLINE vec load(const real* p) {
  return *reinterpret_cast<const vec*>(p);
}
MIXTURA_INLINE vec load_unaligned(const real* p) {
  return *reinterpret_cast<const unaligned_vec*>(p);
}
MIXTURA_INLINE void store(real* p, vec v) {
  *reinterpret_cast<vec*>(p) = v;
}
MIXTURA_INLINE void store_unaligned(real* p, vec v) {
  *reinterpret_cast<unaligned_vec*>(p) = v;
}
// A vector as doubles or as floats, to anywhere.
MIXTURA_INLINE void store_numbers(real* p, vec v) {
  store_unaligned(p, v);
}
using other = std::conditional_t<is_double, float, double>;
MIXTURA_INLINE void store_numbers(other* p, vec v) {
  typedef other others
      __attribute__((vector_size(lanes * sizeof(other)), aligned(alignof(other)), may_alias));
  *reinterpret_cast<others*>(p) = __builtin_convertvector(v, others);
}
MIXTURA_INLINE vec splat(real s) {
  return s - vec{};
}  // -0.0 stays -0.0
MIXTURA_INLINE vec max(vec a, vec b) {
  return a > b ? a : b;
}
MIXTURA_INLINE vec min(vec a, vec b) {
  return a < b ? a : b;
}
// Bit j says whether a comparison holds in lane j.
MIXTURA_INLINE unsigned lanes_of(ivec mask) {
#if defined(__x86_64__) && MIXTURA_VECTOR_BYTES == 64
  const __m512i m = reinterpret_cast<__m512i>(mask);
  return is_double ? static_cast<unsigned>(_mm512_movepi64_mask(m)) : _mm512_movepi32_mask(m);
#elif defined(__x86_64__) && MIXTURA_VECTOR_BYTES == 32
  const __m256i m = reinterpret_cast<__m256i>(mask);
  return static_cast<unsigned>(is_double ? _mm256_movemask_pd(_mm256_castsi256_pd(m))
                                         : _mm256_movemask_ps(_mm256_castsi256_ps(m)));
#elif defined(__x86_64__)
  const __m128i m = reinterpret_cast<__m128i>(mask);
  return static_cast<unsigned>(is_double ? _mm_movemask_pd(_mm_castsi128_pd(m))
                                         : _mm_movemask_ps(_mm_castsi128_ps(m)));
#else
  unsigned found = 0;
  for (int j = 0; j < lanes; ++j) found |= static_cast<unsigned>(mask[j] & 1) << j;
  return found;
#endif
}
// Whether it holds in any lane.
MIXTURA_INLINE bool any(ivec mask) {
#ifdef __x86_64__
  return lanes_of(mask) != 0;
#else
  integer found = 0;
  for (int j = 0; j < lanes; ++j) found |= mask[j];
  return found != 0;
#endif
}
MIXTURA_INLINE int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}
MIXTURA_INLINE int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

// wide_lanes numbers from anywhere, as doubles.
MIXTURA_INLINE wide load_wide(const double* p) {
  return *reinterpret_cast<const unaligned_wide*>(p);
}
MIXTURA_INLINE wide load_wide(const float* p) {
  return __builtin_convertvector(*reinterpret_cast<const half*>(p), wide);
}
MIXTURA_INLINE void store_wide(double* p, wide v) {
  *reinterpret_cast<unaligned_wide*>(p) = v;
}

// Half of a vector, as doubles: lanes first, first + 1, ...
template <int first, int... j>
MIXTURA_INLINE wide widen(vec v, std::integer_sequence<int, j...>) {
  if constexpr (is_double)
    return reinterpret_cast<wide>(v);
  else
    return __builtin_convertvector(__builtin_shufflevector(v, v, (first + j)...), wide);
}

// Two vectors of doubles as one of reals; where those are doubles, the first of them.
template <int... j>
MIXTURA_INLINE vec narrow(wide low, wide high, std::integer_sequence<int, j...>) {
  if constexpr (is_double)
    return reinterpret_cast<vec>(low);
  else
    return reinterpret_cast<vec>(__builtin_shufflevector(__builtin_convertvector(low, half),
                                                         __builtin_convertvector(high, half), j...));
}

// sums[0 .. lanes) += v, in double.
MIXTURA_INLINE void add_to(double* sums, vec v) {
  constexpr auto all = std::make_integer_sequence<int, wide_lanes>{};
  store_wide(sums, load_wide(sums) + widen<0>(v, all));
  if constexpr (!is_double)
    store_wide(sums + wide_lanes, load_wide(sums + wide_lanes) + widen<wide_lanes>(v, all));
}

// Lane j of the result is a[j] where bit `step` of j is 0 and b[j - step] where it is 1; and the other half,
// a[j + step] and b[j]. Transposing a square of lanes x lanes takes this for every power of two below lanes.
template <int step, int... j>
MIXTURA_INLINE void butterfly(vec& a, vec& b, std::integer_sequence<int, j...>) {
  const vec low = __builtin_shufflevector(a, b, (j & step ? lanes + j - step : j)...);
  const vec high = __builtin_shufflevector(a, b, (j & step ? lanes + j : j + step)...);
  a = low;
  b = high;
}
template <int step>
MIXTURA_INLINE void butterfly(vec& a, vec& b) {
  butterfly<step>(a, b, std::make_integer_sequence<int, lanes>{});
}

template <int step>
MIXTURA_INLINE void transpose_steps(vec (&v)[lanes]) {
  if constexpr (step < lanes) {
    MIXTURA_UNROLL
    for (int i = 0; i < lanes; ++i)
      if (!(i & step)) butterfly<step>(v[i], v[i | step]);
    transpose_steps<2 * step>(v);
  }
}

// v[i][j] <-> v[j][i]
MIXTURA_INLINE void transpose(vec (&v)[lanes]) {
  transpose_steps<1>(v);
}

template <int step>
MIXTURA_INLINE void sum_steps(vec (&v)[lanes]) {
  if constexpr (step < lanes) {
    MIXTURA_UNROLL
    for (int i = 0; i < lanes; i += 2 * step) {
      butterfly<step>(v[i], v[i + step]);
      v[i] += v[i + step];
    }
    sum_steps<2 * step>(v);
  }
}

// Lane i of the result is the sum over the lanes of v[i]: a transposition that adds as it goes, lanes - 1
// additions for all of them. The order of the sums is fixed by the vector length alone.
MIXTURA_INLINE vec sums(vec (&v)[lanes]) {
  sum_steps<1>(v);
  return v[0];
}

template <class V>
MIXTURA_INLINE double sum(V v) {
  double s = 0.0;
  for (size_t i = 0; i < sizeof(V) / sizeof(v[0]); ++i) s += static_cast<double>(v[i]);
  return s;
}

// Responsibilities below 2^lowest_exponent are exactly 0: far under the rounding of their row's sum, and
// subnormals would cost 100 cycles each.
constexpr real lowest_exponent = is_double ? -500 : -75;

#if MIXTURA_VECTOR_BYTES == 64
// 2^(j / size) for j < size, its bits less j at the place where exp2_nonpositive adds them.
struct Exp2Table {
  alignas(64) bits value[2 * lanes];
  constexpr Exp2Table() : value() {
    constexpr double roots[32] = {// 2^(j / 32)
                                  1.0,
                                  1.0218971486541166,
                                  1.0442737824274138,
                                  1.0671404006768237,
                                  1.0905077326652577,
                                  1.1143867425958924,
                                  1.1387886347566916,
                                  1.1637248587775775,
                                  1.189207115002721,
                                  1.215247359980469,
                                  1.241857812073484,
                                  1.2690509571917332,
                                  1.2968395546510096,
                                  1.3252366431597413,
                                  1.3542555469368927,
                                  1.383909881963832,
                                  1.4142135623730951,
                                  1.4451808069770467,
                                  1.4768261459394993,
                                  1.5091644275934228,
                                  1.5422108254079407,
                                  1.5759808451078865,
                                  1.6104903319492543,
                                  1.645755478153965,
                                  1.681792830507429,
                                  1.718619298122478,
                                  1.7562521603732995,
                                  1.7947090750031072,
                                  1.8340080864093424,
                                  1.8741676341103,
                                  1.9152065613971474,
                                  1.9571441241754002};
    for (int j = 0; j < 2 * lanes; ++j) {
      const real root = static_cast<real>(roots[j * 16 / lanes]);
      value[j] = __builtin_bit_cast(bits, root) - (static_cast<bits>(j) << (is_double ? 48 : 18));
    }
  }
};
constexpr Exp2Table exp2_table;

// The entries of a table of two registers that the low bits of `places` name.
MIXTURA_INLINE uvec look_up(uvec low, uvec high, uvec places) {
  const __m512i a = reinterpret_cast<__m512i>(low), b = reinterpret_cast<__m512i>(high);
  const __m512i i = reinterpret_cast<__m512i>(places);
  if constexpr (is_double)
    return reinterpret_cast<uvec>(_mm512_permutex2var_epi64(a, i, b));
  else
    return reinterpret_cast<uvec>(_mm512_permutex2var_epi32(a, i, b));
}
#endif

// 2^x for x <= 0 to 1 ulp. With f = x - n - j / size the rest that a table of 2^(j / size) leaves,
//
//   2^x = 2^n T_j (1 + f q(f)),
//
// q a Chebyshev fit (error 1e-17 or 1e-10 relative), the exponent n added as an integer. AVX-512 looks a
// table of two registers up in one instruction: 16 entries and degree 5 (32 and degree 2 in single
// precision), 13 operations a vector. Elsewhere there is no table, and |f| <= 1/2 takes degree 10 (5): 17
// operations.
MIXTURA_INLINE vec exp2_nonpositive(vec x) {
#if MIXTURA_VECTOR_BYTES == 64
  constexpr int size = 2 * lanes, size_bits = is_double ? 4 : 5;
#else
  constexpr int size = 1;
#endif
  constexpr int mantissa = is_double ? 52 : 23;
  // 1.5 * 2^mantissa: adding it leaves n in the low bits; a size-th of it, n and, below it, j.
  constexpr real round = (is_double ? real(6755399441055744.0) : real(12582912.0)) / size;
  const vec shifted = x + round;
  const vec f = x - (shifted - round);
  // Unsigned: for x far below the bound the sum wraps, and is not used.
  const uvec steps = reinterpret_cast<uvec>(shifted);
  vec scale, q;
#if MIXTURA_VECTOR_BYTES == 64
  // The entry's bits less j at the place where shifting leaves it: then no mask is needed.
  const uvec low = *reinterpret_cast<const uvec*>(exp2_table.value);
  const uvec high = *reinterpret_cast<const uvec*>(exp2_table.value + lanes);
  scale = reinterpret_cast<vec>(look_up(low, high, steps) + (steps << (mantissa - size_bits)));
  if constexpr (is_double) {
    q = real(1.5403723980749256422e-4) * f + real(1.333378157678426869e-3);
    q = q * f + real(9.6181291069195378674e-3);
    q = q * f + real(5.5504108656639298913e-2);
    q = q * f + real(2.402265069591007508e-1);
    q = q * f + real(6.9314718055994575333e-1);
  } else {
    q = real(5.55043528e-2) * f + real(2.402282681e-1);
    q = q * f + real(6.93147181e-1);
  }
#else
  scale = reinterpret_cast<vec>((reinterpret_cast<uvec>(splat(real(1)))) + (steps << mantissa));
  if constexpr (is_double) {
    q = real(4.455817908336064493e-10) * f + real(7.0741942972885210056e-9);
    q = q * f + real(1.0178057087733941105e-7);
    q = q * f + real(1.3215432535912376166e-6);
    q = q * f + real(1.5252733841556772589e-5);
    q = q * f + real(1.5403530463724354209e-4);
    q = q * f + real(1.3333558146406470697e-3);
    q = q * f + real(9.6181291075872566681e-3);
    q = q * f + real(5.5504108664821627039e-2);
    q = q * f + real(2.4022650695910159567e-1);
    q = q * f + real(6.9314718055994530925e-1);
  } else {
    q = real(1.547630018e-4) * f + real(1.340026967e-3);
    q = q * f + real(9.618003890e-3);
    q = q * f + real(5.550327791e-2);
    q = q * f + real(2.402265135e-1);
    q = q * f + real(6.931472062e-1);
  }
#endif
  const vec power = scale + scale * (f * q);
  return x > lowest_exponent ? power : vec{};
}

// log2(x) for positive normal x to 2 ulp: x = 2^e m, sqrt(1/2) <= m < sqrt(2), and
// log m = 2 atanh((m - 1) / (m + 1)) as an odd series in a variable below 0.172. Once per row, not per pair.
MIXTURA_INLINE wide log2_positive(wide x) {
  const int64_t one = 0x3ff0000000000000;
  const int64_t root_half = 0x3fe6a09e667f3bcd;
  const wide_integers as_bits = reinterpret_cast<wide_integers>(x) + (one - root_half);
  const wide_integers exponent = (as_bits >> 52) - 1023;
  const wide m = reinterpret_cast<wide>((as_bits & 0x000fffffffffffff) + root_half);
  const wide e = reinterpret_cast<wide>(exponent + 0x4338000000000000) - 6755399441055744.0;
  const wide t = (m - 1.0) / (m + 1.0);
  const wide u = t * t;
  wide p = u * (1.0 / 23) + 1.0 / 21;
  p = p * u + 1.0 / 19;
  p = p * u + 1.0 / 17;
  p = p * u + 1.0 / 15;
  p = p * u + 1.0 / 13;
  p = p * u + 1.0 / 11;
  p = p * u + 1.0 / 9;
  p = p * u + 1.0 / 7;
  p = p * u + 1.0 / 5;
  p = p * u + 1.0 / 3;
  const double two_over_ln2 = 2.8853900817779268147;
  return e + two_over_ln2 * (t + t * u * p);
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
