// SPDX-License-Identifier: Apache-2.0
// Where planes of dx go.

// One phase of a plane of dx, stored or added. Of stride 2 the phase of columns 0, 2 .. may be held back, in rows of
// held_width, until that of columns 1, 3 .. comes: together they are whole vectors.
struct EmitGradient {
  static constexpr bool kAnyOrder = true;
  float* dx;
  int64_t stride, phase_row, phase_col, phase_width, dx_width;
  bool add;
  float* held = nullptr;
  int64_t held_width = 0;
  const float* writes() const { return stride == 1 ? dx : nullptr; }
  const float* reads() const { return nullptr; }
  void rows(int64_t at, int64_t rows, int64_t width, const float* from, int64_t pitch) {
    if (stride == 1) {
      each_vector(rows, width, from, pitch, [&](int64_t i, Vec v, int64_t n) {
        float* to = dx + at + i;
        store_some(to, add ? load_some(to, n) + v : v, n);
      });
      return;
    }
    if (phase_width == 0) return;
    if (held != nullptr && phase_col == 0) {
      each_vector(rows, width, from, pitch, [&](int64_t i, Vec v, int64_t n) { store_some(held + at + i, v, n); });
      return;
    }
    int64_t row = at / phase_width, column = at % phase_width;
    for (int64_t a = 0; a < rows; ++a, from += pitch) {
      for (int64_t b = 0; b < width;) {
        const int64_t now = min_of(width - b, phase_width - column);
        float* to = dx + (row * stride + phase_row) * dx_width + column * stride + phase_col;
        if (held != nullptr) {
          const float* even = held + row * held_width + column;
          join_row(even, from + b, now, to - 1, add);
          if (column + now == phase_width && held_width > phase_width) {
            float* last = to - 1 + 2 * now;
            *last = add ? *last + even[now] : even[now];
          }
        } else if (stride == 2) {
          store_every_other(from + b, now, to, add);
        } else {
          for (int64_t i = 0; i < now; ++i) to[i * stride] = add ? to[i * stride] + from[b + i] : from[b + i];
        }
        b += now, column += now;
        if (column == phase_width) column = 0, ++row;
      }
    }
  }
  void finish() {}
};

// Phase f of a plane of dx. held: which of the planes that are held back at the same time.
static inline EmitGradient phase_gradient(float* dx, const ConvShape& s, const BackwardPlan& back, int64_t f, bool add,
                                          int64_t held, int worker) {
  const TapSet& taps = back.phase[f];
  EmitGradient emit{dx, s.stride, f / s.stride, f % s.stride, taps.w_out, s.w, add};
  if (s.stride != 2) return emit;
  const TapSet &even = back.phase[f / 2 * 2], &odd = back.phase[f / 2 * 2 + 1];
  if (odd.w_out == 0 || (add && (even.count == 0 || odd.count == 0))) return emit;
  emit.held = local_scratch(Local::kHeld, worker) + held * back.phase->h_out * back.phase->w_out;
  emit.held_width = even.w_out;
  return emit;
}
