// SPDX-License-Identifier: Apache-2.0
// How a warp multiplies weights with a tile of source values in shared memory. Three ways, one interface: a warp has
// kTileOut output channels and kTilePixels positions; a thread holds kOut x kPixels of them, kOutRun neighbouring
// channels at a time.
//
//   Simt    source [channel][position] as float; a lane is a position, all lanes share the channels
//   Tensor  source [position][channel] as T (channels last); matrix instructions of 16 positions x 8 channels
//   Direct  no tile: every value from global memory; for shapes that no tile fits
#pragma once

#include "cuda/args.h"
#include "cuda/kernel/shape.h"
#include "cuda/platform.h"

namespace sknet_ops::cuda {

template <int kOutChannels, int kPositions>
struct Simt {
  static constexpr int kOut = kOutChannels, kPixels = kPositions, kTileOut = kOut, kTilePixels = kWarp * kPixels;
  static constexpr int kOutRun = kOut;
  static constexpr bool kTensor = false, kDirect = false;

  struct Sums {
    float v[kOut][kPixels] = {};
    __device__ float& at(int j, int i) { return v[j][i]; }
    __device__ float at(int j, int i) const { return v[j][i]; }
  };
  static __device__ int channel(int j, int) { return j; }
  static __device__ int pixel(int i, int lane) { return lane + i * kWarp; }
  static __device__ bool first(int lane) { return lane == 0; }
  static __device__ float sum(float v) { return warp_sum(v); }

  // sums += weights * source for one tap. `source` is moved to tap and first channel, `weight` to (channel, kOut).
  static __device__ void accumulate(Sums& sums, const float* source, const int (&base)[kPixels], int plane,
                                    const float* weight, int channels) {
#pragma unroll 2
    for (int c = 0; c < channels; ++c) {
      float w[kOut], x[kPixels];
#pragma unroll
      for (int j = 0; j < kOut; j += 4) {
        const float4 four = *reinterpret_cast<const float4*>(weight + c * kOut + j);
        w[j] = four.x, w[j + 1] = four.y, w[j + 2] = four.z, w[j + 3] = four.w;
      }
#pragma unroll
      for (int i = 0; i < kPixels; ++i) x[i] = source[c * plane + base[i]];
#pragma unroll
      for (int j = 0; j < kOut; ++j) {
#pragma unroll
        for (int i = 0; i < kPixels; ++i) sums.v[j][i] += w[j] * x[i];
      }
    }
  }
};

// Row g of a matrix is position 2 g, row g + 8 position 2 g + 1, so that a thread has neighbours.
struct Tensor {
  static constexpr int kRows = kTensorRows, kColumns = kTensorColumns;
  static constexpr int kOut = 2 * kColumns, kPixels = 2 * kRows, kTileOut = kTensorOut, kTilePixels = kTensorPixels;
  static constexpr int kOutRun = 2;
  static constexpr bool kTensor = true, kDirect = false;

  struct Sums {
    float v[kRows][kColumns][4] = {};
    __device__ float& at(int j, int i) { return v[i / 2][j / 2][i % 2 * 2 + j % 2]; }
    __device__ float at(int j, int i) const { return v[i / 2][j / 2][i % 2 * 2 + j % 2]; }
  };
  static __device__ int channel(int j, int lane) { return lane % 4 * 2 + j % 2 + j / 2 * 8; }
  static __device__ int pixel(int i, int lane) { return i / 2 * 16 + lane / 4 * 2 + i % 2; }
  static __device__ bool first(int lane) { return lane < 4; }
  static __device__ float sum(float v) {  // over the lanes with the same channels
#pragma unroll
    for (int mask = 16; mask >= 4; mask /= 2) v += shuffle_xor(v, mask);
    return v;
  }

  // `source` is moved to tap and first channel; base is in words. `weight`: (kTileOut, weight_row words).
  template <typename T>
  static __device__ void accumulate(Sums& sums, const uint32_t* source, const int (&base)[kPixels],
                                    const uint32_t* weight, int weight_row, int words, int lane) {
    const uint32_t* w = weight + lane / 4 * weight_row + lane % 4;
    for (int k = 0; k < words; k += 8) {
      uint32_t b[kColumns][2];
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        b[j][0] = w[j * 8 * weight_row + k];
        b[j][1] = w[j * 8 * weight_row + k + 4];
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const uint32_t *even = source + base[2 * i] + lane % 4 + k, *odd = source + base[2 * i + 1] + lane % 4 + k;
        const uint32_t values[4] = {even[0], odd[0], even[4], odd[4]};
#pragma unroll
        for (int j = 0; j < kColumns; ++j) mma<T>(sums.v[i][j], values, b[j]);
      }
    }
  }
};

struct Direct {
  static constexpr int kOut = 1, kPixels = kDirectPositions, kTileOut = 1, kTilePixels = kWarp * kPixels;
  static constexpr int kOutRun = 1;
  static constexpr bool kTensor = false, kDirect = true;

  struct Sums {
    float v[1][kPixels] = {};
    __device__ float& at(int j, int i) { return v[j][i]; }
    __device__ float at(int j, int i) const { return v[j][i]; }
  };
  static __device__ int channel(int, int) { return 0; }
  static __device__ int pixel(int i, int lane) { return lane + i * kWarp; }
  static __device__ bool first(int lane) { return lane == 0; }
  static __device__ float sum(float v) { return warp_sum(v); }
};

}  // namespace sknet_ops::cuda
