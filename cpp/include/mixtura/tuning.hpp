// Numbers of the processor's kernels that were found by measuring, not by reasoning: each trades one cost for
// another, and where they balance depends on the machine. Results keep their tolerances whatever these are;
// their last bits may change.
//
// They were found with benchmarks/shapes.py on x86-64-v3 and v4. For another machine, benchmarks/tune.py
// builds the kernels with one of them changed and prints the times of a few passes as ratios to those of the
// value here.
#pragma once

#include <stdint.h>

namespace mixtura {

// Rows that travel together, a multiple of every vector length: enough that reading a factor and adding up a
// tile's sums are shared by many rows, few enough that a tile's operands stay in the first-level cache.
constexpr int64_t block_rows = 128;

// Operations of a chunk, about a millisecond: fewer let threads finish closer together, more make merging a
// chunk's statistics a smaller part of the work.
constexpr int64_t chunk_operations = int64_t{1} << 25;

// Fewest and most rows of a chunk: the least keeps the merge under a hundredth of the work where statistics
// are large, the most keeps all threads busy on tables of a few ten thousand rows.
constexpr int64_t chunk_rows_least = 1024;
constexpr int64_t chunk_rows_most = 16384;

// Chunks that a table is cut into where it is too short for larger ones, and the least operations of these:
// more chunks let more threads take part, and each costs a merge.
constexpr int64_t chunks_wanted = 16;
constexpr int64_t chunk_operations_least = int64_t{1} << 18;

#ifdef MIXTURA_ISA
namespace MIXTURA_ISA {

constexpr bool long_vectors = MIXTURA_VECTOR_BYTES == 64;  // AVX-512: 32 registers, elsewhere 16
constexpr int vector_registers = long_vectors ? 32 : 16;

// ---- the E half ----------------------------------------------------------------------------------------

// Rows of a factor that share a load of x, at most 8 (4 with short vectors): more mean fewer loads for each
// multiply-add, until the tile_rows * groups accumulators no longer fit the registers.
constexpr int tile_rows = long_vectors ? 8 : 4;

// Vectors of rows that share a load of the factor: more mean fewer loads, for the same registers.
constexpr int groups = 2;

// Largest |F_k (m_k - pivot)|^2 up to which the multiplied-out square may be used: its rounding error is that
// many eps, and it takes half the operations of a square by differences.
constexpr double product_limit = sizeof(MIXTURA_REAL) == 8 ? 1024.0 : 64.0;

// Columns up to which a triangle's factor is kept in registers, at most 4: no tile is left half empty, but
// rows are loaded once for each component (or two).
constexpr int64_t tiny_dims = 4;

// Columns up to which two such factors fit the registers together, so that they share the loads of the rows.
constexpr int tiny_pair_dims = long_vectors ? 3 : 0;

// Columns, in groups of rows, and components from which pairs are left out before they are evaluated: below,
// the bounds cost more than they save, since of few columns a part tells little, and a group of many rows is
// left if one of them is. Hundredths of all pairs that may be left for the bounds to pay: a pair that is left
// costs more than it would among others, of a diagonal's few operations several times as much. Groups of rows
// of the table that tell which bounds to begin with, and blocks that are evaluated as they stand after many
// pairs of one were left.
constexpr int64_t pruned_groups = 2;
constexpr int64_t pruned_components = 4;
constexpr int64_t left_of_triangles = 40;
constexpr int64_t left_of_diagonals = 8;
constexpr int64_t pruning_tries = 2;
constexpr int64_t pruning_rests = 63;

// Columns from which pairs are left out by bounds in single precision where those by a part of the factor
// leave most.
constexpr int64_t screened_dims = 64;

// Bounds along a few directions. K D^2 from which they pay, since rows are turned, and the component that
// looks best is evaluated whole, whatever the others are; columns up to which directions are cheap to find,
// and rows from which; hundredths of all pairs that may be left for them to pay, since what is left is
// evaluated from the start; and how many more a part of the factor must leave, which costs a little less.
constexpr int64_t turned_work = 6000;
constexpr int64_t turned_dims = 128;
constexpr int64_t turned_rows = 4096;
constexpr int64_t left_of_directions = 25;
constexpr int64_t fewer_by_directions = 5;

// Bytes of factors that are worked through for all rows of a block before the next ones: half to three
// quarters of a first-level cache, which holds a group of rows beside them.
constexpr int64_t factor_bytes = 24576;

// Components of scalars and diagonals at a time: more share the loads of the rows, and take registers.
constexpr int elementwise_components = 4;

// Components whose exponentials are taken at a time: more hide each other's latency, and take registers.
constexpr int exponential_components = 4;

// Components up to which, and bytes of a row from which, the next block's rows are asked for while this one
// is packed: with more components there is time later, and short rows are packed too quickly.
constexpr int64_t early_components = 4;
constexpr int64_t early_bytes = 64;

// How near to the processor the next block's rows are brought while this one is worked on, as
// __builtin_prefetch has it: 3 all caches, 2 all but the first. Nearer evicts what is being worked with.
constexpr int prefetch_locality = 2;

// ---- the M half ----------------------------------------------------------------------------------------

// Rows on lanes: features and components of a tile of the product; tile_features is at most 6 (4 with short
// vectors). Both share loads; the product of the two must fit the registers as accumulators.
constexpr int tile_features = long_vectors ? 6 : 4;
constexpr int lane_components = long_vectors ? 4 : 2;

// Features on lanes: components of a tile, at most 8 (4 with short vectors), and accumulators of a tile, of
// which its vectors of features follow; at most 24 (16 with short vectors).
constexpr int tile_components = long_vectors ? 8 : 4;
constexpr int tile_accumulators = long_vectors ? 24 : 12;

// Rows that stay in the first-level cache with a panel of their features and eight components'
// responsibilities; a panel of more rows is formed for more multiply-adds.
constexpr int64_t panel_rows = 64;

// Up to the first many components, rows are scaled for one after the other; up to the second, products of
// columns are formed for each tile of components, which beyond costs more than storing a panel of them once.
constexpr int64_t few_components = 1;
constexpr int64_t many_components = 48;

// Columns from which second moments are always taken for one component at a time: a product over all
// components forms features x_a x_b, which costs as much as an eighth of K multiply-adds.
constexpr int64_t blocks_dims = 96;

// Columns from which one component alone is taken so, because nothing shares its features; and, of columns
// that do not fill whole vectors, how many it takes for up to how many components, because such features go
// through memory for too little work.
constexpr int64_t blocks_dims_alone = 8;
constexpr int64_t blocks_dims_broken = 12;
constexpr int64_t blocks_components_broken = 8;

// There: rows of the second moment that share a load of a row's columns, and vectors of columns that share a
// load of a scaled row, at most 3. The product of the two must fit the registers as accumulators.
constexpr int block_height = long_vectors ? 8 : 4;
constexpr int block_vectors = 3;

// Shifts of the circulant order that listed rows take at a time, a multiple of 2: they share a load of the
// scaled row.
constexpr int shifts_together = 8;

// Rows of a component's bin: more rows share one reading of its triangle, until the bin itself no longer fits
// the caches. And the columns from which there are bins: with fewer, adding a row directly is cheaper than
// copying it to a bin.
constexpr int64_t bin_rows = 64;
constexpr int64_t bins_dims = 24;

// Where rows may belong to several components: the columns from which there are bins, because the triangles
// leave the first-level cache; and from how many of a block's rows on a component adds them directly.
constexpr int64_t some_bins_dims = 96;
constexpr int64_t binned_rows = 48;

// Fifths of all pairs, and of one component's, below which rows that count are taken from lists: lists save
// work in proportion, but their kernels reuse less.
constexpr int64_t sparse_fifths = 2;
constexpr int64_t listed_fifths = 4;

}  // namespace MIXTURA_ISA
#endif

}  // namespace mixtura
