// SPDX-License-Identifier: Apache-2.0
// Launches of what layer.cu launches, for branches with channels last; y and g may be in NCHW.
#include <algorithm>

#include "cuda/kernel/layer_grad_last.h"
#include "cuda/launch.h"
#include "cuda/layer_last.h"

namespace sknet_ops::cuda {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool starts_aligned(std::initializer_list<const void*> maps) {
  return std::all_of(maps.begin(), maps.end(), [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
}

// Channels of a pack.
int pack_of(int c, std::initializer_list<const void*> maps) { return c % 4 == 0 && starts_aligned(maps) ? 4 : 1; }

// Neighbouring threads cover a cache line, or less, down to what memory gives at once, where blocks are few. `maps`:
// how many there are, each with blocks of its own; hw: positions that may be split, too, or 0.
LastTiling tile_last(const Context& ctx, int c, int pack, int64_t maps, int hw) {
  LastTiling t{kMostAcross, 0, 1};
  const int least = std::max(1, 32 / static_cast<int>(pack * storage_bytes(ctx.storage)));
  auto tiles = [&](int across) { return ceil_div(c, static_cast<int64_t>(across) * pack); };
  while (t.across > 1 && tiles(t.across / 2) == 1) t.across /= 2;
  while (t.across > least && tiles(t.across) * maps < int64_t{4} * ctx.device.multiprocessors) t.across /= 2;
  t.tiles = static_cast<int>(tiles(t.across));
  const int64_t wanted = ceil_div(int64_t{8} * ctx.device.multiprocessors, t.tiles * std::max<int64_t>(maps, 1));
  t.splits = static_cast<int>(std::clamp<int64_t>(wanted, 1, std::max<int64_t>(ceil_div(hw, kThreads / t.across), 1)));
  return t;
}

// Bytes of shared memory for `words` of each channel of a block.
int64_t shared_bytes(const LastTiling& t, int pack, int64_t words) { return 4 * words * t.across * pack; }

// Of a chunk that is turned.
int64_t turn_bytes(int pack) { return int64_t{4} * (pack * kTurnRounds * kThreads + kWarp); }

template <class Args>
using Kernel = void (*)(Args);

template <class Args>
Kernel<Args> of_storage(const Context& ctx, Kernel<Args> single, Kernel<Args> half, Kernel<Args> bfloat) {
  return ctx.storage == Storage::kFloat32 ? single : ctx.storage == Storage::kFloat16 ? half : bfloat;
}

#define SKNET_OPS_INSTANCE(Args, kernel)                                                   \
  (pack == 4 ? of_storage<Args>(ctx, kernel<float, 4>, kernel<Half, 4>, kernel<Bfloat, 4>) \
             : of_storage<Args>(ctx, kernel<float, 1>, kernel<Half, 1>, kernel<Bfloat, 1>))

template <typename T, int kPack>
constexpr Kernel<SelectArgs> select_straight = select_last_kernel<T, kPack, false>;
template <typename T, int kPack>
constexpr Kernel<SelectArgs> select_turned = select_last_kernel<T, kPack, true>;
template <typename T, int kPack>
constexpr Kernel<GateArgs> gate_straight = gate_last_kernel<T, kPack, false>;
template <typename T, int kPack>
constexpr Kernel<GateArgs> gate_turned = gate_last_kernel<T, kPack, true>;

constexpr int kAffineWords = sizeof(Affine) / 4, kGateWords = sizeof(GateSums) / 4;

}  // namespace

void pool_last(Context& ctx, PoolArgs& a) {
  const int pack = pack_of(a.c, {a.z, a.u});
  a.last = tile_last(ctx, a.c, pack, a.n, 0);
  a.image_chunks =
      static_cast<int>(std::clamp<int64_t>(int64_t{8} * ctx.device.multiprocessors / a.last.tiles, 1, a.n));
  launch(ctx, "pool", SKNET_OPS_INSTANCE(PoolArgs, pool_last_kernel), int64_t{a.last.tiles} * a.image_chunks,
         shared_bytes(a.last, pack, kAffineWords * a.branches + kWarps), a);
}

void select_last(Context& ctx, SelectArgs& a) {
  const bool turn = a.y != nullptr && !ctx.channels_last;
  const int pack = pack_of(a.c, {a.z, turn ? nullptr : a.y});
  const int64_t positions = a.y == nullptr ? 0 : turn ? ceil_div(a.hw, kTurnRounds) : a.hw;
  a.last = tile_last(ctx, a.c, pack, a.n, static_cast<int>(positions));
  launch(ctx, "select",
         turn ? SKNET_OPS_INSTANCE(SelectArgs, select_turned) : SKNET_OPS_INSTANCE(SelectArgs, select_straight),
         a.n * a.last.tiles * a.last.splits,
         shared_bytes(a.last, pack, (kAffineWords + 1) * a.branches) + (turn ? turn_bytes(pack) : 0), a);
}

void gate_last(Context& ctx, GateArgs& a) {
  const bool turn = a.turned != nullptr;
  const int pack = pack_of(a.c, {turn ? a.turned : a.g, a.z});
  a.last = tile_last(ctx, a.c, pack, a.n, 0);
  const int64_t bytes = shared_bytes(a.last, pack, (kAffineWords + kGateWords) * a.branches + kWarps);
  launch(ctx, "gate", turn ? SKNET_OPS_INSTANCE(GateArgs, gate_turned) : SKNET_OPS_INSTANCE(GateArgs, gate_straight),
         a.n * a.last.tiles, bytes + (turn ? turn_bytes(pack) : 0), a);
}

void fill_last(Context& ctx, FillArgs& a) {
  const int pack = pack_of(a.c, {a.du});
  const int64_t maps = a.planes / a.c;
  a.last = tile_last(ctx, a.c, pack, maps, a.hw);
  launch(ctx, "fill", SKNET_OPS_INSTANCE(FillArgs, fill_last_kernel), maps * a.last.tiles * a.last.splits, 0, a);
}

void select_grad_last(Context& ctx, SelectGradArgs& a) {
  const int pack = pack_of(a.c, {a.u, a.dy, a.du});
  a.last = tile_last(ctx, a.c, pack, a.n, 0);
  launch(ctx, "select_grad", SKNET_OPS_INSTANCE(SelectGradArgs, select_grad_last_kernel), a.n * a.last.tiles,
         shared_bytes(a.last, pack, kWarps), a);
}

}  // namespace sknet_ops::cuda
