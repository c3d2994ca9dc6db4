// SPDX-License-Identifier: Apache-2.0
// What the host tells a kernel about one launch. Plain structs: host, device and emulator read the same bytes.
#pragma once

#include <cstdint>

namespace sknet_ops::ascend {

// Kernels of the vector cores that walk rows of channels: maps are (n, branches, positions, channels).
// A task is a block of `width` channels and a share of the rows; a tile is at most `rows` rows of it.
struct RowsTiling {
  int32_t n, branches, positions, channels;
  int32_t width;     // divides channels; 16, 32 or 64
  int32_t rows;      // of a tile, at most 255
  int32_t splits;    // tasks that share a channel block: of a branch (statistics), of an image (the others)
  int32_t partials;  // how many such shares the partial sums among the inputs have
  int32_t training, relu;
  int32_t with_attention, with_pooled;  // what the gradient of the branches consists of
  int32_t reduced;                      // hidden units of the attention
  float eps, momentum;
};

// Kernels of the attention's dense layers.
struct AttentionTiling {
  int32_t n, branches, channels, reduced;
  int32_t units;         // hidden units of a block (the reducing side)
  int32_t width;         // channels of a task (the selecting side)
  int32_t image_tasks;   // shares of the images (the selecting side)
  int32_t reduced_step;  // hidden units that are loaded at a time (the selecting side)
  int32_t partials;      // shares of the pooled sums, or of the attention's gradient
  int32_t positions;
  int32_t training;
  float eps, momentum;
};

inline constexpr int kTilingBranches = 4;

// Convolutions of the cube cores. Channels come in `blocks` of whole groups: kin inputs and nout outputs each, both
// multiples of 16; weights are packed to (c_out, taps, kin), zero outside a group.
struct ConvTiling {
  int32_t n, branches;
  int32_t shared_input;    // every branch reads the same channels
  int32_t accumulate;      // branches add up to one output: the data gradient
  int32_t in_h, in_w, up;  // the input's size, and how far apart its pixels lie in the map that is convolved
  int32_t out_h, out_w, stride;
  int32_t kernel[kTilingBranches], dilation[kTilingBranches], pad[kTilingBranches];
  int32_t x_pixel, y_pixel;  // elements from one pixel to the next
  int64_t x_image, x_branch, y_image, y_branch;
  int64_t w_branch[kTilingBranches];  // where a branch's packed weights start
  int32_t blocks, kin, nout;
  int32_t n_tile, n_tiles;                         // output channels of a task
  int32_t k_chunk, k_chunks;                       // input channels in L1 at a time
  int32_t m_tile, m_tiles;                         // output positions of a task
  int32_t taps_step;                               // taps in L0 at a time
  int32_t l1_x, l1_w, l0a, l0b, l0c, l0c_buffers;  // bytes of a buffer
};

// Gradient of the weights, on the cube cores: partial sums (splits, c_out, kin / 16, taps * 16) of each branch.
struct WeightGradTiling {
  int32_t n, branches, shared_input;
  int32_t in_h, in_w, out_h, out_w, stride;
  int32_t kernel[kTilingBranches], dilation[kTilingBranches], pad[kTilingBranches];
  int32_t x_pixel, z_pixel;
  int64_t x_image, x_branch, z_image, z_branch;
  int64_t p_branch[kTilingBranches];  // where a branch's partial sums start
  int64_t p_split[kTilingBranches];   // elements from one split to the next
  int32_t blocks, kin, nout;
  int32_t m_tile[kTilingBranches];  // output channels of a task
  int32_t k_tile[kTilingBranches];  // output positions in L0 at a time
  int32_t k_tiles[kTilingBranches];
  int32_t splits;  // shares of (images x position tiles)
  int32_t l1_x, l1_z, l0a, l0b, l0c;
};

// Weights to and from their packed form, on the vector cores.
struct WeightTiling {
  int32_t branches, groups, cin, cout;  // channels of a group
  int32_t taps[kTilingBranches];
  int32_t kin;
  int64_t w_branch[kTilingBranches];  // where a branch starts, in (c_out, taps, cin)
  int64_t p_branch[kTilingBranches];  // and in the packed form
  int64_t p_split[kTilingBranches];
  int32_t splits;  // partial sums to add up; unpacking only
  int32_t rows;    // rows (c_out, tap) of a tile
  int32_t run;     // channels that lie together in the packed form
};

}  // namespace sknet_ops::ascend
