// DeviceTable over the device of device.hpp.
#pragma once

#include "mixtura/cuda/device_table.hpp"
#include "mixtura/cuda/table.hpp"

namespace mixtura::cuda {

std::string unavailable() {
  return Device::unavailable();
}
std::string describe() {
  return Device::describe();
}
bool emulated() {
  return Device::emulated;
}
int device_of(const void* memory) {
  return Device::device_of(memory);
}

int64_t components_of(const Kept& kept) {
  return kept.components();
}
int64_t dims_of(const Kept& kept) {
  return kept.dims();
}
std::shared_ptr<Kept> factorise(const Kept& statistics, const double* mass, const double* added,
                                double* log_determinants) {
  return statistics.table()->factorise(statistics, mass, added, log_determinants);
}
void measure(const Kept& factors, const double* around, const double* widths, const double* vectors,
             double* out) {
  factors.table()->measure(factors, around, widths, vectors, out);
}
void norms(const Kept& factors, const double* variances, double* out) {
  factors.table()->norms(factors, variances, out);
}
void bring_second(const Kept& statistics, double* out, int threads) {
  statistics.table()->bring_second(statistics, out, threads);
}
void bring_factors(const Kept& factors, double* out, int threads) {
  factors.table()->bring_factors(factors, out, threads);
}

DeviceTable::DeviceTable(const Rows& rows, bool on_device, int index, int64_t tile_bytes, int64_t budget,
                         bool pinnable, int threads)
    : table_(std::make_shared<Table>(rows, on_device, index, tile_bytes, budget, pinnable, threads)) {}
DeviceTable::~DeviceTable() = default;

bool DeviceTable::resident() const {
  return table_->resident();
}
int64_t DeviceTable::rows() const {
  return table_->rows();
}
int64_t DeviceTable::dims() const {
  return table_->dims();
}
const Rows& DeviceTable::source() const {
  return table_->source();
}
void DeviceTable::run(const Request& request, Totals* totals) {
  table_->run(request, totals);
}
std::vector<Finding> DeviceTable::survey(const double* sample_weight) {
  return table_->survey(sample_weight);
}
void DeviceTable::gather(const int64_t* index, int64_t count, double* out) {
  table_->gather(index, count, out);
}

}  // namespace mixtura::cuda
