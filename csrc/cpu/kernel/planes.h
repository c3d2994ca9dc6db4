// SPDX-License-Identifier: Apache-2.0
// Moving planes between tensors and their padded form.

static inline void fill_zero(float* p, int64_t n) {
  if (n > 0) __builtin_memset(p, 0, static_cast<size_t>(n) * sizeof(float));
}

// Copies n floats that may be few; may not write past n.
static inline void copy_row(const float* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kVec <= n; i += kVec) store(to + i, load(from + i));
  if (i < n) store_part(to + i, load_part(from + i, n - i), n - i);
}

// Every other float, `count` of them; reads nothing past the last.
static inline void copy_every_other(const float* from, int64_t count, float* to) {
  int64_t j = 0;
#if SKNET_VEC > 1
  const VecIndex even = even_lanes();
  for (; j + kVec < count; j += kVec) store(to + j, pick(from + 2 * j, even));  // the last would read one too many
  // The rest, a vector or fewer: by its two parts.
  const int64_t left = 2 * (count - j) - 1;  // floats
  if (left > 0) {
    const Vec low = load_some(from + 2 * j, min_of(left, kVec));
    const Vec high = left > kVec ? load_part(from + 2 * j + kVec, left - kVec) : Vec{};
    store_some(to + j, __builtin_shuffle(low, high, even), count - j);
  }
#else
  for (; j < count; ++j) to[j] = from[2 * j];
#endif
}

// The way back: every other float of `to` becomes, or grows by, one of `count`. What lies between is not touched.
static inline void store_every_other(const float* from, int64_t count, float* to, bool add) {
#if SKNET_VEC == 16
  VecIndex low{}, high{};
  for (int i = 0; i < kVec; ++i) low[i] = i / 2, high[i] = kVec / 2 + i / 2;
  auto half = [add](float* at, Vec v, __mmask16 lanes) {
    if (add) v += reinterpret_cast<Vec>(_mm512_maskz_loadu_ps(lanes, at));
    _mm512_mask_storeu_ps(at, lanes, reinterpret_cast<__m512>(v));
  };
  for (int64_t j = 0; j < count; j += kVec) {
    const int64_t n = min_of(count - j, kVec);
    const Vec v = load_some(from + j, n);
    const uint32_t lanes = 0x55555555u >> (2 * (kVec - n));
    half(to + 2 * j, __builtin_shuffle(v, low), static_cast<__mmask16>(lanes));
    if (lanes >> 16 != 0) half(to + 2 * j + kVec, __builtin_shuffle(v, high), static_cast<__mmask16>(lanes >> 16));
  }
#else
  for (int64_t j = 0; j < count; ++j) to[2 * j] = add ? to[2 * j] + from[j] : from[j];
#endif
}

// One source plane (h, w) into its padded phases.
static void pad_plane(const PlaneLayout& l, const float* source, float* padded) {
  const int64_t s = l.stride;
  if (s == 1) {
    fill_zero(padded, l.low_h * l.pitch);
    float* row = padded + l.low_h * l.pitch;
    const int64_t right = l.pitch - l.low_w - l.used_w;
    for (int64_t i = 0; i < l.used_h; ++i, row += l.pitch) {
      for (int64_t j = 0; j < l.low_w; ++j) row[j] = 0.0f;
      copy_row(source + i * l.w, l.used_w, row + l.low_w);
      for (int64_t j = l.pitch - right; j < l.pitch; ++j) row[j] = 0.0f;
    }
    fill_zero(row, padded + l.channel - row);
    return;
  }
  fill_zero(padded, l.channel);
  for (int64_t i = 0; i < l.used_h; ++i) {
    const int64_t r = i + l.low_h;
    float* row = padded + (r % s) * s * l.phase + r / s * l.pitch;
    for (int64_t q = 0; q < s; ++q) {  // columns j with (j + low_w) % s == q
      const int64_t first = ((q - l.low_w) % s + s) % s;
      float* to = row + q * l.phase + (first + l.low_w) / s;
      const float* from = source + i * l.w + first;
      const int64_t count = first < l.used_w ? ceil_div(l.used_w - first, s) : 0;
      if (s == 2) {
        copy_every_other(from, count, to);
      } else {
        for (int64_t j = 0; j < count; ++j) to[j] = from[s * j];
      }
    }
  }
}

// Contiguous rows into rows at distance `pitch`, zero between and up to `total` floats.
static inline void spread_rows(const float* from, int64_t rows, int64_t width, int64_t pitch, int64_t total,
                               float* to) {
  for (int64_t i = 0; i < rows; ++i) {
    float* row = to + i * pitch;
    copy_row(from + i * width, width, row);
    const int64_t end = i + 1 < rows ? pitch : total - i * pitch;
    fill_zero(row + width, end - width);
  }
}

// And back.
static inline void unspread_rows(const float* from, int64_t rows, int64_t width, int64_t pitch, float* to) {
  for (int64_t i = 0; i < rows; ++i) copy_row(from + i * pitch, width, to + i * width);
}
