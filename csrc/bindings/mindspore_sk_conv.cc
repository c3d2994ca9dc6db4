// SPDX-License-Identifier: Apache-2.0
// M is the number of branches, the length of the attribute dilation.
// sk_conv       the 1 + 5 M inputs of mindspore_branches.h
//               -> training: u, z, mean, inv_std; inference: u
// sk_conv_grad  du, the 1 + 5 M inputs[, z, mean, inv_std]
//               -> dx, dweight[M], dgamma[M], dbeta[M]
// The last inputs of the gradient are there in training.
#include "bindings/mindspore_branches.h"

namespace sknet_ops::glue {
namespace {

struct SkConv {
  using Attrs = BranchAttrs;
  static constexpr const char* kName = "sk_conv";
  static int inputs(const Attrs& a) { return a.inputs(); }
  static int outputs(const Attrs& a) { return a.norm.training ? 4 : 1; }
  static std::string input_name(const Attrs& a, int i) { return branch_input_name(a, i); }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    if (all_known(in, 0, a.inputs())) check::sk_conv(kName, branch_shapes(a, in, 0), a.conv(), a.norm);
    const Dims u = infer_branches(a, in);
    if (!a.norm.training) return {u};
    return {u, u, {u[1], u[2]}, {u[1], u[2]}};
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const SkConvParams p = check::sk_conv(kName, branch_shapes(a, in, 0), a.conv(), a.norm);
    Cursor at(params);
    SkConvForward<float> t{};
    take_branches(a, at, t);
    t.u = at.next();
    if (a.norm.training) t.z = at.next(), t.mean = at.next(), t.inv_std = at.next();
    active_table().sk_conv(p, t);
  }
};

struct SkConvGrad {
  using Attrs = BranchAttrs;
  static constexpr const char* kName = "sk_conv_grad";
  static int inputs(const Attrs& a) { return 1 + a.inputs() + (a.norm.training ? 3 : 0); }
  static int outputs(const Attrs& a) { return a.grad_outputs(); }
  static std::string input_name(const Attrs& a, int i) {
    static const char* const saved[] = {"z", "mean", "inv_std"};
    if (i == 0) return "du";
    return i <= a.inputs() ? branch_input_name(a, i - 1) : saved[i - 1 - a.inputs()];
  }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) { return infer_branch_grads(a, in, 1); }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const SkConvParams p = check::sk_conv(kName, branch_shapes(a, in, 1), a.conv(), a.norm);
    check::same_shape(kName, "du", in[0], {p.n, p.branches, p.c_out, p.h_out, p.w_out});
    if (a.norm.training) {
      const int saved = 1 + a.inputs();
      check::same_shape(kName, "z", in[saved], {p.n, p.branches, p.c_out, p.h_out, p.w_out});
      check::same_shape(kName, "mean", in[saved + 1], {p.branches, p.c_out});
      check::same_shape(kName, "inv_std", in[saved + 2], {p.branches, p.c_out});
    }

    Cursor at(params);
    SkConvBackward<float> t{};
    t.du = at.next();
    take_branches(a, at, t);
    if (a.norm.training) t.z = at.next(), t.mean = at.next(), t.inv_std = at.next();
    take_branch_grads(a, at, t);
    active_table().sk_conv_grad(p, t);
  }
};

}  // namespace
}  // namespace sknet_ops::glue

SKNET_OPS_MINDSPORE_OP(sk_conv, sknet_ops::glue::SkConv)
SKNET_OPS_MINDSPORE_OP(sk_conv_grad, sknet_ops::glue::SkConvGrad)
