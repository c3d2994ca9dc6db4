// SPDX-License-Identifier: Apache-2.0
// Refusals of the tiling, in the words of csrc/common/check.cc.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "sknet_ops/params.h"

namespace sknet_ops::ascend {

[[noreturn]] inline void refuse(const std::string& op, const std::string& argument, const std::string& got,
                                const std::string& expected) {
  throw std::invalid_argument(op + ": " + argument + ": got " + got + ", expected " + expected);
}

inline void check_range(const char* op, const char* argument, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    refuse(op, argument, std::to_string(value),
           "a number in " + std::to_string(least) + ".." + std::to_string(most) + " on Ascend");
  }
}

inline void check_positive(const char* op, const char* argument, int64_t value) {
  check_range(op, argument, value, 1, std::numeric_limits<int32_t>::max());
}

inline void check_int32(const char* op, const char* argument, int64_t value) {
  check_range(op, argument, value, 0, std::numeric_limits<int32_t>::max());
}

inline void check_branches(const char* op, int64_t value) { check_range(op, "branches", value, 1, kMaxBranches); }

// The cube works on 16 channels at a time, and a row of 16 is the least that vector copies need.
inline void check_channels(const char* op, const char* argument, int64_t value) {
  if (value < 16 || value % 16 != 0 || value > 65520) {
    refuse(op, argument, std::to_string(value), "a multiple of 16 up to 65520 on Ascend");
  }
}

}  // namespace sknet_ops::ascend
