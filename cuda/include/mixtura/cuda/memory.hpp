// Memory of a device, owned.
#pragma once

#include <algorithm>
#include <exception>
#include <vector>

#include "mixtura/cuda/device.hpp"

namespace mixtura::cuda {

// Device memory that frees itself, and grows when more is asked of it.
class Buffer {
 public:
  explicit Buffer(Device& device) : device_(device) {}
  ~Buffer() { device_.release(memory_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  template <class T>
  T* reserve(int64_t count, const char* what) {
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T);
    if (bytes > size_) {
      device_.release(memory_);
      memory_ = nullptr;
      size_ = 0;
      memory_ = device_.allocate(bytes, what);
      size_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

  void clear() {
    device_.release(memory_);
    memory_ = nullptr;
    size_ = 0;
  }

  // What was reserved or uploaded last.
  template <class T>
  T* at() const {
    return static_cast<T*>(memory_);
  }

  template <class T>
  T* upload(const std::vector<T>& values, const char* what) {
    T* memory = reserve<T>(static_cast<int64_t>(values.size()), what);
    device_.copy_in(memory, values.data(), values.size() * sizeof(T));
    return memory;
  }

 private:
  Device& device_;
  void* memory_ = nullptr;
  size_t size_ = 0;
};

// Memory of the host from which, and to which, copies are quick; it grows when more is asked of it.
class Staging {
 public:
  explicit Staging(Device& device) : device_(device) {}
  ~Staging() { device_.release_staging(memory_); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  template <class T>
  T* reserve(int64_t count) {
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T);
    if (bytes > size_) {
      device_.release_staging(memory_);
      memory_ = nullptr;
      size_ = 0;
      memory_ = device_.allocate_staging(bytes);
      size_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

 private:
  Device& device_;
  void* memory_ = nullptr;
  size_t size_ = 0;
};

// Where an exception passes, waits for the device: nothing may still read what the exception frees.
class Unwinding {
 public:
  explicit Unwinding(Device& device) : device_(device) {}
  ~Unwinding() {
    if (std::uncaught_exceptions() > before_) device_.abandon();
  }
  Unwinding(const Unwinding&) = delete;
  Unwinding& operator=(const Unwinding&) = delete;

 private:
  Device& device_;
  const int before_ = std::uncaught_exceptions();
};

}  // namespace mixtura::cuda
