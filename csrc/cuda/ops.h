// SPDX-License-Identifier: Apache-2.0
// The ops as compositions of kernels, and the table of them.
#pragma once

#include "cuda/context.h"
#include "sknet_ops/ops.h"

namespace sknet_ops::cuda {

// Pointers are device memory. Those of maps (x, u, z, y and their gradients) point to values of context().storage,
// whatever their type here says; all others are float. Calls go to context().stream and return before the device is
// done. conv_bn_act throws: cuDNN does that.
const OpTable<float>& table();

}  // namespace sknet_ops::cuda
