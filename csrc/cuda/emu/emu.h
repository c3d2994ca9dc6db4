// SPDX-License-Identifier: Apache-2.0
// A CPU that plays GPU: the kernels' own text, compiled by the host compiler, one fiber a thread. It shows whether the
// arithmetic, the indexing and the barriers are right. It says nothing of speed, and it is no GPU: neither the memory
// model nor the compiler is the same.
//
// Blocks run one after the other. Within a block each fiber runs until it meets a barrier, so a missing barrier makes
// results depend on the order, which SKNET_OPS_EMU_ORDER=reverse turns round. Shared memory starts as NaN, and its end
// is watched.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct EmuDim {
  unsigned x, y, z;
};
struct float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};
extern EmuDim threadIdx, blockIdx, blockDim, gridDim;

void __syncthreads();
void __syncwarp();

using std::min;

namespace sknet_ops::cuda {

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};

float to_float(Half v);
inline float to_float(float v) { return v; }
inline float to_float(Bfloat v) {
  const uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}
void from_float(float v, Half* to);
void from_float(float v, Bfloat* to);
inline void from_float(float v, float* to) { *to = v; }

float* shared_memory();
void expect_aligned(const void* address, int bytes);
float shuffle_xor(float v, int mask);
double shuffle_xor(double v, int mask);

namespace emu {

// Runs body() as every thread of the grid, as if compiled for that architecture (10 major + minor). Throws
// std::logic_error on what a GPU would not forgive: a barrier that not all threads reach, a warp operation with lanes
// missing, a matrix instruction that the architecture has not, a write past the shared memory.
void run(const std::function<void()>& body, int code, EmuDim grid, EmuDim block, size_t shared_bytes);

// Of matrix instructions, which come with compute capability 8.0.
void expect_tensor_cores();

// All lanes of the warp leave `mine` (at most 64 bytes); each gets the 32 in order.
const char* exchange(const void* mine, size_t bytes);

float tf32_value(uint32_t word);

}  // namespace emu

template <typename T>
void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emu::expect_tensor_cores();
  constexpr int kValues = sizeof(T) == 4 ? 1 : 2;  // in a word
  auto value = [](uint32_t word, int i) {
    if constexpr (sizeof(T) == 4) {
      return emu::tf32_value(word);
    } else {
      return to_float(T{static_cast<uint16_t>(word >> (16 * i))});
    }
  };
  struct Words {
    uint32_t a[4], b[2];
  } mine;
  std::memcpy(mine.a, a, sizeof mine.a);
  std::memcpy(mine.b, b, sizeof mine.b);
  const Words* lanes = reinterpret_cast<const Words*>(emu::exchange(&mine, sizeof mine));
  const int lane = threadIdx.x % 32;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + (i / 2) * 8, column = lane % 4 * 2 + i % 2;
    double sum = c[i];
    for (int word = 0; word < 8; ++word) {
      const uint32_t left = lanes[row % 8 * 4 + word % 4].a[row / 8 + word / 4 * 2];
      const uint32_t right = lanes[column * 4 + word % 4].b[word / 4];
      for (int k = 0; k < kValues; ++k) sum += static_cast<double>(value(left, k)) * value(right, k);
    }
    c[i] = static_cast<float>(sum);
  }
}

void load_matrices_transposed(uint32_t (&r)[4], const void* row);

}  // namespace sknet_ops::cuda
