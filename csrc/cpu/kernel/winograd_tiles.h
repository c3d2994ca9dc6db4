// SPDX-License-Identifier: Apache-2.0
// Winograd's way (winograd.h) with its products on tiles (tiles.h): rows are tiles of outputs, columns output channels.
//
// Tiles multiply so fast that memory decides. So the 16 products go four at a time, those of one row of the transformed
// inputs: what these four read and write stays in the second-level cache for many tiles of outputs, and each of the
// weights is fetched once for all of them, by and by, while the products before it are computed.

#ifdef SKNET_AMX
inline constexpr int64_t kWinogradRow = 4;

// Floats of what is worked on at a time: source, transformed inputs, outputs.
static int64_t winograd_floats(const Winograd<2>& w) {
  return w.together * w.c_in * w.source_rows(w.chunk_rows) * w.source_columns() +
         ceil_div(w.tiles(), kStrip) * kWinogradRow * strip_floats(w.c_in) + w.together * w.c_out * w.positions();
}

static Winograd<2> plan_winograd_tiles(const ConvShape& s) {
  const int64_t room = second_level_floats() / 8 * 7;
  Winograd<2> w = plan_winograd<2>(s);
  w.chunk_rows = w.tile_rows, w.together = 1;
  for (int64_t chunks = 1; winograd_floats(w) > room && w.chunk_rows > w.dilation; ++chunks) {
    w.chunk_rows = w.dilation * ceil_div(w.tile_rows, chunks * w.dilation);
  }
  if (w.chunks() == 1) {
    while (w.together < min_of(s.n, kWinogradEmits / w.c_out) && winograd_floats(w) <= room) ++w.together;
    if (w.together > 1 && winograd_floats(w) > room) --w.together;
    const int64_t batches = ceil_div(ceil_div(s.n, w.together), workers()) * workers();
    w.together = ceil_div(s.n, batches);
  }
  return w;
}

// Whether the products of a convolution that suits Winograd's way suit tiles: enough of them for each input that is
// split.
static bool suits_winograd_tiles(const ConvShape& s) {
  const int64_t c_in = s.c_in / s.groups, c_out = s.c_out / s.groups;
  return c_in >= 128 && c_in % kTileTerms == 0 && c_out % kStrip == 0;
}

// Where the terms of a tile of kVec channels go: as they are, or beside those of the kVec channels before them, as
// three parts of a left operand.
struct WinogradTerms {
  float* to;
  int64_t step;  // between terms
  void put(int f, Vec term) const { store(to + f * step, term); }
};
struct WinogradPairs {
  const float* before;
  int64_t before_step;
  float* to;
  int64_t step;
  void put(int f, Vec term) const { put_right(load(before + f * before_step), term, to + f * step); }
};

// Row `row` of B^T d B, of every tile of `rows` tile rows of kVec channels: place(tile).put(f, term). pitch: of `last`.
template <typename Place>
static void winograd_input_row(const Winograd<2>& w, int64_t row, int64_t rows, const float* last, int64_t pitch,
                               Place&& place) {
  static constexpr int kPlus[4] = {0, 1, 2, 1}, kOther[4] = {2, 2, 1, 3};
  const int64_t d = w.dilation, plus = kPlus[row] * d * pitch, other = kOther[row] * d * pitch;
  const Vec sign = broadcast(row == 1 ? 1.0f : -1.0f);
  int64_t tile = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const float* from = last + w.start(i) * pitch * kVec;
    for (int64_t t = 0; t < w.tile_columns; t += d, from += d * kVec) {
      for (int64_t j = 0; j < d; ++j, ++tile, from += kVec) {
        const auto to = place(tile);
        Vec x[4];
#pragma GCC unroll 4
        for (int64_t k = 0; k < 4; ++k) {
          x[k] = load(from + (plus + k * d) * kVec) + sign * load(from + (other + k * d) * kVec);
        }
        winograd_terms(x[0], x[1], x[2], x[3], [&](int f, Vec term) { to.put(f, term); });
      }
    }
  }
}

// Of 32 terms of 32 floats the pairs of channels c, c + 16, as in WinogradPairs -> their place in a strip of a right
// operand. first <= c < last.
static inline __attribute__((always_inline)) void put_winograd_terms(const float* from, int64_t first, int64_t last,
                                                                     float* to) {
  for (int64_t i = first; i < last; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      const float* at = from + i * kStrip + j * kTileSide;
      put_right(load(at), load(at + kTileSide * kStrip), to + j * kTileSize + i * kTileSide);
    }
  }
}

// The transformed weights of 32 channels, (4, 32, lanes) -> 32 terms of four strips of right operands, `step` apart.
static void put_winograd_strips(const float* from, float* to, int64_t step) {
  for (int64_t f = 0; f < kWinogradRow; ++f, from += kTileTerms * kStrip, to += step) {
    put_winograd_terms(from, 0, kTileSide, to);
  }
}

// What row `row` of the products m (4, at distance `step`) adds to the outputs of every tile of an image. start, done:
// whether nothing is in them yet, and whether nothing more will come but the rows below.
static void winograd_output_row(const Winograd<2>& w, int64_t row, const float* m, int64_t step, int64_t tile_rows,
                                int64_t rows, bool start, bool done, float* out, Vec* check) {
  constexpr int64_t kLanes = kStrip;
  const int64_t d = w.dilation;
  const Vec sign = broadcast(row < 2 ? 1.0f : -1.0f);  // of the lower one
  const bool upper = row < 3, lower = row > 0;
  Vec zeros{};
  for (int64_t i = 0; i < tile_rows; ++i) {
    const int64_t y = w.start(i);
    for (int64_t t = 0, x = 0; t < w.tile_columns; ++t, x += t % d == 0 ? d + 1 : 1, m += kLanes) {
      if (y >= rows || x >= w.w_out) continue;
      const bool below = y + d < rows, right = x + d < w.w_out;
      for (int64_t lane = 0; lane < kLanes; lane += kVec) {
        const Vec x0 = load(m + lane), x1 = load(m + step + lane), x2 = load(m + 2 * step + lane);
        const Vec x3 = load(m + 3 * step + lane), near = x0 + x1 + x2, far = x1 - x2 - x3;
        float* to = out + (y * w.w_out + x) * kLanes + lane;
        auto put = [&](float* at, Vec v, bool first, bool last) __attribute__((always_inline)) {
          v = first && start ? v : load(at) + v;
          store(at, v);
          if (last && done) zeros += v * broadcast(0.0f);
        };
        if (upper) {
          put(to, near, row == 0, row == 2);
          if (right) put(to + d * kLanes, far, row == 0, row == 2);
        }
        if (lower && below) {
          to += d * w.w_out * kLanes;
          put(to, sign * near, row == 1, row == 3);
          if (right) put(to + d * kLanes, sign * far, row == 1, row == 3);
        }
      }
    }
  }
  *check += zeros;
}

// As winograd(), for plan_winograd_tiles().
template <typename Pack, typename Emitter>
static bool winograd_tiles(const Winograd<2>& w, const PackedWeights& home, const WinogradSource& source, Pack&& pack,
                           Emitter&& emitter) {
  using Emit = decltype(emitter(int64_t{}, int64_t{}));
  constexpr int64_t kLanes = kStrip, kSlice = kTileTerms;
  const int64_t slices = w.c_in / kSlice, blocks = w.blocks(), strip = strip_floats(w.c_in);
  const int64_t steps = tile_steps(w.c_in);
  const int64_t strips = ceil_div(w.tiles(), kStrip), v_step = strips * strip + kVec;
  const int64_t before_step = w.image_tiles() * kVec + kVec, m_step = strips * kStrip * kLanes + kVec;
  const int64_t source_rows = w.source_rows(w.chunk_rows), source_columns = w.source_columns();
  const int64_t source_floats = (source_rows * source_columns + kVec) * kVec, sources = w.c_in / kVec;
  const int64_t pitch = ceil_div(w.positions(), kVec) * kVec, out_floats = pitch * kLanes;
  reserve_local(Local::kTile, max_of(kSlice * (9 + 16) * kLanes, kWinogradRow * m_step + out_floats));
  reserve_local(Local::kPlanes, kWinogradRow * (v_step + before_step));
  reserve_local(Local::kRow, w.together * sources * source_floats);
  bool stale;  // after all that may fail: what is kept counts as filled
  float* u = home.get(w.groups * blocks * 16 * strip, &stale);  // (groups, 4 rows, blocks, 4 products, strip)
  auto weights_at = [&](int64_t group, int64_t row, int64_t block) {
    return u + (((group * 4 + row) * blocks) + block) * kWinogradRow * strip;
  };

  parallel(stale ? w.groups * blocks * slices : 0, [&](int64_t task, int worker) {
    const int64_t block = task / slices, c = task % slices * kSlice, now = min_of(kSlice, w.c_in - c);
    float* packed = local_scratch(Local::kTile, worker);
    float* whole = packed + kSlice * 9 * kLanes;
    pack(block / blocks, block % blocks * kLanes, c, now, packed);
    winograd_weights<2>(packed, kSlice, whole, kSlice * kLanes);
    for (int64_t row = 0; row < 4; ++row) {
      put_winograd_strips(whole + row * kWinogradRow * kSlice * kLanes,
                          weights_at(block / blocks, row, block % blocks) + c / kTileTerms * kStripFloats, strip);
    }
  });

  const WinogradTasks<2> tasks(w);
  reserve_local(Local::kSums, ceil_div(blocks, tasks.shares) * w.together * out_floats);
  int failed = 0;
  parallel(tasks.count(), [&](int64_t task, int worker) {
    const TileScope scope;
    const auto [n0, now, group, first, last, channels, first_channel] = tasks.at(task);
    float* v = local_scratch(Local::kPlanes, worker);
    float* before = v + kWinogradRow * v_step;
    float* turned_source = local_scratch(Local::kRow, worker);
    float* m = local_scratch(Local::kTile, worker);
    float* turned = m + kWinogradRow * m_step;
    float* outs = local_scratch(Local::kSums, worker);
    EmitArray<Emit, kWinogradEmits> emit;
    for (int64_t i = 0; i < now * channels; ++i) {
      emit.put(i, emitter(n0 + i / channels, first_channel + i % channels));
    }
    Vec check{};
    for (int64_t chunk = 0; chunk < w.chunks(); ++chunk) {
      const int64_t tile_rows = min_of(w.chunk_rows, w.tile_rows - chunk * w.chunk_rows);
      const int64_t top = chunk * 2 * w.chunk_rows, rows = min_of(2 * w.chunk_rows, w.h_out - top);
      const int64_t tiles = (now - 1) * w.image_tiles() + tile_rows * w.tile_columns;
      for (int64_t i = 0; i < now * sources; ++i) {
        const float* planes =
            source.at + (n0 + i / sources) * source.image + (group * w.c_in + i % sources * kVec) * source.plane;
        channels_last(source, planes, w.h, w.w, top - w.padding, w.source_rows(tile_rows), w.padding, source_columns,
                      turned_source + i * source_floats);
      }
      for (int64_t row = 0; row < 4; ++row) {
        for (int64_t i = 0; i < now * sources; ++i) {
          const float* from = turned_source + i * source_floats;
          const int64_t first_tile = i / sources * w.image_tiles(), c = i % sources;
          if (c % 2 == 0) {
            winograd_input_row(w, row, tile_rows, from, source_columns,
                               [&](int64_t tile) { return WinogradTerms{before + tile * kVec, before_step}; });
            continue;
          }
          float* to = v + c / 2 * kStripFloats;
          winograd_input_row(w, row, tile_rows, from, source_columns, [&](int64_t tile) {
            const int64_t at = first_tile + tile;
            return WinogradPairs{before + tile * kVec, before_step, to + at / kStrip * strip + at % kStrip * kTileSide,
                                 v_step};
          });
        }
        const int64_t now_strips = ceil_div(tiles, kStrip);
        for (int64_t block = first; block < last; ++block) {
          for (int64_t f = 0; f < kWinogradRow; ++f) {
            const float* weights = weights_at(group, row, block) + f * strip;
            // The next strip of weights, while this one meets all inputs; fewer of them leave no room for it.
            TileAhead ahead;
            if (now_strips >= 3) ahead.later = {weights + strip, kStrip, strip / kStrip};
            ahead.later_rows = ceil_div(strip / kStrip, now_strips * steps);
            for (int64_t t = 0; t < now_strips; ++t) {
              tile_product(tiles - t * kStrip, kLanes, v + f * v_step + t * strip, StripTiles{weights}, steps,
                           m + f * m_step + t * kStrip * kLanes, kLanes, false, ahead);
            }
          }
          for (int64_t i = 0; i < now; ++i) {
            winograd_output_row(w, row, m + i * w.image_tiles() * kLanes, m_step, tile_rows, rows, true, true,
                                outs + ((block - first) * w.together + i) * out_floats, &check);
          }
        }
      }
      for (int64_t block = first; block < last; ++block) {
        for (int64_t i = 0; i < now; ++i) {
          emit_lanes<2>(outs + ((block - first) * w.together + i) * out_floats, top * w.w_out, rows * w.w_out, kLanes,
                        turned, pitch, emit.at(i * channels + (block - first) * kLanes));
        }
      }
    }
    for (int64_t i = 0; i < now * channels; ++i) emit.at(i)->finish();
    if (!(sum(check) == 0.0f)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  return failed == 0;
}
#endif
