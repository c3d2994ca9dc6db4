// SPDX-License-Identifier: Apache-2.0
// Convolution with output channels in the lanes of a vector and one position per accumulator.
//
// tap_run holds positions in its lanes, and on a small map many of them fall between the rows. Here no position is
// wasted, but a group needs about a vector of output channels, and the results have to be transposed.

#if SKNET_VEC == 16 || defined(__aarch64__)  // 32 registers
template <int V>
inline constexpr int kLanePixels = V == 2 ? 14 : 28;
inline constexpr int kMostColumns = 14;
#else
template <int V>
inline constexpr int kLanePixels = V == 2 ? 6 : 12;
inline constexpr int kMostColumns = 12;
#endif

// Summands of a partial sum, as kChain of tap_block, but longer: every accumulator's partial sums go through memory.
inline constexpr int64_t kLaneChain = 128;

struct LaneSource {
  int64_t pitch;    // floats between rows of outputs
  int64_t step;     // floats between outputs in a row: 1, 2, or (for one row at a time, a tap each float) kVec
  int64_t channel;  // floats between channels
  int64_t taps;
  const int64_t* offset;  // of each tap
};

// One place in each of some planes at equal distances.
struct PlaneRows {
  const float* at = nullptr;
  int64_t step = 0, rows = 0;
};

// What a block brings nearer while it computes, with every vector of weights that it uses. Weights of the next chain: a
// chain serves so many blocks that the processor loses sight of where the stream goes on. Or else what the caller
// wants. And, for 1x1, what will be read and written with the results, whose rows in the planes are too short for the
// processor to see them coming.
struct Ahead {
  Coming stream;
  PlaneRows planes[2];
  // chain: of `length` floats, for `blocks` blocks, `lanes` at a time. Not new: the next one's are at hand.
  Ahead(const float* chain, int64_t length, int64_t lanes, int64_t blocks, bool is_new)
      : stream(is_new ? Coming::within(chain + length, lanes, blocks) : Coming{chain, 0}) {}
};

// acc += p[r * pitch + q * S] * w, with V vectors of w.
template <int V, int R, int Q, int S>
static inline __attribute__((always_inline)) void lane_term(const float* p, int64_t pitch, const float* w,
                                                            Vec (&acc)[R][Q][V]) {
  Vec v[V];
#pragma GCC unroll 2
  for (int i = 0; i < V; ++i) v[i] = load(w + i * kVec);
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 14
    for (int q = 0; q < Q; ++q) {
      const Vec b = broadcast(p[r * pitch + q * S]);
#pragma GCC unroll 2
      for (int i = 0; i < V; ++i) acc[r][q][i] += b * v[i];
    }
  }
}

// out[(r * out_row) + q * V vectors] (+)= sum over c, t of x[c * channel + offset[t] + r * pitch + q * S] * w[c][t],
// where w and out hold V vectors of output channels. If S is kVec, the taps are the floats of a vector.
template <int V, int R, int Q, int S>
static void lane_block(const LaneSource& s, int64_t channels, const float* x, const float* w, float* out,
                       int64_t out_row, bool accumulate, Ahead& ahead) {
  const float* coming = ahead.stream.at;
  const int64_t step = ahead.stream.step;
  Vec acc[R][Q][V] = {};
  const int64_t pitch = s.pitch, channel = s.channel, taps = s.taps;
  if constexpr (S == kVec && kVec > 2) {
    for (int64_t c = 0; c < channels; ++c, x += channel) {
#pragma GCC unroll 2
      for (int t = 0; t < kVec; ++t, w += V * kVec, coming += step) {
        __builtin_prefetch(coming, 0, 2);
        lane_term<V, R, Q, S>(x + t, pitch, w, acc);
      }
    }
  } else if (taps == 1) {
    x += s.offset[0];
    int64_t left = channels;
    for (int part = 0; left > 0; ++part) {
      const PlaneRows rows = part < 2 ? ahead.planes[part] : PlaneRows{w, 0, left};
      const int64_t now = min_of(left, rows.rows);
      const float* plane = rows.at;
#pragma GCC unroll 2
      for (int64_t c = 0; c < now; ++c, x += channel, w += V * kVec, coming += step, plane += rows.step) {
        __builtin_prefetch(coming, 0, 2);
        __builtin_prefetch(plane);
        lane_term<V, R, Q, S>(x, pitch, w, acc);
      }
      left -= now;
    }
  } else {
    for (int64_t c = 0; c < channels; ++c, x += channel) {
      for (int64_t t = 0; t < taps; ++t, w += V * kVec, coming += step) {
        __builtin_prefetch(coming, 0, 2);
        lane_term<V, R, Q, S>(x + s.offset[t], pitch, w, acc);
      }
    }
  }
  ahead.stream.at = coming;
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 14
    for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 2
      for (int i = 0; i < V; ++i) {
        float* to = out + r * out_row + (q * V + i) * kVec;
        store(to, accumulate ? load(to) + acc[r][q][i] : acc[r][q][i]);
      }
    }
  }
}

// Where packed weights go: scratch, or memory that a frozen layer keeps.
struct PackedWeights {
  KeptWeights* kept;
  int slot;
  uint64_t key;
  // *stale: to be packed.
  float* get(int64_t floats, bool* stale) const {
    *stale = true;
    return kept == nullptr ? shared_scratch(Shared::kWeights, floats) : kept_weights(kept, slot, key, floats, stale);
  }
};

using LaneBlock = void (*)(const LaneSource&, int64_t, const float*, const float*, float*, int64_t, bool, Ahead&);

template <int V, int R, int Q, int S>
static constexpr LaneBlock lane_block_or_null() {
  if constexpr (Q <= kMostColumns && R * Q <= kLanePixels<V> && (R == 1 || S <= 2)) {
    return lane_block<V, R, Q, S>;
  } else {
    return nullptr;
  }
}

template <int V, int R, int S>
inline constexpr LaneBlock kLaneBlocks[15] = {
    nullptr,
    lane_block_or_null<V, R, 1, S>(),
    lane_block_or_null<V, R, 2, S>(),
    lane_block_or_null<V, R, 3, S>(),
    lane_block_or_null<V, R, 4, S>(),
    lane_block_or_null<V, R, 5, S>(),
    lane_block_or_null<V, R, 6, S>(),
    lane_block_or_null<V, R, 7, S>(),
    lane_block_or_null<V, R, 8, S>(),
    lane_block_or_null<V, R, 9, S>(),
    lane_block_or_null<V, R, 10, S>(),
    lane_block_or_null<V, R, 11, S>(),
    lane_block_or_null<V, R, 12, S>(),
    lane_block_or_null<V, R, 13, S>(),
    lane_block_or_null<V, R, 14, S>(),
};

// `rows` rows of `width` positions, one after the other in `out`, or added to what is there. new_weights: they are not
// in the cache yet, nor are those that follow in memory, which the next call will want. coming: to be fetched instead.
template <int V>
static void lane_rows(const LaneSource& s, int64_t channels, const float* x, const float* w, int64_t rows,
                      int64_t width, float* out, bool new_weights, bool add, Coming& coming) {
  constexpr int64_t kMost = kLanePixels<V> < kMostColumns ? kLanePixels<V> : kMostColumns;
  const int64_t pieces = ceil_div(width, kMost), widest = ceil_div(width, pieces);
  const int64_t together = rows > 1 && 2 * widest <= kLanePixels<V> ? 2 : 1;
  // Chains as in tap_block, the weights of one in the first-level cache for all positions.
  const int64_t chain = s.step == kVec ? kChain : kLaneChain;  // whole vectors of inputs fill the cache sooner
  const int64_t chunk = s.taps > 0 ? max_of(1, chain / s.taps) : channels;
  for (int64_t first = 0; first < channels; first += chunk) {
    const int64_t now = min_of(chunk, channels - first);
    const float* wc = w + first * s.taps * V * kVec;
    Ahead ahead(wc, now * s.taps * V * kVec, V * kVec, ceil_div(rows, together) * pieces, new_weights);
    if (coming.step > 0) ahead.stream = coming;
    for (int64_t row = 0; row < rows; row += together) {
      const bool two = together == 2 && row + 2 <= rows;
      const float* from = x + first * s.channel + row * s.pitch;
      float* to = out + row * width * V * kVec;
      int64_t rest = width;
      for (int64_t left = pieces; left > 0; --left) {
        const int64_t q = ceil_div(rest, left);
        const LaneBlock block = s.step == 1   ? two ? kLaneBlocks<V, 2, 1>[q] : kLaneBlocks<V, 1, 1>[q]
                                : s.step == 2 ? two ? kLaneBlocks<V, 2, 2>[q] : kLaneBlocks<V, 1, 2>[q]
                                              : kLaneBlocks<V, 1, kVec>[q];
        block(s, now, from, wc, to, width * V * kVec, add || first > 0, ahead);
        from += q * s.step, to += q * V * kVec, rest -= q;
      }
    }
    if (coming.step > 0) coming = ahead.stream;
  }
}

template <int V>
static void lane_rows(const LaneSource& s, int64_t channels, const float* x, const float* w, int64_t rows,
                      int64_t width, float* out, bool new_weights, bool add = false) {
  Coming none;
  lane_rows<V>(s, channels, x, w, rows, width, out, new_weights, add, none);
}

// weight (size, channels, kernel^2), output channels at distance `length` -> packed (channels, taps, V vectors), the
// lanes past `size` zero. index: of each tap in the kernel, unless all of them are there in order.
template <int V>
static void pack_lanes(const float* weight, int64_t length, int64_t kernel2, int64_t channels, int64_t taps,
                       const int64_t* index, int64_t size, float* packed) {
  constexpr int64_t kLanes = V * kVec;
  int64_t done = 0;
  if (taps == kernel2 && size == kLanes) {
    for (; done + kVec <= channels * kernel2; done += kVec) {
      for (int i = 0; i < V; ++i) {
        transpose(weight + i * kVec * length + done, length, packed + done * kLanes + i * kVec, kLanes);
      }
    }
  }
  for (int64_t k = done; k < channels * taps; ++k) {
    const float* from = weight + (taps == kernel2 ? k : k / taps * kernel2 + index[k % taps]);
    float* to = packed + k * kLanes;
    for (int64_t i = 0; i < size; ++i) to[i] = from[i * length];
    for (int64_t i = size; i < kLanes; ++i) to[i] = 0.0f;
  }
}

// `Lanes` kernels of 9 in a row: of each position to[position * step + kernel].
template <int64_t Lanes>
static inline void kernels_apart(const float* from, float* to, int64_t step) {
  if constexpr (kVec == 16 && Lanes == 2 * kVec) {
    // A vector of each kernel, which is 7 too many: of the kernels behind it, or before it for those at the end.
    alignas(64) float turned[kVec * kVec];
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t before = half * (kVec - 9);
      transpose(from + half * kVec * 9 - before, 9, turned, kVec);
      for (int64_t k = 0; k < 9; ++k) store(to + k * step + half * kVec, load(turned + (before + k) * kVec));
    }
  } else {
    for (int64_t k = 0; k < 9; ++k) {
      for (int64_t i = 0; i < Lanes; ++i) to[k * step + i] = from[i * 9 + k];
    }
  }
}

#if SKNET_VEC == 16
// The other way round: 9 vectors at distance `step` -> a vector of kernels in a row.
static inline void kernels_together(const float* from, int64_t step, float* to) {
  alignas(64) float rows[kVec * kVec] = {}, kernels[kVec * kVec];
  for (int64_t k = 0; k < 9; ++k) store(rows + k * kVec, load(from + k * step));
  transpose(rows, kVec, kernels, kVec);
  // What is stored past a kernel is in the place of those behind it, which come later.
  for (int64_t i = 0; i < kVec - 1; ++i) store(to + i * 9, load(kernels + i * kVec));
  store_part(to + (kVec - 1) * 9, load(kernels + (kVec - 1) * kVec), 9);
}
#endif
