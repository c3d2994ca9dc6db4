// SPDX-License-Identifier: Apache-2.0
// The attention-weighted sum of the branches.

static void sk_select(const SkSelectParams& p, const SkSelectForward<float>& t) {
  const int64_t hw = p.h * p.w;
  parallel(p.n * p.c, [&](int64_t task, int) {
    const int64_t n = task / p.c, c = task % p.c;
    float* y = t.y + task * hw;
    for (int m = 0; m < p.branches; ++m) {
      const int64_t plane = (n * p.branches + m) * p.c + c;
      const float* u = t.u + plane * hw;
      const float a = t.attention[plane];
      if (m == 0) {
        for (int64_t i = 0; i < hw; ++i) y[i] = a * u[i];
      } else {
        for (int64_t i = 0; i < hw; ++i) y[i] += a * u[i];
      }
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
