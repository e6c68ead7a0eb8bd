// A CUDA device: memory, two streams, launches. Every call of the runtime is checked here and nowhere else.
#pragma once

#include <cuda_runtime.h>
#if defined(__unix__)
  #include <unistd.h>
#endif

#include <cstdlib>
#include <string>

#include "mixtura/cuda/block.hpp"
#include "mixtura/cuda/errors.hpp"

namespace mixtura::cuda {

// Throws if a call failed, and clears the error, so that the next one does not find it.
inline void check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  cudaGetLastError();
  throw DeviceError(std::string("CUDA: ") + what + ": " + cudaGetErrorString(code));
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads) run(const Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  Block<Kernel::threads> block;
  kernel(block, shared);
}

// Of kernels that say themselves how much shared memory they need, more than a block has without asking.
template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, 1) run_wide(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(128) char wide_shared[];
  Block<Kernel::threads> block;
  kernel(block, wide_shared);
}

// Whether this device runs code that was compiled for warpgroups' instructions.
template <int>
__global__ void probe_warpgroups(int* found) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  *found = 1;
#else
  *found = 0;
#endif
}

// The caller's current device comes back when this goes.
class Current {
 public:
  explicit Current(int index) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != index) check(cudaSetDevice(index), "cudaSetDevice");
    index_ = index;
  }
  ~Current() {
    if (before_ != index_ && cudaSetDevice(before_) != cudaSuccess) cudaGetLastError();
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  int before_ = 0, index_ = 0;
};

class Device {
 public:
  static constexpr bool emulated = false;
  static constexpr int lanes = 2;

  // Why no device can be used; empty if one can.
  static std::string unavailable() {
    int count = 0, driver = 0, runtime = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess && count > 0) {
      for (int index = 0; index < count; ++index)
        if (capability(index) >= oldest) return "";
      return "no CUDA device here has compute capability 7.5 (Turing) or later";
    }
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cudaGetLastError();
    auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
    if (driver == 0) return "no NVIDIA driver is loaded";
    if (code == cudaErrorInsufficientDriver)
      return "the NVIDIA driver knows CUDA up to " + version(driver) + ", mixtura needs " + version(runtime) +
             ": update the driver";
    if (code != cudaSuccess) return cudaGetErrorString(code);
    return "the driver finds no CUDA device";
  }

  static std::string describe() {
    cudaDeviceProp properties{};
    int index = 0;
    check(cudaGetDevice(&index), "cudaGetDevice");
    check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
    return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor) + ", " + OutOfMemory::megabytes(properties.totalGlobalMem);
  }

  // The first device that the kernels run on.
  static int first() {
    int count = 0;
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    for (int index = 0; index < count; ++index)
      if (capability(index) >= oldest) return index;
    return 0;
  }

  // The device that memory lies on; -1 for memory that no device knows.
  static int device_of(const void* memory) {
    cudaPointerAttributes attributes{};
    check(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes");
    return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged
               ? attributes.device
               : -1;
  }

  // index: -1 takes the first that the kernels run on.
  explicit Device(int index) : index_(index < 0 ? first() : index) {
    const int found = capability(index_);
    if (found < oldest)
      throw DeviceError("CUDA device " + std::to_string(index_) + " has compute capability " +
                        std::to_string(found / 10) + "." + std::to_string(found % 10) +
                        "; mixtura's kernels need 7.5 (Turing) or later");
    const Current current(index_);
    try {
      check(cudaStreamCreateWithFlags(&compute_, cudaStreamNonBlocking), "cudaStreamCreate");
      check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "cudaStreamCreate");
      for (int lane = 0; lane < lanes; ++lane) {
        check(cudaEventCreateWithFlags(&filled_[lane], cudaEventDisableTiming), "cudaEventCreate");
        check(cudaEventCreateWithFlags(&used_[lane], cudaEventDisableTiming), "cudaEventCreate");
      }
      check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, index_),
            "cudaDeviceGetAttribute");
      check(cudaDeviceGetAttribute(&shared_bytes_, cudaDevAttrMaxSharedMemoryPerBlockOptin, index_),
            "cudaDeviceGetAttribute");
      warpgroups_ = found == 90 && warpgroups_wanted() && probe();
    } catch (...) {
      close();
      throw;
    }
  }
  ~Device() { close(); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int multiprocessors() const { return multiprocessors_; }
  bool has_tensor_cores() const { return capability(index_) >= 80; }  // that multiply bfloat16s

  // Whether there is code here for its instructions on warpgroups; MIXTURA_CUDA_WARPGROUPS=0 does without.
  bool has_warpgroups() const { return warpgroups_; }
  int64_t shared_bytes() const { return shared_bytes_; }  // that a block can have

  size_t available() const {
    const Current current(index_);
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return free;
  }

  void* allocate(size_t bytes, const char* what) {
    const Current current(index_);
    void* memory = nullptr;
    const cudaError_t code = cudaMalloc(&memory, bytes);
    if (code == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw OutOfMemory(what, bytes, available());
    }
    check(code, "cudaMalloc");
    return memory;
  }
  void release(void* memory) noexcept {
    if (memory && cudaFree(memory) != cudaSuccess) cudaGetLastError();
  }
  void* allocate_staging(size_t bytes) {
    const Current current(index_);
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes), "cudaMallocHost");
    return memory;
  }
  void release_staging(void* memory) noexcept {
    if (memory && cudaFreeHost(memory) != cudaSuccess) cudaGetLastError();
  }

  // Makes memory of the caller's ready for copies that need no staging; false where the system will not, or
  // would have less than half of its memory left to move.
  bool pin(const void* host, size_t bytes) {
    if (bytes > physical_memory() / 2) return false;
    const Current current(index_);
    const bool pinned =
        cudaHostRegister(const_cast<void*>(host), bytes, cudaHostRegisterDefault) == cudaSuccess;
    if (!pinned) cudaGetLastError();
    return pinned;
  }
  void unpin(const void* host) noexcept {
    if (cudaHostUnregister(const_cast<void*>(host)) != cudaSuccess) cudaGetLastError();
  }

  // Small arrays of parameters, in order with the kernels.
  void copy_in(void* device, const void* host, size_t bytes) {
    const Current current(index_);
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, compute_), "cudaMemcpyAsync");
    check(cudaStreamSynchronize(compute_), "cudaStreamSynchronize");
  }
  // A lane's rows, beside the kernels.
  void copy_in_lane(void* device, const void* staging, size_t bytes, int) {
    const Current current(index_);
    check(cudaMemcpyAsync(device, staging, bytes, cudaMemcpyHostToDevice, copies_), "cudaMemcpyAsync");
  }
  void copy_out(void* host, const void* device, size_t bytes) {
    const Current current(index_);
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, compute_), "cudaMemcpyAsync");
    check(cudaStreamSynchronize(compute_), "kernels before a copy to the host");
  }
  void copy_within(void* to, const void* from, size_t bytes) {
    const Current current(index_);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, compute_), "cudaMemcpyAsync");
  }
  // Other libraries' kernels, on whatever stream, have written what we are about to read.
  void wait_for_producers() {
    const Current current(index_);
    check(cudaDeviceSynchronize(), "kernels of the array's owner");
  }
  void zero(void* device, size_t bytes) {
    const Current current(index_);
    check(cudaMemsetAsync(device, 0, bytes, compute_), "cudaMemsetAsync");
  }

  // Kernels launched from now on wait for a lane's copies; the lane's next copies wait for them.
  void lane_filled(int lane) {
    check(cudaEventRecord(filled_[lane], copies_), "cudaEventRecord");
    check(cudaStreamWaitEvent(compute_, filled_[lane], 0), "cudaStreamWaitEvent");
  }
  void lane_used(int lane) { check(cudaEventRecord(used_[lane], compute_), "cudaEventRecord"); }
  void wait_for_lane(int lane) {
    check(cudaEventSynchronize(filled_[lane]), "copies to the device");
    check(cudaEventSynchronize(used_[lane]), "kernels");
  }

  void finish() {
    check(cudaStreamSynchronize(copies_), "copies to the device");
    check(cudaStreamSynchronize(compute_), "kernels");
  }

  // Waits for what is under way, after something has failed: nothing may read memory that is about to be
  // freed.
  void abandon() noexcept {
    if (cudaStreamSynchronize(copies_) != cudaSuccess) cudaGetLastError();
    if (cudaStreamSynchronize(compute_) != cudaSuccess) cudaGetLastError();
  }

  template <class Kernel>
  void launch(const Kernel& kernel, Grid grid) {
    const Current current(index_);
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                      static_cast<unsigned>(grid.z));
    void* arguments[] = {const_cast<Kernel*>(&kernel)};
    check(cudaLaunchKernel(reinterpret_cast<const void*>(&run<Kernel>), blocks, dim3(Kernel::threads),
                           arguments, 0, compute_),
          "launch of a kernel");
  }

  // Of a kernel that says itself how much shared memory it needs.
  template <class Kernel>
  void launch_wide(const Kernel& kernel, Grid grid) {
    const Current current(index_);
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                      static_cast<unsigned>(grid.z));
    const auto bytes = static_cast<size_t>(kernel.shared_bytes());
    const void* function = reinterpret_cast<const void*>(&run_wide<Kernel>);
    check(
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
    void* arguments[] = {const_cast<Kernel*>(&kernel)};
    check(cudaLaunchKernel(function, blocks, dim3(Kernel::threads), arguments, bytes, compute_),
          "launch of a kernel");
  }

 private:
  static constexpr int oldest = 75;

  // Ten times the compute capability; 0 where it cannot be told.
  static int capability(int index) {
    int major = 0, minor = 0;
    const bool known =
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) == cudaSuccess &&
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index) == cudaSuccess;
    if (!known) cudaGetLastError();
    return known ? 10 * major + minor : 0;
  }

  // Of the host; 0 where it cannot be told.
  static size_t physical_memory() {
#if defined(__unix__)
    const long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && bytes > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(bytes) : 0;
#else
    return 0;
#endif
  }

  static bool warpgroups_wanted() {
    const char* value = std::getenv("MIXTURA_CUDA_WARPGROUPS");
    return !value || std::string(value) != "0";
  }

  bool probe() {
    int* memory = nullptr;
    check(cudaMalloc(&memory, sizeof(int)), "cudaMalloc");
    int found = 0;
    probe_warpgroups<0><<<1, 1, 0, compute_>>>(memory);
    const cudaError_t launched = cudaGetLastError();
    const cudaError_t copied =
        cudaMemcpyAsync(&found, memory, sizeof found, cudaMemcpyDeviceToHost, compute_);
    const cudaError_t finished = cudaStreamSynchronize(compute_);
    cudaFree(memory);
    check(launched, "launch of a kernel");
    check(copied, "cudaMemcpyAsync");
    check(finished, "kernels");
    return found == 1;
  }

  void close() noexcept {
    for (int lane = 0; lane < lanes; ++lane) {
      if (filled_[lane]) cudaEventDestroy(filled_[lane]);
      if (used_[lane]) cudaEventDestroy(used_[lane]);
    }
    if (compute_) cudaStreamDestroy(compute_);
    if (copies_) cudaStreamDestroy(copies_);
  }

  int index_;
  int multiprocessors_ = 1, shared_bytes_ = 0;
  bool warpgroups_ = false;
  cudaStream_t compute_ = nullptr, copies_ = nullptr;
  cudaEvent_t filled_[lanes] = {}, used_[lanes] = {};
};

}  // namespace mixtura::cuda
