// SPDX-License-Identifier: Apache-2.0
// What each op that MindSpore calls took, while somebody asks. Otherwise one load of a flag a call.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace sknet_ops::profile {

extern std::atomic<bool> g_enabled;

// Times its own life and notes it under the op's name, with the shapes of the op's buffers; without a name it does not.
class Timer {
 public:
  Timer(const char* op, int buffers, const int* ndims, const int64_t* const* shapes)
      : op_(g_enabled.load(std::memory_order_relaxed) ? op : nullptr),
        buffers_(buffers),
        ndims_(ndims),
        shapes_(shapes) {
    if (op_ != nullptr) start_ = std::chrono::steady_clock::now();
  }
  ~Timer() {
    if (op_ != nullptr) note(std::chrono::steady_clock::now());
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  void note(std::chrono::steady_clock::time_point end) const noexcept;

  const char* op_;
  int buffers_;
  const int* ndims_;
  const int64_t* const* shapes_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace sknet_ops::profile
