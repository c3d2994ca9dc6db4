// SPDX-License-Identifier: Apache-2.0
// What the host asks of the CUDA runtime, or of the emulator in its place.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "cuda/context.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace sknet_ops::cuda {

Context& context() {
  thread_local Context ctx;
  return ctx;
}

#if defined(SKNET_OPS_EMULATE)

// SKNET_OPS_EMU_DEVICE = "capability multiprocessors shared_bytes [code]"; an H100's numbers without.
Device current_device(const char* op) {
  const char* asked = getenv("SKNET_OPS_EMU_DEVICE");
  if (asked == nullptr) return {132, 227 << 10, 90, 90};
  Device device{};
  const int numbers = sscanf(asked, "%d %d %d %d", &device.capability, &device.multiprocessors, &device.shared_bytes,
                             &device.code);
  if (numbers < 3) {
    throw CudaError(std::string(op) + ": SKNET_OPS_EMU_DEVICE: got " + asked + ", expected three or four numbers");
  }
  if (numbers == 3) device.code = device.capability;
  return device;
}

int current_index(const char*) { return 0; }

void zero(Context& ctx, void* to, int64_t bytes) {
  if (!ctx.dry && bytes > 0) memset(to, 0, static_cast<size_t>(bytes));
}

namespace {

int64_t stream_of(const Context&) { return 0; }

void expect_no_capture(const Context&) {}

void renew(Context&, char*& memory, int64_t bytes) {
  delete[] memory;
  memory = nullptr;
  memory = new char[bytes];
}

}  // namespace

#else

int current_index(const char* op) {
  int device = 0;
  SKNET_OPS_CUDA(op, cudaGetDevice(&device));
  return device;
}

Device current_device(const char* op) {
  const int device = current_index(op);
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
                      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor),
                      compiled_for(op)};
  return known.emplace(device, answer).first->second;
}

void zero(Context& ctx, void* to, int64_t bytes) {
  if (ctx.dry || bytes == 0) return;
  SKNET_OPS_CUDA(ctx.op, cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), static_cast<cudaStream_t>(ctx.stream)));
}

namespace {

// The device, the stream, and the thread where that is part of which stream is meant.
std::tuple<int, cudaStream_t, std::thread::id> stream_of(const Context& ctx) {
  const auto stream = static_cast<cudaStream_t>(ctx.stream);
  return {current_index(ctx.op), stream, stream == cudaStreamPerThread ? std::this_thread::get_id() : std::thread::id{}};
}

// A graph would keep the pool's memory, which is given back when the pool grows.
void expect_no_capture(const Context& ctx) {
  cudaStreamCaptureStatus status{};
  SKNET_OPS_CUDA(ctx.op, cudaStreamIsCapturing(static_cast<cudaStream_t>(ctx.stream), &status));
  if (status != cudaStreamCaptureStatusNone) {
    throw std::invalid_argument(std::string(ctx.op) +
                                ": scratch: got none on a stream that is being captured, expected the caller's own");
  }
}

void renew(Context& ctx, char*& memory, int64_t bytes) {
  // What runs on this stream may still use the old memory.
  SKNET_OPS_CUDA(ctx.op, cudaStreamSynchronize(static_cast<cudaStream_t>(ctx.stream)));
  SKNET_OPS_CUDA(ctx.op, cudaFree(memory));
  memory = nullptr;
  SKNET_OPS_CUDA(ctx.op, cudaMalloc(&memory, static_cast<size_t>(bytes)));
}

}  // namespace

#endif

PooledScratch::PooledScratch(Context& ctx, int64_t bytes) : ctx_(ctx) {
  expect_no_capture(ctx);
  struct Memory {
    std::mutex in_use;
    char* start = nullptr;
    int64_t size = 0;
  };
  static std::mutex mutex;
  static std::map<decltype(stream_of(ctx)), Memory> all;
  Memory& memory = [&]() -> Memory& {
    const std::lock_guard<std::mutex> lock(mutex);
    return all[stream_of(ctx)];
  }();
  lock_ = std::unique_lock<std::mutex>(memory.in_use);
  if (memory.size < bytes) {
    memory.size = 0;  // until there is more
    renew(ctx, memory.start, bytes);
    memory.size = bytes;
  }
  ctx.scratch = memory.start;
  ctx.scratch_bytes = memory.size;
}

PooledScratch::~PooledScratch() { ctx_.scratch = nullptr; }

}  // namespace sknet_ops::cuda
