// SPDX-License-Identifier: Apache-2.0
// Host side: how a convolution is cut into blocks. Plain C++, no CUDA: tested without a GPU.
#pragma once

#include "cuda/args.h"
#include "cuda/context.h"

namespace sknet_ops::cuda {

enum class Kind : int { kTensor, kSimt8, kSimt4, kDirect };

struct Plan {
  Kind kind;
  int64_t blocks, shared_bytes;
};

// Fills args.t. Everything else in args but the pointers is set. Throws std::invalid_argument on maps that the kernels'
// 32-bit positions cannot number.
Plan plan_conv(const Context& ctx, ConvArgs& args, bool grad);
Plan plan_wgrad(const Context& ctx, WgradArgs& args);

// By the table in preferred_layout.h: whether maps with channels last are faster; and whether, where maps come in NCHW,
// selective_kernel is faster with channels last inside, unless SKNET_OPS_CUDA_INSIDE (nchw, nhwc) says it. Throws
// std::invalid_argument on another value of that.
bool prefers_channels_last(Storage storage, bool tf32, int channels_a_group);
bool turns_inside(Storage storage, bool tf32, int channels_a_group);

}  // namespace sknet_ops::cuda
