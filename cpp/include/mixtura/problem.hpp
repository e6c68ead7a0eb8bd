// What a kernel is asked to do, as plain data that every instruction set's translation unit shares.
// Shapes: N rows, D columns, K components, R rows of a factor, P statistics of a component.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "mixtura/tuning.hpp"

namespace mixtura {

// F_k of the quadratic  log p_k(z) = c_k + b_k . (z - m_k) - 1/2 ||F_k (z - m_k)||^2.
enum class Factor : int { scalar, diagonal, triangle, rectangle };

// Which moments of a component are wanted; each kind holds those before it, save that trace, diagonal
// and full are alternatives for the second moment.
enum class Kind : int { mass, mean, trace, diagonal, full };

// Some columns of a table, anywhere in memory, strides counted in elements.
struct Columns {
  const void* data;
  bool single_precision;
  int64_t dims;           // how many
  int64_t row_stride;     // elements from one row to the next
  int64_t column_stride;  // elements from one column to the next
};

// The table: N rows [left | right] of D numbers. Covariates and targets may lie in two arrays; a table in one
// array is all left.
struct Rows {
  Columns left, right;
  int64_t count;  // N
  int64_t dims;   // D
};

// K quadratics as the caller has them.
struct Quadratics {
  Factor factor;
  bool shared;            // one factor for all components: rows are transformed once
  int64_t components;     // K
  int64_t dims;           // D
  int64_t factor_rows;    // R: D for a triangle
  const double* offsets;  // (K,)   c_k
  const double* means;    // (K, D) m_k
  const double* factors;  // scalar (K,); diagonal (K, D); triangle (K, D, D); rectangle (K, R, D); first axis
                          // 1 when shared
  const double* linear;   // (K, D) b_k; null: zeros
};

// What a pass may be asked about each row; null where it is not.
struct Answers {
  double* joint;        // (N, K)  log weight + log density
  int32_t* labels;      // (N,)    the first of the most likely components
  double* best;         // (N,)    its log weight + log density
  double* density;      // (N,)    log of the weighted sum of densities
  void* resp;           // (N, K)  responsibilities; needs `density`
  bool resp_in_single;  //         as floats
};

// What k-means remembers of each row from one pass to the next (Hamerly 2010, Making k-means even faster): a
// row whose centre is nearer than any other can be, however these have moved, keeps its centre and is not
// read.
struct Memory {
  float* nearest;      // (N,) at least the distance from the row's centre
  float* others;       // (N,) at most the distance from any other centre
  int32_t* labels;     // (N,) the row's centre
  const float* moved;  // (K,) how far each centre has moved since the pass before
  float most, next;    // the largest of these, and the second largest
  int64_t fastest;     // whose the largest is
  const float* half;   // (K,) half its distance from the closest other centre, or 0
  enum Part : int {
    all,      // nothing is remembered yet: look at all rows, and take their statistics
    changes,  // take statistics of the rows that change centres: added to the new one's, and taken from the
              // old one's
    recount,  // look at no row, and take the statistics of all, with the centres that are remembered
  } part;
};

struct Pass;

// Directions, at most, along which triangles are bounded: see directions.hpp.
constexpr int64_t most_directions = 16;

// Upper bounds of joint densities in single precision, base 2: see screen.hpp.
struct Screen {
  Quadratics quadratics;  // the pass's, or theirs along a few directions
  const double* map;      // the directions (quadratics.dims, D); null: the columns
  int64_t first, step;    // rows of the factors that bound all pairs, and those that follow at a time
  const void* packed;
  size_t workspace_bytes;
  void (*bound)(const Pass&, const Screen&, int64_t begin, int64_t n, const float* least, float* upper,
                int32_t* best, uint64_t* left, void* workspace);
};

// By what the joint densities of triangles and diagonals are bounded, to leave out pairs that cannot count:
// by nothing; by a quarter of the factor, or half of it (prune.hpp, prune_diagonals.hpp); by a screen of a
// few directions, or of all columns.
enum class Bounds : int { none, by_quarter, by_half, by_directions, by_columns };

// One pass over the rows. What it does follows from what is given:
//   answers      write them, and take no statistics
//   resp         weigh the rows with the given responsibilities
//   neither      the fused pass: responsibilities from the quadratics, statistics at once
struct Pass {
  Rows rows;
  Quadratics quadratics;        // of a pass with given responsibilities, only `components` counts
  const double* pivot;          // (D,)  rows are read as z - pivot
  const double* own_pivots;     // (K, D) or null: statistics of each component are about a pivot of its own
  const bool* wanted;           // (K,)  with own pivots: the components whose statistics are taken
  const double* log_weights;    // (K,) or (N, K); null: zeros
  bool log_weights_per_row;     //
  const double* sample_weight;  // (N,) or null
  const double* resp;           // (N, K) or null
  Answers answers;              //
  bool hard;                    // all of a row goes to its most likely component
  const Memory* memory;         // of passes that look for the nearest centre, without constants; or null
  const Screen* directions;     // screens of a few directions, and of all columns; or null (the driver's)
  const Screen* columns;        //
  Bounds bounds;                // what blocks begin with (the driver's)
  bool single;                  // compute in float32: the fused soft pass only
  bool skip;  // leave out statistics of pairs whose responsibility cannot matter (the driver's)
  Kind kind;  //
};

inline bool has_answers(const Pass& p) {
  return p.answers.joint || p.answers.labels || p.answers.density;
}

// Whether a row's most likely component is all that is asked for.
inline bool most_likely_only(const Pass& p) {
  return has_answers(p) ? !p.answers.joint && !p.answers.density : p.hard;
}

// Length of one component's statistics: [mass | mean | second moment].
inline int64_t statistics_size(Kind kind, int64_t dims) {
  switch (kind) {
    case Kind::mass: return 1;
    case Kind::mean: return 1 + dims;
    case Kind::trace: return 2 + dims;
    case Kind::diagonal: return 1 + 2 * dims;
    case Kind::full: break;
  }
  return 1 + dims + dims * (dims + 1) / 2;
}

// Whether rows look for the nearest of K centres: every component the same multiple of the identity, with a
// finite constant, no linear term, no log-weight of its own for each row, and the table in one array.
inline bool nearest_centre(const Pass& p) {
  const Quadratics& q = p.quadratics;
  if (!(p.hard || p.answers.labels) || p.answers.joint || p.resp || q.factor != Factor::scalar ||
      p.log_weights_per_row)
    return false;
  if (p.rows.right.dims || q.linear) return false;
  if (!(q.shared || q.components == 1) || !(q.factors[0] > 0.0)) return false;
  for (int64_t k = 0; k < q.components; ++k) {
    const double c = q.offsets[k] + (p.log_weights ? p.log_weights[k] : 0.0);
    if (c - c != 0.0) return false;
  }
  return true;
}

// What one instruction set offers for one type of number. `packed` holds the quadratics in that set's own
// tile order. `sums` holds the running statistics in the order that suits the accumulation, and, last, the
// log-likelihood; `unpack` turns them into K x statistics_size and, last, the log-likelihood.
struct Kernels {
  size_t (*packed_bytes)(const Pass&);
  void (*pack)(const Pass&, void* packed);
  size_t (*workspace_bytes)(const Pass&);
  size_t (*sums_size)(const Pass&);
  void (*run)(const Pass&, const void* packed, int64_t begin, int64_t end, double* sums, void* workspace);
  void (*unpack)(const Pass&, const double* sums, double* total);
  // Whether joint densities may be bounded, and by what to begin with: not called unless they may be.
  bool (*bounded)(const Pass&);
  Bounds (*first_bounds)(Pass, const void* packed, void* workspace);
  // The screens that the pass may use, as yet unpacked: of how many directions, 0 for none; and whether of
  // all columns. How large one is when packed, and its workspace; packs and evaluates one.
  int64_t (*directions)(const Pass&);
  bool (*columns)(const Pass&);
  Screen (*screen_of)(const Quadratics&, const double* map);
  size_t (*screen_bytes)(const Pass&, const Screen&);
  size_t (*screen_workspace_bytes)(const Pass&, const Screen&);
  void (*pack_screen)(const Pass&, const Screen&, void* packed);
};

struct InstructionSet {
  const char* name;
  Kernels doubles;
  Kernels singles;
};

}  // namespace mixtura
