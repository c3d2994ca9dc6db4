// SPDX-License-Identifier: Apache-2.0
// The functions of kernels.h that touch maps, for branches with channels last; those call these.
#pragma once

#include "cuda/args.h"
#include "cuda/context.h"

namespace sknet_ops::cuda {

void pool_last(Context& ctx, PoolArgs& args);
void select_last(Context& ctx, SelectArgs& args);
void gate_last(Context& ctx, GateArgs& args);
void fill_last(Context& ctx, FillArgs& args);
void select_grad_last(Context& ctx, SelectGradArgs& args);

}  // namespace sknet_ops::cuda
