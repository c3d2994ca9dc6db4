// SPDX-License-Identifier: Apache-2.0
// What sk_conv and selective_kernel share: the 1 + 5 M inputs
//   x, weight[0..M-1], gamma[..], beta[..], moving_mean[..], moving_variance[..]
// and the gradients' 1 + 3 M outputs
//   dx, dweight[0..M-1], dgamma[..], dbeta[..]
#pragma once

#include "bindings/mindspore_op.h"

namespace sknet_ops::glue {

struct BranchAttrs : mindspore::AotKernelData {
  BranchAttrs(const char* op, mindspore::AotExtra& extra)
      : stride(int_attr(op, extra, "stride")),
        groups(int_attr(op, extra, "groups")),
        split_input(bool_attr(op, extra, "split_input")),
        padding(ints_attr(op, extra, "padding")),
        dilation(ints_attr(op, extra, "dilation")),
        branches(check::branches(op, static_cast<int64_t>(dilation.size()))),
        norm(norm_attrs(op, extra)) {}

  int inputs() const { return 1 + 5 * branches; }
  int grad_outputs() const { return 1 + 3 * branches; }
  check::SkConvAttrs conv() const {
    return {stride,
            groups,
            split_input,
            {padding.data(), static_cast<int64_t>(padding.size())},
            {dilation.data(), static_cast<int64_t>(dilation.size())}};
  }

  int64_t stride, groups;
  bool split_input;
  Dims padding, dilation;  // one entry a branch
  int branches;
  NormParams norm;
};

// Name of input `i` of the 1 + 5 M.
std::string branch_input_name(const BranchAttrs& attrs, int i);
// The 1 + 5 M shapes from input `first` on.
check::SkConvShapes branch_shapes(const BranchAttrs& attrs, const Shapes& in, int first);
bool all_known(const Shapes& in, int first, int count);
// (n, M, c_out, h_out, w_out) as far as it follows from what is known.
Dims infer_branches(const BranchAttrs& attrs, const Shapes& in);
// Shapes of the 1 + 3 M gradients, for forward inputs from `first` on.
std::vector<Dims> infer_branch_grads(const BranchAttrs& attrs, const Shapes& in, int first);

// Takes the 1 + 5 M buffers; T is SkConvForward, SkConvBackward or one of selective_kernel's.
template <typename T>
void take_branches(const BranchAttrs& attrs, Cursor& at, T& t) {
  const int count = attrs.branches;
  t.x = at.next();
  for (int m = 0; m < count; ++m) t.weight[m] = at.next();
  for (int m = 0; m < count; ++m) t.norm[m].gamma = at.next();
  for (int m = 0; m < count; ++m) t.norm[m].beta = at.next();
  for (int m = 0; m < count; ++m) t.norm[m].moving_mean = at.next();
  for (int m = 0; m < count; ++m) t.norm[m].moving_variance = at.next();
}

template <typename T>
void take_branch_grads(const BranchAttrs& attrs, Cursor& at, T& t) {
  t.dx = at.next();
  at.fill(t.dweight, attrs.branches);
  at.fill(t.dgamma, attrs.branches);
  at.fill(t.dbeta, attrs.branches);
}

}  // namespace sknet_ops::glue
