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

inline constexpr int64_t kLine = 16;  // floats

// Rows of memory that will be touched soon, brought into the first-level cache in portions between blocks of
// computation: the rows of a tile's planes are too short for the processor to see them coming.
class Ahead {
 public:
  // `floats` floats from `at` on, of `rows` planes at equal distances, given the first two. Null: nothing.
  void add(const float* plane, const float* next_plane, int64_t rows, int64_t at, int64_t floats) {
    if (plane == nullptr) return;
    const int64_t lines = ceil_div(floats, kLine);
    regions_[count_++] = {plane + at, next_plane - plane, lines};
    left_ += rows * lines;
  }
  void portions(int64_t count) { portion_ = ceil_div(left_, max_of(1, count)); }
  // Fetches one.
  void portion() {
    for (int64_t i = min_of(portion_, left_); i > 0; --i, --left_) {
      const Region& region = regions_[now_];
      __builtin_prefetch(region.at + row_ * region.step + line_ * kLine);
      if (++line_ < region.lines) continue;
      line_ = 0, now_ = (now_ + 1) % count_, row_ += now_ == 0 ? 1 : 0;
    }
  }

 private:
  struct Region {
    const float* at;
    int64_t step, lines;
  };
  Region regions_[2];
  int count_ = 0, now_ = 0;
  int64_t left_ = 0, portion_ = 0, row_ = 0, line_ = 0;
};

// (positions, V vectors of output channels) from a panel. new_weights: as for lane_rows.
template <int V>
static void panel_rows(const float* panel, int64_t channels, const float* w, int64_t positions, bool new_weights,
                       float* out, Ahead* ahead) {
  const PanelBlocks cut(positions);
  const int64_t none = 0;
  const LaneSource source{0, 1, kPanelStep, 1, &none};
  ahead->portions(cut.count * ceil_div(channels, kLaneChain));
  for (int64_t first = 0; first < channels; first += kLaneChain) {
    const int64_t now = min_of(kLaneChain, channels - first);
    const float* from = panel + first * kPanelStep;
    const float* weights = w + first * V * kVec;
    float* to = out;
    NextWeights next(weights, now * V * kVec, V * kVec, cut.count, new_weights);
    for (int64_t b = 0; b < cut.count; ++b, from += channels * kPanelStep, to += cut.width * V * kVec) {
      kLaneBlocks<V, 1, 1>[cut.width_of(b)](source, now, from, weights, to, 0, first > 0, & next);
      ahead->portion();
    }
  }
}

// A tile of up to 2 vectors of output planes, `size` of them. position: its first in the output planes.
template <typename Emit>
static void panel_tile(const float* panel, int64_t channels, const float* w, int64_t positions, int64_t position,
                       int64_t size, bool new_weights, float* tile, Emit* emit) {
  Ahead ahead;
  const Emit& next = emit[size > 1 ? 1 : 0];
  ahead.add(emit->writes(), next.writes(), size, position, positions);
  ahead.add(emit->reads(), next.reads(), size, position, positions);
  if (size > kVec) {
    panel_rows<2>(panel, channels, w, positions, new_weights, tile, &ahead);
    emit_lanes<2>(tile, position, positions, size, tile + kLaneTile * 2 * kVec, kLaneTile, emit);
  } else {
    panel_rows<1>(panel, channels, w, positions, new_weights, tile, &ahead);
    emit_lanes<1>(tile, position, positions, size, tile + kLaneTile * kVec, kLaneTile, emit);
  }
}
