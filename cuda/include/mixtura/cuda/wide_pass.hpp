// What a pass does by warpgroups, where the device has them and the shapes fill their instructions: which
// steps, with which operands, in how much memory. Host code.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "mixtura/cuda/memory.hpp"
#include "mixtura/cuda/packing.hpp"
#include "mixtura/cuda/parallel.hpp"
#include "mixtura/cuda/request.hpp"
#include "mixtura/cuda/wide_accumulate.hpp"
#include "mixtura/cuda/wide_evaluate.hpp"
#include "mixtura/cuda/wide_packing.hpp"
#include "mixtura/cuda/wide_rows.hpp"

namespace mixtura::cuda {

// The tiles of features that one kind of moments needs, and where each feature belongs among the statistics
// [mass | mean | second moment].
struct FeatureTiles {
  std::vector<FeatureTile> tiles;
  std::vector<int32_t> places;  // (tiles, 64)
  Kind kind;
  int64_t dims;
  int64_t width;  // columns, in whole runs of 8

  FeatureTiles(Kind kind_, int64_t dims_)
      : kind(kind_), dims(dims_), width(round_up(Augmented(dims_).width(), feature_columns)) {
    const Augmented at(dims);
    auto add = [&](Features features, int64_t a, int64_t b, auto place) {
      tiles.push_back({features, static_cast<int32_t>(a), static_cast<int32_t>(b)});
      for (int f = 0; f < warpgroup_rows; ++f) places.push_back(static_cast<int32_t>(place(f)));
    };
    for (int64_t a = 0; a < width; a += warpgroup_rows)
      add(Features::columns, a, 0, [&](int f) -> int64_t {
        const int64_t column = a + f;
        if (column == at.one()) return 0;
        if (kind != Kind::mass && column < dims) return 1 + column;
        return kind == Kind::trace && column == at.square() ? 1 + dims : -1;
      });
    if (kind == Kind::diagonal)
      for (int64_t a = 0; a < dims; a += warpgroup_rows)
        add(Features::squares, a, 0, [&](int f) -> int64_t { return a + f < dims ? 1 + dims + a + f : -1; });
    if (kind == Kind::full)
      for (int64_t a = 0; a < dims; a += feature_columns)
        for (int64_t b = 0; b <= a; b += feature_columns)
          add(Features::products, a, b, [&](int f) -> int64_t {
            const int64_t i = a + first_of_feature(f), j = b + second_of_feature(f);
            return i < dims && j <= i ? 1 + dims + i * (i + 1) / 2 + j : -1;
          });
    while (tiles.size() % consumers) add(Features::nothing, 0, 0, [](int) -> int64_t { return -1; });
  }

  int64_t count() const { return static_cast<int64_t>(tiles.size()); }
};

class WidePass {
 public:
  explicit WidePass(Device& device) : device_(device) {}

  // Decides what is done by warpgroups in a pass over floats; `fast`: with two parts where log-densities come
  // from factors, not three.
  void plan(const Pass& pass, bool nearest, bool statistics, bool fast) {
    evaluates_ = accumulates_ = nearest_ = false;
    if (!device_.has_warpgroups()) return;
    const Quadratics& q = pass.quadratics;
    dims_ = pass.rows.dims;
    count_ = q.components;
    parts_ = fast ? 2 : 3;
    steps_ = (dims_ + terms - 1) / terms;
    if (nearest) {
      parts_ = 2;
      nearest_ = dims_ <= Decide::most_dims && choose_panel();
      return;
    }
    if (has_answers(pass) || pass.resp) return;
    const bool matrices = q.factor == Factor::triangle || q.factor == Factor::rectangle;
    evaluates_ = matrices && !q.shared && count_ >= wide_components && q.factor_rows >= wide_factor_rows &&
                 dims_ >= wide_factor_rows && choose_panel();
    if (!statistics || pass.hard) return;
    if (!features_ || features_->kind != pass.kind || features_->dims != dims_)
      features_.emplace(pass.kind, dims_);
    const int64_t size = statistics_size(pass.kind, dims_);
    components_ = round_up(count_, 64) < round_up(count_, 128) ? 64 : 128;
    const int64_t products =
        round_up(count_, components_) * features_->count() * warpgroup_rows * (parts_ == 2 ? 2 : 6);
    accumulates_ = features_->width <= most_grid_rows && products < wide_gain * count_ * size;
  }

  bool evaluates() const { return evaluates_; }
  bool accumulates() const { return accumulates_; }
  bool finds_nearest() const { return nearest_; }
  bool any() const { return evaluates_ || accumulates_ || nearest_; }

  // Rows of which a tile must have whole multiples, and bytes that a row of it takes beside its columns and
  // joint.
  int64_t granularity() const { return evaluates_ || nearest_ ? panel_ : panel_rows; }
  int64_t row_bytes() const {
    int64_t bytes = 0;
    if (evaluates_ || nearest_) bytes += steps_ * terms * 2 * parts_;
    if (accumulates_) bytes += round_up(count_, components_) * 2 * word_parts(parts_) + 4 * features_->width;
    return bytes;
  }

  // Shares of a tile's rows whose sums are kept apart, so that blocks fill the device in whole waves; with
  // sums of no more than so many bytes, unless one share has too many rows for sums of floats.
  int64_t splits(int64_t stride, int64_t entries, int64_t bytes) const {
    const int64_t blocks = features_->count() / consumers * ((count_ + components_ - 1) / components_);
    const int64_t affordable = std::max<int64_t>(bytes / std::max<int64_t>(entries * 8, 1), 1);
    const int64_t fewest = (stride + wide_split_rows - 1) / wide_split_rows;
    const int64_t most = std::max(std::min(affordable, stride / panel_rows / panels_of_a_split), fewest);
    int64_t best = fewest;
    double filled = 0;
    for (int64_t splits = fewest; splits <= most && filled < wide_filled; ++splits) {
      const double waves = static_cast<double>(blocks * splits) / device_.multiprocessors();
      if (waves / std::ceil(waves) <= filled) continue;
      filled = waves / std::ceil(waves);
      best = splits;
    }
    return best;
  }

  // Packs and uploads what the pass reads, and takes the memory of a tile's operands.
  // `factors`: where they are on the device already, or null.
  void prepare(const Pass& pass, const double* factors, int64_t stride, int threads) {
    if (evaluates_) {
      if (parts_ == 2)
        pack<2>(pass, factors, threads);
      else
        pack<3>(pass, factors, threads);
    }
    if (evaluates_ || nearest_) row_words_.reserve<Chunk>(stride * steps_ * 2 * parts_, "a tile's rows");
    if (nearest_) {
      const PackedCentresWide packed(pass);
      stages_.upload(packed.packed, "centres");
      centres_.upload(packed.centres, "centres");
      across_.upload(packed.across, "centres");
      exact_constants_.upload(packed.constants, "constants");
      half_precision_ = packed.half_precision;
      reach_ = packed.reach;
      highest_ = packed.highest;
    }
    if (accumulates_) {
      tiles_.upload(features_->tiles, "tiles of features");
      places_.upload(features_->places, "places of features");
      words_.reserve<Chunk>(round_up(count_, components_) * (stride / 8) * word_parts(parts_),
                            "a tile's responsibilities");
      columns_.reserve<float>(features_->width * stride, "a tile's rows");
      top_.reserve<float>(stride, "a tile's densities");
    }
  }

  // A tile's rows, about the pivot: as operands, and as columns where `others` read these.
  void place(const Source& source, const Tile<float>& tile, bool others, bool squares) {
    if (parts_ == 2)
      place_as<2>(source, tile, others, squares);
    else
      place_as<3>(source, tile, others, squares);
  }

  void evaluate(const Tile<float>& tile) {
    if (parts_ == 3)
      evaluate_as<3, 1>(tile);
    else if (halves_ == 2)
      evaluate_as<2, 2>(tile);
    else
      evaluate_as<2, 1>(tile);
  }

  void nearest(const Tile<float>& tile, const Source& source, double* best, double* likelihoods) {
    if (halves_ == 2)
      nearest_as<2>(tile);
    else
      nearest_as<1>(tile);
    device_.launch(Decide{source, tile, count_, centres_.at<double>(), across_.at<double>(),
                          exact_constants_.at<double>(), half_precision_, best, likelihoods},
                   {tile.padded / panel_rows, 1, 1});
  }

  // Where a tile keeps its rows' largest joint.
  float* top() { return top_.at<float>(); }

  void normalize(const Tile<float>& tile, float least, double* likelihoods, const Activity& activity) {
    with_shape([&](auto parts, auto components) {
      using Kernel = NormalizeWide<word_parts(parts()), components()>;
      const bool holds = Kernel::bytes_to_hold(count_) <= device_.shared_bytes() / blocks_that_hold;
      device_.launch_wide(Kernel{tile, count_, least, words_.at<Chunk>(), likelihoods, activity, holds},
                          {tile.padded / stage_rows, 1, 1});
    });
  }

  void accumulate(const Tile<float>& tile, int64_t size, int64_t splits, double* sums,
                  const Activity& activity) {
    with_shape([&](auto parts, auto components) {
      device_.launch_wide(
          AccumulateWide<parts(), components()>{
              tile, count_, size, splits, features_->width, words_.at<Chunk>(), columns_.at<float>(),
              tiles_.at<FeatureTile>(), places_.at<int32_t>(), sums, activity},
          {features_->count() / consumers, (count_ + components() - 1) / components(), splits});
    });
  }

 private:
  // Of responsibilities, beside features of so many parts.
  static constexpr int word_parts(int parts) { return parts == 3 ? 3 : 1; }

  template <int value>
  struct Constant {
    constexpr int operator()() const { return value; }
  };
  template <class Action>
  void with_shape(Action action) {
    if (parts_ == 2 && components_ == 64) return action(Constant<2>{}, Constant<64>{});
    if (parts_ == 2) return action(Constant<2>{}, Constant<128>{});
    if (components_ == 64) return action(Constant<3>{}, Constant<64>{});
    action(Constant<3>{}, Constant<128>{});
  }

  // The ring's slots that fit beside some panels of rows; 0: too few.
  template <int parts, int halves>
  int slots_beside(int row_slots) const {
    const WidePanel<parts, halves> panel{steps_, 0, row_slots};
    const int64_t slots =
        (device_.shared_bytes() - panel.shared_bytes()) / static_cast<int64_t>(sizeof(StreamStage<parts>));
    return slots < fewest_slots ? 0 : static_cast<int>(std::min<int64_t>(slots, most_slots));
  }
  // The largest panel that fits; two of them where they are small.
  bool choose_panel() {
    halves_ = 1;
    for (row_slots_ = most_row_slots; row_slots_ > 0; --row_slots_) {
      if (parts_ == 3) {
        slots_ = slots_beside<3, 1>(row_slots_);
      } else if ((slots_ = slots_beside<2, 2>(row_slots_))) {
        halves_ = 2;
      } else if (row_slots_ == 1) {
        slots_ = slots_beside<2, 1>(row_slots_);
      }
      if (slots_ > 0) break;
    }
    panel_ = consumers * halves_ * warpgroup_rows;
    return slots_ > 0;
  }

  // Factors as operands: those that are on the device already, or the pass's own.
  template <int parts>
  void pack(const Pass& pass, const double* there, int threads) {
    using Pack = PackFactors<parts>;
    const Quadratics& q = pass.quadratics;
    triangle_ = q.factor == Factor::triangle;
    bands_ = (q.factor_rows + Pack::Kernel::height - 1) / Pack::Kernel::height;
    const int64_t groups = (q.components + Pack::Kernel::components - 1) / Pack::Kernel::components;
    Factors factors{there, q.factor_rows, q.dims, triangle_};
    if (!there) factors.numbers = upload(q, factors, threads);
    auto* staged = staging_.reserve<double>(q.components * q.dims);
    for (int64_t k = 0; k < q.components; ++k)
      for (int64_t d = 0; d < q.dims; ++d) staged[k * q.dims + d] = q.means[k * q.dims + d] - pass.pivot[d];
    auto* means = means_.reserve<double>(q.components * q.dims, "means");
    device_.copy_in(means, staged, static_cast<size_t>(q.components * q.dims) * sizeof(double));
    const int64_t stages = groups * Pack::Kernel::stages_of(bands_, steps_, triangle_);
    device_.launch(Pack{factors, q.components, bands_, steps_, means,
                        stages_.reserve<StreamStage<parts>>(stages, "factors")},
                   {groups, bands_, 1});
    factors_.clear();  // what a tile takes may need the room
    constants_.upload(pack_constants<float>(pass), "constants");
  }

  // The pass's factors, of triangles what is not zero, through memory from which copies are quick.
  const double* upload(const Quadratics& q, const Factors& as, int threads) {
    const int64_t size = as.size() * q.components;
    auto* staged = staging_.reserve<double>(size);
    in_parallel(q.components, size < in_parallel_from ? 1 : threads, [&](int64_t k) {
      double* to = staged + k * as.size();
      for (int64_t r = 0; r < as.rows; to += as.length(r++))
        std::copy_n(q.factors + (k * as.rows + r) * as.dims, as.length(r), to);
    });
    auto* numbers = factors_.reserve<double>(size, "factors");
    device_.copy_in(numbers, staged, static_cast<size_t>(size) * sizeof(double));
    return numbers;
  }

  template <int parts>
  void place_as(const Source& source, const Tile<float>& tile, bool others, bool squares) {
    using Kernel = WideRows<parts>;
    const bool operands = evaluates_ || nearest_;
    device_.launch(
        Kernel{source, tile, others, squares, operands ? row_words_.at<Chunk>() : nullptr, 2 * steps_, panel_,
               accumulates_ ? columns_.at<float>() : nullptr, accumulates_ ? features_->width : 0},
        {round_up(tile.padded, operands ? panel_ : panel_rows) / Kernel::height, 1, 1});
  }

  // Blocks for a tile's panels: as many as there are multiprocessors, each of which has one at a time.
  int64_t blocks_of(int64_t panels, int64_t shares) const {
    return std::min(panels, std::max<int64_t>(device_.multiprocessors() / shares, 1));
  }

  template <int parts, int halves>
  void evaluate_as(const Tile<float>& tile) {
    using Kernel = EvaluateWide<parts, halves>;
    const int64_t panels = round_up(tile.padded, panel_) / panel_;
    const int64_t groups = (count_ + Kernel::components - 1) / Kernel::components;
    // Panels of a small tile do not fill the device: then several blocks share one's components.
    const int64_t shares = std::max<int64_t>(std::min(groups, device_.multiprocessors() / panels), 1);
    device_.launch_wide(Kernel{tile,
                               {steps_, slots_, row_slots_},
                               count_,
                               bands_,
                               triangle_,
                               shares,
                               panels,
                               blocks_of(panels, shares),
                               row_words_.at<char>(),
                               stages_.at<StreamStage<parts>>(),
                               constants_.at<float>()},
                        {blocks_of(panels, shares), shares, 1});
  }

  template <int halves>
  void nearest_as(const Tile<float>& tile) {
    using Kernel = NearestWide<halves>;
    const int64_t panels = round_up(tile.padded, panel_) / panel_;
    device_.launch_wide(Kernel{tile,
                               {steps_, slots_, row_slots_},
                               (count_ + stream_places - 1) / stream_places,
                               panels,
                               blocks_of(panels, 1),
                               row_words_.at<char>(),
                               stages_.at<StreamStage<2>>(),
                               static_cast<float>(reach_),
                               static_cast<float>(highest_)},
                        {blocks_of(panels, 1), 1, 1});
  }

  Device& device_;
  Staging staging_{device_};
  bool evaluates_ = false, accumulates_ = false, nearest_ = false, triangle_ = false;
  int parts_ = 3, halves_ = 1, slots_ = 0, row_slots_ = 0;
  int64_t dims_ = 0, count_ = 0, steps_ = 0, bands_ = 0, panel_ = 0;
  int64_t components_ = 0;
  std::optional<FeatureTiles> features_;  // of the last kind of moments and number of columns
  double half_precision_ = 0, reach_ = 0, highest_ = 0;
  Buffer row_words_{device_}, stages_{device_}, factors_{device_}, means_{device_}, constants_{device_},
      centres_{device_}, across_{device_}, exact_constants_{device_}, tiles_{device_}, places_{device_},
      words_{device_}, columns_{device_}, top_{device_};
};

}  // namespace mixtura::cuda
