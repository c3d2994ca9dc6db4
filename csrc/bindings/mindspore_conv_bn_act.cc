// SPDX-License-Identifier: Apache-2.0
// conv_bn_act       x, weight, gamma, beta, moving_mean, moving_variance[, residual]
//                   -> training: y, z, mean, inv_std; inference: y
// conv_bn_act_grad  dy, x, weight, gamma, beta, moving_mean, moving_variance, y[, z, mean, inv_std]
//                   -> [dx, ]dweight, dgamma, dbeta[, dresidual]
// The last inputs of the gradient are there in training, dx unless attribute input_gradient is there and false,
// dresidual if the op had a residual.
#include "bindings/mindspore_op.h"
#include "bindings/step.h"

namespace sknet_ops::glue {
namespace {

struct ConvBnActAttrs : mindspore::AotKernelData {
  ConvBnActAttrs(const char* op, mindspore::AotExtra& extra)
      : conv{int_attr(op, extra, "stride"), int_attr(op, extra, "padding"), int_attr(op, extra, "dilation"),
             int_attr(op, extra, "groups")},
        norm(norm_attrs(op, extra)),
        residual(bool_attr(op, extra, "residual")),
        input_gradient(!extra.HasAttr("input_gradient") || extra.GetAttrBool("input_gradient")),
        kept(bool_attr(op, extra, "frozen") && !norm.training) {}

  check::ConvAttrs conv;
  NormParams norm;
  bool residual, input_gradient;
  Kept kept;
};

// x, weight, gamma, beta, moving_mean, moving_variance from input `first` on.
check::ConvBnActShapes op_shapes(const Shapes& in, int first) {
  return {in[first], in[first + 1], {in[first + 2], in[first + 3], in[first + 4], in[first + 5]}, nullptr};
}

struct ConvBnAct {
  using Attrs = ConvBnActAttrs;
  static constexpr const char* kName = "conv_bn_act";
  static int inputs(const Attrs& a) { return a.residual ? 7 : 6; }
  static int outputs(const Attrs& a) { return a.norm.training ? 4 : 1; }
  static bool is_map(int i) { return i == 0 || i == 6; }
  static std::string input_name(const Attrs&, int i) {
    static const char* const names[] = {"x", "weight", "gamma", "beta", "moving_mean", "moving_variance", "residual"};
    return names[i];
  }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    check::ConvBnActShapes shapes = op_shapes(in, 0);
    const check::TensorShape residual = a.residual ? in[6] : check::TensorShape{};
    bool all_known = !a.residual || known(residual);
    for (int i = 0; i < 6; ++i) all_known &= known(in[i]);
    Dims y;
    if (all_known) {
      if (a.residual) shapes.residual = &residual;
      const ConvShape c = check::conv_bn_act(kName, shapes, a.conv, a.norm).conv;
      y = {c.n, c.c_out, c.h_out, c.w_out};
    } else {  // the call itself checks what is unknown here
      const int64_t kernel = dim(shapes.weight, 4, 2);
      y = {dim(shapes.x, 4, 0), dim(shapes.weight, 4, 0),
           out_dim(dim(shapes.x, 4, 2), kernel, a.conv.stride, a.conv.padding, a.conv.dilation),
           out_dim(dim(shapes.x, 4, 3), kernel, a.conv.stride, a.conv.padding, a.conv.dilation)};
    }
    if (!a.norm.training) return {y};
    return {y, y, {y[1]}, {y[1]}};
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    check::ConvBnActShapes shapes = op_shapes(in, 0);
    const check::TensorShape residual = a.residual ? in[6] : check::TensorShape{};
    if (a.residual) shapes.residual = &residual;
    ConvBnActParams p = check::conv_bn_act(kName, shapes, a.conv, a.norm);
    p.kept = a.kept.get();

    Cursor at(params);
    ConvBnActForward<float> t{};
    t.x = at.next(), t.weight = at.next();
    t.norm.gamma = at.next(), t.norm.beta = at.next();
    t.norm.moving_mean = at.next(), t.norm.moving_variance = at.next();
    if (a.residual) t.residual = at.next();
    t.y = at.next();
    if (a.norm.training) t.z = at.next(), t.mean = at.next(), t.inv_std = at.next();
    active_table().conv_bn_act(p, t);
  }
};

struct ConvBnActGrad {
  using Attrs = ConvBnActAttrs;
  static constexpr const char* kName = "conv_bn_act_grad";
  static int inputs(const Attrs& a) { return a.norm.training ? 11 : 8; }
  static int outputs(const Attrs& a) { return 3 + a.input_gradient + a.residual; }
  static std::string input_name(const Attrs&, int i) {
    static const char* const names[] = {"dy", "x", "weight", "gamma",  "beta", "moving_mean", "moving_variance",
                                        "y",  "z", "mean",   "inv_std"};
    return names[i];
  }

  static std::vector<Dims> infer(const Attrs& a, const Shapes& in) {
    std::vector<Dims> out{in.dims(2), in.dims(3), in.dims(4)};
    if (a.input_gradient) out.insert(out.begin(), in.dims(1));
    if (a.residual) out.push_back(in.dims(0));
    return out;
  }

  static void run(const Attrs& a, const Shapes& in, void** params) {
    const ConvBnActParams p = check::conv_bn_act(kName, op_shapes(in, 1), a.conv, a.norm);
    const ConvShape& c = p.conv;
    check::same_shape(kName, "dy", in[0], {c.n, c.c_out, c.h_out, c.w_out});
    check::same_shape(kName, "y", in[7], {c.n, c.c_out, c.h_out, c.w_out});
    if (a.norm.training) {
      check::same_shape(kName, "z", in[8], {c.n, c.c_out, c.h_out, c.w_out});
      check::same_shape(kName, "mean", in[9], {c.c_out});
      check::same_shape(kName, "inv_std", in[10], {c.c_out});
    }

    Cursor at(params);
    ConvBnActBackward<float> t{};
    t.dy = at.next(), t.x = at.next(), t.weight = at.next(), t.gamma = at.next(), t.beta = at.next();
    t.moving_mean = at.next(), t.moving_variance = at.next(), t.y = at.next();
    if (a.norm.training) t.z = at.next(), t.mean = at.next(), t.inv_std = at.next();
    if (a.input_gradient) t.dx = at.next();
    t.dweight = at.next(), t.dgamma = at.next(), t.dbeta = at.next();
    if (a.residual) t.dresidual = at.next();
    active_table().conv_bn_act_grad(p, t);
  }
};

}  // namespace

std::unique_ptr<Step> conv_bn_act_step(mindspore::AotExtra& extra) {
  return std::make_unique<StepOf<ConvBnAct>>(extra);
}

}  // namespace sknet_ops::glue

SKNET_OPS_MINDSPORE_OP(conv_bn_act, sknet_ops::glue::ConvBnAct)
SKNET_OPS_MINDSPORE_OP(conv_bn_act_grad, sknet_ops::glue::ConvBnActGrad)
