// SPDX-License-Identifier: Apache-2.0
// Where the values of a convolution's source come from: x as it is, or the gradient by z, computed on the way.
#pragma once

#include "cuda/kernel/norm.h"

namespace sknet_ops::cuda {

// One channel plane of x.
template <typename T>
struct PlaneOfX {
  const T* plane;
  __device__ float operator()(int pos) const { return to_float(plane[pos]); }
};

// One channel plane of the gradient by z.
template <typename T>
struct PlaneOfZGrad {
  const T *g, *z;
  ZGrad k;
  float attention, pooled;
  bool relu;
  __device__ float operator()(int pos) const {
    const float zv = to_float(z[pos]);
    float gv = to_float(g[pos]) * attention + pooled;
    if (relu && apply(k.a, zv) <= 0.0f) gv = 0.0f;
    return k.a.scale * (gv - k.offset - (zv - k.a.mean) * k.a.inv_std * k.slope);
  }
};

template <typename T>
__device__ inline PlaneOfZGrad<T> zgrad_plane(const ZGradSource& s, int64_t n, int m, int c, int channels, int branches,
                                              int64_t hw) {
  const int64_t branch_plane = (n * branches + m) * channels + c, plane = n * channels + c;
  const bool shared = s.attention != nullptr;
  return {static_cast<const T*>(s.g) + (shared ? plane : branch_plane) * hw,
          static_cast<const T*>(s.z) + branch_plane * hw,
          s.coef[m * channels + c],
          shared ? s.attention[branch_plane] : 1.0f,
          shared ? s.pooled[plane] : 0.0f,
          s.relu};
}

}  // namespace sknet_ops::cuda
