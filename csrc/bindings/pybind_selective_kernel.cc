// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bindings/pybind_arrays.h"

namespace sknet_ops::numpy {
namespace {

using py::handle;
using Isa = std::optional<std::string>;
using Ints = std::vector<int64_t>;

check::IntList list(const Ints& v) { return {v.data(), static_cast<int64_t>(v.size())}; }

py::dict selective_kernel(handle x, const py::sequence& weight, const py::sequence& gamma, const py::sequence& beta,
                          const py::sequence& moving_mean, const py::sequence& moving_variance, handle fc_reduce,
                          handle attn_gamma, handle attn_beta, handle attn_moving_mean, handle attn_moving_variance,
                          handle fc_select, const Ints& padding, const Ints& dilation, int64_t stride, int64_t groups,
                          bool split_input, float eps, float momentum, float attn_eps, float attn_momentum, bool relu,
                          bool training, const std::string& backend, const Isa& isa, const Kept* kept) {
  const char* op = "selective_kernel";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x);
    const BranchInputs<T> branch(op, arrays, {weight, gamma, beta, moving_mean, moving_variance}, training);
    const Input<T> reduce = arrays.input("fc_reduce", fc_reduce), select = arrays.input("fc_select", fc_select);
    const NormInput<T> norm =
        arrays.norm("attn_", "", attn_gamma, attn_beta, attn_moving_mean, attn_moving_variance, training);
    SelectiveKernelParams p =
        check::selective_kernel(op, {branch.shapes(in.shape), reduce.shape, norm.shapes(), select.shape},
                                {stride, groups, split_input, list(padding), list(dilation)},
                                {training, relu, eps, momentum}, {training, true, attn_eps, attn_momentum});
    p.kept = kept_or_null(op, kept, training);
    const SkConvParams& c = p.conv;
    SelectiveKernelForward<T> t{};
    t.x = in.data;
    branch.fill(t);
    t.fc_reduce = reduce.data;
    t.attn_norm = norm.tensors();
    t.fc_select = select.data;
    t.y = arrays.output("y", {c.n, c.c_out, c.h_out, c.w_out});
    t.attention = arrays.output("attention", {c.n, c.branches, c.c_out});
    if (training) {
      t.z = arrays.output("z", {c.n, c.branches, c.c_out, c.h_out, c.w_out});
      t.mean = arrays.output("mean", {c.branches, c.c_out});
      t.inv_std = arrays.output("inv_std", {c.branches, c.c_out});
      t.pooled = arrays.output("pooled", {c.n, c.c_out});
      t.hidden = arrays.output("hidden", {c.n, p.c_reduced});
      t.attn_mean = arrays.output("attn_mean", {p.c_reduced});
      t.attn_inv_std = arrays.output("attn_inv_std", {p.c_reduced});
    }
    call(table<T>(target).selective_kernel, p, t);
    return arrays.outputs();
  });
}

py::dict selective_kernel_grad(handle dy, handle x, const py::sequence& weight, const py::sequence& gamma,
                               const py::sequence& beta, const py::sequence& moving_mean,
                               const py::sequence& moving_variance, handle fc_reduce, handle attn_gamma,
                               handle attn_beta, handle attn_moving_mean, handle attn_moving_variance, handle fc_select,
                               handle attention, handle z, handle mean, handle inv_std, handle pooled, handle hidden,
                               handle attn_mean, handle attn_inv_std, const Ints& padding, const Ints& dilation,
                               int64_t stride, int64_t groups, bool split_input, float eps, float momentum,
                               float attn_eps, float attn_momentum, bool relu, bool training,
                               const std::string& backend, const Isa& isa) {
  const char* op = "selective_kernel_grad";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x);
    const BranchInputs<T> branch(op, arrays, {weight, gamma, beta, moving_mean, moving_variance}, false);
    const Input<T> reduce = arrays.input("fc_reduce", fc_reduce), select = arrays.input("fc_select", fc_select);
    const NormInput<T> norm =
        arrays.norm("attn_", "", attn_gamma, attn_beta, attn_moving_mean, attn_moving_variance, false);
    const SelectiveKernelParams p =
        check::selective_kernel(op, {branch.shapes(in.shape), reduce.shape, norm.shapes(), select.shape},
                                {stride, groups, split_input, list(padding), list(dilation)},
                                {training, relu, eps, momentum}, {training, true, attn_eps, attn_momentum});
    const SkConvParams& c = p.conv;
    SelectiveKernelBackward<T> t{};
    t.dy = arrays.shaped("dy", dy, {c.n, c.c_out, c.h_out, c.w_out});
    t.x = in.data;
    branch.fill(t);
    t.fc_reduce = reduce.data;
    t.attn_norm = norm.tensors();
    t.fc_select = select.data;
    t.attention = arrays.shaped("attention", attention, {c.n, c.branches, c.c_out});
    t.z = arrays.saved("z", z, training, {c.n, c.branches, c.c_out, c.h_out, c.w_out});
    t.mean = arrays.saved("mean", mean, training, {c.branches, c.c_out});
    t.inv_std = arrays.saved("inv_std", inv_std, training, {c.branches, c.c_out});
    t.pooled = arrays.saved("pooled", pooled, training, {c.n, c.c_out});
    t.hidden = arrays.saved("hidden", hidden, training, {c.n, p.c_reduced});
    t.attn_mean = arrays.saved("attn_mean", attn_mean, training, {p.c_reduced});
    t.attn_inv_std = arrays.saved("attn_inv_std", attn_inv_std, training, {p.c_reduced});
    t.dx = arrays.output_like("dx", in.shape);
    branch.fill_gradients(arrays, c, t);
    t.dfc_reduce = arrays.output_like("dfc_reduce", reduce.shape);
    t.dattn_gamma = arrays.output("dattn_gamma", {p.c_reduced});
    t.dattn_beta = arrays.output("dattn_beta", {p.c_reduced});
    t.dfc_select = arrays.output_like("dfc_select", select.shape);
    call(table<T>(target).selective_kernel_grad, p, t);
    return arrays.outputs();
  });
}

}  // namespace

void add_selective_kernel(py::module_& m) {
  using py::arg;
  m.def("selective_kernel", &selective_kernel, arg("x"), arg("weight"), arg("gamma"), arg("beta"), arg("moving_mean"),
        arg("moving_variance"), arg("fc_reduce"), arg("attn_gamma"), arg("attn_beta"), arg("attn_moving_mean"),
        arg("attn_moving_variance"), arg("fc_select"), py::kw_only(), arg("padding"), arg("dilation"),
        arg("stride") = 1, arg("groups") = 1, arg("split_input") = false, arg("eps") = 1e-5f, arg("momentum") = 0.1f,
        arg("attn_eps") = 1e-5f, arg("attn_momentum") = 0.1f, arg("relu") = true, arg("training") = false,
        arg("backend") = "cpu", arg("isa") = py::none(), arg("kept") = py::none(),
        "The arguments of sk_conv, then those of sk_attention\n"
        "-> y (n, c_out, h_out, w_out), attention (n, branches, c_out); training: also z, mean, inv_std, pooled,\n"
        "hidden, attn_mean, attn_inv_std");
  m.def("selective_kernel_grad", &selective_kernel_grad, arg("dy"), arg("x"), arg("weight"), arg("gamma"), arg("beta"),
        arg("moving_mean"), arg("moving_variance"), arg("fc_reduce"), arg("attn_gamma"), arg("attn_beta"),
        arg("attn_moving_mean"), arg("attn_moving_variance"), arg("fc_select"), arg("attention"), arg("z") = py::none(),
        arg("mean") = py::none(), arg("inv_std") = py::none(), arg("pooled") = py::none(), arg("hidden") = py::none(),
        arg("attn_mean") = py::none(), arg("attn_inv_std") = py::none(), py::kw_only(), arg("padding"), arg("dilation"),
        arg("stride") = 1, arg("groups") = 1, arg("split_input") = false, arg("eps") = 1e-5f, arg("momentum") = 0.1f,
        arg("attn_eps") = 1e-5f, arg("attn_momentum") = 0.1f, arg("relu") = true, arg("training") = false,
        arg("backend") = "cpu", arg("isa") = py::none(),
        "-> dx, lists dweight, dgamma, dbeta, then dfc_reduce, dattn_gamma, dattn_beta, dfc_select;\n"
        "training needs all that the forward op saved");
}

}  // namespace sknet_ops::numpy
