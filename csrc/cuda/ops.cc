// SPDX-License-Identifier: Apache-2.0
#include "cuda/ops.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "cuda/kernels.h"
#include "cuda/plan.h"

namespace sknet_ops::cuda {
namespace {

// Plans the call with `body`, sees to scratch memory, then runs it.
template <class Body>
void scoped(const char* op, Body body) {
  Context& ctx = context();
  ctx.op = op;
  ctx.device = ctx.pretend != nullptr ? *ctx.pretend : current_device(op);
  auto pass = [&](bool dry) {
    ctx.dry = dry;
    ctx.inside_last = ctx.channels_last;
    ctx.scratch_used = 0;
    ctx.launches.clear();
    body(ctx);
  };
  pass(true);
  if (ctx.plan_only) return;
  if (ctx.scratch != nullptr) return pass(false);
  const PooledScratch pooled(ctx, ctx.scratch_used);
  pass(false);
}

int to_int(int64_t v) {
  if (v > std::numeric_limits<int>::max()) {
    throw std::invalid_argument(std::string(context().op) + ": dimension: got " + std::to_string(v) +
                                ", expected at most 2^31-1 on a GPU");
  }
  return static_cast<int>(v);
}

int plane_size(int64_t h, int64_t w) {
  // Kernels count positions in 32 bits, and the last step of a loop leads past the end: by the threads of a map's
  // blocks, a few hundred thousand at the most.
  constexpr int64_t kMost = (int64_t{1} << 31) - (1 << 20);
  if (h * w > kMost) {
    throw std::invalid_argument(std::string(context().op) + ": map: got " + std::to_string(h) + " x " +
                                std::to_string(w) + ", expected at most " + std::to_string(kMost) +
                                " positions on a GPU");
  }
  return static_cast<int>(h * w);
}

NormArgs norm_args(const NormTensors<float>& t, const float* mean, const float* inv_std, float eps) {
  return {t.gamma, t.beta, t.moving_mean, t.moving_variance, mean, inv_std, eps};
}

void norm_args(const SkConvParams& p, const NormTensors<float>* t, const float* mean, const float* inv_std,
               NormArgs* to) {
  for (int m = 0; m < p.branches; ++m) to[m] = norm_args(t[m], mean, inv_std, p.norm.eps);
}

int64_t stacked(const SkConvParams& p) { return p.n * p.branches * p.c_out * p.h_out * p.w_out; }

template <class Args>
void branch_shape(const SkConvParams& p, Args& a) {
  a.n = p.n;
  a.branches = p.branches;
  a.stride = to_int(p.stride);
  for (int m = 0; m < p.branches; ++m) {
    a.kernel[m] = to_int(p.kernel[m]), a.dilation[m] = to_int(p.dilation[m]), a.padding[m] = to_int(p.padding[m]);
  }
}

// Runs the branches' convolutions into `out`; returns args with moments or pooled sums.
ConvArgs branches_forward(Context& ctx, const SkConvParams& p, const float* x, const float* const* weight,
                          const NormTensors<float>* norm, ConvMode mode, bool pooled, void* out) {
  ConvArgs a{};
  branch_shape(p, a);
  a.x = x, a.out = out, a.mode = mode, a.relu = p.norm.relu;
  std::copy_n(weight, p.branches, a.weight);
  norm_args(p, norm, nullptr, nullptr, a.norm);
  a.h = to_int(p.h_out), a.w = to_int(p.w_out), a.src_map_h = to_int(p.h), a.src_map_w = to_int(p.w);
  a.src_channels = to_int(p.c_in), a.out_channels = to_int(p.c_out);
  a.ci_group = to_int(p.branch_c_in() / p.groups), a.co_group = to_int(p.c_out / p.groups);
  a.sources = p.split_input ? p.branches : 1, a.source_channels = to_int(p.branch_c_in());
  conv_forward(ctx, a, pooled);
  return a;
}

// dx and dweight, with the gradient by z computed on the way.
void branches_backward(Context& ctx, const SkConvParams& p, const float* x, const float* const* weight,
                       const ZGradSource& dz, float* dx, float* const* dweight) {
  ConvArgs a{};
  branch_shape(p, a);
  a.dz = dz, a.out = dx;
  std::copy(weight, weight + p.branches, a.weight);
  a.h = to_int(p.h), a.w = to_int(p.w), a.src_map_h = to_int(p.h_out), a.src_map_w = to_int(p.w_out);
  a.src_channels = to_int(p.c_out), a.out_channels = to_int(p.branch_c_in());
  a.ci_group = to_int(p.c_out / p.groups), a.co_group = to_int(p.branch_c_in() / p.groups);
  a.t.parts = p.split_input ? p.branches : 1;
  a.sources = p.split_input ? 1 : p.branches;
  conv_input_grad(ctx, a);

  WgradArgs w{};
  branch_shape(p, w);
  w.x = x, w.dz = dz;
  w.h_out = to_int(p.h_out), w.w_out = to_int(p.w_out), w.h = to_int(p.h), w.w = to_int(p.w);
  w.src_channels = to_int(p.c_in), w.out_channels = to_int(p.c_out);
  w.ci_group = to_int(p.branch_c_in() / p.groups), w.co_group = to_int(p.c_out / p.groups);
  w.sources = p.split_input ? p.branches : 1, w.source_channels = to_int(p.branch_c_in());
  conv_weight_grad(ctx, w, dweight);
}

// z again, where inference kept none.
const void* raw_branches(Context& ctx, const SkConvParams& p, const float* x, const float* const* weight,
                         const NormTensors<float>* norm, const float* z) {
  if (z != nullptr) return z;
  void* again = ctx.take_map(stacked(p));
  branches_forward(ctx, p, x, weight, norm, ConvMode::kRaw, false, again);
  return again;
}

PoolArgs pool_shape(int64_t n, int64_t c, int branches, int64_t h, int64_t w) {
  PoolArgs a{};
  a.n = n, a.c = to_int(c), a.branches = branches, a.hw = plane_size(h, w);
  return a;
}

// Finishes the statistics that the convolution began, and either pools or stores the activated branches.
void normalise_branches(Context& ctx, const SkConvParams& p, const ConvArgs& conv, const NormTensors<float>* norm,
                        float* mean, float* inv_std, void* u, float* pooled) {
  PoolArgs a = pool_shape(p.n, p.c_out, p.branches, p.h_out, p.w_out);
  a.z = conv.out, a.u = u, a.pooled = pooled;
  a.moments = conv.moments, a.slots = conv.t.image_slots * conv.t.splits;
  norm_args(p, norm, nullptr, nullptr, a.norm);
  for (int m = 0; m < p.branches; ++m) {
    a.moving_mean[m] = norm[m].moving_mean, a.moving_variance[m] = norm[m].moving_variance;
  }
  a.mean = mean, a.inv_std = inv_std;
  a.relu = p.norm.relu, a.momentum = p.norm.momentum;
  pool(ctx, a);
}

// Pooled sums or means -> hidden layer -> activated hidden layer. Training: saves, and moves the statistics.
HiddenArgs hidden_layer(Context& ctx, const SkAttentionParams& p, const float* pooled, int splits, float scale,
                        const float* fc_reduce, const NormTensors<float>& norm, float* to, float* mean,
                        float* inv_std) {
  HiddenArgs a{};
  a.pooled = pooled, a.splits = splits, a.pooled_scale = scale, a.fc_reduce = fc_reduce;
  a.norm = norm_args(norm, nullptr, nullptr, p.norm.eps);
  a.moving_mean = norm.moving_mean, a.moving_variance = norm.moving_variance;
  a.hidden = to, a.mean = mean, a.inv_std = inv_std;
  a.activated = ctx.take<float>(p.n * p.c_reduced);
  a.momentum = p.norm.momentum;
  a.n = p.n, a.c = to_int(p.c), a.d = to_int(p.c_reduced);
  hidden(ctx, a);
  return a;
}

SelectArgs select_shape(const SkSelectParams& p) {
  SelectArgs a{};
  a.n = p.n, a.c = to_int(p.c), a.branches = p.branches, a.hw = plane_size(p.h, p.w);
  return a;
}

// ---- sk_conv ----

void sk_conv(const SkConvParams& p, const SkConvForward<float>& t) {
  if (p.n == 0) return;
  scoped("sk_conv", [&](Context& ctx) {
    if (!p.norm.training) {
      branches_forward(ctx, p, t.x, t.weight, t.norm, ConvMode::kFold, false, t.u);
      return;
    }
    const ConvArgs conv = branches_forward(ctx, p, t.x, t.weight, t.norm, ConvMode::kStats, false, t.z);
    normalise_branches(ctx, p, conv, t.norm, t.mean, t.inv_std, t.u, nullptr);
  });
}

void zero_branch_grads(Context& ctx, const SkConvParams& p, float* const* dweight, float* const* dgamma,
                       float* const* dbeta) {
  for (int m = 0; m < p.branches; ++m) {
    zero(ctx, dweight[m], 4 * p.c_out * (p.branch_c_in() / p.groups) * p.kernel[m] * p.kernel[m]);
    zero(ctx, dgamma[m], 4 * p.c_out);
    zero(ctx, dbeta[m], 4 * p.c_out);
  }
}

void zero_attention_grads(Context& ctx, const SkAttentionParams& p, float* dfc_reduce, float* dgamma, float* dbeta,
                          float* dfc_select) {
  zero(ctx, dfc_reduce, 4 * p.c_reduced * p.c);
  zero(ctx, dgamma, 4 * p.c_reduced);
  zero(ctx, dbeta, 4 * p.c_reduced);
  zero(ctx, dfc_select, 4 * p.branches * p.c * p.c_reduced);
}

GateArgs gate_shape(const SkConvParams& p) {
  GateArgs a{};
  a.n = p.n, a.c = to_int(p.c_out), a.branches = p.branches, a.hw = plane_size(p.h_out, p.w_out);
  a.relu = p.norm.relu;
  return a;
}

void sk_conv_grad(const SkConvParams& p, const SkConvBackward<float>& t) {
  scoped("sk_conv_grad", [&](Context& ctx) {
    if (p.n == 0) return zero_branch_grads(ctx, p, t.dweight, t.dgamma, t.dbeta);
    const void* z = raw_branches(ctx, p, t.x, t.weight, t.norm, t.z);
    GateArgs gates = gate_shape(p);
    gates.g = t.du, gates.z = z, gates.g_per_branch = true;
    norm_args(p, t.norm, t.mean, t.inv_std, gates.norm);
    gates.gates = ctx.take<GateSums>(p.n * p.branches * p.c_out);
    gate(ctx, gates);

    ChannelGradArgs channel{};
    channel.gates = gates.gates;
    std::copy(gates.norm, gates.norm + p.branches, channel.norm);
    std::copy(t.dgamma, t.dgamma + p.branches, channel.dgamma);
    std::copy(t.dbeta, t.dbeta + p.branches, channel.dbeta);
    channel.coef = ctx.take<ZGrad>(p.branches * p.c_out);
    channel.training = p.norm.training;
    channel.n = p.n, channel.c = gates.c, channel.branches = p.branches, channel.hw = gates.hw;
    channel_grad(ctx, channel);
    branches_backward(ctx, p, t.x, t.weight, {t.du, z, channel.coef, nullptr, nullptr, p.norm.relu}, t.dx, t.dweight);
  });
}

// ---- sk_attention ----

const float* pooled_branches(Context& ctx, const SkAttentionParams& p, const float* u, float* to) {
  PoolArgs a = pool_shape(p.n, p.c, p.branches, p.h, p.w);
  a.z = u;
  a.pooled = to;
  pool(ctx, a);
  return to;
}

void sk_attention(const SkAttentionParams& p, const SkAttentionForward<float>& t) {
  if (p.n == 0) return;
  scoped("sk_attention", [&](Context& ctx) {
    const bool training = p.norm.training;
    const float* pooled = pooled_branches(ctx, p, t.u, training ? t.pooled : ctx.take<float>(p.n * p.c));
    const HiddenArgs h = hidden_layer(ctx, p, pooled, 1, 1.0f, t.fc_reduce, t.norm, t.hidden, t.mean, t.inv_std);
    SelectArgs a = select_shape({p.n, p.c, p.h, p.w, p.branches});
    a.activated = h.activated, a.fc_select = t.fc_select, a.d = h.d, a.attention = t.attention;
    select(ctx, a);
  });
}

struct AttentionGrads {
  float *dfc_reduce, *dgamma, *dbeta, *dfc_select;
};

// dlogits -> everything up to the gradient by the pooled values (divided by the positions), in the scratch. `channel`
// may carry what the normalisations of the branches need, too.
float* attention_backward(Context& ctx, const SkAttentionParams& p, const float* dlogits, const float* pooled,
                          const float* hidden, const float* mean, const float* inv_std, const float* fc_reduce,
                          const NormTensors<float>& norm, const float* fc_select, const AttentionGrads& to,
                          ChannelGradArgs& channel) {
  HiddenGradArgs h{};
  h.dlogits = dlogits, h.fc_select = fc_select, h.hidden = hidden;
  h.norm = norm_args(norm, mean, inv_std, p.norm.eps);
  h.training = p.norm.training;
  h.dhidden = ctx.take<float>(p.n * p.c_reduced), h.activated = ctx.take<float>(p.n * p.c_reduced);
  h.dgamma = to.dgamma, h.dbeta = to.dbeta;
  h.n = p.n, h.c = to_int(p.c), h.d = to_int(p.c_reduced), h.branches = p.branches;
  hidden_grad(ctx, h);

  channel.dhidden = h.dhidden, channel.activated = h.activated, channel.dlogits = dlogits, channel.pooled = pooled;
  channel.fc_reduce = fc_reduce, channel.dfc_select = to.dfc_select, channel.dfc_reduce = to.dfc_reduce;
  channel.dpooled = ctx.take<float>(p.n * p.c);
  channel.n = p.n, channel.c = h.c, channel.d = h.d, channel.branches = p.branches;
  channel.hw = plane_size(p.h, p.w);
  channel_grad(ctx, channel);
  return channel.dpooled;
}

void sk_attention_grad(const SkAttentionParams& p, const SkAttentionBackward<float>& t) {
  scoped("sk_attention_grad", [&](Context& ctx) {
    if (p.n == 0) return zero_attention_grads(ctx, p, t.dfc_reduce, t.dgamma, t.dbeta, t.dfc_select);
    const float *pooled = t.pooled, *hidden = t.hidden;
    if (pooled == nullptr) {
      pooled = pooled_branches(ctx, p, t.u, ctx.take<float>(p.n * p.c));
      float* again = ctx.take<float>(p.n * p.c_reduced);
      hidden_layer(ctx, p, pooled, 1, 1.0f, t.fc_reduce, t.norm, again, nullptr, nullptr);
      hidden = again;
    }
    SoftmaxGradArgs s{t.dattention, t.attention, ctx.take<float>(p.n * p.branches * p.c), p.n, to_int(p.c), p.branches};
    softmax_grad(ctx, s);
    ChannelGradArgs channel{};
    const float* dpooled = attention_backward(ctx, p, s.dlogits, pooled, hidden, t.mean, t.inv_std, t.fc_reduce, t.norm,
                                              t.fc_select, {t.dfc_reduce, t.dgamma, t.dbeta, t.dfc_select}, channel);
    FillArgs f{dpooled, t.du, p.n * p.branches * p.c, channel.c, p.branches, channel.hw, {}};
    fill(ctx, f);
  });
}

// ---- sk_select ----

void sk_select(const SkSelectParams& p, const SkSelectForward<float>& t) {
  if (p.n == 0) return;
  scoped("sk_select", [&](Context& ctx) {
    SelectArgs a = select_shape(p);
    a.z = t.u, a.attention = const_cast<float*>(t.attention), a.y = t.y;
    select(ctx, a);
  });
}

void sk_select_grad(const SkSelectParams& p, const SkSelectBackward<float>& t) {
  if (p.n == 0) return;
  scoped("sk_select_grad", [&](Context& ctx) {
    SelectGradArgs a{t.dy,        t.u,        t.attention,          t.du, t.dattention, p.n,
                     to_int(p.c), p.branches, plane_size(p.h, p.w), {}};
    select_grad(ctx, a);
  });
}

// ---- selective_kernel ----

// For the rest of the call. The gradient op comes to the same with the same storage type, tf32 and `inside`.
void choose_inside(Context& ctx, const SkConvParams& p) {
  if (ctx.channels_last) return;
  ctx.inside_last = ctx.inside == Inside::kByTable ? turns_inside(ctx.storage, ctx.tf32, to_int(p.c_out / p.groups))
                                                   : ctx.inside == Inside::kNhwc;
}

void selective_kernel(const SelectiveKernelParams& p, const SelectiveKernelForward<float>& t) {
  const SkConvParams& c = p.conv;
  if (c.n == 0) return;
  scoped("selective_kernel", [&](Context& ctx) {
    choose_inside(ctx, c);
    const SkAttentionParams attention = p.attention();
    SelectArgs a = select_shape(p.select());
    a.fc_select = t.fc_select, a.d = to_int(p.c_reduced), a.attention = t.attention, a.y = t.y;
    if (c.norm.training) {
      const ConvArgs conv = branches_forward(ctx, c, t.x, t.weight, t.norm, ConvMode::kStats, false, t.z);
      normalise_branches(ctx, c, conv, t.norm, t.mean, t.inv_std, nullptr, t.pooled);
      const HiddenArgs h = hidden_layer(ctx, attention, t.pooled, 1, 1.0f, t.fc_reduce, t.attn_norm, t.hidden,
                                        t.attn_mean, t.attn_inv_std);
      a.z = t.z, a.activated = h.activated, a.relu = c.norm.relu;
      norm_args(c, t.norm, t.mean, t.inv_std, a.norm);
    } else {
      void* u = ctx.take_map(stacked(c));
      const ConvArgs conv = branches_forward(ctx, c, t.x, t.weight, t.norm, ConvMode::kFold, true, u);
      const HiddenArgs h = hidden_layer(ctx, attention, conv.pooled, conv.t.splits, 1.0f / static_cast<float>(a.hw),
                                        t.fc_reduce, t.attn_norm, nullptr, nullptr, nullptr);
      a.z = u, a.activated = h.activated;
    }
    select(ctx, a);
  });
}

void selective_kernel_grad(const SelectiveKernelParams& p, const SelectiveKernelBackward<float>& t) {
  const SkConvParams& c = p.conv;
  scoped("selective_kernel_grad", [&](Context& ctx) {
    const SkAttentionParams attention = p.attention();
    if (c.n == 0) {
      zero_branch_grads(ctx, c, t.dweight, t.dgamma, t.dbeta);
      return zero_attention_grads(ctx, attention, t.dfc_reduce, t.dattn_gamma, t.dattn_beta, t.dfc_select);
    }
    choose_inside(ctx, c);
    const void* z = raw_branches(ctx, c, t.x, t.weight, t.norm, t.z);
    const float *pooled = t.pooled, *hidden = t.hidden;
    if (pooled == nullptr) {
      PoolArgs again = pool_shape(c.n, c.c_out, c.branches, c.h_out, c.w_out);
      again.z = z, again.relu = c.norm.relu;
      again.pooled = ctx.take<float>(c.n * c.c_out);
      norm_args(c, t.norm, nullptr, nullptr, again.norm);
      pool(ctx, again);
      pooled = again.pooled;
      float* hidden_again = ctx.take<float>(c.n * p.c_reduced);
      hidden_layer(ctx, attention, pooled, 1, 1.0f, t.fc_reduce, t.attn_norm, hidden_again, nullptr, nullptr);
      hidden = hidden_again;
    }
    GateArgs gates = gate_shape(c);
    gates.g = t.dy, gates.z = z, gates.attention = t.attention;
    if (ctx.inside_last && !ctx.channels_last) gates.turned = ctx.take_map(c.n * c.c_out * c.h_out * c.w_out);
    norm_args(c, t.norm, t.mean, t.inv_std, gates.norm);
    gates.gates = ctx.take<GateSums>(c.n * c.branches * c.c_out);
    gates.dlogits = ctx.take<float>(c.n * c.branches * c.c_out);
    gate(ctx, gates);

    ChannelGradArgs channel{};
    channel.gates = gates.gates, channel.attention = t.attention;
    std::copy(gates.norm, gates.norm + c.branches, channel.norm);
    std::copy(t.dgamma, t.dgamma + c.branches, channel.dgamma);
    std::copy(t.dbeta, t.dbeta + c.branches, channel.dbeta);
    channel.coef = ctx.take<ZGrad>(c.branches * c.c_out);
    channel.training = c.norm.training;
    const float* dpooled = attention_backward(ctx, attention, gates.dlogits, pooled, hidden, t.attn_mean,
                                              t.attn_inv_std, t.fc_reduce, t.attn_norm, t.fc_select,
                                              {t.dfc_reduce, t.dattn_gamma, t.dattn_beta, t.dfc_select}, channel);
    const void* g = gates.turned != nullptr ? gates.turned : t.dy;
    branches_backward(ctx, c, t.x, t.weight, {g, z, channel.coef, t.attention, dpooled, c.norm.relu}, t.dx, t.dweight);
  });
}

template <class Params, class Tensors>
void not_here(const Params&, const Tensors&) {
  throw std::invalid_argument(
      "conv_bn_act, max_pool, pool_dense: no CUDA kernel: on a GPU plain convolutions and pooling are cuDNN's");
}

}  // namespace

const OpTable<float>& table() {
  static const OpTable<float> ops{not_here,          not_here,  sk_conv,        sk_conv_grad,     sk_attention,
                                  sk_attention_grad, sk_select, sk_select_grad, selective_kernel, selective_kernel_grad,
                                  not_here,          not_here,  not_here};
  return ops;
}

}  // namespace sknet_ops::cuda
