// SPDX-License-Identifier: Apache-2.0
// The one place where shapes and attributes are checked and turned into parameter structs.
//
// Every function throws std::invalid_argument that names the op, the argument, what came and what was expected.
// Whatever passes is safe for every backend: no kernel checks anything again.
// Only plain structs cross this interface, so it serves both C++ ABIs: each binding compiles its own copy.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "sknet_ops/params.h"

namespace sknet_ops::check {

struct TensorShape {
  const int64_t* dims;
  int ndim;
};

struct NormShapes {
  TensorShape gamma, beta, moving_mean, moving_variance;
};

struct IntList {
  const int64_t* data;
  int64_t size;
};

struct ConvAttrs {
  int64_t stride, padding, dilation, groups;
};

struct SkConvAttrs {
  int64_t stride, groups;
  bool split_input;
  IntList padding, dilation;  // one entry a branch
};

struct PoolAttrs {
  int64_t kernel, stride, padding;
  bool same;  // pads as much as makes the output ceil(size / stride), the larger half below and on the right
};

struct ConvBnActShapes {
  TensorShape x, weight;
  NormShapes norm;
  const TensorShape* residual;  // null: none
};

struct SkConvShapes {
  TensorShape x;
  int branches;
  TensorShape weight[kMaxBranches];
  NormShapes norm[kMaxBranches];
};

struct SkAttentionShapes {
  TensorShape u, fc_reduce;  // fc_reduce: (c_reduced, c) or (c_reduced, c, 1, 1)
  NormShapes norm;
  TensorShape fc_select;  // (branches * c, c_reduced) or (branches * c, c_reduced, 1, 1)
};

struct SelectiveKernelShapes {
  SkConvShapes conv;
  TensorShape fc_reduce;
  NormShapes attn_norm;
  TensorShape fc_select;
};

// `op` is the name in the messages, so that an op and its gradient can share a check.
ConvBnActParams conv_bn_act(const char* op, const ConvBnActShapes& shapes, const ConvAttrs& attrs,
                            const NormParams& norm);
SkConvParams sk_conv(const char* op, const SkConvShapes& shapes, const SkConvAttrs& attrs, const NormParams& norm);
SkAttentionParams sk_attention(const char* op, const SkAttentionShapes& shapes, const NormParams& norm);
SkSelectParams sk_select(const char* op, TensorShape u, TensorShape attention);
SelectiveKernelParams selective_kernel(const char* op, const SelectiveKernelShapes& shapes, const SkConvAttrs& attrs,
                                       const NormParams& norm, const NormParams& attn_norm);

MaxPoolParams max_pool(const char* op, TensorShape x, const PoolAttrs& attrs);
PoolDenseParams pool_dense(const char* op, TensorShape x, TensorShape weight, const TensorShape* bias);

// `count` is 1..kMaxBranches; for callers that have to know before they fill a struct of kMaxBranches entries.
int branches(const char* op, int64_t count);
// The argument has exactly these dimensions; for gradients and saved tensors.
void same_shape(const char* op, const char* arg, TensorShape got, std::initializer_list<int64_t> expected);
// `dtype` is MindSpore's or NumPy's name of it.
void float32(const char* op, const char* arg, const char* dtype);
// (size + 2 padding - dilation (kernel - 1) - 1) / stride + 1, rounded down; 0 or less: the kernel does not fit.
int64_t conv_out_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation);
// Output size of a pooling over `size`, 0 or less if the kernel does not fit.
int64_t pool_out_size(int64_t size, const PoolAttrs& attrs);

}  // namespace sknet_ops::check
