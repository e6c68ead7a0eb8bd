// Arrays in, arrays out: no arithmetic here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "mixtura/driver.hpp"
#include "mixtura/pool.hpp"

namespace py = pybind11;

// For threadpoolctl, which looks symbols up by name in the loaded library.
extern "C" {
__attribute__((visibility("default"))) int mixtura_get_num_threads() {
  return mixtura::thread_limit();
}
__attribute__((visibility("default"))) void mixtura_set_num_threads(int threads) {
  mixtura::set_thread_limit(threads);
}
}

namespace {

using Doubles = py::array_t<double, py::array::c_style>;

mixtura::Columns columns_of(const py::array& X, const char* name) {
  if (X.ndim() != 2) throw std::invalid_argument(std::string(name) + " must have two dimensions");
  const bool single = py::isinstance<py::array_t<float>>(X);
  if (!single && !py::isinstance<py::array_t<double>>(X))
    throw std::invalid_argument(std::string(name) + " must be float32 or float64 in native byte order");
  const py::ssize_t item = X.itemsize();
  if (X.strides(0) % item || X.strides(1) % item)
    throw std::invalid_argument(std::string(name) + " must be aligned");
  return {X.data(), single, X.shape(1), X.strides(0) / item, X.strides(1) / item};
}

// A table in one array, or in two that lie beside each other.
struct Table {
  py::array left;
  std::optional<py::array> right;

  Table(py::array left_, std::optional<py::array> right_)
      : left(std::move(left_)), right(std::move(right_)) {}

  mixtura::Rows view() const {
    mixtura::Rows rows{};
    rows.left = columns_of(left, "X");
    if (right) {
      rows.right = columns_of(*right, "y");
      if (right->shape(0) != left.shape(0)) throw std::invalid_argument("X and y differ in rows");
    }
    rows.count = left.shape(0);
    rows.dims = rows.left.dims + rows.right.dims;
    return rows;
  }
};

const double* checked(const Doubles& array, std::initializer_list<py::ssize_t> shape, const char* name) {
  bool same = array.ndim() == static_cast<py::ssize_t>(shape.size());
  py::ssize_t axis = 0;
  for (py::ssize_t n : shape) same = same && array.shape(axis++) == n;
  if (!same) throw std::invalid_argument(std::string(name) + " has the wrong shape");
  return array.data();
}

mixtura::Factor factor_of(const std::string& form) {
  if (form == "scalar") return mixtura::Factor::scalar;
  if (form == "diagonal") return mixtura::Factor::diagonal;
  if (form == "triangle") return mixtura::Factor::triangle;
  if (form == "rectangle") return mixtura::Factor::rectangle;
  throw std::invalid_argument("unknown factor form '" + form + "'");
}

mixtura::Kind kind_of(const std::string& kind) {
  if (kind == "mass") return mixtura::Kind::mass;
  if (kind == "mean") return mixtura::Kind::mean;
  if (kind == "trace") return mixtura::Kind::trace;
  if (kind == "diagonal") return mixtura::Kind::diagonal;
  if (kind == "full") return mixtura::Kind::full;
  throw std::invalid_argument("unknown kind of moments '" + kind + "'");
}

// K quadratics as numpy arrays; keeps them alive.
struct Quadratics {
  std::string form;
  Doubles offsets, means, factors;

  Quadratics(std::string form_, Doubles offsets_, Doubles means_, Doubles factors_)
      : form(std::move(form_)),
        offsets(std::move(offsets_)),
        means(std::move(means_)),
        factors(std::move(factors_)) {}

  mixtura::Quadratics view() const {
    mixtura::Quadratics q{};
    q.factor = factor_of(form);
    if (means.ndim() != 2) throw std::invalid_argument("means must have two dimensions");
    q.components = means.shape(0);
    q.dims = means.shape(1);
    if (q.components < 1) throw std::invalid_argument("no components");
    const py::ssize_t axes = q.factor == mixtura::Factor::scalar     ? 1
                             : q.factor == mixtura::Factor::diagonal ? 2
                                                                     : 3;
    if (factors.ndim() != axes) throw std::invalid_argument("factors have the wrong shape");
    q.shared = factors.shape(0) == 1 && q.components > 1;
    q.factor_rows = axes == 3 ? factors.shape(1) : q.dims;
    const py::ssize_t count = q.shared ? 1 : q.components;
    q.offsets = checked(offsets, {q.components}, "offsets");
    q.means = means.data();
    if (axes == 1)
      q.factors = checked(factors, {count}, "factors");
    else if (axes == 2)
      q.factors = checked(factors, {count, q.dims}, "factors");
    else
      q.factors = checked(factors, {count, q.factor_rows, q.dims}, "factors");
    if (q.factor == mixtura::Factor::triangle && q.factor_rows != q.dims)
      throw std::invalid_argument("a triangle has as many rows as columns");
    return q;
  }
};

void set_rows(mixtura::Pass& pass, const Table& table, const Doubles& pivot) {
  pass.rows = table.view();
  pass.pivot = checked(pivot, {pass.rows.dims}, "pivot");
}

void set_quadratics(mixtura::Pass& pass, const Quadratics& quadratics, const Doubles& log_weights) {
  pass.quadratics = quadratics.view();
  if (pass.quadratics.dims != pass.rows.dims) throw std::invalid_argument("means and rows differ in columns");
  pass.log_weights_per_row = log_weights.ndim() == 2;
  if (pass.log_weights_per_row)
    pass.log_weights = checked(log_weights, {pass.rows.count, pass.quadratics.components}, "log_weights");
  else
    pass.log_weights = checked(log_weights, {pass.quadratics.components}, "log_weights");
}

// (K, P) statistics, each row [mass | mean | second moment], and the log-likelihood.
py::tuple statistics(mixtura::Pass& pass, const std::string& kind,
                     const std::optional<Doubles>& sample_weight, int threads) {
  pass.kind = kind_of(kind);
  if (sample_weight) pass.sample_weight = checked(*sample_weight, {pass.rows.count}, "sample_weight");
  const int64_t components = pass.quadratics.components;
  const int64_t size = mixtura::statistics_size(pass.kind, pass.rows.dims);
  Doubles total(components * size + 1);
  double* out = total.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::run_pass(pass, threads, out);
  }
  py::array_t<double> table({components, size}, out, total);
  return py::make_tuple(table, out[components * size]);
}

py::tuple expect(const Table& rows, const Quadratics& quadratics, const Doubles& log_weights,
                 const std::string& kind, const Doubles& pivot, const std::optional<Doubles>& sample_weight,
                 bool hard, bool single, int threads) {
  mixtura::Pass pass{};
  pass.single = single && !hard;
  set_rows(pass, rows, pivot);
  set_quadratics(pass, quadratics, log_weights);
  pass.hard = hard;
  return statistics(pass, kind, sample_weight, threads);
}

py::tuple accumulate(const Table& rows, const Doubles& resp, const std::string& kind, const Doubles& pivot,
                     const std::optional<Doubles>& sample_weight, int threads) {
  mixtura::Pass pass{};
  set_rows(pass, rows, pivot);
  if (resp.ndim() != 2 || resp.shape(1) < 1) throw std::invalid_argument("resp has the wrong shape");
  pass.quadratics.components = resp.shape(1);
  pass.quadratics.dims = pass.rows.dims;
  pass.resp = checked(resp, {pass.rows.count, resp.shape(1)}, "resp");
  return statistics(pass, kind, sample_weight, threads);
}

Doubles log_joint(const Table& rows, const Quadratics& quadratics, const Doubles& log_weights,
                  const Doubles& pivot, int threads) {
  mixtura::Pass pass{};
  set_rows(pass, rows, pivot);
  set_quadratics(pass, quadratics, log_weights);
  Doubles joint({pass.rows.count, pass.quadratics.components});
  pass.joint = joint.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::run_pass(pass, threads, nullptr);
  }
  return joint;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Mixtura's C++ kernels.";
  py::class_<Table>(m, "Table")
      .def(py::init<py::array, std::optional<py::array>>(), py::arg("left"), py::arg("right"));
  py::class_<Quadratics>(m, "Quadratics")
      .def(py::init<std::string, Doubles, Doubles, Doubles>(), py::arg("form"), py::arg("offsets"),
           py::arg("means"), py::arg("factors"));
  m.def("expect", &expect, py::arg("rows"), py::arg("quadratics"), py::arg("log_weights"), py::arg("kind"),
        py::arg("pivot"), py::arg("sample_weight"), py::arg("hard"), py::arg("single"), py::arg("threads"));
  m.def("accumulate", &accumulate, py::arg("rows"), py::arg("resp"), py::arg("kind"), py::arg("pivot"),
        py::arg("sample_weight"), py::arg("threads"));
  m.def("log_joint", &log_joint, py::arg("rows"), py::arg("quadratics"), py::arg("log_weights"),
        py::arg("pivot"), py::arg("threads"));
  m.def("instruction_sets", &mixtura::instruction_sets);
  m.def("instruction_set", &mixtura::instruction_set);
  m.def("set_instruction_set", &mixtura::set_instruction_set, py::arg("name"));
  m.def("skipping", &mixtura::skipping);
  m.def("set_skipping", &mixtura::set_skipping, py::arg("on"));
  m.def("thread_limit", &mixtura::thread_limit);
  m.def("set_thread_limit", &mixtura::set_thread_limit, py::arg("threads"));
}
