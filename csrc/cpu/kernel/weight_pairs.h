// SPDX-License-Identifier: Apache-2.0
// The weight gradient as sums across vectors of positions, which every shape suits.

static inline void weight_run_block(int64_t size, int pairs, const float* dz, int64_t dz_channel, int64_t dz_image,
                                    const float* const* x, int64_t x_image, int64_t images, int64_t vectors, float* dw,
                                    int64_t dw_stride, const int64_t* dw_index) {
  switch (size) {
    case 4: weight_run<4>(pairs, dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
    case 2: weight_run<2>(pairs, dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index); break;
    default:
      weight_run<1>(pairs, dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, dw_index);
      break;
  }
}

// dw of `size` output channels for the (channel, tap) pairs [from, to).
static void weight_pairs(const TapSet& taps, int64_t kernel2, int64_t from, int64_t to, const float* planes,
                         int64_t channel, int64_t x_image, const float* dz, int64_t dz_channel, int64_t dz_image,
                         int64_t images, int64_t vectors, int64_t size, float* dw, int64_t dw_stride) {
  for (int64_t k = from; k < to; k += kPairs) {
    const int pairs = static_cast<int>(min_of(kPairs, to - k));
    const float* x[kPairs];
    int64_t index[kPairs];
    for (int i = 0; i < pairs; ++i) {
      const int64_t c = (k + i) / taps.count, t = (k + i) % taps.count;
      x[i] = planes + c * channel + taps.offset[t];
      index[i] = c * kernel2 + taps.index[t];
    }
    weight_run_block(size, pairs, dz, dz_channel, dz_image, x, x_image, images, vectors, dw, dw_stride, index);
  }
}

// Output channels of the weight gradient go in blocks of 4, 2 and 1.
static inline ChannelBlock weight_block_at(int64_t channels, int64_t first) {
  const int64_t rest = channels - first;
  return {first, rest >= 4 ? 4 : rest >= 2 ? 2 : 1};
}
