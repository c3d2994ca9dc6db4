// SPDX-License-Identifier: Apache-2.0
// The mean of each map, then a dense layer. For few images the weights come from memory, and reading them is all the
// time there is; for more, a tile of rows and images keeps what it has read in registers.

// R rows of the weights by I images. Each sum runs over the channels in the same order whatever R and I are, so that
// an image's result does not hang on the others.
template <int R, int I>
static void dense_tile(const PoolDenseParams& p, const float* pooled, const float* weight, const float* bias,
                       float* y) {
  constexpr int64_t kAhead = 4096 / sizeof(float);  // the next page, where the processor's own fetching ends
  Vec sum[R][I] = {};
  const auto add = [&](auto&& read, int64_t c) {
    Vec x[I];
    for (int i = 0; i < I; ++i) x[i] = read(pooled + i * p.c + c);
    for (int r = 0; r < R; ++r) {
      const Vec w = read(weight + r * p.c + c);
      for (int i = 0; i < I; ++i) sum[r][i] += w * x[i];
    }
  };
  int64_t c = 0;
  for (; c + kVec <= p.c; c += kVec) {
    for (int r = 0; r < R; ++r) __builtin_prefetch(weight + r * p.c + c + kAhead);
    add([](const float* from) { return load(from); }, c);
  }
  if (const int64_t left = p.c - c; left > 0) add([left](const float* from) { return load_part(from, left); }, c);
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < I; ++i) {
      Wide total{};
      add_wide(total, sum[r][i]);
      y[i * p.c_out + r] = static_cast<float>(sum_wide(total)) + (bias != nullptr ? bias[r] : 0.0f);
    }
  }
}

// R rows for all images.
template <int R>
static void dense_rows(const PoolDenseParams& p, const float* pooled, const float* weight, const float* bias,
                       float* y) {
  constexpr int64_t kImages = 4;
  int64_t n = 0;
  for (; n + kImages <= p.n; n += kImages) {
    dense_tile<R, kImages>(p, pooled + n * p.c, weight, bias, y + n * p.c_out);
  }
  for (; n < p.n; ++n) dense_tile<R, 1>(p, pooled + n * p.c, weight, bias, y + n * p.c_out);
}

static void pool_dense(const PoolDenseParams& p, const PoolDenseForward<float>& t) {
  const int64_t hw = p.h * p.w;
  float* pooled = shared_scratch(Shared::kSmall, p.n * p.c);
  constexpr int64_t kMaps = 64, kRows = 4, kTask = 8 * kRows;
  parallel(ceil_div(p.n * p.c, kMaps), [&](int64_t task, int) {
    for (int64_t map = task * kMaps; map < min_of(p.n * p.c, (task + 1) * kMaps); ++map) {
      pooled[map] = static_cast<float>(plane_sum(t.x + map * hw, hw) / static_cast<double>(hw));
    }
  });
  parallel(ceil_div(p.c_out, kTask), [&](int64_t task, int) {
    const int64_t end = min_of(p.c_out, (task + 1) * kTask);
    int64_t j = task * kTask;
    const auto bias = [&] { return t.bias != nullptr ? t.bias + j : nullptr; };
    for (; j + kRows <= end; j += kRows) dense_rows<kRows>(p, pooled, t.weight + j * p.c, bias(), t.y + j);
    for (; j < end; ++j) dense_rows<1>(p, pooled, t.weight + j * p.c, bias(), t.y + j);
  });
}
