// SPDX-License-Identifier: Apache-2.0
// The branches of the SK unit: convolutions of different receptive field, each with batch norm and ReLU.

struct SkBranches {
  ConvShape shape[kMaxBranches];
  ConvSet set;
  int64_t hw, channels;  // of one branch
  explicit SkBranches(const SkConvParams& p, KeptWeights* kept = nullptr)
      : set{shape, p.branches, p.split_input, kept} {
    for (int m = 0; m < p.branches; ++m) shape[m] = p.branch(m);
    hw = p.h_out * p.w_out;
    channels = p.c_out;
  }
  SkBranches(const SkBranches&) = delete;
  SkBranches& operator=(const SkBranches&) = delete;
  int64_t plane(int m, int64_t n, int64_t c) const { return (n * set.branches + m) * channels + c; }
};

// The raw convolutions into z, and the batch statistics.
static void sk_conv_statistics(const SkConvParams& p, const SkBranches& b, const float* x, const float* const* weight,
                               const NormTensors<float>* norm, float* z, float* mean, float* inv_std) {
  Moments* moments = reinterpret_cast<Moments*>(shared_scratch(Shared::kStats, p.branches * p.c_out * p.n * 4));
  conv_forward(b.set, x, weight, [&](int m, int64_t n, int64_t c) {
    return EmitMoments{z + b.plane(m, n, c) * b.hw, moments + (m * p.c_out + c) * p.n + n};
  });
  for (int m = 0; m < p.branches; ++m) {
    for (int64_t c = 0; c < p.c_out; ++c) {
      const Moments all = merge_moments(moments + (m * p.c_out + c) * p.n, p.n, b.hw);
      finish_statistics(all, p.n * b.hw, p.norm, c, norm[m], mean + m * p.c_out, inv_std + m * p.c_out);
    }
  }
}

static void sk_conv_raw(const SkBranches& b, const float* x, const float* const* weight, float* z) {
  conv_forward(b.set, x, weight, [&](int m, int64_t n, int64_t c) { return EmitRaw{z + b.plane(m, n, c) * b.hw}; });
}

// (branches, c_out) normalisations: of the batch as saved, or the moving ones.
static Affine* branch_affines(const SkConvParams& p, const NormTensors<float>* norm, const float* mean,
                              const float* inv_std, Affine* to) {
  for (int m = 0; m < p.branches; ++m) {
    for (int64_t c = 0; c < p.c_out; ++c) {
      const int64_t i = m * p.c_out + c;
      to[i] = p.norm.training ? make_affine(mean[i], inv_std[i], norm[m].gamma[c], norm[m].beta[c])
                              : moving_affine(norm[m], c, p.norm.eps);
    }
  }
  return to;
}

static void sk_conv(const SkConvParams& p, const SkConvForward<float>& t) {
  if (p.n == 0) return;
  const SkBranches b(p);
  if (p.norm.training) sk_conv_statistics(p, b, t.x, t.weight, t.norm, t.z, t.mean, t.inv_std);
  const Affine* affine =
      branch_affines(p, t.norm, t.mean, t.inv_std,
                     reinterpret_cast<Affine*>(shared_scratch(Shared::kSmall, p.branches * p.c_out * 4)));
  if (p.norm.training) {
    const int64_t stacked = p.branches * p.c_out;
    parallel(p.n * stacked, [&](int64_t plane, int) {
      affine_plane(t.z + plane * b.hw, affine[plane % stacked], p.norm.relu, nullptr, b.hw, t.u + plane * b.hw);
    });
    return;
  }
  conv_forward(b.set, t.x, t.weight, [&](int m, int64_t n, int64_t c) {
    return EmitAffine{t.u + b.plane(m, n, c) * b.hw, nullptr, affine[m * p.c_out + c], p.norm.relu};
  });
}

// Batch-norm gradients from per-plane sums (branches, c_out, n): dgamma, dbeta, and what dz needs.
static void branch_zgrads(const SkConvParams& p, int64_t hw, const Affine* affine, const GradSums* sums,
                          float* const* dgamma, float* const* dbeta, ZGrad* to) {
  for (int m = 0; m < p.branches; ++m) {
    for (int64_t c = 0; c < p.c_out; ++c) {
      const int64_t i = m * p.c_out + c;
      GradSums total{0.0, 0.0};
      for (int64_t n = 0; n < p.n; ++n) total.g += sums[i * p.n + n].g, total.gx += sums[i * p.n + n].gx;
      dbeta[m][c] = static_cast<float>(total.g);
      dgamma[m][c] = static_cast<float>(total.gx);
      to[i] = make_zgrad(affine[i], total, max_of(1, p.n * hw), p.norm.training);
    }
  }
}

// The small per-channel arrays of a gradient, in one piece of scratch.
struct GradScratch {
  Affine* affine;
  ZGrad* zgrad;
  explicit GradScratch(int64_t count) {
    float* p = shared_scratch(Shared::kSmall, count * 10);
    affine = reinterpret_cast<Affine*>(p);
    zgrad = reinterpret_cast<ZGrad*>(p + count * 4);
  }
};

static void sk_conv_grad(const SkConvParams& p, const SkConvBackward<float>& t) {
  const SkBranches b(p);
  const int64_t stacked = p.branches * p.c_out, hw = b.hw;
  const float* z = t.z;
  if (z == nullptr && p.n > 0) {
    float* again = shared_scratch(Shared::kRecompute, p.n * stacked * hw);
    sk_conv_raw(b, t.x, t.weight, again);
    z = again;
  }
  const GradScratch scratch(stacked);
  const Affine* affine = branch_affines(p, t.norm, t.mean, t.inv_std, scratch.affine);
  GradSums* sums = reinterpret_cast<GradSums*>(shared_scratch(Shared::kStats, (p.n * stacked + 1) * 4));
  auto gate = [&](const Affine& a, Vec g, Vec zz) { return p.norm.relu ? keep_if_positive(g, apply(a, zz)) : g; };
  parallel(p.n * stacked, [&](int64_t plane, int) {
    const Affine a = affine[plane % stacked];
    const float *du = t.du + plane * hw, *zp = z + plane * hw;
    Vec g_sum{}, gx_sum{};
    auto step = [&](Vec g, Vec zz) {
      g = gate(a, g, zz);
      g_sum += g;
      gx_sum += g * ((zz - broadcast(a.mean)) * broadcast(a.inv_std));
    };
    int64_t i = 0;
    for (; i + kVec <= hw; i += kVec) step(load(du + i), load(zp + i));
    if (i < hw) step(load_part(du + i, hw - i), load_part(zp + i, hw - i));
    sums[plane % stacked * p.n + plane / stacked] = {static_cast<double>(sum(g_sum)), static_cast<double>(sum(gx_sum))};
  });
  branch_zgrads(p, hw, affine, sums, t.dgamma, t.dbeta, scratch.zgrad);
  conv_backward(b.set, t.x, t.weight, t.dx, t.dweight, [&](int m, int64_t n, int64_t c, float* to) {
    const int64_t at = b.plane(m, n, c) * hw;
    const ZGrad grad = scratch.zgrad[m * p.c_out + c];
    auto step = [&](Vec g, Vec zz) { return grad(gate(grad.a, g, zz), zz); };
    int64_t i = 0;
    for (; i + kVec <= hw; i += kVec) store(to + i, step(load(t.du + at + i), load(z + at + i)));
    if (i < hw) store_part(to + i, step(load_part(t.du + at + i, hw - i), load_part(z + at + i, hw - i)), hw - i);
  });
}
