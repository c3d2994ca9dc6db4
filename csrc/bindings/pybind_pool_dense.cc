// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bindings/pybind_arrays.h"

namespace sknet_ops::numpy {
namespace {

using py::handle;
using Isa = std::optional<std::string>;

py::dict pool_dense(handle x, handle weight, handle bias, const std::string& backend, const Isa& isa) {
  const char* op = "pool_dense";
  const Target target = make_target(op, backend, isa);
  return dispatch(target, x, [&](auto zero) {
    using T = decltype(zero);
    Arrays<T> arrays(op);
    const Input<T> in = arrays.input("x", x), w = arrays.input("weight", weight);
    Input<T> b{};
    if (!bias.is_none()) b = arrays.input("bias", bias);
    const PoolDenseParams p = check::pool_dense(op, in.shape, w.shape, bias.is_none() ? nullptr : &b.shape);
    const PoolDenseForward<T> t{in.data, w.data, b.data, arrays.output("y", {p.n, p.c_out})};
    call(table<T>(target).pool_dense, p, t);
    return arrays.outputs();
  });
}

}  // namespace

void add_pool_dense(py::module_& m) {
  using py::arg;
  m.def("pool_dense", &pool_dense, arg("x"), arg("weight"), arg("bias") = py::none(), py::kw_only(),
        arg("backend") = "cpu", arg("isa") = py::none(), "x (n, c, h, w) -> y (n, c_out)");
}

}  // namespace sknet_ops::numpy
