// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bindings/pybind_arrays.h"

namespace sknet_ops::numpy {
namespace {

using py::handle;
using Isa = std::optional<std::string>;

py::dict sk_select(handle u, handle attention, const std::string& backend, const Isa& isa) {
  const char* op = "sk_select";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, u, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("u", u), a = arrays.input("attention", attention);
    const SkSelectParams p = check::sk_select(op, in.shape, a.shape);
    const SkSelectForward<T> t{in.data, a.data, arrays.output("y", {p.n, p.c, p.h, p.w})};
    call(table<T>(target).sk_select, p, t);
    return arrays.outputs();
  });
}

py::dict sk_select_grad(handle dy, handle u, handle attention, const std::string& backend, const Isa& isa) {
  const char* op = "sk_select_grad";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, u, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("u", u), a = arrays.input("attention", attention);
    const SkSelectParams p = check::sk_select(op, in.shape, a.shape);
    const SkSelectBackward<T> t{arrays.shaped("dy", dy, {p.n, p.c, p.h, p.w}), in.data, a.data,
                                arrays.output_like("du", in.shape), arrays.output_like("dattention", a.shape)};
    call(table<T>(target).sk_select_grad, p, t);
    return arrays.outputs();
  });
}

}  // namespace

void add_sk_select(py::module_& m) {
  using py::arg;
  m.def("sk_select", &sk_select, arg("u"), arg("attention"), py::kw_only(), arg("backend") = "cpu",
        arg("isa") = py::none(), "u (n, branches, c, h, w), attention (n, branches, c) -> y (n, c, h, w)");
  m.def("sk_select_grad", &sk_select_grad, arg("dy"), arg("u"), arg("attention"), py::kw_only(), arg("backend") = "cpu",
        arg("isa") = py::none(), "-> du, dattention");
}

}  // namespace sknet_ops::numpy
