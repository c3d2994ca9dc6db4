// SPDX-License-Identifier: Apache-2.0
// Where the values of a convolution's source come from: x as it is, or the gradient by z, computed on the way. Planes
// give one channel by position, in both layouts, at once or in two steps: what memory has, then the value, which needs
// no map any more. Channels give a few neighbours, where channels are last.
#pragma once

#include "cuda/kernel/layout.h"
#include "cuda/kernel/norm.h"
#include "cuda/kernel/pack.h"

namespace sknet_ops::cuda {

template <typename T, class Layout>
struct PlaneOfX {
  const T* first;
  int channels;
  using Raw = T;
  __device__ Raw raw(int pos) const { return first[along<Layout>(pos, channels)]; }
  __device__ float value(const Raw& x) const { return to_float(x); }
  __device__ float operator()(int pos) const { return value(raw(pos)); }
};

template <typename T, int kCount>
struct ChannelsOfX {
  const T* first;
  int channels;
  __device__ Pack<T, kCount> operator()(int pos) const {
    return load_raw<T, kCount>(first + along<Nhwc>(pos, channels));
  }
};

// The gradient by z of one channel.
struct ZGradOf {
  ZGrad k;
  float attention, pooled;
  bool relu;
  __device__ float operator()(float g, float z) const {
    float gv = fmaf(g, attention, pooled);  // one rounding, so that one value less its own mean is zero
    if (relu && apply(k.a, z) <= 0.0f) gv = 0.0f;
    return k.a.scale * (gv - k.offset - (z - k.a.mean) * k.a.inv_std * k.slope);
  }
};

__device__ inline ZGradOf zgrad_of(const ZGradSource& s, int64_t n, int m, int c, int channels, int branches) {
  const int64_t branch = (n * branches + m) * channels + c;
  const bool shared = s.attention != nullptr;
  return {s.coef[m * channels + c], shared ? s.attention[branch] : 1.0f, shared ? s.pooled[n * channels + c] : 0.0f,
          s.relu};
}

template <typename T, class Layout>
struct PlaneOfZGrad {
  const T *g, *z;
  int channels;
  ZGradOf of;
  struct Raw {
    T g, z;
  };
  __device__ Raw raw(int pos) const {
    const int64_t at = along<Layout>(pos, channels);
    return {g[at], z[at]};
  }
  __device__ float value(const Raw& r) const { return of(to_float(r.g), to_float(r.z)); }
  __device__ float operator()(int pos) const { return value(raw(pos)); }
};

template <typename T, int kCount>
struct ChannelsOfZGrad {
  const T *g, *z;
  int channels;
  ZGradOf of[kCount];
  __device__ Pack<float, kCount> operator()(int pos) const {
    const int64_t at = along<Nhwc>(pos, channels);
    const auto gs = load_pack<T, kCount>(g + at), zs = load_pack<T, kCount>(z + at);
    Pack<float, kCount> p;
#pragma unroll
    for (int i = 0; i < kCount; ++i) p.v[i] = of[i](gs.v[i], zs.v[i]);
    return p;
  }
};

template <typename T, class Layout>
__device__ inline const T* g_start(const ZGradSource& s, int64_t n, int m, int c, int channels, int branches,
                                   int64_t hw) {
  const int64_t map = s.attention != nullptr ? n : n * branches + m;
  return static_cast<const T*>(s.g) + start_of<Layout>(map, c, channels, hw);
}

template <typename T, class Layout>
__device__ inline PlaneOfZGrad<T, Layout> zgrad_plane(const ZGradSource& s, int64_t n, int m, int c, int channels,
                                                      int branches, int64_t hw) {
  return {g_start<T, Layout>(s, n, m, c, channels, branches, hw),
          static_cast<const T*>(s.z) + start_of<Layout>(n * branches + m, c, channels, hw), channels,
          zgrad_of(s, n, m, c, channels, branches)};
}

template <typename T, int kCount>
__device__ inline ChannelsOfZGrad<T, kCount> zgrad_channels(const ZGradSource& s, int64_t n, int m, int c, int channels,
                                                            int branches, int64_t hw) {
  ChannelsOfZGrad<T, kCount> p{g_start<T, Nhwc>(s, n, m, c, channels, branches, hw),
                               static_cast<const T*>(s.z) + start_of<Nhwc>(n * branches + m, c, channels, hw),
                               channels,
                               {}};
#pragma unroll
  for (int i = 0; i < kCount; ++i) p.of[i] = zgrad_of(s, n, m, c + i, channels, branches);
  return p;
}

}  // namespace sknet_ops::cuda
