// SPDX-License-Identifier: Apache-2.0
// pooled    = mean over positions of the sum of the branches      (n, c)
// hidden    = pooled fc_reduce^T                                  (n, c_reduced)
// attention = softmax over branches of relu(norm(hidden)) fc_select^T
#include <algorithm>
#include <vector>

#include "reference/norm.h"
#include "reference/reference.h"

namespace sknet_ops::reference {
namespace {

NormShape norm_shape(const SkAttentionParams& p) { return {p.n, p.c_reduced, 1, p.c_reduced}; }

// Everything between u and the logits.
template <typename T>
struct Hidden {
  std::vector<T> pooled, hidden, mean, inv_std, activated;
  explicit Hidden(const SkAttentionParams& p)
      : pooled(p.n * p.c),
        hidden(p.n * p.c_reduced),
        mean(p.c_reduced),
        inv_std(p.c_reduced),
        activated(p.n * p.c_reduced) {}
};

// y = x weight^T; x (rows, in), weight (out, in).
template <typename T>
void dense(int64_t rows, int64_t in, int64_t out, const T* x, const T* weight, T* y) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < in; ++i) {
        sum += static_cast<double>(x[r * in + i]) * weight[o * in + i];
      }
      y[r * out + o] = static_cast<T>(sum);
    }
  }
}

template <typename T>
void dense_grad(int64_t rows, int64_t in, int64_t out, const T* dy, const T* x, const T* weight, T* dx, T* dweight) {
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t o = 0; o < out; ++o) {
        sum += static_cast<double>(dy[r * out + o]) * weight[o * in + i];
      }
      dx[r * in + i] = static_cast<T>(sum);
    }
    for (int64_t o = 0; o < out; ++o) {
      double sum = 0;
      for (int64_t r = 0; r < rows; ++r) {
        sum += static_cast<double>(dy[r * out + o]) * x[r * in + i];
      }
      dweight[o * in + i] = static_cast<T>(sum);
    }
  }
}

template <typename T>
void pool(const SkAttentionParams& p, const T* u, T* pooled) {
  for (int64_t n = 0; n < p.n; ++n) {
    for (int64_t c = 0; c < p.c; ++c) {
      double sum = 0;
      for (int m = 0; m < p.branches; ++m) {
        const T* map = u + ((n * p.branches + m) * p.c + c) * p.h * p.w;
        for (int64_t i = 0; i < p.h * p.w; ++i) {
          sum += map[i];
        }
      }
      pooled[n * p.c + c] = static_cast<T>(sum / (p.h * p.w));
    }
  }
}

// Over branches, for each image and channel; in place. Shifted by the largest so that exp stays finite.
template <typename T>
void softmax(const SkAttentionParams& p, T* logits) {
  for (int64_t n = 0; n < p.n; ++n) {
    for (int64_t c = 0; c < p.c; ++c) {
      T* first = logits + n * p.branches * p.c + c;
      double largest = first[0], sum = 0;
      for (int m = 1; m < p.branches; ++m) {
        largest = std::max<double>(largest, first[m * p.c]);
      }
      for (int m = 0; m < p.branches; ++m) {
        sum += std::exp(first[m * p.c] - largest);
      }
      for (int m = 0; m < p.branches; ++m) {
        first[m * p.c] = static_cast<T>(std::exp(first[m * p.c] - largest) / sum);
      }
    }
  }
}

}  // namespace

template <typename T>
void sk_attention(const SkAttentionParams& p, const SkAttentionForward<T>& t) {
  Hidden<T> s(p);
  pool(p, t.u, s.pooled.data());
  dense(p.n, p.c, p.c_reduced, s.pooled.data(), t.fc_reduce, s.hidden.data());
  norm_statistics(norm_shape(p), p.norm, s.hidden.data(), t.norm, s.mean.data(), s.inv_std.data());
  normalise<T>(norm_shape(p), p.norm, s.hidden.data(), t.norm.gamma, t.norm.beta, s.mean.data(), s.inv_std.data(),
               nullptr, s.activated.data());
  dense(p.n, p.c_reduced, p.branches * p.c, s.activated.data(), t.fc_select, t.attention);
  softmax(p, t.attention);
  if (p.norm.training) {
    std::copy(s.pooled.begin(), s.pooled.end(), t.pooled);
    std::copy(s.hidden.begin(), s.hidden.end(), t.hidden);
    std::copy(s.mean.begin(), s.mean.end(), t.mean);
    std::copy(s.inv_std.begin(), s.inv_std.end(), t.inv_std);
  }
}

template <typename T>
void sk_attention_grad(const SkAttentionParams& p, const SkAttentionBackward<T>& t) {
  Hidden<T> s(p);
  if (p.norm.training) {
    s.pooled.assign(t.pooled, t.pooled + p.n * p.c);
    s.hidden.assign(t.hidden, t.hidden + p.n * p.c_reduced);
    s.mean.assign(t.mean, t.mean + p.c_reduced);
    s.inv_std.assign(t.inv_std, t.inv_std + p.c_reduced);
  } else {
    pool(p, t.u, s.pooled.data());
    dense(p.n, p.c, p.c_reduced, s.pooled.data(), t.fc_reduce, s.hidden.data());
    norm_statistics(norm_shape(p), p.norm, s.hidden.data(), t.norm, s.mean.data(), s.inv_std.data());
  }
  normalise<T>(norm_shape(p), p.norm, s.hidden.data(), t.norm.gamma, t.norm.beta, s.mean.data(), s.inv_std.data(),
               nullptr, s.activated.data());

  std::vector<T> dlogits(p.n * p.branches * p.c), dactivated(p.n * p.c_reduced), dhidden(p.n * p.c_reduced),
      dpooled(p.n * p.c);
  for (int64_t n = 0; n < p.n; ++n) {
    for (int64_t c = 0; c < p.c; ++c) {
      const int64_t first = n * p.branches * p.c + c;
      double dot = 0;
      for (int m = 0; m < p.branches; ++m) {
        dot += static_cast<double>(t.dattention[first + m * p.c]) * t.attention[first + m * p.c];
      }
      for (int m = 0; m < p.branches; ++m) {
        const int64_t i = first + m * p.c;
        dlogits[i] = static_cast<T>(t.attention[i] * (t.dattention[i] - dot));
      }
    }
  }
  dense_grad(p.n, p.c_reduced, p.branches * p.c, dlogits.data(), s.activated.data(), t.fc_select, dactivated.data(),
             t.dfc_select);
  activation_grad(norm_shape(p), p.norm, dactivated.data(), s.activated.data(), dactivated.data());
  normalise_grad(norm_shape(p), p.norm, dactivated.data(), s.hidden.data(), t.norm.gamma, s.mean.data(),
                 s.inv_std.data(), dhidden.data(), t.dgamma, t.dbeta);
  dense_grad(p.n, p.c, p.c_reduced, dhidden.data(), s.pooled.data(), t.fc_reduce, dpooled.data(), t.dfc_reduce);
  for (int64_t map = 0; map < p.n * p.branches * p.c; ++map) {
    const int64_t n = map / (p.branches * p.c), c = map % p.c;
    std::fill_n(t.du + map * p.h * p.w, p.h * p.w, dpooled[n * p.c + c] / static_cast<T>(p.h * p.w));
  }
}

template void sk_attention(const SkAttentionParams&, const SkAttentionForward<float>&);
template void sk_attention(const SkAttentionParams&, const SkAttentionForward<double>&);
template void sk_attention_grad(const SkAttentionParams&, const SkAttentionBackward<float>&);
template void sk_attention_grad(const SkAttentionParams&, const SkAttentionBackward<double>&);

}  // namespace sknet_ops::reference
