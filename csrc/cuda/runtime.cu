// SPDX-License-Identifier: Apache-2.0
// What the host asks of the CUDA runtime, or of the emulator in its place.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>

#include "cuda/context.h"
#include "cuda/launch.h"

namespace sknet_ops::cuda {

Context& context() {
  thread_local Context ctx;
  return ctx;
}

#if defined(SKNET_OPS_EMULATE)

// SKNET_OPS_EMU_DEVICE = "capability multiprocessors shared_bytes"; an H100's numbers without.
Device current_device(const char* op) {
  Device device{132, 227 << 10, 90};
  const char* asked = getenv("SKNET_OPS_EMU_DEVICE");
  if (asked != nullptr &&
      sscanf(asked, "%d %d %d", &device.capability, &device.multiprocessors, &device.shared_bytes) != 3) {
    throw CudaError(std::string(op) + ": SKNET_OPS_EMU_DEVICE: got " + asked + ", expected three numbers");
  }
  return device;
}

void zero(Context& ctx, void* to, int64_t bytes) {
  if (!ctx.dry && bytes > 0) memset(to, 0, static_cast<size_t>(bytes));
}

char* pooled_scratch(Context&, int64_t bytes) {
  static std::map<int, std::pair<char*, int64_t>> pool;
  auto& [memory, size] = pool[0];
  if (size < bytes) {
    delete[] memory;
    memory = new char[bytes];
    size = bytes;
  }
  return memory;
}

#else

Device current_device(const char* op) {
  int device = 0;
  SKNET_OPS_CUDA(op, cudaGetDevice(&device));
  static std::mutex mutex;
  static std::map<int, Device> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(device);
  if (found != known.end()) return found->second;
  auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    SKNET_OPS_CUDA(op, cudaDeviceGetAttribute(&value, which, device));
    return value;
  };
  const Device answer{attribute(cudaDevAttrMultiProcessorCount), attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
                      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor)};
  return known.emplace(device, answer).first->second;
}

void zero(Context& ctx, void* to, int64_t bytes) {
  if (ctx.dry || bytes == 0) return;
  SKNET_OPS_CUDA(ctx.op, cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), static_cast<cudaStream_t>(ctx.stream)));
}

char* pooled_scratch(Context& ctx, int64_t bytes) {
  int device = 0;
  SKNET_OPS_CUDA(ctx.op, cudaGetDevice(&device));
  static std::mutex mutex;
  static std::map<std::pair<int, void*>, std::pair<char*, int64_t>> pool;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& [memory, size] = pool[{device, ctx.stream}];
  if (size < bytes) {
    // What runs on this stream may still use the old memory.
    SKNET_OPS_CUDA(ctx.op, cudaStreamSynchronize(static_cast<cudaStream_t>(ctx.stream)));
    SKNET_OPS_CUDA(ctx.op, cudaFree(memory));
    memory = nullptr, size = 0;
    SKNET_OPS_CUDA(ctx.op, cudaMalloc(&memory, static_cast<size_t>(bytes)));
    size = bytes;
  }
  return memory;
}

#endif

}  // namespace sknet_ops::cuda
