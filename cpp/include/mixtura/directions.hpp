// A few directions along which the components of a mixture lie far apart, and their densities there.
//
// With P the average of the precisions F_k' F_k, weighted with the components' shares, L L' = P, and the
// means whitened by L', the directions are the leading principal axes of the whitened means, a_1 .. a_q,
// weighted too: linear discriminant analysis, which does not depend on the columns' units. Along them, y = A
// (z - pivot), component k has the covariance
//
//   S_k = H_k H_k',  H_k = A F_k^-1,  H_k = L_k Q_k with Q_k's rows orthonormal,
//
// and the distance from its mean is at most what it is in all columns:
//
//   | L_k^-1 (y - A (m_k - pivot)) | <= | F_k (z - m_k) |.
//
// So the triangles L_k^-1 (q x q) bound joint densities from above at a small part of the cost of F_k, and
// where columns depend on each other the bounds are much closer than those by a part of F_k.
#pragma once

#include <vector>

#include "mixtura/problem.hpp"

namespace mixtura {

struct Directions {
  int64_t count;                // q
  std::vector<double> map;      // (q, D) A
  std::vector<double> means;    // (K, q) A (m_k - pivot)
  std::vector<double> factors;  // (K, q, q) L_k^-1; rows of zeros where it has too few digits
};

// The directions of a pass whose factors are triangles, `count` of them. Cost: for each component
// q D^2 / 2 + q^2 D multiply-adds, and D^3 / 3 for some of them.
Directions leading_directions(const Pass& pass, int64_t count);

// The pass's quadratics along the directions, of rows y.
Quadratics along(const Directions& directions, const Quadratics& quadratics);

}  // namespace mixtura
