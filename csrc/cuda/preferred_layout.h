// SPDX-License-Identifier: Apache-2.0
// Which layout of maps the SK unit is faster in. An op takes either as it comes; this is for who can choose what a
// network keeps its maps in. benchmarks/cuda/prove.py writes this file anew from what it measured.
#pragma once

namespace sknet_ops::cuda {

// ESTIMATE: by how a tile is loaded, not measured on any device. Where tensor cores are used (16 channels a group and
// more), a tile of channels is what they take; elsewhere lanes are positions.
struct PreferredLayout {
  const char* precision;  // tf32: float32 maps through tensor cores
  int channels;           // a group, at least
  bool channels_last;
};
inline constexpr PreferredLayout kPreferredLayouts[] = {
    {"float32", 1, false}, {"tf32", 1, false},     {"tf32", 16, true},     {"float16", 1, false},
    {"float16", 16, true}, {"bfloat16", 1, false}, {"bfloat16", 16, true},
};

}  // namespace sknet_ops::cuda
