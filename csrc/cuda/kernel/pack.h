// SPDX-License-Identifier: Apache-2.0
// Neighbouring values that a thread reads or writes at once: whole words of 4, 8 or 16 bytes, or one value.
#pragma once

#include "cuda/platform.h"

namespace sknet_ops::cuda {

template <int kCount>
struct Width {
  __host__ __device__ constexpr operator int() const { return kCount; }
};

// V: as stored, or float.
template <typename V, int kCount>
struct Pack {
  V v[kCount];
};

template <int kBytes>
struct WordOf;
template <>
struct WordOf<4> {
  using Type = uint32_t;
};
template <>
struct WordOf<8> {
  using Type = uint2;
};
template <>
struct WordOf<16> {
  using Type = uint4;
};

// The widest word, of at most kMost bytes, that `kBytes` are whole ones of.
template <int kBytes, int kMost = 16>
using Word = typename WordOf<(kBytes < kMost ? kBytes : kMost)>::Type;

template <typename V, int kCount>
__device__ inline Pack<V, kCount> load_raw(const V* from) {
  Pack<V, kCount> p;
  if constexpr (kCount == 1) {
    p.v[0] = *from;
  } else {
    using W = Word<kCount * sizeof(V)>;
    static_assert(sizeof p % sizeof(W) == 0);
    W words[sizeof p / sizeof(W)];
    expect_aligned(from, sizeof(W));
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof p / sizeof(W)); ++i) words[i] = reinterpret_cast<const W*>(from)[i];
    memcpy(&p, words, sizeof p);
  }
  return p;
}

template <int kMost = 16, typename V, int kCount>
__device__ inline void store_raw(const Pack<V, kCount>& p, V* to) {
  if constexpr (kCount == 1) {
    *to = p.v[0];
  } else {
    using W = Word<kCount * sizeof(V), kMost>;
    static_assert(sizeof p % sizeof(W) == 0);
    W words[sizeof p / sizeof(W)];
    expect_aligned(to, sizeof(W));
    memcpy(words, &p, sizeof p);
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof p / sizeof(W)); ++i) reinterpret_cast<W*>(to)[i] = words[i];
  }
}

template <typename T, int kCount>
__device__ inline Pack<float, kCount> load_pack(const T* from) {
  const Pack<T, kCount> raw = load_raw<T, kCount>(from);
  Pack<float, kCount> p;
#pragma unroll
  for (int i = 0; i < kCount; ++i) p.v[i] = to_float(raw.v[i]);
  return p;
}

template <typename T, int kCount>
__device__ inline void store_pack(const Pack<float, kCount>& p, T* to) {
  Pack<T, kCount> raw;
#pragma unroll
  for (int i = 0; i < kCount; ++i) from_float(p.v[i], &raw.v[i]);
  store_raw(raw, to);
}

// What starts at a multiple of 16 bytes. Null does.
__device__ inline bool aligned(const void* a, const void* b = nullptr, const void* c = nullptr) {
  const auto bits = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(c);
  return bits % 16 == 0;
}

}  // namespace sknet_ops::cuda
