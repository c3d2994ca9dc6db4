// SPDX-License-Identifier: Apache-2.0
// NumPy arrays in and out of one call: type checks here, shape checks in common/check.h.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/kept.h"
#include "sknet_ops/ops.h"

namespace sknet_ops::numpy {

namespace py = pybind11;
using check::NormShapes;
using check::TensorShape;

// Which table a call goes to.
struct Target {
  bool reference;
  cpu::Isa isa;
};

Target make_target(const char* op, const std::string& backend, const std::optional<std::string>& isa);

// Fresh outputs are filled with NaN first if set, so that a test sees what a kernel did not write.
bool poison_outputs();

template <typename T>
const OpTable<T>& table(const Target& target);
template <>
const OpTable<float>& table(const Target& target);
template <>
const OpTable<double>& table(const Target& target);

template <typename T>
struct Input {
  TensorShape shape;
  T* data;
};

template <typename T>
struct NormInput {
  Input<T> gamma, beta, moving_mean, moving_variance;
  NormShapes shapes() const { return {gamma.shape, beta.shape, moving_mean.shape, moving_variance.shape}; }
  NormTensors<T> tensors() const { return {gamma.data, beta.data, moving_mean.data, moving_variance.data}; }
};

[[noreturn]] inline void value_error(const char* op, const std::string& arg, const std::string& text) {
  throw py::value_error(std::string(op) + ": " + arg + ": " + text);
}

[[noreturn]] inline void type_error(const char* op, const std::string& arg, const std::string& text) {
  throw py::type_error(std::string(op) + ": " + arg + ": " + text);
}

inline std::string indexed(const char* name, size_t i) { return std::string(name) + "[" + std::to_string(i) + "]"; }

// The arrays of one call. Keeps every input alive until it goes.
template <typename T>
class Arrays {
 public:
  explicit Arrays(const char* op) : op_(op) {}

  Input<T> input(const std::string& name, const py::handle& value, bool writable = false) {
    if (!py::isinstance<py::array>(value)) {
      type_error(op_, name, "got " + std::string(py::str(py::type::handle_of(value))) + ", expected a NumPy array");
    }
    auto array = py::reinterpret_borrow<py::array>(value);
    if (!array.dtype().equal(py::dtype::of<T>())) {
      type_error(op_, name,
                 "got dtype " + std::string(py::str(array.dtype())) + ", expected " +
                     std::string(py::str(py::dtype::of<T>())));
    }
    constexpr int kFlags = py::detail::npy_api::NPY_ARRAY_ALIGNED_ | py::array::c_style;
    if ((array.flags() & kFlags) != kFlags) {
      value_error(op_, name, "got a strided or misaligned array, expected a C-contiguous one (np.ascontiguousarray)");
    }
    if (writable && !array.writeable()) {
      value_error(op_, name, "got a read-only array, expected a writable one: training updates it in place");
    }
    inputs_.append(array);
    return {{reinterpret_cast<const int64_t*>(array.shape()), static_cast<int>(array.ndim())},
            const_cast<T*>(static_cast<const T*>(array.data()))};
  }

  NormInput<T> norm(const std::string& prefix, const std::string& suffix, const py::handle& gamma,
                    const py::handle& beta, const py::handle& moving_mean, const py::handle& moving_variance,
                    bool writable) {
    return {input(prefix + "gamma" + suffix, gamma), input(prefix + "beta" + suffix, beta),
            input(prefix + "moving_mean" + suffix, moving_mean, writable),
            input(prefix + "moving_variance" + suffix, moving_variance, writable)};
  }

  // A saved tensor of the forward op: needed in training, ignored otherwise.
  const T* saved(const char* name, const py::handle& value, bool training, std::initializer_list<int64_t> dims) {
    if (!training) {
      return nullptr;
    }
    if (value.is_none()) {
      value_error(op_, name, "got None, expected what the forward op saved in training");
    }
    return shaped(name, value, dims);
  }

  const T* shaped(const char* name, const py::handle& value, std::initializer_list<int64_t> dims) {
    const Input<T> in = input(name, value);
    check::same_shape(op_, name, in.shape, dims);
    return in.data;
  }

  T* output(const char* name, std::initializer_list<int64_t> dims) {
    py::array_t<T> array = fresh(dims);
    outputs_[name] = array;
    return array.mutable_data();
  }

  // One output a branch, gathered in a list.
  T* branch_output(const char* name, std::initializer_list<int64_t> dims) {
    py::array_t<T> array = fresh(dims);
    if (!outputs_.contains(name)) {
      outputs_[name] = py::list();
    }
    py::list(outputs_[name]).append(array);
    return array.mutable_data();
  }

  // A gradient has the shape of what it is the gradient of.
  T* output_like(const char* name, TensorShape like) {
    py::array_t<T> array = fresh(like);
    outputs_[name] = array;
    return array.mutable_data();
  }

  py::dict outputs() const { return outputs_; }

 private:
  py::array_t<T> fresh(std::initializer_list<int64_t> dims) {
    return fresh(TensorShape{dims.begin(), static_cast<int>(dims.size())});
  }

  py::array_t<T> fresh(TensorShape shape) {
    py::array_t<T> array(std::vector<py::ssize_t>(shape.dims, shape.dims + shape.ndim));
    if (poison_outputs()) {
      std::fill_n(array.mutable_data(), array.size(), std::numeric_limits<T>::quiet_NaN());
    }
    return array;
  }

  const char* op_;
  py::list inputs_;
  py::dict outputs_;
};

// Branch-wise arguments of sk_conv and selective_kernel.
struct BranchArguments {
  py::sequence weight, gamma, beta, moving_mean, moving_variance;
};

template <typename T>
struct BranchInputs {
  int branches;
  Input<T> weight[kMaxBranches];
  NormInput<T> norm[kMaxBranches];

  BranchInputs(const char* op, Arrays<T>& arrays, const BranchArguments& a, bool training)
      : branches(check::branches(op, static_cast<int64_t>(a.weight.size()))) {
    same_length(op, "gamma", a.gamma);
    same_length(op, "beta", a.beta);
    same_length(op, "moving_mean", a.moving_mean);
    same_length(op, "moving_variance", a.moving_variance);
    for (int m = 0; m < branches; ++m) {
      weight[m] = arrays.input(indexed("weight", m), a.weight[m]);
      norm[m] = arrays.norm("", "[" + std::to_string(m) + "]", a.gamma[m], a.beta[m], a.moving_mean[m],
                            a.moving_variance[m], training);
    }
  }

  check::SkConvShapes shapes(TensorShape x) const {
    check::SkConvShapes s{x, branches, {}, {}};
    for (int m = 0; m < branches; ++m) {
      s.weight[m] = weight[m].shape;
      s.norm[m] = norm[m].shapes();
    }
    return s;
  }

  // Tensors is any of the forward and backward structs that hold weight[] and norm[].
  template <typename Tensors>
  void fill(Tensors& t) const {
    for (int m = 0; m < branches; ++m) {
      t.weight[m] = weight[m].data;
      t.norm[m] = norm[m].tensors();
    }
  }

  template <typename Tensors>
  void fill_gradients(Arrays<T>& arrays, const SkConvParams& p, Tensors& t) const {
    for (int m = 0; m < branches; ++m) {
      t.dweight[m] = arrays.branch_output("dweight", {p.c_out, p.branch_c_in() / p.groups, p.kernel[m], p.kernel[m]});
      t.dgamma[m] = arrays.branch_output("dgamma", {p.c_out});
      t.dbeta[m] = arrays.branch_output("dbeta", {p.c_out});
    }
  }

 private:
  void same_length(const char* op, const char* name, const py::sequence& list) const {
    if (static_cast<int>(list.size()) != branches) {
      value_error(
          op, name,
          "got " + std::to_string(list.size()) + " arrays, expected " + std::to_string(branches) + ", one a branch");
    }
  }
};

// Calls body(T{}) with T = float, or double if x is that and the target is the reference.
template <typename Body>
py::dict dispatch(const Target& target, const py::handle& x, Body body) {
  const bool wide = target.reference && py::isinstance<py::array>(x) &&
                    py::reinterpret_borrow<py::array>(x).dtype().equal(py::dtype::of<double>());
  return wide ? body(double{}) : body(float{});
}

// Of an argument that may be None.
inline KeptWeights* kept_or_null(const char* op, const Kept* kept, bool training) {
  if (kept != nullptr && training) value_error(op, "kept", "got one in training, expected None");
  return kept == nullptr ? nullptr : kept->get();
}

// The op itself, while other Python threads run.
template <typename Function, typename Params, typename Tensors>
void call(Function function, const Params& params, const Tensors& tensors) {
  py::gil_scoped_release release;
  function(params, tensors);
}

void add_conv_bn_act(py::module_& m);
void add_sk_conv(py::module_& m);
void add_sk_attention(py::module_& m);
void add_sk_select(py::module_& m);
void add_selective_kernel(py::module_& m);
void add_max_pool(py::module_& m);
void add_pool_dense(py::module_& m);

}  // namespace sknet_ops::numpy
