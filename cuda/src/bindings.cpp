// Arrays in, arrays out: no arithmetic here. Compiled once over CUDA devices and once over the emulated one.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "mixtura/arguments.hpp"
#include "mixtura/cuda/device_table.hpp"

namespace py = pybind11;

namespace {

using mixtura::arguments::checked;
using mixtura::arguments::Doubles;
using mixtura::arguments::Quadratics;
using mixtura::cuda::DeviceTable;
using mixtura::cuda::Kept;
using mixtura::cuda::Request;

// (address, float32?, (N, D), strides in elements) of memory on a device.
using Pointer = std::tuple<uintptr_t, bool, std::tuple<int64_t, int64_t>, std::tuple<int64_t, int64_t>>;

// What a DLPack capsule says of an array: address, shape, type as NumPy writes it, strides in elements. The
// capsule stays the array's owner. The layout is DLPack's, version 0 to 1, of dmlc.github.io/dlpack.
struct DLTensor {
  void* data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t type_code, type_bits;
  uint16_t type_lanes;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};

struct DLManagedTensorVersioned {
  uint32_t major, minor;
  void* manager;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};

py::tuple read_dlpack(const py::capsule& capsule) {
  constexpr int32_t host = 1, device = 2, managed = 13;
  constexpr uint8_t floating = 2;
  const std::string name = capsule.name() ? capsule.name() : "";
  const DLTensor* tensor = nullptr;
  if (name == "dltensor") {
    tensor = static_cast<const DLTensor*>(capsule.get_pointer());
  } else if (name == "dltensor_versioned") {
    const auto* versioned = static_cast<const DLManagedTensorVersioned*>(capsule.get_pointer());
    if (versioned->major != 1)
      throw std::invalid_argument("a DLPack capsule of a version that is not known here");
    tensor = &versioned->tensor;
  } else {
    throw std::invalid_argument("not a DLPack capsule, or one used before: " + name);
  }
  const bool here = mixtura::cuda::emulated()
                        ? tensor->device_type == host
                        : tensor->device_type == device || tensor->device_type == managed;
  if (!here) throw std::invalid_argument("the DLPack capsule's memory does not lie on a CUDA device");
  std::vector<int64_t> shape(tensor->shape, tensor->shape + tensor->ndim), strides(shape.size(), 1);
  for (size_t axis = shape.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * shape[axis];
  if (tensor->strides) strides.assign(tensor->strides, tensor->strides + tensor->ndim);
  const char kind = tensor->type_code == floating ? 'f' : tensor->type_code == 0 ? 'i' : 'V';
  const auto address = reinterpret_cast<uintptr_t>(tensor->data) + tensor->byte_offset;
  return py::make_tuple(address, py::tuple(py::cast(shape)), kind + std::to_string(tensor->type_bits / 8),
                        py::tuple(py::cast(strides)));
}

// Second moments that a pass has left on its device.
struct Scatters {
  std::shared_ptr<Kept> kept;
  Doubles diagonals;  // (K, D)
  bool finite;        // all statistics are
};

// Lower triangles F_k that are on a device.
struct Factors {
  std::shared_ptr<Kept> kept;
  Doubles log_determinants;  // (K,)
};

py::tuple shape_of(const Scatters& scatters) {
  const int64_t dims = mixtura::cuda::dims_of(*scatters.kept);
  return py::make_tuple(mixtura::cuda::components_of(*scatters.kept), dims * (dims + 1) / 2);
}
py::tuple shape_of(const Factors& factors) {
  const int64_t dims = mixtura::cuda::dims_of(*factors.kept);
  return py::make_tuple(mixtura::cuda::components_of(*factors.kept), dims, dims);
}

// What `read` writes of K components' numbers, on the host.
template <class Read>
Doubles brought(const py::tuple& shape, Read read) {
  Doubles out(shape.cast<std::vector<py::ssize_t>>());
  double* memory = out.mutable_data();
  const py::gil_scoped_release release;
  read(memory);
  return out;
}

// Factors of the covariances; none if one of these is not positive definite.
std::optional<Factors> factors_of(const Scatters& scatters, const Doubles& mass, const Doubles& added) {
  const int64_t components = mixtura::cuda::components_of(*scatters.kept);
  const double* divisors = checked(mass, {components}, "mass");
  const double* variances = checked(added, {mixtura::cuda::dims_of(*scatters.kept)}, "added");
  Factors factors{nullptr, Doubles(components)};
  double* determinants = factors.log_determinants.mutable_data();
  {
    const py::gil_scoped_release release;
    factors.kept = mixtura::cuda::factorise(*scatters.kept, divisors, variances, determinants);
  }
  if (!factors.kept) return std::nullopt;
  return factors;
}

// (K, 5): see mixtura::cuda::Table::measure; widths are (K, D), or (D,), to which the vectors' squares are
// added.
Doubles measured(const Factors& factors, const Doubles& widths, const std::optional<Doubles>& vectors) {
  const int64_t components = mixtura::cuda::components_of(*factors.kept),
                dims = mixtura::cuda::dims_of(*factors.kept);
  const bool around = widths.ndim() == 1;
  const double* squares =
      around ? checked(widths, {dims}, "widths") : checked(widths, {components, dims}, "widths");
  const double* turned = vectors ? checked(*vectors, {components, dims}, "vectors") : nullptr;
  return brought(py::make_tuple(components, 5), [&](double* out) {
    mixtura::cuda::measure(*factors.kept, around ? squares : nullptr, around ? nullptr : squares, turned,
                           out);
  });
}

// (K,): see mixtura::cuda::Norms.
Doubles norms(const Factors& factors, const Doubles& variances) {
  const int64_t components = mixtura::cuda::components_of(*factors.kept);
  const double* numbers =
      checked(variances, {components, mixtura::cuda::dims_of(*factors.kept)}, "variances");
  return brought(py::make_tuple(components),
                 [&](double* out) { mixtura::cuda::norms(*factors.kept, numbers, out); });
}

// A table placed with the device; keeps arrays that it streams from alive.
class Table {
 public:
  Table(py::array left, std::optional<py::array> right, int device, int64_t tile_bytes, int64_t budget,
        bool pinnable, int threads)
      : left_(std::move(left)), right_(std::move(right)) {
    const mixtura::Rows rows = mixtura::arguments::rows_of(left_, right_);
    const py::gil_scoped_release release;
    table_ = std::make_unique<DeviceTable>(rows, false, device, tile_bytes, budget, pinnable, threads);
  }

  Table(const Pointer& pointer, int device, int64_t tile_bytes) {
    const auto [address, single, shape, strides] = pointer;
    mixtura::Rows rows{};
    rows.left = mixtura::Columns{reinterpret_cast<const void*>(address), single, std::get<1>(shape),
                                 std::get<0>(strides), std::get<1>(strides)};
    rows.count = std::get<0>(shape);
    rows.dims = rows.left.dims;
    const py::gil_scoped_release release;
    table_ = std::make_unique<DeviceTable>(rows, true, device, tile_bytes, -1, false, 0);
  }

  bool resident() const { return table_->resident(); }

  // Masses, first and second moments, and the log-likelihood; second moments may be Scatters where `keep` is
  // set.
  py::tuple expect(int64_t begin, int64_t end, const Quadratics& quadratics, const Doubles& log_weights,
                   const std::string& kind, const Doubles& pivot, const std::optional<Doubles>& sample_weight,
                   bool hard, bool single, bool fast, bool keep, const std::optional<Factors>& factors,
                   int threads) {
    Request request = rows(begin, end, pivot, threads);
    set_quadratics(request, quadratics, factors, log_weights);
    request.pass.hard = hard;
    request.pass.single = single;
    request.fast = fast;
    return statistics(request, kind, sample_weight, keep);
  }

  py::tuple accumulate(int64_t begin, int64_t end, const Doubles& resp, const std::string& kind,
                       const Doubles& pivot, const std::optional<Doubles>& sample_weight, int threads) {
    Request request = rows(begin, end, pivot, threads);
    if (resp.ndim() != 2 || resp.shape(1) < 1) throw std::invalid_argument("resp has the wrong shape");
    request.pass.quadratics.components = resp.shape(1);
    request.pass.quadratics.dims = table_->dims();
    request.pass.resp = checked(resp, {request.pass.rows.count, resp.shape(1)}, "resp");
    return statistics(request, kind, sample_weight, false);
  }

  Doubles log_joint(int64_t begin, int64_t end, const Quadratics& quadratics, const Doubles& log_weights,
                    const Doubles& pivot, int threads) {
    Request request = rows(begin, end, pivot, threads);
    mixtura::arguments::set_quadratics(request.pass, quadratics, log_weights);
    Doubles joint({request.pass.rows.count, request.pass.quadratics.components});
    request.pass.answers.joint = joint.mutable_data();
    run(request, nullptr);
    return joint;
  }

  // Log-density of each row, and, into an array (N, K) of float or double, the responsibilities.
  Doubles posterior(int64_t begin, int64_t end, const Quadratics& quadratics, const Doubles& log_weights,
                    const Doubles& pivot, const std::optional<py::array>& resp, int threads) {
    Request request = rows(begin, end, pivot, threads);
    mixtura::arguments::set_quadratics(request.pass, quadratics, log_weights);
    mixtura::Answers& answers = request.pass.answers;
    Doubles density(request.pass.rows.count);
    answers.density = density.mutable_data();
    if (resp) {
      answers.resp_in_single = py::isinstance<py::array_t<float>>(*resp);
      const bool good = resp->ndim() == 2 && resp->shape(0) == request.pass.rows.count &&
                        resp->shape(1) == request.pass.quadratics.components &&
                        (resp->flags() & py::array::c_style);
      if (!good || !(answers.resp_in_single || py::isinstance<Doubles>(*resp)))
        throw std::invalid_argument("resp must be a row-major (N, K) array of float32 or float64");
      answers.resp = py::array(*resp).mutable_data();
    }
    run(request, nullptr);
    return density;
  }

  py::tuple assign(int64_t begin, int64_t end, const Quadratics& quadratics, const Doubles& log_weights,
                   const Doubles& pivot, bool single, int threads) {
    Request request = rows(begin, end, pivot, threads);
    mixtura::arguments::set_quadratics(request.pass, quadratics, log_weights);
    request.pass.single = single;
    request.pass.hard = true;
    py::array_t<int32_t> labels(request.pass.rows.count);
    Doubles best(request.pass.rows.count);
    request.labels = labels.mutable_data();
    request.best = best.mutable_data();
    run(request, nullptr);
    return py::make_tuple(labels, best);
  }

  // (D, 4): NaN, infinities, least, largest of each column.
  Doubles survey(const std::optional<Doubles>& sample_weight) {
    const double* weight =
        sample_weight ? checked(*sample_weight, {table_->rows()}, "sample_weight") : nullptr;
    std::vector<mixtura::cuda::Finding> found;
    {
      const py::gil_scoped_release release;
      found = table_->survey(weight);
    }
    Doubles out({static_cast<py::ssize_t>(found.size()), py::ssize_t{4}});
    double* at = out.mutable_data();
    for (const auto& f : found)
      for (double value : {f.nans, f.infinities, f.least, f.largest}) *at++ = value;
    return out;
  }

  // (count, D) copies of some rows of a table that lies on the device.
  Doubles gather(const py::array_t<int64_t, py::array::c_style>& index) {
    const int64_t count = index.size();
    for (int64_t i = 0; i < count; ++i)
      if (index.data()[i] < 0 || index.data()[i] >= table_->rows())
        throw py::index_error("row beyond the table");
    Doubles out({count, table_->dims()});
    double* memory = out.mutable_data();
    const py::gil_scoped_release release;
    table_->gather(index.data(), count, memory);
    return out;
  }

 private:
  Request rows(int64_t begin, int64_t end, const Doubles& pivot, int threads) const {
    if (begin < 0 || end < begin || end > table_->rows())
      throw std::invalid_argument("rows beyond the table");
    Request request;
    request.begin = begin;
    request.threads = threads;
    request.pass.rows = table_->source();
    request.pass.rows.count = end - begin;
    request.pass.pivot = checked(pivot, {table_->dims()}, "pivot");
    return request;
  }

  // With the factors of quadratics that have none of their own, if they are on a device.
  static void set_quadratics(Request& request, const Quadratics& quadratics,
                             const std::optional<Factors>& factors, const Doubles& log_weights) {
    if (!factors) return mixtura::arguments::set_quadratics(request.pass, quadratics, log_weights);
    const mixtura::Quadratics q = quadratics.without_factors();
    const Kept& kept = *factors->kept;
    if (q.factor != mixtura::Factor::triangle || q.components != mixtura::cuda::components_of(kept) ||
        q.dims != mixtura::cuda::dims_of(kept))
      throw std::invalid_argument("factors on the device do not fit the quadratics");
    mixtura::arguments::set_quadratics(request.pass, q, log_weights);
    request.factors = &kept;
  }

  py::tuple statistics(Request& request, const std::string& kind, const std::optional<Doubles>& sample_weight,
                       bool keep) {
    mixtura::Pass& pass = request.pass;
    pass.kind = mixtura::arguments::kind_of(kind);
    if (sample_weight) pass.sample_weight = checked(*sample_weight, {pass.rows.count}, "sample_weight");
    const int64_t components = pass.quadratics.components;
    const int64_t rest = mixtura::statistics_size(pass.kind, pass.rows.dims) - 1;
    const int64_t means = std::min(rest, pass.rows.dims);
    Doubles mass(components), first({components, means}), second({components, rest - means});
    mixtura::cuda::Totals totals;
    totals.mass = mass.mutable_data();
    totals.first = first.mutable_data();
    totals.second = second.mutable_data();
    Doubles diagonals;
    if (keep) {
      diagonals = Doubles({components, pass.rows.dims});
      totals.diagonals = diagonals.mutable_data();
    }
    run(request, &totals);
    if (totals.kept)
      return py::make_tuple(mass, first, Scatters{totals.kept, diagonals, totals.finite},
                            totals.log_likelihood);
    return py::make_tuple(mass, first, second, totals.log_likelihood);
  }

  void run(const Request& request, mixtura::cuda::Totals* totals) {
    const py::gil_scoped_release release;
    table_->run(request, totals);
  }

  py::array left_;
  std::optional<py::array> right_;
  std::unique_ptr<DeviceTable> table_;
};

}  // namespace

PYBIND11_MODULE(MIXTURA_MODULE, m) {
  m.doc() = "Mixtura's CUDA kernels.";
  py::register_exception<mixtura::cuda::DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  py::register_exception<mixtura::cuda::OutOfMemory>(m, "DeviceMemoryError", PyExc_MemoryError);
  py::class_<Quadratics>(m, "Quadratics", py::module_local())
      .def(py::init<std::string, Doubles, Doubles, Doubles, std::optional<Doubles>>(), py::arg("form"),
           py::arg("offsets"), py::arg("means"), py::arg("factors"), py::arg("linear") = py::none());
  py::class_<Scatters>(m, "Scatters", py::module_local())
      .def_readonly("diagonals", &Scatters::diagonals)
      .def_readonly("finite", &Scatters::finite)
      .def(
          "brought",
          [](const Scatters& s, int threads) {
            return brought(shape_of(s),
                           [&](double* out) { mixtura::cuda::bring_second(*s.kept, out, threads); });
          },
          py::arg("threads"))
      .def("factors", &factors_of, py::arg("mass"), py::arg("added"));
  py::class_<Factors>(m, "Factors", py::module_local())
      .def_readonly("log_determinants", &Factors::log_determinants)
      .def(
          "brought",
          [](const Factors& f, int threads) {
            return brought(shape_of(f),
                           [&](double* out) { mixtura::cuda::bring_factors(*f.kept, out, threads); });
          },
          py::arg("threads"))
      .def("norms", &norms, py::arg("variances"))
      .def("measured", &measured, py::arg("widths"), py::arg("vectors") = py::none());
  py::class_<Table>(m, "Table", py::module_local())
      .def(py::init<py::array, std::optional<py::array>, int, int64_t, int64_t, bool, int>(), py::arg("left"),
           py::arg("right"), py::arg("device"), py::arg("tile_bytes"), py::arg("budget"), py::arg("pinnable"),
           py::arg("threads"))
      .def_static(
          "on_device",
          [](const Pointer& pointer, int device, int64_t tile_bytes) {
            return std::make_unique<Table>(pointer, device, tile_bytes);
          },
          py::arg("pointer"), py::arg("device"), py::arg("tile_bytes"))
      .def_property_readonly("resident", &Table::resident)
      .def("expect", &Table::expect, py::arg("begin"), py::arg("end"), py::arg("quadratics"),
           py::arg("log_weights"), py::arg("kind"), py::arg("pivot"), py::arg("sample_weight"),
           py::arg("hard"), py::arg("single"), py::arg("fast"), py::arg("keep"), py::arg("factors"),
           py::arg("threads"))
      .def("accumulate", &Table::accumulate, py::arg("begin"), py::arg("end"), py::arg("resp"),
           py::arg("kind"), py::arg("pivot"), py::arg("sample_weight"), py::arg("threads"))
      .def("log_joint", &Table::log_joint, py::arg("begin"), py::arg("end"), py::arg("quadratics"),
           py::arg("log_weights"), py::arg("pivot"), py::arg("threads"))
      .def("posterior", &Table::posterior, py::arg("begin"), py::arg("end"), py::arg("quadratics"),
           py::arg("log_weights"), py::arg("pivot"), py::arg("resp"), py::arg("threads"))
      .def("assign", &Table::assign, py::arg("begin"), py::arg("end"), py::arg("quadratics"),
           py::arg("log_weights"), py::arg("pivot"), py::arg("single"), py::arg("threads"))
      .def("survey", &Table::survey, py::arg("sample_weight"))
      .def("gather", &Table::gather, py::arg("index"));
  m.def("unavailable", &mixtura::cuda::unavailable);
  m.def("describe", &mixtura::cuda::describe);
  m.def("read_dlpack", &read_dlpack, py::arg("capsule"));
  m.def("emulated", &mixtura::cuda::emulated);
  m.def("device_of",
        [](uintptr_t address) { return mixtura::cuda::device_of(reinterpret_cast<const void*>(address)); });
  m.def("set_emulated_capacity", &mixtura::cuda::set_emulated_capacity, py::arg("bytes"));
  m.def("set_emulated_warpgroups", &mixtura::cuda::set_emulated_warpgroups, py::arg("wanted"));
  m.def("emulated_allocated", &mixtura::cuda::emulated_allocated);
}
