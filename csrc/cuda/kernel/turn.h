// SPDX-License-Identifier: Apache-2.0
// Turning maps between NHWC and NCHW: a chunk of positions of a block's channels in shared memory, by neighbouring
// threads on neighbouring channels on the one side, and on neighbouring positions on the other.
#pragma once

#include "cuda/kernel/pixels.h"

namespace sknet_ops::cuda {

template <int kPack>
struct Turn {
  const Pixels<kPack>& at;
  float* tile;   // (channels of the block, row)
  int channels;  // of the block that exist
  int chunk, row;

  // `memory`: at.tile rows: kPack kTurnRounds kThreads words, and kWarp of padding. So far apart, a warp's packs of
  // channels, and its positions, fall in banks of their own.
  __device__ Turn(const Pixels<kPack>& pixels, int of_map, float* memory)
      : at(pixels), tile(memory), channels(min(pixels.tile, of_map - pixels.c0)) {
    chunk = kTurnRounds * at.step, row = chunk + kWarp / at.tile;
  }

  __device__ float& value(int channel, int position) const { return tile[channel * row + position]; }

  // Calls visit(channel of the block, position of the chunk) for the first `count` positions, neighbouring threads on
  // neighbouring positions.
  template <class Visit>
  __device__ void by_positions(int count, Visit visit) const {
    for (int c = at.warp; c < channels; c += kWarps) {
#pragma unroll 4
      for (int i = at.lane; i < count; i += kWarp) visit(c, i);
    }
  }

  // Calls visit(position of the chunk) for those of this thread, which Pixels::for_each gives it, too.
  template <class Visit>
  __device__ void by_channels(int count, Visit visit) const {
    if (!at.active) return;
#pragma unroll
    for (int r = 0; r < kTurnRounds; ++r) {
      const int i = at.first + r * at.step;
      if (i < count) visit(i);
    }
  }

  // Calls visit(first position, how many) for every chunk of part `split` of `splits`; all threads of the block come
  // along, so that visit may have barriers.
  template <class Visit>
  __device__ void for_each_chunk(int hw, int split, int splits, Visit visit) const {
    for (int64_t start = static_cast<int64_t>(split) * chunk; start < hw;
         start += static_cast<int64_t>(splits) * chunk) {
      visit(static_cast<int>(start), static_cast<int>(min(static_cast<int64_t>(chunk), hw - start)));
    }
  }
};

}  // namespace sknet_ops::cuda
