// SPDX-License-Identifier: Apache-2.0
// y = sum over branches of attention * u
#include "reference/reference.h"

namespace sknet_ops::reference {

template <typename T>
void sk_select(const SkSelectParams& p, const SkSelectForward<T>& t) {
  const int64_t size = p.h * p.w;
  for (int64_t n = 0; n < p.n; ++n) {
    for (int64_t c = 0; c < p.c; ++c) {
      for (int64_t i = 0; i < size; ++i) {
        double sum = 0;
        for (int m = 0; m < p.branches; ++m) {
          const int64_t map = (n * p.branches + m) * p.c + c;
          sum += static_cast<double>(t.attention[map]) * t.u[map * size + i];
        }
        t.y[(n * p.c + c) * size + i] = static_cast<T>(sum);
      }
    }
  }
}

template <typename T>
void sk_select_grad(const SkSelectParams& p, const SkSelectBackward<T>& t) {
  const int64_t size = p.h * p.w;
  for (int64_t map = 0; map < p.n * p.branches * p.c; ++map) {
    const int64_t n = map / (p.branches * p.c), c = map % p.c;
    const T* dy = t.dy + (n * p.c + c) * size;
    double sum = 0;
    for (int64_t i = 0; i < size; ++i) {
      t.du[map * size + i] = t.attention[map] * dy[i];
      sum += static_cast<double>(t.u[map * size + i]) * dy[i];
    }
    t.dattention[map] = static_cast<T>(sum);
  }
}

template void sk_select(const SkSelectParams&, const SkSelectForward<float>&);
template void sk_select(const SkSelectParams&, const SkSelectForward<double>&);
template void sk_select_grad(const SkSelectParams&, const SkSelectBackward<float>&);
template void sk_select_grad(const SkSelectParams&, const SkSelectBackward<double>&);

}  // namespace sknet_ops::reference
