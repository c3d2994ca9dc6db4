// SPDX-License-Identifier: Apache-2.0
// Gradient by the weights of all branches. A block holds a tile of x and of every branch's gradient by z; a warp takes
// one job at a time: some output channels x some input channels of one tap, summed over the positions of the tile. The
// sums of a job stay in shared memory, always added by the same warp in the same order, and leave once at the end: a
// second kernel adds the slots up. So the result is the same bits each time.
#pragma once

#include "cuda/kernel/load.h"
#include "cuda/kernel/shape.h"
#include "cuda/kernel/source.h"

namespace sknet_ops::cuda {

template <int kOutChannels>
struct SimtJob {
  static constexpr int kOut = kOutChannels, kIn = 4;
  static constexpr bool kTensor = false;
};

struct TensorJob {
  static constexpr int kOut = 16, kIn = 16;
  static constexpr bool kTensor = true;
};

// Of x, and of the gradient by z.
template <typename T, class LayoutX, class LayoutDz, class Job>
struct WgradBlock {
  const WgradArgs& a;
  const WgradTiling& t;
  int oc0, sc0, slot, lane, warp;
  float *x, *dz, *sums;
  int* table;

  __device__ explicit WgradBlock(const WgradArgs& args) : a(args), t(args.t) {
    oc0 = static_cast<int>(blockIdx.x % t.out_tiles) * t.out_tile;
    slot = static_cast<int>(blockIdx.x / t.out_tiles);
    sc0 = oc0 / a.co_group * a.ci_group;
    lane = static_cast<int>(threadIdx.x % kWarp);
    warp = static_cast<int>(threadIdx.x / kWarp);
    x = shared_memory();
    dz = x + t.source_words;
    table = reinterpret_cast<int*>(dz + t.dz_words);
    sums = dz + t.dz_words + t.table_words;
  }

  __device__ int in_words() const { return t.src_tile * static_cast<int>(sizeof(T)) / 4 + kTensorJobPad; }
  __device__ int out_words() const { return t.out_tile * static_cast<int>(sizeof(T)) / 4 + kTensorJobPad; }
  __device__ int tiles_across() const { return t.out_tile / Job::kOut; }
  __device__ int tiles_deep() const { return a.ci_group / Job::kIn; }
  __device__ int jobs(int m) const { return tiles_across() * tiles_deep() * a.kernel[m] * a.kernel[m]; }

  static constexpr bool kPairs = Job::kTensor && sizeof(T) == 2;

  // `channels` of each source, in rows of `words` (tensor cores) or planes; the same for x and for the gradient by z.
  template <class Plane>
  __device__ void load_planes(TileShape shape, float* to, int plane_words, int words, Plane plane) {
    const int channels = shape.channels;
    if constexpr (kPairs) {
      shape.channels /= 2;
      load_tile(
          shape,
          [&](int s, int c) { return PairOfPlanes<decltype(plane(s, c))>{plane(s, 2 * c), plane(s, 2 * c + 1)}; },
          [&](int s, int c, int position, const Pair& v) {
            put_pair<T>(v, to + s * plane_words + position * words + c);
          });
    } else {
      load_tile(shape, plane, [&](int s, int c, int position, float v) {
        if constexpr (Job::kTensor) {
          to[s * plane_words + position * words + c] = round_to_tf32(v);
        } else {
          to[(s * channels + c) * plane_words + position] = v;
        }
      });
    }
  }

  template <int kBatch, int kPack, class Channels>
  __device__ void load_channels(const TileShape& shape, float* to, int plane_words, int words, Channels channels) {
    load_tile_last<kBatch, kPack>(shape, channels, [&](int s, int c, int position, const auto& p) {
      if constexpr (Job::kTensor) {
        put_channels(p, reinterpret_cast<T*>(to + s * plane_words + position * words) + c);
      } else {
        put_planes(p, to + (s * shape.channels + c) * plane_words + position, plane_words);
      }
    });
  }

  __device__ const T* x_start(int64_t n, int s, int c) const {
    return static_cast<const T*>(a.x) +
           start_of<LayoutX>(n, s * a.source_channels + sc0 + c, a.src_channels, static_cast<int64_t>(a.h) * a.w);
  }

  template <int kPack>
  __device__ void load_x(int64_t n, const TileShape& shape) {
    if constexpr (LayoutX::kLast) {
      load_channels<4, kPack>(shape, x, t.src_plane, in_words(),
                              [&](int s, int c) { return ChannelsOfX<T, kPack>{x_start(n, s, c), a.src_channels}; });
    } else {
      load_planes(shape, x, t.src_plane, in_words(),
                  [&](int s, int c) { return PlaneOfX<T, LayoutX>{x_start(n, s, c), a.src_channels}; });
    }
  }

  template <int kPack>
  __device__ void load_dz(int64_t n, const TileShape& shape) {
    const int64_t hw = static_cast<int64_t>(a.h_out) * a.w_out;
    if constexpr (LayoutDz::kLast) {
      load_channels<2, kPack>(shape, dz, t.dz_plane, out_words(), [&](int m, int c) {
        return zgrad_channels<T, kPack>(a.dz, n, m, oc0 + c, a.out_channels, a.branches, hw);
      });
    } else {
      load_planes(shape, dz, t.dz_plane, out_words(), [&](int m, int c) {
        return zgrad_plane<T, LayoutDz>(a.dz, n, m, oc0 + c, a.out_channels, a.branches, hw);
      });
    }
  }

  __device__ void tile(int64_t n, int index) {
    const int y0 = index / t.tiles_w * t.th, x0 = index % t.tiles_w * t.tw;
    const TileShape of_x{a.sources, t.src_tile, t.src_h, t.src_w, y0 * a.stride - t.origin, x0 * a.stride - t.origin,
                         a.h,       a.w,        t.lanes};
    const TileShape of_dz{a.branches, t.out_tile, t.th, t.tw, y0, x0, a.h_out, a.w_out, t.lanes};
    __syncthreads();
    // Groups that have a tile are whole packs on both sides.
    constexpr int kPackX = !LayoutX::kLast ? 1 : Job::kTensor ? 16 / sizeof(T) : 4, kPackDz = LayoutDz::kLast ? 4 : 1;
    if (kPackX > 1 && aligned(a.x)) {
      load_x<kPackX>(n, of_x);
    } else {
      load_x<1>(n, of_x);
    }
    if (kPackDz > 1 && aligned(a.dz.g, a.dz.z)) {
      load_dz<kPackDz>(n, of_dz);
    } else {
      load_dz<1>(n, of_dz);
    }
    __syncthreads();

    float* to = sums;
    int job = warp;
    for (int m = 0; m < a.branches; ++m) {
      const int count = jobs(m);
      for (; job < count; job += kWarps) run_job(m, job, to + job * Job::kOut * Job::kIn);
      job -= count;
      to += count * Job::kOut * Job::kIn;
    }
  }

  __device__ void run_job(int m, int job, float* to) {
    const int tap = job % (a.kernel[m] * a.kernel[m]), rest = job / (a.kernel[m] * a.kernel[m]);
    const int ci = rest % tiles_deep() * Job::kIn, oc = rest / tiles_deep() * Job::kOut;
    const int channel = oc / a.co_group * a.ci_group + ci, s = a.sources > 1 ? m : 0;
    const int off_y = tap / a.kernel[m] * a.dilation[m] - a.padding[m] + t.origin;
    const int off_x = tap % a.kernel[m] * a.dilation[m] - a.padding[m] + t.origin;
    const int offset = off_y * t.src_w + off_x;
    if constexpr (Job::kTensor) {
      const float* from_x = x + s * t.src_plane + offset * in_words() + channel * static_cast<int>(sizeof(T)) / 4;
      const float* from_dz = dz + m * t.dz_plane + oc * static_cast<int>(sizeof(T)) / 4;
      float c[2][4] = {};
      __syncwarp();  // matrix instructions take whole warps
      if constexpr (sizeof(T) == 2) {
        const int matrix = lane / 8, row = lane % 8;
        for (int q = 0; q < t.pixels; q += 16) {
          uint32_t left[4], right[4];
          load_matrices_transposed(left, from_dz + (q + matrix / 2 * 8 + row) * out_words() + matrix % 2 * 4);
          load_matrices_transposed(right, from_x + table[q + matrix % 2 * 8 + row] * in_words() + matrix / 2 * 4);
          const uint32_t columns[2][2] = {{right[0], right[1]}, {right[2], right[3]}};
          mma<T>(c[0], left, columns[0]);
          mma<T>(c[1], left, columns[1]);
        }
      } else {
        const uint32_t *words_dz = reinterpret_cast<const uint32_t*>(from_dz) + lane / 4,
                       *words_x = reinterpret_cast<const uint32_t*>(from_x) + lane / 4;
        for (int q0 = 0; q0 < t.pixels; q0 += 8) {
          const int q = q0 + lane % 4;
          const uint32_t *now = words_dz + q * out_words(), *then = words_dz + (q + 4) * out_words();
          const uint32_t *x_now = words_x + table[q] * in_words(), *x_then = words_x + table[q + 4] * in_words();
          const uint32_t left[4] = {now[0], now[8], then[0], then[8]};
          const uint32_t columns[2][2] = {{x_now[0], x_then[0]}, {x_now[8], x_then[8]}};
          mma<T>(c[0], left, columns[0]);
          mma<T>(c[1], left, columns[1]);
        }
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          to[(lane / 4 + i / 2 * 8) * Job::kIn + j * 8 + lane % 4 * 2 + i % 2] += c[j][i];
        }
      }
    } else {
      const float* from_x = x + (s * t.src_tile + channel) * t.src_plane + offset;
      const float* from_dz = dz + (m * t.out_tile + oc) * t.dz_plane;
      float v[Job::kOut * Job::kIn] = {};
      for (int q = lane; q < t.pixels; q += kWarp) {
        const int base = table[q];
        float in[Job::kIn];
#pragma unroll
        for (int i = 0; i < Job::kIn; ++i) in[i] = from_x[i * t.src_plane + base];
#pragma unroll
        for (int j = 0; j < Job::kOut; ++j) {
          const float g = from_dz[j * t.dz_plane + q];
#pragma unroll
          for (int i = 0; i < Job::kIn; ++i) v[j * Job::kIn + i] += g * in[i];
        }
      }
      constexpr int kLanes = kWarp / (Job::kOut * Job::kIn);  // that end up with the same value
      const float total = warp_sum_many(v, lane);
      if (lane % kLanes == 0) to[lane / kLanes] += total;
    }
  }

  __device__ void store() {
    __syncthreads();
    const float* from = sums;
    for (int m = 0; m < a.branches; ++m) {
      const int taps = a.kernel[m] * a.kernel[m], count = jobs(m) * Job::kOut * Job::kIn;
      float* to = a.partial + slot * a.weights + a.weight_offset[m];
      for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
        const int in = i % Job::kIn, out = i / Job::kIn % Job::kOut, job = i / (Job::kIn * Job::kOut);
        const int tap = job % taps, rest = job / taps;
        const int ci = rest % tiles_deep() * Job::kIn + in, oc = oc0 + rest / tiles_deep() * Job::kOut + out;
        to[(static_cast<int64_t>(oc) * a.ci_group + ci) * taps + tap] = from[i];
      }
      from += count;
    }
  }

  __device__ void run() {
    int count = 0;
    for (int m = 0; m < a.branches; ++m) count += jobs(m) * Job::kOut * Job::kIn;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) sums[i] = 0.0f;
    // Positions behind the last of the tile count nothing: their gradient is zero and stays so.
    for (int i = static_cast<int>(threadIdx.x); i < t.dz_words; i += kThreads) dz[i] = 0.0f;
    for (int q = static_cast<int>(threadIdx.x); q < t.pixels; q += kThreads) {
      table[q] = q < t.th * t.tw ? q / t.tw * a.stride * t.src_w + q % t.tw * a.stride : 0;
    }
    const int64_t units = a.n * t.tiles_h * t.tiles_w;
    for (int64_t unit = slot; unit < units; unit += t.slots) {
      tile(unit / (t.tiles_h * t.tiles_w), static_cast<int>(unit % (t.tiles_h * t.tiles_w)));
    }
    store();
  }
};

template <typename T, class LayoutX, class LayoutDz, class Job>
__global__ void __launch_bounds__(kThreads, wgrad_resident(Job::kOut, LayoutX::kLast || LayoutDz::kLast))
    wgrad_kernel(SKNET_OPS_ARGS WgradArgs a) {
  WgradBlock<T, LayoutX, LayoutDz, Job>(a).run();
}

// For shapes that no tile fits: a warp is one weight, and reads everything from global memory.
template <typename T, class LayoutX, class LayoutDz>
__global__ void __launch_bounds__(kThreads, kWgradDirectResident) wgrad_direct_kernel(SKNET_OPS_ARGS WgradArgs a) {
  const int64_t blocks = (a.weights + kWarps - 1) / kWarps;
  const int64_t slot = blockIdx.x / blocks, weight = blockIdx.x % blocks * kWarps + threadIdx.x / kWarp;
  if (weight >= a.weights) return;
  int m = a.branches - 1;
  while (weight < a.weight_offset[m]) --m;
  const int64_t local = weight - a.weight_offset[m];
  const int k = a.kernel[m], tap = static_cast<int>(local % (k * k));
  const int ci = static_cast<int>(local / (k * k) % a.ci_group), oc = static_cast<int>(local / (k * k) / a.ci_group);
  const int s = a.sources > 1 ? m : 0;
  const int shift_y = tap / k * a.dilation[m] - a.padding[m], shift_x = tap % k * a.dilation[m] - a.padding[m];
  float total = 0.0f;
  for (int64_t n = slot; n < a.n; n += a.t.slots) {
    const int channel = s * a.source_channels + oc / a.co_group * a.ci_group + ci;
    const PlaneOfX<T, LayoutX> x{
        static_cast<const T*>(a.x) + start_of<LayoutX>(n, channel, a.src_channels, static_cast<int64_t>(a.h) * a.w),
        a.src_channels};
    const auto dz =
        zgrad_plane<T, LayoutDz>(a.dz, n, m, oc, a.out_channels, a.branches, static_cast<int64_t>(a.h_out) * a.w_out);
    float sum = 0.0f;
    for (int pos = static_cast<int>(threadIdx.x % kWarp); pos < a.h_out * a.w_out; pos += kWarp) {
      const int y = pos / a.w_out * a.stride + shift_y, at = pos % a.w_out * a.stride + shift_x;
      if (y >= 0 && y < a.h && at >= 0 && at < a.w) sum += dz(pos) * x(y * a.w + at);
    }
    total += sum;
  }
  total = warp_sum(total);
  if (threadIdx.x % kWarp == 0) a.partial[slot * a.weights + weight] = total;
}

}  // namespace sknet_ops::cuda
