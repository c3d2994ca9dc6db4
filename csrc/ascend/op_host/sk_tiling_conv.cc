// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "sk_tiling.h"
#include "sk_tiling_checks.h"

namespace sknet_ops::ascend {
namespace {

constexpr int64_t kMostPositions = 112;                           // of a task: 9 taps of them fill half of L0A
constexpr int64_t kMostRowElements = 16384, kMostStride = 65535;  // of one Nd2Nz copy

int64_t up_to(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
int64_t taps(const SkConvParams& p, int m) { return p.kernel[m] * p.kernel[m]; }
int64_t span(const SkConvParams& p, int m) { return p.dilation[m] * (p.kernel[m] - 1); }
int64_t group_in(const SkConvParams& p) { return p.branch_c_in() / p.groups; }
int64_t group_out(const SkConvParams& p) { return p.c_out / p.groups; }

void check_conv(const char* op, const SkConvParams& p) {
  check_positive(op, "images", p.n);
  check_branches(op, p.branches);
  check_channels(op, "input channels of a branch", p.branch_c_in());
  check_channels(op, "output channels", p.c_out);
  check_range(op, "height", p.h, 1, 32767);
  check_range(op, "width", p.w, 1, 32767);
  check_range(op, "stride", p.stride, 1, 63);
  check_int32(op, "output positions", p.n * p.h_out * p.w_out);
  for (int m = 0; m < p.branches; ++m) {
    check_range(op, "kernel", p.kernel[m], 1, 15);
    check_range(op, "dilation", p.dilation[m], 1, 255);
    // Beyond the kernel's reach the data gradient would have to drop pixels; and the unfolding load pads at most 255.
    check_range(op, "padding", p.padding[m], 0, std::min<int64_t>(span(p, m), 190));
  }
}

template <typename Data>
void set_branches(Data& t, const SkConvParams& p) {
  t.branches = p.branches;
  for (int m = 0; m < p.branches; ++m) {
    t.kernel[m] = static_cast<int32_t>(p.kernel[m]);
    t.dilation[m] = static_cast<int32_t>(p.dilation[m]);
    t.pad[m] = static_cast<int32_t>(p.padding[m]);
  }
}

// Positions of a task, all tasks but the last alike and a multiple of 16; none is left with a single one.
int64_t balanced(int64_t positions) {
  if (positions <= kMostPositions) {
    return positions;
  }
  const int64_t tiles = (positions + kMostPositions - 1) / kMostPositions;
  int64_t tile = up_to((positions + tiles - 1) / tiles, 16);
  while (positions % tile == 1) {
    tile -= 16;
  }
  return tile;
}

// Rows of the map that `positions` outputs need, at most.
int64_t map_rows(int64_t positions, int64_t w_out, int64_t h_out, int64_t stride, int64_t reach, int64_t height) {
  const int64_t rows = std::min((positions - 1 + w_out - 1) / w_out + 1, h_out);
  return std::min((rows - 1) * stride + reach + 1, height);
}

struct Shape {
  bool accumulate;
  int64_t up, in_h, in_w, out_h, out_w, stride, pad[kMaxBranches];
};

// Everything but where tensors lie. `p` is the convolution as the weights see it.
Launch<ConvTiling> conv(const char* op, const Platform& chip, const SkConvParams& p, const Shape& s, bool shared,
                        Dtype type) {
  const WeightBlocks blocks = weight_blocks(op, p);
  const int64_t size = size_of(type);
  ConvTiling t{};
  set_branches(t, p);
  t.n = static_cast<int32_t>(p.n);
  t.shared_input = shared;
  t.accumulate = s.accumulate;
  t.in_h = static_cast<int32_t>(s.in_h), t.in_w = static_cast<int32_t>(s.in_w);
  t.out_h = static_cast<int32_t>(s.out_h), t.out_w = static_cast<int32_t>(s.out_w);
  t.up = static_cast<int32_t>(s.up);
  t.stride = static_cast<int32_t>(s.stride);
  int64_t most_taps = 0, before = 0, after = 0, packed = 0;
  for (int m = 0; m < p.branches; ++m) {
    t.pad[m] = static_cast<int32_t>(s.pad[m]);
    t.w_branch[m] = packed;
    packed += packed_size(p, m, blocks);
    most_taps = std::max(most_taps, taps(p, m));
    before = std::max(before, s.pad[m]);
    after = std::max(after, span(p, m) - s.pad[m]);
  }
  t.kin = static_cast<int32_t>(blocks.kin), t.nout = static_cast<int32_t>(blocks.nout);
  t.blocks = static_cast<int32_t>(p.groups / blocks.groups);
  t.n_tile = static_cast<int32_t>(std::gcd(blocks.nout, int64_t{64}));
  t.n_tiles = t.nout / t.n_tile;
  const int64_t positions = s.out_h * s.out_w;
  t.m_tile = static_cast<int32_t>(balanced(positions));
  t.m_tiles = static_cast<int32_t>((positions + t.m_tile - 1) / t.m_tile);
  t.taps_step = static_cast<int32_t>(std::min(most_taps, chip.l0a / 2 / (kMostPositions * 32)));
  t.l0a = static_cast<int32_t>(up_to(std::max(t.m_tile, 2), 16) * t.taps_step * 32);
  t.l0b = t.n_tile * t.taps_step * 32;
  t.l0c = static_cast<int32_t>((s.accumulate ? 1 : p.branches) * up_to(std::max(t.m_tile, 2), 16) * t.n_tile * 4);
  t.l0c_buffers = 2 * t.l0c <= chip.l0c ? 2 : 1;

  const int64_t height = (s.in_h - 1) * s.up + 1, width = (s.in_w - 1) * s.up + 1;
  const int64_t rows = map_rows(t.m_tile, s.out_w, s.out_h, s.stride, before + after, height);
  check_range(op, "elements of the rows of a tile", rows * width, 1, kMostRowElements);
  check_range(op, "weights of an output channel", most_taps * t.kin, 1, kMostStride);
  for (int64_t chunk = std::gcd(blocks.kin, int64_t{64});; chunk /= 2) {
    const int64_t l1_x = rows * width * chunk * size, l1_w = most_taps * t.n_tile * chunk * size;
    if (2 * (l1_x + l1_w) <= chip.l1) {
      t.k_chunk = static_cast<int32_t>(chunk);
      t.k_chunks = t.kin / t.k_chunk;
      t.l1_x = static_cast<int32_t>(l1_x), t.l1_w = static_cast<int32_t>(l1_w);
      break;
    }
    if (chunk % 32 != 0) {
      refuse(op, "x", "rows of " + std::to_string(width) + " pixels",
             "rows of which " + std::to_string(rows) + ", with 16 channels, fit in half of L1");
    }
  }
  const int64_t tasks = int64_t{t.n} * t.m_tiles * t.blocks * t.n_tiles;
  check_int32(op, "tasks", tasks);
  return {t, static_cast<int32_t>(std::min<int64_t>(tasks, chip.cube_cores))};
}

}  // namespace

WeightBlocks weight_blocks(const char* op, const SkConvParams& p) {
  check_conv(op, p);
  // Both counts are multiples of 16, so whole blocks of groups exist.
  const int64_t in = 16 / std::gcd(group_in(p), int64_t{16}), out = 16 / std::gcd(group_out(p), int64_t{16});
  const int64_t groups = std::max(in, out);
  return {groups, groups * group_in(p), groups * group_out(p)};
}

int64_t packed_size(const SkConvParams& p, int branch, const WeightBlocks& blocks) {
  return p.c_out * taps(p, branch) * blocks.kin;
}

SkConvParams transposed(const SkConvParams& p) {
  SkConvParams q = p;
  q.split_input = false;
  q.c_in = p.c_out;
  q.c_out = p.branch_c_in();
  return q;
}

Launch<ConvTiling> tile_conv(const Platform& chip, const SkConvParams& p, Dtype type) {
  Shape s{false, 1, p.h, p.w, p.h_out, p.w_out, p.stride, {}};
  std::copy(p.padding, p.padding + p.branches, s.pad);
  auto launch = conv("sk_conv", chip, p, s, !p.split_input, type);
  ConvTiling& t = launch.data;
  t.x_pixel = static_cast<int32_t>(p.c_in);
  t.x_image = p.h * p.w * p.c_in;
  t.x_branch = p.split_input ? p.branch_c_in() : 0;
  t.y_pixel = static_cast<int32_t>(p.c_out);
  t.y_branch = p.h_out * p.w_out * p.c_out;
  t.y_image = p.branches * t.y_branch;
  return launch;
}

Launch<ConvTiling> tile_conv_data_grad(const Platform& chip, const SkConvParams& p, Dtype type) {
  check_conv("sk_conv_grad", p);
  Shape s{!p.split_input, p.stride, p.h_out, p.w_out, p.h, p.w, 1, {}};
  for (int m = 0; m < p.branches; ++m) {
    s.pad[m] = span(p, m) - p.padding[m];
  }
  auto launch = conv("sk_conv_grad", chip, transposed(p), s, false, type);
  ConvTiling& t = launch.data;
  t.x_pixel = static_cast<int32_t>(p.c_out);
  t.x_branch = p.h_out * p.w_out * p.c_out;
  t.x_image = p.branches * t.x_branch;
  t.y_pixel = static_cast<int32_t>(p.c_in);
  t.y_image = p.h * p.w * p.c_in;
  t.y_branch = p.split_input ? p.branch_c_in() : 0;
  return launch;
}

namespace {

Launch<WeightTiling> weights(const char* op, const SkConvParams& p) {
  const WeightBlocks blocks = weight_blocks(op, p);
  WeightTiling t{};
  t.branches = p.branches;
  t.groups = static_cast<int32_t>(p.groups);
  t.cin = static_cast<int32_t>(group_in(p)), t.cout = static_cast<int32_t>(group_out(p));
  t.kin = static_cast<int32_t>(blocks.kin);
  int64_t weight = 0, packed = 0;
  for (int m = 0; m < p.branches; ++m) {
    t.taps[m] = static_cast<int32_t>(taps(p, m));
    t.w_branch[m] = weight;
    t.p_branch[m] = packed;
    t.p_split[m] = packed_size(p, m, blocks);
    weight += p.c_out * taps(p, m) * group_in(p);
    packed += packed_size(p, m, blocks);
  }
  return {t, 1};
}

}  // namespace

Launch<WeightTiling> tile_pack_weight(const Platform& chip, const SkConvParams& p, Dtype type) {
  auto launch = weights("sk_pack_weight", p);
  WeightTiling& t = launch.data;
  const int64_t row = up_to(t.cin * size_of(type), 32) + t.kin * size_of(type);
  t.rows = static_cast<int32_t>(std::min<int64_t>(chip.ub / 2 / row, 1024));
  t.rows = std::min(t.rows, t.cout * *std::max_element(t.taps, t.taps + t.branches));
  launch.blocks = static_cast<int32_t>(std::min<int64_t>(int64_t{t.branches} * t.groups, chip.vector_cores));
  return launch;
}

int32_t weight_grad_splits(const Platform& chip, const SkConvParams& p, Dtype type) {
  return tile_conv_weight_grad(chip, p, type).data.splits;
}

Launch<WeightGradTiling> tile_conv_weight_grad(const Platform& chip, const SkConvParams& p, Dtype type) {
  const char* op = "sk_conv_weight_grad";
  const WeightBlocks blocks = weight_blocks(op, p);
  const int64_t size = size_of(type), positions = p.h_out * p.w_out;
  WeightGradTiling t{};
  set_branches(t, p);
  t.n = static_cast<int32_t>(p.n);
  t.shared_input = !p.split_input;
  t.in_h = static_cast<int32_t>(p.h), t.in_w = static_cast<int32_t>(p.w);
  t.out_h = static_cast<int32_t>(p.h_out), t.out_w = static_cast<int32_t>(p.w_out);
  t.stride = static_cast<int32_t>(p.stride);
  t.x_pixel = static_cast<int32_t>(p.c_in);
  t.x_image = p.h * p.w * p.c_in;
  t.x_branch = p.split_input ? p.branch_c_in() : 0;
  t.z_pixel = static_cast<int32_t>(p.c_out);
  t.z_branch = positions * p.c_out;
  t.z_image = p.branches * t.z_branch;
  t.blocks = static_cast<int32_t>(p.groups / blocks.groups);
  t.kin = static_cast<int32_t>(blocks.kin), t.nout = static_cast<int32_t>(blocks.nout);
  int64_t tasks = 0, least_units = p.n * positions;
  for (int m = 0; m < p.branches; ++m) {
    const int64_t columns = taps(p, m) * 16;
    const int64_t tile = std::min({chip.l0b / 2 / (columns * size) / 16 * 16, kMostPositions, up_to(positions, 16)});
    if (tile < 16) {
      refuse(op, "kernel", std::to_string(p.kernel[m]),
             "a kernel of which 16 positions, unfolded, fit in half of L0B (5 in float32, 7 in float16)");
    }
    int64_t rows = std::gcd(blocks.nout, int64_t{64});
    while (rows * columns * 4 > chip.l0c) {
      rows /= 2;
    }
    t.m_tile[m] = static_cast<int32_t>(rows);
    t.k_tile[m] = static_cast<int32_t>(tile);
    t.k_tiles[m] = static_cast<int32_t>((positions + tile - 1) / tile);
    least_units = std::min(least_units, p.n * t.k_tiles[m]);
    tasks += t.blocks * (t.nout / rows) * (t.kin / 16);
    const int64_t pixels = map_rows(tile, p.w_out, p.h_out, p.stride, span(p, m), p.h) * p.w;
    check_range(op, "elements of the rows of a tile", pixels, 1, kMostRowElements);
    t.l1_x = std::max(t.l1_x, static_cast<int32_t>(pixels * 16 * size));
    t.l1_z = std::max(t.l1_z, static_cast<int32_t>(tile * rows * size));
    t.l0a = std::max(t.l0a, static_cast<int32_t>(tile * rows * size));
    t.l0b = std::max(t.l0b, static_cast<int32_t>(tile * columns * size));
    t.l0c = std::max(t.l0c, static_cast<int32_t>(rows * columns * 4));
  }
  if (2 * (int64_t{t.l1_x} + t.l1_z) > chip.l1) {
    refuse(op, "x", "rows of " + std::to_string(p.w) + " pixels", "rows that fit in half of L1");
  }
  const int64_t wanted = (chip.cube_cores + tasks - 1) / tasks;
  t.splits = static_cast<int32_t>(std::max<int64_t>(1, std::min(wanted, least_units)));
  int64_t packed = 0;
  for (int m = 0; m < p.branches; ++m) {
    t.p_branch[m] = packed;
    t.p_split[m] = packed_size(p, m, blocks);
    packed += t.splits * t.p_split[m];
  }
  check_int32(op, "tasks", tasks * t.splits);
  return {t, static_cast<int32_t>(std::min<int64_t>(tasks * t.splits, chip.cube_cores))};
}

Launch<WeightTiling> tile_unpack_weight_grad(const Platform& chip, const SkConvParams& p, Dtype type) {
  auto launch = weights("sk_unpack_weight_grad", p);
  WeightTiling& t = launch.data;
  const auto grad = tile_conv_weight_grad(chip, p, type).data;
  t.splits = grad.splits;
  std::copy(grad.p_branch, grad.p_branch + p.branches, t.p_branch);
  t.run = static_cast<int32_t>(std::gcd<int64_t>(t.cin, 32 / size_of(type)));
  const int64_t most_taps = *std::max_element(t.taps, t.taps + t.branches);
  const int64_t row = up_to(t.run, 8) * 4;  // floats, whole blocks of 32 bytes
  t.rows = static_cast<int32_t>(std::min(most_taps * (t.cin / t.run), chip.ub / 8 / row));
  launch.blocks = static_cast<int32_t>(std::min<int64_t>(int64_t{t.branches} * p.c_out, chip.vector_cores));
  return launch;
}

}  // namespace sknet_ops::ascend
