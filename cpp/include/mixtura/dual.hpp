// Numbers that carry derivatives: forward-mode differentiation of whatever a template computes with them.
//
//   (a, a') + (b, b') = (a + b, a' + b')        (a, a') (b, b') = (a b, a' b + a b')
//   f(a, a') = (f(a), f'(a) a')
//
// A dual number of dual numbers carries second derivatives. The innermost numbers are vectors of rows.
#pragma once

#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// A vector of doubles as a class, so that templates can take it.
struct Lanes {
  wide v;
};

MIXTURA_INLINE Lanes lanes_of(double s) {
  return {s - wide{}};
}
MIXTURA_INLINE Lanes operator+(Lanes a, Lanes b) {
  return {a.v + b.v};
}
MIXTURA_INLINE Lanes operator-(Lanes a, Lanes b) {
  return {a.v - b.v};
}
MIXTURA_INLINE Lanes operator*(Lanes a, Lanes b) {
  return {a.v * b.v};
}
MIXTURA_INLINE Lanes operator/(Lanes a, Lanes b) {
  return {a.v / b.v};
}
MIXTURA_INLINE Lanes operator*(double a, Lanes b) {
  return {a * b.v};
}
MIXTURA_INLINE Lanes exp(Lanes a) {
  for (int i = 0; i < wide_lanes; ++i) a.v[i] = __builtin_exp(a.v[i]);
  return a;
}
MIXTURA_INLINE Lanes log(Lanes a) {
  for (int i = 0; i < wide_lanes; ++i) a.v[i] = __builtin_log(a.v[i]);
  return a;
}
// The number without its derivatives.
MIXTURA_INLINE Lanes plain(Lanes a) {
  return a;
}
MIXTURA_INLINE void set_constant(Lanes& a, Lanes value) {
  a = value;
}

template <class T, int n>
struct Dual {
  T value;
  T tangent[n];
};

template <class T, int n>
MIXTURA_INLINE Lanes plain(const Dual<T, n>& a) {
  return plain(a.value);
}
template <class T, int n>
MIXTURA_INLINE void set_constant(Dual<T, n>& a, Lanes value) {
  set_constant(a.value, value);
  for (int i = 0; i < n; ++i) set_constant(a.tangent[i], Lanes{});
}
template <class T, int n>
MIXTURA_INLINE Dual<T, n> operator+(const Dual<T, n>& a, const Dual<T, n>& b) {
  Dual<T, n> out;
  out.value = a.value + b.value;
  for (int i = 0; i < n; ++i) out.tangent[i] = a.tangent[i] + b.tangent[i];
  return out;
}
template <class T, int n>
MIXTURA_INLINE Dual<T, n> operator-(const Dual<T, n>& a, const Dual<T, n>& b) {
  Dual<T, n> out;
  out.value = a.value - b.value;
  for (int i = 0; i < n; ++i) out.tangent[i] = a.tangent[i] - b.tangent[i];
  return out;
}
template <class T, int n>
MIXTURA_INLINE Dual<T, n> operator*(const Dual<T, n>& a, const Dual<T, n>& b) {
  Dual<T, n> out;
  out.value = a.value * b.value;
  for (int i = 0; i < n; ++i) out.tangent[i] = a.tangent[i] * b.value + a.value * b.tangent[i];
  return out;
}
template <class T, int n>
MIXTURA_INLINE Dual<T, n> operator*(double a, const Dual<T, n>& b) {
  Dual<T, n> out;
  out.value = a * b.value;
  for (int i = 0; i < n; ++i) out.tangent[i] = a * b.tangent[i];
  return out;
}
template <class T, int n>
MIXTURA_INLINE Dual<T, n> exp(const Dual<T, n>& a) {
  Dual<T, n> out;
  out.value = exp(a.value);
  for (int i = 0; i < n; ++i) out.tangent[i] = out.value * a.tangent[i];
  return out;
}
template <class T, int n>
MIXTURA_INLINE Dual<T, n> log(const Dual<T, n>& a) {
  Dual<T, n> out;
  out.value = log(a.value);
  for (int i = 0; i < n; ++i) out.tangent[i] = a.tangent[i] / a.value;
  return out;
}
template <class T, int n>
MIXTURA_INLINE Dual<T, n> operator/(const Dual<T, n>& a, const Dual<T, n>& b) {
  Dual<T, n> out;
  out.value = a.value / b.value;
  for (int i = 0; i < n; ++i) out.tangent[i] = (a.tangent[i] - out.value * b.tangent[i]) / b.value;
  return out;
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
