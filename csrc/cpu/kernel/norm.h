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

struct Moments {
  double mean, m2;  // m2: sum of squared distances from the mean
};

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
    if (slope == 0.0f) return broadcast(a.scale) * (g - broadcast(offset));  // whatever z is, infinite perhaps
    const Vec xhat = (z - broadcast(a.mean)) * broadcast(a.inv_std);
    return broadcast(a.scale) * (g - broadcast(offset) - xhat * broadcast(slope));
  }
};

static inline ZGrad make_zgrad(const Affine& a, const GradSums& total, int64_t count, bool training) {
  if (!training) return {a, 0.0f, 0.0f};
  return {a, static_cast<float>(total.g / static_cast<double>(count)),
          static_cast<float>(total.gx / static_cast<double>(count))};
}
