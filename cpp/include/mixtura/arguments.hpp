// Arrays of the caller as the kernels' plain data, checked. For bindings.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "mixtura/problem.hpp"

namespace mixtura::arguments {

namespace py = pybind11;

using Doubles = py::array_t<double, py::array::c_style>;

inline Columns columns_of(const py::array& X, const char* name) {
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
inline Rows rows_of(const py::array& left, const std::optional<py::array>& right) {
  Rows rows{};
  rows.left = columns_of(left, "X");
  if (right) {
    rows.right = columns_of(*right, "y");
    if (right->shape(0) != left.shape(0)) throw std::invalid_argument("X and y differ in rows");
  }
  rows.count = left.shape(0);
  rows.dims = rows.left.dims + rows.right.dims;
  return rows;
}

inline const double* checked(const Doubles& array, std::initializer_list<py::ssize_t> shape,
                             const char* name) {
  bool same = array.ndim() == static_cast<py::ssize_t>(shape.size());
  py::ssize_t axis = 0;
  for (py::ssize_t n : shape) same = same && array.shape(axis++) == n;
  if (!same) throw std::invalid_argument(std::string(name) + " has the wrong shape");
  return array.data();
}

inline Factor factor_of(const std::string& form) {
  if (form == "scalar") return Factor::scalar;
  if (form == "diagonal") return Factor::diagonal;
  if (form == "triangle") return Factor::triangle;
  if (form == "rectangle") return Factor::rectangle;
  throw std::invalid_argument("unknown factor form '" + form + "'");
}

inline Kind kind_of(const std::string& kind) {
  if (kind == "mass") return Kind::mass;
  if (kind == "mean") return Kind::mean;
  if (kind == "trace") return Kind::trace;
  if (kind == "diagonal") return Kind::diagonal;
  if (kind == "full") return Kind::full;
  throw std::invalid_argument("unknown kind of moments '" + kind + "'");
}

// K quadratics as numpy arrays; keeps them alive.
struct Quadratics {
  std::string form;
  Doubles offsets, means, factors;
  std::optional<Doubles> linear;

  Quadratics(std::string form_, Doubles offsets_, Doubles means_, Doubles factors_,
             std::optional<Doubles> linear_)
      : form(std::move(form_)),
        offsets(std::move(offsets_)),
        means(std::move(means_)),
        factors(std::move(factors_)),
        linear(std::move(linear_)) {}

  mixtura::Quadratics view() const {
    mixtura::Quadratics q = without_factors();
    const py::ssize_t axes = q.factor == Factor::scalar ? 1 : q.factor == Factor::diagonal ? 2 : 3;
    if (factors.ndim() != axes) throw std::invalid_argument("factors have the wrong shape");
    q.shared = factors.shape(0) == 1 && q.components > 1;
    q.factor_rows = axes == 3 ? factors.shape(1) : q.dims;
    const py::ssize_t count = q.shared ? 1 : q.components;
    if (axes == 1)
      q.factors = checked(factors, {count}, "factors");
    else if (axes == 2)
      q.factors = checked(factors, {count, q.dims}, "factors");
    else
      q.factors = checked(factors, {count, q.factor_rows, q.dims}, "factors");
    if (q.factor == Factor::triangle && q.factor_rows != q.dims)
      throw std::invalid_argument("a triangle has as many rows as columns");
    return q;
  }

  // All but the factors, of which each component has one.
  mixtura::Quadratics without_factors() const {
    mixtura::Quadratics q{};
    q.factor = factor_of(form);
    if (means.ndim() != 2) throw std::invalid_argument("means must have two dimensions");
    q.components = means.shape(0);
    q.dims = q.factor_rows = means.shape(1);
    if (q.components < 1) throw std::invalid_argument("no components");
    q.offsets = checked(offsets, {q.components}, "offsets");
    q.means = means.data();
    if (linear) q.linear = checked(*linear, {q.components, q.dims}, "linear");
    return q;
  }
};

inline void set_quadratics(Pass& pass, const mixtura::Quadratics& quadratics, const Doubles& log_weights) {
  pass.quadratics = quadratics;
  if (quadratics.dims != pass.rows.dims) throw std::invalid_argument("means and rows differ in columns");
  pass.log_weights_per_row = log_weights.ndim() == 2;
  if (pass.log_weights_per_row)
    pass.log_weights = checked(log_weights, {pass.rows.count, quadratics.components}, "log_weights");
  else
    pass.log_weights = checked(log_weights, {quadratics.components}, "log_weights");
}

inline void set_quadratics(Pass& pass, const Quadratics& quadratics, const Doubles& log_weights) {
  set_quadratics(pass, quadratics.view(), log_weights);
}

}  // namespace mixtura::arguments
