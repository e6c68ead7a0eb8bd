#include "mixtura/pool.hpp"

#ifdef _WIN32
  #include <process.h>
  #define getpid _getpid
#else
  #include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>
#ifdef __linux__
  #include <sched.h>
#endif

namespace mixtura {
namespace {

std::atomic<int> limit{0};

int processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int default_limit() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const long value = std::strtol(text, nullptr, 10);  // "4,2" (nested levels) reads as 4
    if (value > 0) return static_cast<int>(std::min(value, 4096L));
  }
  return processors();
}

class Pool {
 public:
  explicit Pool(int owner) : owner_(owner) {}
  int owner() const { return owner_; }

  bool try_enter() { return busy_.try_lock(); }
  void leave() { busy_.unlock(); }

  // Only between try_enter and leave. A worker that has not woken by the time the caller is done is not
  // waited for: nothing is left to do, and where processors are busy with other work it may sleep for
  // milliseconds.
  void run(int threads, const std::function<void(int)>& task) {
    grow(threads - 1);
    const int workers = std::min(threads - 1, static_cast<int>(threads_.size()));
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task;
      wanted_ = workers;
      ++generation_;
    }
    wake_.notify_all();
    call(task, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    task_ = nullptr;
    done_.wait(lock, [this] { return running_ == 0; });
    if (error_) {
      std::exception_ptr error;
      std::swap(error, error_);
      std::rethrow_exception(error);
    }
  }

 private:
  void grow(int size) {
    while (static_cast<int>(threads_.size()) < size) {
      const int worker = static_cast<int>(threads_.size()) + 1;
      try {
        threads_.emplace_back([this, worker, seen = generation_] { serve(worker, seen); });
      } catch (const std::system_error&) {
        return;  // the system has no more threads for us: fewer workers, same result
      }
      threads_.back().detach();
    }
  }

  void serve(int worker, unsigned long seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      if (worker > wanted_ || !task_) continue;
      const std::function<void(int)>& task = *task_;
      ++running_;
      lock.unlock();
      call(task, worker);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  void call(const std::function<void(int)>& task, int worker) {
    try {
      task(worker);
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  const int owner_;
  std::mutex busy_, mutex_, error_mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  const std::function<void(int)>* task_ = nullptr;
  std::exception_ptr error_;
  unsigned long generation_ = 0;
  int wanted_ = 0, running_ = 0;
};

// The pool of this process. A child after fork finds its parent's pool, whose threads and locks are not
// its own, leaves it where it is and makes another. Pools are never destroyed: a thread that waits at exit
// harms nobody, one that is joined at exit can hang.
Pool& pool() {
  static std::atomic<Pool*> current{nullptr};
  Pool* here = current.load(std::memory_order_acquire);
  while (!here || here->owner() != getpid()) {
    Pool* fresh = new Pool(getpid());
    if (current.compare_exchange_strong(here, fresh)) return *fresh;
    delete fresh;
  }
  return *here;
}

}  // namespace

int thread_limit() {
  const int value = limit.load();
  return value > 0 ? value : default_limit();
}

void set_thread_limit(int threads) {
  limit.store(threads);
}

void parallel(int threads, const std::function<void(int)>& task) {
  if (threads > 1) {
    Pool& p = pool();
    if (p.try_enter()) {
      struct Leave {
        Pool& pool;
        ~Leave() { pool.leave(); }
      } leave{p};
      p.run(threads, task);
      return;
    }
  }
  task(0);
}

}  // namespace mixtura
