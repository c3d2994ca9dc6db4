// SPDX-License-Identifier: Apache-2.0
#include "common/check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

namespace sknet_ops::check {
namespace {

// Far above any network, and low enough that no intermediate product overflows.
constexpr int64_t kMaxConvAttr = 4096;
constexpr int64_t kMaxDim = std::numeric_limits<int32_t>::max();

std::string text(TensorShape shape) {
  std::string out = "(";
  for (int i = 0; i < shape.ndim; ++i) {
    out += (i ? ", " : "") + std::to_string(shape.dims[i]);
  }
  return out + (shape.ndim == 1 ? ",)" : ")");
}

[[noreturn]] void fail(const char* op, const std::string& arg, const std::string& got, const std::string& expected) {
  throw std::invalid_argument(std::string(op) + ": " + arg + ": got " + got + ", expected " + expected);
}

std::string branch_arg(const char* name, int branch) { return std::string(name) + "[" + std::to_string(branch) + "]"; }

// Rank, sane dimensions, and a size in bytes (as float64) that fits in int64.
void tensor(const char* op, const std::string& arg, TensorShape shape, int ndim, const char* layout,
            bool empty_batch = false) {
  if (shape.ndim != ndim) {
    fail(op, arg, "shape " + text(shape), "rank " + std::to_string(ndim) + ": " + layout);
  }
  int64_t bytes = sizeof(double);
  bool overflow = false;
  for (int i = 0; i < ndim; ++i) {
    const int64_t least = empty_batch && i == 0 ? 0 : 1;
    if (shape.dims[i] < least || shape.dims[i] > kMaxDim) {
      fail(op, arg, "shape " + text(shape),
           std::string(layout) + " with dimension " + std::to_string(i) + " in " + std::to_string(least) + ".." +
               std::to_string(kMaxDim));
    }
    overflow |= __builtin_mul_overflow(bytes, shape.dims[i], &bytes);
  }
  if (overflow) {
    fail(op, arg, "shape " + text(shape), "a size that fits in 63 bits");
  }
}

void range(const char* op, const std::string& arg, int64_t value, int64_t least) {
  if (value < least || value > kMaxConvAttr) {
    fail(op, arg, std::to_string(value),
         "an integer in " + std::to_string(least) + ".." + std::to_string(kMaxConvAttr));
  }
}

void norm_attrs(const char* op, const char* prefix, const NormParams& norm) {
  if (!std::isfinite(norm.eps) || norm.eps < 0) {
    fail(op, std::string(prefix) + "eps", std::to_string(norm.eps), "a finite number >= 0");
  }
  if (!(norm.momentum >= 0 && norm.momentum <= 1)) {
    fail(op, std::string(prefix) + "momentum", std::to_string(norm.momentum), "a number in 0..1");
  }
}

void channel_vector(const char* op, const std::string& arg, TensorShape shape, int64_t channels) {
  if (shape.ndim != 1 || shape.dims[0] != channels) {
    fail(op, arg, "shape " + text(shape), "(" + std::to_string(channels) + ",), one value a channel");
  }
}

void norm_shapes(const char* op, const char* prefix, const std::string& suffix, const NormShapes& norm,
                 int64_t channels) {
  channel_vector(op, prefix + ("gamma" + suffix), norm.gamma, channels);
  channel_vector(op, prefix + ("beta" + suffix), norm.beta, channels);
  channel_vector(op, prefix + ("moving_mean" + suffix), norm.moving_mean, channels);
  channel_vector(op, prefix + ("moving_variance" + suffix), norm.moving_variance, channels);
}

// Rank 4, square kernel.
void conv_weight(const char* op, const std::string& arg, TensorShape weight) {
  tensor(op, arg, weight, 4, "(c_out, c_in / groups, kernel, kernel)");
  const int64_t kernel = weight.dims[2];
  if (kernel != weight.dims[3] || kernel > kMaxConvAttr) {
    fail(op, arg, "shape " + text(weight),
         "a square kernel of at most " + std::to_string(kMaxConvAttr) + " in the last two dimensions");
  }
}

void conv_channels(const char* op, const std::string& arg, TensorShape weight, int64_t c_in, int64_t groups) {
  if (groups < 1 || c_in % groups != 0 || weight.dims[0] % groups != 0) {
    fail(op, "groups", std::to_string(groups),
         "a number that divides input channels (" + std::to_string(c_in) + ") and output channels (" +
             std::to_string(weight.dims[0]) + ") of " + arg);
  }
  if (weight.dims[1] != c_in / groups) {
    fail(op, arg, "shape " + text(weight),
         std::to_string(c_in / groups) + " in dimension 1: " + std::to_string(c_in) + " input channels / " +
             std::to_string(groups) + " groups");
  }
}

int64_t out_size(const char* op, const std::string& arg, const char* axis, int64_t size, int64_t kernel, int64_t stride,
                 int64_t padding, int64_t dilation) {
  const int64_t out = conv_out_size(size, kernel, stride, padding, dilation);
  if (out < 1) {
    fail(op, arg,
         std::string(axis) + " " + std::to_string(size) + " with kernel " + std::to_string(kernel) + ", dilation " +
             std::to_string(dilation) + ", padding " + std::to_string(padding),
         "a kernel extent of at most the padded " + std::string(axis) + " (" + std::to_string(size + 2 * padding) +
             ", the kernel spans " + std::to_string(dilation * (kernel - 1) + 1) + ")");
  }
  return out;
}

void output(const char* op, std::initializer_list<int64_t> dims) {
  tensor(op, "output", {dims.begin(), static_cast<int>(dims.size())}, static_cast<int>(dims.size()),
         "the shape that inputs and attributes imply", true);
}

// (rows, columns) or (rows, columns, 1, 1); -1 rows: any.
void dense_weight(const char* op, const char* arg, TensorShape weight, int64_t rows, int64_t columns) {
  const bool rank = weight.ndim == 2 || (weight.ndim == 4 && weight.dims[2] == 1 && weight.dims[3] == 1);
  const bool any_rows = rows < 0;
  if (!rank || weight.dims[1] != columns || (any_rows ? weight.dims[0] < 1 : weight.dims[0] != rows)) {
    const std::string expected =
        "(" + (any_rows ? std::string("c_reduced") : std::to_string(rows)) + ", " + std::to_string(columns);
    fail(op, arg, "shape " + text(weight), expected + ") or " + expected + ", 1, 1)");
  }
  tensor(op, arg, weight, weight.ndim, "a dense weight");
}

void attention_weights(const char* op, const char* norm_prefix, TensorShape fc_reduce, const NormShapes& norm,
                       TensorShape fc_select, int64_t c, int branches) {
  dense_weight(op, "fc_reduce", fc_reduce, -1, c);
  norm_shapes(op, norm_prefix, "", norm, fc_reduce.dims[0]);
  dense_weight(op, "fc_select", fc_select, branches * c, fc_reduce.dims[0]);
}

void branch_list(const char* op, const char* arg, IntList list, int branches) {
  if (list.size != branches) {
    fail(op, arg, std::to_string(list.size) + " values", std::to_string(branches) + ", one a branch");
  }
}

}  // namespace

int64_t conv_out_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

int64_t pool_out_size(int64_t size, const PoolAttrs& attrs) {
  return attrs.same ? (size + attrs.stride - 1) / attrs.stride
                    : conv_out_size(size, attrs.kernel, attrs.stride, attrs.padding, 1);
}

int branches(const char* op, int64_t count) {
  if (count < 1 || count > kMaxBranches) {
    fail(op, "branches", std::to_string(count), "1.." + std::to_string(kMaxBranches));
  }
  return static_cast<int>(count);
}

void same_shape(const char* op, const char* arg, TensorShape got, std::initializer_list<int64_t> expected) {
  const TensorShape want{expected.begin(), static_cast<int>(expected.size())};
  if (got.ndim != want.ndim || !std::equal(expected.begin(), expected.end(), got.dims)) {
    fail(op, arg, "shape " + text(got), "shape " + text(want));
  }
}

void float32(const char* op, const char* arg, const char* dtype) {
  if (std::strcmp(dtype, "float32") != 0) {
    fail(op, arg, "dtype " + std::string(dtype), "float32");
  }
}

ConvBnActParams conv_bn_act(const char* op, const ConvBnActShapes& shapes, const ConvAttrs& attrs,
                            const NormParams& norm) {
  tensor(op, "x", shapes.x, 4, "(n, c_in, h, w)", true);
  conv_weight(op, "weight", shapes.weight);
  range(op, "stride", attrs.stride, 1);
  range(op, "padding", attrs.padding, 0);
  range(op, "dilation", attrs.dilation, 1);
  const int64_t *x = shapes.x.dims, *weight = shapes.weight.dims;
  conv_channels(op, "weight", shapes.weight, x[1], attrs.groups);
  norm_attrs(op, "", norm);
  norm_shapes(op, "", "", shapes.norm, weight[0]);
  const int64_t h_out = out_size(op, "x", "height", x[2], weight[2], attrs.stride, attrs.padding, attrs.dilation);
  const int64_t w_out = out_size(op, "x", "width", x[3], weight[2], attrs.stride, attrs.padding, attrs.dilation);
  output(op, {x[0], weight[0], h_out, w_out});
  if (shapes.residual) {
    same_shape(op, "residual", *shapes.residual, {x[0], weight[0], h_out, w_out});
  }
  return {{x[0], x[1], x[2], x[3], weight[0], attrs.groups, weight[2], attrs.stride, attrs.padding, attrs.dilation,
           h_out, w_out},
          norm};
}

SkConvParams sk_conv(const char* op, const SkConvShapes& shapes, const SkConvAttrs& attrs, const NormParams& norm) {
  const int count = branches(op, shapes.branches);
  tensor(op, "x", shapes.x, 4, "(n, c_in, h, w)", true);
  branch_list(op, "padding", attrs.padding, count);
  branch_list(op, "dilation", attrs.dilation, count);
  range(op, "stride", attrs.stride, 1);
  norm_attrs(op, "", norm);
  const int64_t* x = shapes.x.dims;
  if (attrs.split_input && x[1] % count != 0) {
    fail(op, "x", std::to_string(x[1]) + " channels",
         "a multiple of " + std::to_string(count) + ", as split_input shares them among the branches");
  }

  SkConvParams p{};
  p.n = x[0], p.c_in = x[1], p.h = x[2], p.w = x[3];
  p.groups = attrs.groups;
  p.stride = attrs.stride;
  p.branches = count;
  p.split_input = attrs.split_input;
  p.norm = norm;
  for (int m = 0; m < count; ++m) {
    const TensorShape weight = shapes.weight[m];
    const std::string name = branch_arg("weight", m);
    conv_weight(op, name, weight);
    conv_channels(op, name, weight, p.branch_c_in(), attrs.groups);
    range(op, branch_arg("padding", m), attrs.padding.data[m], 0);
    range(op, branch_arg("dilation", m), attrs.dilation.data[m], 1);
    p.kernel[m] = weight.dims[2];
    p.padding[m] = attrs.padding.data[m];
    p.dilation[m] = attrs.dilation.data[m];
    const int64_t h_out = out_size(op, "x", "height", p.h, p.kernel[m], p.stride, p.padding[m], p.dilation[m]);
    const int64_t w_out = out_size(op, "x", "width", p.w, p.kernel[m], p.stride, p.padding[m], p.dilation[m]);
    if (m == 0) {
      p.c_out = weight.dims[0];
      p.h_out = h_out;
      p.w_out = w_out;
    }
    if (weight.dims[0] != p.c_out) {
      fail(op, name, std::to_string(weight.dims[0]) + " output channels", std::to_string(p.c_out) + " as in branch 0");
    }
    if (h_out != p.h_out || w_out != p.w_out) {
      fail(op, branch_arg("padding", m), "branch output " + std::to_string(h_out) + " x " + std::to_string(w_out),
           std::to_string(p.h_out) + " x " + std::to_string(p.w_out) + " as in branch 0");
    }
    norm_shapes(op, "", "[" + std::to_string(m) + "]", shapes.norm[m], p.c_out);
  }
  output(op, {p.n, count, p.c_out, p.h_out, p.w_out});
  return p;
}

SkAttentionParams sk_attention(const char* op, const SkAttentionShapes& shapes, const NormParams& norm) {
  tensor(op, "u", shapes.u, 5, "(n, branches, c, h, w)", true);
  const int64_t* u = shapes.u.dims;
  const int count = branches(op, u[1]);
  norm_attrs(op, "", norm);
  attention_weights(op, "", shapes.fc_reduce, shapes.norm, shapes.fc_select, u[2], count);
  NormParams hidden = norm;
  hidden.relu = true;
  return {u[0], u[2], u[3], u[4], count, shapes.fc_reduce.dims[0], hidden};
}

SkSelectParams sk_select(const char* op, TensorShape u, TensorShape attention) {
  tensor(op, "u", u, 5, "(n, branches, c, h, w)", true);
  const int count = branches(op, u.dims[1]);
  same_shape(op, "attention", attention, {u.dims[0], u.dims[1], u.dims[2]});
  return {u.dims[0], u.dims[2], u.dims[3], u.dims[4], count};
}

SelectiveKernelParams selective_kernel(const char* op, const SelectiveKernelShapes& shapes, const SkConvAttrs& attrs,
                                       const NormParams& norm, const NormParams& attn_norm) {
  SelectiveKernelParams p{sk_conv(op, shapes.conv, attrs, norm), 0, attn_norm};
  norm_attrs(op, "attn_", attn_norm);
  attention_weights(op, "attn_", shapes.fc_reduce, shapes.attn_norm, shapes.fc_select, p.conv.c_out, p.conv.branches);
  p.c_reduced = shapes.fc_reduce.dims[0];
  p.attn_norm.relu = true;
  return p;
}

MaxPoolParams max_pool(const char* op, TensorShape x, const PoolAttrs& attrs) {
  tensor(op, "x", x, 4, "(n, c, h, w)", true);
  range(op, "kernel", attrs.kernel, 1);
  range(op, "stride", attrs.stride, 1);
  if (attrs.same && attrs.padding != 0) {
    fail(op, "padding", std::to_string(attrs.padding), "0, as same pads by itself");
  }
  // Else there would be windows of padding alone.
  if (attrs.padding < 0 || attrs.padding > attrs.kernel / 2) {
    fail(op, "padding", std::to_string(attrs.padding),
         "an integer in 0.." + std::to_string(attrs.kernel / 2) + ", half of kernel " + std::to_string(attrs.kernel));
  }
  MaxPoolParams p{};
  p.n = x.dims[0], p.c = x.dims[1], p.h = x.dims[2], p.w = x.dims[3];
  p.kernel = attrs.kernel;
  p.stride = attrs.stride;
  p.pad_top = p.pad_left = attrs.padding;
  if (attrs.same) {
    p.h_out = pool_out_size(p.h, attrs);
    p.w_out = pool_out_size(p.w, attrs);
    p.pad_top = std::max<int64_t>((p.h_out - 1) * p.stride + p.kernel - p.h, 0) / 2;
    p.pad_left = std::max<int64_t>((p.w_out - 1) * p.stride + p.kernel - p.w, 0) / 2;
  } else {
    p.h_out = out_size(op, "x", "height", p.h, p.kernel, p.stride, attrs.padding, 1);
    p.w_out = out_size(op, "x", "width", p.w, p.kernel, p.stride, attrs.padding, 1);
  }
  output(op, {p.n, p.c, p.h_out, p.w_out});
  return p;
}

PoolDenseParams pool_dense(const char* op, TensorShape x, TensorShape weight, const TensorShape* bias) {
  tensor(op, "x", x, 4, "(n, c, h, w)", true);
  tensor(op, "weight", weight, 2, "(c_out, c)");
  const PoolDenseParams p{x.dims[0], x.dims[1], x.dims[2], x.dims[3], weight.dims[0]};
  same_shape(op, "weight", weight, {p.c_out, p.c});
  if (bias != nullptr) same_shape(op, "bias", *bias, {p.c_out});
  output(op, {p.n, p.c_out, 1, 1});
  return p;
}

}  // namespace sknet_ops::check
