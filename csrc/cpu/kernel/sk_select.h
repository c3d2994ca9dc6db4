// SPDX-License-Identifier: Apache-2.0
// The attention-weighted sum of the branches.

template <int M>
static void select_rows(const float* const* u, const float* attention, int64_t hw, float* y) {
  Vec a[M];
  for (int m = 0; m < M; ++m) a[m] = broadcast(attention[m]);
  auto step = [&](auto&& read) {
    Vec v = a[0] * read(u[0]);
    for (int m = 1; m < M; ++m) v += a[m] * read(u[m]);
    return v;
  };
  int64_t i = 0;
  for (; i + kVec <= hw; i += kVec) store(y + i, step([i](const float* p) { return load(p + i); }));
  if (i < hw) store_part(y + i, step([i, n = hw - i](const float* p) { return load_part(p + i, n); }), hw - i);
}

static void sk_select(const SkSelectParams& p, const SkSelectForward<float>& t) {
  const int64_t hw = p.h * p.w;
  const int64_t planes = p.n * p.c;
  parallel(planes, [&](int64_t index, int) {
    const int64_t task = backwards(index, planes), n = task / p.c, c = task % p.c;
    const float* u[kMaxBranches];
    float attention[kMaxBranches];
    for (int m = 0; m < p.branches; ++m) {
      const int64_t plane = (n * p.branches + m) * p.c + c;
      u[m] = t.u + plane * hw;
      attention[m] = t.attention[plane];
    }
    float* y = t.y + task * hw;
    switch (p.branches) {
      case 1: select_rows<1>(u, attention, hw, y); break;
      case 2: select_rows<2>(u, attention, hw, y); break;
      case 3: select_rows<3>(u, attention, hw, y); break;
      default: select_rows<4>(u, attention, hw, y); break;
    }
  });
}

static void sk_select_grad(const SkSelectParams& p, const SkSelectBackward<float>& t) {
  const int64_t hw = p.h * p.w;
  parallel(p.n * p.branches * p.c, [&](int64_t plane, int) {
    const int64_t n = plane / (p.branches * p.c), c = plane % p.c;
    const float *dy = t.dy + (n * p.c + c) * hw, *u = t.u + plane * hw;
    const float a = t.attention[plane];
    t.dattention[plane] = dot(dy, u, hw);
    for (int64_t i = 0; i < hw; ++i) t.du[plane * hw + i] = a * dy[i];
  });
}
