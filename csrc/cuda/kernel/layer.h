// SPDX-License-Identifier: Apache-2.0
// Everything of the layer besides the convolutions, forward; maps in NCHW (layer_last.h has them in NHWC).
#pragma once

#include "cuda/kernel/channel.h"
#include "cuda/kernel/planes.h"

namespace sknet_ops::cuda {

// Of the values value(i), i < n, by the whole block.
template <class Value>
__device__ inline Statistics block_statistics(int64_t n, double* scratch, Value value) {
  double sum = 0.0, squares = 0.0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += static_cast<double>(value(i));
  const double mean = block_sum(sum, scratch) / static_cast<double>(n);
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const double d = static_cast<double>(value(i)) - mean;
    squares += d * d;
  }
  return {mean, block_sum(squares, scratch), static_cast<double>(n)};
}

// Images of a warp whose sums run side by side: so many loads are under way at once.
constexpr int kImagesAtOnce = 4;

// Calls done(n, sum over i < terms of value(n, i) * weight(i)) in the first lane, for n = first, first + step, ...
// below `images`. Whole warps come here.
template <class Value, class Weight, class Done>
__device__ inline void for_each_dot(int64_t first, int64_t step, int64_t images, int terms, Value value, Weight weight,
                                    Done done) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  for (int64_t n = first; n < images; n += kImagesAtOnce * step) {
    float sums[kImagesAtOnce] = {};
#pragma unroll 2
    for (int i = lane; i < terms; i += kWarp) {
      const float w = weight(i);
#pragma unroll
      for (int k = 0; k < kImagesAtOnce; ++k) {
        if (n + k * step < images) sums[k] += value(n + k * step, i) * w;
      }
    }
#pragma unroll
    for (int k = 0; k < kImagesAtOnce; ++k) {
      const float sum = warp_sum(sums[k]);
      if (lane == 0 && n + k * step < images) done(n + k * step, sum);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) pool_kernel(SKNET_OPS_ARGS PoolArgs a) {
  __shared__ double scratch[kWarps];
  const int c = static_cast<int>(blockIdx.x % a.c), chunk = static_cast<int>(blockIdx.x / a.c);
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  Affine affine[kMaxBranches];
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < a.branches) affine[m] = pool_affine(a, m, c, BlockTeam{scratch}, chunk == 0 && threadIdx.x == 0);
  }
  const bool aligned = aligned_planes<T>(a.hw, a.z, a.u, nullptr);
  for (int64_t n = static_cast<int64_t>(chunk) * kWarps + warp; n < a.n;
       n += static_cast<int64_t>(a.image_chunks) * kWarps) {
    float total = 0.0f;
#pragma unroll
    for (int m = 0; m < kMaxBranches; ++m) {
      if (m >= a.branches) continue;
      const int64_t at = ((n * a.branches + m) * a.c + c) * a.hw;
      const T* z = static_cast<const T*>(a.z) + at;
      for_each_position<T>(a.hw, aligned, lane, [&](auto width, int i) {
        auto p = load_pack<T, width>(z + i);
#pragma unroll
        for (int k = 0; k < width; ++k) {
          p.v[k] = activate(apply(affine[m], p.v[k]), a.relu);
          total += p.v[k];
        }
        if (a.u != nullptr) store_pack(p, static_cast<T*>(a.u) + at + i);
      });
    }
    if (a.pooled != nullptr) {
      total = warp_sum(total);
      if (lane == 0) a.pooled[n * a.c + c] = total / static_cast<float>(a.hw);
    }
  }
}

static __global__ void __launch_bounds__(kThreads) hidden_kernel(SKNET_OPS_ARGS HiddenArgs a) {
  __shared__ double scratch[kWarps];
  const int j = static_cast<int>(blockIdx.x % a.d), chunk = static_cast<int>(blockIdx.x / a.d);
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const bool training = a.mean != nullptr;
  const Affine moving = training ? identity() : make_affine(a.norm, j, j);
  const float* row = a.fc_reduce + static_cast<int64_t>(j) * a.c;
  auto dots = [&](auto pooled) {
    for_each_dot(
        static_cast<int64_t>(chunk) * kWarps + warp, static_cast<int64_t>(a.image_chunks) * kWarps, a.n, a.c,
        [&](int64_t n, int c) { return pooled(n, c) * a.pooled_scale; }, [&](int c) { return row[c]; },
        [&](int64_t n, float sum) {
          if (a.hidden != nullptr) a.hidden[n * a.d + j] = sum;
          if (!training) a.activated[n * a.d + j] = activate(apply(moving, sum), true);
        });
  };
  if (a.splits == 1) {  // by itself, without a loop in the loop
    dots([&](int64_t n, int c) { return a.pooled[n * a.c + c]; });
  } else {
    dots([&](int64_t n, int c) {
      const float* pooled = a.pooled + n * a.splits * a.c + c;
      float value = pooled[0];
      for (int s = 1; s < a.splits; ++s) value += pooled[s * a.c];
      return value;
    });
  }
  if (!training) return;
  __syncthreads();  // this block has written all of its column
  const Statistics s = block_statistics(a.n, scratch, [&](int64_t n) { return a.hidden[n * a.d + j]; });
  if (threadIdx.x == 0) {
    save_statistics(s, a.norm.eps, a.momentum, j, j, a.mean, a.inv_std, a.moving_mean, a.moving_variance);
  }
  const float inv_std = static_cast<float>(1.0 / sqrt(s.m2 / s.count + static_cast<double>(a.norm.eps)));
  const Affine batch{static_cast<float>(s.mean), a.norm.gamma[j] * inv_std, a.norm.beta[j], inv_std};
  for (int64_t n = threadIdx.x; n < a.n; n += kThreads) {
    a.activated[n * a.d + j] = activate(apply(batch, a.hidden[n * a.d + j]), true);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) select_kernel(SKNET_OPS_ARGS SelectArgs a) {
  const int64_t plane = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (plane >= a.n * a.c) return;  // the whole warp
  const int64_t n = plane / a.c;
  const int c = static_cast<int>(plane % a.c), lane = static_cast<int>(threadIdx.x % kWarp);
  float attention[kMaxBranches] = {};
  attend(a, n, c, lane, attention);
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < a.branches && a.activated != nullptr && lane == 0) {
      a.attention[(n * a.branches + m) * a.c + c] = attention[m];
    }
  }
  if (a.y == nullptr) return;

  Affine affine[kMaxBranches];
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < a.branches) affine[m] = plane_affine(a.norm[m], static_cast<int64_t>(m) * a.c + c, c);
  }
  const T* z = static_cast<const T*>(a.z) + (n * a.branches * a.c + c) * a.hw;
  const int64_t branch = static_cast<int64_t>(a.c) * a.hw;
  T* y = static_cast<T*>(a.y) + plane * a.hw;
  for_each_position<T>(a.hw, aligned_planes<T>(a.hw, a.z, a.y, nullptr), lane, [&](auto width, int i) {
    Pack<float, width> sum{};
#pragma unroll
    for (int m = 0; m < kMaxBranches; ++m) {
      if (m >= a.branches) continue;
      const auto p = load_pack<T, width>(z + m * branch + i);
#pragma unroll
      for (int k = 0; k < width; ++k) sum.v[k] += attention[m] * activate(apply(affine[m], p.v[k]), a.relu);
    }
    store_pack(sum, y + i);
  });
}

}  // namespace sknet_ops::cuda
