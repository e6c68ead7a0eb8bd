// Threads that wait for work, and how many of them to use.
#pragma once

#include <functional>

namespace mixtura {

// The limit in force for callers that name no number: what set_thread_limit last said, else OMP_NUM_THREADS,
// else the processors this process may run on.
int thread_limit();
void set_thread_limit(int threads);  // <= 0 goes back to the default

// Calls task(worker) on `threads` workers, the caller being worker 0, and returns when all have returned.
// It may be given fewer workers than asked, even one: when another thread of this process is inside the pool,
// when threads cannot be started, or when they wake only after the caller is done. So a task must share out
// its work by itself, and when a worker returns no work may be left that nobody has begun. Safe in a child
// after fork: threads do not survive it, and the child starts its own. The first exception of a task is
// thrown here.
void parallel(int threads, const std::function<void(int worker)>& task);

}  // namespace mixtura
