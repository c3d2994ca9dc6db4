// SPDX-License-Identifier: Apache-2.0
#include "reference/reference.h"

namespace sknet_ops::reference {

template <typename T>
const OpTable<T>& table() {
  static constexpr OpTable<T> kTable{conv_bn_act<T>,      conv_bn_act_grad<T>,      sk_conv<T>,   sk_conv_grad<T>,
                                     sk_attention<T>,     sk_attention_grad<T>,     sk_select<T>, sk_select_grad<T>,
                                     selective_kernel<T>, selective_kernel_grad<T>, max_pool<T>,  max_pool_grad<T>,
                                     pool_dense<T>};
  return kTable;
}

template const OpTable<float>& table<float>();
template const OpTable<double>& table<double>();

}  // namespace sknet_ops::reference
