// SPDX-License-Identifier: Apache-2.0
// How maps lie in memory. A map is an image of x or y, or one branch of an image of z or u; branches are stacked in
// both layouts, so that each of them is a map of its own.
#pragma once

#include "cuda/platform.h"

namespace sknet_ops::cuda {

struct Nchw {  // (maps, channels, positions)
  static constexpr bool kLast = false;
};
struct Nhwc {  // (maps, positions, channels): PyTorch's channels_last
  static constexpr bool kLast = true;
};

// From a channel's value at position 0 to the one at `pos`.
template <class Layout>
__device__ inline int64_t along(int pos, int channels) {
  return Layout::kLast ? static_cast<int64_t>(pos) * channels : pos;
}

// From the tensor's start to a channel's value at position 0.
template <class Layout>
__device__ inline int64_t start_of(int64_t map, int c, int channels, int64_t hw) {
  return Layout::kLast ? map * hw * channels + c : (map * channels + c) * hw;
}

}  // namespace sknet_ops::cuda
