// SPDX-License-Identifier: Apache-2.0
// The weight gradient of an ungrouped convolution as products on tiles (tiles.h): output channels are rows, input
// channels columns, positions the terms of the sum.

#ifdef SKNET_AMX
inline constexpr int64_t kWeightTerms = 512;  // positions of a partial sum

static inline bool suits_tile_weights(const ConvShape& s) {
  return s.groups == 1 && s.c_in % kTileSide == 0 && s.c_out % kTileSide == 0 && s.c_in >= kStrip && s.c_out >= kStrip;
}

// Sums of one branch: (taps, c_out, c_in), of whole tiles.
static inline int64_t tile_weight_floats(const ConvShape& s) { return s.kernel * s.kernel * s.c_out * s.c_in; }

// `count` positions of 32 planes or fewer at distance `channel`, from position `first` of all images on -> rows.
static void gather_rows(const TilePlanes& planes, const float* at, int64_t image, int64_t rows, int64_t first,
                        int64_t count, float* to) {
  for (int64_t i = 0; i < rows; ++i) {
    gather_images(planes, first, count, to + i * kWeightTerms,
                  [&](int64_t n) { return at + n * image + i * planes.channel; });
  }
}

// Adds `images` images at distance x_image and dz_image to the sums, or sets these.
static void tile_weights_add(const ConvShape& s, const TapSet& taps, int64_t images, bool first, const float* x,
                             const TilePlanes& x_planes, int64_t x_image, const float* dz, const TilePlanes& dz_planes,
                             int64_t dz_image, float* sums) {
  const int64_t rows = ceil_div(s.c_out, kStrip), columns = ceil_div(s.c_in, kStrip),
                strip = strip_floats(kWeightTerms);
  const int64_t all = images * s.h_out * s.w_out;
  float* left = shared_scratch(Shared::kTurnedZ, rows * strip);
  // Where the rows' strips are too many for the second-level cache, they come for several strips of columns at a time.
  int64_t together = 1;
  while (together < 4 && rows * strip > second_level_floats() / 4 && taps.count * columns >= 4 * together * workers()) {
    together *= 2;
  }
  const int64_t ranges = ceil_div(columns, together);
  reserve_local(Local::kTile, kStrip * kWeightTerms + together * strip);
  for (int64_t at = 0; at < all; at += kWeightTerms) {
    const int64_t count = min_of(kWeightTerms, all - at), steps = tile_steps(count);
    parallel(rows, [&](int64_t row, int worker) {
      float* gathered = local_scratch(Local::kTile, worker);
      const int64_t c = row * kStrip, now = min_of(kStrip, s.c_out - c);
      gather_rows(dz_planes, dz + c * dz_planes.channel, dz_image, now, at, count, gathered);
      put_left_strip(gathered, kWeightTerms, now, count, left + row * strip);
    });
    parallel(taps.count * ranges, [&](int64_t task, int worker) {
      const TileScope scope;
      float* gathered = local_scratch(Local::kTile, worker);
      float* right = gathered + kStrip * kWeightTerms;
      const int64_t t = task / ranges, c_first = task % ranges * together * kStrip;
      const int64_t c_last = min_of(s.c_in, c_first + together * kStrip);
      for (int64_t c = c_first; c < c_last; c += kStrip) {
        const int64_t now = min_of(kStrip, c_last - c);
        gather_rows(x_planes, x + c * x_planes.channel + taps.offset[t], x_image, now, at, count, gathered);
        put_turned_strip(gathered, kWeightTerms, now, count, right + (c - c_first) / kStrip * strip);
      }
      for (int64_t row = 0; row < rows; ++row) {
        float* to = sums + (t * s.c_out + row * kStrip) * s.c_in;
        for (int64_t c = c_first; c < c_last; c += kStrip) {
          TileAhead ahead;  // of the next sums
          ahead.later = {c + kStrip < c_last ? to + c + kStrip : to + kStrip * s.c_in + c_first, s.c_in, kStrip};
          ahead.later_rows = ceil_div(kStrip, steps);
          tile_product(s.c_out - row * kStrip, c_last - c, left + row * strip,
                       StripTiles{right + (c - c_first) / kStrip * strip}, steps, to + c, s.c_in, !first || at > 0,
                       ahead);
        }
      }
    });
  }
}

// The sums -> dw (c_out, c_in, kernel^2), but for kernel positions that meet only padding. False if something is not
// finite: all is to be computed again.
static bool tile_weights_finish(const ConvShape& s, const TapSet& taps, const float* sums, float* dw) {
  const int64_t kernel2 = s.kernel * s.kernel, step = s.c_out * s.c_in;
  const bool nine = kernel2 == 9 && taps.count == 9;
  int failed = 0;
  parallel(s.c_out, [&](int64_t co, int) {
    Vec check{};
    if (nine) {
      for (int64_t c = 0; c < s.c_in; c += kVec) {
        const float* from = sums + co * s.c_in + c;
        for (int64_t t = 0; t < 9; ++t) check += load(from + t * step) * broadcast(0.0f);
        kernels_together(from, step, dw + (co * s.c_in + c) * 9);
      }
    } else {
      for (int64_t t = 0; t < taps.count; ++t) {
        const float* from = sums + t * step + co * s.c_in;
        float* to = dw + co * s.c_in * kernel2 + taps.index[t];
        for (int64_t c = 0; c < s.c_in; c += kVec) {
          const Vec v = load(from + c);
          check += v * broadcast(0.0f);
          if (kernel2 == 1) {
            store(to + c, v);
          } else {
            for (int64_t j = 0; j < kVec; ++j) to[(c + j) * kernel2] = v[j];
          }
        }
      }
    }
    if (!(sum(check) == 0.0f)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  return failed == 0;
}
#endif
