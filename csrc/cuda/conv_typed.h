// SPDX-License-Identifier: Apache-2.0
// Choosing the instance of a convolution kernel for one storage type and layouts; a .cu file for each includes this.
// Border: of x and dx. Inside: of the branches and their gradients.
#pragma once

#include "cuda/kernel/conv.h"
#include "cuda/kernel/layout.h"
#include "cuda/kernel/wgrad.h"
#include "cuda/launch.h"
#include "cuda/plan.h"

namespace sknet_ops::cuda {

template <typename T, class Border, class Inside>
void launch_conv(Context& ctx, const ConvArgs& args, const Plan& plan, bool grad) {
  using Simt8 = Simt<8, kSimt8Positions>;
  using Simt4 = Simt<4, kSimt4Positions>;
  void (*kernel)(ConvArgs) = nullptr;
  const char* name = nullptr;
  switch (plan.kind) {
    case Kind::kTensor:
      kernel = grad ? conv_kernel<T, Inside, Border, Tensor, true> : conv_kernel<T, Border, Inside, Tensor, false>;
      name = grad ? "conv_input_grad_tensor" : "conv_forward_tensor";
      break;
    case Kind::kSimt8:
      kernel = grad ? conv_kernel<T, Inside, Border, Simt8, true> : conv_kernel<T, Border, Inside, Simt8, false>;
      name = grad ? "conv_input_grad_simt8" : "conv_forward_simt8";
      break;
    case Kind::kSimt4:
      kernel = grad ? conv_kernel<T, Inside, Border, Simt4, true> : conv_kernel<T, Border, Inside, Simt4, false>;
      name = grad ? "conv_input_grad_simt4" : "conv_forward_simt4";
      break;
    case Kind::kDirect:
      kernel = grad ? conv_kernel<T, Inside, Border, Direct, true> : conv_kernel<T, Border, Inside, Direct, false>;
      name = grad ? "conv_input_grad_direct" : "conv_forward_direct";
      break;
  }
  launch(ctx, name, kernel, plan.blocks, plan.shared_bytes, args);
}

template <typename T, class Border, class Inside>
void launch_wgrad(Context& ctx, const WgradArgs& args, const Plan& plan) {
  void (*kernel)(WgradArgs) = nullptr;
  const char* name = nullptr;
  switch (plan.kind) {
    case Kind::kTensor: kernel = wgrad_kernel<T, Border, Inside, TensorJob>, name = "conv_weight_grad_tensor"; break;
    case Kind::kSimt8: kernel = wgrad_kernel<T, Border, Inside, SimtJob<8>>, name = "conv_weight_grad_simt8"; break;
    case Kind::kSimt4: kernel = wgrad_kernel<T, Border, Inside, SimtJob<4>>, name = "conv_weight_grad_simt4"; break;
    case Kind::kDirect: kernel = wgrad_direct_kernel<T, Border, Inside>, name = "conv_weight_grad_direct"; break;
  }
  launch(ctx, name, kernel, plan.blocks, plan.shared_bytes, args);
}

#define SKNET_OPS_CONV(T, Border, Inside) \
  template void launch_conv<T, Border, Inside>(Context&, const ConvArgs&, const Plan&, bool)
#define SKNET_OPS_WGRAD(T, Border, Inside) \
  template void launch_wgrad<T, Border, Inside>(Context&, const WgradArgs&, const Plan&)
extern SKNET_OPS_CONV(float, Nchw, Nchw);
extern SKNET_OPS_CONV(float, Nhwc, Nhwc);
extern SKNET_OPS_CONV(float, Nchw, Nhwc);
extern SKNET_OPS_CONV(Half, Nchw, Nchw);
extern SKNET_OPS_CONV(Half, Nhwc, Nhwc);
extern SKNET_OPS_CONV(Half, Nchw, Nhwc);
extern SKNET_OPS_CONV(Bfloat, Nchw, Nchw);
extern SKNET_OPS_CONV(Bfloat, Nhwc, Nhwc);
extern SKNET_OPS_CONV(Bfloat, Nchw, Nhwc);
extern SKNET_OPS_WGRAD(float, Nchw, Nchw);
extern SKNET_OPS_WGRAD(float, Nhwc, Nhwc);
extern SKNET_OPS_WGRAD(float, Nchw, Nhwc);
extern SKNET_OPS_WGRAD(Half, Nchw, Nchw);
extern SKNET_OPS_WGRAD(Half, Nhwc, Nhwc);
extern SKNET_OPS_WGRAD(Half, Nchw, Nhwc);
extern SKNET_OPS_WGRAD(Bfloat, Nchw, Nchw);
extern SKNET_OPS_WGRAD(Bfloat, Nhwc, Nhwc);
extern SKNET_OPS_WGRAD(Bfloat, Nchw, Nhwc);

}  // namespace sknet_ops::cuda
