// What can go wrong on a device, as exceptions.
#pragma once

#include <stddef.h>

#include <stdexcept>
#include <string>

namespace mixtura::cuda {

// A call of the CUDA runtime failed, or a kernel did.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Device memory is not enough; says how much was asked for and how much is free.
struct OutOfMemory : DeviceError {
  OutOfMemory(const std::string& what, size_t needed, size_t available)
      : DeviceError("out of device memory: " + what + " needs " + megabytes(needed) + ", " +
                    megabytes(available) + " are free") {}

  static std::string megabytes(size_t bytes) { return std::to_string((bytes + 999999) / 1000000) + " MB"; }
};

}  // namespace mixtura::cuda
