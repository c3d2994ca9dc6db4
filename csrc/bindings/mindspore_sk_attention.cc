// SPDX-License-Identifier: Apache-2.0
// sk_attention       u, fc_reduce, gamma, beta, moving_mean, moving_variance, fc_select
//                    -> training: attention, pooled, hidden, mean, inv_std; inference: attention
// sk_attention_grad  dattention, the 7 inputs, attention[, pooled, hidden, mean, inv_std]
//                    -> du, dfc_reduce, dgamma, dbeta, dfc_select
// The last inputs of the gradient are there in training.
#include "bindings/mindspore_op.h"

namespace sknet_ops::glue {
namespace {

struct SkAttentionAttrs : mindspore::AotKernelData {
  SkAttentionAttrs(const char* op, mindspore::AotExtra& extra)
      : norm{bool_attr(op, extra, "training"), true, float_attr(op, extra, "eps"), float_attr(op, extra, "momentum")} {}

  NormParams norm;
};

check::SkAttentionShapes op_shapes(const Shapes& in, int first) {
  return {in[first], in[first + 1], {in[first + 2], in[first + 3], in[first + 4], in[first + 5]}, in[first + 6]};
}

struct SkAttention {
  using Attrs = SkAttentionAttrs;
  static constexpr const char* kName = "sk_attention";
  static int inputs(const Attrs&) { return 7; }
  static int outputs(const Attrs& a) { return a.norm.training ? 5 : 1; }
  static std::string input_name(const Attrs&, int i) {
    static const char* const names[] = {"u",           "fc_reduce",       "gamma",    "beta",
                                        "moving_mean", "moving_variance", "fc_select"};
    return names[i];
  }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    bool all_known = true;
    for (int i = 0; i < 7; ++i) all_known &= known(in[i]);
    if (all_known) check::sk_attention(kName, op_shapes(in, 0), a.norm);
    const int64_t n = dim(in[0], 5, 0), branches = dim(in[0], 5, 1), c = dim(in[0], 5, 2);
    const int64_t c_reduced = dim(in[2], 1, 0);
    if (!a.norm.training) return {{n, branches, c}};
    return {{n, branches, c}, {n, c}, {n, c_reduced}, {c_reduced}, {c_reduced}};
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const SkAttentionParams p = check::sk_attention(kName, op_shapes(in, 0), a.norm);
    Cursor at(params);
    SkAttentionForward<float> t{};
    t.u = at.next(), t.fc_reduce = at.next();
    t.norm.gamma = at.next(), t.norm.beta = at.next();
    t.norm.moving_mean = at.next(), t.norm.moving_variance = at.next();
    t.fc_select = at.next(), t.attention = at.next();
    if (a.norm.training) t.pooled = at.next(), t.hidden = at.next(), t.mean = at.next(), t.inv_std = at.next();
    active_table().sk_attention(p, t);
  }
};

struct SkAttentionGrad {
  using Attrs = SkAttentionAttrs;
  static constexpr const char* kName = "sk_attention_grad";
  static int inputs(const Attrs& a) { return a.norm.training ? 13 : 9; }
  static int outputs(const Attrs&) { return 5; }
  static std::string input_name(const Attrs&, int i) {
    static const char* const names[] = {"dattention",      "u",         "fc_reduce", "gamma",  "beta",   "moving_mean",
                                        "moving_variance", "fc_select", "attention", "pooled", "hidden", "mean",
                                        "inv_std"};
    return names[i];
  }

  static std::vector<Dims> infer(const Attrs&, const Shapes& in) {
    return {in.dims(1), in.dims(2), in.dims(3), in.dims(4), in.dims(7)};
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const SkAttentionParams p = check::sk_attention(kName, op_shapes(in, 1), a.norm);
    check::same_shape(kName, "dattention", in[0], {p.n, p.branches, p.c});
    check::same_shape(kName, "attention", in[8], {p.n, p.branches, p.c});
    if (a.norm.training) {
      check::same_shape(kName, "pooled", in[9], {p.n, p.c});
      check::same_shape(kName, "hidden", in[10], {p.n, p.c_reduced});
      check::same_shape(kName, "mean", in[11], {p.c_reduced});
      check::same_shape(kName, "inv_std", in[12], {p.c_reduced});
    }

    Cursor at(params);
    SkAttentionBackward<float> t{};
    t.dattention = at.next(), t.u = at.next(), t.fc_reduce = at.next();
    t.norm.gamma = at.next(), t.norm.beta = at.next();
    t.norm.moving_mean = at.next(), t.norm.moving_variance = at.next();
    t.fc_select = at.next(), t.attention = at.next();
    if (a.norm.training) t.pooled = at.next(), t.hidden = at.next(), t.mean = at.next(), t.inv_std = at.next();
    t.du = at.next(), t.dfc_reduce = at.next(), t.dgamma = at.next(), t.dbeta = at.next(), t.dfc_select = at.next();
    active_table().sk_attention_grad(p, t);
  }
};

}  // namespace
}  // namespace sknet_ops::glue

SKNET_OPS_MINDSPORE_OP(sk_attention, sknet_ops::glue::SkAttention)
SKNET_OPS_MINDSPORE_OP(sk_attention_grad, sknet_ops::glue::SkAttentionGrad)
