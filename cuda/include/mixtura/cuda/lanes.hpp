// Arrays of the host on their way to a device, tile by tile: one lane fills while kernels work on the other.
#pragma once

#include <algorithm>
#include <cstring>

#include "mixtura/cuda/memory.hpp"
#include "mixtura/cuda/parallel.hpp"
#include "mixtura/cuda/tuning.hpp"
#include "mixtura/problem.hpp"

namespace mixtura::cuda {

// An array of the caller with one entry a row, that goes to the device tile by tile.
struct Stream {
  const char* host;    // first row; null: not there
  int64_t row_bytes;   // of one row on the device
  int64_t host_bytes;  // from one row to the next on the host; == row_bytes where rows lie side by side
  int64_t item;        // bytes of a number
  int64_t item_bytes;  // from one number of a row to the next on the host
  bool pinned;  // copies need no staging: rows lie side by side, in memory that the system does not move

  static Stream of(const Columns& c) {
    const int64_t item = c.single_precision ? 4 : 8;
    return {static_cast<const char*>(c.data), c.dims * item, c.row_stride * item, item,
            c.column_stride * item,           false};
  }
  static Stream of(const double* values, int64_t a_row) {
    return {reinterpret_cast<const char*>(values), a_row * 8, a_row * 8, 8, 8, false};
  }

  // Whether all of its rows lie side by side, as they are on the device.
  bool contiguous() const { return host_bytes == row_bytes && (item_bytes == item || row_bytes == item); }

  void gather(int64_t begin, int64_t end, char* out) const {
    const bool dense = item_bytes == item || row_bytes == item;
    if (dense && host_bytes == row_bytes) {
      std::memcpy(out, host + begin * host_bytes, static_cast<size_t>((end - begin) * row_bytes));
      return;
    }
    for (int64_t i = begin; i < end; ++i) {
      const char* row = host + i * host_bytes;
      if (dense) {
        std::memcpy(out, row, static_cast<size_t>(row_bytes));
        out += row_bytes;
      } else {
        for (int64_t at = 0; at < row_bytes; at += item, out += item, row += item_bytes)
          std::memcpy(out, row, static_cast<size_t>(item));
      }
    }
  }
};

// Pinned memory and device memory for one array's rows, twice.
class Lanes {
 public:
  explicit Lanes(Device& device) : device_(device), buffers_{Buffer(device), Buffer(device)} {}
  ~Lanes() { clear(); }
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  void reserve(int64_t bytes, const char* what) {
    for (int lane = 0; lane < 2; ++lane) on_device_[lane] = buffers_[lane].reserve<char>(bytes, what);
    if (static_cast<size_t>(bytes) <= size_) return;
    clear();
    for (char*& staging : staging_)
      staging = static_cast<char*>(device_.allocate_staging(static_cast<size_t>(bytes)));
    size_ = static_cast<size_t>(bytes);
  }

  // Rows begin to end of the stream, on their way to the device: from where they lie, if they are pinned, or
  // else gathered by all processors.
  const void* send(int lane, const Stream& stream, int64_t begin, int64_t end, int threads) {
    if (stream.pinned) {
      device_.copy_in_lane(on_device_[lane], stream.host + begin * stream.row_bytes,
                           static_cast<size_t>((end - begin) * stream.row_bytes), lane);
      return on_device_[lane];
    }
    const int64_t rows = std::max<int64_t>(gather_bytes / std::max<int64_t>(stream.row_bytes, 1), 1);
    in_parallel((end - begin + rows - 1) / rows, threads, [&](int64_t i) {
      const int64_t from = begin + i * rows, to = std::min(from + rows, end);
      stream.gather(from, to, staging_[lane] + (from - begin) * stream.row_bytes);
    });
    device_.copy_in_lane(on_device_[lane], staging_[lane],
                         static_cast<size_t>((end - begin) * stream.row_bytes), lane);
    return on_device_[lane];
  }

 private:
  void clear() {
    for (char*& staging : staging_) {
      device_.release_staging(staging);
      staging = nullptr;
    }
    size_ = 0;
  }

  Device& device_;
  Buffer buffers_[2];
  char* staging_[2] = {nullptr, nullptr};
  char* on_device_[2] = {nullptr, nullptr};
  size_t size_ = 0;
};

}  // namespace mixtura::cuda
