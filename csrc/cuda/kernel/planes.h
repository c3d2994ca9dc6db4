// SPDX-License-Identifier: Apache-2.0
// A warp over the positions of planes of equal size (NCHW), 16 bytes a thread where all planes allow it.
#pragma once

#include "cuda/kernel/pack.h"

namespace sknet_ops::cuda {

// Plane starts are multiples of hw values from the tensor's start, so these two facts settle alignment for all planes.
template <typename T>
__device__ inline bool aligned_planes(int hw, const void* a, const void* b, const void* c) {
  return static_cast<int64_t>(hw) * sizeof(T) % 16 == 0 && aligned(a, b, c);
}

// Calls visit(width constant, position) for every position, or pack of positions, of this lane.
template <typename T, class Visit>
__device__ inline void for_each_position(int hw, bool aligned, int lane, Visit visit) {
  if (aligned) {
    constexpr int kPack = 16 / sizeof(T);
#pragma unroll 2
    for (int i = lane * kPack; i < hw; i += kWarp * kPack) visit(Width<kPack>{}, i);
  } else {
#pragma unroll 2
    for (int i = lane; i < hw; i += kWarp) visit(Width<1>{}, i);
  }
}

}  // namespace sknet_ops::cuda
