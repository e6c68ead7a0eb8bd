#include "mixtura/driver.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>

#include "mixtura/pool.hpp"

namespace mixtura {

extern const Kernels kernels_portable;
#if defined(__x86_64__)
extern const Kernels kernels_v2, kernels_v3, kernels_v4;
#endif

namespace {

std::vector<const Kernels*> supported() {
  std::vector<const Kernels*> sets;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) sets.push_back(&kernels_v4);
  if (__builtin_cpu_supports("x86-64-v3")) sets.push_back(&kernels_v3);
  if (__builtin_cpu_supports("x86-64-v2")) sets.push_back(&kernels_v2);
#endif
  sets.push_back(&kernels_portable);
  return sets;
}

const Kernels* find(const std::string& name) {
  for (const Kernels* k : supported())
    if (name == k->name) return k;
  std::string known;
  for (const Kernels* k : supported()) known += (known.empty() ? "" : ", ") + std::string(k->name);
  throw std::invalid_argument("instruction set '" + name + "' is not available here; available: " + known);
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> current{[] {
    const char* name = std::getenv("MIXTURA_INSTRUCTION_SET");
    if (name && *name) return find(name);
    return supported().front();
  }()};
  return current;
}

using Buffer = std::unique_ptr<double[], void (*)(double*)>;

// Not value-initialised: large buffers get their pages when they are first written, by the thread that does.
Buffer aligned_buffer(size_t size) {
  constexpr std::align_val_t alignment{64};
  void* memory = ::operator new[](std::max<size_t>(size, 1) * sizeof(double), alignment);
  return Buffer(static_cast<double*>(memory),
                [](double* p) { ::operator delete[](p, std::align_val_t{64}); });
}

// Rows per block: its arrays (rows, densities, weighted rows, a panel) should stay in half a megabyte of
// second-level cache; 128 at least, so that reading a factor and adding up lanes are shared by many rows; 192
// at most, so that four components' densities and a panel stay in the first-level cache.
int64_t block_rows(const Pass& p) {
  const int64_t columns = 2 * p.rows.dims + p.quadratics.components + 16;
  const int64_t fit = 65536 / columns / 64 * 64;
  return std::min<int64_t>(std::max<int64_t>(fit, 128), 192);
}

// Rows per chunk: about a millisecond of work, so that threads finish together, but enough rows for the merge
// of a chunk's statistics to stay under a hundredth of that work.
int64_t chunk_rows(const Pass& p) {
  const int64_t work = p.quadratics.components * (p.rows.dims + statistics_size(p.kind, p.rows.dims) + 16);
  const int64_t rows = std::min<int64_t>(std::max<int64_t>((int64_t{1} << 25) / work, 1024), 16384);
  return (rows + p.block - 1) / p.block * p.block;
}

// Adds the chunks' statistics to the total in the chunks' order, whoever finishes first: a chunk that is
// early waits in a parked buffer; a thread that would park more than `spare` buffers waits for its turn.
class OrderedSum {
 public:
  OrderedSum(double* total, size_t size, size_t spare) : total_(total), size_(size), spare_(spare) {}

  // Takes the buffer and gives back one to use next.
  Buffer add(int64_t chunk, Buffer statistics) {
    std::unique_lock<std::mutex> lock(mutex_);
    turn_.wait(lock, [&] { return chunk == next_ || parked_.size() < spare_ || failed_; });
    if (chunk != next_) {
      parked_.emplace(chunk, std::move(statistics));
      return free_buffer();
    }
    for (;;) {
      for (size_t i = 0; i < size_; ++i) total_[i] += statistics[i];
      free_.push_back(std::move(statistics));
      ++next_;
      const auto waiting = parked_.find(next_);
      if (waiting == parked_.end()) break;
      statistics = std::move(waiting->second);
      parked_.erase(waiting);
    }
    turn_.notify_all();
    return free_buffer();
  }

  void fail() {
    std::lock_guard<std::mutex> lock(mutex_);
    failed_ = true;
    turn_.notify_all();
  }

 private:
  Buffer free_buffer() {
    if (free_.empty()) return aligned_buffer(size_);
    Buffer buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }

  double* total_;
  const size_t size_, spare_;
  std::mutex mutex_;
  std::condition_variable turn_;
  std::map<int64_t, Buffer> parked_;
  std::vector<Buffer> free_;
  int64_t next_ = 0;
  bool failed_ = false;
};

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* k : supported()) names.push_back(k->name);
  return names;
}

std::string instruction_set() {
  return chosen().load()->name;
}

void set_instruction_set(const std::string& name) {
  chosen().store(find(name));
}

void run_pass(Pass pass, int threads, double* total) {
  const Kernels& kernels = *chosen().load();
  pass.block = block_rows(pass);
  const int64_t chunk = chunk_rows(pass);
  const int64_t chunks = (pass.rows.count + chunk - 1) / chunk;
  const size_t size =
      pass.joint
          ? 0
          : static_cast<size_t>(pass.quadratics.components * statistics_size(pass.kind, pass.rows.dims)) + 1;
  std::fill_n(total, size, 0.0);
  if (chunks == 0) return;

  Buffer packed = aligned_buffer(pass.resp ? 0 : kernels.packed_size(pass.quadratics));
  if (!pass.resp) kernels.pack(pass, packed.get());

  const int limit = std::min(threads > 0 ? threads : thread_limit(), 1024);
  const int workers = static_cast<int>(std::min<int64_t>(limit, chunks));
  std::atomic<int64_t> next{0};
  OrderedSum sum(total, size, static_cast<size_t>(workers));
  parallel(workers, [&](int) {
    try {
      Buffer workspace = aligned_buffer(kernels.workspace_size(pass));
      Buffer statistics = aligned_buffer(size);
      for (int64_t c; (c = next++) < chunks;) {
        const int64_t begin = c * chunk, end = std::min(begin + chunk, pass.rows.count);
        std::fill_n(statistics.get(), size, 0.0);
        kernels.run(pass, packed.get(), begin, end, statistics.get(), workspace.get());
        if (size) statistics = sum.add(c, std::move(statistics));
      }
    } catch (...) {
      next = chunks;
      sum.fail();
      throw;
    }
  });
}

}  // namespace mixtura
