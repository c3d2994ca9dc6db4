// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bindings/pybind_arrays.h"

namespace sknet_ops::numpy {
namespace {

using py::handle;
using Isa = std::optional<std::string>;

py::dict conv_bn_act(handle x, handle weight, handle gamma, handle beta, handle moving_mean, handle moving_variance,
                     handle residual, int64_t stride, int64_t padding, int64_t dilation, int64_t groups, float eps,
                     float momentum, bool relu, bool training, const std::string& backend, const Isa& isa,
                     const Kept* kept) {
  const char* op = "conv_bn_act";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x), w = arrays.input("weight", weight);
    const NormInput<T> norm = arrays.norm("", "", gamma, beta, moving_mean, moving_variance, training);
    Input<T> add{};
    if (!residual.is_none()) {
      add = arrays.input("residual", residual);
    }
    ConvBnActParams p =
        check::conv_bn_act(op, {in.shape, w.shape, norm.shapes(), residual.is_none() ? nullptr : &add.shape},
                           {stride, padding, dilation, groups}, {training, relu, eps, momentum});
    p.kept = kept_or_null(op, kept, training);
    const ConvShape& s = p.conv;
    ConvBnActForward<T> t{in.data, w.data, norm.tensors(), add.data, nullptr, nullptr, nullptr, nullptr};
    t.y = arrays.output("y", {s.n, s.c_out, s.h_out, s.w_out});
    if (training) {
      t.z = arrays.output("z", {s.n, s.c_out, s.h_out, s.w_out});
      t.mean = arrays.output("mean", {s.c_out});
      t.inv_std = arrays.output("inv_std", {s.c_out});
    }
    call(table<T>(target).conv_bn_act, p, t);
    return arrays.outputs();
  });
}

py::dict conv_bn_act_grad(handle dy, handle x, handle weight, handle gamma, handle beta, handle moving_mean,
                          handle moving_variance, handle y, handle z, handle mean, handle inv_std, bool residual,
                          int64_t stride, int64_t padding, int64_t dilation, int64_t groups, float eps, float momentum,
                          bool relu, bool training, bool input_gradient, const std::string& backend, const Isa& isa) {
  const char* op = "conv_bn_act_grad";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x), w = arrays.input("weight", weight);
    const NormInput<T> norm = arrays.norm("", "", gamma, beta, moving_mean, moving_variance, false);
    const ConvBnActParams p = check::conv_bn_act(op, {in.shape, w.shape, norm.shapes(), nullptr},
                                                 {stride, padding, dilation, groups}, {training, relu, eps, momentum});
    const ConvShape& s = p.conv;
    ConvBnActBackward<T> t{};
    t.dy = arrays.shaped("dy", dy, {s.n, s.c_out, s.h_out, s.w_out});
    t.x = in.data;
    t.weight = w.data;
    t.gamma = norm.gamma.data;
    t.beta = norm.beta.data;
    t.y = arrays.shaped("y", y, {s.n, s.c_out, s.h_out, s.w_out});
    t.z = arrays.saved("z", z, training, {s.n, s.c_out, s.h_out, s.w_out});
    t.mean = arrays.saved("mean", mean, training, {s.c_out});
    t.inv_std = arrays.saved("inv_std", inv_std, training, {s.c_out});
    t.moving_mean = norm.moving_mean.data;
    t.moving_variance = norm.moving_variance.data;
    t.dx = input_gradient ? arrays.output_like("dx", in.shape) : nullptr;
    t.dweight = arrays.output_like("dweight", w.shape);
    t.dgamma = arrays.output("dgamma", {s.c_out});
    t.dbeta = arrays.output("dbeta", {s.c_out});
    t.dresidual = residual ? arrays.output("dresidual", {s.n, s.c_out, s.h_out, s.w_out}) : nullptr;
    call(table<T>(target).conv_bn_act_grad, p, t);
    return arrays.outputs();
  });
}

}  // namespace

void add_conv_bn_act(py::module_& m) {
  using py::arg;
  m.def("conv_bn_act", &conv_bn_act, arg("x"), arg("weight"), arg("gamma"), arg("beta"), arg("moving_mean"),
        arg("moving_variance"), arg("residual") = py::none(), py::kw_only(), arg("stride") = 1, arg("padding") = 0,
        arg("dilation") = 1, arg("groups") = 1, arg("eps") = 1e-5f, arg("momentum") = 0.1f, arg("relu") = true,
        arg("training") = false, arg("backend") = "cpu", arg("isa") = py::none(), arg("kept") = py::none(),
        "x (n, c_in, h, w), weight (c_out, c_in / groups, k, k), norm vectors (c_out,), residual like y\n"
        "-> y (n, c_out, h_out, w_out); training: also z like y, mean and inv_std (c_out,)");
  m.def("conv_bn_act_grad", &conv_bn_act_grad, arg("dy"), arg("x"), arg("weight"), arg("gamma"), arg("beta"),
        arg("moving_mean"), arg("moving_variance"), arg("y"), arg("z") = py::none(), arg("mean") = py::none(),
        arg("inv_std") = py::none(), py::kw_only(), arg("residual") = false, arg("stride") = 1, arg("padding") = 0,
        arg("dilation") = 1, arg("groups") = 1, arg("eps") = 1e-5f, arg("momentum") = 0.1f, arg("relu") = true,
        arg("training") = false, arg("input_gradient") = true, arg("backend") = "cpu", arg("isa") = py::none(),
        "-> dx if input_gradient, dweight, dgamma, dbeta, and dresidual if residual; training needs z, mean, inv_std");
}

}  // namespace sknet_ops::numpy
