// SPDX-License-Identifier: Apache-2.0
// What layer_grad.h does with maps, with branches in NHWC. A block is a tile of channels of one image. Branches are
// taken two at a time, with one read of the gradient that they share.
#pragma once

#include "cuda/kernel/layer_last.h"

namespace sknet_ops::cuda {

inline constexpr int kTogether = 2;  // branches

// Shared memory: sums of the block (branches, tile), normalisations (branches, tile), the scratch of a sum, and with
// kTurn a chunk of g, which is NCHW and written to a.turned.
template <typename T, int kPack, bool kTurn>
__global__ void __launch_bounds__(kThreads) gate_last_kernel(SKNET_OPS_ARGS GateArgs a) {
  const Pixels<kPack> at(a.last, a.c);
  const int64_t n = at.slot;
  GateSums* gates = reinterpret_cast<GateSums*>(shared_memory());
  Affine* affines = reinterpret_cast<Affine*>(gates + a.branches * at.tile);
  float* scratch = reinterpret_cast<float*>(affines + a.branches * at.tile);
  for (int i = static_cast<int>(threadIdx.x); i < a.branches * at.tile; i += kThreads) {
    const int m = i / at.tile, c = at.c0 + i % at.tile;
    if (c < a.c) affines[i] = make_affine(a.norm[m], static_cast<int64_t>(m) * a.c + c, c);
  }
  __syncthreads();
  const int64_t branch = static_cast<int64_t>(a.c) * a.hw, g_branch = a.g_per_branch ? branch : 0;
  const T* z = static_cast<const T*>(a.z) + start_of<Nhwc>(n * a.branches, at.c(), a.c, a.hw);
  const T* g = static_cast<const T*>(a.g) + start_of<Nhwc>(a.g_per_branch ? n * a.branches : n, at.c(), a.c, a.hw);
  for (int first = 0; first < a.branches; first += kTogether) {
    float sum_g[kTogether][kPack] = {}, sum_gx[kTogether][kPack] = {};
    float sum_r[kTogether][kPack] = {}, sum_rx[kTogether][kPack] = {};
    auto add = [&](int i, Pack<float, kPack> gp) {  // gp: g of branch `first` at position i
#pragma unroll
      for (int b = 0; b < kTogether; ++b) {
        const int m = first + b;
        if (m >= a.branches) continue;
        if (b > 0 && a.g_per_branch) gp = load_pack<T, kPack>(g + m * g_branch + along<Nhwc>(i, a.c));
        const auto zp = load_pack<T, kPack>(z + m * branch + along<Nhwc>(i, a.c));
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
          const Affine affine = affines[m * at.tile + at.local + k];
          const bool closed = a.relu && apply(affine, zp.v[k]) <= 0.0f;
          const float gv = closed ? 0.0f : gp.v[k], one = closed ? 0.0f : 1.0f;
          const float xhat = (zp.v[k] - affine.mean) * affine.inv_std;
          sum_g[b][k] += gv, sum_gx[b][k] += gv * xhat;
          sum_r[b][k] += one, sum_rx[b][k] += one * xhat;
        }
      }
    };
    if constexpr (kTurn) {
      const Turn<kPack> turn(at, a.c, scratch + kWarps * at.tile);
      const T* from = static_cast<const T*>(a.g) + start_of<Nchw>(n, at.c0, a.c, a.hw);
      T* to = static_cast<T*>(a.turned) + start_of<Nhwc>(n, at.c(), a.c, a.hw);
      turn.for_each_chunk(a.hw, 0, 1, [&](int start, int count) {
        turn.by_positions(count, [&](int channel, int i) {
          turn.value(channel, i) = to_float(from[static_cast<int64_t>(channel) * a.hw + start + i]);
        });
        __syncthreads();
        turn.by_channels(count, [&](int i) {
          Pack<float, kPack> gp;
#pragma unroll
          for (int k = 0; k < kPack; ++k) gp.v[k] = turn.value(at.local + k, i);
          if (first == 0) store_pack(gp, to + along<Nhwc>(start + i, a.c));
          add(start + i, gp);
        });
        __syncthreads();
      });
    } else {
      at.for_each(a.hw, 0, 1, [&](int i) { add(i, load_pack<T, kPack>(g + first * g_branch + along<Nhwc>(i, a.c))); });
    }
#pragma unroll
    for (int b = 0; b < kTogether; ++b) {
      const int m = first + b;
      if (m >= a.branches) continue;
      at.sum(sum_g[b], scratch);
      at.sum(sum_gx[b], scratch);
      at.sum(sum_r[b], scratch);
      at.sum(sum_rx[b], scratch);
      if (!at.leads() || !at.active) continue;
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        const GateSums s{sum_g[b][k], sum_gx[b][k], sum_r[b][k], sum_rx[b][k]};
        gates[m * at.tile + at.local + k] = s;
        a.gates[(n * a.branches + m) * a.c + at.c() + k] = s;
      }
    }
  }
  if (a.dlogits == nullptr) return;
  __syncthreads();
  const int local = static_cast<int>(threadIdx.x), c = at.c0 + local;
  if (local >= at.tile || c >= a.c) return;
  float dattention[kMaxBranches] = {};
#pragma unroll
  for (int m = 0; m < kMaxBranches; ++m) {
    if (m >= a.branches) continue;
    const GateSums s = gates[m * at.tile + local];
    dattention[m] = a.norm[m].gamma[c] * s.gx + a.norm[m].beta[c] * s.g;  // sum of g u
  }
  const int64_t start = n * a.branches * a.c + c;
  softmax_grad(dattention, a.attention + start, a.dlogits + start, a.c, a.branches);
}

// A block has a split of the positions, too.
template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads) fill_last_kernel(SKNET_OPS_ARGS FillArgs a) {
  const Pixels<kPack> at(a.last, a.c);
  if (!at.active) return;
  const int64_t map = at.slot / a.last.splits;
  Pack<float, kPack> p;
#pragma unroll
  for (int k = 0; k < kPack; ++k) p.v[k] = a.value[map / a.branches * a.c + at.c() + k];
  T* du = static_cast<T*>(a.du) + start_of<Nhwc>(map, at.c(), a.c, a.hw);
  at.for_each(a.hw, static_cast<int>(at.slot % a.last.splits), a.last.splits,
              [&](int i) { store_pack(p, du + along<Nhwc>(i, a.c)); });
}

// Shared memory: the scratch of a sum.
template <typename T, int kPack>
__global__ void __launch_bounds__(kThreads) select_grad_last_kernel(SKNET_OPS_ARGS SelectGradArgs a) {
  const Pixels<kPack> at(a.last, a.c);
  const int64_t n = at.slot, branch = static_cast<int64_t>(a.c) * a.hw;
  const int64_t row = n * a.branches * a.c + at.c(), start = start_of<Nhwc>(n * a.branches, at.c(), a.c, a.hw);
  const T *u = static_cast<const T*>(a.u) + start, *dy = static_cast<const T*>(a.dy);
  dy += start_of<Nhwc>(n, at.c(), a.c, a.hw);
  T* du = static_cast<T*>(a.du) + start;
  for (int first = 0; first < a.branches; first += kTogether) {
    float attention[kTogether][kPack] = {}, sums[kTogether][kPack] = {};
#pragma unroll
    for (int b = 0; b < kTogether; ++b) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        if (first + b < a.branches && at.active) {
          attention[b][k] = a.attention[row + static_cast<int64_t>(first + b) * a.c + k];
        }
      }
    }
    at.for_each(a.hw, 0, 1, [&](int i) {
      const auto g = load_pack<T, kPack>(dy + along<Nhwc>(i, a.c));
#pragma unroll
      for (int b = 0; b < kTogether; ++b) {
        if (first + b >= a.branches) continue;
        const int64_t place = (first + b) * branch + along<Nhwc>(i, a.c);
        auto p = load_pack<T, kPack>(u + place);
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
          sums[b][k] += p.v[k] * g.v[k];
          p.v[k] = attention[b][k] * g.v[k];
        }
        store_pack(p, du + place);
      }
    });
#pragma unroll
    for (int b = 0; b < kTogether; ++b) {
      if (first + b >= a.branches) continue;
      at.sum(sums[b], shared_memory());
      if (!at.leads() || !at.active) continue;
#pragma unroll
      for (int k = 0; k < kPack; ++k) a.dattention[row + static_cast<int64_t>(first + b) * a.c + k] = sums[b][k];
    }
  }
}

}  // namespace sknet_ops::cuda
