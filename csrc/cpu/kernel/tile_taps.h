// SPDX-License-Identifier: Apache-2.0
// Convolutions of many channels a group, and the gradients of strided ones by the input, as products on tiles
// (tiles.h): output channels are rows, padded positions columns, and each tap is a product of its own over the same
// planes, read from another place on. Where Winograd's way serves, it takes fewer products, on vectors; not if strided,
// nor on few positions.

#ifdef SKNET_AMX
// Tap sets over one layout: of a convolution, or of the phases of dx.
struct TileTaps {
  const PlaneLayout* layout;
  const TapSet* sets;
  int count;
  int64_t groups, c_in, c_out;  // channels of a group
  // Floats of a row, which holds two planes of a part. An odd number of lines: 16 rows must not share their cache sets.
  int64_t row() const { return (ceil_div(layout->channel, kVec) | 1) * kVec; }
  int64_t part() const { return c_in / 2 * row(); }
  int64_t blocks() const { return c_out / kStrip; }
  int64_t steps(int set) const { return c_in / kTileTerms * sets[set].count; }  // of 32 terms
  // Weights of a block: for each set, for 32 input channels after 32, a strip for every tap.
  int64_t block_floats() const {
    int64_t all = 0;
    for (int i = 0; i < count; ++i) all += steps(i) * kStripFloats;
    return all;
  }
  int64_t weight_floats() const { return groups * blocks() * block_floats(); }
  // Of a padded plane, what is read at all: all that of whole strips of positions.
  int64_t read() const {
    int64_t end = 0;
    for (int i = 0; i < count; ++i) {
      for (int64_t t = 0; t < sets[i].count; ++t) {
        end = max_of(end, sets[i].offset[t] + (sets[i].h_out - 1) * layout->pitch + sets[i].w_out);
      }
    }
    return min_of(layout->channel, end + kStrip);
  }
  int64_t most_steps() const {
    int64_t most = 1;
    for (int i = 0; i < count; ++i) most = max_of(most, steps(i));
    return most;
  }
};

// Products enough for a value to pay for its three parts, and floats of a group that a worker may hold as such.
inline constexpr int64_t kTapProducts = 576;
inline constexpr int64_t kTapFloats = 4 << 20;

static bool suits_tile_taps(const ConvShape& s) {
  const int64_t c_in = s.c_in / s.groups, c_out = s.c_out / s.groups;
  return s.kernel > 1 && c_in % kTileTerms == 0 && c_out % kStrip == 0 && s.kernel * s.kernel * c_out >= kTapProducts &&
         s.h_out * s.w_out >= kTileSide && s.n * s.h_out * s.w_out >= kStrip && c_in * s.h * s.w <= kTapFloats;
}

// weight[o * out_step + c * in_step + tap index] -> strips of all groups, whose weights lie `group` floats apart.
static void put_tap_strips(const TileTaps& t, const float* weight, int64_t group, int64_t out_step, int64_t in_step,
                           float* strips) {
  const int64_t slices = t.c_in / kTileTerms;
  const bool forward = in_step < out_step, nine = min_of(in_step, out_step) == 9;
  constexpr int64_t kTerms = kStrip * kTileTerms;
  parallel(t.groups * t.blocks() * slices, [&](int64_t task, int) {
    const int64_t slice = task % slices, block = task / slices;
    const float* from =
        weight + block / t.blocks() * group + block % t.blocks() * kStrip * out_step + slice * kTileTerms * in_step;
    float* to = strips + block * t.block_floats();
    alignas(64) float apart[9 * kTerms];  // of 3x3 kernels
    for (int64_t i = 0; i < kStrip && nine; ++i) {
      kernels_apart<kStrip>(from + i * (forward ? out_step : in_step), apart + i * kStrip, kTerms);
    }
    for (int set = 0; set < t.count; to += t.steps(set) * kStripFloats, ++set) {
      const TapSet& taps = t.sets[set];
      for (int64_t tap = 0; tap < taps.count; ++tap) {
        float* strip = to + (slice * taps.count + tap) * kStripFloats;
        const float* at = from + taps.index[tap];
        alignas(64) float terms[kTerms];
        if (nine && forward) {
          put_left_strip(apart + taps.index[tap] * kTerms, kTileTerms, kStrip, kTileTerms, strip);
          continue;
        }
        if (nine) {
          const float* turned = apart + taps.index[tap] * kTerms;
          for (int64_t i = 0; i < kStrip; i += kVec) {
            for (int64_t c = 0; c < kTileTerms; c += kVec) {
              transpose(turned + c * kStrip + i, kStrip, terms + i * kTileTerms + c, kTileTerms);
            }
          }
        } else if (forward) {  // in the order in which the weights lie
          for (int64_t i = 0; i < kStrip; ++i) {
            for (int64_t c = 0; c < kTileTerms; ++c) terms[i * kTileTerms + c] = at[i * out_step + c * in_step];
          }
        } else {
          for (int64_t c = 0; c < kTileTerms; ++c) {
            for (int64_t i = 0; i < kStrip; ++i) terms[i * kTileTerms + c] = at[c * in_step + i * out_step];
          }
        }
        put_left_strip(terms, kTileTerms, kStrip, kTileTerms, strip);
      }
    }
  });
}

// How images, groups and blocks of output channels make tasks.
struct TapShares {
  int64_t images, groups, blocks, together = 1, shares = 1;
  TapShares(const TileTaps& t, int64_t n) : images(n), groups(t.groups), blocks(t.blocks()) {
    together = max_of(1, min_of(n, second_level_floats() / 2 / (3 * t.part())));
    together = min_of(together, max_of(1, kLaneEmits / kStrip));
    if (groups < 2 * workers()) together = min_of(together, max_of(1, n / workers()));
    together = ceil_div(n, ceil_div(n, together));
    // Every share makes rows of the planes for itself.
    while (shares < blocks && (tasks() % workers() != 0 || tasks() < workers())) shares *= 2;
    shares = min_of(shares, blocks);
  }
  int64_t tasks() const { return ceil_div(images, together) * groups * shares; }
};

// pad(n, channel, worker, to) makes a padded plane; emitter(set, n, channel, worker) takes an output plane, those of 32
// channels of an image set by set, but not (skip_empty) of a set without taps. False if an output is not finite: all is
// to be computed again.
template <typename Pad, typename Emitter>
static bool tile_taps(const TileTaps& t, int64_t images, const float* strips, bool skip_empty, Pad&& pad,
                      Emitter&& emitter) {
  using Emit = decltype(emitter(0, int64_t{}, int64_t{}, 0));
  const PlaneLayout& layout = *t.layout;
  const int64_t row = t.row(), part = t.part(), blocks = t.blocks(), read = t.read();
  const TapShares split(t, images);
  const int64_t run = (ceil_div(max_of(layout.pitch, kTileRun) + kStrip, kVec) | 1) * kVec;  // of a product's row
  reserve_local(Local::kPlanes, split.together * 3 * part);
  reserve_local(Local::kTile, kStrip * run + 2 * row + 2 * t.most_steps());
  int failed = 0;
  parallel(split.tasks(), [&](int64_t task, int worker) {
    const TileScope scope;
    const int64_t share = task % split.shares, group = task / split.shares % t.groups;
    const int64_t i0 = task / split.shares / t.groups * split.together, now = min_of(split.together, images - i0);
    float* rows = local_scratch(Local::kPlanes, worker);
    float* product = local_scratch(Local::kTile, worker);
    float* padded = product + kStrip * run;
    int64_t* offset = reinterpret_cast<int64_t*>(padded + 2 * row);
    for (int64_t k = 0; k < now * t.c_in; k += 2) {
      const int64_t i = k / t.c_in, c = k % t.c_in;
      float* to = rows + i * 3 * part + c / 2 * row;
      for (int64_t j = 0; j < 2; ++j) pad(i0 + i, group * t.c_in + c + j, worker, padded + j * row);
      for (int64_t p = 0; p < read; p += kVec) put_right(load(padded + p), load(padded + row + p), to + p, part);
    }
    Vec check{};
    for (int64_t block = share * blocks / split.shares; block < (share + 1) * blocks / split.shares; ++block) {
      for (int64_t i = 0; i < now; ++i) {
        const float* weights = strips + (group * blocks + block) * t.block_floats();
        for (int set = 0; set < t.count; weights += t.steps(set) * kStripFloats, ++set) {
          const TapSet& taps = t.sets[set];
          const int64_t steps = t.steps(set), step = max_of(1, kTileRun / layout.pitch);  // of terms; rows of a run
          if (steps == 0 && skip_empty) continue;
          if (steps == 0) fill_zero(product, kStrip * run);
          for (int64_t k = 0; k < steps; ++k) {
            offset[k] = taps.offset[k % taps.count] + k / taps.count * (kTileTerms / 2) * row;
          }
          EmitArray<Emit, kStrip> emit;
          for (int64_t c = 0; c < kStrip; ++c) {
            emit.put(c, emitter(set, i0 + i, group * t.c_out + block * kStrip + c, worker));
          }
          for (int64_t r = 0; r < taps.h_out; r += step) {
            const int64_t run_rows = min_of(step, taps.h_out - r), count = (run_rows - 1) * layout.pitch + taps.w_out;
            for (int64_t p = 0; p < count && steps > 0; p += kStrip) {
              const RowTiles right{rows + i * 3 * part + r * layout.pitch + p, offset, part, row * 4};
              tile_product(kStrip, count - p, weights, right, steps, product + p, run, false);
            }
            for (int64_t c = 0; c < kStrip; ++c) {
              const float* from = product + c * run;
              check += zero_times(from, count);
              emit.at(c)->rows(r * taps.w_out, run_rows, taps.w_out, from, layout.pitch);
            }
          }
          for (int64_t c = 0; c < kStrip; ++c) emit.at(c)->finish();
        }
      }
    }
    if (!(sum(check) == 0.0f)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  return failed == 0;
}
#endif
