// SPDX-License-Identifier: Apache-2.0
// Convolution + batch norm [+ residual] [+ ReLU].

static void conv_bn_act(const ConvBnActParams& p, const ConvBnActForward<float>& t) {
  const ConvShape& s = p.conv;
  if (s.n == 0) return;
  const int64_t hw = s.h_out * s.w_out, planes = s.n * s.c_out;
  const ConvSet set{&s, 1, false, p.kept};
  if (!p.norm.training) {
    Affine* affine = reinterpret_cast<Affine*>(shared_scratch(Shared::kSmall, s.c_out * 4));
    for (int64_t c = 0; c < s.c_out; ++c) affine[c] = moving_affine(t.norm, c, p.norm.eps);
    conv_forward(set, t.x, &t.weight, [&](int, int64_t n, int64_t c) {
      const int64_t at = (n * s.c_out + c) * hw;
      return EmitAffine{t.y + at, t.residual != nullptr ? t.residual + at : nullptr, affine[c], p.norm.relu};
    });
    return;
  }
  Moments* moments = reinterpret_cast<Moments*>(shared_scratch(Shared::kStats, planes * 4));
  conv_forward(set, t.x, &t.weight, [&](int, int64_t n, int64_t c) {
    return EmitMoments{t.z + (n * s.c_out + c) * hw, moments + c * s.n + n};
  });
  for (int64_t c = 0; c < s.c_out; ++c) {
    finish_statistics(merge_moments(moments + c * s.n, s.n, hw), s.n * hw, p.norm, c, t.norm, t.mean, t.inv_std);
  }
  parallel(planes, [&](int64_t plane, int) {
    const int64_t c = plane % s.c_out;
    const Affine a = make_affine(t.mean[c], t.inv_std[c], t.norm.gamma[c], t.norm.beta[c]);
    affine_plane(t.z + plane * hw, a, p.norm.relu, t.residual != nullptr ? t.residual + plane * hw : nullptr, hw,
                 t.y + plane * hw);
  });
}

static void conv_bn_act_grad(const ConvBnActParams& p, const ConvBnActBackward<float>& t) {
  const ConvShape& s = p.conv;
  const int64_t hw = s.h_out * s.w_out, planes = s.n * s.c_out;
  const ConvSet set{&s, 1, false};
  const float* z = t.z;
  if (z == nullptr && s.n > 0) {
    float* again = shared_scratch(Shared::kRecompute, planes * hw);
    conv_forward(set, t.x, &t.weight,
                 [&](int, int64_t n, int64_t c) { return EmitRaw{again + (n * s.c_out + c) * hw}; });
    z = again;
  }
  ZGrad* zgrad = reinterpret_cast<ZGrad*>(shared_scratch(Shared::kSmall, s.c_out * 6));
  GradSums* sums = reinterpret_cast<GradSums*>(shared_scratch(Shared::kStats, (planes + 1) * 4));
  const bool training = p.norm.training;
  auto affine_of = [&](int64_t c) {
    const float mean = training ? t.mean[c] : t.moving_mean[c];
    const float inv = training ? t.inv_std[c] : inverse_std(t.moving_variance[c], p.norm.eps);
    return make_affine(mean, inv, t.gamma[c], t.beta[c]);
  };
  parallel(planes, [&](int64_t plane, int) {
    const int64_t c = plane % s.c_out;
    const Affine a = affine_of(c);
    const float *dy = t.dy + plane * hw, *y = t.y + plane * hw, *zp = z + plane * hw;
    float* dres = t.dresidual != nullptr ? t.dresidual + plane * hw : nullptr;
    Vec g_sum{}, gx_sum{};
    auto step = [&](Vec g, Vec yy, Vec zz) {
      if (p.norm.relu) g = keep_if_positive(g, yy);
      g_sum += g;
      gx_sum += g * ((zz - broadcast(a.mean)) * broadcast(a.inv_std));
      return g;
    };
    int64_t i = 0;
    for (; i + kVec <= hw; i += kVec) {
      const Vec g = step(load(dy + i), load(y + i), load(zp + i));
      if (dres != nullptr) store(dres + i, g);
    }
    if (i < hw) {
      const Vec g = step(load_part(dy + i, hw - i), load_part(y + i, hw - i), load_part(zp + i, hw - i));
      if (dres != nullptr) store_part(dres + i, g, hw - i);
    }
    sums[c * s.n + plane / s.c_out] = {static_cast<double>(sum(g_sum)), static_cast<double>(sum(gx_sum))};
  });
  for (int64_t c = 0; c < s.c_out; ++c) {
    GradSums total{0.0, 0.0};
    for (int64_t n = 0; n < s.n; ++n) total.g += sums[c * s.n + n].g, total.gx += sums[c * s.n + n].gx;
    t.dbeta[c] = static_cast<float>(total.g);
    t.dgamma[c] = static_cast<float>(total.gx);
    zgrad[c] = make_zgrad(affine_of(c), total, max_of(1, s.n * hw), training);
  }
  conv_backward(set, t.x, &t.weight, t.dx, &t.dweight, [&](int, int64_t n, int64_t c, float* to) {
    const int64_t at = (n * s.c_out + c) * hw;
    const float *dy = t.dy + at, *y = t.y + at, *zp = z + at;
    const ZGrad grad = zgrad[c];
    auto step = [&](Vec g, Vec yy, Vec zz) { return grad(p.norm.relu ? keep_if_positive(g, yy) : g, zz); };
    int64_t i = 0;
    for (; i + kVec <= hw; i += kVec) store(to + i, step(load(dy + i), load(y + i), load(zp + i)));
    if (i < hw) {
      store_part(to + i, step(load_part(dy + i, hw - i), load_part(y + i, hw - i), load_part(zp + i, hw - i)), hw - i);
    }
  });
}
