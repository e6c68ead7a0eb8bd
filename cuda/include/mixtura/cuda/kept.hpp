// What stays on the device of a table between passes: statistics, and the factors that are made of them.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "mixtura/cuda/memory.hpp"
#include "mixtura/cuda/tuning.hpp"

namespace mixtura::cuda {

class Table;

// Memory that is used again and again, without asking the device for it each time.
class Spares {
 public:
  explicit Spares(Device& device) : device_(device) {}

  std::unique_ptr<Buffer> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (spares_.empty()) return std::make_unique<Buffer>(device_);
    std::unique_ptr<Buffer> found = std::move(spares_.back());
    spares_.pop_back();
    return found;
  }
  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    spares_.clear();
  }
  void give(std::unique_ptr<Buffer> buffer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (spares_.size() < most_spares) spares_.push_back(std::move(buffer));
  }

 private:
  Device& device_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Buffer>> spares_;
};

// K matrices of D columns, as statistics (K, P) of kind 'full' or as factors: see factorise.hpp.
class Kept {
 public:
  Kept(std::shared_ptr<Table> table, Spares& spares, int64_t components, int64_t dims)
      : table_(std::move(table)),
        spares_(spares),
        components_(components),
        dims_(dims),
        memory_(spares.take()) {}
  ~Kept() { spares_.give(std::move(memory_)); }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

  const std::shared_ptr<Table>& table() const { return table_; }
  int64_t components() const { return components_; }
  int64_t dims() const { return dims_; }
  Buffer& memory() { return *memory_; }
  const double* numbers() const { return memory_->at<double>(); }

 private:
  std::shared_ptr<Table> table_;  // whose device and spares these are
  Spares& spares_;
  int64_t components_, dims_;
  std::unique_ptr<Buffer> memory_;
};

}  // namespace mixtura::cuda
