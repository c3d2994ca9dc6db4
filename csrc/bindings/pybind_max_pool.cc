// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bindings/pybind_arrays.h"

namespace sknet_ops::numpy {
namespace {

using py::handle;
using Isa = std::optional<std::string>;

py::dict max_pool(handle x, int64_t kernel, int64_t stride, int64_t padding, bool same, const std::string& backend,
                  const Isa& isa) {
  const char* op = "max_pool";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x);
    const MaxPoolParams p = check::max_pool(op, in.shape, {kernel, stride, padding, same});
    const MaxPoolForward<T> t{in.data, arrays.output("y", {p.n, p.c, p.h_out, p.w_out})};
    call(table<T>(target).max_pool, p, t);
    return arrays.outputs();
  });
}

py::dict max_pool_grad(handle dy, handle x, int64_t kernel, int64_t stride, int64_t padding, bool same,
                       const std::string& backend, const Isa& isa) {
  const char* op = "max_pool_grad";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x);
    const MaxPoolParams p = check::max_pool(op, in.shape, {kernel, stride, padding, same});
    const MaxPoolBackward<T> t{arrays.shaped("dy", dy, {p.n, p.c, p.h_out, p.w_out}), in.data,
                               arrays.output_like("dx", in.shape)};
    call(table<T>(target).max_pool_grad, p, t);
    return arrays.outputs();
  });
}

}  // namespace

void add_max_pool(py::module_& m) {
  using py::arg;
  m.def("max_pool", &max_pool, arg("x"), py::kw_only(), arg("kernel"), arg("stride") = 1, arg("padding") = 0,
        arg("same") = false, arg("backend") = "cpu", arg("isa") = py::none(),
        "x (n, c, h, w) -> y (n, c, h_out, w_out)");
  m.def("max_pool_grad", &max_pool_grad, arg("dy"), arg("x"), py::kw_only(), arg("kernel"), arg("stride") = 1,
        arg("padding") = 0, arg("same") = false, arg("backend") = "cpu", arg("isa") = py::none(), "-> dx");
}

}  // namespace sknet_ops::numpy
