// SPDX-License-Identifier: Apache-2.0
// Tiling: from shapes and the chip's sizes to what a kernel is told. Plain C++, without CANN types.
//
// Every function throws std::invalid_argument, naming the op, the argument, what came and what was expected, for
// anything that a kernel could not do. Kernels check nothing.
#pragma once

#include <cstdint>
#include <string>

#include "sk_tiling_data.h"  // of op_kernel; `make ascend` puts it beside
#include "sknet_ops/params.h"

namespace sknet_ops::ascend {

// Sizes of one chip, per core where it has several.
struct Platform {
  int32_t cube_cores, vector_cores;
  int64_t ub, l1, l0a, l0b, l0c;
};

// The Ascend 910B family; refuses any other name.
Platform platform(const std::string& soc);

enum class Dtype : int { kHalf = 0, kFloat = 1 };
Dtype dtype(const char* op, const std::string& name);
constexpr int64_t size_of(Dtype type) { return type == Dtype::kHalf ? 2 : 4; }

template <typename Data>
struct Launch {
  Data data;
  int32_t blocks;
};

// ---- maps as rows of channels: vector cores ----

struct MapShape {
  int64_t n, branches, positions, channels;
};
// Shares that keep the vector cores busy; the sizes of partial sums follow from them.
int32_t statistics_splits(const Platform& chip, const MapShape& map);
int32_t image_splits(const Platform& chip, const MapShape& map);

Launch<RowsTiling> tile_norm_partial(const Platform& chip, const MapShape& map, Dtype type);
Launch<RowsTiling> tile_norm_act(const Platform& chip, const MapShape& map, Dtype type, const NormParams& norm);
Launch<RowsTiling> tile_select(const Platform& chip, const MapShape& map, Dtype type);
Launch<RowsTiling> tile_select_grad(const Platform& chip, const MapShape& map, Dtype type);
Launch<RowsTiling> tile_branch_grad(const Platform& chip, const MapShape& map, Dtype type, bool with_attention,
                                    bool with_pooled, int64_t reduced);
Launch<RowsTiling> tile_norm_grad_partial(const Platform& chip, const MapShape& map, Dtype type,
                                          const NormParams& norm);
Launch<RowsTiling> tile_norm_grad(const Platform& chip, const MapShape& map, Dtype type, const NormParams& norm);

// ---- dense layers of the attention: vector cores ----

Launch<AttentionTiling> tile_attention_hidden(const Platform& chip, const SkAttentionParams& p);
Launch<AttentionTiling> tile_attention_select(const Platform& chip, const SkAttentionParams& p);
Launch<AttentionTiling> tile_attention_grad(const Platform& chip, const SkAttentionParams& p);

// ---- convolutions: cube cores, and their weights: vector cores ----

struct WeightBlocks {
  int64_t groups, kin, nout;  // whole groups of a block, and its channels
};
WeightBlocks weight_blocks(const char* op, const SkConvParams& p);
int64_t packed_size(const SkConvParams& p, int branch, const WeightBlocks& blocks);

Launch<WeightTiling> tile_pack_weight(const Platform& chip, const SkConvParams& p, Dtype type);
Launch<ConvTiling> tile_conv(const Platform& chip, const SkConvParams& p, Dtype type);
// The data gradient: the same kernel on flipped weights, (c_in, taps, c_out per group).
Launch<ConvTiling> tile_conv_data_grad(const Platform& chip, const SkConvParams& p, Dtype type);
// The convolution whose weights the data gradient packs.
SkConvParams transposed(const SkConvParams& p);
Launch<WeightGradTiling> tile_conv_weight_grad(const Platform& chip, const SkConvParams& p, Dtype type);
Launch<WeightTiling> tile_unpack_weight_grad(const Platform& chip, const SkConvParams& p, Dtype type);
int32_t weight_grad_splits(const Platform& chip, const SkConvParams& p, Dtype type);

}  // namespace sknet_ops::ascend
