// SPDX-License-Identifier: Apache-2.0
// The specification of every op: scalar loops, no blocking, no threads. Sums run in double whatever T is.
#pragma once

#include "sknet_ops/ops.h"

namespace sknet_ops::reference {

template <typename T>
void conv_bn_act(const ConvBnActParams& p, const ConvBnActForward<T>& t);
template <typename T>
void conv_bn_act_grad(const ConvBnActParams& p, const ConvBnActBackward<T>& t);
template <typename T>
void sk_conv(const SkConvParams& p, const SkConvForward<T>& t);
template <typename T>
void sk_conv_grad(const SkConvParams& p, const SkConvBackward<T>& t);
template <typename T>
void sk_attention(const SkAttentionParams& p, const SkAttentionForward<T>& t);
template <typename T>
void sk_attention_grad(const SkAttentionParams& p, const SkAttentionBackward<T>& t);
template <typename T>
void sk_select(const SkSelectParams& p, const SkSelectForward<T>& t);
template <typename T>
void sk_select_grad(const SkSelectParams& p, const SkSelectBackward<T>& t);
template <typename T>
void selective_kernel(const SelectiveKernelParams& p, const SelectiveKernelForward<T>& t);
template <typename T>
void selective_kernel_grad(const SelectiveKernelParams& p, const SelectiveKernelBackward<T>& t);
template <typename T>
void max_pool(const MaxPoolParams& p, const MaxPoolForward<T>& t);
template <typename T>
void max_pool_grad(const MaxPoolParams& p, const MaxPoolBackward<T>& t);
template <typename T>
void pool_dense(const PoolDenseParams& p, const PoolDenseForward<T>& t);

// The activated branches again, from what training saved (z, mean, inv_std) or else from x.
template <typename T>
void sk_conv_recompute(const SkConvParams& p, const SkConvForward<T>& t);

}  // namespace sknet_ops::reference
