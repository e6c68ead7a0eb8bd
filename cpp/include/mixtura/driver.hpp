// A whole pass: the choice of instruction set, the cut into chunks, the threads, the merge in order.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mixtura/problem.hpp"

namespace mixtura {

// Instruction sets compiled in that this processor runs, best first.
std::vector<std::string> instruction_sets();
std::string instruction_set();                      // the one in use
void set_instruction_set(const std::string& name);  // throws std::invalid_argument

// Whether passes may leave out what cannot matter (Pass::skip); MIXTURA_SKIPPING=0 starts without.
bool skipping();
void set_skipping(bool on);

// Runs the pass with at most `threads` threads (0: the limit in force). Statistics, K x statistics_size, then
// the log-likelihood, are written to `total` unless the pass has `joint`, which it writes instead.
//
// Chunks have bounds that depend on the shapes alone, and their statistics are added in the chunks' order, so
// the result does not depend on the number of threads. Memory: one workspace per thread, and one statistics
// buffer for each of at most two chunks per thread.
//
// The calling thread calls `look` about every twentieth of a second, between chunks; what it throws ends the
// pass.
void run_pass(Pass pass, int threads, double* total, const std::function<void()>& look = {});

}  // namespace mixtura
