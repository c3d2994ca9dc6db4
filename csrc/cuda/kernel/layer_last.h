// SPDX-License-Identifier: Apache-2.0
// Everything of the layer that reads maps besides the convolutions, forward; branches in NHWC. Twin of layer.h. What
// belongs to a channel stands in shared memory, (branches, channels of the block).
#pragma once

#include "cuda/kernel/channel.h"
#include "cuda/kernel/turn.h"

namespace sknet_ops::cuda {

template <int kPack>
__device__ inline void apply_pack(Pack<float, kPack>& p, const Affine* affine, bool relu) {
#pragma unroll
  for (int k = 0; k < kPack; ++k) p.v[k] = activate(apply(affine[k], p.v[k]), relu);
}

// A block is a tile of channels and a chunk of images. Shared memory: normalisations, then the scratch of a sum.
template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads) pool_last_kernel(SKNET_OPS_ARGS PoolArgs a) {
  const Pixels<kPack> at(a.last, a.c);
  Affine* affine = reinterpret_cast<Affine*>(shared_memory());
  float* scratch = reinterpret_cast<float*>(affine + a.branches * at.tile);
  for (int i = at.warp; i < a.branches * at.tile; i += kWarps) {
    const int m = i / at.tile, c = at.c0 + i % at.tile;
    if (c >= a.c) continue;  // the whole warp
    const Affine one = pool_affine(a, m, c, WarpTeam{}, at.slot == 0 && at.lane == 0);
    if (at.lane == 0) affine[i] = one;
  }
  __syncthreads();
  for (int64_t n = at.slot; n < a.n; n += a.image_chunks) {
    float total[kPack] = {};
    for (int m = 0; m < a.branches; ++m) {
      const int64_t start = start_of<Nhwc>(n * a.branches + m, at.c(), a.c, a.hw);
      const T* z = static_cast<const T*>(a.z) + start;
      at.for_each(a.hw, 0, 1, [&](int i) {
        auto p = load_pack<T, kPack>(z + along<Nhwc>(i, a.c));
        apply_pack(p, affine + m * at.tile + at.local, a.relu);
#pragma unroll
        for (int k = 0; k < kPack; ++k) total[k] += p.v[k];
        if (a.u != nullptr) store_pack(p, static_cast<T*>(a.u) + start + along<Nhwc>(i, a.c));
      });
    }
    if (a.pooled == nullptr) continue;
    at.sum(total, scratch);
    if (!at.leads() || !at.active) continue;
#pragma unroll
    for (int k = 0; k < kPack; ++k) a.pooled[n * a.c + at.c() + k] = total[k] / static_cast<float>(a.hw);
  }
}

// A block is a tile of channels of one image, and a split of its positions. Each split works the attention out anew,
// which is cheap, and the first writes it down. kTurn: y is NCHW.
template <typename T, int kPack, bool kTurn>
__global__ void __launch_bounds__(kThreads) select_last_kernel(SKNET_OPS_ARGS SelectArgs a) {
  const Pixels<kPack> at(a.last, a.c);
  const int64_t n = at.slot / a.last.splits;
  const int split = static_cast<int>(at.slot % a.last.splits);
  Affine* affine = reinterpret_cast<Affine*>(shared_memory());
  float* attention = reinterpret_cast<float*>(affine + a.branches * at.tile);
  for (int local = at.warp; local < at.tile; local += kWarps) {
    const int c = at.c0 + local;
    if (c >= a.c) break;  // the whole warp
    const int64_t first = n * a.branches * a.c + c;
    float v[kMaxBranches] = {};
    attend(a, n, c, at.lane, v);
#pragma unroll
    for (int m = 0; m < kMaxBranches; ++m) {
      if (m >= a.branches || at.lane != 0) continue;
      const int64_t branch = static_cast<int64_t>(m) * a.c;
      attention[m * at.tile + local] = v[m];
      if (a.activated != nullptr && split == 0) a.attention[first + branch] = v[m];
      if (a.y != nullptr) affine[m * at.tile + local] = plane_affine(a.norm[m], branch + c, c);
    }
  }
  if (a.y == nullptr) return;
  __syncthreads();
  const T* z = static_cast<const T*>(a.z) + start_of<Nhwc>(n * a.branches, at.c(), a.c, a.hw);
  const int64_t branch = static_cast<int64_t>(a.c) * a.hw;
  auto weighted_sum = [&](int i) {
    Pack<float, kPack> sum{};
#pragma unroll
    for (int m = 0; m < kMaxBranches; ++m) {
      if (m >= a.branches) continue;
      auto p = load_pack<T, kPack>(z + m * branch + along<Nhwc>(i, a.c));
      const int row = m * at.tile + at.local;
      apply_pack(p, affine + row, a.relu);
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum.v[k] += attention[row + k] * p.v[k];
    }
    return sum;
  };
  if constexpr (kTurn) {
    const Turn<kPack> turn(at, a.c, attention + a.branches * at.tile);
    T* y = static_cast<T*>(a.y) + start_of<Nchw>(n, at.c0, a.c, a.hw);
    turn.for_each_chunk(a.hw, split, a.last.splits, [&](int start, int count) {
      turn.by_channels(count, [&](int i) {
        const auto sum = weighted_sum(start + i);
#pragma unroll
        for (int k = 0; k < kPack; ++k) turn.value(at.local + k, i) = sum.v[k];
      });
      __syncthreads();
      turn.by_positions(count, [&](int channel, int i) {
        from_float(turn.value(channel, i), y + static_cast<int64_t>(channel) * a.hw + start + i);
      });
      __syncthreads();
    });
  } else {
    T* y = static_cast<T*>(a.y) + start_of<Nhwc>(n, at.c(), a.c, a.hw);
    at.for_each(a.hw, split, a.last.splits, [&](int i) { store_pack(weighted_sum(i), y + along<Nhwc>(i, a.c)); });
  }
}

}  // namespace sknet_ops::cuda
