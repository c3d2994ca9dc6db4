// SPDX-License-Identifier: Apache-2.0
// Device functions around normalisation.
#pragma once

#include "cuda/args.h"
#include "cuda/platform.h"

namespace sknet_ops::cuda {

__device__ inline float inverse_std(float variance, float eps) {
  return static_cast<float>(1.0 / sqrt(static_cast<double>(variance) + static_cast<double>(eps)));
}

// Channel c; `i` is its place in mean and inv_std.
__device__ inline Affine make_affine(const NormArgs& norm, int64_t i, int c) {
  const float mean = norm.mean != nullptr ? norm.mean[i] : norm.moving_mean[c];
  const float inv_std = norm.mean != nullptr ? norm.inv_std[i] : inverse_std(norm.moving_variance[c], norm.eps);
  return {mean, norm.gamma[c] * inv_std, norm.beta[c], inv_std};
}

__device__ inline float apply(const Affine& a, float z) { return (z - a.mean) * a.scale + a.beta; }

__device__ inline float activate(float v, bool relu) { return relu && v < 0.0f ? 0.0f : v; }  // NaN passes

__device__ inline void merge(Moments& into, const Moments& other) {
  if (other.count == 0.0f) return;
  const float count = into.count + other.count, delta = other.mean - into.mean, part = other.count / count;
  into.mean += delta * part;
  into.m2 += other.m2 + delta * delta * into.count * part;
  into.count = count;
}

}  // namespace sknet_ops::cuda
