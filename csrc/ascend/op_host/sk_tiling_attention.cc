// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "sk_tiling.h"
#include "sk_tiling_checks.h"

namespace sknet_ops::ascend {
namespace {

constexpr int64_t kSelectScratch = 8 * 1024;
constexpr int64_t kMostLanes = 64 * 64;  // that one sum over lanes takes

int64_t up_to(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

AttentionTiling attention_tiling(const char* op, const Platform& chip, const SkAttentionParams& p) {
  check_branches(op, p.branches);
  check_range(op, "images", p.n, 1, kMostLanes);
  check_channels(op, "channels", p.c);
  check_range(op, "branches * channels", p.branches * p.c, 1, kMostLanes);
  check_range(op, "hidden units", p.c_reduced, 1, 4096);
  check_positive(op, "positions", p.h * p.w);
  AttentionTiling t{};
  t.n = static_cast<int32_t>(p.n);
  t.branches = p.branches;
  t.channels = static_cast<int32_t>(p.c);
  t.reduced = static_cast<int32_t>(p.c_reduced);
  t.positions = static_cast<int32_t>(p.h * p.w);
  t.partials = image_splits(chip, {p.n, p.branches, p.h * p.w, p.c});
  t.training = p.norm.training;
  t.eps = p.norm.eps;
  t.momentum = p.norm.momentum;
  return t;
}

// Hidden units of a task: no more than keep every core busy, and no more than UB holds.
Launch<AttentionTiling> by_units(const char* op, const Platform& chip, AttentionTiling t, int64_t fixed,
                                 int64_t per_unit) {
  const int64_t room = (chip.ub - kSelectScratch - fixed) / per_unit;
  if (room < 1) {
    refuse(op, "images, channels", std::to_string(t.n) + ", " + std::to_string(t.channels),
           "sizes of which one hidden unit fits in UB");
  }
  t.units = static_cast<int32_t>(
      std::min<int64_t>(room, std::max<int64_t>(1, (t.reduced + chip.vector_cores - 1) / chip.vector_cores)));
  const int32_t tasks = (t.reduced + t.units - 1) / t.units;
  return {t, std::min(tasks, chip.vector_cores)};
}

}  // namespace

Launch<AttentionTiling> tile_attention_hidden(const Platform& chip, const SkAttentionParams& p) {
  const char* op = "sk_attention_hidden";
  const AttentionTiling t = attention_tiling(op, chip, p);
  const int64_t lanes = up_to(p.n, 8) * 4;
  return by_units(op, chip, t, 4 * p.c * 4 + 2 * lanes + 1024, p.c * 4 + lanes);
}

Launch<AttentionTiling> tile_attention_select(const Platform& chip, const SkAttentionParams& p) {
  AttentionTiling t = attention_tiling("sk_attention_select", chip, p);
  t.width = static_cast<int32_t>(std::gcd<int64_t>(p.c, 64));
  const int64_t blocks = p.c / t.width;
  t.image_tasks = static_cast<int32_t>(std::min(p.n, std::max<int64_t>(1, chip.vector_cores / blocks)));
  const int64_t unit = t.branches * t.width * 4 + 32;
  t.reduced_step = static_cast<int32_t>(std::min<int64_t>({p.c_reduced, chip.ub / 2 / unit, 4095}));
  return {t, static_cast<int32_t>(std::min<int64_t>(blocks * t.image_tasks, chip.vector_cores))};
}

Launch<AttentionTiling> tile_attention_grad(const Platform& chip, const SkAttentionParams& p) {
  const char* op = "sk_attention_grad";
  const AttentionTiling t = attention_tiling(op, chip, p);
  const int64_t all = p.branches * p.c * 4, lanes = up_to(p.n, 64) * 4;
  return by_units(op, chip, t, 5 * all + 3 * lanes + 2048, 2 * all + 3 * lanes);
}

}  // namespace sknet_ops::ascend
