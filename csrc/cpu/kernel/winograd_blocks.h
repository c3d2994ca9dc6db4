// SPDX-License-Identifier: Apache-2.0
// Winograd's way (winograd.h) with its products on tiles, for small maps of so many channels that the transformed
// weights are more than a cache holds.
//
// There it decides how often the weights come from memory, and as how many bytes. So workers share the blocks of output
// channels instead of the images: each reads its weights once for as many images as fit. And the weights come as
// floats, two thirds of their three parts; a worker splits them when it meets them. The inputs are transformed once for
// all workers.

#ifdef SKNET_AMX
inline constexpr int64_t kWinogradPart = 256;  // most input channels at a time

struct WinogradBlocks {
  Winograd<2> w;
  int64_t part;                                                                           // input channels at a time
  int64_t out_floats() const { return ceil_div(w.positions(), kVec) * kVec * w.kLanes; }  // of an image and block
  int64_t strips() const { return ceil_div(w.tiles(), kStrip); }
  int64_t weight_step() const { return w.weight_step() + w.kLanes; }  // not a power of two
  int64_t shares() const { return min_of(w.blocks(), workers()); }
  // What a worker has at hand: a row of the transformed inputs, its outputs.
  int64_t floats() const {
    return strips() * kWinogradRow * strip_floats(part) + w.together * ceil_div(w.blocks(), shares()) * out_floats();
  }
};

static WinogradBlocks plan_winograd_blocks(const ConvShape& s) {
  WinogradBlocks p{plan_winograd<2>(s), 0};
  p.part = ceil_div(p.w.c_in, kTileTerms * ceil_div(p.w.c_in, kWinogradPart)) * kTileTerms;
  p.w.chunk_rows = p.w.tile_rows, p.w.together = 1;
  const int64_t room = second_level_floats() / 8 * 7;
  while (p.w.together < s.n && p.floats() <= room) ++p.w.together;
  if (p.w.together > 1 && p.floats() > room) --p.w.together;
  if (s.n > 0) p.w.together = ceil_div(s.n, ceil_div(s.n, p.w.together));
  return p;
}

// Of a convolution whose products suit tiles: the weights are more than 2 MB. Not what this machine's cache holds:
// other sums are other results.
static bool suits_winograd_blocks(const ConvShape& s) {
  const Winograd<2> w = plan_winograd<2>(s);
  return w.tile_rows * w.tile_columns <= kStrip && 16 * w.c_in * w.c_out > 512 * 1024;
}

// A strip of right operands that is made while it is read for the first time, a step ahead.
struct FreshTiles {
  static constexpr bool kStream = false, kFresh = true, kSmallFirst = false;
  static constexpr int64_t row_bytes = 64, beside = kTileSize;
  float* strip;
  const float* floats;
  // A sixth of a step.
  void make(int64_t step, int sixth) const {
    const float* from = floats + step * kTileTerms * kStrip;
    put_winograd_terms(from, sixth * kTileSide / 6, (sixth + 1) * kTileSide / 6, strip + step * kStripFloats);
  }
  const float* at(int64_t step, int64_t part) const { return strip + step * kStripFloats + part * kPartFloats; }
  FreshTiles from(int64_t step) const { return {strip + step * kStripFloats, floats + step * kTileTerms * kStrip}; }
};

// As winograd(), for plan_winograd_blocks().
template <typename Pack, typename Emitter>
static bool winograd_blocks(const WinogradBlocks& plan, const PackedWeights& home, const WinogradSource& source,
                            Pack&& pack, Emitter&& emitter) {
  using Emit = decltype(emitter(int64_t{}, int64_t{}));
  constexpr int64_t kLanes = kStrip;
  const Winograd<2>& w = plan.w;
  const int64_t blocks = w.blocks(), weight_step = plan.weight_step();
  reserve_local(Local::kTile, kWinogradSlice * 9 * kLanes);
  bool stale;
  float* u = home.get(w.groups * blocks * 16 * weight_step, &stale);  // (groups, blocks, 16, c_in, lanes)
  if (stale) put_winograd_weights(w, weight_step, pack, u);

  const int64_t strip = strip_floats(plan.part), strips = plan.strips(), out_floats = plan.out_floats();
  const int64_t v_step = strips * strip + kVec, m_step = strips * kStrip * kLanes + kVec;
  const int64_t source_columns = w.source_columns(), source_rows = w.source_rows(w.tile_rows);
  const int64_t source_floats = (source_rows * source_columns + kVec) * kVec;
  const int64_t before_step = w.image_tiles() * kVec, shares = plan.shares();
  float* v = shared_scratch(Shared::kTransformed, 16 * v_step + blocks * w.together * out_floats);
  float* outs = v + 16 * v_step;  // (blocks, images, positions, lanes)
  reserve_local(Local::kTile, strip + kWinogradRow * m_step);
  reserve_local(Local::kPlanes, max_of(kWinogradRow * before_step, out_floats));
  reserve_local(Local::kRow, 2 * source_floats);
  int failed = 0;
  auto transform = [&](int64_t n0, int64_t now, int64_t first, int64_t channels) {
    const int64_t pairs = channels / kTileTerms;
    parallel(now * pairs, [&](int64_t task, int worker) {
      const int64_t i = task / pairs, c = task % pairs;
      float* before = local_scratch(Local::kPlanes, worker);
      float* turned = local_scratch(Local::kRow, worker);
      const float* planes = source.at + (n0 + i) * source.image + (first + c * kTileTerms) * source.plane;
      for (int64_t half = 0; half < 2; ++half) {
        channels_last(source, planes + half * kVec * source.plane, w.h, w.w, -w.padding, source_rows, w.padding,
                      source_columns, turned + half * source_floats);
      }
      for (int64_t row = 0; row < 4; ++row) {
        float* to = v + row * kWinogradRow * v_step + c * kStripFloats;
        winograd_input_row(w, row, w.tile_rows, turned, source_columns,
                           [&](int64_t tile) { return WinogradTerms{before + tile * kVec, before_step}; });
        winograd_input_row(w, row, w.tile_rows, turned + source_floats, source_columns, [&](int64_t tile) {
          const int64_t at = i * w.image_tiles() + tile;
          return WinogradPairs{before + tile * kVec, before_step, to + at / kStrip * strip + at % kStrip * kTileSide,
                               v_step};
        });
      }
    });
  };
  // What input channels [first, first + channels) of a group add to its outputs.
  auto multiply = [&](int64_t n0, int64_t now, int64_t group, int64_t first, int64_t channels) {
    const int64_t tiles = now * w.image_tiles(), now_strips = ceil_div(tiles, kStrip), steps = tile_steps(channels);
    const bool start = first == 0, done = first + channels == w.c_in;
    parallel(shares, [&](int64_t share, int worker) {
      const TileScope scope;
      float* right = local_scratch(Local::kTile, worker);
      float* m = right + strip;
      float* turned = local_scratch(Local::kPlanes, worker);
      Vec check{};
      const int64_t from = share * blocks / shares, to = (share + 1) * blocks / shares;
      for (int64_t row = 0; row < 4; ++row) {
        for (int64_t block = from; block < to; ++block) {
          const float* weights =
              u + ((group * blocks + block) * 16 + row * kWinogradRow) * weight_step + first * kLanes;
          for (int64_t f = 0; f < kWinogradRow; ++f, weights += weight_step) {
            TileAhead ahead;  // of the next strip
            ahead.later = {f + 1 < kWinogradRow ? weights + weight_step : weights + 13 * weight_step, kLanes, channels};
            ahead.later_rows = ceil_div(channels, now_strips * steps);
            const float* left = v + (row * kWinogradRow + f) * v_step;
            float* out = m + f * m_step;
            tile_product(tiles, kLanes, left, FreshTiles{right, weights}, steps, out, kLanes, false, ahead);
            for (int64_t t = 1; t < now_strips; ++t) {
              tile_product(tiles - t * kStrip, kLanes, left + t * strip, StripTiles{right}, steps,
                           out + t * kStrip * kLanes, kLanes, false, ahead);
            }
          }
          for (int64_t i = 0; i < now; ++i) {
            winograd_output_row(w, row, m + i * w.image_tiles() * kLanes, m_step, w.tile_rows, w.h_out, start, done,
                                outs + (block * w.together + i) * out_floats, &check);
          }
        }
      }
      for (int64_t task = from * now; done && task < to * now; ++task) {
        const int64_t block = task / now, i = task % now;
        EmitArray<Emit> emit;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          emit.put(lane, emitter(n0 + i, group * w.c_out + block * kLanes + lane));
        }
        emit_lanes<2>(outs + (block * w.together + i) * out_floats, 0, w.h_out * w.w_out, kLanes, turned,
                      out_floats / kLanes, emit.at(0));
        for (int64_t lane = 0; lane < kLanes; ++lane) emit.at(lane)->finish();
      }
      if (!(sum(check) == 0.0f)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
    });
  };
  for (int64_t n0 = 0; n0 < w.images; n0 += w.together) {
    const int64_t now = min_of(w.together, w.images - n0);
    for (int64_t group = 0; group < w.groups; ++group) {
      for (int64_t first = 0; first < w.c_in; first += plan.part) {
        const int64_t channels = min_of(plan.part, w.c_in - first);
        transform(n0, now, group * w.c_in + first, channels);
        multiply(n0, now, group, first, channels);
      }
    }
  }
  return failed == 0;
}
#endif
