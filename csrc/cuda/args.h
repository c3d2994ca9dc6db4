// SPDX-License-Identifier: Apache-2.0
// What the kernels take, by value. Maps (x, u, z, y and their gradients) are stored as T, handed over as void*;
// weights, statistics, attention and every gradient of a parameter are float.
#pragma once

#include <cstdint>

#include "sknet_ops/params.h"

namespace sknet_ops::cuda {

// v = (z - mean) * scale + beta
struct Affine {
  float mean, scale, beta, inv_std;
};

// Gradient by z from g, the gradient by v: scale * (g - offset - xhat * slope), xhat = (z - mean) * inv_std. Aligned to
// be read in two pieces of 16 bytes.
struct alignas(16) ZGrad {
  Affine a;
  float offset, slope;
};

// One normalisation of a channel-wise kind: of the batch (mean and inv_std given) or moving (both null).
struct NormArgs {
  const float *gamma, *beta, *moving_mean, *moving_variance;
  const float *mean, *inv_std;
  float eps;
};

// Count, mean and sum of squared distances from the mean.
struct Moments {
  float count, mean, m2;
};

// The gradient by z of every branch, computed where it is read.
struct ZGradSource {
  const void* g;           // dy (n, c, hw) if `attention`, else du (n, branches, c, hw)
  const void* z;           // (n, branches, c, hw)
  const ZGrad* coef;       // (branches, c)
  const float* attention;  // (n, branches, c)
  const float* pooled;     // (n, c): gradient by every position of every branch, from the pooled sum
  bool relu;
};

enum class ConvMode : int {
  kRaw,    // z
  kStats,  // z, and partial moments of each channel
  kFold,   // u with the moving statistics, and pooled sums
};

// How a convolution, or its gradient by the input, is cut into blocks. A block has `out_tile` output channels, stays
// with them, and walks over units: tiles of th x tw positions of the images of its image slot and split.
struct ConvTiling {
  int th, tw, tiles_h, tiles_w;
  int out_tile, out_tiles;  // out_tiles: in one part
  int parts;                // 1; gradient with split input: branches, each with its own channels
  int src_tile;             // source channels that the block needs of each source
  int src_h, src_w;         // rows and columns of the source tile
  int src_plane;            // words from one channel (SIMT) or source (tensor cores) to the next
  int origin;               // forward: padding; gradient: first row relative to the tile
  int lanes;                // threads a row of the tile when loading; a power of two
  int weight_words;         // shared memory: weights, then the source tiles, then the sums
  int source_words;
  int image_slots, splits;
};

struct ConvArgs {
  const void* x;   // forward
  ZGradSource dz;  // gradient
  void* out;       // forward: z or u (n, branches, c, hw); gradient: dx
  const float* weight[kMaxBranches];
  NormArgs norm[kMaxBranches];
  Moments* moments;  // (branches, c, slots)
  float* pooled;     // (n, splits, c); may be null
  ConvMode mode;
  bool relu;
  int64_t n;
  int h, w;  // map of the output of this direction
  int src_map_h, src_map_w;
  int src_channels;        // of the whole source tensor, one branch of it for the gradient
  int out_channels;        // of one branch or part
  int ci_group, co_group;  // source and output channels a group, of this direction
  int branches, sources;   // sources: tiles in shared memory
  int source_channels;     // forward: from one source to the next in x
  int stride;
  int kernel[kMaxBranches], dilation[kMaxBranches], padding[kMaxBranches];
  ConvTiling t;
};

// Gradient by the weights. A block has one tile of (output channels x input channels) of one group or of several whole
// ones, and walks over units as above; its sums go to `partial` (slots, weights of all branches).
struct WgradTiling {
  int th, tw, tiles_h, tiles_w;
  int out_tile, out_tiles;
  int src_tile;
  int src_h, src_w, src_plane;
  int origin;
  int pixels;  // of a tile, padded
  int dz_plane;
  int lanes;
  int source_words, dz_words, table_words;
  int slots;
};

struct WgradArgs {
  const void* x;
  ZGradSource dz;
  float* partial;
  int64_t n;
  int h_out, w_out, h, w;
  int src_channels, out_channels;
  int ci_group, co_group;
  int branches, sources;
  int source_channels;  // from one source to the next in x
  int stride;
  int kernel[kMaxBranches], dilation[kMaxBranches], padding[kMaxBranches];
  int64_t weight_offset[kMaxBranches], weights;  // where a branch starts in `partial`; all of them
  WgradTiling t;
};

struct SumArgs {  // dweight = sum over slots of partial
  const float* partial;
  float* dweight[kMaxBranches];
  int64_t weight_offset[kMaxBranches + 1];
  int branches, slots;
};

// How maps with channels last are cut for everything besides the convolutions. A block has `across` threads on
// neighbouring packs of channels, the others follow over the positions.
struct LastTiling {
  int across;  // a power of two, at most kMostAcross
  int tiles;   // of channels
  int splits;  // of the positions, where nothing is summed over them
};

// Moments of the slots -> mean, inv_std, moving statistics; then the sum over positions of the activated branches, or
// the activated branches themselves. Without moments: with the statistics in `norm`, or (gamma null) of u as it is.
struct PoolArgs {
  const void* z;
  void* u;                 // or null
  float* pooled;           // (n, c), mean over positions; or null
  const Moments* moments;  // or null
  int slots;
  NormArgs norm[kMaxBranches];
  float *moving_mean[kMaxBranches], *moving_variance[kMaxBranches];
  float *mean, *inv_std;  // (branches, c)
  bool relu;
  float momentum;
  int64_t n;
  int c, branches, hw;
  int image_chunks;
  LastTiling last;
};

// pooled -> hidden, its statistics over the batch, and the activated hidden layer. A block is one hidden value.
struct HiddenArgs {
  const float* pooled;  // (n, splits, c)
  int splits;
  float pooled_scale;
  const float* fc_reduce;  // (d, c)
  NormArgs norm;
  float *moving_mean, *moving_variance;
  float* hidden;          // (n, d)
  float *mean, *inv_std;  // (d); null unless training
  float* activated;       // (n, d)
  float momentum;
  int64_t n;
  int c, d;
  int image_chunks;  // 1 in training
};

// Attention from the hidden layer, or given; then the weighted sum of the branches. A warp is one (image, channel).
struct SelectArgs {
  const void* z;           // (n, branches, c, hw): z, or u if norm's gamma is null
  const float* activated;  // (n, d), or null: attention is given
  const float* fc_select;  // (branches * c, d)
  float* attention;        // written, or read if activated is null
  void* y;                 // or null: attention alone
  NormArgs norm[kMaxBranches];
  bool relu;
  int64_t n;
  int c, d, branches, hw;
  LastTiling last;
};

// Sums over the positions of one plane. r: where ReLU is open.
struct GateSums {
  float g, gx;  // sum r g, sum r g xhat; g: dy, or du of the branch
  float r, rx;  // sum r, sum r xhat
};

struct GateArgs {
  const void *g, *z;
  bool g_per_branch;
  void* turned;  // if z alone has channels last: g (n, hw, c), written; not with g_per_branch
  NormArgs norm[kMaxBranches];
  bool relu;
  GateSums* gates;         // (n, branches, c)
  const float* attention;  // with dlogits
  float* dlogits;          // (n, branches, c), or null
  int64_t n;
  int c, branches, hw;
  LastTiling last;
};

// dattention -> dlogits, of sk_attention alone
struct SoftmaxGradArgs {
  const float *dattention, *attention;
  float* dlogits;
  int64_t n;
  int c, branches;
};

// dlogits -> dhidden, dgamma, dbeta of the hidden layer. A block is one hidden value.
struct HiddenGradArgs {
  const float *dlogits, *fc_select;
  const float* hidden;
  NormArgs norm;
  bool training;
  float *dhidden, *activated;  // (n, d)
  float *dgamma, *dbeta;
  int64_t n;
  int c, d, branches;
  bool staged;  // a column of fc_select fits in shared memory
};

// The rest of the attention's gradient, and what the normalisations need. A block is one channel.
struct ChannelGradArgs {
  const float *dhidden, *activated, *dlogits, *pooled, *fc_reduce;  // null dhidden: no attention
  float *dfc_select, *dfc_reduce;
  float* dpooled;         // (n, c), divided by the positions
  const GateSums* gates;  // null: no normalisation
  const float* attention;
  NormArgs norm[kMaxBranches];
  float *dgamma[kMaxBranches], *dbeta[kMaxBranches];
  ZGrad* coef;  // (branches, c)
  bool training;
  int64_t n;
  int c, d, branches, hw;
};

struct FillArgs {  // du (n, branches, c, hw) = value (n, c)
  const float* value;
  void* du;
  int64_t planes;
  int c, branches, hw;
  LastTiling last;
};

struct SelectGradArgs {
  const void *dy, *u;
  const float* attention;
  void* du;
  float* dattention;
  int64_t n;
  int c, branches, hw;
  LastTiling last;
};

}  // namespace sknet_ops::cuda
