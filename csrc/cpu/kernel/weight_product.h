// SPDX-License-Identifier: Apache-2.0
// The weight gradient of an ungrouped convolution as a matrix product for every tap.
//
// dw[co][ci] of a tap is the sum over positions of dz[co] * x[ci]: with both turned to have channels side by side, a
// position is one term of lane_rows' sum, and no sum across the lanes of a vector is left to do, as weight_block has.

struct WeightProduct {
  static constexpr int64_t kLanes = 2 * kVec;  // output channels of a tile
  static constexpr int64_t kRange = 64;        // input channels of a tile: with its sums in the first-level cache
  int64_t c_in, c_out;
  // The positions of an image, in order: rows of so many, row_step apart in x; in dz they are side by side.
  int64_t rows, columns, row_step;
  int64_t x_span, dz_span;
  int64_t low;     // least offset of a tap: where the turned planes of x begin
  int64_t images;  // at a time
  int64_t ranges() const { return ceil_div(c_in, kRange); }
  int64_t blocks() const { return c_out / kLanes; }
  int64_t x_floats() const { return images * ranges() * x_span * kRange; }
  int64_t offset_floats() const { return columns * 2; }  // of the columns in x, as int64_t
  int64_t dz_floats() const { return images * blocks() * dz_span * kLanes; }
};

// Sums of one branch: (taps, blocks, ranges, range, lanes).
static inline int64_t weight_product_floats(const ConvShape& s) {
  return s.kernel * s.kernel * s.c_out * ceil_div(s.c_in, WeightProduct::kRange) * WeightProduct::kRange;
}

static inline bool suits_weight_product(const ConvShape& s) {
  return kVec > 1 && s.groups == 1 && s.c_in % kVec == 0 && s.c_out % WeightProduct::kLanes == 0;
}

inline constexpr int64_t kTurnedFloats = 1 << 20;  // both turned tensors: 4 MB

// Geometry for planes of x in rows of `pitch`, and of dz without gaps; the taps must not be empty.
static WeightProduct plan_weight_product(const ConvShape& s, const TapSet& taps, int64_t pitch) {
  WeightProduct p{s.c_in, s.c_out, s.h_out, s.w_out, pitch, 0, 0, taps.offset[0], 1};
  if (pitch == s.w_out) p.rows = s.h_out * s.w_out, p.columns = p.row_step = 1;
  int64_t high = taps.offset[0];
  for (int64_t t = 1; t < taps.count; ++t) {
    p.low = min_of(p.low, taps.offset[t]), high = max_of(high, taps.offset[t]);
  }
  p.dz_span = ceil_div(p.rows * p.columns, kVec) * kVec;
  p.x_span = ceil_div(high - p.low + (p.rows - 1) * p.row_step + p.columns, kVec) * kVec;
  p.images = max_of(1, min_of(s.n, kTurnedFloats / (p.x_floats() + p.dz_floats())));
  return p;
}

#if SKNET_VEC > 1
// Adds `images` images to the sums, or sets these. x: planes at distance `channel`, dz: at distance `plane`.
static void weight_product_add(const WeightProduct& p, const TapSet& taps, int64_t images, bool first, const float* x,
                               int64_t channel, int64_t x_image, const float* dz, int64_t plane, int64_t dz_image,
                               float* sums) {
  constexpr int64_t kLanes = WeightProduct::kLanes, kRange = WeightProduct::kRange;
  const int64_t x_parts = p.c_in / kVec, parts = x_parts + p.c_out / kVec, ranges = p.ranges(), blocks = p.blocks();
  // (images, ranges, x_span, range)
  float* turned_x = shared_scratch(Shared::kTurnedX, p.x_floats() + p.offset_floats());
  float* turned_dz = shared_scratch(Shared::kTurnedZ, p.dz_floats());  // (images, blocks, dz_span, lanes)
  int64_t* offset = reinterpret_cast<int64_t*>(turned_x + p.x_floats());
  for (int64_t i = 0; i < p.columns; ++i) offset[i] = i * kRange;
  const LaneSource source{0, 1, p.row_step * kRange, p.columns, offset};
  for (int64_t n0 = 0; n0 < images; n0 += p.images) {
    const int64_t now = min_of(p.images, images - n0);
    parallel(now * parts, [&](int64_t task, int) {
      const int64_t i = task / parts, part = task % parts;
      if (part < x_parts) {
        const int64_t c = part * kVec;
        const float* from = x + (n0 + i) * x_image + c * channel + p.low;
        float* to = turned_x + (i * ranges + c / kRange) * p.x_span * kRange + c % kRange;
        for (int64_t t = 0; t < p.x_span; t += kVec) transpose(from + t, channel, to + t * kRange, kRange);
      } else {
        const int64_t c = (part - x_parts) * kVec;
        const float* from = dz + (n0 + i) * dz_image + c * plane;
        float* to = turned_dz + (i * blocks + c / kLanes) * p.dz_span * kLanes + c % kLanes;
        for (int64_t t = 0; t < p.dz_span; t += kVec) transpose(from + t, plane, to + t * kLanes, kLanes);
      }
    });
    // A task is a tap and a share of the blocks. It takes the rows in chunks whose x stays in the second-level cache
    // for all blocks of the share, each a whole number of chains, so that the sums do not depend on the chunk.
    const int64_t room = second_level_floats() / 2 / (ranges * kRange * p.row_step);
    const int64_t chain = max_of(1, kLaneChain / p.columns), chunk = max_of(1, room / chain) * chain;
    int64_t shares = 1;
    while (shares < blocks && taps.count * shares % workers() != 0 && taps.count * shares < 8 * workers()) shares *= 2;
    shares = min_of(shares, blocks);
    parallel(taps.count * shares, [&](int64_t task, int) {
      const int64_t t = task / shares, share = task % shares;
      for (int64_t i = 0; i < now; ++i) {
        for (int64_t at = 0; at < p.rows; at += chunk) {
          const int64_t count = min_of(chunk, p.rows - at), x_at = taps.offset[t] - p.low + at * p.row_step;
          for (int64_t block = share * blocks / shares; block < (share + 1) * blocks / shares; ++block) {
            const float* columns = turned_dz + ((i * blocks + block) * p.dz_span + at * p.columns) * kLanes;
            for (int64_t range = 0; range < ranges; ++range) {
              const int64_t width = min_of(kRange, p.c_in - range * kRange);
              const float* rows = turned_x + ((i * ranges + range) * p.x_span + x_at) * kRange;
              float* to = sums + ((t * blocks + block) * ranges + range) * kRange * kLanes;
              lane_rows<2>(source, count, rows, columns, 1, width, to, false, !first || n0 + i > 0 || at > 0);
            }
          }
        }
      }
    });
  }
}

// The sums -> dw (c_out, c_in, kernel^2), but for kernel positions that meet only padding.
static void weight_product_finish(const WeightProduct& p, const TapSet& taps, int64_t kernel2, const float* sums,
                                  float* dw) {
  constexpr int64_t kLanes = WeightProduct::kLanes, kRange = WeightProduct::kRange;
  const int64_t slices = p.c_in / kVec;
  parallel(p.c_out / kVec * slices, [&](int64_t task, int) {
    const int64_t co = task / slices * kVec, c = task % slices * kVec;
    float turned[kVec * kVec];
    for (int64_t t = 0; t < taps.count; ++t) {
      const int64_t tile = (t * p.blocks() + co / kLanes) * p.ranges() + c / kRange;
      transpose(sums + (tile * kRange + c % kRange) * kLanes + co % kLanes, kLanes, turned, kVec);
      for (int64_t i = 0; i < kVec; ++i) {
        float* to = dw + ((co + i) * p.c_in + c) * kernel2 + taps.index[t];
        for (int64_t j = 0; j < kVec; ++j) to[j * kernel2] = turned[i * kVec + j];
      }
    }
  });
}
#endif
