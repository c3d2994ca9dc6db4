// SPDX-License-Identifier: Apache-2.0
// Launching a kernel: counted, checked, and the same call for the device and for the emulator.
#pragma once

#include <limits>
#include <string>

#include "cuda/context.h"
#include "cuda/platform.h"

namespace sknet_ops::cuda {

// Shared memory, a kernel's own and a launch's together, that a block gets without asking.
constexpr int kSharedWithoutAsking = 48 << 10;

#if !defined(SKNET_OPS_EMULATE)
[[noreturn]] inline void fail(const char* op, const char* call, cudaError_t error, const char* file, int line) {
  throw CudaError(std::string(op) + ": " + file + ":" + std::to_string(line) + ": " + call + ": " +
                  cudaGetErrorName(error) + ": " + cudaGetErrorString(error));
}

#define SKNET_OPS_CUDA(op, call)                                                     \
  do {                                                                               \
    const cudaError_t sknet_ops_error = (call);                                      \
    if (sknet_ops_error != cudaSuccess) {                                            \
      (void)cudaGetLastError(); /* so that the next call does not report it again */ \
      ::sknet_ops::cuda::fail((op), #call, sknet_ops_error, __FILE__, __LINE__);     \
    }                                                                                \
  } while (false)
#endif

template <class Args>
void launch(Context& ctx, const char* name, void (*kernel)(Args), int64_t blocks, int64_t shared_bytes,
            const Args& args) {
  if (blocks < 1 || blocks > std::numeric_limits<int>::max()) {
    throw std::invalid_argument(std::string(ctx.op) + ": " + name + ": got " + std::to_string(blocks) +
                                " blocks, expected 1..2^31-1");
  }
  ctx.launches.push_back({name, blocks, shared_bytes});
  if (ctx.dry) return;
#if defined(SKNET_OPS_EMULATE)
  emu::run([&] { kernel(args); }, ctx.device.code, {static_cast<unsigned>(blocks), 1, 1}, {kThreads, 1, 1},
           shared_bytes);
#else
  const std::string where = std::string(ctx.op) + ": " + name;
  if (shared_bytes > kSharedWithoutAsking) {
    // All that there is, whatever this launch takes: another thread's launch may ask for more in between. A kernel that
    // asks has no other shared memory.
    SKNET_OPS_CUDA(where.c_str(),
                   cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, ctx.device.shared_bytes));
  }
  void* arguments[] = {const_cast<Args*>(&args)};
  SKNET_OPS_CUDA(where.c_str(),
                 cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), arguments,
                                  static_cast<size_t>(shared_bytes), static_cast<cudaStream_t>(ctx.stream)));
#endif
}

}  // namespace sknet_ops::cuda
