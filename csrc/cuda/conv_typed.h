// SPDX-License-Identifier: Apache-2.0
// Choosing the instance of a convolution kernel for one storage type; a .cu file a type includes this.
#pragma once

#include "cuda/kernel/conv.h"
#include "cuda/kernel/wgrad.h"
#include "cuda/launch.h"
#include "cuda/plan.h"

namespace sknet_ops::cuda {

template <typename T>
void launch_conv(Context& ctx, const ConvArgs& args, const Plan& plan, bool grad) {
  using Simt8 = Simt<8, kSimt8Positions>;
  using Simt4 = Simt<4, kSimt4Positions>;
  void (*kernel)(ConvArgs) = nullptr;
  const char* name = nullptr;
  switch (plan.kind) {
    case Kind::kTensor:
      kernel = grad ? conv_kernel<T, Tensor, true> : conv_kernel<T, Tensor, false>;
      name = grad ? "conv_input_grad_tensor" : "conv_forward_tensor";
      break;
    case Kind::kSimt8:
      kernel = grad ? conv_kernel<T, Simt8, true> : conv_kernel<T, Simt8, false>;
      name = grad ? "conv_input_grad_simt8" : "conv_forward_simt8";
      break;
    case Kind::kSimt4:
      kernel = grad ? conv_kernel<T, Simt4, true> : conv_kernel<T, Simt4, false>;
      name = grad ? "conv_input_grad_simt4" : "conv_forward_simt4";
      break;
    case Kind::kDirect:
      kernel = grad ? conv_kernel<T, Direct, true> : conv_kernel<T, Direct, false>;
      name = grad ? "conv_input_grad_direct" : "conv_forward_direct";
      break;
  }
  launch(ctx, name, kernel, plan.blocks, plan.shared_bytes, args);
}

template <typename T>
void launch_wgrad(Context& ctx, const WgradArgs& args, const Plan& plan) {
  void (*kernel)(WgradArgs) = nullptr;
  const char* name = nullptr;
  switch (plan.kind) {
    case Kind::kTensor: kernel = wgrad_kernel<T, TensorJob>, name = "conv_weight_grad_tensor"; break;
    case Kind::kSimt8: kernel = wgrad_kernel<T, SimtJob<8>>, name = "conv_weight_grad_simt8"; break;
    case Kind::kSimt4: kernel = wgrad_kernel<T, SimtJob<4>>, name = "conv_weight_grad_simt4"; break;
    case Kind::kDirect: kernel = wgrad_direct_kernel<T>, name = "conv_weight_grad_direct"; break;
  }
  launch(ctx, name, kernel, plan.blocks, plan.shared_bytes, args);
}

extern template void launch_conv<float>(Context&, const ConvArgs&, const Plan&, bool);
extern template void launch_conv<Half>(Context&, const ConvArgs&, const Plan&, bool);
extern template void launch_conv<Bfloat>(Context&, const ConvArgs&, const Plan&, bool);
extern template void launch_wgrad<float>(Context&, const WgradArgs&, const Plan&);
extern template void launch_wgrad<Half>(Context&, const WgradArgs&, const Plan&);
extern template void launch_wgrad<Bfloat>(Context&, const WgradArgs&, const Plan&);

}  // namespace sknet_ops::cuda
