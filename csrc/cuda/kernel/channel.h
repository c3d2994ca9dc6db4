// SPDX-License-Identifier: Apache-2.0
// What the layer's kernels do for one channel, however maps lie.
#pragma once

#include "cuda/kernel/norm.h"

namespace sknet_ops::cuda {

__device__ inline Affine identity() { return {0.0f, 1.0f, 0.0f, 1.0f}; }

// What stands in z: raw values and their normalisation, or activated ones (no gamma).
__device__ inline Affine plane_affine(const NormArgs& norm, int64_t i, int c) {
  return norm.gamma != nullptr ? make_affine(norm, i, c) : identity();
}

struct Statistics {
  double mean, m2, count;
};

// How a block, or a warp, shares a sum out and adds it up.
struct BlockTeam {
  double* scratch;  // kWarps
  __device__ int first() const { return static_cast<int>(threadIdx.x); }
  static constexpr int kStep = kThreads;
  __device__ double sum(double v) const { return block_sum(v, scratch); }
};
struct WarpTeam {
  __device__ int first() const { return static_cast<int>(threadIdx.x % kWarp); }
  static constexpr int kStep = kWarp;
  __device__ double sum(double v) const { return warp_sum(v); }
};

template <class Team>
__device__ inline Statistics merge_slots(const Moments* slots, int count, Team team) {
  double values = 0.0, sum = 0.0, squares = 0.0;
  for (int i = team.first(); i < count; i += Team::kStep) {
    values += static_cast<double>(slots[i].count);
    sum += static_cast<double>(slots[i].count) * static_cast<double>(slots[i].mean);
  }
  values = team.sum(values);
  const double mean = team.sum(sum) / values;
  for (int i = team.first(); i < count; i += Team::kStep) {
    const double d = static_cast<double>(slots[i].mean) - mean;
    squares += static_cast<double>(slots[i].m2) + static_cast<double>(slots[i].count) * d * d;
  }
  return {mean, team.sum(squares), values};
}

// Saves mean and inv_std at `i` and moves the running statistics of channel c; one thread.
__device__ inline void save_statistics(const Statistics& s, float eps, float momentum, int64_t i, int c, float* mean,
                                       float* inv_std, float* moving_mean, float* moving_variance) {
  const double unbiased = s.count > 1.0 ? s.m2 / (s.count - 1.0) : 0.0;
  const double add = static_cast<double>(momentum), keep = 1.0 - add;
  mean[i] = static_cast<float>(s.mean);
  inv_std[i] = static_cast<float>(1.0 / sqrt(s.m2 / s.count + static_cast<double>(eps)));
  moving_mean[c] = static_cast<float>(keep * static_cast<double>(moving_mean[c]) + add * s.mean);
  moving_variance[c] = static_cast<float>(keep * static_cast<double>(moving_variance[c]) + add * unbiased);
}

// The normalisation of a channel of a branch, from the moments that the convolution took or as it is given.
template <class Team>
__device__ inline Affine pool_affine(const PoolArgs& a, int m, int c, Team team, bool save) {
  const int64_t i = static_cast<int64_t>(m) * a.c + c;
  if (a.moments == nullptr) return plane_affine(a.norm[m], i, c);
  const Statistics s = merge_slots(a.moments + i * a.slots, a.slots, team);
  if (save) {
    save_statistics(s, a.norm[m].eps, a.momentum, i, c, a.mean, a.inv_std, a.moving_mean[m], a.moving_variance[m]);
  }
  const float inv_std = static_cast<float>(1.0 / sqrt(s.m2 / s.count + static_cast<double>(a.norm[m].eps)));
  return {static_cast<float>(s.mean), a.norm[m].gamma[c] * inv_std, a.norm[m].beta[c], inv_std};
}

// Softmax over the branches of one image and channel, in place; shifted by the largest so that exp stays finite.
__device__ inline void softmax(float (&v)[kMaxBranches], int branches) {
  float most = v[0], total = 0.0f;
#pragma unroll
  for (int m = 1; m < kMaxBranches; ++m) {
    if (m < branches) most = v[m] > most ? v[m] : most;
  }
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < branches) total += v[m] = expf(v[m] - most);
  }
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) v[m] /= total;
}

// The attention of one image and channel, by a warp: from the hidden layer, or as it is given.
__device__ inline void attend(const SelectArgs& a, int64_t n, int c, int lane, float (&attention)[kMaxBranches]) {
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m >= a.branches) continue;
    if (a.activated == nullptr) {
      attention[m] = a.attention[(n * a.branches + m) * a.c + c];
      continue;
    }
    const float* row = a.fc_select + (static_cast<int64_t>(m) * a.c + c) * a.d;
    float sum = 0.0f;
    for (int j = lane; j < a.d; j += kWarp) sum += a.activated[n * a.d + j] * row[j];
    attention[m] = warp_sum(sum);
  }
  if (a.activated != nullptr) softmax(attention, a.branches);
}

// The attention's gradient through the softmax of one image and channel; one thread.
__device__ inline void softmax_grad(const float (&dattention)[kMaxBranches], const float* attention, float* dlogits,
                                    int64_t branch, int branches) {
  float dot = 0.0f;
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < branches) dot += dattention[m] * attention[m * branch];
  }
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m < branches) dlogits[m * branch] = attention[m * branch] * (dattention[m] - dot);
  }
}

}  // namespace sknet_ops::cuda
