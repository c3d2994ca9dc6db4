// SPDX-License-Identifier: Apache-2.0
#include "sk_ops.h"

#include <stdexcept>

#include "sk_tiling_checks.h"

namespace sknet_ops::ascend {
namespace {

void check_count(const char* argument, int64_t got, int64_t least) {
  if (got < least) {
    throw std::invalid_argument(std::string(argument) + ": got " + std::to_string(got) + " values, expected at least " +
                                std::to_string(least));
  }
}

int64_t size(const Call& c, int at) {
  check_count("sizes", c.attributes.size_count, at + 1);
  return c.attributes.sizes[at];
}

float number(const Call& c, int at) {
  check_count("numbers", c.attributes.number_count, at + 1);
  return static_cast<float>(c.attributes.numbers[at]);
}

// sizes: n, branches, positions, channels
MapShape map(const Call& c) { return {size(c, 0), size(c, 1), size(c, 2), size(c, 3)}; }

// sizes: map, training, relu; numbers: eps, momentum
NormParams norm(const Call& c) { return {size(c, 4) != 0, size(c, 5) != 0, number(c, 0), number(c, 1)}; }

// sizes: map, training, hidden units; numbers: eps, momentum
SkAttentionParams attention(const Call& c) {
  check_branches("sk_attention", size(c, 1));
  return {size(c, 0),
          size(c, 3),
          size(c, 2),
          1,
          static_cast<int>(size(c, 1)),
          size(c, 5),
          {size(c, 4) != 0, true, number(c, 0), number(c, 1)}};
}

// sizes: n, c_in, h, w, c_out, groups, stride, h_out, w_out, branches, split_input; then kernel, padding, dilation,
// one a branch each; then 1 for the data gradient, 0 for the convolution itself
SkConvParams conv(const Call& c) {
  check_branches("sk_conv", size(c, 9));
  SkConvParams p{};
  p.n = size(c, 0), p.c_in = size(c, 1), p.h = size(c, 2), p.w = size(c, 3);
  p.c_out = size(c, 4), p.groups = size(c, 5), p.stride = size(c, 6), p.h_out = size(c, 7), p.w_out = size(c, 8);
  p.branches = static_cast<int>(size(c, 9));
  p.split_input = size(c, 10) != 0;
  for (int m = 0; m < p.branches; ++m) {
    p.kernel[m] = size(c, 11 + m);
    p.padding[m] = size(c, 11 + p.branches + m);
    p.dilation[m] = size(c, 11 + 2 * p.branches + m);
  }
  if (p.groups < 1 || p.branch_c_in() % p.groups != 0 || p.c_out % p.groups != 0) {
    refuse("sk_conv", "groups", std::to_string(p.groups), "a number that divides input and output channels");
  }
  return p;
}
bool data_grad(const Call& c) { return size(c, static_cast<int>(11 + 3 * size(c, 9))) != 0; }

template <typename Data>
Tiled tiled(const Launch<Data>& launch, bool cube = false) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&launch.data);
  return {{bytes, bytes + sizeof(Data)}, launch.blocks, cube};
}

Dims dims(const MapShape& m) { return {m.n, m.branches, m.positions, m.channels}; }
Dims vectors(const MapShape& m) { return {m.branches, m.channels}; }
Dims statistics(const Call& c) { return {map(c).branches, statistics_splits(c.chip, map(c)), 2, map(c).channels}; }
int64_t images_split(const Call& c) { return image_splits(c.chip, map(c)); }

int64_t sum_packed(const SkConvParams& p, const WeightBlocks& blocks) {
  int64_t sum = 0;
  for (int m = 0; m < p.branches; ++m) {
    sum += packed_size(p, m, blocks);
  }
  return sum;
}

constexpr bool kMap = true, kFloat = false;
TensorInfo tensor(const char* name, bool map_type) { return {name, map_type, false}; }
TensorInfo maybe(const char* name, bool map_type) { return {name, map_type, true}; }

std::vector<OpInfo> make_ops() {
  return {
      {"sk_norm_partial",
       {tensor("z", kMap)},
       {tensor("partial", kFloat)},
       [](const Call& c) -> std::vector<Dims> { return {statistics(c)}; },
       [](const Call& c) { return tiled(tile_norm_partial(c.chip, map(c), c.type)); }},
      {"sk_norm_act",
       {tensor("z", kMap), tensor("gamma", kFloat), tensor("beta", kFloat), tensor("moving_mean", kFloat),
        tensor("moving_variance", kFloat), maybe("partial", kFloat)},
       {tensor("u", kMap), tensor("pooled", kFloat), tensor("mean", kFloat), tensor("inv_std", kFloat),
        tensor("new_mean", kFloat), tensor("new_variance", kFloat)},
       [](const Call& c) -> std::vector<Dims> {
         const Dims v = vectors(map(c));
         return {dims(map(c)), {map(c).n, images_split(c), map(c).channels}, v, v, v, v};
       },
       [](const Call& c) { return tiled(tile_norm_act(c.chip, map(c), c.type, norm(c))); }},
      {"sk_norm_grad_partial",
       {tensor("du", kMap), tensor("z", kMap), tensor("mean", kFloat), tensor("inv_std", kFloat),
        tensor("gamma", kFloat), tensor("beta", kFloat)},
       {tensor("partial", kFloat)},
       [](const Call& c) -> std::vector<Dims> { return {statistics(c)}; },
       [](const Call& c) { return tiled(tile_norm_grad_partial(c.chip, map(c), c.type, norm(c))); }},
      {"sk_norm_grad",
       {tensor("du", kMap), tensor("z", kMap), tensor("mean", kFloat), tensor("inv_std", kFloat),
        tensor("gamma", kFloat), tensor("beta", kFloat), tensor("partial", kFloat)},
       {tensor("dz", kMap), tensor("dgamma", kFloat), tensor("dbeta", kFloat)},
       [](const Call& c) -> std::vector<Dims> { return {dims(map(c)), vectors(map(c)), vectors(map(c))}; },
       [](const Call& c) { return tiled(tile_norm_grad(c.chip, map(c), c.type, norm(c))); }},
      {"sk_select",
       {tensor("u", kMap), tensor("attention", kFloat)},
       {tensor("y", kMap)},
       [](const Call& c) -> std::vector<Dims> { return {{map(c).n, 1, map(c).positions, map(c).channels}}; },
       [](const Call& c) { return tiled(tile_select(c.chip, map(c), c.type)); }},
      {"sk_select_grad",
       {tensor("dy", kMap), tensor("u", kMap)},
       {tensor("dattention", kFloat)},
       [](const Call& c) -> std::vector<Dims> {
         return {{map(c).n, images_split(c), map(c).branches, map(c).channels}};
       },
       [](const Call& c) { return tiled(tile_select_grad(c.chip, map(c), c.type)); }},
      {"sk_branch_grad",  // sizes: map, with attention, with pooled, hidden units
       {maybe("dy", kMap), maybe("attention", kFloat), maybe("dhidden", kFloat), maybe("fc_reduce", kFloat)},
       {tensor("du", kMap)},
       [](const Call& c) -> std::vector<Dims> { return {dims(map(c))}; },
       [](const Call& c) {
         return tiled(tile_branch_grad(c.chip, map(c), c.type, size(c, 4) != 0, size(c, 5) != 0, size(c, 6)));
       }},
      {"sk_attention_hidden",
       {tensor("pooled_parts", kFloat), tensor("fc_reduce", kFloat), tensor("gamma", kFloat), tensor("beta", kFloat),
        tensor("moving_mean", kFloat), tensor("moving_variance", kFloat)},
       {tensor("pooled", kFloat), tensor("hidden", kFloat), tensor("activated", kFloat), tensor("mean", kFloat),
        tensor("inv_std", kFloat), tensor("new_mean", kFloat), tensor("new_variance", kFloat)},
       [](const Call& c) -> std::vector<Dims> {
         const int64_t d = size(c, 5), n = map(c).n;
         return {{n, map(c).channels}, {d, n}, {d, n}, {d}, {d}, {d}, {d}};
       },
       [](const Call& c) { return tiled(tile_attention_hidden(c.chip, attention(c))); }},
      {"sk_attention_select",
       {tensor("activated", kFloat), tensor("fc_select", kFloat)},
       {tensor("attention", kFloat)},
       [](const Call& c) -> std::vector<Dims> { return {{map(c).n, map(c).branches, map(c).channels}}; },
       [](const Call& c) { return tiled(tile_attention_select(c.chip, attention(c))); }},
      {"sk_attention_grad",
       {tensor("attention", kFloat), tensor("dattention_parts", kFloat), tensor("pooled", kFloat),
        tensor("hidden", kFloat), tensor("activated", kFloat), tensor("mean", kFloat), tensor("inv_std", kFloat),
        tensor("gamma", kFloat), tensor("fc_select", kFloat)},
       {tensor("dhidden", kFloat), tensor("dfc_reduce", kFloat), tensor("dgamma", kFloat), tensor("dbeta", kFloat),
        tensor("dfc_select", kFloat)},
       [](const Call& c) -> std::vector<Dims> {
         const int64_t d = size(c, 5);
         return {{d, map(c).n}, {d, map(c).channels}, {d}, {d}, {d, map(c).branches * map(c).channels}};
       },
       [](const Call& c) { return tiled(tile_attention_grad(c.chip, attention(c))); }},
      {"sk_pack_weight",
       {tensor("weight", kMap)},
       {tensor("packed", kMap)},
       [](const Call& c) -> std::vector<Dims> {
         const SkConvParams p = data_grad(c) ? transposed(conv(c)) : conv(c);
         return {{sum_packed(p, weight_blocks("sk_pack_weight", p))}};
       },
       [](const Call& c) {
         return tiled(tile_pack_weight(c.chip, data_grad(c) ? transposed(conv(c)) : conv(c), c.type));
       }},
      {"sk_conv",
       {tensor("x", kMap), tensor("weight", kMap)},
       {tensor("y", kMap)},
       [](const Call& c) -> std::vector<Dims> {
         const SkConvParams p = conv(c);
         return {data_grad(c) ? Dims{p.n, 1, p.h * p.w, p.c_in} : Dims{p.n, p.branches, p.h_out * p.w_out, p.c_out}};
       },
       [](const Call& c) {
         return tiled(data_grad(c) ? tile_conv_data_grad(c.chip, conv(c), c.type) : tile_conv(c.chip, conv(c), c.type),
                      true);
       }},
      {"sk_conv_weight_grad",
       {tensor("x", kMap), tensor("dz", kMap)},
       {tensor("partial", kFloat)},
       [](const Call& c) -> std::vector<Dims> {
         const SkConvParams p = conv(c);
         const int64_t packed = sum_packed(p, weight_blocks("sk_conv_weight_grad", p));
         return {{weight_grad_splits(c.chip, p, c.type) * packed}};
       },
       [](const Call& c) { return tiled(tile_conv_weight_grad(c.chip, conv(c), c.type), true); }},
      {"sk_unpack_weight_grad",
       {tensor("partial", kFloat), tensor("like", kMap)},
       {tensor("dweight", kFloat)},
       [](const Call& c) -> std::vector<Dims> {
         const SkConvParams p = conv(c);
         int64_t sum = 0;
         for (int m = 0; m < p.branches; ++m) {
           sum += p.c_out * p.kernel[m] * p.kernel[m] * (p.branch_c_in() / p.groups);
         }
         return {{sum}};
       },
       [](const Call& c) { return tiled(tile_unpack_weight_grad(c.chip, conv(c), c.type)); }},
  };
}

}  // namespace

const std::vector<OpInfo>& ops() {
  static const std::vector<OpInfo> kOps = make_ops();
  return kOps;
}

const OpInfo& find_op(const std::string& name) {
  for (const OpInfo& op : ops()) {
    if (name == op.name) {
      return op;
    }
  }
  throw std::invalid_argument("no op named " + name);
}

}  // namespace sknet_ops::ascend
