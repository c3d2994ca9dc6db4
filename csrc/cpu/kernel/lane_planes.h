// SPDX-License-Identifier: Apache-2.0
// Output planes by the kernels with channels in the lanes (lanes.h): tile by tile, turned and handed to their emitters.

// Both tiles; positions past the last are computed upon but not used.
inline constexpr int64_t kLaneTileFloats = 2 * (kLaneTile + kVec) * 2 * kVec;

// How an output plane is cut. width: of a run of positions that lie side by side in the source.
struct LaneTiles {
  int64_t rows, width, row_step, col_step;
  LaneTiles(int64_t plane_rows, int64_t run)
      : rows(plane_rows), width(run), row_step(max_of(1, kLaneTile / max_of(1, run))), col_step(run) {
    if (run > kLaneTile) {  // equal ones, of whole blocks of positions if possible
      const int64_t step = ceil_div(ceil_div(run, ceil_div(run, kLaneTile)), kMostColumns) * kMostColumns;
      col_step = min_of(step, kLaneTile);
    }
  }
  int64_t across() const { return ceil_div(width, col_step); }
  int64_t row(int64_t t) const { return t / across() * row_step; }
  int64_t column(int64_t t) const { return t % across() * col_step; }
  int64_t rows_of(int64_t t) const { return min_of(row_step, rows - row(t)); }
  int64_t columns_of(int64_t t) const { return min_of(col_step, width - column(t)); }
  int64_t position(int64_t t) const { return row(t) * width + column(t); }
  int64_t offset(int64_t t, const LaneSource& source) const { return row(t) * source.pitch + column(t) * source.step; }
  int64_t count() const { return rows == 0 || width == 0 ? 0 : ceil_div(rows, row_step) * across(); }
};

// A tile of up to V vectors of output planes, `size` of them. at: its first position in the first channel; position:
// the same in the output planes.
template <int V, typename Emit>
static void lane_tile(const LaneSource& source, int64_t channels, const float* at, const float* w, int64_t rows,
                      int64_t columns, int64_t position, int64_t size, bool new_weights, float* tile, Emit* emit,
                      Coming& coming) {
  lane_rows<V>(source, channels, at, w, rows, columns, tile, new_weights, false, coming);
  emit_lanes<V>(tile, position, rows * columns, size, tile + kLaneTile * V * kVec, kLaneTile, emit);
}

template <typename Emit>
static void lane_tile(const LaneSource& source, int64_t channels, const float* at, const float* w, int64_t rows,
                      int64_t columns, int64_t position, int64_t size, bool new_weights, float* tile, Emit* emit,
                      Coming& coming) {
  if (size > kVec) {
    lane_tile<2>(source, channels, at, w, rows, columns, position, size, new_weights, tile, emit, coming);
  } else {
    lane_tile<1>(source, channels, at, w, rows, columns, position, size, new_weights, tile, emit, coming);
  }
}

// Tiles [from, to). new_weights: of the first, as for lane_rows.
template <typename Emit>
static void lane_planes(const LaneTiles& tiles, int64_t from, int64_t to, const LaneSource& source, int64_t channels,
                        const float* planes, const float* w, int64_t size, bool new_weights, float* tile, Emit* emit,
                        Coming& coming) {
  for (int64_t t = from; t < to; ++t) {
    lane_tile(source, channels, planes + tiles.offset(t, source), w, tiles.rows_of(t), tiles.columns_of(t),
              tiles.position(t), size, new_weights && t == from, tile, emit, coming);
  }
}

inline constexpr int64_t kLaneEmits = 1024;  // most output planes of a task

// How the output planes of some images are shared out, where each reads all of `channels` input channels. A task is a
// few images and a share of their blocks of output channels; it goes over the positions in ranges whose inputs stay in
// the second-level cache while every block of the share reads them, so that they and the weights come from further
// away only once. Where there are few images, the ranges of large maps are tasks of their own (`apart`), if the
// emitters allow. The tiles, and so the results, depend on none of this.
struct LaneShares {
  int64_t images, sets, tiles, range, together, shares;
  bool apart;
  LaneShares(int64_t tile_count, int64_t n, int64_t set_count, int64_t blocks, int64_t channels, bool any_order)
      : images(n), sets(set_count), tiles(tile_count), range(tile_count), together(1), shares(1), apart(false) {
    const int64_t room = second_level_floats() / 2, tile = max_of(1, channels * kPanelTile), even = 8 * workers();
    if (range * tile > room) {
      range = max_of(1, room / tile);
      range = ceil_div(tiles, ceil_div(tiles, range));
    } else {
      together = max_of(1, min_of(n, room / (max_of(1, range) * tile)));
      together = min_of(together, max_of(1, kLaneEmits / (blocks * 2 * kVec)));
      together = ceil_div(n, ceil_div(n, together));
    }
    apart = any_order && workers() > 1 && n * sets < even && tiles >= even;
    if (apart) range = min_of(range, ceil_div(tiles, ceil_div(even, 2)));
    shares = ceil_div(blocks * 2 * kVec * together, kLaneEmits);
    while (shares < blocks && tasks() % workers() != 0 && tasks() < even) shares *= 2;
    shares = min_of(shares, blocks);
  }
  int64_t ranges() const { return apart ? ceil_div(tiles, range) : 1; }  // of a task
  int64_t tasks() const { return ceil_div(images, together) * sets * ranges() * shares; }
};
