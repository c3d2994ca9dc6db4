// SPDX-License-Identifier: Apache-2.0
// u[:, m] = act(norm_m(conv_m(x_m, weight_m))), where x_m is x, or the m-th part of its channels.
#include <algorithm>
#include <vector>

#include "reference/conv.h"
#include "reference/norm.h"
#include "reference/reference.h"

namespace sknet_ops::reference {
namespace {

int64_t in_image(const SkConvParams& p) { return p.c_in * p.h * p.w; }
int64_t branch_image(const SkConvParams& p) { return p.c_out * p.h_out * p.w_out; }
int64_t out_image(const SkConvParams& p) { return p.branches * branch_image(p); }
NormShape norm_shape(const SkConvParams& p) { return {p.n, p.c_out, p.h_out * p.w_out, out_image(p)}; }

// Where branch m starts in an image of x.
int64_t in_offset(const SkConvParams& p, int m) { return p.split_input ? m * p.branch_c_in() * p.h * p.w : 0; }

}  // namespace

template <typename T>
void sk_conv(const SkConvParams& p, const SkConvForward<T>& t) {
  std::vector<T> z(p.n * out_image(p)), mean(p.branches * p.c_out), inv_std(p.branches * p.c_out);
  for (int m = 0; m < p.branches; ++m) {
    const int64_t out = m * branch_image(p), stat = m * p.c_out;
    conv<T>(p.branch(m), {t.x + in_offset(p, m), in_image(p)}, t.weight[m], {z.data() + out, out_image(p)});
    norm_statistics(norm_shape(p), p.norm, z.data() + out, t.norm[m], mean.data() + stat, inv_std.data() + stat);
    normalise<T>(norm_shape(p), p.norm, z.data() + out, t.norm[m].gamma, t.norm[m].beta, mean.data() + stat,
                 inv_std.data() + stat, nullptr, t.u + out);
  }
  if (p.norm.training) {
    std::copy(z.begin(), z.end(), t.z);
    std::copy(mean.begin(), mean.end(), t.mean);
    std::copy(inv_std.begin(), inv_std.end(), t.inv_std);
  }
}

template <typename T>
void sk_conv_recompute(const SkConvParams& p, const SkConvForward<T>& t) {
  for (int m = 0; m < p.branches; ++m) {
    const int64_t out = m * branch_image(p), stat = m * p.c_out;
    if (!p.norm.training) {
      conv<T>(p.branch(m), {t.x + in_offset(p, m), in_image(p)}, t.weight[m], {t.z + out, out_image(p)});
      norm_statistics(norm_shape(p), p.norm, t.z + out, t.norm[m], t.mean + stat, t.inv_std + stat);
    }
    normalise<T>(norm_shape(p), p.norm, t.z + out, t.norm[m].gamma, t.norm[m].beta, t.mean + stat, t.inv_std + stat,
                 nullptr, t.u + out);
  }
}

template <typename T>
void sk_conv_grad(const SkConvParams& p, const SkConvBackward<T>& t) {
  const int64_t size = p.n * out_image(p), stats = p.branches * p.c_out;
  std::vector<T> u(size), z(size), mean(stats), inv_std(stats), dv(size), dz(size);
  SkConvForward<T> forward{t.x, {}, {}, u.data(), z.data(), mean.data(), inv_std.data()};
  std::copy(t.weight, t.weight + p.branches, forward.weight);
  std::copy(t.norm, t.norm + p.branches, forward.norm);
  if (p.norm.training) {
    z.assign(t.z, t.z + size);
    mean.assign(t.mean, t.mean + stats);
    inv_std.assign(t.inv_std, t.inv_std + stats);
  }
  sk_conv_recompute(p, forward);

  std::vector<double> dx(p.n * in_image(p));
  for (int m = 0; m < p.branches; ++m) {
    const ConvShape s = p.branch(m);
    const int64_t out = m * branch_image(p), stat = m * p.c_out;
    activation_grad(norm_shape(p), p.norm, t.du + out, u.data() + out, dv.data() + out);
    normalise_grad(norm_shape(p), p.norm, dv.data() + out, z.data() + out, t.norm[m].gamma, mean.data() + stat,
                   inv_std.data() + stat, dz.data() + out, t.dgamma[m], t.dbeta[m]);
    std::vector<double> dweight(s.c_out * (s.c_in / s.groups) * s.kernel * s.kernel);
    conv_grad<T>(s, {dz.data() + out, out_image(p)}, {t.x + in_offset(p, m), in_image(p)}, t.weight[m],
                 {dx.data() + in_offset(p, m), in_image(p)}, dweight.data());
    store(dweight, t.dweight[m]);
  }
  store(dx, t.dx);
}

template void sk_conv(const SkConvParams&, const SkConvForward<float>&);
template void sk_conv(const SkConvParams&, const SkConvForward<double>&);
template void sk_conv_recompute(const SkConvParams&, const SkConvForward<float>&);
template void sk_conv_recompute(const SkConvParams&, const SkConvForward<double>&);
template void sk_conv_grad(const SkConvParams&, const SkConvBackward<float>&);
template void sk_conv_grad(const SkConvParams&, const SkConvBackward<double>&);

}  // namespace sknet_ops::reference
