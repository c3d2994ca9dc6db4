// SPDX-License-Identifier: Apache-2.0
// Everything of the layer besides the convolutions, backward. Twin of layer.h; layer_grad_last.h has maps in NHWC.
#pragma once

#include "cuda/kernel/layer.h"

namespace sknet_ops::cuda {

// A warp is one (image, channel): from one read of g and of every branch's z, all sums that the gradients need.
template <typename T>
__global__ void __launch_bounds__(kThreads) gate_kernel(SKNET_OPS_ARGS GateArgs a) {
  const int64_t plane = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (plane >= a.n * a.c) return;
  const int64_t n = plane / a.c, branch = static_cast<int64_t>(a.c) * a.hw;
  const int c = static_cast<int>(plane % a.c), lane = static_cast<int>(threadIdx.x % kWarp);
  Affine affine[kMaxBranches];
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < a.branches) affine[m] = make_affine(a.norm[m], static_cast<int64_t>(m) * a.c + c, c);
  }
  const T* z = static_cast<const T*>(a.z) + (n * a.branches * a.c + c) * a.hw;
  const T* g = static_cast<const T*>(a.g) + (a.g_per_branch ? (n * a.branches * a.c + c) : plane) * a.hw;
  const int64_t g_branch = a.g_per_branch ? branch : 0;
  GateSums sums[kMaxBranches] = {};
  for_each_position<T>(a.hw, aligned_planes<T>(a.hw, a.z, a.g, nullptr), lane, [&](auto width, int i) {
#pragma unroll
    for (int m = 0; m < kMaxBranches; ++m) {
      if (m >= a.branches) continue;
      const auto gp = load_pack<T, width>(g + m * g_branch + i), zp = load_pack<T, width>(z + m * branch + i);
#pragma unroll
      for (int k = 0; k < width; ++k) {
        const bool closed = a.relu && apply(affine[m], zp.v[k]) <= 0.0f;
        const float gv = closed ? 0.0f : gp.v[k], one = closed ? 0.0f : 1.0f;
        const float xhat = (zp.v[k] - affine[m].mean) * affine[m].inv_std;
        sums[m].g += gv, sums[m].gx += gv * xhat;
        sums[m].r += one, sums[m].rx += one * xhat;
      }
    }
  });
  float dattention[kMaxBranches] = {};
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m >= a.branches) continue;
    const GateSums s{warp_sum(sums[m].g), warp_sum(sums[m].gx), warp_sum(sums[m].r), warp_sum(sums[m].rx)};
    if (lane == 0) a.gates[(n * a.branches + m) * a.c + c] = s;
    dattention[m] = a.norm[m].gamma[c] * s.gx + a.norm[m].beta[c] * s.g;  // sum of g u
  }
  if (a.dlogits != nullptr && lane == 0) {
    const int64_t first = n * a.branches * a.c + c;
    softmax_grad(dattention, a.attention + first, a.dlogits + first, a.c, a.branches);
  }
}

static __global__ void __launch_bounds__(kThreads) softmax_grad_kernel(SKNET_OPS_ARGS SoftmaxGradArgs a) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= a.n * a.c) return;
  const int64_t first = i / a.c * a.branches * a.c + i % a.c;
  float dattention[kMaxBranches] = {};
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < a.branches) dattention[m] = a.dattention[first + static_cast<int64_t>(m) * a.c];
  }
  softmax_grad(dattention, a.attention + first, a.dlogits + first, a.c, a.branches);
}

static __global__ void __launch_bounds__(kThreads) hidden_grad_kernel(SKNET_OPS_ARGS HiddenGradArgs a) {
  __shared__ double scratch[kWarps];
  const int j = static_cast<int>(blockIdx.x), all = a.branches * a.c;
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  float* column = shared_memory();
  if (a.staged) {
    for (int i = static_cast<int>(threadIdx.x); i < all; i += kThreads) {
      column[i] = a.fc_select[static_cast<int64_t>(i) * a.d + j];
    }
    __syncthreads();
  }
  const Affine affine = make_affine(a.norm, j, j);
  for_each_dot(
      warp, kWarps, a.n, all, [&](int64_t n, int i) { return a.dlogits[n * all + i]; },
      [&](int i) { return a.staged ? column[i] : a.fc_select[static_cast<int64_t>(i) * a.d + j]; },
      [&](int64_t n, float sum) {
        const float value = activate(apply(affine, a.hidden[n * a.d + j]), true);
        a.activated[n * a.d + j] = value;
        a.dhidden[n * a.d + j] = value <= 0.0f ? 0.0f : sum;  // by the normalised value, so far
      });
  __syncthreads();
  auto xhat = [&](int64_t n) {
    return (static_cast<double>(a.hidden[n * a.d + j]) - static_cast<double>(affine.mean)) *
           static_cast<double>(affine.inv_std);
  };
  double sum = 0.0, sum_xhat = 0.0;
  for (int64_t n = threadIdx.x; n < a.n; n += kThreads) {
    const double g = static_cast<double>(a.dhidden[n * a.d + j]);
    sum += g;
    sum_xhat += g * xhat(n);
  }
  sum = block_sum(sum, scratch);
  sum_xhat = block_sum(sum_xhat, scratch);
  if (threadIdx.x == 0) {
    a.dbeta[j] = static_cast<float>(sum);
    a.dgamma[j] = static_cast<float>(sum_xhat);
  }
  for (int64_t n = threadIdx.x; n < a.n; n += kThreads) {
    double g = static_cast<double>(a.dhidden[n * a.d + j]);
    if (a.training) g -= (sum + xhat(n) * sum_xhat) / static_cast<double>(a.n);
    a.dhidden[n * a.d + j] = static_cast<float>(static_cast<double>(affine.scale) * g);
  }
}

static __global__ void __launch_bounds__(kThreads) channel_grad_kernel(SKNET_OPS_ARGS ChannelGradArgs a) {
  __shared__ double scratch[kWarps];
  const int c = static_cast<int>(blockIdx.x);
  if (a.dhidden != nullptr) {
    for_each_dot(
        threadIdx.x / kWarp, kWarps, a.n, a.d, [&](int64_t n, int j) { return a.dhidden[n * a.d + j]; },
        [&](int j) { return a.fc_reduce[static_cast<int64_t>(j) * a.c + c]; },
        [&](int64_t n, float sum) { a.dpooled[n * a.c + c] = sum / static_cast<float>(a.hw); });
    for (int i = static_cast<int>(threadIdx.x); i < (a.branches + 1) * a.d; i += kThreads) {
      const int j = i % a.d, m = i / a.d;
      float sum = 0.0f;
      if (m < a.branches) {
#pragma unroll 8
        for (int64_t n = 0; n < a.n; ++n) sum += a.dlogits[(n * a.branches + m) * a.c + c] * a.activated[n * a.d + j];
        a.dfc_select[(static_cast<int64_t>(m) * a.c + c) * a.d + j] = sum;
      } else {
#pragma unroll 8
        for (int64_t n = 0; n < a.n; ++n) sum += a.pooled[n * a.c + c] * a.dhidden[n * a.d + j];
        a.dfc_reduce[static_cast<int64_t>(j) * a.c + c] = sum;
      }
    }
    __syncthreads();
  }
  if (a.gates == nullptr) return;
  const double count = static_cast<double>(a.n) * static_cast<double>(a.hw);
  for (int m = 0; m < a.branches; ++m) {
    double sum = 0.0, sum_xhat = 0.0;
    for (int64_t n = threadIdx.x; n < a.n; n += kThreads) {
      const int64_t at = (n * a.branches + m) * a.c + c;
      const GateSums s = a.gates[at];
      const double weight = a.attention != nullptr ? static_cast<double>(a.attention[at]) : 1.0;
      const double pooled = a.attention != nullptr ? static_cast<double>(a.dpooled[n * a.c + c]) : 0.0;
      sum += weight * static_cast<double>(s.g) + pooled * static_cast<double>(s.r);
      sum_xhat += weight * static_cast<double>(s.gx) + pooled * static_cast<double>(s.rx);
    }
    sum = block_sum(sum, scratch);
    sum_xhat = block_sum(sum_xhat, scratch);
    if (threadIdx.x == 0) {
      a.dbeta[m][c] = static_cast<float>(sum);
      a.dgamma[m][c] = static_cast<float>(sum_xhat);
      const int64_t i = static_cast<int64_t>(m) * a.c + c;
      a.coef[i] = {make_affine(a.norm[m], i, c), a.training ? static_cast<float>(sum / count) : 0.0f,
                   a.training ? static_cast<float>(sum_xhat / count) : 0.0f};
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) fill_kernel(SKNET_OPS_ARGS FillArgs a) {
  const int64_t plane = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (plane >= a.planes) return;
  const int64_t n = plane / (static_cast<int64_t>(a.branches) * a.c);
  const float value = a.value[n * a.c + plane % a.c];
  T* du = static_cast<T*>(a.du) + plane * a.hw;
  for_each_position<T>(a.hw, aligned_planes<T>(a.hw, a.du, nullptr, nullptr), static_cast<int>(threadIdx.x % kWarp),
                       [&](auto width, int i) {
                         Pack<float, width> p;
#pragma unroll
                         for (int k = 0; k < width; ++k) p.v[k] = value;
                         store_pack(p, du + i);
                       });
}

template <typename T>
__global__ void __launch_bounds__(kThreads) select_grad_kernel(SKNET_OPS_ARGS SelectGradArgs a) {
  const int64_t plane = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (plane >= a.n * a.c) return;
  const int64_t n = plane / a.c, branch = static_cast<int64_t>(a.c) * a.hw;
  const int64_t first = n * a.branches * a.c + plane % a.c;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  float attention[kMaxBranches], sums[kMaxBranches] = {};
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < a.branches) attention[m] = a.attention[first + static_cast<int64_t>(m) * a.c];
  }
  const T *u = static_cast<const T*>(a.u) + first * a.hw, *dy = static_cast<const T*>(a.dy) + plane * a.hw;
  T* du = static_cast<T*>(a.du) + first * a.hw;
  for_each_position<T>(a.hw, aligned_planes<T>(a.hw, a.u, a.dy, a.du), lane, [&](auto width, int i) {
    const auto g = load_pack<T, width>(dy + i);
#pragma unroll
    for (int m = 0; m < kMaxBranches; ++m) {
      if (m >= a.branches) continue;
      auto p = load_pack<T, width>(u + m * branch + i);
#pragma unroll
      for (int k = 0; k < width; ++k) {
        sums[m] += p.v[k] * g.v[k];
        p.v[k] = attention[m] * g.v[k];
      }
      store_pack(p, du + m * branch + i);
    }
  });
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m >= a.branches) continue;
    const float total = warp_sum(sums[m]);
    if (lane == 0) a.dattention[first + static_cast<int64_t>(m) * a.c] = total;
  }
}

}  // namespace sknet_ops::cuda
