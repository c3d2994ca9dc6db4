// SPDX-License-Identifier: Apache-2.0
// What one call of an op knows besides its tensors: stream, storage type, device, scratch memory.
#pragma once

#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace sknet_ops::cuda {

enum class Storage : int { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

inline int64_t storage_bytes(Storage s) { return s == Storage::kFloat32 ? 4 : 2; }

// How selective_kernel keeps the branches (z, u) from one of its kernels to the next, where maps come in NCHW. Maps
// with channels last have branches with channels last.
enum class Inside : int { kByTable = 0, kNchw = 1, kNhwc = 2 };

struct Device {
  int multiprocessors, shared_bytes;  // shared_bytes: the most that a block can ask for
  int capability;                     // 10 major + minor
  // The same of what the kernels in use were compiled for, which is less where the library has no code for the device.
  int code;
};

// A CUDA call failed; the message has op, file, line, the call and CUDA's reason.
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Launch {
  std::string kernel;
  int64_t blocks;
  int64_t shared_bytes;
};

struct Context {
  // What the caller says before the call.
  void* stream = nullptr;
  Storage storage = Storage::kFloat32;
  bool channels_last = false;  // maps that come in and go out
  Inside inside = Inside::kByTable;
  bool tf32 = false;                // float maps may go through tensor cores, which read 10 bits of mantissa
  bool plan_only = false;           // stop after planning
  const Device* pretend = nullptr;  // plan for this device
  char* scratch = nullptr;          // null: from the pool
  int64_t scratch_bytes = 0;

  // What the call says.
  const char* op = "";
  bool dry = false;          // plan and count, launch nothing, touch no memory
  bool inside_last = false;  // branches between kernels have channels last
  Device device{};
  int64_t scratch_used = 0;
  std::vector<Launch> launches;

  // Scratch for `count` values, 256-byte aligned. In a dry call the pointer only tells that there is one.
  template <typename T>
  T* take(int64_t count) {
    const int64_t at = scratch_used;
    scratch_used += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    if (dry) return reinterpret_cast<T*>(static_cast<uintptr_t>(256 + at));
    if (scratch_used > scratch_bytes) {
      throw std::logic_error(std::string(op) + ": " + std::to_string(scratch_bytes) + " bytes of scratch, needs more");
    }
    return reinterpret_cast<T*>(scratch + at);
  }
  // Values of the maps' storage type.
  void* take_map(int64_t count) { return take<char>(count * storage_bytes(storage)); }
};

// The context of the call that runs on this thread.
Context& context();

// The device that is current on this thread, and its number.
Device current_device(const char* op);
int current_index(const char* op);

// Sets memory to zero in stream order.
void zero(Context& ctx, void* to, int64_t bytes);

// Scratch for callers that bring none, in `ctx` while this lives. It belongs to (device, stream), and to the thread
// where each has a stream of its own; it grows with the calls, and is locked: a stream runs the kernels of one call
// after those of the other only if they are launched so.
class PooledScratch {
 public:
  PooledScratch(Context& ctx, int64_t bytes);
  ~PooledScratch();
  PooledScratch(const PooledScratch&) = delete;
  PooledScratch& operator=(const PooledScratch&) = delete;

 private:
  Context& ctx_;
  std::unique_lock<std::mutex> lock_;
};

}  // namespace sknet_ops::cuda
