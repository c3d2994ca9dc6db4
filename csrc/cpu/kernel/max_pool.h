// SPDX-License-Identifier: Apache-2.0
// The largest value of each window. Every stem pools by 3x3 windows in steps of 2, which has a way of its own, bound by
// memory; any other goes through a plain loop.

// Calls visit(output index, index of the window's maximum) for every window of a plane.
template <typename Visit>
static void each_maximum(const MaxPoolParams& p, const float* x, Visit visit) {
  for (int64_t oh = 0; oh < p.h_out; ++oh) {
    const int64_t top = oh * p.stride - p.pad_top;
    const int64_t first_row = max_of(top, 0), last_row = min_of(top + p.kernel, p.h);
    for (int64_t ow = 0; ow < p.w_out; ++ow) {
      const int64_t left = ow * p.stride - p.pad_left;
      const int64_t first_column = max_of(left, 0), last_column = min_of(left + p.kernel, p.w);
      int64_t best = first_row * p.w + first_column;
      for (int64_t row = first_row; row < last_row; ++row) {
        for (int64_t at = row * p.w + first_column; at < row * p.w + last_column; ++at) {
          if (x[at] > x[best] || x[at] != x[at]) best = at;
        }
      }
      visit(oh * p.w_out + ow, best);
    }
  }
}

#if SKNET_VEC > 1

static inline Vec larger(Vec most, Vec v) { return (v > most) | (v != v) ? v : most; }

// The 3x3 windows in steps of 2 of one plane, from rows that are copied with a rim on the left and on the right. The
// rim, and rows above and below the map, repeat the map's edge, which is in the same windows: this changes no maximum.
struct Pool3x3 {
  const MaxPoolParams& p;
  VecIndex even = even_lanes();

  explicit Pool3x3(const MaxPoolParams& params) : p(params) {}
  // Positions in a plane are counted in int.
  static bool takes(const MaxPoolParams& p) { return p.kernel == 3 && p.stride == 2 && p.h < (1ll << 30) / p.w; }

  int64_t row_floats() const { return max_of(2 * ceil_div(p.w_out, kVec) * kVec, p.w) + 2 * kVec; }
  int64_t source_row(int64_t oh, int64_t i) const { return max_of(0, min_of(2 * oh - p.pad_top + i, p.h - 1)); }
  void add_rim(float* row) const {
    row[0] = row[p.pad_left];  // itself where there is none
    row[p.pad_left + p.w] = row[p.pad_left + p.w - 1];
  }

  // `row`: scratch of row_floats().
  void forward(const float* x, float* row, float* y) const {
    for (int64_t oh = 0; oh < p.h_out; ++oh, y += p.w_out) {
      const float* a = x + source_row(oh, 0) * p.w;
      const float *b = x + source_row(oh, 1) * p.w, *c = x + source_row(oh, 2) * p.w;
      float* to = row + p.pad_left;
      int64_t i = 0;
      for (; i + kVec <= p.w; i += kVec) store(to + i, larger(larger(load(a + i), load(b + i)), load(c + i)));
      if (const int64_t n = p.w - i; n > 0) {
        store_part(to + i, larger(larger(load_part(a + i, n), load_part(b + i, n)), load_part(c + i, n)), n);
      }
      add_rim(row);
      for (int64_t ow = 0; ow < p.w_out; ow += kVec) {
        const float* from = row + 2 * ow;
        const Vec left = pick(from, even), middle = pick(from, even + 1);
        const Vec most = larger(larger(left, middle), pick(from + 2, even));
        store_some(y + ow, most, min_of(kVec, p.w_out - ow));
      }
    }
  }

  // `rows`: scratch of three times row_floats(). dx: zeros.
  void backward(const float* dy, const float* x, float* rows, float* dx) const {
    const int64_t pitch = row_floats();
    for (int64_t oh = 0; oh < p.h_out; ++oh, dy += p.w_out) {
      int row_start[3];
      for (int64_t i = 0; i < 3; ++i) {
        const int64_t start = source_row(oh, i) * p.w;
        row_start[i] = static_cast<int>(start);
        copy_row(x + start, p.w, rows + i * pitch + p.pad_left);
        add_rim(rows + i * pitch);
      }
      for (int64_t ow = 0; ow < p.w_out; ow += kVec) {
        const VecIndex best = best_of(rows + 2 * ow, pitch, row_start, static_cast<int>(2 * ow - p.pad_left));
        int at[kVec];
        __builtin_memcpy(at, &best, sizeof best);
        const int64_t n = min_of(kVec, p.w_out - ow);
        for (int64_t i = 0; i < n; ++i) dx[at[i]] += dy[ow + i];
      }
    }
  }

  // Where in the plane the maxima of a vector of windows are; `column`: the first window's.
  VecIndex best_of(const float* rows, int64_t pitch, const int* row_start, int column) const {
    VecIndex columns[3];
    for (int j = 0; j < 3; ++j) {
      const VecIndex c = even + (column + j), last = c - c + static_cast<int>(p.w - 1);
      columns[j] = c > last ? last : c;
      columns[j] = columns[j] < 0 ? c - c : columns[j];
    }
    Vec most = pick(rows, even);
    VecIndex best = columns[0] + row_start[0];
    for (int tap = 1; tap < 9; ++tap) {
      const int i = tap / 3, j = tap % 3;
      const Vec v = pick(rows + i * pitch + (j & 2), even + (j & 1));
      const VecIndex better = (v > most) | (v != v);
      most = better ? v : most;
      best = better ? columns[j] + row_start[i] : best;
    }
    return best;
  }
};
#endif

static void max_pool(const MaxPoolParams& p, const MaxPoolForward<float>& t) {
  const int64_t hw = p.h * p.w, hw_out = p.h_out * p.w_out;
#if SKNET_VEC > 1
  if (Pool3x3::takes(p)) {
    const Pool3x3 pool(p);
    reserve_local(Local::kRow, pool.row_floats());
    parallel(p.n * p.c, [&](int64_t plane, int worker) {
      pool.forward(t.x + plane * hw, local_scratch(Local::kRow, worker), t.y + plane * hw_out);
    });
    return;
  }
#endif
  parallel(p.n * p.c, [&](int64_t plane, int) {
    const float* x = t.x + plane * hw;
    float* y = t.y + plane * hw_out;
    each_maximum(p, x, [&](int64_t out, int64_t at) { y[out] = x[at]; });
  });
}

static void max_pool_grad(const MaxPoolParams& p, const MaxPoolBackward<float>& t) {
  const int64_t hw = p.h * p.w, hw_out = p.h_out * p.w_out;
#if SKNET_VEC > 1
  if (Pool3x3::takes(p)) {
    const Pool3x3 pool(p);
    reserve_local(Local::kRow, 3 * pool.row_floats());
    parallel(p.n * p.c, [&](int64_t plane, int worker) {
      float* dx = t.dx + plane * hw;
      fill_zero(dx, hw);
      pool.backward(t.dy + plane * hw_out, t.x + plane * hw, local_scratch(Local::kRow, worker), dx);
    });
    return;
  }
#endif
  parallel(p.n * p.c, [&](int64_t plane, int) {
    const float *x = t.x + plane * hw, *dy = t.dy + plane * hw_out;
    float* dx = t.dx + plane * hw;
    fill_zero(dx, hw);
    each_maximum(p, x, [&](int64_t out, int64_t at) { dx[at] += dy[out]; });
  });
}
