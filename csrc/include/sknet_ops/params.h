// SPDX-License-Identifier: Apache-2.0
// Plain structs that describe one call of one op. No framework types, no std types: they cross every ABI.
//
// Layouts (row-major, contiguous):
//   x          (n, c_in, h, w)
//   weight     (c_out, c_in_per_group, kernel, kernel)
//   u, z       (n, branches, c_out, h_out, w_out)    u: activated branches, z: raw convolution outputs
//   attention  (n, branches, c_out)
//   y          (n, c_out, h_out, w_out)
// mean and inv_std are those that the normalisation used: inv_std = 1 / sqrt(variance + eps), biased variance.
// Running statistics are updated as MindSpore and PyTorch do:
//   moving <- (1 - momentum) * moving + momentum * batch
// with the unbiased batch variance, count / (count - 1) times the biased one; 1 times if count is 1.
#pragma once

#include <cstdint>

namespace sknet_ops {

inline constexpr int kMaxBranches = 4;

// One 2-D convolution, square kernel, same stride, padding and dilation in both directions.
struct ConvShape {
  int64_t n, c_in, h, w;  // c_in: channels that this convolution reads (all groups together)
  int64_t c_out, groups;
  int64_t kernel, stride, padding, dilation;
  int64_t h_out, w_out;
};

struct NormParams {
  bool training;  // true: batch statistics, and the moving ones are updated in place
  bool relu;      // false: identity
  float eps;
  float momentum;  // weight of the new batch in the moving statistics
};

// Packed weights that a frozen layer's op keeps between calls (ops.h).
struct KeptWeights;

struct ConvBnActParams {
  ConvShape conv;
  NormParams norm;
  KeptWeights* kept = nullptr;  // not in training
};

struct SkConvParams {
  int64_t n, c_in, h, w;  // c_in: channels of the input tensor
  int64_t c_out, groups, stride, h_out, w_out;
  int branches;      // 1..kMaxBranches
  bool split_input;  // branch m reads channels [m, m + 1) * c_in / branches
  int64_t kernel[kMaxBranches], padding[kMaxBranches], dilation[kMaxBranches];
  NormParams norm;

  int64_t branch_c_in() const { return split_input ? c_in / branches : c_in; }
  ConvShape branch(int m) const {
    return {n, branch_c_in(), h, w, c_out, groups, kernel[m], stride, padding[m], dilation[m], h_out, w_out};
  }
};

struct SkAttentionParams {
  int64_t n, c, h, w;  // of one branch
  int branches;
  int64_t c_reduced;  // width of the hidden layer
  NormParams norm;    // of the hidden layer; relu is always true
};

struct SkSelectParams {
  int64_t n, c, h, w;
  int branches;
};

// The largest value of each square window, over x (n, c, h, w) with padding that no window's maximum can be. NaN is
// larger than anything. Every window holds a value: padding is at most half the kernel.
struct MaxPoolParams {
  int64_t n, c, h, w;
  int64_t kernel, stride;
  int64_t pad_top, pad_left;  // what is missing below and on the right is padding too
  int64_t h_out, w_out;
};

// The head of a network: the mean of each map of x (n, c, h, w), then a dense layer, weight (c_out, c). Inference only.
struct PoolDenseParams {
  int64_t n, c, h, w;
  int64_t c_out;
};

struct SelectiveKernelParams {
  SkConvParams conv;
  int64_t c_reduced;
  NormParams attn_norm;
  KeptWeights* kept = nullptr;  // not in training

  SkAttentionParams attention() const {
    return {conv.n, conv.c_out, conv.h_out, conv.w_out, conv.branches, c_reduced, attn_norm};
  }
  SkSelectParams select() const { return {conv.n, conv.c_out, conv.h_out, conv.w_out, conv.branches}; }
};

// ---- tensors of each call; T is float for the backends, float or double for the reference ----

template <typename T>
struct NormTensors {  // each of length channels
  const T* gamma;
  const T* beta;
  T* moving_mean;  // written only when training
  T* moving_variance;
};

template <typename T>
struct ConvBnActForward {
  const T *x, *weight;
  NormTensors<T> norm;
  const T* residual;  // like y, or null
  T* y;
  T *z, *mean, *inv_std;  // saved for backward; all null unless training
};

template <typename T>
struct ConvBnActBackward {
  const T *dy, *x, *weight, *gamma, *beta;
  const T* y;               // the forward result: tells where ReLU was open
  const T* z;               // null: recomputed (inference statistics keep no z)
  const T *mean, *inv_std;  // training: as saved. Otherwise null, and the moving ones are used:
  const T *moving_mean, *moving_variance;
  T* dx;  // or null
  T *dweight, *dgamma, *dbeta;
  T* dresidual;  // or null
};

template <typename T>
struct SkConvForward {
  const T* x;
  const T* weight[kMaxBranches];
  NormTensors<T> norm[kMaxBranches];
  T* u;
  T *z, *mean, *inv_std;  // z like u; mean, inv_std (branches, c_out); all null unless training
};

template <typename T>
struct SkConvBackward {
  const T *du, *x;
  const T* weight[kMaxBranches];
  NormTensors<T> norm[kMaxBranches];  // moving statistics are read only unless training
  const T *z, *mean, *inv_std;        // null unless training: recomputed
  T* dx;
  T *dweight[kMaxBranches], *dgamma[kMaxBranches], *dbeta[kMaxBranches];
};

template <typename T>
struct SkAttentionForward {
  const T* u;
  const T* fc_reduce;   // (c_reduced, c)
  NormTensors<T> norm;  // (c_reduced)
  const T* fc_select;   // (branches * c, c_reduced)
  T* attention;         // (n, branches, c)
  T *pooled, *hidden;   // (n, c), (n, c_reduced: before the norm)
  T *mean, *inv_std;    // (c_reduced); these four null unless training
};

template <typename T>
struct SkAttentionBackward {
  const T *dattention, *u;
  const T* fc_reduce;
  NormTensors<T> norm;
  const T *fc_select, *attention;
  const T *pooled, *hidden, *mean, *inv_std;  // null unless training: recomputed
  T *du, *dfc_reduce, *dgamma, *dbeta, *dfc_select;
};

template <typename T>
struct SkSelectForward {
  const T *u, *attention;
  T* y;
};

template <typename T>
struct SkSelectBackward {
  const T *dy, *u, *attention;
  T *du, *dattention;
};

template <typename T>
struct MaxPoolForward {
  const T* x;
  T* y;
};

// The gradient of a window goes to the first of its largest values, row by row; to the last NaN if it holds one.
template <typename T>
struct MaxPoolBackward {
  const T *dy, *x;
  T* dx;
};

template <typename T>
struct PoolDenseForward {
  const T *x, *weight;
  const T* bias;  // (c_out), or null
  T* y;           // (n, c_out)
};

template <typename T>
struct SelectiveKernelForward {
  const T* x;
  const T* weight[kMaxBranches];
  NormTensors<T> norm[kMaxBranches];
  const T* fc_reduce;
  NormTensors<T> attn_norm;
  const T* fc_select;
  T *y, *attention;
  // saved for backward; all null unless training
  T *z, *mean, *inv_std, *pooled, *hidden, *attn_mean, *attn_inv_std;
};

template <typename T>
struct SelectiveKernelBackward {
  const T *dy, *x;
  const T* weight[kMaxBranches];
  NormTensors<T> norm[kMaxBranches];
  const T* fc_reduce;
  NormTensors<T> attn_norm;
  const T *fc_select, *attention;
  const T *z, *mean, *inv_std, *pooled, *hidden, *attn_mean, *attn_inv_std;  // null unless training: recomputed
  T* dx;
  T *dweight[kMaxBranches], *dgamma[kMaxBranches], *dbeta[kMaxBranches];
  T *dfc_reduce, *dattn_gamma, *dattn_beta, *dfc_select;
};

}  // namespace sknet_ops
