// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "sk_tiling.h"
#include "sk_tiling_checks.h"

namespace sknet_ops::ascend {
namespace {

constexpr int64_t kSelectScratch = 8 * 1024;  // the Select instruction's, at the end of UB
constexpr int64_t kVectors = 16 * 1024;       // for vectors of one row
constexpr int64_t kMostRows = 255;            // repeats of one instruction

// What a kernel holds for each row of a tile: maps in their own type, and in float.
struct Footprint {
  int64_t maps, floats;
};
constexpr Footprint kNormActFootprint{4, 2}, kSelectFootprint{4, 3}, kSelectGradFootprint{4, 3},
    kBranchGradFootprint{4, 2}, kNormGradPartialFootprint{4, 5}, kNormGradFootprint{6, 5};

int64_t width(int64_t channels) { return std::gcd<int64_t>(channels, 64); }

RowsTiling rows_tiling(const char* op, const Platform& chip, const MapShape& map, Dtype type, Footprint footprint,
                       int32_t splits) {
  check_positive(op, "images", map.n);
  check_positive(op, "positions", map.positions);
  check_branches(op, map.branches);
  check_channels(op, "channels", map.channels);
  check_int32(op, "map", map.n * map.branches * map.positions);
  RowsTiling t{};
  t.n = static_cast<int32_t>(map.n);
  t.branches = static_cast<int32_t>(map.branches);
  t.positions = static_cast<int32_t>(map.positions);
  t.channels = static_cast<int32_t>(map.channels);
  t.width = static_cast<int32_t>(width(map.channels));
  const int64_t row = t.width * (footprint.maps * size_of(type) + footprint.floats * 4);
  // A multiple of 16, so that a tile of any width fills whole 256-byte steps.
  const int64_t most = std::min((chip.ub - kSelectScratch - kVectors) / row, kMostRows) / 16 * 16;
  t.rows = static_cast<int32_t>(std::min(most, (map.positions + 15) / 16 * 16));
  t.splits = splits;
  return t;
}

Launch<RowsTiling> launch(const Platform& chip, const RowsTiling& t, int64_t shares) {
  const int64_t tasks = shares * t.splits * (t.channels / t.width);
  return {t, static_cast<int32_t>(std::min<int64_t>(tasks, chip.vector_cores))};
}

void set_norm(RowsTiling& t, const NormParams& norm) {
  t.training = norm.training;
  t.relu = norm.relu;
  t.eps = norm.eps;
  t.momentum = norm.momentum;
}

// Tasks of one share each: enough for every core, but none without a tile of its own.
int32_t shares(const Platform& chip, int64_t tasks, int64_t most) {
  const int64_t wanted = (chip.vector_cores + tasks - 1) / tasks;
  return static_cast<int32_t>(std::max<int64_t>(1, std::min(wanted, most)));
}

}  // namespace

int32_t statistics_splits(const Platform& chip, const MapShape& map) {
  check_channels("splits", "channels", map.channels);
  return shares(chip, map.branches * (map.channels / width(map.channels)), map.n);
}

int32_t image_splits(const Platform& chip, const MapShape& map) {
  check_channels("splits", "channels", map.channels);
  return shares(chip, map.n * (map.channels / width(map.channels)), (map.positions + 95) / 96);
}

Launch<RowsTiling> tile_norm_partial(const Platform& chip, const MapShape& map, Dtype type) {
  // Tiles as in sk_norm_act, which counts their rows.
  const RowsTiling t = rows_tiling("sk_norm_partial", chip, map, type, kNormActFootprint, statistics_splits(chip, map));
  return launch(chip, t, t.branches);
}

Launch<RowsTiling> tile_norm_act(const Platform& chip, const MapShape& map, Dtype type, const NormParams& norm) {
  RowsTiling t = rows_tiling("sk_norm_act", chip, map, type, kNormActFootprint, image_splits(chip, map));
  set_norm(t, norm);
  t.partials = statistics_splits(chip, map);
  return launch(chip, t, t.n);
}

Launch<RowsTiling> tile_select(const Platform& chip, const MapShape& map, Dtype type) {
  const RowsTiling t = rows_tiling("sk_select", chip, map, type, kSelectFootprint, image_splits(chip, map));
  return launch(chip, t, t.n);
}

Launch<RowsTiling> tile_select_grad(const Platform& chip, const MapShape& map, Dtype type) {
  const RowsTiling t = rows_tiling("sk_select_grad", chip, map, type, kSelectGradFootprint, image_splits(chip, map));
  return launch(chip, t, t.n);
}

Launch<RowsTiling> tile_branch_grad(const Platform& chip, const MapShape& map, Dtype type, bool with_attention,
                                    bool with_pooled, int64_t reduced) {
  RowsTiling t = rows_tiling("sk_branch_grad", chip, map, type, kBranchGradFootprint, image_splits(chip, map));
  if (!with_attention && !with_pooled) {
    throw std::invalid_argument("sk_branch_grad: with_attention, with_pooled: got neither, expected at least one");
  }
  t.with_attention = with_attention;
  t.with_pooled = with_pooled;
  if (with_pooled) {
    check_range("sk_branch_grad", "reduced", reduced, 1, 4096);
    t.reduced = static_cast<int32_t>(reduced);
  }
  return launch(chip, t, t.n);
}

Launch<RowsTiling> tile_norm_grad_partial(const Platform& chip, const MapShape& map, Dtype type,
                                          const NormParams& norm) {
  RowsTiling t =
      rows_tiling("sk_norm_grad_partial", chip, map, type, kNormGradPartialFootprint, statistics_splits(chip, map));
  set_norm(t, norm);
  return launch(chip, t, t.branches);
}

Launch<RowsTiling> tile_norm_grad(const Platform& chip, const MapShape& map, Dtype type, const NormParams& norm) {
  RowsTiling t = rows_tiling("sk_norm_grad", chip, map, type, kNormGradFootprint, image_splits(chip, map));
  set_norm(t, norm);
  t.partials = statistics_splits(chip, map);
  return launch(chip, t, t.n);
}

}  // namespace sknet_ops::ascend
