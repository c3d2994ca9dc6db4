// SPDX-License-Identifier: Apache-2.0
// What a kernel may use. Kernels are compiled twice from the same text: by nvcc, and with SKNET_OPS_EMULATE by the host
// compiler for emu/, where tests run them on the CPU. Whatever is not the same in both stands in this file or in emu/.
#pragma once

#include <cstdint>

#if defined(SKNET_OPS_EMULATE)
#include "cuda/emu/emu.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

namespace sknet_ops::cuda {

using Half = __half;
using Bfloat = __nv_bfloat16;

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(Half v) { return __half2float(v); }
__device__ inline float to_float(Bfloat v) { return __bfloat162float(v); }
__device__ inline void from_float(float v, float* to) { *to = v; }
__device__ inline void from_float(float v, Half* to) { *to = __float2half_rn(v); }
__device__ inline void from_float(float v, Bfloat* to) { *to = __float2bfloat16_rn(v); }

__device__ inline float* shared_memory() {
  extern __shared__ __align__(16) char memory[];
  return reinterpret_cast<float*>(memory);
}

__device__ inline float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
__device__ inline double shuffle_xor(double v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

__device__ inline void expect_aligned(const void*, int) {}  // what a GPU faults on and the emulator checks

// c += a b over 16 x 8 outputs, in words of 32 bits: a is 16 rows of 8 words, b 8 columns of 8 words. A word is two
// 16-bit values, or one float of which the tensor core reads the upper 19 bits. Needs compute capability 8.0.
template <typename T>
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();  // the planner asks for no tensor cores here
#else
  if constexpr (sizeof(T) == 4) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else if constexpr (std::is_same_v<T, Half>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#endif
}

// Four 8 x 8 matrices of 16-bit values, transposed: lane 8 i + r names row r of matrix i (16 bytes, 16-byte aligned).
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  __trap();
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#endif
}

}  // namespace sknet_ops::cuda
#endif

namespace sknet_ops::cuda {

// A float as the tensor core takes it: 10 bits of mantissa, rounded to nearest, ties away from zero.
__device__ inline float round_to_tf32(float v) {
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & 0xffffe000u;
  memcpy(&v, &bits, sizeof v);
  return v;
}

template <typename T>
__device__ inline float rounded(float v) {  // as T stores it
  T stored;
  from_float(v, &stored);
  return to_float(stored);
}

// A kernel's arguments stay where the launch puts them, also where an index into them is known at run time only.
#if defined(__CUDACC_VER_MAJOR__) && \
    (__CUDACC_VER_MAJOR__ > 11 || (__CUDACC_VER_MAJOR__ == 11 && __CUDACC_VER_MINOR__ >= 7))
#define SKNET_OPS_ARGS __grid_constant__ const
#else
#define SKNET_OPS_ARGS const
#endif

inline constexpr int kWarp = 32;
inline constexpr int kWarps = 8;  // a block of every kernel
inline constexpr int kThreads = kWarps * kWarp;

__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}
__device__ inline double warp_sum(double v) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

// One step of warp_sum_many: halves the values that a lane holds, or the lanes that hold the same.
template <int kWidth, int kBit, int N>
__device__ inline void halve(float (&v)[N], int lane) {
  if constexpr (kWidth == 0) {
    v[0] += shuffle_xor(v[0], kBit);
  } else {
    const bool upper = lane & kBit;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float low = v[i], high = v[i + kWidth];
      v[i] = (upper ? high : low) + shuffle_xor(upper ? low : high, kBit);
    }
  }
  if constexpr (kBit > 1) halve<kWidth / 2, kBit / 2>(v, lane);
}

// Sums N values over the warp at once; lane l returns the total of value l / (32 / N). N is a power of two.
template <int N>
__device__ inline float warp_sum_many(float (&v)[N], int lane) {
  halve<N / 2, 16>(v, lane);
  return v[0];
}

// Over the block, in a fixed order; every thread gets the sum. `scratch` holds kWarps values.
template <typename T>
__device__ inline T block_sum(T v, T* scratch) {
  v = warp_sum(v);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = v;
  __syncthreads();
  T total = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) total += scratch[i];
  return total;
}

}  // namespace sknet_ops::cuda
