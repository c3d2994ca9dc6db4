// SPDX-License-Identifier: Apache-2.0
// The small dense part: pooled vector -> dense -> batch norm -> ReLU -> dense -> softmax across branches.

// In double.
static inline float dot(const float* a, const float* b, int64_t n) {
  Wide s{};
  int64_t i = 0;
  for (; i + kVec <= n; i += kVec) add_product(s, load(a + i), load(b + i));
  double total = sum_wide(s);
  for (; i < n; ++i) total += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return static_cast<float>(total);
}

// Of a block of dot products: accumulators and operands fit the registers.
inline constexpr int kDotRows = 4;
#if SKNET_VEC == 16 || defined(__aarch64__)  // 32 registers
inline constexpr int kDotImages = 4;
#else
inline constexpr int kDotImages = 2;
#endif

// y[i * y_step + j] = dot of x + i * n and w + j * n, i < X, j < W; summed as dots of any other X and W.
template <int X, int W>
static inline void dots(const float* x, const float* w, int64_t n, float* y, int64_t y_step) {
  Doubles acc[X][W] = {};
  int64_t k = 0;
  for (; k + kDoubles <= n; k += kDoubles) {
    Doubles a[X];
#pragma GCC unroll 4
    for (int i = 0; i < X; ++i) a[i] = load_doubles(x + i * n + k);
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) {
      const Doubles b = load_doubles(w + j * n + k);
#pragma GCC unroll 4
      for (int i = 0; i < X; ++i) acc[i][j] += a[i] * b;
    }
  }
  for (int i = 0; i < X; ++i) {
    for (int j = 0; j < W; ++j) {
      double total = sum_doubles(acc[i][j]);
      for (int64_t r = k; r < n; ++r) total += static_cast<double>(x[i * n + r]) * static_cast<double>(w[j * n + r]);
      y[i * y_step + j] = static_cast<float>(total);
    }
  }
}

// Dense layer: x (images, n), w (rows, n) -> y[image * y_image + row]. In double: over few images the norm behind it
// takes differences of nearly equal values.
static void dense_rows(const float* x, int64_t images, int64_t n, const float* w, int64_t rows, float* y,
                       int64_t y_image) {
  auto some = [&](auto count, int64_t i) {
    constexpr int kImages = decltype(count)::value;
    int64_t j = 0;
    for (; j + kDotRows <= rows; j += kDotRows) {
      dots<kImages, kDotRows>(x + i * n, w + j * n, n, y + i * y_image + j, y_image);
    }
    for (; j < rows; ++j) dots<kImages, 1>(x + i * n, w + j * n, n, y + i * y_image + j, y_image);
  };
  int64_t i = 0;
  for (; i + kDotImages <= images; i += kDotImages) some(std::integral_constant<int, kDotImages>{}, i);
  for (; i < images; ++i) some(std::integral_constant<int, 1>{}, i);
}

static inline Affine hidden_affine(const NormParams& norm, const NormTensors<float>& t, const float* mean,
                                   const float* inv_std, int64_t j) {
  return norm.training ? make_affine(mean[j], inv_std[j], t.gamma[j], t.beta[j]) : moving_affine(t, j, norm.eps);
}

static inline float hidden_value(const Affine& a, float h) {
  const float v = (h - a.mean) * a.scale + a.beta;
  return v < 0.0f ? 0.0f : v;
}

#if SKNET_VEC > 1
// e^x for x <= 0, within two units in the last place; NaN stays NaN. Where e^x is below the least normal float, that.
// x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts, then the Taylor polynomial of degree 7, off by 5e-9.
static inline Vec exp_of_negative(Vec x) {
  x = x < -87.0f ? broadcast(-87.0f) : x;
  const Vec shift = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to whole numbers
  const Vec shifted = x * 1.44269504f + shift, n = shifted - shift;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = broadcast(1.0f / 5040.0f);
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const VecIndex power = (reinterpret_cast<VecIndex>(shifted) - reinterpret_cast<VecIndex>(shift) + 127) << 23;
  return p * reinterpret_cast<Vec>(power);
}
#else
static inline Vec exp_of_negative(Vec x) { return __builtin_expf(x); }
#endif

// Over the branches, for `count` channels from att on; c: between branches.
static inline void softmax_branches(int branches, int64_t c, int64_t count, float* att) {
  for (int64_t i = 0; i < count; i += kVec) {
    const int64_t now = min_of(kVec, count - i);
    Vec most = load_some(att + i, now);
    for (int m = 1; m < branches; ++m) {
      const Vec v = load_some(att + m * c + i, now);
      most = v > most ? v : most;
    }
    Vec e[kMaxBranches], total{};
    for (int m = 0; m < branches; ++m) {
      e[m] = exp_of_negative(load_some(att + m * c + i, now) - most);
      total += e[m];
    }
    for (int m = 0; m < branches; ++m) store_some(att + m * c + i, e[m] / total, now);
  }
}

// Rows of a dense layer, and images, that are one task: enough to be worth it, few enough that one image occupies all
// workers. The images follow each other with the same rows, which the first-level cache has then.
inline constexpr int64_t kDenseRows = 16, kDenseImages = 8;

// pooled (n, c) -> hidden (n, c_reduced), before the norm
static void attention_hidden(const SkAttentionParams& p, const float* pooled, const float* fc_reduce, float* hidden) {
  const int64_t pieces = ceil_div(p.c_reduced, kDenseRows), sets = ceil_div(p.n, kDenseImages);
  parallel(pieces * sets, [&](int64_t task, int) {
    const int64_t n = task % sets * kDenseImages, first = task / sets * kDenseRows;
    dense_rows(pooled + n * p.c, min_of(kDenseImages, p.n - n), p.c, fc_reduce + first * p.c,
               min_of(kDenseRows, p.c_reduced - first), hidden + n * p.c_reduced + first, p.c_reduced);
  });
}

static void hidden_statistics(const SkAttentionParams& p, const float* hidden, const NormTensors<float>& norm,
                              float* mean, float* inv_std) {
  for (int64_t j = 0; j < p.c_reduced; ++j) {
    double total = 0.0, squares = 0.0;
    for (int64_t n = 0; n < p.n; ++n) total += static_cast<double>(hidden[n * p.c_reduced + j]);
    const double center = total / static_cast<double>(p.n);
    for (int64_t n = 0; n < p.n; ++n) {
      const double d = static_cast<double>(hidden[n * p.c_reduced + j]) - center;
      squares += d * d;
    }
    finish_statistics({center, squares}, p.n, p.norm, j, norm, mean, inv_std);
  }
}

// hidden -> attention (n, branches, c); `normed` is scratch of (n, c_reduced)
static void attention_weights(const SkAttentionParams& p, const float* hidden, const NormTensors<float>& norm,
                              const float* mean, const float* inv_std, const float* fc_select, float* normed,
                              float* attention) {
  const int64_t stacked = p.branches * p.c;
  for (int64_t j = 0; j < p.c_reduced; ++j) {
    const Affine a = hidden_affine(p.norm, norm, mean, inv_std, j);
    for (int64_t n = 0; n < p.n; ++n) normed[n * p.c_reduced + j] = hidden_value(a, hidden[n * p.c_reduced + j]);
  }
  constexpr int64_t kChannels = 4 * kDenseRows;
  const int64_t pieces = ceil_div(p.c, kChannels), sets = ceil_div(p.n, kDenseImages);
  parallel(pieces * sets, [&](int64_t task, int) {
    const int64_t n = task % sets * kDenseImages, images = min_of(kDenseImages, p.n - n);
    const int64_t first = task / sets * kChannels, count = min_of(kChannels, p.c - first);
    float* att = attention + n * stacked + first;
    for (int m = 0; m < p.branches; ++m) {
      dense_rows(normed + n * p.c_reduced, images, p.c_reduced, fc_select + (m * p.c + first) * p.c_reduced, count,
                 att + m * p.c, stacked);
    }
    for (int64_t i = 0; i < images; ++i) softmax_branches(p.branches, p.c, count, att + i * stacked);
  });
}

// The whole of it from the pooled vectors. `scratch` holds n * c_reduced floats.
static void attention_from_pooled(const SkAttentionParams& p, const float* pooled, const float* fc_reduce,
                                  const NormTensors<float>& norm, const float* fc_select, float* hidden, float* mean,
                                  float* inv_std, float* scratch, float* attention) {
  attention_hidden(p, pooled, fc_reduce, hidden);
  if (p.norm.training) hidden_statistics(p, hidden, norm, mean, inv_std);
  attention_weights(p, hidden, norm, mean, inv_std, fc_select, scratch, attention);
}

static void pool_stacked(const SkAttentionParams& p, const float* u, float* pooled) {
  const int64_t hw = p.h * p.w;
  parallel(p.n * p.c, [&](int64_t task, int) {
    const int64_t n = task / p.c, c = task % p.c;
    double total = 0.0;
    for (int m = 0; m < p.branches; ++m) {
      total += plane_sum(u + ((n * p.branches + m) * p.c + c) * hw, hw);
    }
    pooled[task] = static_cast<float>(total / static_cast<double>(hw));
  });
}

static void sk_attention(const SkAttentionParams& p, const SkAttentionForward<float>& t) {
  if (p.n == 0) return;
  float* small = shared_scratch(Shared::kSmall, p.n * (p.c + 2 * p.c_reduced));
  float* pooled = t.pooled != nullptr ? t.pooled : small + 2 * p.n * p.c_reduced;
  float* hidden = t.hidden != nullptr ? t.hidden : small + p.n * p.c_reduced;
  pool_stacked(p, t.u, pooled);
  attention_from_pooled(p, pooled, t.fc_reduce, t.norm, t.fc_select, hidden, t.mean, t.inv_std, small, t.attention);
}

struct Center {
  double mean, inv_std;
};

// The batch statistics once more, unrounded. Of two images, say, xhat is almost 1 and -1, and the gradient is what is
// left of 1 - xhat^2: rounding them to float, as they were saved, would leave three digits of it.
static Center hidden_center(const SkAttentionParams& p, const float* hidden, int64_t j) {
  double mean = 0.0, squares = 0.0;
  for (int64_t n = 0; n < p.n; ++n) mean += static_cast<double>(hidden[n * p.c_reduced + j]);
  mean /= static_cast<double>(p.n);
  for (int64_t n = 0; n < p.n; ++n) {
    const double d = static_cast<double>(hidden[n * p.c_reduced + j]) - mean;
    squares += d * d;
  }
  const double variance = squares / static_cast<double>(p.n);
  return {mean, 1.0 / __builtin_sqrt(variance + static_cast<double>(p.norm.eps))};
}

// dattention (n, branches, c) -> dpooled (n, c) and the gradients of the dense layers.
static void attention_backward(const SkAttentionParams& p, const float* dattention, const float* attention,
                               const float* pooled, const float* hidden, const float* mean, const float* inv_std,
                               const float* fc_reduce, const NormTensors<float>& norm, const float* fc_select,
                               float* dpooled, float* dfc_reduce, float* dgamma, float* dbeta, float* dfc_select) {
  const int64_t stacked = p.branches * p.c, r = p.c_reduced;
  // dlogits (n, stacked), normed (n, r), dhidden (n, r), and doubles of r for one image
  float* scratch = shared_scratch(Shared::kPlanes, p.n * (stacked + 3 * r) + 16);
  float *dlogits = scratch, *normed = dlogits + p.n * stacked, *dhidden = normed + p.n * r;
  fill_zero(dfc_select, stacked * r);
  fill_zero(dfc_reduce, r * p.c);
  for (int64_t j = 0; j < r; ++j) {
    const Affine a = hidden_affine(p.norm, norm, mean, inv_std, j);
    for (int64_t n = 0; n < p.n; ++n) normed[n * r + j] = hidden_value(a, hidden[n * r + j]);
  }
  parallel(p.n, [&](int64_t n, int) {
    const float *att = attention + n * stacked, *d = dattention + n * stacked;
    float* dl = dlogits + n * stacked;
    for (int64_t c = 0; c < p.c; ++c) {
      double inner = 0.0;
      for (int m = 0; m < p.branches; ++m) {
        inner += static_cast<double>(att[m * p.c + c]) * static_cast<double>(d[m * p.c + c]);
      }
      for (int m = 0; m < p.branches; ++m) {
        dl[m * p.c + c] =
            static_cast<float>(static_cast<double>(att[m * p.c + c]) * (static_cast<double>(d[m * p.c + c]) - inner));
      }
    }
    float* dh = dhidden + n * r;
    fill_zero(dh, r);
    for (int64_t i = 0; i < stacked; ++i) {
      const float g = dl[i];
      for (int64_t j = 0; j < r; ++j) dh[j] += g * fc_select[i * r + j];
    }
    for (int64_t j = 0; j < r; ++j) dh[j] = normed[n * r + j] <= 0.0f ? 0.0f : dh[j];
  });
  parallel(ceil_div(stacked, 64), [&](int64_t task, int) {
    for (int64_t i = task * 64; i < min_of(stacked, (task + 1) * 64); ++i) {
      for (int64_t n = 0; n < p.n; ++n) {
        const float g = dlogits[n * stacked + i];
        for (int64_t j = 0; j < r; ++j) dfc_select[i * r + j] += g * normed[n * r + j];
      }
    }
  });
  for (int64_t j = 0; j < r; ++j) {
    const Affine a = hidden_affine(p.norm, norm, mean, inv_std, j);
    double g_sum = 0.0, gx_sum = 0.0;
    const Center center = p.norm.training ? hidden_center(p, hidden, j)
                                          : Center{static_cast<double>(a.mean), static_cast<double>(a.inv_std)};
    auto xhat = [&](int64_t n) { return (static_cast<double>(hidden[n * r + j]) - center.mean) * center.inv_std; };
    for (int64_t n = 0; n < p.n; ++n) {
      const double g = static_cast<double>(dhidden[n * r + j]);
      g_sum += g;
      gx_sum += g * xhat(n);
    }
    dbeta[j] = static_cast<float>(g_sum);
    dgamma[j] = static_cast<float>(gx_sum);
    for (int64_t n = 0; n < p.n; ++n) {
      double g = static_cast<double>(dhidden[n * r + j]);
      // Not a product with 0 or 1: NaN of one image would reach the others.
      if (p.norm.training) g -= (g_sum + xhat(n) * gx_sum) / static_cast<double>(p.n);
      dhidden[n * r + j] = static_cast<float>(static_cast<double>(a.scale) * g);
    }
  }
  parallel(r, [&](int64_t j, int) {
    for (int64_t n = 0; n < p.n; ++n) {
      const float g = dhidden[n * r + j];
      for (int64_t c = 0; c < p.c; ++c) dfc_reduce[j * p.c + c] += g * pooled[n * p.c + c];
    }
  });
  parallel(p.n, [&](int64_t n, int) {
    float* to = dpooled + n * p.c;
    fill_zero(to, p.c);
    for (int64_t j = 0; j < r; ++j) {
      const float g = dhidden[n * r + j];
      for (int64_t c = 0; c < p.c; ++c) to[c] += g * fc_reduce[j * p.c + c];
    }
  });
}

static void sk_attention_grad(const SkAttentionParams& p, const SkAttentionBackward<float>& t) {
  const int64_t hw = p.h * p.w;
  float* small = shared_scratch(Shared::kSmall, p.n * (2 * p.c + p.c_reduced) + 1);
  float *dpooled = small, *again = small + p.n * p.c;
  const float *pooled = t.pooled, *hidden = t.hidden;
  if (pooled == nullptr) {
    pool_stacked(p, t.u, again);
    attention_hidden(p, again, t.fc_reduce, again + p.n * p.c);
    pooled = again, hidden = again + p.n * p.c;
  }
  attention_backward(p, t.dattention, t.attention, pooled, hidden, t.mean, t.inv_std, t.fc_reduce, t.norm, t.fc_select,
                     dpooled, t.dfc_reduce, t.dgamma, t.dbeta, t.dfc_select);
  parallel(p.n * p.branches * p.c, [&](int64_t plane, int) {
    const int64_t n = plane / (p.branches * p.c), c = plane % p.c;
    const float g = static_cast<float>(static_cast<double>(dpooled[n * p.c + c]) / static_cast<double>(hw));
    for (int64_t i = 0; i < hw; ++i) t.du[plane * hw + i] = g;
  });
}
