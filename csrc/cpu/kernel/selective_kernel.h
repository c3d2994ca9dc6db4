// SPDX-License-Identifier: Apache-2.0
// The whole SK unit. Normalised and activated branches are recomputed wherever they are needed, never stored.

// Inference works on as many images at a time as leaves a worker's share of their branches in its second-level cache:
// the worker that wrote them is the one that reads them in the weighted sum.
static int64_t images_at_a_time(int64_t images, int64_t floats) {
  const int64_t most = max_of(1, workers() * second_level_floats() * 7 / 8 / max_of(1, floats));
  return ceil_div(images, ceil_div(images, most));
}

static inline Vec branch_value(const Affine& a, bool act, Vec z) {
  const Vec v = apply(a, z);
  return act ? relu(v) : v;
}

static void selective_kernel_inference(const SelectiveKernelParams& p, const SelectiveKernelForward<float>& t) {
  SkConvParams now = p.conv;
  const PartsOf parts(p.conv.n);
  const int64_t stacked = p.conv.branches * p.conv.c_out, channels = p.conv.c_out;
  const int64_t hw = p.conv.h_out * p.conv.w_out, image_in = p.conv.c_in * p.conv.h * p.conv.w;
  const int64_t chunk = images_at_a_time(p.conv.n, stacked * hw);
  float* u = shared_scratch(Shared::kBranches, chunk * stacked * hw);
  float* small = shared_scratch(Shared::kSmall, stacked * 4 + chunk * (stacked + channels + 2 * p.c_reduced));
  const Affine* affine = branch_affines(p.conv, t.norm, nullptr, nullptr, reinterpret_cast<Affine*>(small));
  float *sums = small + stacked * 4, *pooled = sums + chunk * stacked, *hidden = pooled + chunk * channels;
  for (int64_t n0 = 0; n0 < p.conv.n; n0 += chunk) {
    now.n = min_of(chunk, p.conv.n - n0);
    const SkBranches b(now, p.kept);
    conv_forward(b.set, t.x + n0 * image_in, t.weight, [&](int m, int64_t n, int64_t c) {
      const int64_t plane = b.plane(m, n, c);
      return EmitPooled{u + plane * hw, affine[m * channels + c], p.conv.norm.relu, sums + plane};
    });
    for (int64_t n = 0; n < now.n; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        double total = 0.0;
        for (int m = 0; m < now.branches; ++m) total += static_cast<double>(sums[b.plane(m, n, c)]);
        pooled[n * channels + c] = static_cast<float>(total / static_cast<double>(hw));
      }
    }
    SkAttentionParams attention = p.attention();
    attention.n = now.n;
    float* att = t.attention + n0 * stacked;
    attention_from_pooled(attention, pooled, t.fc_reduce, t.attn_norm, t.fc_select, hidden, nullptr, nullptr,
                          hidden + chunk * p.c_reduced, att);
    sk_select({now.n, channels, p.conv.h_out, p.conv.w_out, now.branches}, {u, att, t.y + n0 * channels * hw});
  }
}

// What one plane of y is made of: the raw planes of its branches, their normalisations and weights.
struct PlaneSources {
  const float* z[kMaxBranches];
  Affine affine[kMaxBranches];
  float attention[kMaxBranches];
};

template <int M>
static void select_plane(const PlaneSources& s, bool act, int64_t hw, float* y) {
  auto step = [&](int64_t i, auto&& read) {
    Vec v{};
    for (int m = 0; m < M; ++m) v += broadcast(s.attention[m]) * branch_value(s.affine[m], act, read(s.z[m] + i));
    return v;
  };
  int64_t i = 0;
  for (; i + kVec <= hw; i += kVec) store(y + i, step(i, [](const float* p) { return load(p); }));
  if (i < hw) store_part(y + i, step(i, [n = hw - i](const float* p) { return load_part(p, n); }), hw - i);
}

// Sum over positions of one activated branch.
static double activated_sum(const float* z, const Affine& a, bool act, int64_t hw) {
  Wide s{};
  int64_t i = 0;
  for (; i + kVec <= hw; i += kVec) add_wide(s, branch_value(a, act, load(z + i)));
  double total = sum_wide(s);
  for (; i < hw; ++i) {
    const float v = (z[i] - a.mean) * a.scale + a.beta;
    total += static_cast<double>(act && v < 0.0f ? 0.0f : v);
  }
  return total;
}

static void pool_raw(const SkConvParams& p, const float* z, const Affine* affine, float* pooled) {
  const int64_t hw = p.h_out * p.w_out;
  parallel(p.n * p.c_out, [&](int64_t task, int) {
    const int64_t n = task / p.c_out, c = task % p.c_out;
    double total = 0.0;
    for (int m = 0; m < p.branches; ++m) {
      const float* plane = z + ((n * p.branches + m) * p.c_out + c) * hw;
      total += activated_sum(plane, affine[m * p.c_out + c], p.norm.relu, hw);
    }
    pooled[task] = static_cast<float>(total / static_cast<double>(hw));
  });
}

static void selective_kernel(const SelectiveKernelParams& p, const SelectiveKernelForward<float>& t) {
  if (p.conv.n == 0) return;
  if (!p.conv.norm.training) return selective_kernel_inference(p, t);
  const SkBranches b(p.conv);
  const int64_t channels = p.conv.c_out, stacked = p.conv.branches * channels, hw = b.hw;
  sk_conv_statistics(p.conv, b, t.x, t.weight, t.norm, t.z, t.mean, t.inv_std);
  float* small = shared_scratch(Shared::kSmall, stacked * 4 + p.conv.n * p.c_reduced);
  const Affine* affine = branch_affines(p.conv, t.norm, t.mean, t.inv_std, reinterpret_cast<Affine*>(small));
  pool_raw(p.conv, t.z, affine, t.pooled);
  attention_from_pooled(p.attention(), t.pooled, t.fc_reduce, t.attn_norm, t.fc_select, t.hidden, t.attn_mean,
                        t.attn_inv_std, small + stacked * 4, t.attention);
  parallel(p.conv.n * channels, [&](int64_t task, int) {
    const int64_t n = task / channels, c = task % channels;
    PlaneSources s;
    for (int m = 0; m < p.conv.branches; ++m) {
      const int64_t plane = b.plane(m, n, c);
      s.z[m] = t.z + plane * hw;
      s.affine[m] = affine[m * channels + c];
      s.attention[m] = t.attention[plane];
    }
    const bool act = p.conv.norm.relu;
    float* y = t.y + task * hw;
    switch (p.conv.branches) {
      case 1: select_plane<1>(s, act, hw, y); break;
      case 2: select_plane<2>(s, act, hw, y); break;
      case 3: select_plane<3>(s, act, hw, y); break;
      default: select_plane<4>(s, act, hw, y); break;
    }
  });
}

// Sums over one plane of one branch, from which all gradients but dz follow. r: where ReLU is open.
struct GateSums {
  double dy, dyx;  // sum r * dy, sum r * dy * xhat
  double r, rx;    // sum r, sum r * xhat
};

static GateSums gate_sums(const float* dy, const float* z, const Affine& a, bool act, int64_t hw) {
  Vec s0{}, s1{}, s2{}, s3{};
  auto step = [&](Vec g, Vec one, Vec zz) {
    const Vec xhat = (zz - broadcast(a.mean)) * broadcast(a.inv_std);
    if (act) {
      const Vec v = apply(a, zz);
      g = keep_if_positive(g, v);
      one = keep_if_positive(one, v);
    }
    s0 += g;
    s1 += g * xhat;
    s2 += one;
    s3 += one * xhat;
  };
  int64_t i = 0;
  for (; i + kVec <= hw; i += kVec) step(load(dy + i), broadcast(1.0f), load(z + i));
  if (i < hw) {
    float ones[kVec];
    for (int j = 0; j < kVec; ++j) ones[j] = j < hw - i ? 1.0f : 0.0f;
    step(load_part(dy + i, hw - i), load(ones), load_part(z + i, hw - i));
  }
  return {static_cast<double>(sum(s0)), static_cast<double>(sum(s1)), static_cast<double>(sum(s2)),
          static_cast<double>(sum(s3))};
}

static void selective_kernel_grad(const SelectiveKernelParams& p, const SelectiveKernelBackward<float>& t) {
  const SkBranches b(p.conv);
  const int64_t n_images = p.conv.n, channels = p.conv.c_out, stacked = p.conv.branches * channels, hw = b.hw;
  const bool act = p.conv.norm.relu;
  const SkAttentionParams attention = p.attention();
  const float *z = t.z, *pooled = t.pooled, *hidden = t.hidden;
  // Recompute what inference did not keep.
  if (z == nullptr && n_images > 0) {
    float* again = shared_scratch(Shared::kRecompute, n_images * (stacked * hw + channels + p.c_reduced));
    sk_conv_raw(b, t.x, t.weight, again);
    z = again;
  }
  const GradScratch scratch(stacked);
  const Affine* affine = branch_affines(p.conv, t.norm, t.mean, t.inv_std, scratch.affine);
  if (pooled == nullptr && n_images > 0) {
    float* again = const_cast<float*>(z) + n_images * stacked * hw;
    pool_raw(p.conv, z, affine, again);
    attention_hidden(attention, again, t.fc_reduce, again + n_images * channels);
    pooled = again, hidden = again + n_images * channels;
  }

  GateSums* gates =
      reinterpret_cast<GateSums*>(shared_scratch(Shared::kStats, n_images * (stacked * (8 + 4 + 1) + channels) + 16));
  GradSums* sums = reinterpret_cast<GradSums*>(gates + n_images * stacked);
  float* dattention = reinterpret_cast<float*>(sums + n_images * stacked);
  float* dpooled = dattention + n_images * stacked;
  parallel(n_images * channels, [&](int64_t task, int) {
    const int64_t n = task / channels, c = task % channels;
    for (int m = 0; m < p.conv.branches; ++m) {
      const int64_t plane = b.plane(m, n, c);
      const GateSums s = gate_sums(t.dy + task * hw, z + plane * hw, affine[m * channels + c], act, hw);
      gates[plane] = s;
      // sum of dy * u, with u = r * (gamma * xhat + beta)
      dattention[plane] = static_cast<float>(static_cast<double>(t.norm[m].gamma[c]) * s.dyx +
                                             static_cast<double>(t.norm[m].beta[c]) * s.dy);
    }
  });
  attention_backward(attention, dattention, t.attention, pooled, hidden, t.attn_mean, t.attn_inv_std, t.fc_reduce,
                     t.attn_norm, t.fc_select, dpooled, t.dfc_reduce, t.dattn_gamma, t.dattn_beta, t.dfc_select);
  parallel(channels, [&](int64_t c, int) {
    for (int64_t n = 0; n < n_images; ++n) {
      float& pool = dpooled[n * channels + c];
      pool = static_cast<float>(static_cast<double>(pool) / static_cast<double>(hw));
      for (int m = 0; m < p.conv.branches; ++m) {
        const int64_t plane = b.plane(m, n, c);
        const GateSums& s = gates[plane];
        const double att = static_cast<double>(t.attention[plane]), ds = static_cast<double>(pool);
        sums[(m * channels + c) * n_images + n] = {att * s.dy + ds * s.r, att * s.dyx + ds * s.rx};
      }
    }
  });
  branch_zgrads(p.conv, hw, affine, sums, t.dgamma, t.dbeta, scratch.zgrad);

  conv_backward(b.set, t.x, t.weight, t.dx, t.dweight, [&](int m, int64_t n, int64_t c, float* to) {
    const int64_t plane = b.plane(m, n, c);
    const float *dy = t.dy + (n * channels + c) * hw, *zp = z + plane * hw;
    const ZGrad grad = scratch.zgrad[m * channels + c];
    const Vec att = broadcast(t.attention[plane]), ds = broadcast(dpooled[n * channels + c]);
    auto step = [&](Vec g, Vec zz) {
      g = g * att + ds;
      return grad(act ? keep_if_positive(g, apply(grad.a, zz)) : g, zz);
    };
    int64_t i = 0;
    for (; i + kVec <= hw; i += kVec) store(to + i, step(load(dy + i), load(zp + i)));
    if (i < hw) store_part(to + i, step(load_part(dy + i, hw - i), load_part(zp + i, hw - i)), hw - i);
  });
}
