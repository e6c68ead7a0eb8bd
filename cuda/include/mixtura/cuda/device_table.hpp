// The device behind one wall: nothing of CUDA is seen from here. device_table.cu puts CUDA devices behind it,
// device_table.cpp the emulated one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mixtura/cuda/errors.hpp"
#include "mixtura/cuda/request.hpp"

namespace mixtura::cuda {

// Why no device can be used; empty if one can.
std::string unavailable();
std::string describe();
bool emulated();

// The device on which memory lies, or -1.
int device_of(const void* memory);

// Memory of the emulated device, for tests of its want: bytes it has, and bytes given away.
void set_emulated_capacity(size_t bytes);
size_t emulated_allocated();

// Whether emulated devices that are made from now on have warpgroups.
void set_emulated_warpgroups(bool wanted);

// Of what a pass has kept; see Table for what each of these does.
int64_t components_of(const Kept& kept);
int64_t dims_of(const Kept& kept);
std::shared_ptr<Kept> factorise(const Kept& statistics, const double* mass, const double* added,
                                double* log_determinants);
void measure(const Kept& factors, const double* around, const double* widths, const double* vectors,
             double* out);
void norms(const Kept& factors, const double* variances, double* out);
void bring_second(const Kept& statistics, double* out, int threads);
void bring_factors(const Kept& factors, double* out, int threads);

class Table;

class DeviceTable {
 public:
  // tile_bytes: of a tile on the device, 0: a good share of a second-level cache. budget: most bytes of host
  // rows to keep on the device, -1: four fifths of what is free; a larger table is streamed in every pass.
  DeviceTable(const Rows& rows, bool on_device, int index, int64_t tile_bytes, int64_t budget, bool pinnable,
              int threads);
  ~DeviceTable();

  bool resident() const;
  int64_t rows() const;
  int64_t dims() const;
  const Rows& source() const;

  // Statistics to `totals`; or the pass's joint; or labels and best.
  void run(const Request& request, Totals* totals);

  // Of each column of a table on the device, over its rows of positive weight (null: all).
  std::vector<Finding> survey(const double* sample_weight);

  // Copies of some rows of a table on the device, (count, D).
  void gather(const int64_t* index, int64_t count, double* out);

 private:
  std::shared_ptr<Table> table_;
};

}  // namespace mixtura::cuda
