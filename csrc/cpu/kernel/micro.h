// SPDX-License-Identifier: Apache-2.0
// The two inner kernels that all convolution work runs through.

// Vectors of positions per block of CO channels: accumulators, inputs and one weight must fit the register file.
template <int CO>
struct Block {
#if SKNET_VEC == 16 || defined(__aarch64__)  // 32 registers
  static constexpr int kVectors = CO == 8 ? 3 : 6;
#else  // 16 registers
  static constexpr int kVectors = CO == 8 ? 1 : CO >= 3 ? 3 : 4;
#endif
};

inline constexpr int64_t kChain = 36;

// Memory that will be read soon, in order. A kernel brings it nearer while it computes, a line or less with every step
// of its inner loop: a burst would wait for the fetches' own buffers.
struct Coming {
  const float* at = nullptr;
  int64_t step = 0;  // floats
  // `floats` of them within so many steps.
  static Coming within(const float* from, int64_t floats, int64_t steps) {
    return {from, ceil_div(floats, max_of(1, steps))};
  }
};

// out[i][p] (+)= sum over c, t of w[c][t][i] * x[c * channel + offset[t] + p], i < CO, p < NV vectors.
template <int CO, int NV>
static inline void tap_block(const float* x, int64_t channel, int64_t channels, const int64_t* offset, int64_t taps,
                             const float* w, float* out, int64_t out_stride, bool accumulate, Coming& coming) {
  const float* next = coming.step > 0 ? coming.at : x;  // at no address at all a fetch costs more
  const int64_t step = coming.step;
  // Sums of many terms are made of partial sums: the rounding of one long chain would grow with its length.
  const int64_t chunk = taps > 0 ? max_of(1, kChain / taps) : channels;
  for (int64_t first = 0; first < channels; first += chunk, accumulate = true) {
    Vec acc[CO][NV] = {};
    for (int64_t c = first; c < min_of(channels, first + chunk); ++c, x += channel) {
      for (int64_t t = 0; t < taps; ++t, w += CO) {
        const float* p = x + offset[t];
        __builtin_prefetch(next, 0, 2);
        next += step;
        Vec v[NV];
#pragma GCC unroll 8
        for (int j = 0; j < NV; ++j) v[j] = load(p + j * kVec);
#pragma GCC unroll 8
        for (int i = 0; i < CO; ++i) {
          const Vec b = broadcast(w[i]);
#pragma GCC unroll 8
          for (int j = 0; j < NV; ++j) acc[i][j] += b * v[j];
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < CO; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) {
        float* to = out + i * out_stride + j * kVec;
        store(to, accumulate ? load(to) + acc[i][j] : acc[i][j]);
      }
    }
  }
  coming.at = next;
}

// The same over `vectors` vectors of positions, in blocks of nearly equal size.
template <int CO>
static void tap_run(const float* x, int64_t channel, int64_t channels, const int64_t* offset, int64_t taps,
                    const float* w, float* out, int64_t out_stride, int64_t vectors, bool accumulate, Coming& coming) {
  constexpr int kMost = Block<CO>::kVectors;
  for (int64_t blocks = ceil_div(vectors, kMost); blocks > 0; --blocks) {
    const int64_t now = ceil_div(vectors, blocks);
    switch (now) {
      case 1: tap_block<CO, 1>(x, channel, channels, offset, taps, w, out, out_stride, accumulate, coming); break;
      case 2:
        if constexpr (kMost >= 2)
          tap_block<CO, 2>(x, channel, channels, offset, taps, w, out, out_stride, accumulate, coming);
        break;
      case 3:
        if constexpr (kMost >= 3)
          tap_block<CO, 3>(x, channel, channels, offset, taps, w, out, out_stride, accumulate, coming);
        break;
      case 4:
        if constexpr (kMost >= 4)
          tap_block<CO, 4>(x, channel, channels, offset, taps, w, out, out_stride, accumulate, coming);
        break;
      case 5:
        if constexpr (kMost >= 5)
          tap_block<CO, 5>(x, channel, channels, offset, taps, w, out, out_stride, accumulate, coming);
        break;
      case 6:
        if constexpr (kMost >= 6)
          tap_block<CO, 6>(x, channel, channels, offset, taps, w, out, out_stride, accumulate, coming);
        break;
    }
    x += now * kVec;
    out += now * kVec;
    vectors -= now;
  }
}

// Positions [0, length) where nothing past `length` may be read: the last vector is moved back. length >= kVec.
template <int CO>
static void tap_run_exact(const float* x, int64_t channel, int64_t channels, const int64_t* offset, int64_t taps,
                          const float* w, float* out, int64_t out_stride, int64_t length, Coming& coming) {
  const int64_t whole = length / kVec;
  tap_run<CO>(x, channel, channels, offset, taps, w, out, out_stride, whole, false, coming);
  if (whole * kVec < length) {
    const int64_t back = length - kVec;
    tap_block<CO, 1>(x + back, channel, channels, offset, taps, w, out + back, out_stride, false, coming);
  }
}

// Accumulators of the weight gradient: CO output channels by KT (channel, tap) pairs.
#if SKNET_VEC == 16 || defined(__aarch64__)
inline constexpr int kPairs = 6;
#else
inline constexpr int kPairs = 2;
#endif

// dw[i * dw_stride + k] += sum over images n and positions p of dz[n][i][p] * x[n][k][p], i < CO, k < KT.
template <int CO, int KT>
static inline void weight_block(const float* dz, int64_t dz_channel, int64_t dz_image, const float* const* x,
                                int64_t x_image, int64_t images, int64_t vectors, float* dw, int64_t dw_stride,
                                const int64_t* dw_index) {
  Vec acc[CO][KT] = {};
  for (int64_t n = 0; n < images; ++n) {
    const float* d = dz + n * dz_image;
    const int64_t shift = n * x_image;
    for (int64_t p = 0; p < vectors * kVec; p += kVec) {
      Vec g[CO];
#pragma GCC unroll 8
      for (int i = 0; i < CO; ++i) g[i] = load(d + i * dz_channel + p);
#pragma GCC unroll 8
      for (int k = 0; k < KT; ++k) {
        const Vec v = load(x[k] + shift + p);
#pragma GCC unroll 8
        for (int i = 0; i < CO; ++i) acc[i][k] += g[i] * v;
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < CO; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < KT; ++k) dw[i * dw_stride + dw_index[k]] += sum(acc[i][k]);
  }
}

template <int CO>
static void weight_run(int pairs, const float* dz, int64_t dz_channel, int64_t dz_image, const float* const* x,
                       int64_t x_image, int64_t images, int64_t vectors, float* dw, int64_t dw_stride,
                       const int64_t* dw_index) {
  switch (pairs) {
    case 1: weight_block<CO, 1>(dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
    case 2: weight_block<CO, 2>(dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
#if SKNET_VEC == 16 || defined(__aarch64__)
    case 3: weight_block<CO, 3>(dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
    case 4: weight_block<CO, 4>(dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
    case 5: weight_block<CO, 5>(dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
    case 6: weight_block<CO, 6>(dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
#endif
  }
}
