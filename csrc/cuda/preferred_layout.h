// SPDX-License-Identifier: Apache-2.0
// Which layout of maps the SK unit is faster in. An op takes either as it comes: channels_last is for who can choose
// what a network keeps its maps in. inside_last says what selective_kernel does with maps in NCHW.
// benchmarks/cuda/prove.py writes this file anew from what it measured.
#pragma once

namespace sknet_ops::cuda {

// ESTIMATE: by how a tile is loaded, not measured on any device. Where tensor cores are used (16 channels a group and
// more), a tile of channels is what they take; elsewhere lanes are positions. Nothing is turned inside until a device
// has shown that it pays.
struct PreferredLayout {
  const char* precision;  // tf32: float32 maps through tensor cores
  int channels;           // a group, at least
  bool channels_last;
  bool inside_last;  // maps come in NCHW: the branches between the kernels have channels last
};
inline constexpr PreferredLayout kPreferredLayouts[] = {
    {"float32", 1, false, false},   //
    {"tf32", 1, false, false},      //
    {"tf32", 16, true, false},      //
    {"float16", 1, false, false},   //
    {"float16", 16, true, false},   //
    {"bfloat16", 1, false, false},  //
    {"bfloat16", 16, true, false},
};

}  // namespace sknet_ops::cuda
