// SPDX-License-Identifier: Apache-2.0
#include <numeric>
#include <vector>

#include "reference/reference.h"

namespace sknet_ops::reference {

template <typename T>
void pool_dense(const PoolDenseParams& p, const PoolDenseForward<T>& t) {
  const int64_t hw = p.h * p.w;
  std::vector<double> pooled(p.c);
  for (int64_t n = 0; n < p.n; ++n) {
    for (int64_t c = 0; c < p.c; ++c) {
      const T* map = t.x + (n * p.c + c) * hw;
      pooled[c] = static_cast<T>(std::accumulate(map, map + hw, 0.0) / static_cast<double>(hw));
    }
    for (int64_t j = 0; j < p.c_out; ++j) {
      const double start = t.bias != nullptr ? t.bias[j] : 0;
      const double sum = std::inner_product(pooled.begin(), pooled.end(), t.weight + j * p.c, start);
      t.y[n * p.c_out + j] = static_cast<T>(sum);
    }
  }
}

template void pool_dense(const PoolDenseParams&, const PoolDenseForward<float>&);
template void pool_dense(const PoolDenseParams&, const PoolDenseForward<double>&);

}  // namespace sknet_ops::reference
