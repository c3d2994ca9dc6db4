// SPDX-License-Identifier: Apache-2.0
// A warp over the positions of planes of equal size, 16 bytes a thread where all planes allow it.
#pragma once

#include "cuda/platform.h"

namespace sknet_ops::cuda {

template <int kCount>
struct Width {
  __host__ __device__ constexpr operator int() const { return kCount; }
};

template <typename T, int kCount>
struct Pack {
  float v[kCount];
};

template <typename T, int kCount>
__device__ inline Pack<T, kCount> load_pack(const T* from) {
  Pack<T, kCount> p;
  if constexpr (kCount == 1) {
    p.v[0] = to_float(*from);
  } else {
    static_assert(kCount * sizeof(T) == 16);
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    T values[kCount];
    memcpy(values, &raw, sizeof raw);
#pragma unroll
    for (int i = 0; i < kCount; ++i) p.v[i] = to_float(values[i]);
  }
  return p;
}

template <typename T, int kCount>
__device__ inline void store_pack(const Pack<T, kCount>& p, T* to) {
  if constexpr (kCount == 1) {
    from_float(p.v[0], to);
  } else {
    T values[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) from_float(p.v[i], &values[i]);
    uint4 raw;
    memcpy(&raw, values, sizeof raw);
    *reinterpret_cast<uint4*>(to) = raw;
  }
}

// Plane starts are multiples of hw values from the tensor's start, so these two facts settle alignment for all planes.
template <typename T>
__device__ inline bool aligned_planes(int hw, const void* a, const void* b, const void* c) {
  const auto bits = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(c);
  return static_cast<int64_t>(hw) * sizeof(T) % 16 == 0 && bits % 16 == 0;
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
