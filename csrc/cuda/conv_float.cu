// SPDX-License-Identifier: Apache-2.0
#include "cuda/conv_typed.h"

namespace sknet_ops::cuda {

SKNET_OPS_CONV(float, Nchw, Nchw);

}  // namespace sknet_ops::cuda
