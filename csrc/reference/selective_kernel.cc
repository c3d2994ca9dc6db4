// SPDX-License-Identifier: Apache-2.0
// The whole layer: y = sk_select(u, sk_attention(u)) with u = sk_conv(x).
#include <algorithm>
#include <vector>

#include "reference/reference.h"

namespace sknet_ops::reference {
namespace {

int64_t branches_size(const SkConvParams& p) { return p.n * p.branches * p.c_out * p.h_out * p.w_out; }

}  // namespace

template <typename T>
void selective_kernel(const SelectiveKernelParams& p, const SelectiveKernelForward<T>& t) {
  std::vector<T> u(branches_size(p.conv));
  SkConvForward<T> conv{t.x, {}, {}, u.data(), t.z, t.mean, t.inv_std};
  std::copy(t.weight, t.weight + p.conv.branches, conv.weight);
  std::copy(t.norm, t.norm + p.conv.branches, conv.norm);
  sk_conv(p.conv, conv);
  sk_attention<T>(p.attention(), {u.data(), t.fc_reduce, t.attn_norm, t.fc_select, t.attention, t.pooled, t.hidden,
                                  t.attn_mean, t.attn_inv_std});
  sk_select<T>(p.select(), {u.data(), t.attention, t.y});
}

template <typename T>
void selective_kernel_grad(const SelectiveKernelParams& p, const SelectiveKernelBackward<T>& t) {
  const int64_t size = branches_size(p.conv), stats = p.conv.branches * p.conv.c_out;
  std::vector<T> u(size), z(size), mean(stats), inv_std(stats);
  if (p.conv.norm.training) {
    z.assign(t.z, t.z + size);
    mean.assign(t.mean, t.mean + stats);
    inv_std.assign(t.inv_std, t.inv_std + stats);
  }
  SkConvForward<T> forward{t.x, {}, {}, u.data(), z.data(), mean.data(), inv_std.data()};
  std::copy(t.weight, t.weight + p.conv.branches, forward.weight);
  std::copy(t.norm, t.norm + p.conv.branches, forward.norm);
  sk_conv_recompute(p.conv, forward);

  // u feeds both the weighted sum and the attention: its gradient is the sum of two.
  std::vector<T> du(size), du_attention(size), dattention(p.conv.n * stats);
  sk_select_grad<T>(p.select(), {t.dy, u.data(), t.attention, du.data(), dattention.data()});
  sk_attention_grad<T>(p.attention(), {dattention.data(), u.data(), t.fc_reduce, t.attn_norm, t.fc_select, t.attention,
                                       t.pooled, t.hidden, t.attn_mean, t.attn_inv_std, du_attention.data(),
                                       t.dfc_reduce, t.dattn_gamma, t.dattn_beta, t.dfc_select});
  std::transform(du.begin(), du.end(), du_attention.begin(), du.begin(), [](T a, T b) { return a + b; });

  SkConvBackward<T> conv{du.data(), t.x, {}, {}, t.z, t.mean, t.inv_std, t.dx, {}, {}, {}};
  for (int m = 0; m < p.conv.branches; ++m) {
    conv.weight[m] = t.weight[m];
    conv.norm[m] = t.norm[m];
    conv.dweight[m] = t.dweight[m];
    conv.dgamma[m] = t.dgamma[m];
    conv.dbeta[m] = t.dbeta[m];
  }
  sk_conv_grad(p.conv, conv);
}

template void selective_kernel(const SelectiveKernelParams&, const SelectiveKernelForward<float>&);
template void selective_kernel(const SelectiveKernelParams&, const SelectiveKernelForward<double>&);
template void selective_kernel_grad(const SelectiveKernelParams&, const SelectiveKernelBackward<float>&);
template void selective_kernel_grad(const SelectiveKernelParams&, const SelectiveKernelBackward<double>&);

}  // namespace sknet_ops::reference
