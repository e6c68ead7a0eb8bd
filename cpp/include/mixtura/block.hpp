// A block: a few hundred rows, feature-major for the E half, whose lanes are rows, and row-major for the M
// half, whose lanes are features.
#pragma once

#include "mixtura/problem.hpp"
#include "mixtura/simd.hpp"

namespace mixtura {
namespace MIXTURA_ISA {

// Numbers from one column (or component) of a block to the next, known to the compiler. One line of padding:
// columns a power of two apart would fall on the same few cache sets.
constexpr int64_t stride = block_rows + 64 / static_cast<int64_t>(sizeof(real));

// Brings the next block's rows towards the caches while this one is worked on, a few lines at each call: all
// at once they would fill the processor's queue of misses and stall it.
struct Prefetch {
  const char* at = nullptr;
  const char* end = nullptr;
  int64_t lines = 0;  // at each call

  Prefetch() = default;
  Prefetch(const Columns& rows, int64_t begin, int64_t n, int64_t calls) {
    if (rows.column_stride != 1 || n <= 0) return;
    const int64_t item = rows.single_precision ? 4 : 8;
    if (rows.row_stride < 0 || rows.row_stride > 2 * rows.dims) return;  // not one stretch of memory
    at = static_cast<const char*>(rows.data) + begin * rows.row_stride * item;
    end = at + n * rows.row_stride * item;
    lines = ((end - at) / 64 + calls) / calls;
  }

  MIXTURA_INLINE void step() {
    for (int64_t l = 0; l < lines && at < end; ++l, at += 64) __builtin_prefetch(at, 0, prefetch_locality);
  }
};

// z - pivot for `lanes` neighbours of one row. The difference is taken in double, or, between floats, in two
// steps (the pivot's leading and trailing part) whose error is as small.
struct Pivot {
  const double* exact;   // D, and zeros up to a whole vector
  const real* leading;   // the nearest reals
  const real* trailing;  // what is left
};

inline Pivot split_pivot(const Pass& p, double* exact, real* leading, real* trailing) {
  for (int64_t d = 0; d < round_up(p.rows.dims, lanes); ++d) {
    exact[d] = d < p.rows.dims ? p.pivot[d] : 0.0;
    leading[d] = static_cast<real>(exact[d]);
    trailing[d] = static_cast<real>(exact[d] - static_cast<double>(leading[d]));
  }
  return Pivot{exact, leading, trailing};
}

MIXTURA_INLINE vec load_centered(const double* row, const Pivot& pivot, int64_t d) {
  if constexpr (is_double) {
    return reinterpret_cast<vec>(load_wide(row + d) - load_wide(pivot.exact + d));
  } else {
    const wide low = load_wide(row + d) - load_wide(pivot.exact + d);
    const wide high = load_wide(row + d + wide_lanes) - load_wide(pivot.exact + d + wide_lanes);
    return narrow(low, high, std::make_integer_sequence<int, lanes>{});
  }
}
MIXTURA_INLINE vec load_centered(const float* row, const Pivot& pivot, int64_t d) {
  if constexpr (is_double)
    return reinterpret_cast<vec>(load_wide(row + d) - load_wide(pivot.exact + d));
  else
    return (load_unaligned(reinterpret_cast<const real*>(row + d)) - load(pivot.leading + d)) -
           load(pivot.trailing + d);
}

// Cuts memory into arrays, each from a cache line's start; of no memory it adds up their sizes.
struct Cut {
  char* at;
  template <class T>
  void operator()(T*& array, int64_t size) {
    array = reinterpret_cast<T*>(at);
    at += round_up(size * static_cast<int64_t>(sizeof *array), 64);
  }
};

// Some of a block's rows.
struct RowSet {
  static constexpr int64_t words = block_rows / 64;
  uint64_t word[words];

  MIXTURA_INLINE void clear() {
    for (int64_t w = 0; w < words; ++w) word[w] = 0;
  }
  MIXTURA_INLINE void add(int64_t i) { word[i / 64] |= uint64_t{1} << (i % 64); }
  // Of the rows of one vector, from row i on, those of which a comparison holds.
  MIXTURA_INLINE void add(int64_t i, ivec mask) {
    word[i / 64] |= static_cast<uint64_t>(lanes_of(mask)) << (i % 64);
  }
  MIXTURA_INLINE int64_t size() const {
    int64_t n = 0;
    for (int64_t w = 0; w < words; ++w) n += __builtin_popcountll(word[w]);
    return n;
  }
  // Calls each(i), in order.
  template <class Each>
  MIXTURA_INLINE void for_each(Each each) const {
    for (int64_t w = 0; w < words; ++w)
      for (uint64_t left = word[w]; left; left &= left - 1) each(64 * w + __builtin_ctzll(left));
  }
};

static_assert(block_rows % 64 == 0, "a set's words are full");

// Where a block's rows go: x[d][i] (D x stride) and, unless null, rows[i][d] (block x row_stride).
struct Packed {
  real* x;
  real* rows;
  int64_t row_stride;
};

// Which row is the i-th.
struct AsTheyStand {
  MIXTURA_INLINE int64_t operator[](int64_t i) const { return i; }
};

// lanes x lanes numbers of the rows `which` from i on, turned in registers; `columns` of them are wanted.
template <class T, class Which>
MIXTURA_INLINE void pack_square(const T* first, int64_t row_stride, Which which, const Pivot& pivot,
                                int64_t i, int64_t d, int64_t columns, const Packed& out) {
  vec v[lanes];
  MIXTURA_UNROLL
  for (int r = 0; r < lanes; ++r)
    v[r] = load_centered(first + static_cast<int64_t>(which[i + r]) * row_stride, pivot, d);
  if (out.rows) {
    MIXTURA_UNROLL
    for (int r = 0; r < lanes; ++r) store(out.rows + (i + r) * out.row_stride + d, v[r]);
  }
  transpose(v);
  MIXTURA_UNROLL
  for (int c = 0; c < lanes; ++c)
    if (c < columns) store(out.x + (d + c) * stride + i, v[c]);
}

// As they stand, `lanes` numbers as reals; of doubles that are to be floats, see load_centered.
template <class T>
MIXTURA_INLINE vec load_numbers(const T* p) {
  if constexpr (sizeof(T) == sizeof(real))
    return load_unaligned(reinterpret_cast<const real*>(p));
  else
    return reinterpret_cast<vec>(load_wide(p));
}

// Rows of two neighbouring numbers: two loads hold a vector of rows, even lanes one column, odd lanes the
// other.
template <class T, int... j>
MIXTURA_INLINE void pack_pairs(const T* first, const Pivot& pivot, int64_t i, real* x,
                               std::integer_sequence<int, j...>) {
  const vec low = load_numbers(first + 2 * i), high = load_numbers(first + 2 * i + lanes);
  const vec even = __builtin_shufflevector(low, high, (2 * j)...);
  const vec odd = __builtin_shufflevector(low, high, (2 * j + 1)...);
  store(x + i, (even - pivot.leading[0]) - pivot.trailing[0]);
  store(x + stride + i, (odd - pivot.leading[1]) - pivot.trailing[1]);
}

// z - pivot of rows whole .. n from `begin`, number by number, and 0 (the pivot itself) from there up to
// `padded`; the columns are the block's from `at` on.
template <class T>
inline void pack_numbers(const Columns& columns, int64_t at, const Pivot& pivot, int64_t begin, int64_t whole,
                         int64_t n, int64_t padded, const Packed& out) {
  const T* first = static_cast<const T*>(columns.data) + begin * columns.row_stride;
  for (int64_t d = 0; d < columns.dims; ++d) {
    const T* column = first + d * columns.column_stride;
    real* x = out.x + (at + d) * stride;
    const double p = pivot.exact[at + d];
    for (int64_t i = whole; i < n; ++i)
      x[i] = static_cast<real>(static_cast<double>(column[i * columns.row_stride]) - p);
    for (int64_t i = n; i < padded; ++i) x[i] = 0;
    if (!out.rows) continue;
    for (int64_t i = whole; i < padded; ++i) out.rows[i * out.row_stride + at + d] = x[i];
  }
}

// How many rows from `begin` on can be read in whole vectors.
MIXTURA_INLINE int64_t readable_in_vectors(const Columns& rows, int64_t count, int64_t begin) {
  if (rows.column_stride != 1 || rows.row_stride < rows.dims) return 0;
  const int64_t beyond = round_up(rows.dims, lanes) - rows.dims;
  const int64_t readable = count - begin - (beyond + rows.row_stride - 1) / rows.row_stride;
  return readable > 0 ? readable : 0;
}

// The same of a table's left columns, all n rows. Cost: one read of X, N*D moves. Rows that lie one after
// another are turned in registers, a square of lanes x lanes at a time. The last columns may read beyond
// their row, into the next, which is there but for the table's last rows: those, and other layouts, go number
// by number.
template <class T>
inline void pack_left(const Columns& left, int64_t count, const Pivot& pivot, int64_t begin, int64_t n,
                      int64_t padded, const Packed& out, Prefetch* ahead) {
  const T* first = static_cast<const T*>(left.data) + begin * left.row_stride;
  const int64_t dims = left.dims;
  // Rows done in squares.
  int64_t whole = smaller(n, readable_in_vectors(left, count, begin)) / lanes * lanes;
  constexpr bool narrowing = sizeof(T) > sizeof(real);
  if (!narrowing && dims == 2 && left.column_stride == 1 && left.row_stride == 2 && !out.rows) {
    if constexpr (!narrowing) {
      whole = n / lanes * lanes;
      for (int64_t i = 0; i < whole; i += lanes)
        pack_pairs(first, pivot, i, out.x, std::make_integer_sequence<int, lanes>{});
    }
  } else {
    for (int64_t i = 0; i < whole; i += lanes) {
      if (ahead) ahead->step();
      for (int64_t d = 0; d < dims; d += lanes)
        pack_square(first, left.row_stride, AsTheyStand{}, pivot, i, d, smaller(dims - d, lanes), out);
    }
  }
  pack_numbers<T>(left, 0, pivot, begin, whole, n, padded, out);
}

// A block of the table [left | right]; the right columns, targets, are few and go number by number. They come
// last: squares on the left write whole vectors, beyond their columns. `ahead` asks for the next block's rows
// as well, where what follows is too short for that.
inline void pack_rows(const Rows& rows, const Pivot& pivot, int64_t begin, int64_t n, int64_t padded,
                      const Packed& out, Prefetch* ahead = nullptr) {
  if (rows.left.single_precision)
    pack_left<float>(rows.left, rows.count, pivot, begin, n, padded, out, ahead);
  else
    pack_left<double>(rows.left, rows.count, pivot, begin, n, padded, out, ahead);
  if (!rows.right.dims) return;
  if (rows.right.single_precision)
    pack_numbers<float>(rows.right, rows.left.dims, pivot, begin, 0, n, padded, out);
  else
    pack_numbers<double>(rows.right, rows.left.dims, pivot, begin, 0, n, padded, out);
}

template <class T>
inline void pack_left_listed(const Columns& rows, int64_t count, const Pivot& pivot, int64_t begin,
                             const integer* list, int64_t n, int64_t padded, real* x) {
  const T* first = static_cast<const T*>(rows.data) + begin * rows.row_stride;
  const int64_t readable = readable_in_vectors(rows, count, begin);
  int64_t whole = n / lanes * lanes;
  while (whole && list[whole - 1] >= readable) whole -= lanes;
  for (int64_t j = 0; j < whole; j += lanes)
    for (int64_t d = 0; d < rows.dims; d += lanes)
      pack_square(first, rows.row_stride, list, pivot, j, d, smaller(rows.dims - d, lanes),
                  Packed{x, nullptr, 0});
  for (int64_t d = 0; d < rows.dims; ++d) {
    const T* column = first + d * rows.column_stride;
    for (int64_t j = whole; j < n; ++j)
      x[d * stride + j] = static_cast<real>(
          static_cast<double>(column[static_cast<int64_t>(list[j]) * rows.row_stride]) - pivot.exact[d]);
    for (int64_t j = n; j < padded; ++j) x[d * stride + j] = 0;
  }
}

// x[d][j] <- z - pivot of row begin + list[j] of a table in one array, for n rows in ascending order, and 0
// up to `padded`.
inline void pack_listed(const Rows& rows, const Pivot& pivot, int64_t begin, const integer* list, int64_t n,
                        int64_t padded, real* x) {
  if (rows.left.single_precision)
    pack_left_listed<float>(rows.left, rows.count, pivot, begin, list, n, padded, x);
  else
    pack_left_listed<double>(rows.left, rows.count, pivot, begin, list, n, padded, x);
}

// A row of weight 0 is read as the pivot: whatever it holds, no infinity of its squares meets that 0.
inline void skip_weightless(const double* weight, int64_t dims, int64_t n, const Packed& out) {
  for (int64_t i = 0; i < n; ++i) {
    if (weight[i] != 0.0) continue;
    for (int64_t d = 0; d < dims; ++d) {
      out.x[d * stride + i] = 0;
      if (out.rows) out.rows[i * out.row_stride + d] = 0;
    }
  }
}

}  // namespace MIXTURA_ISA
}  // namespace mixtura
