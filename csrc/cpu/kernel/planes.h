// SPDX-License-Identifier: Apache-2.0
// Moving planes between tensors and their padded form.

static inline void fill_zero(float* p, int64_t n) {
  if (n > 0) __builtin_memset(p, 0, static_cast<size_t>(n) * sizeof(float));
}

// The same for a few: of a loop over single floats the compiler would make a call.
static inline void fill_zero_few(float* p, int64_t n) {
  for (; n >= kVec; n -= kVec, p += kVec) store(p, Vec{});
#if SKNET_VEC > 1
  if (n > 0) store_part(p, Vec{}, n);
#endif
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

// from[0], from[2] .. to `even`, from[1], from[3] .. to `odd`; n in all.
static inline void split_row(const float* from, int64_t n, float* even, float* odd) {
  int64_t j = 0;
#if SKNET_VEC > 1
  const VecIndex evens = even_lanes(), odds = evens + 1;
  for (; j + 2 * kVec <= n; j += 2 * kVec) {
    const Vec low = load(from + j), high = load(from + j + kVec);
    store(even + j / 2, __builtin_shuffle(low, high, evens));
    store(odd + j / 2, __builtin_shuffle(low, high, odds));
  }
  if (const int64_t left = n - j; left > 0) {
    const Vec low = load_some(from + j, min_of(left, kVec));
    const Vec high = left > kVec ? load_part(from + j + kVec, left - kVec) : Vec{};
    store_some(even + j / 2, __builtin_shuffle(low, high, evens), (left + 1) / 2);
    if (left > 1) store_part(odd + j / 2, __builtin_shuffle(low, high, odds), left / 2);
  }
#else
  for (; j < n; ++j) (j % 2 == 0 ? even : odd)[j / 2] = from[j];
#endif
}

// The way back: even[0], odd[0], even[1] .. to `to`, or added to it; `count` of each.
static inline void join_row(const float* even, const float* odd, int64_t count, float* to, bool add) {
  int64_t j = 0;
#if SKNET_VEC > 1
  VecIndex low{}, high{};
  for (int i = 0; i < kVec; ++i) low[i] = i / 2 + i % 2 * kVec, high[i] = low[i] + kVec / 2;
  auto put = [add](float* at, Vec v, int64_t n) { store_some(at, add ? load_some(at, n) + v : v, n); };
  for (; j < count; j += kVec) {
    const int64_t n = min_of(count - j, kVec);
    const Vec e = load_some(even + j, n), o = load_some(odd + j, n);
    put(to + 2 * j, __builtin_shuffle(e, o, low), min_of(2 * n, kVec));
    if (2 * n > kVec) put(to + 2 * j + kVec, __builtin_shuffle(e, o, high), 2 * n - kVec);
  }
#else
  for (; j < count; ++j) {
    to[2 * j] = add ? to[2 * j] + even[j] : even[j];
    to[2 * j + 1] = add ? to[2 * j + 1] + odd[j] : odd[j];
  }
#endif
}

// One source plane (h, w) into its padded phases, for stride 1, 2 and more.
static void pad_plane_whole(const PlaneLayout& l, const float* source, float* padded) {
  fill_zero(padded, l.low_h * l.pitch);
  float* row = padded + l.low_h * l.pitch;
  const int64_t right = l.pitch - l.low_w - l.used_w;
  for (int64_t i = 0; i < l.used_h; ++i, row += l.pitch) {
    fill_zero_few(row, l.low_w);
    copy_row(source + i * l.w, l.used_w, row + l.low_w);
    fill_zero_few(row + l.pitch - right, right);
  }
  fill_zero(row, padded + l.channel - row);
}

// Floats that are cleared at once: half of a first-level cache, where it costs next to nothing.
inline constexpr int64_t kClearAtOnce = 6 * 1024;

static void pad_plane_halves(const PlaneLayout& l, const float* source, float* padded) {
  // Columns 0, 2 .. of the source lie in one phase, 1, 3 .. in the other: rows 0, 2 .. and 1, 3 .. of each, and where
  // the source begins and ends in them.
  struct Half {
    float* rows[2];
    int64_t left, end;
  };
  auto half = [&](int64_t column, int64_t count) {
    float* at = padded + column % 2 * l.phase;
    return Half{{at, at + 2 * l.phase}, column / 2, column / 2 + count};
  };
  const Half even = half(l.low_w, (l.used_w + 1) / 2), odd = half(l.low_w + 1, l.used_w / 2);
  const bool cleared = l.channel <= kClearAtOnce;
  if (cleared) fill_zero(padded, l.channel);
  auto clear_row = [&](const Half& h, int64_t r, bool inside) {
    float* row = h.rows[r % 2] + r / 2 * l.pitch;
    fill_zero_few(row, h.left);
    const int64_t from = inside ? h.end : h.left;
    fill_zero_few(row + from, l.pitch - from);
  };
  for (int64_t r = 0; r < 2 * l.rows; ++r) {
    const int64_t i = r - l.low_h, at = r / 2 * l.pitch;
    const bool inside = i >= 0 && i < l.used_h;
    if (!cleared) clear_row(even, r, inside), clear_row(odd, r, inside);
    if (!inside) continue;
    split_row(source + i * l.w, l.used_w, even.rows[r % 2] + at + even.left, odd.rows[r % 2] + at + odd.left);
  }
  if (cleared) return;
  for (int64_t q = 0; q < 4; ++q) fill_zero(padded + q * l.phase + l.rows * l.pitch, l.phase - l.rows * l.pitch);
  fill_zero(padded + 4 * l.phase, l.channel - 4 * l.phase);
}

static void pad_plane_phases(const PlaneLayout& l, const float* source, float* padded) {
  const int64_t s = l.stride;
  fill_zero(padded, l.channel);
  for (int64_t i = 0; i < l.used_h; ++i, source += l.w) {
    const int64_t r = i + l.low_h;
    float* row = padded + (r % s) * s * l.phase + r / s * l.pitch;
    for (int64_t first = 0; first < min_of(s, l.used_w); ++first) {  // columns first, first + s ..: of one phase
      float* to = row + (first + l.low_w) % s * l.phase + (first + l.low_w) / s;
      for (int64_t j = first; j < l.used_w; j += s) *to++ = source[j];
    }
  }
}

static void pad_plane(const PlaneLayout& l, const float* source, float* padded) {
  if (l.stride == 1) {
    pad_plane_whole(l, source, padded);
  } else if (l.stride == 2) {
    pad_plane_halves(l, source, padded);
  } else {
    pad_plane_phases(l, source, padded);
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
