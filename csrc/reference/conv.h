// SPDX-License-Identifier: Apache-2.0
// Grouped, strided, dilated, zero-padded 2-D convolution and its two gradients.
#pragma once

#include <vector>

#include "sknet_ops/params.h"

namespace sknet_ops::reference {

// Images of a tensor, or of a slice of its channels: image i starts at data + i * stride.
template <typename T>
struct Images {
  T* data;
  int64_t stride;
  T* operator[](int64_t i) const { return data + i * stride; }
};

// Calls visit(out, in, weight) with the three flat indices of each multiply of one image. Padding multiplies nothing.
template <typename Visit>
void for_each_tap(const ConvShape& s, Visit visit) {
  const int64_t in_per_group = s.c_in / s.groups, out_per_group = s.c_out / s.groups;
  for (int64_t co = 0; co < s.c_out; ++co) {
    const int64_t first_in = co / out_per_group * in_per_group;
    for (int64_t oh = 0; oh < s.h_out; ++oh) {
      for (int64_t ow = 0; ow < s.w_out; ++ow) {
        const int64_t out = (co * s.h_out + oh) * s.w_out + ow;
        for (int64_t ci = 0; ci < in_per_group; ++ci) {
          for (int64_t kh = 0; kh < s.kernel; ++kh) {
            const int64_t ih = oh * s.stride - s.padding + kh * s.dilation;
            if (ih < 0 || ih >= s.h) {
              continue;
            }
            for (int64_t kw = 0; kw < s.kernel; ++kw) {
              const int64_t iw = ow * s.stride - s.padding + kw * s.dilation;
              if (iw < 0 || iw >= s.w) {
                continue;
              }
              const int64_t in = ((first_in + ci) * s.h + ih) * s.w + iw;
              visit(out, in, ((co * in_per_group + ci) * s.kernel + kh) * s.kernel + kw);
            }
          }
        }
      }
    }
  }
}

template <typename T>
void conv(const ConvShape& s, Images<const T> x, const T* weight, Images<T> z) {
  std::vector<double> sum(s.c_out * s.h_out * s.w_out);
  for (int64_t n = 0; n < s.n; ++n) {
    sum.assign(sum.size(), 0.0);
    for_each_tap(s, [&, image = x[n]](int64_t out, int64_t in, int64_t w) {
      sum[out] += static_cast<double>(image[in]) * weight[w];
    });
    for (size_t i = 0; i < sum.size(); ++i) {
      z[n][i] = static_cast<T>(sum[i]);
    }
  }
}

// Adds to dx and dweight, which are double because branches and images share them.
template <typename T>
void conv_grad(const ConvShape& s, Images<const T> dz, Images<const T> x, const T* weight, Images<double> dx,
               double* dweight) {
  for (int64_t n = 0; n < s.n; ++n) {
    for_each_tap(s, [&, dz_n = dz[n], x_n = x[n], dx_n = dx[n]](int64_t out, int64_t in, int64_t w) {
      dx_n[in] += static_cast<double>(dz_n[out]) * weight[w];
      dweight[w] += static_cast<double>(dz_n[out]) * x_n[in];
    });
  }
}

template <typename T>
void store(const std::vector<double>& from, T* to) {
  for (size_t i = 0; i < from.size(); ++i) {
    to[i] = static_cast<T>(from[i]);
  }
}

}  // namespace sknet_ops::reference
