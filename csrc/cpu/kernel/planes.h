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
        for (int64_t j = 0; j < count; ++j) to[j] = from[2 * j];
      } else {
        for (int64_t j = 0; j < count; ++j) to[j] = from[s * j];
      }
    }
  }
}

// Rows of `width` at distance `pitch` into contiguous rows. `from` has a vector of slack; `to` has none.
static inline void unpad_rows(const float* from, int64_t pitch, int64_t rows, int64_t width, float* to) {
  if (pitch == width) {
    copy_row(from, rows * width, to);
    return;
  }
  const int64_t vectors = ceil_div(width, kVec) * kVec;
  const int64_t end = rows * width;
  for (int64_t i = 0; i < rows; ++i, from += pitch) {
    float* row = to + i * width;
    if (i * width + vectors <= end) {  // what is written too far is overwritten by the next row
      for (int64_t j = 0; j < width; j += kVec) store(row + j, load(from + j));
    } else {
      copy_row(from, width, row);
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
