// Arrays in, arrays out: no arithmetic here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "mixtura/arguments.hpp"
#include "mixtura/cholesky.hpp"
#include "mixtura/clustering.hpp"
#include "mixtura/common_axes.hpp"
#include "mixtura/derivatives.hpp"
#include "mixtura/driver.hpp"
#include "mixtura/elementwise.hpp"
#include "mixtura/many.hpp"
#include "mixtura/many_matrices.hpp"
#include "mixtura/pool.hpp"
#include "mixtura/regressions.hpp"

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

using mixtura::arguments::checked;
using mixtura::arguments::Doubles;
using mixtura::arguments::kind_of;
using mixtura::arguments::Quadratics;
using mixtura::arguments::set_quadratics;

// A table in one array, or in two that lie beside each other.
struct Table {
  py::array left;
  std::optional<py::array> right;

  Table(py::array left_, std::optional<py::array> right_)
      : left(std::move(left_)), right(std::move(right_)) {}

  mixtura::Rows view() const { return mixtura::arguments::rows_of(left, right); }
};

// Lets Ctrl-C end a long pass: raises KeyboardInterrupt, or what the user's handler raises.
void look_for_signals() {
  py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

void set_rows(mixtura::Pass& pass, const Table& table, const Doubles& pivot) {
  pass.rows = table.view();
  pass.pivot = checked(pivot, {pass.rows.dims}, "pivot");
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
    mixtura::run_pass(pass, threads, out, look_for_signals);
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

// The same of the wanted components, each about a pivot of its own, (K, D).
py::tuple expect_each(const Table& rows, const Quadratics& quadratics, const Doubles& log_weights,
                      const std::string& kind, const Doubles& pivot, const Doubles& own_pivots,
                      const py::array_t<bool, py::array::c_style>& wanted,
                      const std::optional<Doubles>& sample_weight, bool hard, int threads) {
  mixtura::Pass pass{};
  set_rows(pass, rows, pivot);
  set_quadratics(pass, quadratics, log_weights);
  pass.hard = hard;
  pass.own_pivots = checked(own_pivots, {pass.quadratics.components, pass.rows.dims}, "own_pivots");
  if (wanted.ndim() != 1 || wanted.shape(0) != pass.quadratics.components)
    throw std::invalid_argument("wanted has the wrong shape");
  pass.wanted = wanted.data();
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
  pass.answers.joint = joint.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::run_pass(pass, threads, nullptr, look_for_signals);
  }
  return joint;
}

// Most likely component of each row, and its joint log-density.
py::tuple assign(const Table& rows, const Quadratics& quadratics, const Doubles& log_weights,
                 const Doubles& pivot, int threads) {
  mixtura::Pass pass{};
  set_rows(pass, rows, pivot);
  set_quadratics(pass, quadratics, log_weights);
  py::array_t<int32_t> labels(pass.rows.count);
  Doubles best(pass.rows.count);
  pass.answers.labels = labels.mutable_data();
  pass.answers.best = best.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::run_pass(pass, threads, nullptr, look_for_signals);
  }
  return py::make_tuple(labels, best);
}

// Log-density of each row, and, into an array (N, K) of float or double, the responsibilities.
Doubles posterior(const Table& rows, const Quadratics& quadratics, const Doubles& log_weights,
                  const Doubles& pivot, const std::optional<py::array>& resp, int threads) {
  mixtura::Pass pass{};
  set_rows(pass, rows, pivot);
  set_quadratics(pass, quadratics, log_weights);
  Doubles density(pass.rows.count);
  pass.answers.density = density.mutable_data();
  if (resp) {
    const bool single = py::isinstance<py::array_t<float>>(*resp);
    const bool good = resp->ndim() == 2 && resp->shape(0) == pass.rows.count &&
                      resp->shape(1) == pass.quadratics.components && (resp->flags() & py::array::c_style);
    if (!good || !(single || py::isinstance<Doubles>(*resp)))
      throw std::invalid_argument("resp must be a row-major (N, K) array of float32 or float64");
    pass.answers.resp = py::array(*resp).mutable_data();
    pass.answers.resp_in_single = single;
  }
  {
    py::gil_scoped_release release;
    mixtura::run_pass(pass, threads, nullptr, look_for_signals);
  }
  return density;
}

// (K, D, D) symmetric matrices to lower triangles F with F' F = inverse; none if one is not positive
// definite. The capsules are scipy.linalg.cython_lapack's.
std::optional<Doubles> inverse_cholesky(const Doubles& matrices, const py::capsule& potrf,
                                        const py::capsule& trtri, int threads) {
  if (matrices.ndim() != 3 || matrices.shape(1) != matrices.shape(2))
    throw std::invalid_argument("matrices must have shape (K, D, D)");
  const mixtura::Lapack lapack{reinterpret_cast<mixtura::Potrf*>(potrf.get_pointer()),
                               reinterpret_cast<mixtura::Trtri*>(trtri.get_pointer())};
  Doubles out({matrices.shape(0), matrices.shape(1), matrices.shape(2)});
  double* memory = out.mutable_data();
  bool good = false;
  {
    py::gil_scoped_release release;
    good = mixtura::inverse_cholesky(lapack, matrices.data(), memory, matrices.shape(0), matrices.shape(1),
                                     threads);
  }
  return good ? std::optional<Doubles>(out) : std::nullopt;
}

// (K, D, D) covariances from packed second moments, first moments (K, D) and masses (K,).
Doubles covariances(const Doubles& second, const Doubles& first, const Doubles& mass, int threads) {
  if (first.ndim() != 2) throw std::invalid_argument("first must have shape (K, D)");
  const int64_t K = first.shape(0), D = first.shape(1);
  checked(second, {K, D * (D + 1) / 2}, "second");
  checked(mass, {K}, "mass");
  Doubles out({K, D, D});
  double* memory = out.mutable_data();
  const py::gil_scoped_release release;
  mixtura::covariances(second.data(), first.data(), mass.data(), K, D, memory, threads);
  return out;
}

// (K, R, C) to (K, C, R).
Doubles transposed(const Doubles& matrices, int threads) {
  if (matrices.ndim() != 3) throw std::invalid_argument("matrices must have shape (K, R, C)");
  Doubles out({matrices.shape(0), matrices.shape(2), matrices.shape(1)});
  double* memory = out.mutable_data();
  const py::gil_scoped_release release;
  mixtura::transpose(matrices.data(), matrices.shape(0), matrices.shape(1), matrices.shape(2), memory,
                     threads);
  return out;
}

// Means (K, D), and (K, D, D) sums of products about them.
py::tuple scatters(const Doubles& mass, const Doubles& first, const Doubles& second, const Doubles& pivot,
                   int64_t covariates, double constant) {
  if (first.ndim() != 2) throw std::invalid_argument("first must have shape (K, D)");
  const int64_t K = first.shape(0), D = first.shape(1);
  const bool own_pivots = pivot.ndim() == 2;
  if (own_pivots)
    checked(pivot, {K, D}, "pivot");
  else
    checked(pivot, {D}, "pivot");
  if (covariates < 0 || covariates > D) throw std::invalid_argument("covariates must be among the columns");
  const mixtura::ScatterProblem problem{checked(mass, {K}, "mass"),
                                        first.data(),
                                        checked(second, {K, D * (D + 1) / 2}, "second"),
                                        pivot.data(),
                                        own_pivots,
                                        K,
                                        D,
                                        covariates,
                                        constant};
  Doubles means({K, D}), about_means({K, D, D});
  mixtura::scatters(problem, means.mutable_data(), about_means.mutable_data());
  return py::make_tuple(means, about_means);
}

// Means (K, D + M), slopes (K, M, D), noise (K, M), covariances (K, M, D, D), delicate and empty (K); none if
// columns depend on each other.
std::optional<py::tuple> regress(const Doubles& mass, const Doubles& first, const Doubles& second,
                                 const Doubles& pivot, int64_t covariates, double constant, double delicate,
                                 double solved, const Doubles& noise_floor, bool shared_noise,
                                 double rounding, double nearly_exact, double near_floor, double empty) {
  if (first.ndim() != 2) throw std::invalid_argument("first must have shape (K, D)");
  const int64_t K = first.shape(0), whole = first.shape(1), D = covariates, M = whole - D;
  if (D < 0 || M < 1) throw std::invalid_argument("covariates must be fewer than the columns");
  const bool own_pivots = pivot.ndim() == 2;
  const double* pivots = own_pivots ? checked(pivot, {K, whole}, "pivot") : checked(pivot, {whole}, "pivot");
  const mixtura::RegressionProblem problem{
      {checked(mass, {K}, "mass"), first.data(), checked(second, {K, whole * (whole + 1) / 2}, "second"),
       pivots, own_pivots, K, whole, D, constant},
      delicate,
      solved,
      checked(noise_floor, {M}, "noise_floor"),
      shared_noise,
      rounding,
      nearly_exact,
      near_floor,
      empty};
  Doubles means({K, whole}), slopes({K, M, D}), noise({K, M}), posterior({K, M, D, D});
  py::array_t<bool> is_delicate(K), is_empty(K);
  const mixtura::Regressions out{means.mutable_data(),       slopes.mutable_data(),
                                 noise.mutable_data(),       posterior.mutable_data(),
                                 is_delicate.mutable_data(), is_empty.mutable_data()};
  if (!mixtura::regress(problem, out)) return std::nullopt;
  return py::make_tuple(means, slopes, noise, posterior, is_delicate, is_empty);
}

py::tuple quadratics_of_experts(const Doubles& slopes, const Doubles& noise) {
  if (slopes.ndim() != 3) throw std::invalid_argument("slopes must have shape (K, M, D)");
  const int64_t K = slopes.shape(0), M = slopes.shape(1), D = slopes.shape(2);
  Doubles offsets(K), factors({K, M, D + M});
  mixtura::quadratics_of_experts(slopes.data(), checked(noise, {K, M}, "noise"), K, D, M,
                                 offsets.mutable_data(), factors.mutable_data());
  return py::make_tuple(offsets, factors);
}

bool any_far(const std::string& form, const Doubles& factors, const Doubles& means, const Doubles& point,
             double lengths, double distance) {
  if (means.ndim() != 2) throw std::invalid_argument("means must be (K, D)");
  const int64_t K = means.shape(0), D = means.shape(1);
  mixtura::FactorsView view{mixtura::arguments::factor_of(form), factors.data(), 0, 1};
  const int64_t axes = view.form == mixtura::Factor::scalar     ? 1
                       : view.form == mixtura::Factor::diagonal ? 2
                                                                : 3;
  const bool good = factors.ndim() == axes && (factors.shape(0) == 1 || factors.shape(0) == K) &&
                    (axes == 1 || factors.shape(axes - 1) == D);
  if (!good) throw std::invalid_argument("factors have the wrong shape");
  view.count = factors.shape(0);
  if (axes == 3) view.rows = factors.shape(1);
  return mixtura::any_far(view, means.data(), checked(point, {D}, "point"), K, D, lengths, distance);
}

bool all_finite(const py::args& arrays) {
  for (const py::handle& each : arrays) {
    const auto array = py::cast<Doubles>(each);
    if (!mixtura::all_finite(array.data(), array.size())) return false;
  }
  return true;
}

// Slopes (K, M, D), inverses (K, D, D), squares explained and spoilt (K, M); none if a matrix is nearly
// singular.
std::optional<py::tuple> solve(const Doubles& xx, const Doubles& xy, double delicate, double solved) {
  if (xy.ndim() != 3) throw std::invalid_argument("xy must have shape (K, D, M)");
  const int64_t K = xy.shape(0), D = xy.shape(1), M = xy.shape(2);
  const mixtura::NormalEquations equations{
      checked(xx, {K, D, D}, "xx"), xy.data(), K, D, M, delicate, solved};
  Doubles slopes({K, M, D}), inverse({K, D, D}), explained({K, M}), spoilt({K, M});
  const mixtura::Slopes out{slopes.mutable_data(), inverse.mutable_data(), explained.mutable_data(),
                            spoilt.mutable_data()};
  if (!mixtura::solve(equations, out)) return std::nullopt;
  return py::make_tuple(slopes, inverse, explained, spoilt);
}

// Moments of one of the kinds that keep second moments for each component.
mixtura::MomentsView moments_of(const std::string& kind, const Doubles& mass, const Doubles& first,
                                const Doubles& second) {
  if (mass.ndim() != 1 || first.ndim() != 2)
    throw std::invalid_argument("mass and first are not (K,) and (K, D)");
  const py::ssize_t count = mass.shape(0), dims = first.shape(1);
  const mixtura::MomentsView view{mixtura::arguments::kind_of(kind),      count,        dims, mass.data(),
                                  checked(first, {count, dims}, "first"), second.data()};
  if (view.kind == mixtura::Kind::trace)
    checked(second, {count}, "second");
  else if (view.kind == mixtura::Kind::diagonal)
    checked(second, {count, dims}, "second");
  else if (view.kind == mixtura::Kind::full)
    checked(second, {count, dims * (dims + 1) / 2}, "second");
  else
    throw std::invalid_argument("moments of kind '" + kind + "' have no second moments");
  return view;
}

// Whether the means are near the pivot, and the ratios (K, 2), if wanted.
py::tuple ratios_to_spread(const std::string& kind, const Doubles& mass, const Doubles& first,
                           const Doubles& second, double floor, double near, bool wanted, int threads) {
  const mixtura::MomentsView moments = moments_of(kind, mass, first, second);
  Doubles ratios({wanted ? moments.components : 0, int64_t{2}});
  const bool all =
      mixtura::ratios_to_spread(moments, floor, near, wanted ? ratios.mutable_data() : nullptr, threads);
  return py::make_tuple(all, ratios);
}

// Variances and factors (K, D) of diagonal covariances; none if one is singular.
std::optional<py::tuple> diagonal_estimates(const Doubles& mass, const Doubles& first, const Doubles& second,
                                            const Doubles& added, int threads) {
  const mixtura::MomentsView moments = moments_of("diagonal", mass, first, second);
  checked(added, {moments.dims}, "added");
  Doubles covariances({moments.components, moments.dims}), cholesky({moments.components, moments.dims});
  if (!mixtura::diagonal_estimates(moments, added.data(), covariances.mutable_data(), cholesky.mutable_data(),
                                   threads))
    return std::nullopt;
  return py::make_tuple(covariances, cholesky);
}

Doubles means_of(const Doubles& first, const Doubles& mass, const Doubles& pivot, int threads) {
  if (first.ndim() != 2) throw std::invalid_argument("first must be (K, D)");
  const py::ssize_t count = first.shape(0), dims = first.shape(1);
  const bool own = pivot.ndim() == 2;
  const double* pivots = own ? checked(pivot, {count, dims}, "pivot") : checked(pivot, {dims}, "pivot");
  Doubles out({count, dims});
  mixtura::means_of(first.data(), checked(mass, {count}, "mass"), pivots, own, count, dims,
                    out.mutable_data(), threads);
  return out;
}

Doubles sums_of_logarithms(const Doubles& numbers, int threads) {
  if (numbers.ndim() != 2) throw std::invalid_argument("numbers must be (K, D)");
  Doubles out(numbers.shape(0));
  mixtura::sums_of_logarithms(numbers.data(), numbers.shape(0), numbers.shape(1), out.mutable_data(),
                              threads);
  return out;
}

py::tuple elementwise_widths(const Doubles& factors, const Doubles& means, const Doubles& pivot,
                             const Doubles& around, int threads) {
  if (means.ndim() != 2) throw std::invalid_argument("means must be (K, D)");
  const py::ssize_t count = means.shape(0), dims = means.shape(1);
  const bool scalar = factors.ndim() == 1;
  if (scalar)
    checked(factors, {count}, "factors");
  else
    checked(factors, {count, dims}, "factors");
  const auto found =
      mixtura::elementwise_widths(factors.data(), scalar, means.data(), checked(pivot, {dims}, "pivot"),
                                  checked(around, {dims}, "around"), count, dims, threads);
  return py::make_tuple(found.widest, found.least, found.largest);
}

// Of factors (K, R, D) and variances (K, D): the largest sum of squares times variances along a row, and the
// least and the largest square of a row.
py::tuple widths(const Doubles& factors, const Doubles& variances, int threads) {
  if (factors.ndim() != 3 || factors.size() == 0)
    throw std::invalid_argument("factors must have shape (K, R, D)");
  checked(variances, {factors.shape(0), factors.shape(2)}, "variances");
  mixtura::Widths found{};
  {
    const py::gil_scoped_release release;
    found = mixtura::widths(factors.data(), variances.data(), factors.shape(0), factors.shape(1),
                            factors.shape(2), threads);
  }
  return py::make_tuple(found.widest, found.least, found.largest);
}

// The orientation, (D, D), that covariances (K, D, D) along axes (D, D) have in common once they are turned.
Doubles common_axes(const Doubles& matrices, const Doubles& axes, const Doubles& mass, bool one_volume,
                    int sweeps, int angles, int steps, double drop) {
  const int64_t K = mass.ndim() == 1 ? mass.shape(0) : 0, D = axes.ndim() == 2 ? axes.shape(0) : 0;
  checked(mass, {K}, "mass");
  checked(axes, {D, D}, "axes");
  checked(matrices, {K, D, D}, "matrices");
  Doubles out({D, D});
  double* turned = out.mutable_data();
  {
    py::gil_scoped_release release;
    std::vector<double> copy(matrices.data(), matrices.data() + matrices.size());
    std::copy_n(axes.data(), axes.size(), turned);
    mixtura::turn({copy.data(), turned, mass.data(), K, D, one_volume}, sweeps, angles, steps, drop);
  }
  return out;
}

// A mixture as a function of its parameters, as a numpy array; keeps it alive.
struct Parametric {
  mixtura::Parametric shape;
  Doubles theta;

  Parametric(int64_t components, int64_t covariates, int64_t targets, bool intercept, bool softmax,
             bool shared, const std::string& form, Doubles theta_)
      : shape{
            components, covariates, targets, intercept, softmax, shared, mixtura::arguments::factor_of(form)},
        theta(std::move(theta_)) {
    if (components < 1 || covariates < 0 || targets < 1 || shape.form == mixtura::Factor::rectangle)
      throw std::invalid_argument("no such mixture");
    checked(theta, {shape.size()}, "theta");
  }

  mixtura::DerivativePass pass(const Table& table) const {
    mixtura::DerivativePass pass{};
    pass.rows = table.view();
    if (pass.rows.dims != shape.dims()) throw std::invalid_argument("rows have the wrong number of columns");
    pass.shape = shape;
    pass.theta = theta.data();
    return pass;
  }
};

// Densities (N,), and those of the responsibilities (N, K), scores (N, P), gradients (N, D) and Hessians
// (N, D, D) that are wanted.
py::tuple adjoint(const Table& rows, const Parametric& mixture, bool resp, bool scores, bool gradient,
                  bool hessian, int threads) {
  mixtura::DerivativePass pass = mixture.pass(rows);
  const py::ssize_t N = pass.rows.count, P = mixture.shape.size(), D = mixture.shape.dims();
  Doubles density(N);
  pass.density = density.mutable_data();
  py::object weights = py::none(), of_theta = py::none(), first = py::none(), second = py::none();
  const auto wanted = [](py::object& answer, std::vector<py::ssize_t> shape) {
    Doubles array(std::move(shape));
    answer = array;
    return array.mutable_data();
  };
  if (resp) pass.resp = wanted(weights, {N, mixture.shape.components});
  if (scores) pass.scores = wanted(of_theta, {N, P});
  if (gradient) pass.row_gradient = wanted(first, {N, D});
  if (hessian) pass.row_hessian = wanted(second, {N, D, D});
  {
    py::gil_scoped_release release;
    mixtura::run_adjoint(pass, threads, look_for_signals);
  }
  return py::make_tuple(density, weights, of_theta, first, second);
}

// Densities (N,) and their derivatives along a direction (P,), (N,).
py::tuple tangent(const Table& rows, const Parametric& mixture, const Doubles& direction, int threads) {
  mixtura::DerivativePass pass = mixture.pass(rows);
  pass.direction = checked(direction, {mixture.shape.size()}, "direction");
  Doubles density(pass.rows.count), along(pass.rows.count);
  pass.density = density.mutable_data();
  pass.tangent = along.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::run_tangent(pass, threads, look_for_signals);
  }
  return py::make_tuple(density, along);
}

// By nested dual numbers: densities (N,), their gradients (N, D) and Hessians (N, D, D).
py::tuple forward_rows(const Table& rows, const Parametric& mixture, int threads) {
  mixtura::DerivativePass pass = mixture.pass(rows);
  const py::ssize_t N = pass.rows.count, D = mixture.shape.dims();
  Doubles density(N), gradient({N, D}), hessian({N, D, D});
  pass.density = density.mutable_data();
  pass.row_gradient = gradient.mutable_data();
  pass.row_hessian = hessian.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::run_forward_rows(pass, threads, look_for_signals);
  }
  return py::make_tuple(density, gradient, hessian);
}

// By nested dual numbers, weighted sums over the rows: value, gradient (P,), Hessian (P, P).
py::tuple forward_sums(const Table& rows, const Parametric& mixture,
                       const std::optional<Doubles>& sample_weight, int threads) {
  mixtura::DerivativePass pass = mixture.pass(rows);
  if (sample_weight) pass.weight = checked(*sample_weight, {pass.rows.count}, "sample_weight");
  const py::ssize_t P = mixture.shape.size();
  Doubles gradient(P), hessian({P, P});
  double *first = gradient.mutable_data(), *second = hessian.mutable_data(), value = 0.0;
  {
    py::gil_scoped_release release;
    mixtura::run_forward_sums(pass, threads, &value, first, second, look_for_signals);
  }
  return py::make_tuple(value, gradient, hessian);
}

// Means and deviations (N, R) of linear predictions with slopes (K, R, Q), levels and variances (K, R).
py::tuple average(const Table& rows, const Doubles& resp, const Doubles& slopes, const Doubles& levels,
                  const Doubles& variances, int threads) {
  mixtura::AveragePass pass{};
  pass.rows = rows.view();
  if (slopes.ndim() != 3) throw std::invalid_argument("slopes must have three dimensions");
  const py::ssize_t N = pass.rows.count, K = slopes.shape(0), R = slopes.shape(1);
  pass.components = K;
  pass.targets = R;
  pass.resp = checked(resp, {N, K}, "resp");
  pass.slopes = checked(slopes, {K, R, pass.rows.dims}, "slopes");
  pass.levels = checked(levels, {K, R}, "levels");
  pass.variances = checked(variances, {K, R}, "variances");
  Doubles mean({N, R}), deviation({N, R});
  pass.mean = mean.mutable_data();
  pass.deviation = deviation.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::run_average(pass, threads, look_for_signals);
  }
  return py::make_tuple(mean, deviation);
}

// Rows, weights and a shared factor for k-means; `quadratics` has the centres or a point as means.
mixtura::Pass clustering_pass(const Table& rows, const Quadratics& quadratics,
                              const std::optional<Doubles>& sample_weight) {
  mixtura::Pass pass{};
  pass.rows = rows.view();
  pass.quadratics = quadratics.view();
  if (pass.quadratics.dims != pass.rows.dims) throw std::invalid_argument("means and rows differ in columns");
  if (quadratics.factors.shape(0) != 1) throw std::invalid_argument("k-means has one factor for all centres");
  if (sample_weight) pass.sample_weight = checked(*sample_weight, {pass.rows.count}, "sample_weight");
  return pass;
}

// The last centres (K, D), a bound for each iteration, and why they ended.
py::tuple lloyd(const Table& rows, const Quadratics& quadratics, const Doubles& pivot,
                const std::optional<Doubles>& sample_weight, double total_weight, int64_t max_iter,
                double tol, int threads) {
  mixtura::Pass pass = clustering_pass(rows, quadratics, sample_weight);
  pass.pivot = checked(pivot, {pass.rows.dims}, "pivot");
  Doubles means({pass.quadratics.components, pass.quadratics.dims});
  double* memory = means.mutable_data();
  std::copy_n(quadratics.means.data(), quadratics.means.size(), memory);
  std::vector<double> bounds;
  mixtura::LloydEnd end{};
  {
    py::gil_scoped_release release;
    end = mixtura::lloyd(pass, memory, total_weight, max_iter, tol, threads, bounds, look_for_signals);
  }
  return py::make_tuple(means, bounds, static_cast<int>(end));
}

// Throws unless there is something to choose, and the order in which rows are gone through is one.
void check_order(const py::array_t<int64_t, py::array::c_style>& order, int64_t rows, int64_t components,
                 int64_t trials) {
  if (rows < 1 || components < 1 || trials < 1) throw std::invalid_argument("nothing to choose");
  if (order.ndim() != 1 || order.shape(0) != rows) throw std::invalid_argument("order has the wrong shape");
  for (py::ssize_t i = 0; i < order.shape(0); ++i)
    if (order.data()[i] < 0 || order.data()[i] >= rows)
      throw std::invalid_argument("order names rows that do not exist");
}

// Indices (K,) of the rows that greedy k-means++ chose.
py::array_t<int64_t> seed(const Table& rows, const Quadratics& quadratics,
                          const std::optional<Doubles>& sample_weight,
                          const py::array_t<int64_t, py::array::c_style>& order, int64_t components,
                          int64_t trials, const Doubles& uniforms, int threads) {
  const mixtura::Pass pass = clustering_pass(rows, quadratics, sample_weight);
  check_order(order, pass.rows.count, components, trials);
  const double* numbers = checked(uniforms, {1 + (components - 1) * trials}, "uniforms");
  py::array_t<int64_t> chosen(components);
  int64_t* memory = chosen.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::seed(pass, order.data(), components, trials, numbers, threads, memory, look_for_signals);
  }
  return chosen;
}

using Integers = py::array_t<int32_t, py::array::c_style>;

// Centres (R, K, D), labels (R, N), inertias and ends (R,) of searches with rows of `uniforms` (R, ...).
py::tuple searches(const Table& rows, const Quadratics& quadratics, const Doubles& pivot,
                   const std::optional<Doubles>& sample_weight,
                   const py::array_t<int64_t, py::array::c_style>& order, int64_t components, int64_t trials,
                   const Doubles& uniforms, double total_weight, int64_t max_iter, double tol, int threads) {
  mixtura::Pass pass = clustering_pass(rows, quadratics, sample_weight);
  pass.pivot = checked(pivot, {pass.rows.dims}, "pivot");
  check_order(order, pass.rows.count, components, trials);
  const py::ssize_t R = uniforms.ndim() == 2 ? uniforms.shape(0) : 0;
  const double* numbers = checked(uniforms, {R, 1 + (components - 1) * trials}, "uniforms");
  Doubles means({R, static_cast<py::ssize_t>(components), static_cast<py::ssize_t>(pass.rows.dims)}),
      inertia(R);
  Integers labels({R, static_cast<py::ssize_t>(pass.rows.count)}), iterations(R), ends(R);
  const mixtura::Searches found{means.mutable_data(), labels.mutable_data(), inertia.mutable_data(),
                                iterations.mutable_data(), ends.mutable_data()};
  {
    py::gil_scoped_release release;
    mixtura::searches(pass, order.data(), R, components, trials, numbers, total_weight, max_iter, tol,
                      threads, found, look_for_signals);
  }
  return py::make_tuple(means, labels, inertia, iterations, ends);
}

// Groups of rows, which are in the groups' order, and the shape of their mixtures.
mixtura::Many many_of(const Table& rows, const py::array_t<int64_t, py::array::c_style>& offsets,
                      int64_t components, const std::string& form, bool tied) {
  mixtura::Many many{};
  many.rows = rows.view();
  if (offsets.ndim() != 1 || offsets.shape(0) < 1 || components < 1 || many.rows.right.dims)
    throw std::invalid_argument("no such groups");
  many.offsets = offsets.data();
  many.groups = offsets.shape(0) - 1;
  for (py::ssize_t g = 0; g < many.groups; ++g)
    if (many.offsets[g] > many.offsets[g + 1]) throw std::invalid_argument("offsets must not fall");
  if (many.offsets[0] != 0 || many.offsets[many.groups] != many.rows.count)
    throw std::invalid_argument("offsets must go from 0 to the number of rows");
  many.components = components;
  many.form = mixtura::arguments::factor_of(form);
  many.tied = tied;
  return many;
}

// What is added to the variances of each group's columns, (G, D), of one number, one for each column, or all.
std::vector<double> added(const mixtura::Many& many, const Doubles& reg_covar) {
  const int64_t D = many.rows.dims, all = many.groups * D, size = reg_covar.size();
  if (size != 1 && size != D && size != all) throw std::invalid_argument("reg_covar has the wrong shape");
  std::vector<double> each(static_cast<size_t>(all));
  for (int64_t i = 0; i < all; ++i) each[static_cast<size_t>(i)] = reg_covar.data()[i % size];
  return each;
}

// One mixture for each group: weights (G, K), means (G, K, D), covariances (G, C, S), bounds, iterations and
// outcomes (G,).
py::tuple fit_many(const Table& rows, const py::array_t<int64_t, py::array::c_style>& offsets,
                   int64_t components, const std::string& form, bool tied, double tol,
                   const Doubles& reg_covar, int64_t max_iter, uint64_t seed,
                   const std::optional<Integers>& labels,
                   const std::optional<std::tuple<Doubles, Doubles, Doubles>>& start, int threads) {
  mixtura::Many many = many_of(rows, offsets, components, form, tied);
  many.tol = tol;
  const std::vector<double> of_groups = added(many, reg_covar);
  many.reg_covar = of_groups.data();
  many.max_iter = max_iter;
  many.seed = seed;
  if (labels) {
    if (labels->ndim() != 1 || labels->shape(0) != many.rows.count)
      throw std::invalid_argument("labels have the wrong shape");
    many.labels = labels->data();
  }
  const py::ssize_t G = many.groups, K = components, D = many.rows.dims, S = many.covariance_size();
  const py::ssize_t C = many.covariances_of_group();
  Doubles weights({G, K}), means({G, K, D}), covariances({G, C, S}), bound(G);
  Integers iterations(G), outcome(G);
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  for (auto* array : {&weights, &means, &covariances})
    std::fill_n(array->mutable_data(), array->size(), nothing);
  if (start) {  // the same for all groups
    const auto repeat = [&](const Doubles& one, Doubles& all) {
      if (one.size() * G != all.size()) throw std::invalid_argument("start has the wrong shape");
      for (py::ssize_t g = 0; g < G; ++g)
        std::copy_n(one.data(), one.size(), all.mutable_data() + g * one.size());
    };
    repeat(std::get<0>(*start), weights);
    repeat(std::get<1>(*start), means);
    repeat(std::get<2>(*start), covariances);
    many.started = true;
  }
  many.weights = weights.mutable_data();
  many.means = means.mutable_data();
  many.covariances = covariances.mutable_data();
  many.bound = bound.mutable_data();
  many.iterations = iterations.mutable_data();
  many.outcome = outcome.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::fit_many(many, threads, look_for_signals);
  }
  return py::make_tuple(weights, means, covariances, bound, iterations, outcome);
}

// A run of EM from the first component of each row or, without labels, from given parameters, but for its
// last M-step: the parameters of its last E-step, the bounds of all, and the outcome.
py::tuple advance(const Table& rows, const std::string& form, bool tied, double tol, const Doubles& reg_covar,
                  int64_t max_iter, const Doubles& weights, const Doubles& means, const Doubles& covariances,
                  const std::optional<Integers>& labels) {
  const int64_t offsets[2] = {0, rows.left.shape(0)};
  mixtura::Many many{};
  many.rows = rows.view();
  many.offsets = offsets;
  many.groups = 1;
  many.components = weights.size();
  many.form = mixtura::arguments::factor_of(form);
  many.tied = tied;
  if (many.components < 1 || max_iter < 1 || many.rows.right.dims) throw std::invalid_argument("no such run");
  if (means.size() != many.components * many.rows.dims ||
      covariances.size() != many.covariances_of_group() * many.covariance_size())
    throw std::invalid_argument("parameters have the wrong shape");
  const auto copied = [](const Doubles& given, double*& place) {
    Doubles copy(std::vector<py::ssize_t>(given.shape(), given.shape() + given.ndim()));
    std::copy_n(given.data(), given.size(), place = copy.mutable_data());
    return copy;
  };
  const Doubles last_weights = copied(weights, many.weights), last_means = copied(means, many.means);
  const Doubles last_covariances = copied(covariances, many.covariances);
  std::vector<double> bounds(static_cast<size_t>(max_iter));
  double bound = 0.0;
  int32_t iterations = 0, outcome = 0;
  many.tol = tol;
  const std::vector<double> of_groups = added(many, reg_covar);
  many.reg_covar = of_groups.data();
  many.max_iter = max_iter;
  if (labels) {
    if (labels->ndim() != 1 || labels->shape(0) != many.rows.count)
      throw std::invalid_argument("labels have the wrong shape");
    many.labels = labels->data();
  }
  many.started = !labels;
  many.trace = bounds.data();
  many.bound = &bound;
  many.iterations = &iterations;
  many.outcome = &outcome;
  {
    py::gil_scoped_release release;
    mixtura::fit_many(many, 1, look_for_signals);
  }
  bounds.resize(static_cast<size_t>(iterations));
  return py::make_tuple(last_weights, last_means, last_covariances, bounds, outcome);
}

// The most likely component of each row in its group's mixture, (N,), or -1: see assign_many.
Integers assign_many(const Table& rows, const py::array_t<int64_t, py::array::c_style>& offsets,
                     const std::string& form, bool tied, Doubles weights, Doubles means, Doubles covariances,
                     Integers outcome, int threads) {
  if (weights.ndim() != 2) throw std::invalid_argument("weights have the wrong shape");
  mixtura::Many many = many_of(rows, offsets, weights.shape(1), form, tied);
  const py::ssize_t GK = many.groups * many.components;
  const py::ssize_t GC = many.groups * many.covariances_of_group();
  if (weights.size() != GK || means.size() != GK * many.rows.dims ||
      covariances.size() != GC * many.covariance_size() || outcome.size() != many.groups)
    throw std::invalid_argument("parameters have the wrong shape");
  many.weights = weights.mutable_data();
  many.means = means.mutable_data();
  many.covariances = covariances.mutable_data();
  many.outcome = outcome.mutable_data();
  Integers assigned(many.rows.count);
  many.assigned = assigned.mutable_data();
  {
    py::gil_scoped_release release;
    mixtura::assign_many(many, threads, look_for_signals);
  }
  return assigned;
}

}  // namespace

PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
  m.doc() = "Mixtura's C++ kernels.";
  py::class_<Table>(m, "Table")
      .def(py::init<py::array, std::optional<py::array>>(), py::arg("left"), py::arg("right"));
  py::class_<Quadratics>(m, "Quadratics", py::module_local())
      .def(py::init<std::string, Doubles, Doubles, Doubles, std::optional<Doubles>>(), py::arg("form"),
           py::arg("offsets"), py::arg("means"), py::arg("factors"), py::arg("linear") = py::none());
  m.def("expect", &expect, py::arg("rows"), py::arg("quadratics"), py::arg("log_weights"), py::arg("kind"),
        py::arg("pivot"), py::arg("sample_weight"), py::arg("hard"), py::arg("single"), py::arg("threads"));
  m.def("expect_each", &expect_each, py::arg("rows"), py::arg("quadratics"), py::arg("log_weights"),
        py::arg("kind"), py::arg("pivot"), py::arg("own_pivots"), py::arg("wanted"), py::arg("sample_weight"),
        py::arg("hard"), py::arg("threads"));
  m.def("accumulate", &accumulate, py::arg("rows"), py::arg("resp"), py::arg("kind"), py::arg("pivot"),
        py::arg("sample_weight"), py::arg("threads"));
  m.def("log_joint", &log_joint, py::arg("rows"), py::arg("quadratics"), py::arg("log_weights"),
        py::arg("pivot"), py::arg("threads"));
  m.def("assign", &assign, py::arg("rows"), py::arg("quadratics"), py::arg("log_weights"), py::arg("pivot"),
        py::arg("threads"));
  m.def("posterior", &posterior, py::arg("rows"), py::arg("quadratics"), py::arg("log_weights"),
        py::arg("pivot"), py::arg("resp"), py::arg("threads"));
  m.def("lloyd", &lloyd, py::arg("rows"), py::arg("quadratics"), py::arg("pivot"), py::arg("sample_weight"),
        py::arg("total_weight"), py::arg("max_iter"), py::arg("tol"), py::arg("threads"));
  m.def("seed", &seed, py::arg("rows"), py::arg("quadratics"), py::arg("sample_weight"), py::arg("order"),
        py::arg("components"), py::arg("trials"), py::arg("uniforms"), py::arg("threads"));
  m.def("searches", &searches, py::arg("rows"), py::arg("quadratics"), py::arg("pivot"),
        py::arg("sample_weight"), py::arg("order"), py::arg("components"), py::arg("trials"),
        py::arg("uniforms"), py::arg("total_weight"), py::arg("max_iter"), py::arg("tol"),
        py::arg("threads"));
  m.def("covariances", &covariances, py::arg("second"), py::arg("first"), py::arg("mass"),
        py::arg("threads"));
  m.def("scatters", &scatters, py::arg("mass"), py::arg("first"), py::arg("second"), py::arg("pivot"),
        py::arg("covariates"), py::arg("constant"));
  m.def("solve", &solve, py::arg("xx"), py::arg("xy"), py::arg("delicate"), py::arg("solved"));
  m.def("regress", &regress, py::arg("mass"), py::arg("first"), py::arg("second"), py::arg("pivot"),
        py::arg("covariates"), py::arg("constant"), py::arg("delicate"), py::arg("solved"),
        py::arg("noise_floor"), py::arg("shared_noise"), py::arg("rounding"), py::arg("nearly_exact"),
        py::arg("near_floor"), py::arg("empty"));
  m.def("quadratics_of_experts", &quadratics_of_experts, py::arg("slopes"), py::arg("noise"));
  m.def("any_far", &any_far, py::arg("form"), py::arg("factors"), py::arg("means"), py::arg("point"),
        py::arg("lengths"), py::arg("distance"));
  m.def("all_finite", &all_finite);
  m.def("transposed", &transposed, py::arg("matrices"), py::arg("threads"));
  m.def("widths", &widths, py::arg("factors"), py::arg("variances"), py::arg("threads"));
  m.def("ratios_to_spread", &ratios_to_spread, py::arg("kind"), py::arg("mass"), py::arg("first"),
        py::arg("second"), py::arg("floor"), py::arg("near"), py::arg("wanted"), py::arg("threads"));
  m.def("diagonal_estimates", &diagonal_estimates, py::arg("mass"), py::arg("first"), py::arg("second"),
        py::arg("added"), py::arg("threads"));
  m.def("means_of", &means_of, py::arg("first"), py::arg("mass"), py::arg("pivot"), py::arg("threads"));
  m.def("sums_of_logarithms", &sums_of_logarithms, py::arg("numbers"), py::arg("threads"));
  m.def("elementwise_widths", &elementwise_widths, py::arg("factors"), py::arg("means"), py::arg("pivot"),
        py::arg("around"), py::arg("threads"));
  m.def("inverse_cholesky", &inverse_cholesky, py::arg("matrices"), py::arg("potrf"), py::arg("trtri"),
        py::arg("threads"));
  m.def("common_axes", &common_axes, py::arg("matrices"), py::arg("axes"), py::arg("mass"),
        py::arg("one_volume"), py::arg("sweeps"), py::arg("angles"), py::arg("steps"), py::arg("drop"));
  py::class_<Parametric>(m, "Parametric")
      .def(py::init<int64_t, int64_t, int64_t, bool, bool, bool, std::string, Doubles>(),
           py::arg("components"), py::arg("covariates"), py::arg("targets"), py::arg("intercept"),
           py::arg("softmax"), py::arg("shared"), py::arg("form"), py::arg("theta"));
  m.def("adjoint", &adjoint, py::arg("rows"), py::arg("mixture"), py::arg("resp"), py::arg("scores"),
        py::arg("gradient"), py::arg("hessian"), py::arg("threads"));
  m.def("tangent", &tangent, py::arg("rows"), py::arg("mixture"), py::arg("direction"), py::arg("threads"));
  m.def("forward_rows", &forward_rows, py::arg("rows"), py::arg("mixture"), py::arg("threads"));
  m.def("forward_sums", &forward_sums, py::arg("rows"), py::arg("mixture"), py::arg("sample_weight"),
        py::arg("threads"));
  m.def("average", &average, py::arg("rows"), py::arg("resp"), py::arg("slopes"), py::arg("levels"),
        py::arg("variances"), py::arg("threads"));
  m.def("fit_many", &fit_many, py::arg("rows"), py::arg("offsets"), py::arg("components"), py::arg("form"),
        py::arg("tied"), py::arg("tol"), py::arg("reg_covar"), py::arg("max_iter"), py::arg("seed"),
        py::arg("labels"), py::arg("start"), py::arg("threads"));
  m.def("advance", &advance, py::arg("rows"), py::arg("form"), py::arg("tied"), py::arg("tol"),
        py::arg("reg_covar"), py::arg("max_iter"), py::arg("weights"), py::arg("means"),
        py::arg("covariances"), py::arg("labels"));
  m.def("assign_many", &assign_many, py::arg("rows"), py::arg("offsets"), py::arg("form"), py::arg("tied"),
        py::arg("weights"), py::arg("means"), py::arg("covariances"), py::arg("outcome"), py::arg("threads"));
  m.def("instruction_sets", &mixtura::instruction_sets);
  m.def("instruction_set", &mixtura::instruction_set);
  m.def("set_instruction_set", &mixtura::set_instruction_set, py::arg("name"));
  m.def("skipping", &mixtura::skipping);
  m.def("set_skipping", &mixtura::set_skipping, py::arg("on"));
  m.def("thread_limit", &mixtura::thread_limit);
  m.def("set_thread_limit", &mixtura::set_thread_limit, py::arg("threads"));
}
