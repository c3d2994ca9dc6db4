// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bindings/pybind_arrays.h"

namespace sknet_ops::numpy {
namespace {

using py::handle;
using Isa = std::optional<std::string>;
using Ints = std::vector<int64_t>;

check::IntList list(const Ints& v) { return {v.data(), static_cast<int64_t>(v.size())}; }

py::dict sk_conv(handle x, const py::sequence& weight, const py::sequence& gamma, const py::sequence& beta,
                 const py::sequence& moving_mean, const py::sequence& moving_variance, const Ints& padding,
                 const Ints& dilation, int64_t stride, int64_t groups, bool split_input, float eps, float momentum,
                 bool relu, bool training, const std::string& backend, const Isa& isa) {
  const char* op = "sk_conv";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x);
    const BranchInputs<T> branch(op, arrays, {weight, gamma, beta, moving_mean, moving_variance}, training);
    const SkConvParams p =
        check::sk_conv(op, branch.shapes(in.shape), {stride, groups, split_input, list(padding), list(dilation)},
                       {training, relu, eps, momentum});
    SkConvForward<T> t{};
    t.x = in.data;
    branch.fill(t);
    t.u = arrays.output("u", {p.n, p.branches, p.c_out, p.h_out, p.w_out});
    if (training) {
      t.z = arrays.output("z", {p.n, p.branches, p.c_out, p.h_out, p.w_out});
      t.mean = arrays.output("mean", {p.branches, p.c_out});
      t.inv_std = arrays.output("inv_std", {p.branches, p.c_out});
    }
    call(table<T>(target).sk_conv, p, t);
    return arrays.outputs();
  });
}

py::dict sk_conv_grad(handle du, handle x, const py::sequence& weight, const py::sequence& gamma,
                      const py::sequence& beta, const py::sequence& moving_mean, const py::sequence& moving_variance,
                      handle z, handle mean, handle inv_std, const Ints& padding, const Ints& dilation, int64_t stride,
                      int64_t groups, bool split_input, float eps, float momentum, bool relu, bool training,
                      const std::string& backend, const Isa& isa) {
  const char* op = "sk_conv_grad";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x);
    const BranchInputs<T> branch(op, arrays, {weight, gamma, beta, moving_mean, moving_variance}, false);
    const SkConvParams p =
        check::sk_conv(op, branch.shapes(in.shape), {stride, groups, split_input, list(padding), list(dilation)},
                       {training, relu, eps, momentum});
    SkConvBackward<T> t{};
    t.du = arrays.shaped("du", du, {p.n, p.branches, p.c_out, p.h_out, p.w_out});
    t.x = in.data;
    branch.fill(t);
    t.z = arrays.saved("z", z, training, {p.n, p.branches, p.c_out, p.h_out, p.w_out});
    t.mean = arrays.saved("mean", mean, training, {p.branches, p.c_out});
    t.inv_std = arrays.saved("inv_std", inv_std, training, {p.branches, p.c_out});
    t.dx = arrays.output_like("dx", in.shape);
    branch.fill_gradients(arrays, p, t);
    call(table<T>(target).sk_conv_grad, p, t);
    return arrays.outputs();
  });
}

}  // namespace

void add_sk_conv(py::module_& m) {
  using py::arg;
  m.def("sk_conv", &sk_conv, arg("x"), arg("weight"), arg("gamma"), arg("beta"), arg("moving_mean"),
        arg("moving_variance"), py::kw_only(), arg("padding"), arg("dilation"), arg("stride") = 1, arg("groups") = 1,
        arg("split_input") = false, arg("eps") = 1e-5f, arg("momentum") = 0.1f, arg("relu") = true,
        arg("training") = false, arg("backend") = "cpu", arg("isa") = py::none(),
        "x (n, c_in, h, w); weight, gamma, beta, moving_mean, moving_variance, padding, dilation: one a branch\n"
        "-> u (n, branches, c_out, h_out, w_out); training: also z like u, mean and inv_std (branches, c_out)");
  m.def("sk_conv_grad", &sk_conv_grad, arg("du"), arg("x"), arg("weight"), arg("gamma"), arg("beta"),
        arg("moving_mean"), arg("moving_variance"), arg("z") = py::none(), arg("mean") = py::none(),
        arg("inv_std") = py::none(), py::kw_only(), arg("padding"), arg("dilation"), arg("stride") = 1,
        arg("groups") = 1, arg("split_input") = false, arg("eps") = 1e-5f, arg("momentum") = 0.1f, arg("relu") = true,
        arg("training") = false, arg("backend") = "cpu", arg("isa") = py::none(),
        "-> dx, and lists dweight, dgamma, dbeta; training needs z, mean, inv_std");
}

}  // namespace sknet_ops::numpy
