// SPDX-License-Identifier: Apache-2.0
// Batch normalisation over (image, position) for each channel, with optional residual and ReLU.
#pragma once

#include <cmath>

#include "sknet_ops/params.h"

namespace sknet_ops::reference {

// `n` images of `channels` maps of `size` values; image i starts at i * stride.
struct NormShape {
  int64_t n, channels, size, stride;
  int64_t count() const { return n * size; }
  int64_t map(int64_t image, int64_t channel) const { return image * stride + channel * size; }
};

// Calls visit(i) with the index of each value of one channel.
template <typename Visit>
void for_each_value(const NormShape& s, int64_t channel, Visit visit) {
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t i = s.map(n, channel); i < s.map(n, channel) + s.size; ++i) {
      visit(i);
    }
  }
}

template <typename T>
T relu(T v) {
  return v < 0 ? T(0) : v;  // lets NaN through
}

// mean and inv_std that the normalisation uses. Training: of the batch, and the moving statistics move.
// An empty batch has none: zeros, and the moving statistics stay.
template <typename T>
void norm_statistics(const NormShape& s, const NormParams& p, const T* z, const NormTensors<T>& norm, T* mean,
                     T* inv_std) {
  for (int64_t c = 0; c < s.channels; ++c) {
    double mu = norm.moving_mean[c], variance = norm.moving_variance[c];
    if (p.training) {
      if (s.count() == 0) {
        mean[c] = inv_std[c] = 0;
        continue;
      }
      double sum = 0, squares = 0;
      for_each_value(s, c, [&](int64_t i) { sum += z[i]; });
      mu = sum / s.count();
      for_each_value(s, c, [&](int64_t i) { squares += (z[i] - mu) * (z[i] - mu); });
      variance = squares / s.count();
      const double unbiased = s.count() > 1 ? squares / (s.count() - 1) : variance;
      norm.moving_mean[c] = static_cast<T>((1.0 - p.momentum) * norm.moving_mean[c] + p.momentum * mu);
      norm.moving_variance[c] = static_cast<T>((1.0 - p.momentum) * norm.moving_variance[c] + p.momentum * unbiased);
    }
    mean[c] = static_cast<T>(mu);
    inv_std[c] = static_cast<T>(1.0 / std::sqrt(variance + p.eps));
  }
}

// y = act((z - mean) * inv_std * gamma + beta + residual); residual may be null.
template <typename T>
void normalise(const NormShape& s, const NormParams& p, const T* z, const T* gamma, const T* beta, const T* mean,
               const T* inv_std, const T* residual, T* y) {
  for (int64_t c = 0; c < s.channels; ++c) {
    for_each_value(s, c, [&](int64_t i) {
      const T v = (z[i] - mean[c]) * inv_std[c] * gamma[c] + beta[c] + (residual ? residual[i] : T(0));
      y[i] = p.relu ? relu(v) : v;
    });
  }
}

// Gradient of what stands before the activation, from the gradient of y and y itself. Where y is NaN it passes.
template <typename T>
void activation_grad(const NormShape& s, const NormParams& p, const T* dy, const T* y, T* dv) {
  for (int64_t c = 0; c < s.channels; ++c) {
    for_each_value(s, c, [&](int64_t i) { dv[i] = p.relu && y[i] <= 0 ? T(0) : dy[i]; });
  }
}

// From dv, the gradient of the normalised and affinely mapped values: dz, dgamma, dbeta.
template <typename T>
void normalise_grad(const NormShape& s, const NormParams& p, const T* dv, const T* z, const T* gamma, const T* mean,
                    const T* inv_std, T* dz, T* dgamma, T* dbeta) {
  for (int64_t c = 0; c < s.channels; ++c) {
    const double mu = mean[c], scale = inv_std[c];
    double sum = 0, sum_normalised = 0;
    for_each_value(s, c, [&](int64_t i) {
      sum += dv[i];
      sum_normalised += dv[i] * ((z[i] - mu) * scale);
    });
    dbeta[c] = static_cast<T>(sum);
    dgamma[c] = static_cast<T>(sum_normalised);
    for_each_value(s, c, [&](int64_t i) {
      double through = dv[i];
      if (p.training) {  // the batch statistics depend on z too
        through -= (sum + (z[i] - mu) * scale * sum_normalised) / s.count();
      }
      dz[i] = static_cast<T>(gamma[c] * scale * through);
    });
  }
}

}  // namespace sknet_ops::reference
