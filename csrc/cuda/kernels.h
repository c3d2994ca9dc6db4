// SPDX-License-Identifier: Apache-2.0
// One function a kernel: plans, launches, checks. Plain C++ for the callers. Args hold
// whatever the plan does not; none of the calls waits for the device.
#pragma once

#include "cuda/args.h"
#include "cuda/context.h"

namespace sknet_ops::cuda {

// Sets args.t (others: args.last), and takes args.moments (mode kStats) or args.pooled (mode kFold, with `pooled`) from
// the scratch.
void conv_forward(Context& ctx, ConvArgs& args, bool pooled);
void conv_input_grad(Context& ctx, ConvArgs& args);
void conv_weight_grad(Context& ctx, WgradArgs& args, float* const* dweight);
void pool(Context& ctx, PoolArgs& args);
void hidden(Context& ctx, HiddenArgs& args);
void select(Context& ctx, SelectArgs& args);
void gate(Context& ctx, GateArgs& args);
void softmax_grad(Context& ctx, const SoftmaxGradArgs& args);
void hidden_grad(Context& ctx, HiddenGradArgs& args);
void channel_grad(Context& ctx, const ChannelGradArgs& args);
void fill(Context& ctx, FillArgs& args);
void select_grad(Context& ctx, SelectGradArgs& args);

// 10 major + minor of the architecture that the code was compiled for which the driver chose for the current device.
int compiled_for(const char* op);

}  // namespace sknet_ops::cuda
