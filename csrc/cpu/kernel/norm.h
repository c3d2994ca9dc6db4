// SPDX-License-Identifier: Apache-2.0
// Batch norm and ReLU over planes, and their gradients.

// What one channel of a normalisation does: v = (z - mean) * scale + beta, scale = gamma * inv_std.
struct Affine {
  float mean, scale, beta, inv_std;
};

static inline Affine make_affine(float mean, float inv_std, float gamma, float beta) {
  return {mean, gamma * inv_std, beta, inv_std};
}

static inline float inverse_std(double variance, float eps) {
  return static_cast<float>(1.0 / __builtin_sqrt(variance + static_cast<double>(eps)));
}

static inline Affine moving_affine(const NormTensors<float>& t, int64_t c, float eps) {
  return make_affine(t.moving_mean[c], inverse_std(t.moving_variance[c], eps), t.gamma[c], t.beta[c]);
}

static inline Vec apply(const Affine& a, Vec z) {
  return (z - broadcast(a.mean)) * broadcast(a.scale) + broadcast(a.beta);
}

// Loads fewer than a vector; the rest is zero.
static inline Vec load_part(const float* p, int64_t n) {
  float buffer[kVec] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}
static inline void store_part(float* p, Vec v, int64_t n) {
  float buffer[kVec];
  store(buffer, v);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

struct Moments {
  double mean, m2;  // m2: sum of squared distances from the mean
};

static Moments plane_moments(const float* p, int64_t count) {
  Vec s[4] = {};
  int64_t i = 0;
  for (; i + 4 * kVec <= count; i += 4 * kVec) {
    for (int j = 0; j < 4; ++j) s[j] += load(p + i + j * kVec);
  }
  double total = static_cast<double>(sum(s[0] + s[1])) + static_cast<double>(sum(s[2] + s[3]));
  for (; i + kVec <= count; i += kVec) total += static_cast<double>(sum(load(p + i)));
  for (; i < count; ++i) total += static_cast<double>(p[i]);
  const double mean = total / static_cast<double>(count);
  const Vec center = broadcast(static_cast<float>(mean));
  Vec q[4] = {}, d[4] = {};
  i = 0;
  for (; i + 4 * kVec <= count; i += 4 * kVec) {
    for (int j = 0; j < 4; ++j) {
      const Vec v = load(p + i + j * kVec) - center;
      d[j] += v;
      q[j] += v * v;
    }
  }
  double squares = static_cast<double>(sum(q[0] + q[1])) + static_cast<double>(sum(q[2] + q[3]));
  double rest = static_cast<double>(sum(d[0] + d[1])) + static_cast<double>(sum(d[2] + d[3]));
  for (; i < count; ++i) {
    const double v = static_cast<double>(p[i]) - static_cast<double>(static_cast<float>(mean));
    squares += v * v;
    rest += v;
  }
  // `rest` is what rounding the centre, and summing in float, left over.
  const double center_d = static_cast<double>(static_cast<float>(mean)), shift = rest / static_cast<double>(count);
  return {center_d + shift, squares - rest * shift};
}

// Moments of `images` planes of `count` values each -> statistics of the channel.
static inline Moments merge_moments(const Moments* m, int64_t images, int64_t count) {
  double mean = 0.0, m2 = 0.0;
  for (int64_t n = 0; n < images; ++n) mean += m[n].mean;
  mean /= static_cast<double>(images);
  for (int64_t n = 0; n < images; ++n) {
    const double d = m[n].mean - mean;
    m2 += m[n].m2 + d * d * static_cast<double>(count);
  }
  return {mean, m2};
}

// mean and inv_std of the batch for one channel; moves the running statistics.
static inline void finish_statistics(const Moments& all, int64_t count, const NormParams& norm, int64_t c,
                                     const NormTensors<float>& t, float* mean, float* inv_std) {
  const double variance = all.m2 > 0.0 || all.m2 != all.m2 ? all.m2 / static_cast<double>(count) : 0.0;
  mean[c] = static_cast<float>(all.mean);
  inv_std[c] = inverse_std(variance, norm.eps);
  const double unbiased = count > 1 ? all.m2 / static_cast<double>(count - 1) : 0.0;
  const double keep = 1.0 - static_cast<double>(norm.momentum), add = static_cast<double>(norm.momentum);
  t.moving_mean[c] = static_cast<float>(keep * static_cast<double>(t.moving_mean[c]) + add * all.mean);
  t.moving_variance[c] = static_cast<float>(keep * static_cast<double>(t.moving_variance[c]) + add * unbiased);
}

// y = act((z - mean) * scale + beta [+ residual]); y may be z.
static inline void affine_plane(const float* z, const Affine& a, bool act, const float* residual, int64_t count,
                                float* y) {
  auto one = [&](Vec v, Vec r) {
    v = apply(a, v) + r;
    return act ? relu(v) : v;
  };
  int64_t i = 0;
  for (; i + kVec <= count; i += kVec) {
    store(y + i, one(load(z + i), residual != nullptr ? load(residual + i) : Vec{}));
  }
  if (i < count) {
    const int64_t n = count - i;
    store_part(y + i, one(load_part(z + i, n), residual != nullptr ? load_part(residual + i, n) : Vec{}), n);
  }
}

static inline double plane_sum(const float* p, int64_t count) {
  Wide s{};
  int64_t i = 0;
  for (; i + kVec <= count; i += kVec) add_wide(s, load(p + i));
  double total = sum_wide(s);
  for (; i < count; ++i) total += static_cast<double>(p[i]);
  return total;
}

// ---- gradient ----

// Per plane: sum of g, and of g * xhat, where g is the gradient by v and xhat = (z - mean) * inv_std.
struct GradSums {
  double g, gx;
};

// Gradient by z from g: a * (g - offset - xhat * slope); without batch statistics offset = slope = 0.
struct ZGrad {
  Affine a;
  float offset, slope;
  Vec operator()(Vec g, Vec z) const {
    const Vec xhat = (z - broadcast(a.mean)) * broadcast(a.inv_std);
    return broadcast(a.scale) * (g - broadcast(offset) - xhat * broadcast(slope));
  }
};

static inline ZGrad make_zgrad(const Affine& a, const GradSums& total, int64_t count, bool training) {
  if (!training) return {a, 0.0f, 0.0f};
  return {a, static_cast<float>(total.g / static_cast<double>(count)),
          static_cast<float>(total.gx / static_cast<double>(count))};
}
