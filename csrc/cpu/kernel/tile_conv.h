// SPDX-License-Identifier: Apache-2.0
// 1x1 convolutions as products on tiles (tiles.h): output channels are rows, positions columns, so that a product's
// rows are runs of the output planes.

#ifdef SKNET_AMX
// The positions of the outputs in their source planes: (row * pitch + column) * step, planes at distance `channel`.
struct TilePlanes {
  int64_t rows, columns, pitch, step, channel;
  int64_t positions() const { return rows * columns; }
  bool flat() const { return step == 1 && (rows == 1 || pitch == columns); }
};

// `count` positions of a plane, from `first` on, side by side.
static void gather_positions(const TilePlanes& s, const float* plane, int64_t first, int64_t count, float* to) {
  if (s.flat()) {
    copy_row(plane + first, count, to);
    return;
  }
  int64_t row = first / s.columns, column = first % s.columns;
  for (int64_t now = 0; count > 0; count -= now, to += now, column = 0, ++row) {
    now = min_of(count, s.columns - column);
    const float* from = plane + (row * s.pitch + column) * s.step;
    if (s.step == 1) {
      copy_row(from, now, to);
    } else {
      copy_every_other(from, now, to);
    }
  }
}

// The same of the planes of all images, one after the other. plane_of(image) is one.
template <typename PlaneOf>
static inline void gather_images(const TilePlanes& s, int64_t first, int64_t count, float* to, PlaneOf&& plane_of) {
  int64_t begin = first % s.positions();
  for (int64_t image = first / s.positions(); count > 0; ++image, begin = 0) {
    const int64_t now = min_of(count, s.positions() - begin);
    gather_positions(s, plane_of(image), begin, now, to);
    to += now, count -= now;
  }
}

// Zero, unless one of the values is not finite.
static inline Vec zero_times(const float* values, int64_t count) {
  Vec zeros{};
  each_vector(1, count, values, count, [&](int64_t, Vec v, int64_t) { zeros += v * broadcast(0.0f); });
  return zeros;
}

inline constexpr int64_t kTileRun = 512;                // most positions of a product, and that are emitted at a time
inline constexpr int64_t kTilePitch = kTileRun + kVec;  // of a product's rows
inline constexpr int64_t kTilePut = 256;                // positions of all channels that are made strips of at a time

// The positions of some images, one after the other, cut into runs. Each begins a strip of its own.
struct TileRuns {
  int64_t positions;      // of an image
  int64_t length = 1;     // of a run
  int64_t per_image = 0;  // runs of an image, where the last one ends with it
  int64_t count(int64_t images) const {
    return per_image > 0 ? images * per_image : ceil_div(images * positions, length);
  }
  int64_t at(int64_t run) const {
    return per_image > 0 ? run / per_image * positions + run % per_image * length : run * length;
  }
  int64_t size(int64_t run, int64_t images) const {
    const int64_t end = per_image > 0 ? (run / per_image + 1) * positions : images * positions;
    return min_of(length, end - at(run));
  }
  int64_t strip(int64_t run) const {
    const int64_t full = ceil_div(length, kStrip);
    if (per_image == 0) return run * full;
    const int64_t last = ceil_div(positions - (per_image - 1) * length, kStrip);
    return run / per_image * ((per_image - 1) * full + last) + run % per_image * full;
  }
};

// How the positions are shared out. Where all strips fit the second-level cache and there are blocks of channels
// enough, `whole`: they are made once, for all. Else a task makes those that it needs, a range that fits at a time, or
// a run that does not. What an emitter that carries sums gets at a time depends on the shape alone: an image, or 512
// positions of one.
struct TileShares {
  int64_t images, blocks;
  TileRuns runs;
  int64_t together = 1, shares = 1, pieces = 1;  // images of a task, tasks for its blocks, and for its positions
  int64_t range = 1;                             // runs
  bool whole = false;
  TileShares(int64_t n, int64_t of_image, int64_t block_count, int64_t terms, bool any_order)
      : images(n), blocks(block_count), runs{of_image} {
    const int64_t room = max_of(1, second_level_floats() * 5 / 8 / strip_floats(terms)) * kStrip;
    whole = n * of_image <= room && blocks >= 2 * workers() && n * kStrip <= kLaneEmits;
    if (!whole) {
      together = max_of(1, min_of(n, room / of_image));
      together = min_of(together, max_of(1, kLaneEmits / (blocks * kStrip)));
    }
    together = whole ? n : ceil_div(n, ceil_div(n, together));
    const int64_t groups = ceil_div(n, together), all = together * of_image;
    if (any_order) {
      int64_t ranges = whole ? 1 : ceil_div(all, room);
      // Weights that stay in the cache may be read by many.
      const bool light = blocks * strip_floats(terms) <= second_level_floats() / 4;
      const int64_t enough = light ? 4 * workers() : workers();
      if (!whole && workers() > 1 && groups < enough) {
        const int64_t most = max_of(1, all / (2 * kStrip));
        pieces = min_of(most, ranges);
        while (pieces < most && (groups * pieces < enough || groups * pieces % workers() != 0)) ++pieces;
        ranges = max_of(ranges, pieces);
      }
      const int64_t each = ceil_div(all, ranges);
      range = ceil_div(each, kTileRun);
      runs.length = ceil_div(ceil_div(each, range), kTileSide) * kTileSide;
      if (pieces > 1) pieces = ceil_div(runs.count(together), range);
    } else if (of_image <= kTileRun) {
      runs.length = max_of(1, min_of(kTileRun, room) / of_image) * of_image;
      range = max_of(1, room / runs.length);
    } else {
      runs.length = kTileRun, runs.per_image = ceil_div(of_image, kTileRun);
      range = max_of(1, room / kTileRun);
    }
    if (whole) {
      shares = blocks, range = runs.count(n);
      return;
    }
    range = min_of(range, runs.count(together));
    shares = ceil_div(blocks * kStrip * together, kLaneEmits);
    while (shares < blocks && tasks() % workers() != 0 && tasks() < 4 * workers()) shares *= 2;
    shares = min_of(shares, blocks);
  }
  int64_t tasks() const { return ceil_div(images, together) * pieces * shares; }
  int64_t strips() const { return range * ceil_div(runs.length, kStrip); }  // of a range, at most
};

// Strips of `count` positions, from `first` on, and channels [c0, c1). rows: room for two runs of them.
template <typename PlaneOf>
static __attribute__((noinline)) void put_right_strips(const TilePlanes& source, int64_t first, int64_t count,
                                                       int64_t c0, int64_t c1, int64_t channels, float* rows,
                                                       float* strips, PlaneOf&& plane_of) {
  const int64_t positions = source.positions(), step = strip_floats(channels);
  const int64_t image = first / positions, at = first % positions;
  const bool direct = source.flat() && at + count <= positions && count % kVec == 0;
  if (!direct) fill_zero(rows, 2 * kTilePut);
  for (int64_t c = c0; c < c1; c += 2) {
    const float* from[2] = {rows, rows + kTilePut};
    const int64_t real = min_of(2, channels - c);
    for (int64_t i = 0; i < real; ++i) {
      if (direct) {
        from[i] = plane_of(image) + (c + i) * source.channel + at;
        continue;
      }
      gather_images(source, first, count, rows + i * kTilePut,
                    [&](int64_t n) { return plane_of(n) + (c + i) * source.channel; });
    }
    float* to = strips + c / kTileTerms * kStripFloats + c % kTileTerms / 2 * kTileSide;
    for (int64_t p = 0; p < count; p += kTileSide) {
      const Vec zero{};
      put_right(real > 0 ? load(from[0] + p) : zero, real > 1 ? load(from[1] + p) : zero,
                to + p / kStrip * step + p % kStrip / kTileSide * kTileSize);
    }
  }
}

// plane_of(image) is the first source plane, strip_of(block) the weights of 32 output channels, emitter(image, channel)
// takes an output plane. False if an output is not finite: all is to be computed again.
template <typename PlaneOf, typename StripOf, typename Emitter>
static bool tile_convolution(const TilePlanes& source, int64_t images, int64_t channels, int64_t channels_out,
                             PlaneOf&& plane_of, StripOf&& strip_of, Emitter&& emitter) {
  using Emit = decltype(emitter(int64_t{}, int64_t{}));
  const int64_t positions = source.positions(), blocks = ceil_div(channels_out, kStrip);
  const int64_t steps = tile_steps(channels), strip = strip_floats(channels), padded = steps * kTileTerms;
  const TileShares split(images, positions, blocks, channels, Emit::kAnyOrder);
  const TileRuns& runs = split.runs;
  reserve_local(Local::kTile, kStrip * kTilePitch + 2 * kTilePut);
  float* shared = nullptr;
  if (split.whole) {
    shared = shared_scratch(Shared::kStrips, split.strips() * strip);
    constexpr int64_t kSlice = 2 * kTileTerms;
    const int64_t slices = ceil_div(padded, kSlice);
    parallel(split.range * slices, [&](int64_t task, int worker) {
      const int64_t run = task / slices, size = runs.size(run, images), c = task % slices * kSlice;
      for (int64_t p = 0; p < size; p += kTilePut) {
        put_right_strips(source, runs.at(run) + p, min_of(kTilePut, size - p), c, min_of(padded, c + kSlice), channels,
                         local_scratch(Local::kTile, worker), shared + (runs.strip(run) + p / kStrip) * strip,
                         plane_of);
      }
    });
  } else {
    reserve_local(Local::kPlanes, split.strips() * strip);
  }
  int failed = 0;
  parallel(split.tasks(), [&](int64_t task, int worker) {
    const TileScope scope;
    const int64_t share = task % split.shares, piece = task / split.shares % split.pieces;
    const int64_t i0 = task / split.shares / split.pieces * split.together, now = min_of(split.together, images - i0);
    const int64_t from = share * blocks / split.shares, to = (share + 1) * blocks / split.shares;
    const int64_t first = from * kStrip, planes_out = min_of(channels_out, to * kStrip) - first;
    const int64_t all = runs.count(now), r_first = split.pieces > 1 ? piece * split.range : 0;
    const int64_t r_last = split.pieces > 1 ? min_of(all, r_first + split.range) : all;
    float* product = local_scratch(Local::kTile, worker);
    float* rows = product + kStrip * kTilePitch;
    EmitArray<Emit, kLaneEmits> emit;
    auto emit_at = [&](int64_t image, int64_t c) { return emit.at(image * planes_out + c - first); };
    for (int64_t k = 0; k < now * planes_out; ++k) emit.put(k, emitter(i0 + k / planes_out, first + k % planes_out));
    Vec check{};
    for (int64_t r0 = r_first; r0 < r_last; r0 += split.range) {
      const int64_t r1 = min_of(r_last, r0 + split.range);
      float* strips = shared != nullptr ? shared : local_scratch(Local::kPlanes, worker);
      for (int64_t r = r0; r < r1 && shared == nullptr; ++r) {
        for (int64_t p = 0, size = runs.size(r, now); p < size; p += kTilePut) {
          put_right_strips(source, runs.at(r) + p, min_of(kTilePut, size - p), 0, padded, channels, rows,
                           strips + (runs.strip(r) - runs.strip(r0) + p / kStrip) * strip,
                           [&](int64_t image) { return plane_of(i0 + image); });
        }
      }
      for (int64_t block = from; block < to; ++block) {
        const float* left = strip_of(block);
        const int64_t size = min_of(kStrip, channels_out - block * kStrip);
        for (int64_t r = r0; r < r1; ++r) {
          const int64_t at = runs.at(r), count = runs.size(r, now);
          const float* right = strips + (runs.strip(r) - runs.strip(r0)) * strip;
          for (int64_t p = 0; p < count; p += kStrip, right += strip) {
            const int64_t image = (at + p) / positions, position = (at + p) % positions;
            const Emit &planes = *emit_at(image, block * kStrip), &next = *(&planes + (size > 1 ? 1 : 0));
            auto rows_of = [&](const float* plane, const float* next_plane) {
              return plane == nullptr ? PlaneRows{} : PlaneRows{plane + position, next_plane - plane, size};
            };
            TileAhead ahead{{rows_of(planes.writes(), next.writes()), rows_of(planes.reads(), next.reads())},
                            ceil_div(size, steps)};
            tile_product(size, count - p, left, StripTiles{right}, steps, product + p, kTilePitch, false, ahead);
          }
          for (int64_t i = 0; i < size; ++i) {
            const float* row = product + i * kTilePitch;
            check += zero_times(row, count);
            int64_t begin = at % positions, rest = count;
            for (int64_t image = at / positions; rest > 0; ++image, begin = 0) {
              const int64_t part = min_of(rest, positions - begin);
              emit_at(image, block * kStrip + i)->rows(begin, 1, part, row, part);
              row += part, rest -= part;
            }
          }
        }
      }
    }
    for (int64_t k = 0; k < now * planes_out; ++k) emit.at(k)->finish();
    if (!(sum(check) == 0.0f)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  return failed == 0;
}

// A 1x1 convolution without padding, of channels and positions enough to pay for the strips.
static bool suits_tiles(const ConvShape& s) {
  return s.kernel == 1 && s.padding == 0 && s.groups == 1 && s.stride <= 2 && s.c_in >= kTileTerms &&
         s.c_out >= kStrip && s.h_out * s.w_out >= kTileSide;
}

// Weights (c_out, c_in) as strips of a left operand.
static void put_weight_strips(const float* weight, int64_t c_out, int64_t c_in, float* strips) {
  parallel(ceil_div(c_out, kStrip), [&](int64_t block, int) {
    const int64_t first = block * kStrip;
    put_left_strip(weight + first * c_in, c_in, min_of(kStrip, c_out - first), c_in,
                   strips + block * strip_floats(c_in));
  });
}

// The same turned, (c_in, c_out), for the gradient by the input.
static void put_turned_weight_strips(const float* weight, int64_t c_out, int64_t c_in, float* strips) {
  parallel(ceil_div(c_in, kStrip), [&](int64_t block, int) {
    const int64_t first = block * kStrip, rows = min_of(kStrip, c_in - first);
    alignas(64) float turned[kStrip * kTileTerms];
    for (int64_t c = 0; c < c_out; c += kTileTerms) {
      const int64_t terms = min_of(kTileTerms, c_out - c);
      const float* from = weight + c * c_in + first;
      if (rows == kStrip && terms == kTileTerms) {
        for (int64_t i = 0; i < kStrip; i += kVec) {
          for (int64_t j = 0; j < kTileTerms; j += kVec) {
            transpose(from + j * c_in + i, c_in, turned + i * kTileTerms + j, kTileTerms);
          }
        }
      } else {
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < terms; ++j) turned[i * kTileTerms + j] = from[j * c_in + i];
        }
      }
      put_left_strip(turned, kTileTerms, rows, terms,
                     strips + block * strip_floats(c_out) + c / kTileTerms * kStripFloats);
    }
  });
}
#endif
