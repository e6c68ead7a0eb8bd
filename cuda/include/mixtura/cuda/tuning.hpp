// Numbers of the CUDA kernels that were found by measuring, not by reasoning: each trades one cost for
// another, and where they balance depends on the device. They were found with benchmarks/gpu.py, which times
// passes on a device; what each costs in registers, tests/test_cuda_resources.py reads from the compiler's
// report. Results keep their tolerances whatever these are; their last bits may change.
//
// The sides of a kernel's tile (128 rows, 8 x 8 numbers a thread) are not here: its index arithmetic is built
// on them.
#pragma once

#include <stdint.h>

namespace mixtura::cuda {

// ---- tiles ---------------------------------------------------------------------------------------------

// Bytes of a tile, its rows and their K numbers each: larger tiles hide launches and fill the device, smaller
// ones stay in its second-level cache, of which this is about half.
constexpr int64_t default_tile_bytes = int64_t{24} << 20;

// Most rows of a tile, whatever its bytes: sums over a tile's rows are made in the numbers computed in, and
// streamed tables wait for their first tile.
constexpr int64_t most_tile_rows = int64_t{1} << 17;

// Bytes of rows that are uploaded at a time while a table is placed: more cost less in launches, and twice
// that in pinned memory.
constexpr int64_t largest_copy = int64_t{1} << 26;

// Bytes that one thread of the host gathers at a time: fewer share the work more evenly, more cost less in
// handing it out.
constexpr int64_t gather_bytes = int64_t{1} << 20;

// Numbers of the statistics from which all of the host's threads put them in their places.
constexpr int64_t in_parallel_from = int64_t{1} << 18;

// Numbers of statistics with matrices from which they stay on the device, and are factorised there: fewer
// take the host less time than launches take.
constexpr int64_t kept_from = int64_t{1} << 13;

// So many arrays of that size must be free for that: statistics and factors of two iterations and of the
// next, and what a pass takes that has none of them.
constexpr int64_t most_kept = 8;

// Most buffers that wait to be used again: of two iterations' statistics and factors.
constexpr size_t most_spares = 4;

// Which pass over a table that is streamed pins its rows: one pass alone is over sooner than pinning.
constexpr int passes_to_pin = 2;

// ---- the E half ----------------------------------------------------------------------------------------

// Most rows of a factor in bands of 4 rows, for 32 components a block, not of 8 for 16: low bands waste less
// of a triangle's corner and of short factors, high ones load x for fewer components.
constexpr int64_t low_band_rows = 16;

// Columns of a stage of scalars and diagonals, and of k-means' product (of floats, of doubles): deeper stages
// have fewer barriers, and take registers and shared memory.
constexpr int elementwise_depth = 8;
constexpr int nearest_depth_single = 8;
constexpr int nearest_depth_double = 4;

// Components whose linear terms one thread adds, a multiple of 4: more share a load of x, and more are idle
// where there are few.
constexpr int linear_components = 8;

// ---- the M half ----------------------------------------------------------------------------------------

// Components from which the dense product has tiles of 128 and of 32 components, not of 8: higher tiles load
// features for more components, and lie empty where there are fewer.
constexpr int64_t dense_high = 64;
constexpr int64_t dense_middle = 12;

// Rows of a stage of floats of the dense product, with tiles of 128 components and with lower ones; doubles
// have half as many. Deeper stages have fewer barriers, and take registers and shared memory.
constexpr int dense_depth_high = 16;
constexpr int dense_depth_low = 4;

// Pairs for each one that counts, beyond which a tile's sums are made from lists: a pair in a list costs
// about as much as a dozen in the dense product, because it shares no operand with another.
constexpr int64_t sparse_pairs = 16;

// Lists: features of a thread, with soft and with hard assignment, and rows looked at before those that count
// are added up. More features read a row's columns fewer times, and take registers; a longer window has fewer
// barriers, and takes shared memory.
constexpr int listed_features = 8;
constexpr int sorted_features = 1;
constexpr int listed_window = 2048;

// Blocks of the dense product for each multiprocessor, for which a tile's rows are split where there are
// fewer; and panels of rows that a split has at least. More splits fill the device, and each has sums of its
// own.
constexpr int64_t blocks_wanted = 4;
constexpr int64_t panels_of_a_split = 4;

// ---- tensor cores --------------------------------------------------------------------------------------

// Components from which their instructions are filled, and rows of a factor from which the E half's are.
constexpr int64_t fast_components = 64;
constexpr int64_t fast_factor_rows = 16;

// ---- warpgroups ----------------------------------------------------------------------------------------

// Components and dimensions from which the E half's instructions, 8 components of 16 rows and columns, are
// filled.
constexpr int64_t wide_components = 8;
constexpr int64_t wide_factor_rows = 12;

// Products of bfloat16 that take as long as one of the dense product in floats: the M half is by warpgroups
// where it takes fewer, zeros included.
constexpr int64_t wide_gain = 20;

// Slots of a ring without which a panel of rows is too large.
constexpr int64_t fewest_slots = 4;

// Most bytes of a tile and of its operands, and of the sums of all splits, each: a block of the E half has a
// multiprocessor for itself, and a tile that gives each the same number of panels leaves none idle.
constexpr int64_t wide_tile_bytes = int64_t{1} << 29;

// Of a grid, across its second axis: the hardware's limit.
constexpr int64_t most_grid_rows = 65535;

// Most rows of a split, whose sums are made in floats.
constexpr int64_t wide_split_rows = int64_t{1} << 15;

// Blocks of a multiprocessor that hold their rows' numbers at once where they normalise: fewer wait for
// memory alone.
constexpr int64_t blocks_that_hold = 2;

// Share of the device that splits should fill.
constexpr double wide_filled = 0.97;

}  // namespace mixtura::cuda
