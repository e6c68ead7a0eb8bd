// A table placed with a device, and passes over it. Host code, for CUDA devices and for the emulated one.
//
//   rows   on the device for good (they were there, or fit the budget), or streamed through two lanes: while
//          the kernels work on one tile, the next is gathered into pinned memory and copied
//   tile   center -> evaluate -> normalise -> accumulate, or nearest -> accumulate
//   sums   stay on the device for the whole pass; one reduction in fixed order at its end
//
// Tiles and splits depend on shapes and on the device alone, and where less than 2 GiB of it are free on how
// much is: else the same bits every time.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "mixtura/cuda/accumulate.hpp"
#include "mixtura/cuda/center.hpp"
#include "mixtura/cuda/evaluate.hpp"
#include "mixtura/cuda/factorise.hpp"
#include "mixtura/cuda/fast.hpp"
#include "mixtura/cuda/kept.hpp"
#include "mixtura/cuda/lanes.hpp"
#include "mixtura/cuda/memory.hpp"
#include "mixtura/cuda/nearest.hpp"
#include "mixtura/cuda/normalize.hpp"
#include "mixtura/cuda/packing.hpp"
#include "mixtura/cuda/request.hpp"
#include "mixtura/cuda/survey.hpp"
#include "mixtura/cuda/wide_pass.hpp"
#include "mixtura/problem.hpp"

namespace mixtura::cuda {

class Table : public std::enable_shared_from_this<Table> {
 public:
  // tile_bytes: of a tile on the device; 0: as suits the kernels. budget: most bytes of rows to keep there;
  // the rest is streamed.
  // pinnable: whether host rows are memory of this process that it may keep in place.
  Table(const Rows& rows, bool on_device, int index, int64_t tile_bytes, int64_t budget, bool pinnable,
        int threads)
      : device_(index),
        rows_(rows),
        tile_bytes_(tile_bytes > 0 ? std::min(tile_bytes, int64_t{1} << 30) : default_tile_bytes),
        tile_bytes_given_(tile_bytes > 0),
        pinnable_(pinnable) {
    if (on_device) {
      device_.wait_for_producers();
      resident_ = true;
    } else {
      keep_if_it_fits(budget, threads);
    }
    // What is free beside the table, of which a pass takes a tile, its operands and its sums.
    wide_bytes_ = std::min(wide_tile_bytes, static_cast<int64_t>(device_.available()) / 4);
  }

  ~Table() {
    for (int side = 0; side < 2; ++side)
      if (pinned_[side]) device_.unpin((side ? rows_.right : rows_.left).data);
  }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  bool resident() const { return resident_; }
  int64_t rows() const { return rows_.count; }
  int64_t dims() const { return rows_.dims; }
  const Rows& source() const { return rows_; }

  // Factors of the covariances of kept statistics, with divisors (K,) and what is added to variances (D,),
  // and the logarithms of their determinants (K,). Null if one is not positive definite, or there is no
  // memory for them.
  std::shared_ptr<Kept> factorise(const Kept& statistics, const double* mass, const double* added,
                                  double* log_determinants) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Unwinding unwinding(device_);
    const int64_t components = statistics.components(), dims = statistics.dims();
    const auto factors = kept(components, dims, components * triangle_size(dims), "factors");
    if (!factors) return nullptr;
    std::vector<double> numbers(mass, mass + components);
    numbers.insert(numbers.end(), added, added + dims);
    const double* asked = asked_.upload(numbers, "divisors");
    double* found = told_.reserve<double>(components, "determinants");
    device_.launch_wide(InverseCholeskys{statistics.numbers(), asked, asked + components, dims,
                                         factors->memory().at<double>(), found},
                        {components, 1, 1});
    device_.copy_out(log_determinants, found, static_cast<size_t>(components) * sizeof(double));
    const bool good = std::all_of(log_determinants, log_determinants + components,
                                  [](double determinant) { return determinant - determinant == 0.0; });
    return good ? factors : nullptr;
  }

  // See Lengths: (K, 5) from (K, D) squared widths and (K, D) vectors. Widths of none are `around` (D,) and
  // the squares of the vectors; vectors of none are zeros.
  void measure(const Kept& factors, const double* around, const double* widths, const double* vectors,
               double* out) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Unwinding unwinding(device_);
    const int64_t components = factors.components(), dims = factors.dims(), size = components * dims;
    const int64_t numbers = widths ? size : dims, all = numbers + (vectors ? size : 0);
    auto* staged = results_.reserve<double>(all);
    std::copy_n(widths ? widths : around, numbers, staged);
    if (vectors) std::copy_n(vectors, size, staged + numbers);
    auto* asked = asked_.reserve<double>(all, "widths");
    device_.copy_in(asked, staged, static_cast<size_t>(all) * sizeof(double));
    double* found = told_.reserve<double>(components * Lengths::results, "lengths");
    device_.launch(
        Lengths{factors.numbers(), asked, vectors ? asked + numbers : nullptr, dims, !widths, found},
        {components, 1, 1});
    device_.copy_out(out, found, static_cast<size_t>(components * Lengths::results) * sizeof(double));
  }

  // See Norms: (K,) from variances (K, D).
  void norms(const Kept& factors, const double* variances, double* out) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Unwinding unwinding(device_);
    const int64_t components = factors.components(), size = components * factors.dims();
    auto* staged = results_.reserve<double>(size);
    std::copy_n(variances, size, staged);
    auto* asked = asked_.reserve<double>(size, "variances");
    device_.copy_in(asked, staged, static_cast<size_t>(size) * sizeof(double));
    double* found = told_.reserve<double>(components, "norms");
    device_.launch_wide(Norms{factors.numbers(), asked, factors.dims(), found}, {components, 1, 1});
    device_.copy_out(out, found, static_cast<size_t>(components) * sizeof(double));
  }

  // The second moments of kept statistics, packed, (K, D (D + 1) / 2).
  void bring_second(const Kept& statistics, double* out, int threads) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t dims = statistics.dims(), rest = triangle_size(dims);
    bring(statistics, 1 + dims + rest, threads,
          [&](const double* from, int64_t k) { std::copy_n(from + 1 + dims, rest, out + k * rest); });
  }

  // Kept factors as (K, D, D), zeros above their diagonals.
  void bring_factors(const Kept& factors, double* out, int threads) {
    const std::lock_guard<std::mutex> lock(mutex_);
    bring_factors_here(factors, out, threads);
  }

  // Statistics to `totals`; or the pass's answers; or labels and best.
  void run(const Request& asked, Totals* totals) {
    Request request = asked;
    std::vector<double> brought;
    if (request.factors && request.factors->table().get() != this) {
      // Another table has a device and a lock of its own.
      take_to_host(request, brought, [&](double* out) {
        request.factors->table()->bring_factors(*request.factors, out, request.threads);
      });
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    const Unwinding unwinding(device_);
    const Pass& p = request.pass;
    pin_rows();
    // What rounding could decide, doubles do; the nearest centre decides in double by itself.
    if (p.single && !has_answers(p) && (!p.hard || nearest_centre(p)))
      run_as<float>(request, totals);
    else
      run_as<double>(request, totals);
  }

  // Findings of each column of a table that lies on the device, over the rows of positive weight.
  std::vector<Finding> survey(const double* sample_weight) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t dims = rows_.left.dims;
    const int64_t runs =
        std::max<int64_t>(std::min<int64_t>(device_.multiprocessors() * 4, rows_.count / 64), 1);
    Buffer buffer(device_), weights(device_);
    const double* weight =
        sample_weight
            ? weights.upload(std::vector<double>(sample_weight, sample_weight + rows_.count), "weights")
            : nullptr;
    Finding* out = buffer.reserve<Finding>(runs * dims, "findings");
    device_.launch(Survey{rows_.left, rows_.count, weight, runs, out},
                   {runs, (dims + Survey::side - 1) / Survey::side, 1});
    std::vector<Finding> found(static_cast<size_t>(runs * dims));
    device_.copy_out(found.data(), out, found.size() * sizeof(Finding));
    for (int64_t run = 1; run < runs; ++run)
      for (int64_t d = 0; d < dims; ++d)
        found[static_cast<size_t>(d)].merge(found[static_cast<size_t>(run * dims + d)]);
    found.resize(static_cast<size_t>(dims));
    return found;
  }

  // Copies of some rows of a table that lies on the device, (count, D).
  void gather(const int64_t* index, int64_t count, double* out) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Buffer indices(device_), copies(device_);
    const int64_t size = count * rows_.left.dims;
    if (size == 0) return;
    const int64_t* which = indices.upload(std::vector<int64_t>(index, index + count), "indices of rows");
    double* found = copies.reserve<double>(size, "copies of rows");
    device_.launch(Gather{rows_.left, which, count, found},
                   {(size + Gather::threads - 1) / Gather::threads, 1, 1});
    device_.copy_out(out, found, static_cast<size_t>(size) * sizeof(double));
  }

 private:
  static int64_t row_bytes(const Columns& c) { return c.dims * (c.single_precision ? 4 : 8); }

  // A table that is streamed again and again is worth pinning: then nothing but the bus moves its rows.
  void pin_rows() {
    if (resident_ || !pinnable_ || ++passes_ != passes_to_pin) return;
    for (int side = 0; side < 2; ++side) {
      const Columns& c = side ? rows_.right : rows_.left;
      const int64_t bytes = row_bytes(c) * rows_.count;
      pinned_[side] = bytes >= gather_bytes && Stream::of(c).contiguous() &&
                      device_.pin(c.data, static_cast<size_t>(bytes));
    }
  }

  // Uploads the table, if it is no larger than the budget.
  void keep_if_it_fits(int64_t budget, int threads) {
    const Rows before = rows_;
    const int64_t bytes = row_bytes(rows_.left) * rows_.count + row_bytes(rows_.right) * rows_.count;
    // Beside the table: its rows on their way, and what passes need.
    const int64_t spare = 2 * std::min(largest_copy, bytes) + 4 * tile_bytes_;
    const int64_t free = static_cast<int64_t>(device_.available()) - spare;
    if (bytes > (budget >= 0 ? budget : free / 10 * 8)) return;
    try {
      keep(threads);
    } catch (const OutOfMemory&) {  // someone else was quicker: stream, if that is ours to decide
      if (budget >= 0) throw;
      left_.clear();
      right_.clear();
      rows_ = before;
    }
  }

  // Uploads all rows, through the lanes.
  void keep(int threads) {
    Columns* sides[] = {&rows_.left, &rows_.right};
    Buffer* buffers[] = {&left_, &right_};
    Lanes lanes(device_);
    const Unwinding unwinding(device_);
    for (int side = 0; side < 2; ++side) {
      Columns& c = *sides[side];
      if (c.dims == 0) continue;
      const Stream stream = Stream::of(c);
      char* memory = buffers[side]->reserve<char>(stream.row_bytes * rows_.count, "the table");
      const int64_t step = std::max<int64_t>(largest_copy / stream.row_bytes, 1);
      lanes.reserve(std::min(step, rows_.count) * stream.row_bytes, "rows on their way");
      int lane = 0;
      for (int64_t begin = 0; begin < rows_.count; begin += step, lane ^= 1) {
        const int64_t end = std::min(begin + step, rows_.count);
        device_.wait_for_lane(lane);
        const void* arrived = lanes.send(lane, stream, begin, end, threads);
        device_.lane_filled(lane);
        device_.copy_within(memory + begin * stream.row_bytes, arrived,
                            static_cast<size_t>((end - begin) * stream.row_bytes));
        device_.lane_used(lane);
      }
      device_.finish();
      c = Columns{memory, c.single_precision, c.dims, c.dims, 1};
    }
    resident_ = true;
  }

  struct Plan {
    int64_t stride = 0, splits = 1, size = 0, entries = 0;
    bool nearest = false, statistics = false, fast = false, wide = false;
  };

  template <class T>
  Plan plan(const Request& request) {
    const Pass& p = request.pass;
    Plan plan;
    plan.nearest = nearest_centre(p);
    plan.statistics = !has_answers(p) && !request.labels;
    // Tensor cores pay from tiles that their instructions fill.
    plan.fast = request.fast && sizeof(T) == 4 && !p.hard && !p.answers.joint && !p.resp &&
                device_.has_tensor_cores() && p.quadratics.components >= fast_components &&
                p.rows.dims < 1 << 16;
    plan.size = plan.statistics ? statistics_size(p.kind, p.rows.dims) : 0;
    plan.entries = p.quadratics.components * plan.size;
    const int64_t item = sizeof(T), width = Augmented(p.rows.dims).width();
    const int64_t row = item * (2 * width + (plan.nearest ? 0 : p.quadratics.components));
    if (sizeof(T) == 4) wide_.plan(p, plan.nearest, plan.statistics, plan.fast);
    plan.wide = sizeof(T) == 4 && wide_.any();
    const int64_t step = plan.wide ? wide_.granularity() : panel_rows;
    const int64_t most = round_up(std::max<int64_t>(p.rows.count, 1), step);
    const int64_t wide_row = row + (plan.wide ? wide_.row_bytes() : 0);
    if (plan.wide && !tile_bytes_given_) {
      // As many panels for each multiprocessor as memory allows, but one tile of a streamed table soon; where
      // there is not even one for each, as many panels as there are.
      const int64_t all = device_.multiprocessors() * largest_panel;
      const int64_t streamed = std::max<int64_t>(row_bytes(rows_.left) + row_bytes(rows_.right), 1);
      int64_t rows = wide_bytes_ / wide_row;
      if (!resident_) rows = std::min(rows, largest_copy / streamed);
      const int64_t whole = rows < all ? step : all;
      plan.stride = std::min(std::max<int64_t>(rows / whole, 1) * whole, most);
    } else {
      plan.stride = std::max<int64_t>(tile_bytes_ / wide_row / step, 1) * step;
      plan.stride = std::min({plan.stride, most, most_tile_rows});
    }
    if (plan.wide && wide_.accumulates()) {
      plan.splits = wide_.splits(plan.stride, plan.entries, wide_bytes_);
      return plan;
    }
    const int64_t features = AccumulateSorted<T>::threads * AccumulateSorted<T>::features;
    const int64_t blocks = p.hard ? (plan.size + features - 1) / features * p.quadratics.components
                                  : (plan.size + 511) / 512 * ((p.quadratics.components + 127) / 128);
    const int64_t wanted =
        (blocks_wanted * device_.multiprocessors() + blocks - 1) / std::max<int64_t>(blocks, 1);
    // No more splits than the tile has panels for, nor than their sums fit in what the rows of a tile
    // take.
    const int64_t affordable = std::max<int64_t>(tile_bytes_ / std::max<int64_t>(plan.entries * 8, 1), 1);
    plan.splits =
        std::max<int64_t>(std::min({wanted, plan.stride / panel_rows / panels_of_a_split, affordable}), 1);
    return plan;
  }

  // Room for so many numbers of matrices that stay; null where the device has none to spare.
  std::shared_ptr<Kept> kept(int64_t components, int64_t dims, int64_t numbers, const char* what) {
    auto found = std::make_shared<Kept>(shared_from_this(), spares_, components, dims);
    try {
      found->memory().template reserve<double>(numbers, what);
    } catch (const OutOfMemory&) {
      found.reset();
      spares_.clear();
    }
    return found;
  }

  // Calls put(numbers, k) for each component of what is kept, `size` numbers each, on the host.
  template <class Put>
  void bring(const Kept& kept, int64_t size, int threads, Put put) {
    const int64_t entries = kept.components() * size;
    auto* arrived = results_.reserve<double>(entries);
    device_.copy_out(arrived, kept.numbers(), static_cast<size_t>(entries) * sizeof(double));
    in_parallel(kept.components(), entries < in_parallel_from ? 1 : threads,
                [&](int64_t k) { put(arrived + k * size, k); });
  }

  // A request whose factors are on the host, where bring(out) writes them.
  template <class Bring>
  static void take_to_host(Request& request, std::vector<double>& factors, Bring bring) {
    const Kept& kept = *request.factors;
    factors.resize(static_cast<size_t>(kept.components() * kept.dims() * kept.dims()));
    bring(factors.data());
    request.pass.quadratics.factors = factors.data();
    request.factors = nullptr;
  }

  void bring_factors_here(const Kept& factors, double* out, int threads) {
    const int64_t dims = factors.dims();
    bring(factors, triangle_size(dims), threads, [&](const double* from, int64_t k) {
      for (int64_t r = 0; r < dims; from += ++r) {
        double* to = out + (k * dims + r) * dims;
        std::fill(std::copy_n(from, r + 1, to), to + dims, 0.0);
      }
    });
  }

  template <class T>
  void run_as(const Request& asked, Totals* totals) {
    const Plan plan = this->plan<T>(asked);
    Request request = asked;
    std::vector<double> brought;
    if (request.factors && !(plan.wide && wide_.evaluates()))
      take_to_host(request, brought,
                   [&](double* out) { bring_factors_here(*request.factors, out, request.threads); });
    const Pass& p = request.pass;
    const int64_t components = p.quadratics.components, width = Augmented(p.rows.dims).width();
    const int64_t slots = plan.stride / stage_rows;
    if (components > 65535) throw std::invalid_argument("more than 65535 components");

    if constexpr (sizeof(T) == 4)
      if (plan.wide)
        wide_.prepare(p, request.factors ? request.factors->numbers() : nullptr, plan.stride,
                      request.threads);
    Tile<T> tile{};
    tile.dims = p.rows.dims;
    tile.stride = plan.stride;
    tile.columns = columns_.reserve<T>(width * plan.stride, "a tile's rows");
    // Lists alone read rows.
    tile.rows =
        plan.statistics && !p.hard ? row_major_.reserve<T>(width * plan.stride, "a tile's rows") : nullptr;
    tile.joint = joint_.reserve<T>(plan.nearest ? 1 : components * plan.stride, "a tile's densities");
    tile.share = share_.reserve<T>(plan.stride, "a tile's shares");
    if constexpr (sizeof(T) == 4) {
      if (plan.wide && wide_.accumulates()) tile.top = wide_.top();
    }
    tile.label = label_.reserve<int32_t>(plan.stride, "a tile's labels");
    double* weight = weight_.reserve<double>(plan.stride, "a tile's weights");
    double* best = best_.reserve<double>(plan.stride, "a tile's densities");
    double* sums = sums_.reserve<double>(plan.splits * plan.entries, "the statistics");
    double* likelihoods = likelihoods_.reserve<double>(slots, "log-likelihoods");
    auto* pairs_that_count = counter_.reserve<unsigned long long>(1, "a counter");
    device_.zero(sums, static_cast<size_t>(plan.splits * plan.entries) * sizeof(double));
    device_.zero(likelihoods, static_cast<size_t>(slots) * sizeof(double));
    const double* pivot = pivot_.upload(std::vector<double>(p.pivot, p.pivot + p.rows.dims), "the pivot");
    const std::vector<Pair> table = plan.statistics ? pairs_of(p.kind, p.rows.dims) : std::vector<Pair>{};
    const Pair* pairs = table.empty() ? nullptr : pairs_.upload(table, "pairs of columns");
    const bool squares = plan.nearest || (plan.statistics && p.kind == Kind::trace);
    Evaluator<T> evaluator(*this, request, plan);
    // Beside what is done by warpgroups.
    const bool others_read_columns = !(wide_.evaluates() || wide_.finds_nearest()) || p.quadratics.linear ||
                                     (plan.statistics && !p.hard && !wide_.accumulates());

    // Arrays with an entry a row, which come from the host.
    Stream streams[] = {resident_ ? Stream{} : Stream::of(rows_.left),
                        resident_ ? Stream{} : Stream::of(rows_.right), Stream::of(p.sample_weight, 1),
                        Stream::of(p.resp                  ? p.resp
                                   : p.log_weights_per_row ? p.log_weights
                                                           : nullptr,
                                   components)};
    for (int s = 0; s < 2; ++s) streams[s].pinned = pinned_[s];
    bool from_host = false;
    for (int s = 0; s < 4; ++s)
      if (streams[s].host && streams[s].row_bytes) {
        lanes_[s]->reserve(plan.stride * streams[s].row_bytes, "rows on their way");
        from_host = true;
      }
    double* answers = p.answers.joint || p.answers.resp
                          ? table_.reserve<double>(plan.stride * components, "answers on their way")
                          : nullptr;
    double* density =
        p.answers.density ? density_.reserve<double>(plan.stride, "densities on their way") : nullptr;

    int lane = 0;
    for (int64_t begin = 0; begin < p.rows.count; begin += plan.stride, lane ^= 1) {
      const int64_t end = std::min(begin + plan.stride, p.rows.count);
      tile.count = end - begin;
      tile.padded = round_up(tile.count, panel_rows);
      const void* arrived[4] = {};
      // Where nothing comes from the host, the kernels of all tiles follow one another without it.
      if (from_host) device_.wait_for_lane(lane);
      for (int s = 0; s < 4; ++s)
        if (streams[s].host && streams[s].row_bytes)
          arrived[s] = lanes_[s]->send(lane, streams[s], s < 2 ? request.begin + begin : begin,
                                       s < 2 ? request.begin + end : end, request.threads);
      if (from_host) device_.lane_filled(lane);
      device_.launch(Weigh{static_cast<const double*>(arrived[2]), tile.count, weight},
                     {tile.padded / Weigh::threads, 1, 1});
      tile.weight = weight;
      const Source source{side(rows_.left, arrived[0], request.begin + begin),
                          side(rows_.right, arrived[1], request.begin + begin), pivot};
      place(source, tile, plan, others_read_columns, squares);

      const Activity activity{pairs_that_count, components, tile.count};
      auto* given = const_cast<double*>(static_cast<const double*>(arrived[3]));
      const Grid patches{tile.padded / 32, (components + 31) / 32, 1};
      double* best_out = request.best ? best : nullptr;
      if (p.resp) {
        device_.launch(ExchangeJoint<T>{tile, components, given, Exchange::take, nullptr}, patches);
        device_.launch(ShareGiven<T>{tile, activity}, {tile.padded / ShareGiven<T>::threads, 1, 1});
      } else if (plan.nearest) {
        evaluator.nearest(tile, source, best_out, likelihoods);
      } else {
        evaluator.evaluate(tile);
        if (given) device_.launch(ExchangeJoint<T>{tile, components, given, Exchange::add, nullptr}, patches);
        if (p.answers.joint) {
          device_.launch(ExchangeJoint<T>{tile, components, answers, Exchange::give, nullptr}, patches);
          give(p.answers.joint + begin * components, answers, tile.count * components * 8, request.threads);
        } else if (p.hard) {
          device_.launch(NormalizeHard<T>{tile, components, best_out, likelihoods}, {tile.padded / 32, 1, 1});
        } else {
          device_.zero(pairs_that_count, sizeof *pairs_that_count);
          normalize(tile, plan, components, likelihoods, activity, density);
          if (density) give(p.answers.density + begin, density, tile.count * 8, request.threads);
          if (p.answers.resp)
            give_responsibilities(tile, p.answers, begin, components, answers, request.threads);
        }
      }
      if (request.labels) {
        device_.copy_out(request.labels + begin, tile.label,
                         static_cast<size_t>(tile.count) * sizeof(int32_t));
        if (request.best)
          device_.copy_out(request.best + begin, best, static_cast<size_t>(tile.count) * sizeof(double));
      } else if (plan.statistics) {
        accumulate(source, tile, plan, components, p.hard, pairs, sums, activity);
      }
      if (from_host) device_.lane_used(lane);
    }
    if (plan.statistics) {
      if (keeps(p, plan, *totals))
        totals->kept = kept(components, p.rows.dims, plan.entries, "the statistics");
      const bool keep = totals->kept != nullptr;
      double* reduced = keep ? totals->kept->memory().template at<double>()
                             : reduced_.reserve<double>(plan.entries, "the statistics");
      device_.launch(Reduce{plan.entries, plan.splits, sums, reduced},
                     {(plan.entries + Reduce::threads - 1) / Reduce::threads, 1, 1});
      if (keep)
        outline(reduced, components, p.rows.dims, request.threads, *totals);
      else
        download(reduced, plan, p.rows.dims, request.threads, *totals);
      std::vector<double> parts(static_cast<size_t>(slots));
      device_.copy_out(parts.data(), likelihoods, parts.size() * sizeof(double));
      for (double part : parts) totals->log_likelihood += part;
    }
    device_.finish();
  }

  // Whether second moments stay on the device: where the next pass can take factors that are there. Rows that
  // fit a panel of the E half are shorter than what shared memory and `Lengths` could hold.
  bool keeps(const Pass& p, const Plan& plan, const Totals& totals) {
    const bool wanted = totals.diagonals && p.kind == Kind::full && plan.wide && wide_.evaluates() &&
                        plan.entries >= kept_from && p.rows.dims <= Lengths::most_dims &&
                        InverseCholeskys::shared_bytes_of(p.rows.dims) <= device_.shared_bytes();
    if (wanted && plan.entries > entries_judged_) {
      entries_judged_ = plan.entries;
      has_room_ = static_cast<int64_t>(device_.available()) >= most_kept * plan.entries * 8;
    }
    return wanted && has_room_;
  }

  // What the host must know of statistics that stay.
  void outline(const double* statistics, int64_t components, int64_t dims, int threads, Totals& totals) {
    const int64_t each = 2 + 2 * dims;
    double* found = told_.reserve<double>(components * each, "an outline");
    device_.launch(Outline{statistics, dims, found}, {components, 1, 1});
    auto* arrived = results_.reserve<double>(components * each);
    device_.copy_out(arrived, found, static_cast<size_t>(components * each) * sizeof(double));
    in_parallel(components, components * each < in_parallel_from ? 1 : threads, [&](int64_t k) {
      const double* from = arrived + k * each;
      totals.mass[k] = from[0];
      std::copy_n(from + 1, dims, totals.first + k * dims);
      std::copy_n(from + 1 + dims, dims, totals.diagonals + k * dims);
    });
    for (int64_t k = 0; k < components; ++k)
      totals.finite = totals.finite && arrived[k * each + 1 + 2 * dims] == 1.0;
  }

  // Statistics (K, P) on the device, to three arrays on the host.
  void download(const double* statistics, const Plan& plan, int64_t dims, int threads, const Totals& totals) {
    auto* arrived = results_.reserve<double>(plan.entries);
    device_.copy_out(arrived, statistics, static_cast<size_t>(plan.entries) * sizeof(double));
    const int64_t means = std::min(dims, plan.size - 1), rest = plan.size - 1 - means;
    in_parallel(plan.entries / plan.size, plan.entries < in_parallel_from ? 1 : threads, [&](int64_t k) {
      const double* from = arrived + k * plan.size;
      totals.mass[k] = from[0];
      std::copy_n(from + 1, means, totals.first + k * means);
      std::copy_n(from + 1 + means, rest, totals.second + k * rest);
    });
  }

  // To the caller's array: through memory from which all threads copy, where there is much.
  void give(void* to, const void* from, int64_t bytes, int threads) {
    if (bytes < gather_bytes) return device_.copy_out(to, from, static_cast<size_t>(bytes));
    for (int64_t begin = 0; begin < bytes; begin += largest_copy) {
      const int64_t size = std::min(bytes - begin, largest_copy);
      const char* arrived = results_.reserve<char>(size);
      device_.copy_out(const_cast<char*>(arrived), static_cast<const char*>(from) + begin,
                       static_cast<size_t>(size));
      in_parallel((size + gather_bytes - 1) / gather_bytes, threads, [&](int64_t i) {
        const int64_t at = i * gather_bytes;
        std::memcpy(static_cast<char*>(to) + begin + at, arrived + at,
                    static_cast<size_t>(std::min(gather_bytes, size - at)));
      });
    }
  }

  template <class T>
  void give_responsibilities(const Tile<T>& tile, const Answers& to, int64_t begin, int64_t components,
                             double* answers, int threads) {
    const bool single = to.resp_in_single;
    float* floats = single ? reinterpret_cast<float*>(answers) : nullptr;
    device_.launch(ExchangeJoint<T>{tile, components, answers, Exchange::give_responsibilities, floats},
                   {tile.padded / 32, (components + 31) / 32, 1});
    const int64_t item = single ? 4 : 8;
    give(static_cast<char*>(to.resp) + begin * components * item, answers, tile.count * components * item,
         threads);
  }

  // The tile's rows, wherever its kernels read them.
  template <class T>
  void place(const Source& source, const Tile<T>& tile, const Plan& plan, bool others_read_columns,
             bool squares) {
    if constexpr (sizeof(T) == 4)
      if (plan.wide) return wide_.place(source, tile, others_read_columns, squares);
    const int64_t width = Augmented(tile.dims).width();
    device_.launch(Center<T>{source, tile}, {tile.padded / 32, (width + 31) / 32, 1});
    if (squares) device_.launch(Square<T>{tile}, {tile.padded / Square<T>::threads, 1, 1});
  }

  template <class T>
  void normalize(const Tile<T>& tile, const Plan& plan, int64_t components, double* likelihoods,
                 const Activity& activity, double* density) {
    if constexpr (sizeof(T) == 4)
      if (plan.wide && wide_.accumulates())
        return wide_.normalize(tile, least<T>(components), likelihoods, activity);
    device_.launch(NormalizeSoft<T>{tile, components, least<T>(components), likelihoods, activity, density},
                   {tile.padded / 32, 1, 1});
  }

  // A row's pairs below this part of its largest responsibility can all be left out and lose less than 1e-15
  // of it.
  template <class T>
  static T least(int64_t components) {
    return static_cast<T>(8.8817841970012523e-16 / static_cast<double>(components));
  }

  // The columns of a side at a row: where it is kept, or where its tile arrived.
  Columns side(const Columns& kept, const void* arrived, int64_t begin) const {
    if (!resident_) return Columns{arrived, kept.single_precision, kept.dims, kept.dims, 1};
    Columns c = kept;
    const int64_t bytes = begin * kept.row_stride * (kept.single_precision ? 4 : 8);
    if (c.dims) c.data = static_cast<const char*>(c.data) + bytes;
    return c;
  }

  // Which two columns each statistic multiplies, in the order [mass | mean | second moment], padded with
  // zeros to whole blocks of the dense product.
  static std::vector<Pair> pairs_of(Kind kind, int64_t dims) {
    const Augmented at(dims);
    std::vector<Pair> pairs;
    auto add = [&](int64_t a, int64_t b) {
      pairs.push_back({static_cast<int32_t>(a), static_cast<int32_t>(b)});
    };
    add(at.one(), at.one());
    if (kind != Kind::mass)
      for (int64_t d = 0; d < dims; ++d) add(at.one(), d);
    if (kind == Kind::trace) add(at.one(), at.square());
    if (kind == Kind::diagonal)
      for (int64_t d = 0; d < dims; ++d) add(d, d);
    if (kind == Kind::full)
      for (int64_t a = 0; a < dims; ++a)
        for (int64_t b = 0; b <= a; ++b) add(a, b);
    while (pairs.size() % 512) add(at.zero(), at.zero());
    return pairs;
  }

  template <class T, int group>
  void accumulate_dense(const Tile<T>& tile, const Plan& plan, int64_t components, const Pair* pairs,
                        double* sums, const Activity& activity) {
    using Kernel = AccumulateDense<T, group>;
    device_.launch(Kernel{tile, components, plan.size, plan.splits, pairs, sums, activity},
                   {(plan.size + Kernel::features - 1) / Kernel::features, (components + group - 1) / group,
                    plan.splits});
  }

  // Responsibilities in words, then the product. Only float tiles come here.
  void accumulate_fast(const Tile<float>& tile, const Plan& plan, int64_t components, const Pair* columns,
                       double* sums, const Activity& activity) {
    using Kernel = AccumulateFast;
    uint32_t* words =
        joint_words_.reserve<uint32_t>(2 * components * (plan.stride / 2), "a tile's densities");
    device_.launch(SplitJoint{tile, components, words, activity},
                   {tile.padded / 2 / SplitJoint::threads, components, 1});
    device_.launch(Kernel{tile, components, plan.size, plan.splits, words, columns, sums, activity},
                   {(plan.size + Kernel::features - 1) / Kernel::features,
                    (components + Kernel::components - 1) / Kernel::components, plan.splits});
  }
  void accumulate_fast(const Tile<double>&, const Plan&, int64_t, const Pair*, double*, const Activity&) {}

  template <class T>
  void accumulate_listed(const Tile<T>& tile, const Plan& plan, int64_t components, const Pair* pairs,
                         double* sums, const Activity& activity) {
    using Kernel = AccumulateListed<T>;
    const int64_t features = Kernel::threads * Kernel::features;
    device_.launch(
        Kernel{tile, components, plan.size, plan.splits, least<T>(components), pairs, sums, activity},
        {(plan.size + features - 1) / features, components, plan.splits});
  }

  // Sorts the tile's rows by label, then sums each component's.
  template <class T>
  void accumulate_sorted(const Source& source, const Tile<T>& tile, const Plan& plan, int64_t components,
                         const Pair* pairs, double* sums) {
    using Kernel = AccumulateSorted<T>;
    const int64_t blocks = (tile.padded + sorted_rows - 1) / sorted_rows;
    const Sorted sorted{label_counts_.reserve<unsigned long long>(blocks * components, "counts of labels"),
                        label_starts_.reserve<unsigned long long>(blocks * components, "counts of labels"),
                        label_first_.reserve<unsigned long long>(components + 1, "counts of labels"),
                        order_.reserve<int32_t>(plan.stride, "a tile's order")};
    device_.zero(sorted.counts, static_cast<size_t>(blocks * components) * sizeof *sorted.counts);
    device_.launch(CountLabels{tile.label, tile.padded, components, sorted}, {blocks, 1, 1});
    device_.launch(AddCounts{blocks, components, sorted},
                   {(components + AddCounts::threads - 1) / AddCounts::threads, 1, 1});
    device_.launch(AddComponents{components, sorted}, {1, 1, 1});
    device_.launch(PlaceRows{tile.label, tile.padded, components, sorted}, {blocks, 1, 1});
    const int64_t features = Kernel::threads * Kernel::features;
    device_.launch(Kernel{source, tile, components, plan.size, plan.splits, pairs, sorted, sums},
                   {(plan.size + features - 1) / features, components, plan.splits});
  }

  // One of dense and listed does the work: the tile's counter, which the host does not wait for, says which.
  template <class T>
  void accumulate(const Source& source, const Tile<T>& tile, const Plan& plan, int64_t components, bool hard,
                  const Pair* pairs, double* sums, const Activity& activity) {
    if (hard) return accumulate_sorted<T>(source, tile, plan, components, pairs, sums);
    accumulate_soft(tile, plan, components, pairs, sums, activity);
    accumulate_listed<T>(tile, plan, components, pairs, sums, activity);
  }

  template <class T>
  void accumulate_soft(const Tile<T>& tile, const Plan& plan, int64_t components, const Pair* pairs,
                       double* sums, const Activity& activity) {
    if constexpr (sizeof(T) == 4)
      if (plan.wide && wide_.accumulates())
        return wide_.accumulate(tile, plan.size, plan.splits, sums, activity);
    if (plan.fast)
      accumulate_fast(tile, plan, components, pairs, sums, activity);
    else if (components >= dense_high)
      accumulate_dense<T, 128>(tile, plan, components, pairs, sums, activity);
    else if (components >= dense_middle)
      accumulate_dense<T, 32>(tile, plan, components, pairs, sums, activity);
    else
      accumulate_dense<T, 8>(tile, plan, components, pairs, sums, activity);
  }

  // The quadratics of one pass, packed and uploaded, and the E half of a tile.
  template <class T>
  class Evaluator {
   public:
    Evaluator(Table& table, const Request& request, const Plan& plan) : table_(table), pass_(request.pass) {
      const Quadratics& q = pass_.quadratics;
      wide_ = plan.wide && (table.wide_.evaluates() || table.wide_.finds_nearest());
      if (pass_.resp || (wide_ && plan.nearest)) return;
      if (plan.nearest) {
        const PackedCentres<T> packed(pass_);
        columns_ = packed.columns;
        half_precision_ = packed.half_precision;
        reach_ = packed.reach;
        highest_ = packed.highest;
        packed_ = table.factors_.upload(packed.packed, "centres");
        bias_ = table.biases_.upload(packed.heights, "centres");
        centres_ = table.centres_.upload(packed.centres, "centres");
        exact_constants_ = table.exact_constants_.upload(packed.constants, "constants");
        return;
      }
      constants_ = table.constants_.upload(pack_constants<T>(pass_), "constants");
      if (q.linear) linear_ = table.linear_.upload(pack_linear<T>(q), "linear terms");
      if (wide_) return;
      const bool matrices = q.factor == Factor::triangle || q.factor == Factor::rectangle;
      if (matrices && !q.shared && plan.fast && q.factor_rows >= fast_factor_rows) {
        const PackedFast packed(pass_, request.threads);
        fast_ = true;
        rows_ = packed.bands;
        columns_ = packed.steps;
        words_ = table.words_.upload(packed.packed, "factors");
        bias_ = reinterpret_cast<const T*>(table.biases_.upload(packed.bias, "factors"));
        row_words_ = table.row_words_.reserve<uint32_t>(terms * columns_ * plan.stride, "a tile's rows");
        return;
      }
      if (matrices && !q.shared) {
        if (q.factor_rows <= low_band_rows)
          pack<4>(request.threads);
        else
          pack<8>(request.threads);
        return;
      }
      const PackedElementwise<T> packed(q);
      columns_ = packed.columns;
      T* staged = table.results_.template reserve<T>(packed.size());
      packed.pack(pass_, request.threads, staged);
      T* there = table.factors_.template reserve<T>(packed.size(), "factors");
      table.device_.copy_in(there, staged, static_cast<size_t>(packed.size()) * sizeof(T));
      packed_ = there;
      if (!matrices) return;
      std::vector<T> factor(static_cast<size_t>(q.factor_rows * q.dims));
      for (size_t i = 0; i < factor.size(); ++i) factor[i] = static_cast<T>(q.factors[i] * root_half_log2e);
      bias_ = table.biases_.upload(factor, "factors");
      transformed_ = table.transformed_.reserve<T>(columns_ * plan.stride, "a tile's transformed rows");
    }

    void evaluate(const Tile<T>& tile) const {
      evaluate_squares(tile);
      if (!linear_) return;
      using Kernel = AddLinear<T>;
      const int64_t components = pass_.quadratics.components;
      table_.device_.launch(
          Kernel{tile, linear_, components},
          {tile.padded / Kernel::threads, (components + Kernel::height - 1) / Kernel::height, 1});
    }

    void nearest(const Tile<T>& tile, const Source& source, double* best, double* likelihoods) const {
      if constexpr (sizeof(T) == 4)
        if (wide_) return table_.wide_.nearest(tile, source, best, likelihoods);
      table_.device_.launch(
          Nearest<T>{source, tile, pass_.quadratics.components, columns_, packed_, bias_, centres_,
                     exact_constants_, half_precision_, reach_, highest_, best, likelihoods},
          {tile.padded / panel_rows, 1, 1});
    }

   private:
    void evaluate_squares(const Tile<T>& tile) const {
      const Quadratics& q = pass_.quadratics;
      Device& device = table_.device_;
      if constexpr (sizeof(T) == 4)
        if (wide_) return table_.wide_.evaluate(tile);
      if (fast_) return run_fast(tile);
      if (height_ == 4) return run<4>(tile);
      if (height_ == 8) return run<8>(tile);
      const T* source = tile.columns;
      if (transformed_) {
        using Kernel = Transform<T>;
        device.launch(Kernel{tile, bias_, q.factor_rows, transformed_},
                      {tile.padded / Kernel::threads, columns_ / Kernel::height, 1});
        source = transformed_;
      }
      using Kernel = EvaluateElementwise<T>;
      device.launch(
          Kernel{tile, source, q.components, columns_, packed_, constants_},
          {tile.padded / panel_rows, (q.components + Kernel::components - 1) / Kernel::components, 1});
    }

    template <int height>
    void pack(int threads) {
      const PackedFactors<T, height> packed(pass_, threads);
      height_ = height;
      rows_ = packed.rows;
      columns_ = packed.columns;
      packed_ = table_.factors_.upload(packed.packed, "factors");
      bias_ = table_.biases_.upload(packed.bias, "factors");
    }

    template <int height>
    void run(const Tile<T>& tile) const {
      using Kernel = EvaluateFactors<T, height>;
      const Quadratics& q = pass_.quadratics;
      table_.device_.launch(
          Kernel{tile, q.components, rows_, columns_, q.factor == Factor::triangle, packed_, bias_,
                 constants_},
          {tile.padded / panel_rows, (q.components + Kernel::components - 1) / Kernel::components, 1});
    }

    void run_fast(const Tile<float>& tile) const {
      using Kernel = EvaluateFactorsFast;
      const Quadratics& q = pass_.quadratics;
      table_.device_.launch(SplitColumns{tile, columns_ * terms, row_words_},
                            {tile.padded / SplitColumns::threads, columns_ * word_pairs, 1});
      table_.device_.launch(
          Kernel{tile, q.components, rows_, columns_, q.factor == Factor::triangle, row_words_, words_, bias_,
                 constants_},
          {tile.padded / panel_rows, (q.components + Kernel::components - 1) / Kernel::components, 1});
    }
    void run_fast(const Tile<double>&) const {}

    Table& table_;
    const Pass& pass_;
    int height_ = 0;
    bool fast_ = false, wide_ = false;
    const uint32_t* words_ = nullptr;
    uint32_t* row_words_ = nullptr;
    int64_t rows_ = 0, columns_ = 0;
    double half_precision_ = 0, reach_ = 0, highest_ = 0;
    const T *packed_ = nullptr, *bias_ = nullptr, *constants_ = nullptr;
    const typename AddLinear<T>::Weights* linear_ = nullptr;
    T* transformed_ = nullptr;
    const double *centres_ = nullptr, *exact_constants_ = nullptr;
  };

  std::mutex mutex_;  // passes share what follows
  Device device_;
  Rows rows_;
  Spares spares_{device_};
  WidePass wide_{device_};
  Staging results_{device_};
  bool resident_ = false, has_room_ = false;  // has_room_: for matrices that stay
  int64_t entries_judged_ = 0;                // the most for which that is known
  int64_t tile_bytes_, wide_bytes_ = wide_tile_bytes;
  bool tile_bytes_given_, pinnable_, pinned_[2] = {false, false};
  int passes_ = 0;
  Buffer left_{device_}, right_{device_};
  Buffer columns_{device_}, row_major_{device_}, joint_{device_}, share_{device_}, label_{device_},
      weight_{device_}, best_{device_}, sums_{device_}, reduced_{device_}, likelihoods_{device_},
      counter_{device_}, pivot_{device_}, pairs_{device_}, table_{device_}, density_{device_},
      transformed_{device_}, words_{device_}, row_words_{device_}, joint_words_{device_},
      label_counts_{device_}, label_starts_{device_}, label_first_{device_}, order_{device_};
  Buffer factors_{device_}, biases_{device_}, constants_{device_}, linear_{device_}, centres_{device_},
      exact_constants_{device_}, asked_{device_}, told_{device_};
  Lanes left_lanes_{device_}, right_lanes_{device_}, weight_lanes_{device_}, gate_lanes_{device_};
  Lanes* lanes_[4] = {&left_lanes_, &right_lanes_, &weight_lanes_, &gate_lanes_};
};

}  // namespace mixtura::cuda
