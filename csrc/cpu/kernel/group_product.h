// SPDX-License-Identifier: Apache-2.0
// The weight gradient of one group as a matrix product for every tap: weight_product.h for grouped convolutions, where
// all of a group's operands stay in the second-level cache.

struct GroupProduct {
  int64_t c_in, c_out;           // of a group
  int64_t rows, columns, pitch;  // positions of an image; pitch: between rows in the padded planes of x
  int64_t x_plane, dz_plane;     // floats: of x padded, of dz without gaps

  static GroupProduct of(const ConvSet& set, const PlaneLayout& in) {
    const ConvShape& s = set.branch[0];
    const int64_t hw = s.h_out * s.w_out;
    return {set.group_in(), set.group_out(), s.h_out, s.w_out, in.pitch, in.channel, ceil_div(hw, kVec) * kVec};
  }
  // Channels side by side: (positions, c_in) and (blocks, positions, lanes).
  int64_t x_floats() const { return x_plane * c_in; }
  int64_t dz_floats() const { return dz_plane * c_out; }
  // Sums of a branch: (blocks, taps, c_in, lanes).
  int64_t sum_floats(int64_t taps) const { return taps * c_in * c_out; }
  int64_t offset_floats() const { return 2 * columns; }  // of the columns in x, as int64_t
  bool wide() const { return c_out % (2 * kVec) == 0; }
};

// Where both operands fill vectors. x_plane of the layout is a multiple of 16.
static inline bool suits_group_product(const ConvSet& set) {
  return kVec > 1 && kVec <= 16 && set.group_in() % kVec == 0 && set.group_out() % kVec == 0;
}

#if SKNET_VEC > 1
// kVec planes of x, padded, from channel c on -> their place in `to`.
static inline void group_product_x(const GroupProduct& p, const float* planes, int64_t c, float* to) {
  for (int64_t i = 0; i < p.x_plane; i += kVec) transpose(planes + i, p.x_plane, to + i * p.c_in + c, p.c_in);
}

// The planes of dz of an image, at distance dz_plane -> to.
static inline void group_product_dz(const GroupProduct& p, const float* planes, float* to) {
  const int64_t lanes = p.wide() ? 2 * kVec : kVec;
  for (int64_t c = 0; c < p.c_out; c += kVec) {
    float* block = to + c / lanes * lanes * p.dz_plane + c % lanes;
    for (int64_t i = 0; i < p.dz_plane; i += kVec) {
      transpose(planes + c * p.dz_plane + i, p.dz_plane, block + i * lanes, lanes);
    }
  }
}

// Adds an image to the sums. offset: room for `columns` numbers.
template <int V>
static void group_product_add(const GroupProduct& p, const TapSet& taps, const float* x, const float* dz, bool first,
                              int64_t* offset, float* sums) {
  constexpr int64_t kLanes = V * kVec;
  for (int64_t i = 0; i < p.columns; ++i) offset[i] = i * p.c_in;
  // As two rows where that makes one block of all: more sums at a time than the latency of an addition.
  const int64_t rows = p.c_in <= kLanePixels<V> ? 2 : 1, width = p.c_in / rows;
  const LaneSource source{width, 1, p.pitch * p.c_in, p.columns, offset};
  for (int64_t block = 0; block < p.c_out / kLanes; ++block, dz += p.dz_plane * kLanes) {
    for (int64_t t = 0; t < taps.count; ++t, sums += p.c_in * kLanes) {
      lane_rows<V>(source, p.rows, x + taps.offset[t] * p.c_in, dz, rows, width, sums, false, !first);
    }
  }
}

static inline void group_product_add(const GroupProduct& p, const TapSet& taps, const float* x, const float* dz,
                                     bool first, int64_t* offset, float* sums) {
  if (p.wide()) {
    group_product_add<2>(p, taps, x, dz, first, offset, sums);
  } else {
    group_product_add<1>(p, taps, x, dz, first, offset, sums);
  }
}

// The sums -> dw (c_out, c_in, kernel^2), zero at kernel positions that meet only padding.
static void group_product_finish(const GroupProduct& p, const TapSet& taps, int64_t kernel2, const float* sums,
                                 float* dw) {
  const int64_t lanes = p.wide() ? 2 * kVec : kVec, per_channel = p.c_in * kernel2;
  float rows[kVec * kVec];
  for (int64_t co = 0; co < p.c_out; co += kVec) {
    const float* block = sums + co / lanes * taps.count * p.c_in * lanes + co % lanes;
    int filled = 0;
    float* to = dw + co * per_channel;
    for (int64_t c = 0; c < p.c_in; ++c) {
      int64_t t = 0;
      for (int64_t k = 0; k < kernel2; ++k) {
        const bool used = t < taps.count && taps.index[t] == k;  // they are in the kernel's order
        store(rows + filled * kVec, used ? load(block + (t * p.c_in + c) * lanes) : Vec{});
        if (used) ++t;
        if (++filled < kVec) continue;
        transpose(rows, kVec, to, per_channel);
        to += kVec, filled = 0;
      }
    }
  }
}
#endif
