// SPDX-License-Identifier: Apache-2.0
// y = act(norm(conv(x, weight)) + residual)
#include <algorithm>
#include <vector>

#include "reference/conv.h"
#include "reference/norm.h"
#include "reference/reference.h"

namespace sknet_ops::reference {
namespace {

int64_t in_image(const ConvShape& s) { return s.c_in * s.h * s.w; }
int64_t out_image(const ConvShape& s) { return s.c_out * s.h_out * s.w_out; }
NormShape norm_shape(const ConvShape& s) { return {s.n, s.c_out, s.h_out * s.w_out, out_image(s)}; }

}  // namespace

template <typename T>
void conv_bn_act(const ConvBnActParams& p, const ConvBnActForward<T>& t) {
  const ConvShape& s = p.conv;
  std::vector<T> z(s.n * out_image(s)), mean(s.c_out), inv_std(s.c_out);
  conv<T>(s, {t.x, in_image(s)}, t.weight, {z.data(), out_image(s)});
  norm_statistics(norm_shape(s), p.norm, z.data(), t.norm, mean.data(), inv_std.data());
  normalise(norm_shape(s), p.norm, z.data(), t.norm.gamma, t.norm.beta, mean.data(), inv_std.data(), t.residual, t.y);
  if (p.norm.training) {
    std::copy(z.begin(), z.end(), t.z);
    std::copy(mean.begin(), mean.end(), t.mean);
    std::copy(inv_std.begin(), inv_std.end(), t.inv_std);
  }
}

template <typename T>
void conv_bn_act_grad(const ConvBnActParams& p, const ConvBnActBackward<T>& t) {
  const ConvShape& s = p.conv;
  const int64_t size = s.n * out_image(s);
  std::vector<T> z(size), mean(s.c_out), inv_std(s.c_out), dv(size), dz(size);
  if (p.norm.training) {
    z.assign(t.z, t.z + size);
    mean.assign(t.mean, t.mean + s.c_out);
    inv_std.assign(t.inv_std, t.inv_std + s.c_out);
  } else {
    conv<T>(s, {t.x, in_image(s)}, t.weight, {z.data(), out_image(s)});
    const NormTensors<T> norm{t.gamma, t.beta, const_cast<T*>(t.moving_mean), const_cast<T*>(t.moving_variance)};
    norm_statistics(norm_shape(s), p.norm, z.data(), norm, mean.data(), inv_std.data());
  }
  activation_grad(norm_shape(s), p.norm, t.dy, t.y, dv.data());
  if (t.dresidual) {
    std::copy(dv.begin(), dv.end(), t.dresidual);
  }
  normalise_grad(norm_shape(s), p.norm, dv.data(), z.data(), t.gamma, mean.data(), inv_std.data(), dz.data(), t.dgamma,
                 t.dbeta);
  std::vector<double> dx(s.n * in_image(s)), dweight(s.c_out * (s.c_in / s.groups) * s.kernel * s.kernel);
  conv_grad<T>(s, {dz.data(), out_image(s)}, {t.x, in_image(s)}, t.weight, {dx.data(), in_image(s)}, dweight.data());
  if (t.dx) store(dx, t.dx);
  store(dweight, t.dweight);
}

template void conv_bn_act(const ConvBnActParams&, const ConvBnActForward<float>&);
template void conv_bn_act(const ConvBnActParams&, const ConvBnActForward<double>&);
template void conv_bn_act_grad(const ConvBnActParams&, const ConvBnActBackward<float>&);
template void conv_bn_act_grad(const ConvBnActParams&, const ConvBnActBackward<double>&);

}  // namespace sknet_ops::reference
