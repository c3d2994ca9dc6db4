// SPDX-License-Identifier: Apache-2.0
// All kernels for one instruction set. The including file defines SKNET_ISA (a namespace) and SKNET_VEC (floats in a
// vector) and is compiled with the flags of that instruction set.
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#if SKNET_VEC >= 8
#include <immintrin.h>
#endif

#include "cpu/cache.h"
#include "cpu/kept_weights.h"
#include "cpu/parts.h"
#include "cpu/peak.h"
#include "cpu/plan.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "sknet_ops/ops.h"

namespace sknet_ops::cpu::SKNET_ISA {

#include "cpu/kernel/vec.h"
//
#include "cpu/kernel/planes.h"
//
#include "cpu/kernel/micro.h"
//
#include "cpu/kernel/lanes.h"
//
#include "cpu/kernel/tiles.h"
//
#include "cpu/kernel/norm.h"
//
#include "cpu/kernel/emit.h"
//
#include "cpu/kernel/winograd.h"
//
#include "cpu/kernel/winograd_tiles.h"
//
#include "cpu/kernel/winograd_blocks.h"
//
#include "cpu/kernel/run_winograd.h"
//
#include "cpu/kernel/winograd_weight.h"
//
#include "cpu/kernel/weight_product.h"
//
#include "cpu/kernel/lane_panels.h"
//
#include "cpu/kernel/lane_planes.h"
//
#include "cpu/kernel/tile_conv.h"
//
#include "cpu/kernel/tile_taps.h"
//
#include "cpu/kernel/tile_weight.h"
//
#include "cpu/kernel/conv_forward.h"
//
#include "cpu/kernel/group_product.h"
//
#include "cpu/kernel/emit_gradient.h"
//
#include "cpu/kernel/input_gradient.h"
//
#include "cpu/kernel/weight_pairs.h"
//
#include "cpu/kernel/weight_gradient.h"
//
#include "cpu/kernel/group_gradient.h"
//
#include "cpu/kernel/conv_backward.h"
//
#include "cpu/kernel/conv_bn_act.h"
//
#include "cpu/kernel/sk_conv.h"
//
#include "cpu/kernel/sk_attention.h"
//
#include "cpu/kernel/sk_select.h"
//
#include "cpu/kernel/selective_kernel.h"
//
#include "cpu/kernel/max_pool.h"
//
#include "cpu/kernel/pool_dense.h"
//
#include "cpu/kernel/peak.h"

// A frozen layer's op is one of a network in inference.
template <typename Params>
static bool is_frozen(const Params& params) {
  if constexpr (std::is_same_v<Params, ConvBnActParams> || std::is_same_v<Params, SelectiveKernelParams>) {
    return params.kept != nullptr;
  } else {
    return false;
  }
}

// Every op holds the pool and the scratch memory from entry to exit.
template <typename Params, typename Tensors, void (*kOp)(const Params&, const Tensors&)>
static void scoped(const Params& params, const Tensors& tensors) {
  const OpScope scope(is_frozen(params));
  kOp(params, tensors);
}

extern const OpTable<float> kTable;
const OpTable<float> kTable = {
    scoped<ConvBnActParams, ConvBnActForward<float>, conv_bn_act>,
    scoped<ConvBnActParams, ConvBnActBackward<float>, conv_bn_act_grad>,
    scoped<SkConvParams, SkConvForward<float>, sk_conv>,
    scoped<SkConvParams, SkConvBackward<float>, sk_conv_grad>,
    scoped<SkAttentionParams, SkAttentionForward<float>, sk_attention>,
    scoped<SkAttentionParams, SkAttentionBackward<float>, sk_attention_grad>,
    scoped<SkSelectParams, SkSelectForward<float>, sk_select>,
    scoped<SkSelectParams, SkSelectBackward<float>, sk_select_grad>,
    scoped<SelectiveKernelParams, SelectiveKernelForward<float>, selective_kernel>,
    scoped<SelectiveKernelParams, SelectiveKernelBackward<float>, selective_kernel_grad>,
    scoped<MaxPoolParams, MaxPoolForward<float>, max_pool>,
    scoped<MaxPoolParams, MaxPoolBackward<float>, max_pool_grad>,
    scoped<PoolDenseParams, PoolDenseForward<float>, pool_dense>,
};

}  // namespace sknet_ops::cpu::SKNET_ISA
