// SPDX-License-Identifier: Apache-2.0
#include "cuda/conv_typed.h"

namespace sknet_ops::cuda {

template void launch_wgrad<float>(Context&, const WgradArgs&, const Plan&);

}  // namespace sknet_ops::cuda
