// A device that is this process: memory is memory, and a kernel's blocks run one after another, their threads
// forwards in one block and backwards in the next. Tests run the device's code on it, from the kernels' index
// arithmetic to the cut into tiles; what it cannot show is speed.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "mixtura/cuda/block.hpp"
#include "mixtura/cuda/errors.hpp"

namespace mixtura::cuda {

class Device {
 public:
  static constexpr bool emulated = true;

  static std::string unavailable() { return ""; }
  static std::string describe() { return "emulated on the processor"; }
  static int device_of(const void*) { return 0; }

  explicit Device(int index) { (void)index; }

  // Bytes that all emulated devices together have, and have given away.
  static size_t& capacity() {
    static size_t bytes = size_t{1} << 33;
    return bytes;
  }
  static size_t& allocated() {
    static size_t bytes = 0;
    return bytes;
  }

  // Whether devices that are made from now on have warpgroups.
  static bool& warpgroups() {
    static bool wanted = false;
    return wanted;
  }

  int multiprocessors() const { return 4; }
  bool has_warpgroups() const { return warpgroups_; }
  int64_t shared_bytes() const { return 232448; }
  bool has_tensor_cores() const { return true; }
  size_t available() const { return capacity() - allocated(); }

  // Memory knows its size, stored before it. Filled with NaN: what is read before it is written, shows.
  void* allocate(size_t bytes, const char* what) {
    if (bytes > available()) throw OutOfMemory(what, bytes, available());
    char* memory = static_cast<char*>(::operator new(bytes + 64));
    std::memcpy(memory, &bytes, sizeof bytes);
    std::memset(memory + 64, 0xff, bytes);
    allocated() += bytes;
    return memory + 64;
  }
  void release(void* memory) noexcept {
    if (!memory) return;
    char* start = static_cast<char*>(memory) - 64;
    size_t bytes = 0;
    std::memcpy(&bytes, start, sizeof bytes);
    allocated() -= bytes;
    ::operator delete(start);
  }
  void* allocate_staging(size_t bytes) { return ::operator new(bytes); }
  void release_staging(void* memory) noexcept { ::operator delete(memory); }

  bool pin(const void*, size_t) { return true; }
  void unpin(const void*) noexcept {}

  void copy_in(void* device, const void* host, size_t bytes) { std::memcpy(device, host, bytes); }
  // Copies beside the kernels happen as late as they may: when the kernels begin to wait for them.
  void copy_in_lane(void* device, const void* staging, size_t bytes, int) {
    pending_.push_back({device, staging, bytes});
  }
  void copy_out(void* host, const void* device, size_t bytes) { std::memcpy(host, device, bytes); }
  void copy_within(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
  void wait_for_producers() {}
  void zero(void* device, size_t bytes) { std::memset(device, 0, bytes); }
  void lane_filled(int) {
    for (const Copy& copy : pending_) std::memcpy(copy.to, copy.from, copy.bytes);
    pending_.clear();
  }
  void lane_used(int) {}
  void wait_for_lane(int) {}
  void finish() {}
  void abandon() noexcept { pending_.clear(); }

  template <class Kernel>
  void launch(const Kernel& kernel, Grid grid) {
    bool backwards = false;
    for (int64_t z = 0; z < grid.z; ++z)
      for (int64_t y = 0; y < grid.y; ++y)
        for (int64_t x = 0; x < grid.x; ++x, backwards = !backwards) {
          auto shared = std::make_unique<typename Kernel::Shared>();
          std::memset(static_cast<void*>(shared.get()), 0xff, sizeof *shared);
          Block<Kernel::threads> block{x, y, z, backwards};
          kernel(block, *shared);
        }
  }

  template <class Kernel>
  void launch_wide(const Kernel& kernel, Grid grid) {
    if (kernel.shared_bytes() > shared_bytes()) throw DeviceError("too much shared memory");
    for (int64_t z = 0; z < grid.z; ++z)
      for (int64_t y = 0; y < grid.y; ++y)
        for (int64_t x = 0; x < grid.x; ++x) {
          Block<Kernel::threads> block{x, y, z, false};
          kernel(block, static_cast<char*>(nullptr));
        }
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };
  std::vector<Copy> pending_;
  bool warpgroups_ = warpgroups();
};

}  // namespace mixtura::cuda
