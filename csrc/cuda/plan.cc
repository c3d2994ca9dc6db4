// SPDX-License-Identifier: Apache-2.0
#include "cuda/plan.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>

#include "cuda/kernel/shape.h"
#include "cuda/preferred_layout.h"

namespace sknet_ops::cuda {
namespace {

// The search weighs work against idle threads and halos, in units of one multiply-add. The weights are estimates from
// instruction counts and have not been tuned on a device.
constexpr double kTensorSpeed = 6.0;                // of a matrix instruction's multiply-add over a scalar one
constexpr double kLoadX = 10.0, kLoadZGrad = 20.0;  // one value into shared memory
constexpr int kMaxTileWidth = 64;
constexpr double kNothingFits = std::numeric_limits<double>::infinity();
// Blocks on a multiprocessor that the kernel's __launch_bounds__ leave registers for.
constexpr int conv_resident(Kind kind) { return kind == Kind::kTensor ? 2 : 3; }
// Shared memory that the system takes for itself beside that of each block.
constexpr int64_t system_bytes(const Device& device) { return device.capability >= 80 ? 1 << 10 : 0; }

int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }
int round_up(int a, int to) { return ceil_div(a, to) * to; }

int lanes_for(int columns) {
  int lanes = 4;
  while (lanes < columns && lanes < 32) lanes *= 2;
  return lanes;
}

struct Extent {  // how far the taps of all branches reach
  int least, most;
};

template <class Args>
Extent forward_extent(const Args& a) {
  Extent e{0, 0};
  for (int m = 0; m < a.branches; ++m) {
    e.least = std::max(e.least, a.padding[m]);
    e.most = std::max(e.most, (a.kernel[m] - 1) * a.dilation[m] - a.padding[m]);
  }
  return e;
}

int floor_div(int a, int b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

Extent grad_extent(const ConvArgs& a) {
  Extent e{std::numeric_limits<int>::max(), std::numeric_limits<int>::min()};
  for (int m = 0; m < a.branches; ++m) {
    e.least = std::min(e.least, floor_div(a.padding[m] - (a.kernel[m] - 1) * a.dilation[m], a.stride));
    e.most = std::max(e.most, floor_div(a.stride - 1 + a.padding[m], a.stride));
  }
  return e;
}

template <class Args>
int taps(const Args& a) {
  int sum = 0;
  for (int m = 0; m < a.branches; ++m) sum += a.kernel[m] * a.kernel[m];
  return sum;
}

void check_map(const Context& ctx, int64_t h, int64_t w, int64_t reach) {
  // Positions, and those that taps reach outside the map, are 32-bit.
  if ((h + reach) * (w + reach) >= std::numeric_limits<int>::max()) {
    throw std::invalid_argument(std::string(ctx.op) + ": map: got " + std::to_string(h) + " x " + std::to_string(w) +
                                ", expected fewer than 2^31 positions with padding");
  }
}

// Sizes of a block's output tile: parts of a group, or several whole groups.
template <class Try>
void for_each_out_tile(int channels, int co_group, int unit, int most, Try attempt) {
  for (int tile = unit; tile <= std::min(channels, most); tile += unit) {
    const bool part = co_group % tile == 0, whole = tile % co_group == 0 && channels % tile == 0;
    if (part || whole) attempt(tile);
  }
}

// Heights that cut h into equal parts.
template <class Try>
void for_each_height(int h, int multiple, Try attempt) {
  int last = 0;
  for (int parts = 1; parts <= h; ++parts) {
    const int th = round_up(ceil_div(h, parts), multiple);
    if (th != last) attempt(th);
    last = th;
  }
}

// Widths from the widest down, as long as nothing fits: a row of a map is read best as a whole.
template <class Try>
void for_each_width(int widest, int multiple, Try fits) {
  for (int tw = widest; !fits(tw) && tw > multiple;) tw = round_up(ceil_div(tw, 2), multiple);
}

// How many blocks are on a multiprocessor at once, at most `most`. A multiprocessor has what one block can ask for, and
// what the system takes beside that.
int64_t resident(const Context& ctx, int most, int64_t bytes) {
  const int64_t beside = system_bytes(ctx.device);
  return std::min<int64_t>(most, (ctx.device.shared_bytes + beside) / std::max<int64_t>(bytes + beside, 1));
}

// With fewer warps on a multiprocessor less of the waiting is hidden.
double occupancy_cost(int64_t blocks) { return blocks >= 3 ? 1.0 : blocks == 2 ? 1.1 : 1.8; }

double parallel_cost(const Context& ctx, int64_t blocks) {
  const double wanted = 2.0 * ctx.device.multiprocessors;
  return static_cast<double>(blocks) >= wanted ? 1.0 : wanted / static_cast<double>(std::max<int64_t>(blocks, 1));
}

int64_t wanted_blocks(const Context& ctx, int64_t resident) {
  return std::max<int64_t>(resident, 1) * ctx.device.multiprocessors;
}

bool tensor_cores(const Context& ctx) {
  return ctx.device.code >= 80 && (ctx.storage != Storage::kFloat32 || ctx.tf32);
}

// Channels last: a tile takes so many neighbouring bytes at each position, and memory gives 32 at a time.
double sector_cost(const Context& ctx, bool channels_last, int channels) {
  if (!channels_last) return 1.0;
  return std::max(1.0, 32.0 / static_cast<double>(channels * storage_bytes(ctx.storage)));
}

// Words of one channel's plane in shared memory. Channels last: the threads of a warp, four channels and one position
// each, put them into planes; so far apart, their words lie in banks of their own.
int spread_plane(bool channels_last, int words, int channels) {
  int across = 1;  // threads on one position
  while (across < 8 && across * 8 <= channels) across *= 2;
  if (!channels_last || across == 1) return words;
  const int unit = 8 / across;
  return words + (3 * unit - words % (2 * unit)) % (2 * unit);
}

struct KindShape {
  int tile_out, tile_pixels;
};

KindShape kind_shape(Kind kind) {
  switch (kind) {
    case Kind::kTensor: return {kTensorOut, kTensorPixels};
    case Kind::kSimt8: return {8, kSimt8Positions * 32};
    case Kind::kSimt4: return {4, kSimt4Positions * 32};
    default: return {1, kDirectPositions * 32};
  }
}

// Moments of every warp, channel and branch; or sums over positions, and the normalisation of at most 8 warps'
// channels.
int64_t sum_words(const ConvArgs& a, Kind kind, bool grad) {
  return grad ? 0 : int64_t{8} * kind_shape(kind).tile_out * (3 * a.branches + 1);
}

// The gradient's source are the branches.
bool source_last(const Context& ctx, bool grad) { return grad ? ctx.inside_last : ctx.channels_last; }

// Words of shared memory; false if the numbers do not fit at all.
bool conv_memory(const Context& ctx, const ConvArgs& a, Kind kind, bool grad, ConvTiling& t) {
  const int size = static_cast<int>(storage_bytes(ctx.storage));
  const int64_t plane = static_cast<int64_t>(t.src_h) * t.src_w;
  if (plane * t.src_tile > ctx.device.shared_bytes) return false;
  int64_t weights, source, of_source;
  if (kind == Kind::kTensor) {
    const int position = t.src_tile * size / 4 + kTensorPositionPad;
    weights = static_cast<int64_t>(taps(a)) * t.out_tile * (a.ci_group * size / 4 + kTensorWeightPad);
    of_source = plane * position;
    t.src_plane = static_cast<int>(of_source);
  } else {
    weights = static_cast<int64_t>(taps(a)) * t.out_tile * a.ci_group;
    t.src_plane = spread_plane(source_last(ctx, grad), static_cast<int>(plane), t.src_tile);
    of_source = static_cast<int64_t>(t.src_plane) * t.src_tile;
  }
  source = of_source * a.sources;
  const int64_t sums = sum_words(a, kind, grad);
  weights = (weights + 3) / 4 * 4, source = (source + 3) / 4 * 4;
  if ((weights + source + sums) * 4 > ctx.device.shared_bytes) return false;
  t.weight_words = static_cast<int>(weights);
  t.source_words = static_cast<int>(source);
  return true;
}

int64_t conv_bytes(const ConvArgs& a, Kind kind, bool grad, const ConvTiling& t) {
  return 4 * (static_cast<int64_t>(t.weight_words) + t.source_words + sum_words(a, kind, grad));
}

// Images and tiles over the blocks, about as many as fit on the device at once.
Plan finish_conv(const Context& ctx, ConvArgs& a, Kind kind, bool grad) {
  ConvTiling& t = a.t;
  const int64_t bytes = conv_bytes(a, kind, grad, t);
  const int64_t across = static_cast<int64_t>(t.parts) * t.out_tiles,
                wanted = wanted_blocks(ctx, resident(ctx, conv_resident(kind), bytes));
  const int tiles = t.tiles_h * t.tiles_w;
  t.splits = static_cast<int>(std::clamp<int64_t>((wanted + across * a.n - 1) / (across * a.n), 1, tiles));
  const int64_t slots = std::clamp<int64_t>(wanted / (across * t.splits), 1, a.n);
  const int64_t images = (a.n + slots - 1) / slots;  // of a slot; slots without images go
  t.image_slots = static_cast<int>((a.n + images - 1) / images);
  const int64_t blocks = across * t.image_slots * t.splits;
  if (blocks > std::numeric_limits<int>::max()) {
    throw std::invalid_argument(std::string(ctx.op) + ": more than 2^31 blocks");
  }
  return {kind, blocks, bytes};
}

}  // namespace

Plan plan_conv(const Context& ctx, ConvArgs& a, bool grad) {
  const int step = grad ? a.stride : 1, size = static_cast<int>(storage_bytes(ctx.storage));
  const Extent reach = grad ? grad_extent(a) : forward_extent(a);
  for (int m = 0; m < a.branches; ++m) {
    const int64_t span = static_cast<int64_t>(a.kernel[m] - 1) * a.dilation[m] + 2 * static_cast<int64_t>(a.padding[m]);
    check_map(ctx, a.h, a.w, span);
    check_map(ctx, a.src_map_h, a.src_map_w, span);
  }
  Kind kinds[3];
  int count = 0;
  if (tensor_cores(ctx) && a.co_group % kTensorOut == 0 && a.ci_group * size % 32 == 0) kinds[count++] = Kind::kTensor;
  if (a.co_group % 8 == 0) kinds[count++] = Kind::kSimt8;
  if (a.co_group % 4 == 0) kinds[count++] = Kind::kSimt4;

  ConvTiling t{};
  t.parts = a.t.parts;
  const int widest = std::max(std::min(round_up(a.w, step), kMaxTileWidth / step * step), step);
  const int used = t.parts > 1 ? 1 : a.branches;  // branches that a block works on
  for (int k = 0; k < count; ++k) {
    const KindShape shape = kind_shape(kinds[k]);
    double best = kNothingFits;
    auto search = [&](int tile) {
      t.out_tile = tile;
      t.out_tiles = a.out_channels / tile;
      t.src_tile = std::max(tile / a.co_group, 1) * a.ci_group;
      for_each_height(a.h, step, [&](int th) {
        t.th = th;
        t.tiles_h = ceil_div(a.h, th);
        t.origin = reach.least;
        t.src_h = grad ? th / step + reach.most - reach.least : (th - 1) * a.stride + 1 + reach.least + reach.most;
        t.src_w = grad ? t.tw / step + reach.most - reach.least : (t.tw - 1) * a.stride + 1 + reach.least + reach.most;
        if (!conv_memory(ctx, a, kinds[k], grad, t)) return;
        const int sub = (th / step) * (t.tw / step), classes = step * step;
        const int items = ceil_div(sub, shape.tile_pixels) * (grad ? classes : a.branches);
        const int across = tile / shape.tile_out;
        const double rounds = ceil_div(items, 8 / across);
        // Of one item: a branch, or all of them at the taps that one class of positions meets.
        const double work = static_cast<double>(taps(a)) / a.branches * (grad ? used : 1) / classes * a.ci_group;
        const double speed = kinds[k] == Kind::kTensor ? kTensorSpeed : 1.0;
        const double compute = rounds * 8 * shape.tile_pixels * shape.tile_out * work / speed;
        const double load = static_cast<double>(a.sources) * t.src_tile * t.src_h * t.src_w *
                            (grad ? kLoadZGrad : kLoadX) * sector_cost(ctx, source_last(ctx, grad), t.src_tile);
        const int64_t units = static_cast<int64_t>(t.out_tiles) * t.parts * a.n * t.tiles_h * t.tiles_w;
        const int64_t blocks = resident(ctx, conv_resident(kinds[k]), conv_bytes(a, kinds[k], grad, t));
        const double cost =
            (compute + load) * t.tiles_h * t.tiles_w / tile * occupancy_cost(blocks) * parallel_cost(ctx, units);
        if (cost < best) {
          best = cost;
          a.t = t;
        }
      });
    };
    for_each_width(widest, step, [&](int tw) {
      t.tw = tw;
      t.tiles_w = ceil_div(a.w, tw);
      for_each_out_tile(a.out_channels, a.co_group, shape.tile_out, 8 * shape.tile_out, search);
      return best < kNothingFits;
    });
    if (best < kNothingFits) {
      a.t.lanes = lanes_for(a.t.src_w);
      return finish_conv(ctx, a, kinds[k], grad);
    }
  }
  // Nothing in shared memory but the sums.
  t.tw = widest;
  t.tiles_w = ceil_div(a.w, widest);
  t.th = std::min(round_up(std::max(512 / t.tw, 1), step), round_up(a.h, step));
  t.tiles_h = ceil_div(a.h, t.th);
  t.out_tile = 8;
  t.out_tiles = ceil_div(a.out_channels, t.out_tile);
  t.lanes = 32;
  t.weight_words = t.source_words = 0;
  a.t = t;
  return finish_conv(ctx, a, Kind::kDirect, grad);
}

Plan plan_wgrad(const Context& ctx, WgradArgs& a) {
  const int size = static_cast<int>(storage_bytes(ctx.storage));
  const Extent reach = forward_extent(a);
  for (int m = 0; m < a.branches; ++m) {
    check_map(ctx, a.h, a.w,
              static_cast<int64_t>(a.kernel[m] - 1) * a.dilation[m] + 2 * static_cast<int64_t>(a.padding[m]));
  }
  struct Candidate {
    Kind kind;
    int out, in;
  } kinds[3];
  int count = 0;
  if (tensor_cores(ctx) && a.co_group % 16 == 0 && a.ci_group % 16 == 0) kinds[count++] = {Kind::kTensor, 16, 16};
  if (a.co_group % 8 == 0 && a.ci_group % 4 == 0) kinds[count++] = {Kind::kSimt8, 8, 4};
  if (a.co_group % 4 == 0 && a.ci_group % 4 == 0) kinds[count++] = {Kind::kSimt4, 4, 4};

  WgradTiling t{};
  t.origin = reach.least;
  for (int k = 0; k < count; ++k) {
    const bool tensor = kinds[k].kind == Kind::kTensor;
    double best = kNothingFits;
    int64_t best_bytes = 0, best_resident = 0;
    auto search = [&](int tile) {
      t.out_tile = tile;
      t.out_tiles = a.out_channels / tile;
      t.src_tile = std::max(tile / a.co_group, 1) * a.ci_group;
      for_each_height(a.h_out, 1, [&](int th) {
        t.th = th;
        t.tiles_h = ceil_div(a.h_out, th);
        t.src_h = (th - 1) * a.stride + 1 + reach.least + reach.most;
        t.src_w = (t.tw - 1) * a.stride + 1 + reach.least + reach.most;
        if (static_cast<int64_t>(t.src_h) * t.src_w > ctx.device.shared_bytes ||
            static_cast<int64_t>(th) * t.tw > ctx.device.shared_bytes) {
          return;
        }
        t.pixels = round_up(th * t.tw, tensor ? 16 : 32);
        // Of one source or branch. Tensor cores: rows of all channels; else planes.
        int64_t source, dz;
        if (tensor) {
          source = static_cast<int64_t>(t.src_tile * size / 4 + kTensorJobPad) * t.src_h * t.src_w;
          dz = static_cast<int64_t>(t.out_tile * size / 4 + kTensorJobPad) * t.pixels;
          t.src_plane = static_cast<int>(source), t.dz_plane = static_cast<int>(dz);
        } else {
          t.src_plane = spread_plane(ctx.channels_last, t.src_h * t.src_w, t.src_tile);
          t.dz_plane = spread_plane(ctx.inside_last, t.pixels, t.out_tile);
          source = static_cast<int64_t>(t.src_plane) * t.src_tile, dz = static_cast<int64_t>(t.dz_plane) * t.out_tile;
        }
        source *= a.sources, dz *= a.branches;
        const int64_t sums = static_cast<int64_t>(taps(a)) * tile * a.ci_group;
        const int64_t bytes = 4 * ((source + 3) / 4 * 4 + dz + t.pixels + sums);
        if (bytes > ctx.device.shared_bytes) return;
        t.source_words = static_cast<int>((source + 3) / 4 * 4);
        t.dz_words = static_cast<int>(dz);
        t.table_words = t.pixels;
        const double jobs = static_cast<double>(taps(a)) * (tile / kinds[k].out) * (a.ci_group / kinds[k].in);
        const double rounds = static_cast<double>(ceil_div(static_cast<int64_t>(jobs), 8));
        const double compute =
            rounds * 8 * kinds[k].out * kinds[k].in * (t.pixels + 32) / (tensor ? kTensorSpeed : 1.0);
        const double load =
            static_cast<double>(a.sources) * t.src_tile * t.src_h * t.src_w * kLoadX *
                sector_cost(ctx, ctx.channels_last, t.src_tile) +
            static_cast<double>(a.branches) * tile * th * t.tw * kLoadZGrad * sector_cost(ctx, ctx.inside_last, tile);
        const int64_t units = static_cast<int64_t>(t.out_tiles) * a.n * t.tiles_h * t.tiles_w;
        const int64_t blocks = resident(ctx, wgrad_resident(kinds[k].out, ctx.inside_last), bytes);
        const double cost =
            (compute + load) * t.tiles_h * t.tiles_w / tile * occupancy_cost(blocks) * parallel_cost(ctx, units);
        if (cost < best) {
          best = cost;
          best_bytes = bytes;
          best_resident = blocks;
          a.t = t;
        }
      });
    };
    for_each_width(std::min(a.w_out, kMaxTileWidth), 1, [&](int tw) {
      t.tw = tw;
      t.tiles_w = ceil_div(a.w_out, tw);
      for_each_out_tile(a.out_channels, a.co_group, kinds[k].out, 64, search);
      return best < kNothingFits;
    });
    if (best < kNothingFits) {
      a.t.lanes = lanes_for(a.t.src_w);
      const int64_t units = a.n * a.t.tiles_h * a.t.tiles_w;
      a.t.slots = static_cast<int>(std::clamp<int64_t>(wanted_blocks(ctx, best_resident) / a.t.out_tiles, 1, units));
      return {kinds[k].kind, static_cast<int64_t>(a.t.out_tiles) * a.t.slots, best_bytes};
    }
  }
  a.t = {};
  const int64_t blocks = (a.weights + 7) / 8;
  a.t.slots = static_cast<int>(std::clamp<int64_t>(wanted_blocks(ctx, kWgradDirectResident) / blocks, 1, a.n));
  if (blocks * a.t.slots > std::numeric_limits<int>::max()) {
    throw std::invalid_argument(std::string(ctx.op) + ": more than 2^31 blocks");
  }
  return {Kind::kDirect, blocks * a.t.slots, 0};
}

namespace {

const PreferredLayout& preferred_layout(Storage storage, bool tf32, int channels_a_group) {
  const std::string precision = storage == Storage::kFloat16    ? "float16"
                                : storage == Storage::kBfloat16 ? "bfloat16"
                                : tf32                          ? "tf32"
                                                                : "float32";
  static constexpr PreferredLayout kUnknown{"", 0, false, false};
  const PreferredLayout* best = &kUnknown;
  for (const PreferredLayout& row : kPreferredLayouts) {
    if (precision != row.precision || row.channels > channels_a_group || row.channels < best->channels) continue;
    best = &row;
  }
  return *best;
}

}  // namespace

bool prefers_channels_last(Storage storage, bool tf32, int channels_a_group) {
  return preferred_layout(storage, tf32, channels_a_group).channels_last;
}

bool turns_inside(Storage storage, bool tf32, int channels_a_group) {
  if (const char* asked = std::getenv("SKNET_OPS_CUDA_INSIDE"); asked != nullptr && *asked != '\0') {
    if (std::string(asked) == "nchw") return false;
    if (std::string(asked) == "nhwc") return true;
    throw std::invalid_argument(std::string("SKNET_OPS_CUDA_INSIDE: got ") + asked + ", expected nchw or nhwc");
  }
  return preferred_layout(storage, tf32, channels_a_group).inside_last;
}

}  // namespace sknet_ops::cuda
