// SPDX-License-Identifier: Apache-2.0
// Every op of the vendor package: its tensors, the shapes of its outputs, its tiling. Plain C++: the operator
// definitions for CANN, the emulator and the tests read this one table.
//
// Attributes of every op: `sizes`, a list of integers, and `numbers`, a list of floats; what they are stands at the
// functions that read them in sk_ops.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sk_tiling.h"

namespace sknet_ops::ascend {

// The attributes of one call.
struct Attributes {
  const int64_t* sizes;
  int64_t size_count;
  const double* numbers;
  int64_t number_count;
};

struct Call {
  Platform chip;
  Dtype type;  // of the maps
  Attributes attributes;
};

// A tensor of an op: of the maps' type, or float.
struct TensorInfo {
  const char* name;
  bool map;
  bool optional;
};

// Bytes of a tiling structure, and where its kernel runs.
struct Tiled {
  std::vector<uint8_t> data;
  int32_t blocks;
  bool cube;
};

using Dims = std::vector<int64_t>;

struct OpInfo {
  const char* name;  // of the kernel: sk_conv; the op's type is SkConv
  std::vector<TensorInfo> inputs, outputs;
  std::function<std::vector<Dims>(const Call&)> shapes;  // of the outputs
  std::function<Tiled(const Call&)> tile;
};

const std::vector<OpInfo>& ops();
// Throws std::invalid_argument if there is none of that name.
const OpInfo& find_op(const std::string& name);

}  // namespace sknet_ops::ascend
