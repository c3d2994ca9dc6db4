// SPDX-License-Identifier: Apache-2.0
// Convolutions: plan, take scratch, launch the instance for the storage type.
#include <algorithm>

#include "cuda/conv_typed.h"
#include "cuda/kernels.h"

namespace sknet_ops::cuda {
namespace {

__global__ void __launch_bounds__(kThreads) sum_slots_kernel(SKNET_OPS_ARGS SumArgs a) {
  const int64_t all = a.weight_offset[a.branches], i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= all) return;
  float total = 0.0f;
#pragma unroll 8
  for (int slot = 0; slot < a.slots; ++slot) total += a.partial[slot * all + i];
  int m = a.branches - 1;
  while (i < a.weight_offset[m]) --m;
  a.dweight[m][i - a.weight_offset[m]] = total;
}

// Calls run(value of the storage type, layout at the border, layout inside).
template <class Run>
void of_maps(const Context& ctx, Run run) {
  auto of_type = [&](auto type) {
    if (ctx.channels_last) return run(type, Nhwc{}, Nhwc{});
    return ctx.inside_last ? run(type, Nchw{}, Nhwc{}) : run(type, Nchw{}, Nchw{});
  };
  switch (ctx.storage) {
    case Storage::kFloat32: return of_type(float{});
    case Storage::kFloat16: return of_type(Half{});
    case Storage::kBfloat16: return of_type(Bfloat{});
  }
}

void launch_planned(Context& ctx, const ConvArgs& args, const Plan& plan, bool grad) {
  of_maps(ctx, [&](auto type, auto border, auto inside) {
    launch_conv<decltype(type), decltype(border), decltype(inside)>(ctx, args, plan, grad);
  });
}

}  // namespace

void conv_forward(Context& ctx, ConvArgs& args, bool pooled) {
  args.t.parts = 1;
  const Plan plan = plan_conv(ctx, args, false);
  if (args.mode == ConvMode::kStats) {
    const int64_t slots = static_cast<int64_t>(args.t.image_slots) * args.t.splits;
    args.moments = ctx.take<Moments>(args.branches * args.out_channels * slots);
  }
  if (pooled) args.pooled = ctx.take<float>(args.n * args.t.splits * args.out_channels);
  launch_planned(ctx, args, plan, false);
}

void conv_input_grad(Context& ctx, ConvArgs& args) { launch_planned(ctx, args, plan_conv(ctx, args, true), true); }

void conv_weight_grad(Context& ctx, WgradArgs& args, float* const* dweight) {
  int64_t offset = 0;
  for (int m = 0; m < args.branches; ++m) {
    args.weight_offset[m] = offset;
    offset += static_cast<int64_t>(args.out_channels) * args.ci_group * args.kernel[m] * args.kernel[m];
  }
  args.weights = offset;
  const Plan plan = plan_wgrad(ctx, args);
  args.partial = ctx.take<float>(args.t.slots * args.weights);
  of_maps(ctx, [&](auto type, auto border, auto inside) {
    launch_wgrad<decltype(type), decltype(border), decltype(inside)>(ctx, args, plan);
  });
  SumArgs sum{};
  sum.partial = args.partial;
  sum.branches = args.branches;
  sum.slots = args.t.slots;
  std::copy(dweight, dweight + args.branches, sum.dweight);
  std::copy(args.weight_offset, args.weight_offset + args.branches, sum.weight_offset);
  sum.weight_offset[args.branches] = args.weights;
  launch(ctx, "sum_slots", sum_slots_kernel, (args.weights + kThreads - 1) / kThreads, 0, sum);
}

}  // namespace sknet_ops::cuda
