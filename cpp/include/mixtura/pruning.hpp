// What leaving out pairs of a row and a component that cannot count takes, whatever the form of the factors.
#pragma once

#include "mixtura/evaluate.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// What pruning needs beside an Evaluation. `rows` are the block's, row-major.
struct Pruning {
  const real* rows;
  int64_t row_stride;
  real* gathered;      // D x stride: listed rows, feature-major
  integer* candidate;  // stride: of each row, the component with the largest bound
  integer* list;       // stride: rows that a component is evaluated for
  RowSet* own;         // K: the rows whose candidate a component is
  real* exact;         // stride: joint2 of each row and its candidate
  real* least;         // stride: what another component must reach to count
  real away;           // how far below a row's largest joint2 a pair may lie and count: see farthest
  float* upper;        // K x block_rows: bounds in single precision
  int32_t* best;       // block_rows: of each row, the component with the largest of these
  RowSet* left;        // K: the rows in which each component may count after all
  char* screen;        // the screen's workspace
  Bounds bounds;       // those of the next block
  int64_t resting;     // blocks that are still to be evaluated as they stand
};

// How far below a row's largest joint2 a pair may lie and count: not at all where nothing but the most likely
// component does.
MIXTURA_INLINE real farthest(const Pass& p) {
  return most_likely_only(p) ? real(0) : least_exponent(p.quadratics.components);
}

// How many of a factor's rows, or of a diagonal's columns, bound a square from below.
MIXTURA_INLINE int64_t bounding_part(const Quadratics& q) {
  return round_up(q.dims / 4, q.factor == Factor::diagonal ? lanes : tile_rows);
}

// Whether bounds are cheap beside what they may save.
MIXTURA_INLINE bool prunable(const Quadratics& q) {
  const bool of_each = (q.factor == Factor::triangle || q.factor == Factor::diagonal) && !q.shared;
  return of_each && !q.linear && q.dims >= pruned_groups * group_rows && q.components >= pruned_components &&
         2 * bounding_part(q) < q.dims;
}

// Puts the rows of a set on the list, and returns how many there are.
MIXTURA_INLINE int64_t put_on_list(const Pruning& p, const RowSet& rows) {
  int64_t n = 0;
  rows.for_each([&](int64_t i) { p.list[n++] = static_cast<integer>(i); });
  return n;
}

// joint2 of each row and its candidate, which is evaluated and in top[i], gives way to minus infinity while
// the other components are looked at.
inline void set_aside(const Evaluation& e, const Pruning& p) {
  for (int64_t i = 0; i < e.rows; i += lanes) {
    const vec top = load(e.top + i);
    store(p.exact + i, top);
    store(p.least + i, top + p.away);
  }
  for (int64_t i = 0; i < e.rows; ++i)
    e.joint2[static_cast<int64_t>(p.candidate[i]) * stride + i] = -static_cast<real>(__builtin_huge_val());
}

inline void put_back(const Evaluation& e, const Pruning& p) {
  for (int64_t i = 0; i < e.rows; ++i)
    e.joint2[static_cast<int64_t>(p.candidate[i]) * stride + i] = p.exact[i];
}

// Whether so few of the pairs are left that bounds cost less than they save.
MIXTURA_INLINE bool few_left(int64_t left, int64_t rows, const Quadratics& q, Bounds bounds) {
  const int64_t hundredths = q.factor == Factor::diagonal      ? left_of_diagonals
                             : bounds == Bounds::by_directions ? left_of_directions
                                                               : left_of_triangles;
  return 100 * left <= hundredths * rows * q.components;
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
