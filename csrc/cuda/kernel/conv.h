// SPDX-License-Identifier: Apache-2.0
// All branches of the grouped convolution, or its gradient by the input, from one read of the source tile.
//
// Forward: the output of branch m is its convolution of the one source (or, with split input, of source m); the
// epilogue stores z and takes moments, or normalises, activates, stores u and takes the sum over positions. Gradient:
// the sources are the gradients by z of the branches, computed while the tile is loaded, and the output is the sum over
// the branches. With a stride s the positions fall into s * s classes that meet the same taps; a warp takes positions
// of one class.
#pragma once

#include "cuda/kernel/fragment.h"
#include "cuda/kernel/load.h"
#include "cuda/kernel/source.h"

namespace sknet_ops::cuda {

// From, To: layouts of the source and of the output.
template <typename T, class From, class To, class Frag, bool kGrad>
struct ConvBlock {
  const ConvArgs& a;
  const ConvTiling& t;

  __device__ explicit ConvBlock(const ConvArgs& args) : a(args), t(args.t) {}

  // Worked out where they are needed: most come from what every thread has at hand, and registers are what is short.
  __device__ int lane() const { return static_cast<int>(threadIdx.x % kWarp); }
  __device__ int warp() const { return static_cast<int>(threadIdx.x / kWarp); }
  __device__ int warps_across() const { return t.out_tile / Frag::kTileOut; }
  __device__ int part() const { return static_cast<int>(blockIdx.x % (t.parts * t.out_tiles)) / t.out_tiles; }
  __device__ int oc0() const { return static_cast<int>(blockIdx.x % t.out_tiles) * t.out_tile; }
  __device__ int sc0() const { return oc0() / a.co_group * a.ci_group; }
  __device__ int slot() const { return static_cast<int>(blockIdx.x / (t.parts * t.out_tiles)); }
  __device__ float* weights() const { return shared_memory(); }
  __device__ float* source() const { return shared_memory() + t.weight_words; }
  __device__ float* sums() const { return source() + t.source_words; }

  __device__ int first_branch() const { return t.parts > 1 ? part() : 0; }
  __device__ int end_branch() const { return t.parts > 1 ? part() + 1 : a.branches; }
  __device__ int group_words() const { return Frag::kTensor ? a.ci_group * static_cast<int>(sizeof(T)) / 4 : 0; }
  __device__ int position_words() const {
    return Frag::kTensor ? t.src_tile * static_cast<int>(sizeof(T)) / 4 + kTensorPositionPad : 1;
  }

  __device__ float weight_at(int m, int oc, int ci, int tap) const {
    const int taps = a.kernel[m] * a.kernel[m];
    const int64_t row = kGrad ? (static_cast<int64_t>(oc / a.co_group) * a.ci_group + ci) * a.co_group + oc % a.co_group
                              : static_cast<int64_t>(oc) * a.ci_group + ci;
    return a.weight[m][row * taps + tap];
  }

  __device__ void load_weights() {
    float* to = weights();
    for (int m = first_branch(); m < end_branch(); ++m) {
      const int taps = a.kernel[m] * a.kernel[m], count = taps * t.out_tile * a.ci_group;
      for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
        const int tap = i % taps, rest = i / taps;
        const int oc = kGrad ? rest % t.out_tile : rest / a.ci_group;
        const int ci = kGrad ? rest / t.out_tile : rest % a.ci_group;
        const float w = weight_at(m, oc0() + oc, ci, tap);
        if constexpr (Frag::kTensor) {
          const int row = tap * t.out_tile + oc;
          T* at = reinterpret_cast<T*>(to + row * (group_words() + kTensorWeightPad)) + ci;
          from_float(sizeof(T) == 4 ? round_to_tf32(w) : w, at);
        } else {
          to[((tap * warps_across() + oc / Frag::kOut) * a.ci_group + ci) * Frag::kOut + oc % Frag::kOut] = w;
        }
      }
      to += weight_words(m);
    }
  }

  __device__ int weight_words(int m) const {
    return a.kernel[m] * a.kernel[m] * t.out_tile * (Frag::kTensor ? group_words() + kTensorWeightPad : a.ci_group);
  }

  // Channel c of source number s of image n; of the gradient by z, source number s is branch number s.
  __device__ auto plane(int64_t n, int s, int c) const {
    const int64_t hw = static_cast<int64_t>(a.src_map_h) * a.src_map_w;
    if constexpr (kGrad) {
      return zgrad_plane<T, From>(a.dz, n, s, c, a.src_channels, a.branches, hw);
    } else {
      return PlaneOfX<T, From>{x_start(n, s, c), a.src_channels};
    }
  }

  // Channels c to c + kCount, where they are neighbours in memory.
  template <int kCount>
  __device__ auto channels(int64_t n, int s, int c) const {
    const int64_t hw = static_cast<int64_t>(a.src_map_h) * a.src_map_w;
    if constexpr (kGrad) {
      return zgrad_channels<T, kCount>(a.dz, n, s, c, a.src_channels, a.branches, hw);
    } else {
      return ChannelsOfX<T, kCount>{x_start(n, s, c), a.src_channels};
    }
  }

  __device__ const T* x_start(int64_t n, int s, int c) const {
    const int64_t hw = static_cast<int64_t>(a.src_map_h) * a.src_map_w;
    return static_cast<const T*>(a.x) + start_of<From>(n, s * a.source_channels + c, a.src_channels, hw);
  }

  // Number of the first source in the tile.
  __device__ int first_source() const { return kGrad ? first_branch() : 0; }

  __device__ void load_source(int64_t n, int first_row, int first_column) {
    const TileShape shape{a.sources,    t.src_tile,  t.src_h,     t.src_w, first_row,
                          first_column, a.src_map_h, a.src_map_w, t.lanes};
    if constexpr (From::kLast) {
      constexpr int kPack = Frag::kTensor && !kGrad ? 16 / sizeof(T) : 4;
      if (a.ci_group % kPack == 0 && aligned(a.x, a.dz.g, a.dz.z)) {
        load_channels<kPack>(n, shape);
      } else {
        load_channels<1>(n, shape);
      }
    } else {
      load_planes(n, shape);
    }
  }

  template <int kPack>
  __device__ void load_channels(int64_t n, const TileShape& shape) {
    // Of a gradient's source two maps are read, and what belongs to their channels takes registers, too.
    constexpr int kBatch = !kGrad ? 4 : sizeof(T) == 4 ? 1 : 2;
    load_tile_last<kBatch, kPack>(
        shape, [&](int s, int c) { return channels<kPack>(n, first_source() + s, sc0() + c); },
        [&](int s, int c, int position, const auto& p) {
          if constexpr (Frag::kTensor) {
            put_channels(p, reinterpret_cast<T*>(source() + s * t.src_plane + position * position_words()) + c);
          } else {
            put_planes(p, source() + (s * t.src_tile + c) * t.src_plane + position, t.src_plane);
          }
        });
  }

  __device__ void load_planes(int64_t n, TileShape shape) {
    constexpr bool kPairs = Frag::kTensor && sizeof(T) == 2;
    if constexpr (kPairs) shape.channels /= 2;
    const int s0 = first_source(), c0 = sc0();
    load_tile(
        shape,
        [&](int s, int c) {
          if constexpr (kPairs) {
            return PairOfPlanes<decltype(plane(n, s, c))>{plane(n, s0 + s, c0 + 2 * c),
                                                          plane(n, s0 + s, c0 + 2 * c + 1)};
          } else {
            return plane(n, s0 + s, c0 + c);
          }
        },
        [&](int s, int c, int position, auto v) {
          if constexpr (kPairs) {
            put_pair<T>(v, source() + s * t.src_plane + position * position_words() + c);
          } else if constexpr (Frag::kTensor) {
            source()[s * t.src_plane + position * position_words() + c] = round_to_tf32(v);
          } else {
            source()[(s * t.src_tile + c) * t.src_plane + position] = v;
          }
        });
  }

  // Where tap k along one axis reads, in rows of the tile; false if it meets no position of this class.
  __device__ bool tap_offset(int m, int k, int class_offset, int& offset) const {
    if constexpr (kGrad) {
      const int at = class_offset + a.padding[m] - k * a.dilation[m];
      offset = at / a.stride - t.origin;
      return at % a.stride == 0;
    } else {
      offset = k * a.dilation[m] - a.padding[m] + t.origin;
      return true;
    }
  }

  __device__ void accumulate(typename Frag::Sums& acc, int m, const float* w, const int (&base)[Frag::kPixels],
                             int class_y, int class_x) const {
    const int across = warp() % warps_across(), oc = across * Frag::kTileOut;
    const int channel = oc / a.co_group * a.ci_group;  // of the warp()'s group in the tile
    const int s = a.sources > 1 ? m - first_branch() : 0;
    for (int ky = 0; ky < a.kernel[m]; ++ky) {
      int off_y, off_x;
      if (!tap_offset(m, ky, class_y, off_y)) continue;
      for (int kx = 0; kx < a.kernel[m]; ++kx) {
        if (!tap_offset(m, kx, class_x, off_x)) continue;
        const int tap = ky * a.kernel[m] + kx, offset = off_y * t.src_w + off_x;
        if constexpr (Frag::kTensor) {
          const int weight_row = group_words() + kTensorWeightPad;
          const float* from =
              source() + s * t.src_plane + offset * position_words() + channel * static_cast<int>(sizeof(T)) / 4;
          Frag::template accumulate<T>(acc, reinterpret_cast<const uint32_t*>(from), base,
                                       reinterpret_cast<const uint32_t*>(w + (tap * t.out_tile + oc) * weight_row),
                                       weight_row, group_words(), lane());
        } else {
          Frag::accumulate(acc, source() + (s * t.src_tile + channel) * t.src_plane + offset, base, t.src_plane,
                           w + (tap * warps_across() + across) * a.ci_group * Frag::kOut, a.ci_group);
        }
      }
    }
  }

  // Without a tile: for each position of the warp(), every tap that meets the map.
  __device__ void accumulate_direct(typename Frag::Sums& acc, int64_t n, int m, const int (&y)[Frag::kPixels],
                                    const int (&x)[Frag::kPixels], const int (&pos)[Frag::kPixels]) const {
    const int oc = oc0() + warp() % warps_across(), s = kGrad || a.sources > 1 ? m : 0;
    if (oc >= a.out_channels) return;
    const int first = oc / a.co_group * a.ci_group;
    for (int ci = 0; ci < a.ci_group; ++ci) {
      const auto values = plane(n, s, first + ci);
      for (int tap = 0; tap < a.kernel[m] * a.kernel[m]; ++tap) {
        const float w = weight_at(m, oc, ci, tap);
        const int ky = tap / a.kernel[m] * a.dilation[m], kx = tap % a.kernel[m] * a.dilation[m];
#pragma unroll
        for (int i = 0; i < Frag::kPixels; ++i) {
          int at_y, at_x;
          bool hit = pos[i] >= 0;
          if constexpr (kGrad) {
            at_y = y[i] + a.padding[m] - ky, at_x = x[i] + a.padding[m] - kx;
            hit = hit && at_y % a.stride == 0 && at_x % a.stride == 0;
            at_y /= a.stride, at_x /= a.stride;
          } else {
            at_y = y[i] * a.stride - a.padding[m] + ky, at_x = x[i] * a.stride - a.padding[m] + kx;
          }
          hit = hit && at_y >= 0 && at_y < a.src_map_h && at_x >= 0 && at_x < a.src_map_w;
          if (hit) acc.v[0][i] += w * values(at_y * a.src_map_w + at_x);
        }
      }
    }
  }

  __device__ Moments* moments_at(int w, int m, int channel) const {
    return reinterpret_cast<Moments*>(sums()) + (w * a.branches + m) * Frag::kTileOut + channel;
  }

  // mean, scale, beta of a channel of the block, behind the sums over positions.
  __device__ float* affine_at(int m, int local) const {
    return sums() + kWarps * Frag::kTileOut + 3 * (m * t.out_tile + local);
  }

  __device__ void load_affines() {
    for (int i = static_cast<int>(threadIdx.x); i < a.branches * t.out_tile; i += kThreads) {
      const int m = i / t.out_tile, local = i % t.out_tile, c = min(oc0() + local, a.out_channels - 1);
      const Affine affine = make_affine(a.norm[m], c, c);
      float* to = affine_at(m, local);
      to[0] = affine.mean, to[1] = affine.scale, to[2] = affine.beta;
    }
  }

  __device__ void clear_sums() {
    const int words = kWarps * Frag::kTileOut * (a.mode == ConvMode::kStats ? 3 * a.branches : 1);
    for (int i = static_cast<int>(threadIdx.x); i < words; i += kThreads) sums()[i] = 0.0f;
  }

  // Turns the sums of one branch into what is stored, and takes its part of the statistics or of the sum over positions
  // (-1: none).
  __device__ void finish(typename Frag::Sums& acc, int m, const int (&pos)[Frag::kPixels],
                         float (&pooled)[Frag::kOut]) {
    float count = 0.0f;
    if (a.mode == ConvMode::kStats) {
#pragma unroll
      for (int i = 0; i < Frag::kPixels; ++i) count += pos[i] >= 0 ? 1.0f : 0.0f;
      count = Frag::sum(count);
    }
#pragma unroll
    for (int j = 0; j < Frag::kOut; ++j) {
      const int local = Frag::channel(j, lane());
      float total = 0.0f;
      if (a.mode == ConvMode::kFold) {
        const float* affine = affine_at(m, warp() % warps_across() * Frag::kTileOut + local);
        const float mean = affine[0], scale = affine[1], beta = affine[2];
#pragma unroll
        for (int i = 0; i < Frag::kPixels; ++i) acc.at(j, i) = activate((acc.at(j, i) - mean) * scale + beta, a.relu);
      } else {
#pragma unroll
        for (int i = 0; i < Frag::kPixels; ++i) acc.at(j, i) = rounded<T>(acc.at(j, i));
      }
#pragma unroll
      for (int i = 0; i < Frag::kPixels; ++i) total += pos[i] >= 0 ? acc.at(j, i) : 0.0f;
      pooled[j] = total;
      if (a.mode == ConvMode::kStats && count > 0.0f) {  // the same for all lanes
        const float mean = Frag::sum(total) / count;
        float m2 = 0.0f;
#pragma unroll
        for (int i = 0; i < Frag::kPixels; ++i) {
          m2 += pos[i] >= 0 ? (acc.at(j, i) - mean) * (acc.at(j, i) - mean) : 0.0f;
        }
        m2 = Frag::sum(m2);
        if (Frag::first(lane())) merge(*moments_at(warp(), m, local), {count, mean, m2});
      }
    }
  }

  // Branch m of z or u, or this part of dx.
  __device__ void store(const typename Frag::Sums& acc, int64_t n, int m, const int (&pos)[Frag::kPixels]) const {
    const int64_t hw = static_cast<int64_t>(a.h) * a.w, map = kGrad ? n : n * a.branches + m;
    const int oc = oc0() + warp() % warps_across() * Frag::kTileOut;
    const int channels = kGrad ? t.parts * a.out_channels : a.out_channels,
              first = kGrad && t.parts > 1 ? part() * a.out_channels : 0;
    if (oc >= a.out_channels) return;  // where a channel is a tile; other tiles divide the channels
    T* out = static_cast<T*>(a.out) + start_of<To>(map, first + oc, channels, hw);
    if constexpr (To::kLast) {
      constexpr int kRun = Frag::kOutRun;
      const bool whole = aligned(a.out);
#pragma unroll
      for (int i = 0; i < Frag::kPixels; ++i) {
        if (pos[i] < 0) continue;
        T* to = out + along<To>(pos[i], channels);
#pragma unroll
        for (int j = 0; j < Frag::kOut; j += kRun) {
          Pack<float, kRun> p;
#pragma unroll
          for (int k = 0; k < kRun; ++k) p.v[k] = acc.at(j + k, i);
          if (whole) {
            store_pack(p, to + Frag::channel(j, lane()));
          } else {
#pragma unroll
            for (int k = 0; k < kRun; ++k) from_float(p.v[k], to + Frag::channel(j, lane()) + k);
          }
        }
      }
    } else {
#pragma unroll
      for (int j = 0; j < Frag::kOut; ++j) {
        T* plane = out + Frag::channel(j, lane()) * hw;
#pragma unroll
        for (int i = 0; i < Frag::kPixels; ++i) {
          if (pos[i] >= 0) from_float(acc.at(j, i), plane + pos[i]);
        }
      }
    }
  }

  __device__ void tile(int64_t n, int index) {
    const int step_out = kGrad ? a.stride : 1, step_source = kGrad ? 1 : a.stride;
    const int y0 = index / t.tiles_w * t.th, x0 = index % t.tiles_w * t.tw;
    if constexpr (!Frag::kDirect) {
      __syncthreads();  // nobody reads the previous tile any more
      if constexpr (kGrad) {
        load_source(n, y0 / a.stride + t.origin, x0 / a.stride + t.origin);
      } else {
        load_source(n, y0 * a.stride - t.origin, x0 * a.stride - t.origin);
      }
      __syncthreads();
    }
    const int sub_h = t.th / step_out, sub_w = t.tw / step_out;
    const int chunks = (sub_h * sub_w + Frag::kTilePixels - 1) / Frag::kTilePixels;
    const int items = chunks * (kGrad ? step_out * step_out : a.branches);
    const int warps_along = kWarps / warps_across();
    if (warp() >= warps_along * warps_across()) return;
    for (int item = warp() / warps_across(); item < items; item += warps_along) {
      if constexpr (Frag::kTensor) __syncwarp();  // matrix instructions take whole warps, and an item's end parts them
      // Which branch, or (gradient) which class of positions.
      const int kind = item / chunks, class_y = kGrad ? kind / step_out : 0, class_x = kGrad ? kind % step_out : 0;
      int base[Frag::kPixels], y[Frag::kPixels], x[Frag::kPixels], pos[Frag::kPixels];
#pragma unroll
      for (int i = 0; i < Frag::kPixels; ++i) {
        int q = item % chunks * Frag::kTilePixels + Frag::pixel(i, lane());
        const bool in_tile = q < sub_h * sub_w;
        if (!in_tile) q = 0;  // any place in the tile
        const int qy = q / sub_w, qx = q % sub_w;
        y[i] = y0 + qy * step_out + class_y, x[i] = x0 + qx * step_out + class_x;
        pos[i] = in_tile && y[i] < a.h && x[i] < a.w ? y[i] * a.w + x[i] : -1;
        base[i] = (qy * step_source * t.src_w + qx * step_source) * position_words();
      }
      if constexpr (kGrad) {
        typename Frag::Sums acc;
        const float* w = weights();
        for (int m = first_branch(); m < end_branch(); ++m) {
          if constexpr (Frag::kDirect) {
            accumulate_direct(acc, n, m, y, x, pos);
          } else {
            accumulate(acc, m, w, base, class_y, class_x);
            w += weight_words(m);
          }
        }
        store(acc, n, 0, pos);
      } else {
        float pooled[Frag::kOut] = {};
        typename Frag::Sums acc;
        if constexpr (Frag::kDirect) {
          accumulate_direct(acc, n, kind, y, x, pos);
        } else {
          const float* w = weights();
          for (int m = 0; m < kind; ++m) w += weight_words(m);
          accumulate(acc, kind, w, base, 0, 0);
        }
        finish(acc, kind, pos, pooled);
        store(acc, n, kind, pos);
        if (a.mode == ConvMode::kFold && a.pooled != nullptr) {
#pragma unroll
          for (int j = 0; j < Frag::kOut; ++j) {
            const float total = Frag::sum(pooled[j]);
            if (Frag::first(lane())) sums()[warp() * Frag::kTileOut + Frag::channel(j, lane())] += total;
          }
        }
      }
    }
  }

  __device__ void store_pooled(int64_t n) {
    __syncthreads();
    const int local = static_cast<int>(threadIdx.x);
    if (local < t.out_tile && oc0() + local < a.out_channels) {
      float total = 0.0f;
      for (int w = local / Frag::kTileOut; w < kWarps; w += warps_across()) {
        total += sums()[w * Frag::kTileOut + local % Frag::kTileOut];
      }
      a.pooled[(n * t.splits + slot() % t.splits) * a.out_channels + oc0() + local] = total;
    }
    __syncthreads();
    clear_sums();
    __syncthreads();
  }

  __device__ void store_moments() {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < t.out_tile * a.branches; i += kThreads) {
      const int local = i % t.out_tile, m = i / t.out_tile;
      if (oc0() + local >= a.out_channels) continue;
      Moments all{};
      for (int w = local / Frag::kTileOut; w < kWarps; w += warps_across()) {
        merge(all, *moments_at(w, m, local % Frag::kTileOut));
      }
      const int slots = t.image_slots * t.splits;
      a.moments[(static_cast<int64_t>(m) * a.out_channels + oc0() + local) * slots + slot()] = all;
    }
  }

  __device__ void run() {
    if constexpr (!Frag::kDirect) load_weights();
    if constexpr (!kGrad) {
      clear_sums();
      if (a.mode == ConvMode::kFold) load_affines();
      __syncthreads();
    }
    const int split = slot() % t.splits;
    for (int64_t n = slot() / t.splits; n < a.n; n += t.image_slots) {
      for (int index = split; index < t.tiles_h * t.tiles_w; index += t.splits) tile(n, index);
      if constexpr (!kGrad) {
        if (a.mode == ConvMode::kFold && a.pooled != nullptr) store_pooled(n);
      }
    }
    if constexpr (!kGrad) {
      if (a.mode == ConvMode::kStats) store_moments();
    }
  }
};

template <typename T, class From, class To, class Frag, bool kGrad>
__global__ void __launch_bounds__(kThreads, Frag::kTensor ? 2 : 3) conv_kernel(SKNET_OPS_ARGS ConvArgs a) {
  ConvBlock<T, From, To, Frag, kGrad>(a).run();
}

}  // namespace sknet_ops::cuda
