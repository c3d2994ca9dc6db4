// SPDX-License-Identifier: Apache-2.0
#include "cuda/conv_typed.h"

namespace sknet_ops::cuda {

template void launch_conv<Bfloat>(Context&, const ConvArgs&, const Plan&, bool);

}  // namespace sknet_ops::cuda
