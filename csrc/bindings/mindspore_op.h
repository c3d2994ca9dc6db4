// SPDX-License-Identifier: Apache-2.0
// From one description of an op to the four C entries that ops.Custom(func_type="aot") looks up:
//   <op>Init        reads the attributes once and keeps them
//   <op>InferShape  output shapes; dimensions may be unknown (-1), and so may the rank (one dimension, -2)
//   <op>InferType   float32 in, float32 out
//   <op>            the call
// Every op is declared to MindSpore as having several outputs, even where it has one: then one entry, one signature,
// serves the training form and the inference form.
//
// A description is a struct with
//   struct Attrs : mindspore::AotKernelData   built from an AotExtra
//   static constexpr const char* kName
//   static int inputs(const Attrs&), outputs(const Attrs&)
//   static std::string input_name(const Attrs&, int)
//   static std::vector<Dims> infer(const Attrs&, const Shapes& inputs)
//   static void run(const Attrs&, const Shapes& inputs, void** params)   params: inputs, then outputs
//
// Errors leave as std::invalid_argument: MindSpore turns any std::exception into a RuntimeError with its text, and
// aborts the process on anything else.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/mindspore_abi.h"
#include "bindings/profile.h"
#include "common/check.h"
#include "common/kept.h"
#include "sknet_ops/ops.h"

namespace sknet_ops::glue {

using Dims = std::vector<int64_t>;
inline constexpr int64_t kUnknown = -1;

class Shapes {
 public:
  Shapes(const int* ndims, int64_t* const* dims) : ndims_(ndims), dims_(dims) {}
  check::TensorShape operator[](int i) const { return {dims_[i], ndims_[i]}; }
  Dims dims(int i) const { return {dims_[i], dims_[i] + ndims_[i]}; }

 private:
  const int* ndims_;
  int64_t* const* dims_;
};

inline bool known(check::TensorShape shape) {
  for (int i = 0; i < shape.ndim; ++i) {
    if (shape.dims[i] < 0) return false;
  }
  return true;
}

// Dimension `i` of a tensor that has, or may turn out to have, rank `ndim`.
inline int64_t dim(check::TensorShape shape, int ndim, int i) { return shape.ndim == ndim ? shape.dims[i] : kUnknown; }

// Output size of a convolution, unknown if an operand is.
inline int64_t out_dim(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  return size < 0 || kernel < 0 ? kUnknown : check::conv_out_size(size, kernel, stride, padding, dilation);
}

// Walks over the buffers of one call in their documented order.
class Cursor {
 public:
  explicit Cursor(void** params) : at_(params) {}
  float* next() { return static_cast<float*>(*at_++); }
  template <typename T>
  void fill(T** targets, int count) {
    for (int i = 0; i < count; ++i) targets[i] = next();
  }

 private:
  void** at_;
};

// Tells the backend of this library on which stream the next call on this thread runs; a CPU has none.
#if defined(SKNET_OPS_HAS_STREAMS)
void set_stream(void* stream);
#else
inline void set_stream(void*) {}
#endif

const char* type_name(mindspore::TypeId type);
[[noreturn]] void fail(const char* op, const std::string& what);

// Attribute readers: an absent attribute is an error that names it, where MindSpore's own text would be about nothing.
bool bool_attr(const char* op, mindspore::AotExtra& extra, const char* name);
int64_t int_attr(const char* op, mindspore::AotExtra& extra, const char* name);
float float_attr(const char* op, mindspore::AotExtra& extra, const char* name);
std::string str_attr(const char* op, mindspore::AotExtra& extra, const char* name);
Dims ints_attr(const char* op, mindspore::AotExtra& extra, const char* name);
NormParams norm_attrs(const char* op, mindspore::AotExtra& extra, const std::string& prefix = "");

template <class Op>
int init(mindspore::AotExtra* extra) {
  extra->SetKernelData(new typename Op::Attrs(Op::kName, *extra));
  return 0;
}

template <class Op>
std::vector<Dims> infer_shape(const int* ndims, int64_t* const* shapes, mindspore::AotExtra* extra) {
  const typename Op::Attrs attrs(Op::kName, *extra);
  return Op::infer(attrs, Shapes(ndims, shapes));
}

template <class Op>
std::vector<mindspore::TypeId> infer_type(const std::vector<mindspore::TypeId>& types, mindspore::AotExtra* extra) {
  const typename Op::Attrs attrs(Op::kName, *extra);
  const int inputs = Op::inputs(attrs);
  if (static_cast<int>(types.size()) != inputs) {
    fail(Op::kName, "got " + std::to_string(types.size()) + " inputs, expected " + std::to_string(inputs));
  }
  for (int i = 0; i < inputs; ++i) {
    if (types[i] != mindspore::kNumberTypeFloat32) {
      check::float32(Op::kName, Op::input_name(attrs, i).c_str(), type_name(types[i]));
    }
  }
  return std::vector<mindspore::TypeId>(Op::outputs(attrs), mindspore::kNumberTypeFloat32);
}

// Whether the profile is to count the op: not one that calls others, which are counted.
template <class Op>
inline constexpr bool is_counted = true;

template <class Op>
int call(int n, void** params, const int* ndims, int64_t* const* shapes, const char* const* dtypes, void* extra) {
  // The kernel data were made by init<Op> on this very object.
  const auto& attrs =
      static_cast<const typename Op::Attrs&>(*static_cast<const mindspore::AotExtra*>(extra)->KernelData());
  const int inputs = Op::inputs(attrs), outputs = Op::outputs(attrs);
  if (n != inputs + outputs) {
    fail(Op::kName, "got " + std::to_string(n) + " buffers, expected " + std::to_string(inputs) + " inputs and " +
                        std::to_string(outputs) + " outputs");
  }
  for (int i = 0; i < n; ++i) {
    if (std::strcmp(dtypes[i], "float32") != 0) {
      const std::string name = i < inputs ? Op::input_name(attrs, i) : "output " + std::to_string(i - inputs);
      check::float32(Op::kName, name.c_str(), dtypes[i]);
    }
  }
  const profile::Timer timer(is_counted<Op> ? Op::kName : nullptr, n, ndims, shapes);
  Op::run(attrs, Shapes(ndims, shapes), params);
  return 0;
}

}  // namespace sknet_ops::glue

#define SKNET_OPS_MINDSPORE_OP(entry, Op)                                                                        \
  extern "C" {                                                                                                   \
  SKNET_OPS_API int entry##Init(int*, int64_t**, const char**, mindspore::AotExtra* extra) {                     \
    return sknet_ops::glue::init<Op>(extra);                                                                     \
  }                                                                                                              \
  SKNET_OPS_API std::vector<sknet_ops::glue::Dims> entry##InferShape(int* ndims, int64_t** shapes,               \
                                                                     mindspore::AotExtra* extra) {               \
    return sknet_ops::glue::infer_shape<Op>(ndims, shapes, extra);                                               \
  }                                                                                                              \
  SKNET_OPS_API std::vector<mindspore::TypeId> entry##InferType(std::vector<mindspore::TypeId> types,            \
                                                                mindspore::AotExtra* extra) {                    \
    return sknet_ops::glue::infer_type<Op>(types, extra);                                                        \
  }                                                                                                              \
  SKNET_OPS_API int entry(int n, void** params, int* ndims, int64_t** shapes, const char** dtypes, void* stream, \
                          void* extra) {                                                                         \
    sknet_ops::glue::set_stream(stream);                                                                         \
    return sknet_ops::glue::call<Op>(n, params, ndims, shapes, dtypes, extra);                                   \
  }                                                                                                              \
  }
