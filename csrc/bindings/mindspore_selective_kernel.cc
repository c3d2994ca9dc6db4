// SPDX-License-Identifier: Apache-2.0
// selective_kernel       the 1 + 5 M inputs of mindspore_branches.h, then
//                        fc_reduce, attn_gamma, attn_beta, attn_moving_mean, attn_moving_variance, fc_select
//                        -> training: y, attention, z, mean, inv_std, pooled, hidden, attn_mean, attn_inv_std
//                           inference: y, attention
// selective_kernel_grad  dy, the 7 + 5 M inputs, attention[, z, mean, inv_std, pooled, hidden, attn_mean, attn_inv_std]
//                        -> dx, dweight[M], dgamma[M], dbeta[M], dfc_reduce, dattn_gamma, dattn_beta, dfc_select
// The last inputs of the gradient are there in training. The attention is given out to be looked at: no gradient
// flows back through that output.
#include "bindings/mindspore_branches.h"
#include "bindings/step.h"

namespace sknet_ops::glue {
namespace {

const char* const kAttentionInputs[] = {"fc_reduce",        "attn_gamma",           "attn_beta",
                                        "attn_moving_mean", "attn_moving_variance", "fc_select"};

struct SelectiveKernelAttrs : BranchAttrs {
  SelectiveKernelAttrs(const char* op, mindspore::AotExtra& extra)
      : BranchAttrs(op, extra),
        attn_norm{norm.training, true, float_attr(op, extra, "attn_eps"), float_attr(op, extra, "attn_momentum")},
        kept(bool_attr(op, extra, "frozen") && !norm.training) {}

  int all_inputs() const { return inputs() + 6; }

  NormParams attn_norm;
  Kept kept;
};

check::SelectiveKernelShapes op_shapes(const SelectiveKernelAttrs& a, const Shapes& in, int first) {
  const int at = first + a.inputs();
  return {branch_shapes(a, in, first), in[at], {in[at + 1], in[at + 2], in[at + 3], in[at + 4]}, in[at + 5]};
}

template <typename T>
void take_inputs(const SelectiveKernelAttrs& a, Cursor& at, T& t) {
  take_branches(a, at, t);
  t.fc_reduce = at.next();
  t.attn_norm.gamma = at.next(), t.attn_norm.beta = at.next();
  t.attn_norm.moving_mean = at.next(), t.attn_norm.moving_variance = at.next();
  t.fc_select = at.next();
}

template <typename T>
void take_saved(Cursor& at, T& t) {
  t.z = at.next(), t.mean = at.next(), t.inv_std = at.next();
  t.pooled = at.next(), t.hidden = at.next();
  t.attn_mean = at.next(), t.attn_inv_std = at.next();
}

struct SelectiveKernel {
  using Attrs = SelectiveKernelAttrs;
  static constexpr const char* kName = "selective_kernel";
  static int inputs(const Attrs& a) { return a.all_inputs(); }
  static int outputs(const Attrs& a) { return a.norm.training ? 9 : 2; }
  static bool is_map(int i) { return i == 0; }
  static std::string input_name(const Attrs& a, int i) {
    return i < a.inputs() ? branch_input_name(a, i) : kAttentionInputs[i - a.inputs()];
  }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    if (all_known(in, 0, a.all_inputs())) {
      check::selective_kernel(kName, op_shapes(a, in, 0), a.conv(), a.norm, a.attn_norm);
    }
    const Dims u = infer_branches(a, in);
    const int64_t n = u[0], branches = u[1], c = u[2], c_reduced = dim(in[a.inputs() + 1], 1, 0);
    std::vector<Dims> out{{n, c, u[3], u[4]}, {n, branches, c}};
    if (a.norm.training) {
      out.insert(out.end(), {u, {branches, c}, {branches, c}, {n, c}, {n, c_reduced}, {c_reduced}, {c_reduced}});
    }
    return out;
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    SelectiveKernelParams p = check::selective_kernel(kName, op_shapes(a, in, 0), a.conv(), a.norm, a.attn_norm);
    p.kept = a.kept.get();
    Cursor at(params);
    SelectiveKernelForward<float> t{};
    take_inputs(a, at, t);
    t.y = at.next(), t.attention = at.next();
    if (a.norm.training) take_saved(at, t);
    active_table().selective_kernel(p, t);
  }
};

struct SelectiveKernelGrad {
  using Attrs = SelectiveKernelAttrs;
  static constexpr const char* kName = "selective_kernel_grad";
  static int inputs(const Attrs& a) { return 2 + a.all_inputs() + (a.norm.training ? 7 : 0); }
  static int outputs(const Attrs& a) { return a.grad_outputs() + 4; }
  static std::string input_name(const Attrs& a, int i) {
    static const char* const saved[] = {"attention", "z",      "mean",      "inv_std",
                                        "pooled",    "hidden", "attn_mean", "attn_inv_std"};
    if (i == 0) return "dy";
    return i <= a.all_inputs() ? SelectiveKernel::input_name(a, i - 1) : saved[i - 1 - a.all_inputs()];
  }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    std::vector<Dims> out = infer_branch_grads(a, in, 1);
    const int attn = 1 + a.inputs();
    for (int i : {attn, attn + 1, attn + 2, attn + 5}) out.push_back(in.dims(i));
    return out;
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const SelectiveKernelParams p = check::selective_kernel(kName, op_shapes(a, in, 1), a.conv(), a.norm, a.attn_norm);
    const SkConvParams& c = p.conv;
    check::same_shape(kName, "dy", in[0], {c.n, c.c_out, c.h_out, c.w_out});
    const int saved = 1 + a.all_inputs();
    check::same_shape(kName, "attention", in[saved], {c.n, c.branches, c.c_out});
    if (a.norm.training) {
      check::same_shape(kName, "z", in[saved + 1], {c.n, c.branches, c.c_out, c.h_out, c.w_out});
      check::same_shape(kName, "mean", in[saved + 2], {c.branches, c.c_out});
      check::same_shape(kName, "inv_std", in[saved + 3], {c.branches, c.c_out});
      check::same_shape(kName, "pooled", in[saved + 4], {c.n, c.c_out});
      check::same_shape(kName, "hidden", in[saved + 5], {c.n, p.c_reduced});
      check::same_shape(kName, "attn_mean", in[saved + 6], {p.c_reduced});
      check::same_shape(kName, "attn_inv_std", in[saved + 7], {p.c_reduced});
    }

    Cursor at(params);
    SelectiveKernelBackward<float> t{};
    t.dy = at.next();
    take_inputs(a, at, t);
    t.attention = at.next();
    if (a.norm.training) take_saved(at, t);
    take_branch_grads(a, at, t);
    t.dfc_reduce = at.next(), t.dattn_gamma = at.next(), t.dattn_beta = at.next(), t.dfc_select = at.next();
    active_table().selective_kernel_grad(p, t);
  }
};

}  // namespace

std::unique_ptr<Step> selective_kernel_step(mindspore::AotExtra& extra) {
  return std::make_unique<StepOf<SelectiveKernel>>(extra);
}

}  // namespace sknet_ops::glue

SKNET_OPS_MINDSPORE_OP(selective_kernel, sknet_ops::glue::SelectiveKernel)
SKNET_OPS_MINDSPORE_OP(selective_kernel_grad, sknet_ops::glue::SelectiveKernelGrad)
