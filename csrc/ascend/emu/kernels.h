// SPDX-License-Identifier: Apache-2.0
// The kernels as the emulator calls them: each compiled once for half and once for float, as CANN does.
#pragma once

#include <cstdint>

#define SK_KERNELS(K)        \
  K(sk_norm_partial, 2)      \
  K(sk_norm_act, 12)         \
  K(sk_norm_grad_partial, 7) \
  K(sk_norm_grad, 10)        \
  K(sk_select, 3)            \
  K(sk_select_grad, 3)       \
  K(sk_branch_grad, 5)       \
  K(sk_attention_hidden, 13) \
  K(sk_attention_select, 3)  \
  K(sk_attention_grad, 14)   \
  K(sk_pack_weight, 2)       \
  K(sk_conv, 3)              \
  K(sk_conv_weight_grad, 3)  \
  K(sk_unpack_weight_grad, 3)

// Pointers of tensors; then workspace and tiling.
#define SK_DECLARE(kernel, tensors)                                \
  void run_##kernel##_half(uint8_t* const* args, uint8_t* tiling); \
  void run_##kernel##_float(uint8_t* const* args, uint8_t* tiling);
namespace emu {
SK_KERNELS(SK_DECLARE)
}
#undef SK_DECLARE
