// SPDX-License-Identifier: Apache-2.0
// Tiles of 1x1 convolutions, copied into panels. Channels of a large map lie whole pages apart, which costs the caches
// more than the copy.

inline constexpr int64_t kLaneTile = 128;  // positions

// A panel holds the positions of one lane_block side by side, kPanelStep floats from channel to channel, block after
// block: each block is one stream.
inline constexpr int64_t kPanelColumns = kLanePixels<2> < kMostColumns ? kLanePixels<2> : kMostColumns;
inline constexpr int64_t kPanelStep = (kPanelColumns + kVec - 1) / kVec * kVec;
// Floats of a panel, a channel.
inline constexpr int64_t kPanelTile = (kLaneTile + kPanelColumns - 1) / kPanelColumns * kPanelStep;

// How the positions of a tile are cut into blocks of nearly equal width.
struct PanelBlocks {
  int64_t positions, count, width;
  explicit PanelBlocks(int64_t of)
      : positions(of), count(ceil_div(of, kPanelColumns)), width(ceil_div(of, max_of(1, count))) {}
  int64_t width_of(int64_t block) const { return min_of(width, positions - block * width); }
};

// rows x columns positions of `channels` planes, at steps of 1 or 2. row: room for as many positions.
static void lane_panel(const LaneSource& source, int64_t channels, const float* at, int64_t rows, int64_t columns,
                       float* row, float* panel) {
  const PanelBlocks cut(rows * columns);
  const bool flat = rows == 1 && source.step == 1;
  for (int64_t c = 0; c < channels; ++c, at += source.channel) {
    for (int64_t r = 0; r < rows && !flat; ++r) {
      const float* from = at + r * source.pitch;
      if (source.step == 1) {
        copy_row(from, columns, row + r * columns);
      } else {
        copy_every_other(from, columns, row + r * columns);
      }
    }
    const float* from = flat ? at : row;
    float* to = panel + c * kPanelStep;
    for (int64_t b = 0; b < cut.count; ++b, from += cut.width, to += channels * kPanelStep) {
      if (b * cut.width + kPanelStep <= cut.positions) {  // whole vectors, past the block's last position too
        for (int64_t i = 0; i < kPanelStep; i += kVec) store(to + i, load(from + i));
      } else {
        copy_row(from, cut.width_of(b), to);
      }
    }
  }
}

// (positions, V vectors of output channels) from a panel. new_weights: as for lane_rows. writes, reads: where the first
// position lies in the planes that the results meet.
template <int V>
static void panel_rows(const float* panel, int64_t channels, const float* w, int64_t positions, bool new_weights,
                       const PlaneRows& writes, const PlaneRows& reads, float* out) {
  const PanelBlocks cut(positions);
  const int64_t none = 0;
  const LaneSource source{0, 1, kPanelStep, 1, &none};
  for (int64_t first = 0; first < channels; first += kLaneChain) {
    const int64_t now = min_of(kLaneChain, channels - first);
    const bool last = first + now == channels;
    const float* from = panel + first * kPanelStep;
    const float* weights = w + first * V * kVec;
    float* to = out;
    Ahead ahead(weights, now * V * kVec, V * kVec, cut.count, new_weights);
    if (last) ahead.planes[0] = writes, ahead.planes[1] = reads;
    for (int64_t b = 0; b < cut.count; ++b, from += channels * kPanelStep, to += cut.width * V * kVec) {
      kLaneBlocks<V, 1, 1>[cut.width_of(b)](source, now, from, weights, to, 0, first > 0, ahead);
      for (PlaneRows& planes : ahead.planes) {
        if (planes.rows > 0) planes.at += cut.width;
      }
    }
  }
}

// A tile of up to 2 vectors of output planes, `size` of them. position: its first in the output planes.
template <typename Emit>
static void panel_tile(const float* panel, int64_t channels, const float* w, int64_t positions, int64_t position,
                       int64_t size, bool new_weights, float* tile, Emit* emit) {
  const Emit& next = emit[size > 1 ? 1 : 0];
  auto rows = [&](const float* plane, const float* next_plane) {
    return plane == nullptr ? PlaneRows{} : PlaneRows{plane + position, next_plane - plane, size};
  };
  const PlaneRows writes = rows(emit->writes(), next.writes()), reads = rows(emit->reads(), next.reads());
  if (size > kVec) {
    panel_rows<2>(panel, channels, w, positions, new_weights, writes, reads, tile);
    emit_lanes<2>(tile, position, positions, size, tile + kLaneTile * 2 * kVec, kLaneTile, emit);
  } else {
    panel_rows<1>(panel, channels, w, positions, new_weights, writes, reads, tile);
    emit_lanes<1>(tile, position, positions, size, tile + kLaneTile * kVec, kLaneTile, emit);
  }
}
