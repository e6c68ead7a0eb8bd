#include "mixtura/driver.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>

#include "mixtura/directions.hpp"
#include "mixtura/pool.hpp"

namespace mixtura {

// One table for each instruction set and number type, defined where kernels.cpp is compiled for it.
#define MIXTURA_DECLARE(isa)    \
  namespace isa##_double {      \
    extern const Kernels table; \
  }                             \
  namespace isa##_float {       \
    extern const Kernels table; \
  }
MIXTURA_DECLARE(portable)
#if defined(__x86_64__)
MIXTURA_DECLARE(v2)
MIXTURA_DECLARE(v3)
MIXTURA_DECLARE(v4)
#endif
#undef MIXTURA_DECLARE

namespace {

const std::vector<InstructionSet>& supported() {
  static const std::vector<InstructionSet> sets = [] {
    std::vector<InstructionSet> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4"))
      found.push_back({"x86-64-v4", v4_double::table, v4_float::table});
    if (__builtin_cpu_supports("x86-64-v3"))
      found.push_back({"x86-64-v3", v3_double::table, v3_float::table});
    if (__builtin_cpu_supports("x86-64-v2"))
      found.push_back({"x86-64-v2", v2_double::table, v2_float::table});
#endif
    found.push_back({"portable", portable_double::table, portable_float::table});
    return found;
  }();
  return sets;
}

const InstructionSet* find(const std::string& name) {
  for (const InstructionSet& set : supported())
    if (name == set.name) return &set;
  std::string known;
  for (const InstructionSet& set : supported()) known += (known.empty() ? "" : ", ") + std::string(set.name);
  throw std::invalid_argument("instruction set '" + name + "' is not available here; available: " + known);
}

std::atomic<const InstructionSet*>& chosen() {
  static std::atomic<const InstructionSet*> current{[] {
    const char* name = std::getenv("MIXTURA_INSTRUCTION_SET");
    if (name && *name) return find(name);
    return &supported().front();
  }()};
  return current;
}

// Centres are looked for in single precision first, whatever the rows are: that search knows where it is
// unsure.
const Kernels& kernels_for(const Pass& pass, const InstructionSet& set) {
  return pass.single || nearest_centre(pass) ? set.singles : set.doubles;
}

template <class T>
using Buffer = std::unique_ptr<T[], void (*)(T*)>;

// Not value-initialised: large buffers get their pages when they are first written, by the thread that does.
template <class T>
Buffer<T> aligned_buffer(size_t size) {
  constexpr std::align_val_t alignment{64};
  void* memory = ::operator new[](std::max<size_t>(size, 1) * sizeof(T), alignment);
  return Buffer<T>(static_cast<T*>(memory), [](T* p) { ::operator delete[](p, std::align_val_t{64}); });
}

// A screen and its memory.
struct PackedScreen {
  Screen screen{};
  Buffer<char> memory = aligned_buffer<char>(0);

  void pack(const InstructionSet& set, const Pass& pass, const Quadratics& quadratics, const double* map) {
    screen = set.singles.screen_of(quadratics, map);
    memory = aligned_buffer<char>(set.singles.screen_bytes(pass, screen));
    set.singles.pack_screen(pass, screen, memory.get());
    screen.packed = memory.get();
    screen.workspace_bytes = set.singles.screen_workspace_bytes(pass, screen);
  }
};

// Rows per chunk, whole blocks: as many as the most operations allow, but fewer where the table would have
// less than `chunks_wanted` chunks, as long as a chunk keeps the least operations and rows.
int64_t chunk_rows(const Pass& p) {
  const int64_t statistics = statistics_size(p.kind, p.rows.dims), components = p.quadratics.components;
  const int64_t work = components * (p.rows.dims + 16) + (p.hard ? 1 : components) * statistics;
  const int64_t most = std::min(std::max(chunk_operations / work, chunk_rows_least), chunk_rows_most);
  const int64_t least =
      std::max(chunk_operations_least / work, p.hard ? chunk_rows_least : chunk_rows_least / 4);
  const int64_t rows = std::min(std::max(p.rows.count / chunks_wanted, least), most);
  return (rows + block_rows - 1) / block_rows * block_rows;
}

// Adds the chunks' statistics to the total in the chunks' order, whoever finishes first: a chunk that is
// early waits in a parked buffer; a thread that would park more than `spare` buffers waits for its turn.
class OrderedSum {
 public:
  OrderedSum(double* total, size_t size, size_t spare) : total_(total), size_(size), spare_(spare) {}

  // Takes the buffer and gives back one to use next.
  Buffer<double> add(int64_t chunk, Buffer<double> statistics) {
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
  Buffer<double> free_buffer() {
    if (free_.empty()) return aligned_buffer<double>(size_);
    Buffer<double> buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }

  double* total_;
  const size_t size_, spare_;
  std::mutex mutex_;
  std::condition_variable turn_;
  std::map<int64_t, Buffer<double>> parked_;
  std::vector<Buffer<double>> free_;
  int64_t next_ = 0;
  bool failed_ = false;
};

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : supported()) names.push_back(set.name);
  return names;
}

std::string instruction_set() {
  return chosen().load()->name;
}

void set_instruction_set(const std::string& name) {
  chosen().store(find(name));
}

namespace {

std::atomic<bool>& skipping_allowed() {
  static std::atomic<bool> allowed{[] {
    const char* value = std::getenv("MIXTURA_SKIPPING");
    return !(value && std::string(value) == "0");
  }()};
  return allowed;
}

}  // namespace

bool skipping() {
  return skipping_allowed();
}

void set_skipping(bool on) {
  skipping_allowed() = on;
}

void run_pass(Pass pass, int threads, double* total, const std::function<void()>& look) {
  const InstructionSet& set = *chosen().load();
  const Kernels& kernels = kernels_for(pass, set);
  pass.skip = skipping();
  pass.bounds = Bounds::by_quarter;
  const int64_t chunk = chunk_rows(pass);
  const int64_t chunks = (pass.rows.count + chunk - 1) / chunk;
  const size_t size = kernels.sums_size(pass);
  Buffer<double> sums = aligned_buffer<double>(size);
  std::fill_n(sums.get(), size, 0.0);

  Buffer<char> packed = aligned_buffer<char>(kernels.packed_bytes(pass));
  kernels.pack(pass, packed.get());
  Directions directions;
  PackedScreen along_directions, of_columns;
  if (const int64_t count = kernels.directions(pass)) {
    directions = leading_directions(pass, count);
    along_directions.pack(set, pass, along(directions, pass.quadratics), directions.map.data());
    pass.directions = &along_directions.screen;
  }
  if (&kernels == &set.doubles && kernels.columns(pass)) {
    of_columns.pack(set, pass, pass.quadratics, nullptr);
    pass.columns = &of_columns.screen;
  }
  if (pass.rows.count && kernels.bounded(pass)) {
    Buffer<char> workspace = aligned_buffer<char>(kernels.workspace_bytes(pass));
    pass.bounds = kernels.first_bounds(pass, packed.get(), workspace.get());
  }

  const int limit = std::min(threads > 0 ? threads : thread_limit(), 1024);
  const int workers = static_cast<int>(std::min<int64_t>(limit, chunks));
  std::atomic<int64_t> next{0};
  OrderedSum merged(sums.get(), size, static_cast<size_t>(workers));
  using Clock = std::chrono::steady_clock;
  constexpr auto patience = std::chrono::milliseconds(50);
  parallel(workers, [&](int worker) {
    try {
      auto looked = Clock::now();
      Buffer<char> workspace = aligned_buffer<char>(kernels.workspace_bytes(pass));
      Buffer<double> statistics = aligned_buffer<double>(size);
      for (int64_t c; (c = next++) < chunks;) {
        const int64_t begin = c * chunk, end = std::min(begin + chunk, pass.rows.count);
        std::fill_n(statistics.get(), size, 0.0);
        kernels.run(pass, packed.get(), begin, end, statistics.get(), workspace.get());
        if (size) statistics = merged.add(c, std::move(statistics));
        if (worker == 0 && look && Clock::now() - looked > patience) {
          look();
          looked = Clock::now();
        }
      }
    } catch (...) {
      next = chunks;
      merged.fail();
      throw;
    }
  });
  if (size) kernels.unpack(pass, sums.get(), total);
}

}  // namespace mixtura
