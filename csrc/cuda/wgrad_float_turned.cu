// SPDX-License-Identifier: Apache-2.0
#include "cuda/conv_typed.h"

namespace sknet_ops::cuda {

SKNET_OPS_WGRAD(float, Nchw, Nhwc);

}  // namespace sknet_ops::cuda
