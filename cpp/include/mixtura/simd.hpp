// Vectors of doubles and the two transcendental functions that mixtures need.
// Included once per instruction set, inside that set's namespace; no standard library here, because an
// inline function of it compiled for AVX-512 could be the copy that the linker keeps for everyone.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifndef MIXTURA_ISA
  #error "define MIXTURA_ISA (a namespace) and MIXTURA_VECTOR_BYTES before including a kernel header"
#endif

#define MIXTURA_INLINE inline __attribute__((always_inline))
#define MIXTURA_UNROLL _Pragma("GCC unroll 16")

namespace mixtura {
namespace MIXTURA_ISA {

constexpr int lanes = MIXTURA_VECTOR_BYTES / 8;

typedef double vec __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias));
typedef int64_t ivec __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias));
typedef uint64_t uvec __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias));
typedef double unaligned_vec __attribute__((vector_size(MIXTURA_VECTOR_BYTES), may_alias, aligned(8)));

MIXTURA_INLINE vec load(const double* p) {
  return *reinterpret_cast<const vec*>(p);
}
MIXTURA_INLINE vec load_unaligned(const double* p) {
  return *reinterpret_cast<const unaligned_vec*>(p);
}
MIXTURA_INLINE void store(double* p, vec v) {
  *reinterpret_cast<vec*>(p) = v;
}
MIXTURA_INLINE vec splat(double s) {
  return s - vec{};
}  // -0.0 stays -0.0
MIXTURA_INLINE vec max(vec a, vec b) {
  return a > b ? a : b;
}

// Lane j of the result is a[j] where bit `step` of j is 0 and b[j - step] where it is 1; and the other half,
// a[j + step] and b[j]. Transposing a square of lanes x lanes takes this for every power of two below lanes.
template <int step>
MIXTURA_INLINE void butterfly(vec& a, vec& b) {
#if MIXTURA_VECTOR_BYTES == 64
  vec low, high;
  if constexpr (step == 1) {
    low = __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
    high = __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
  } else if constexpr (step == 2) {
    low = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
    high = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  } else {
    low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    high = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
#elif MIXTURA_VECTOR_BYTES == 32
  vec low, high;
  if constexpr (step == 1) {
    low = __builtin_shufflevector(a, b, 0, 4, 2, 6);
    high = __builtin_shufflevector(a, b, 1, 5, 3, 7);
  } else {
    low = __builtin_shufflevector(a, b, 0, 1, 4, 5);
    high = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  }
#else
  const vec low = __builtin_shufflevector(a, b, 0, 2);
  const vec high = __builtin_shufflevector(a, b, 1, 3);
#endif
  a = low;
  b = high;
}

// v[i][j] <-> v[j][i]
MIXTURA_INLINE void transpose(vec (&v)[lanes]) {
  MIXTURA_UNROLL
  for (int i = 0; i < lanes; i += 2) butterfly<1>(v[i], v[i + 1]);
  if constexpr (lanes > 2) {
    MIXTURA_UNROLL
    for (int i = 0; i < lanes; ++i)
      if (!(i & 2)) butterfly<2>(v[i], v[i | 2]);
  }
  if constexpr (lanes > 4) {
    MIXTURA_UNROLL
    for (int i = 0; i < lanes; ++i)
      if (!(i & 4)) butterfly<4>(v[i], v[i | 4]);
  }
}

// Lane i of the result is the sum over the lanes of v[i]: a transposition that adds as it goes, lanes - 1
// additions for all of them. The order of the sums is fixed by the vector length alone.
MIXTURA_INLINE vec sums(vec (&v)[lanes]) {
  MIXTURA_UNROLL
  for (int i = 0; i < lanes; i += 2) {
    butterfly<1>(v[i], v[i + 1]);
    v[i] += v[i + 1];
  }
  if constexpr (lanes > 2) {
    MIXTURA_UNROLL
    for (int i = 0; i < lanes; i += 4) {
      butterfly<2>(v[i], v[i + 2]);
      v[i] += v[i + 2];
    }
  }
  if constexpr (lanes > 4) {
    butterfly<4>(v[0], v[4]);
    v[0] += v[4];
  }
  return v[0];
}

MIXTURA_INLINE double sum(vec v) {
  double s = 0.0;
  for (int i = 0; i < lanes; ++i) s += v[i];
  return s;
}

// 2^x for x <= 0 to 1 ulp: n = round(x), degree-11 Chebyshev fit of 2^f on |f| <= 1/2 (error 3e-18),
// exponent added as an integer. 16 operations a vector. Below 2^-500 the result is exactly 0: such a
// responsibility is far under the rounding of the row's sum, and subnormals would cost 100 cycles each.
MIXTURA_INLINE vec exp2_nonpositive(vec x) {
  const double round = 6755399441055744.0;  // 1.5 * 2^52: adding it leaves n in the low bits
  const vec shifted = x + round;
  const vec f = x - (shifted - round);
  vec p = 4.455817908336064493e-10 * f + 7.0741942972885210056e-9;
  p = p * f + 1.0178057087733941105e-7;
  p = p * f + 1.3215432535912376166e-6;
  p = p * f + 1.5252733841556772589e-5;
  p = p * f + 1.5403530463724354209e-4;
  p = p * f + 1.3333558146406470697e-3;
  p = p * f + 9.6181291075872566681e-3;
  p = p * f + 5.5504108664821627039e-2;
  p = p * f + 2.4022650695910159567e-1;
  p = p * f + 6.9314718055994530925e-1;
  p = p * f + 1.0;
  // Unsigned: for x far below the bound the sum wraps, and is not used.
  const vec scaled =
      reinterpret_cast<vec>(reinterpret_cast<uvec>(p) + (reinterpret_cast<uvec>(shifted) << 52));
  return x > -500.0 ? scaled : vec{};
}

// log2(x) for positive normal x to 2 ulp: x = 2^e m, sqrt(1/2) <= m < sqrt(2), and
// log m = 2 atanh((m - 1) / (m + 1)) as an odd series in a variable below 0.172. Once per row, not per pair.
MIXTURA_INLINE vec log2_positive(vec x) {
  const int64_t one = 0x3ff0000000000000;
  const int64_t root_half = 0x3fe6a09e667f3bcd;
  const ivec bits = reinterpret_cast<ivec>(x) + (one - root_half);
  const ivec exponent = (bits >> 52) - 1023;
  const vec m = reinterpret_cast<vec>((bits & 0x000fffffffffffff) + root_half);
  const vec e = reinterpret_cast<vec>(exponent + 0x4338000000000000) - 6755399441055744.0;
  const vec t = (m - 1.0) / (m + 1.0);
  const vec u = t * t;
  vec p = u * (1.0 / 23) + 1.0 / 21;
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
