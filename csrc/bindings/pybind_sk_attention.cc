// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bindings/pybind_arrays.h"

namespace sknet_ops::numpy {
namespace {

using py::handle;
using Isa = std::optional<std::string>;

py::dict sk_attention(handle u, handle fc_reduce, handle gamma, handle beta, handle moving_mean, handle moving_variance,
                      handle fc_select, float eps, float momentum, bool training, const std::string& backend,
                      const Isa& isa) {
  const char* op = "sk_attention";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, u, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("u", u), reduce = arrays.input("fc_reduce", fc_reduce);
    const NormInput<T> norm = arrays.norm("", "", gamma, beta, moving_mean, moving_variance, training);
    const Input<T> select = arrays.input("fc_select", fc_select);
    const SkAttentionParams p =
        check::sk_attention(op, {in.shape, reduce.shape, norm.shapes(), select.shape}, {training, true, eps, momentum});
    SkAttentionForward<T> t{};
    t.u = in.data;
    t.fc_reduce = reduce.data;
    t.norm = norm.tensors();
    t.fc_select = select.data;
    t.attention = arrays.output("attention", {p.n, p.branches, p.c});
    if (training) {
      t.pooled = arrays.output("pooled", {p.n, p.c});
      t.hidden = arrays.output("hidden", {p.n, p.c_reduced});
      t.mean = arrays.output("mean", {p.c_reduced});
      t.inv_std = arrays.output("inv_std", {p.c_reduced});
    }
    call(table<T>(target).sk_attention, p, t);
    return arrays.outputs();
  });
}

py::dict sk_attention_grad(handle dattention, handle u, handle fc_reduce, handle gamma, handle beta, handle moving_mean,
                           handle moving_variance, handle fc_select, handle attention, handle pooled, handle hidden,
                           handle mean, handle inv_std, float eps, float momentum, bool training,
                           const std::string& backend, const Isa& isa) {
  const char* op = "sk_attention_grad";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, u, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("u", u), reduce = arrays.input("fc_reduce", fc_reduce);
    const NormInput<T> norm = arrays.norm("", "", gamma, beta, moving_mean, moving_variance, false);
    const Input<T> select = arrays.input("fc_select", fc_select);
    const SkAttentionParams p =
        check::sk_attention(op, {in.shape, reduce.shape, norm.shapes(), select.shape}, {training, true, eps, momentum});
    SkAttentionBackward<T> t{};
    t.dattention = arrays.shaped("dattention", dattention, {p.n, p.branches, p.c});
    t.u = in.data;
    t.fc_reduce = reduce.data;
    t.norm = norm.tensors();
    t.fc_select = select.data;
    t.attention = arrays.shaped("attention", attention, {p.n, p.branches, p.c});
    t.pooled = arrays.saved("pooled", pooled, training, {p.n, p.c});
    t.hidden = arrays.saved("hidden", hidden, training, {p.n, p.c_reduced});
    t.mean = arrays.saved("mean", mean, training, {p.c_reduced});
    t.inv_std = arrays.saved("inv_std", inv_std, training, {p.c_reduced});
    t.du = arrays.output_like("du", in.shape);
    t.dfc_reduce = arrays.output_like("dfc_reduce", reduce.shape);
    t.dgamma = arrays.output("dgamma", {p.c_reduced});
    t.dbeta = arrays.output("dbeta", {p.c_reduced});
    t.dfc_select = arrays.output_like("dfc_select", select.shape);
    call(table<T>(target).sk_attention_grad, p, t);
    return arrays.outputs();
  });
}

}  // namespace

void add_sk_attention(py::module_& m) {
  using py::arg;
  m.def("sk_attention", &sk_attention, arg("u"), arg("fc_reduce"), arg("gamma"), arg("beta"), arg("moving_mean"),
        arg("moving_variance"), arg("fc_select"), py::kw_only(), arg("eps") = 1e-5f, arg("momentum") = 0.1f,
        arg("training") = false, arg("backend") = "cpu", arg("isa") = py::none(),
        "u (n, branches, c, h, w), fc_reduce (d, c[, 1, 1]), norm vectors (d,), fc_select (branches * c, d[, 1, 1])\n"
        "-> attention (n, branches, c); training: also pooled (n, c), hidden (n, d), mean and inv_std (d,)");
  m.def("sk_attention_grad", &sk_attention_grad, arg("dattention"), arg("u"), arg("fc_reduce"), arg("gamma"),
        arg("beta"), arg("moving_mean"), arg("moving_variance"), arg("fc_select"), arg("attention"),
        arg("pooled") = py::none(), arg("hidden") = py::none(), arg("mean") = py::none(), arg("inv_std") = py::none(),
        py::kw_only(), arg("eps") = 1e-5f, arg("momentum") = 0.1f, arg("training") = false, arg("backend") = "cpu",
        arg("isa") = py::none(),
        "-> du, dfc_reduce, dgamma, dbeta, dfc_select; training needs pooled, hidden, mean, inv_std");
}

}  // namespace sknet_ops::numpy
