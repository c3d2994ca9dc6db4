// SPDX-License-Identifier: Apache-2.0
// The largest value of each window; padding is smaller than anything.
#include <algorithm>

#include "reference/reference.h"

namespace sknet_ops::reference {
namespace {

// Calls visit(out, at) for each window: index of the output, and of the first largest value in x.
template <typename T, typename Visit>
void for_each_maximum(const MaxPoolParams& p, const T* x, Visit visit) {
  for (int64_t plane = 0; plane < p.n * p.c; ++plane) {
    for (int64_t oh = 0; oh < p.h_out; ++oh) {
      for (int64_t ow = 0; ow < p.w_out; ++ow) {
        const int64_t top = oh * p.stride - p.pad_top, left = ow * p.stride - p.pad_left;
        int64_t best = -1;
        for (int64_t ih = std::max<int64_t>(top, 0); ih < std::min(top + p.kernel, p.h); ++ih) {
          for (int64_t iw = std::max<int64_t>(left, 0); iw < std::min(left + p.kernel, p.w); ++iw) {
            const int64_t at = (plane * p.h + ih) * p.w + iw;
            if (best < 0 || x[at] > x[best] || x[at] != x[at]) best = at;
          }
        }
        visit((plane * p.h_out + oh) * p.w_out + ow, best);
      }
    }
  }
}

}  // namespace

template <typename T>
void max_pool(const MaxPoolParams& p, const MaxPoolForward<T>& t) {
  for_each_maximum(p, t.x, [&](int64_t out, int64_t at) { t.y[out] = t.x[at]; });
}

template <typename T>
void max_pool_grad(const MaxPoolParams& p, const MaxPoolBackward<T>& t) {
  std::fill_n(t.dx, p.n * p.c * p.h * p.w, T(0));
  for_each_maximum(p, t.x, [&](int64_t out, int64_t at) { t.dx[at] += t.dy[out]; });
}

template void max_pool(const MaxPoolParams&, const MaxPoolForward<float>&);
template void max_pool(const MaxPoolParams&, const MaxPoolForward<double>&);
template void max_pool_grad(const MaxPoolParams&, const MaxPoolBackward<float>&);
template void max_pool_grad(const MaxPoolParams&, const MaxPoolBackward<double>&);

}  // namespace sknet_ops::reference
