// SPDX-License-Identifier: Apache-2.0
// Launches of everything besides the convolutions.
#include <algorithm>

#include "cuda/kernel/layer_grad.h"
#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/layer_last.h"

namespace sknet_ops::cuda {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Chunks of images, a warp an image, so that `columns` blocks a chunk fill the device a few times over.
int image_chunks(const Context& ctx, int64_t columns, int64_t n) {
  const int64_t wanted = ceil_div(int64_t{8} * ctx.device.multiprocessors, columns);
  return static_cast<int>(std::clamp<int64_t>(wanted, 1, ceil_div(n, kWarps)));
}

template <class Args>
using Kernel = void (*)(Args);

template <class Args>
Kernel<Args> of_storage(const Context& ctx, Kernel<Args> single, Kernel<Args> half, Kernel<Args> bfloat) {
  return ctx.storage == Storage::kFloat32 ? single : ctx.storage == Storage::kFloat16 ? half : bfloat;
}

}  // namespace

void pool(Context& ctx, PoolArgs& args) {
  if (ctx.inside_last) return pool_last(ctx, args);
  args.image_chunks = image_chunks(ctx, args.c, args.n);
  launch(ctx, "pool", of_storage<PoolArgs>(ctx, pool_kernel<float>, pool_kernel<Half>, pool_kernel<Bfloat>),
         static_cast<int64_t>(args.c) * args.image_chunks, 0, args);
}

void hidden(Context& ctx, HiddenArgs& args) {
  // The statistics over the batch need all images in one block.
  args.image_chunks = args.mean != nullptr ? 1 : image_chunks(ctx, args.d, args.n);
  launch(ctx, "hidden", hidden_kernel, static_cast<int64_t>(args.d) * args.image_chunks, 0, args);
}

void select(Context& ctx, SelectArgs& args) {
  if (ctx.inside_last) return select_last(ctx, args);
  launch(ctx, "select", of_storage<SelectArgs>(ctx, select_kernel<float>, select_kernel<Half>, select_kernel<Bfloat>),
         ceil_div(args.n * args.c, kWarps), 0, args);
}

void gate(Context& ctx, GateArgs& args) {
  if (ctx.inside_last) return gate_last(ctx, args);
  launch(ctx, "gate", of_storage<GateArgs>(ctx, gate_kernel<float>, gate_kernel<Half>, gate_kernel<Bfloat>),
         ceil_div(args.n * args.c, kWarps), 0, args);
}

void softmax_grad(Context& ctx, const SoftmaxGradArgs& args) {
  launch(ctx, "softmax_grad", softmax_grad_kernel, ceil_div(args.n * args.c, kThreads), 0, args);
}

void hidden_grad(Context& ctx, HiddenGradArgs& args) {
  const int64_t bytes = int64_t{4} * args.branches * args.c;
  args.staged = bytes <= kSharedWithoutAsking - static_cast<int>(kWarps * sizeof(double));  // beside the scratch
  launch(ctx, "hidden_grad", hidden_grad_kernel, args.d, args.staged ? bytes : 0, args);
}

void channel_grad(Context& ctx, const ChannelGradArgs& args) {
  launch(ctx, "channel_grad", channel_grad_kernel, args.c, 0, args);
}

void fill(Context& ctx, FillArgs& args) {
  if (ctx.channels_last) return fill_last(ctx, args);
  launch(ctx, "fill", of_storage<FillArgs>(ctx, fill_kernel<float>, fill_kernel<Half>, fill_kernel<Bfloat>),
         ceil_div(args.planes, kWarps), 0, args);
}

void select_grad(Context& ctx, SelectGradArgs& args) {
  if (ctx.channels_last) return select_grad_last(ctx, args);
  launch(
      ctx, "select_grad",
      of_storage<SelectGradArgs>(ctx, select_grad_kernel<float>, select_grad_kernel<Half>, select_grad_kernel<Bfloat>),
      ceil_div(args.n * args.c, kWarps), 0, args);
}

#if !defined(SKNET_OPS_EMULATE)
int compiled_for(const char* op) {
  cudaFuncAttributes attributes{};
  // One kernel speaks for all: they are compiled for the same architectures.
  SKNET_OPS_CUDA(op, cudaFuncGetAttributes(&attributes, hidden_kernel));
  return attributes.ptxVersion;
}
#endif

}  // namespace sknet_ops::cuda
