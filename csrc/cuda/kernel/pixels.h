// SPDX-License-Identifier: Apache-2.0
// A block over maps with channels last (NHWC): `across` neighbouring threads have neighbouring packs of kPack channels,
// the threads behind them the positions that follow. kPack is 1 where channels or addresses allow no whole packs.
#pragma once

#include "cuda/args.h"
#include "cuda/kernel/layout.h"
#include "cuda/kernel/pack.h"
#include "cuda/kernel/shape.h"

namespace sknet_ops::cuda {

template <int kPack>
struct Pixels {
  int across;       // threads
  int c0, tile;     // first channel and channels of the block
  int local;        // first channel of this thread in the block
  int first, step;  // positions of this thread
  bool active;      // its channels exist; a pack exists whole or not at all
  int64_t slot;     // what the block is besides its channels: image, chunk, split
  int lane, warp;

  __device__ Pixels(const LastTiling& t, int channels) : across(t.across) {
    tile = across * kPack;
    c0 = static_cast<int>(blockIdx.x % t.tiles) * tile;
    slot = blockIdx.x / t.tiles;
    local = static_cast<int>(threadIdx.x) % across * kPack;
    first = static_cast<int>(threadIdx.x) / across, step = kThreads / across;
    active = c0 + local < channels;
    lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  }

  __device__ int c() const { return c0 + local; }

  // Calls visit(position) for those of this thread in part `split` of `splits`.
  template <class Visit>
  __device__ void for_each(int hw, int split, int splits, Visit visit) const {
    if (!active) return;
#pragma unroll 4
    for (int i = first + split * step; i < hw; i += splits * step) visit(i);
  }

  // Over the threads with the same channels, in a fixed order; the first thread of each pack gets the sums. All threads
  // of the block come here. `scratch`: kWarps * tile words.
  __device__ void sum(float (&v)[kPack], float* scratch) const {
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      for (int mask = kWarp / 2; mask >= across; mask /= 2) v[k] += shuffle_xor(v[k], mask);
    }
    __syncthreads();  // nobody reads the sums before these any more
    if (lane < across) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) scratch[warp * tile + local + k] = v[k];
    }
    __syncthreads();
    if (!leads()) return;
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      v[k] = 0.0f;
      for (int w = 0; w < kWarps; ++w) v[k] += scratch[w * tile + local + k];
    }
  }

  __device__ bool leads() const { return static_cast<int>(threadIdx.x) < across; }
};

}  // namespace sknet_ops::cuda
