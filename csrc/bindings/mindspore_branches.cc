// SPDX-License-Identifier: Apache-2.0
#include "bindings/mindspore_branches.h"

namespace sknet_ops::glue {

std::string branch_input_name(const BranchAttrs& attrs, int i) {
  static const char* const names[] = {"weight", "gamma", "beta", "moving_mean", "moving_variance"};
  if (i == 0) return "x";
  return names[(i - 1) / attrs.branches] + ("[" + std::to_string((i - 1) % attrs.branches) + "]");
}

check::SkConvShapes branch_shapes(const BranchAttrs& attrs, const Shapes& in, int first) {
  const int count = attrs.branches;
  check::SkConvShapes shapes{};
  shapes.x = in[first];
  shapes.branches = count;
  for (int m = 0; m < count; ++m) {
    const int at = first + 1 + m;
    shapes.weight[m] = in[at];
    shapes.norm[m] = {in[at + count], in[at + 2 * count], in[at + 3 * count], in[at + 4 * count]};
  }
  return shapes;
}

bool all_known(const Shapes& in, int first, int count) {
  for (int i = first; i < first + count; ++i) {
    if (!known(in[i])) return false;
  }
  return true;
}

Dims infer_branches(const BranchAttrs& attrs, const Shapes& in) {
  const check::TensorShape x = in[0], weight = in[1];
  const int64_t kernel = dim(weight, 4, 2), padding = attrs.padding.at(0), dilation = attrs.dilation.at(0);
  return {dim(x, 4, 0), attrs.branches, dim(weight, 4, 0),
          out_dim(dim(x, 4, 2), kernel, attrs.stride, padding, dilation),
          out_dim(dim(x, 4, 3), kernel, attrs.stride, padding, dilation)};
}

std::vector<Dims> infer_branch_grads(const BranchAttrs& attrs, const Shapes& in, int first) {
  std::vector<Dims> out;
  for (int i = 0; i < attrs.grad_outputs(); ++i) out.push_back(in.dims(first + i));
  return out;
}

}  // namespace sknet_ops::glue
