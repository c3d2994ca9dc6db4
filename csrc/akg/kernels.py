# SPDX-License-Identifier: Apache-2.0
"""SK passes in AKG's hybrid DSL: normalise + ReLU + pool, and the select pass, forward and backward.

The DSL is a small part of Python that AKG parses; loops, no slices. Maps are (n, m, c, p): images, branches, channels,
positions; mean, inv_std, gamma and beta are (m, c). Everything is float32. Compiled once for each shape.

What AKG compiles wrongly on the CPU, without a word: two outputs, an output read back by another statement, and sums,
but for the one of select_grad_a. Hence pooling and the sums of the normalisation's gradient go through that kernel,
with ones for dy, and an expression is written out twice.
"""
# The DSL's functions have no definition that Python could find.
# ruff: noqa: F821

from mindspore.ops import kernel


@kernel
def select(u, a):
    """y (n, c, p) = sum over m of a (n, m, c) * u"""
    y = output_tensor((u.shape[0], u.shape[2], u.shape[3]), u.dtype)
    for n in range(u.shape[0]):
        for c in range(u.shape[2]):
            for p in range(u.shape[3]):
                y[n, c, p] = float32(0.0)
                for m in range(u.shape[1]):
                    y[n, c, p] = y[n, c, p] + u[n, m, c, p] * a[n, m, c]
    return y


@kernel
def select_grad_u(dy, a):
    """du = a * dy"""
    du = output_tensor((dy.shape[0], a.shape[1], dy.shape[1], dy.shape[2]), dy.dtype)
    for n in range(dy.shape[0]):
        for m in range(a.shape[1]):
            for c in range(dy.shape[1]):
                for p in range(dy.shape[2]):
                    du[n, m, c, p] = a[n, m, c] * dy[n, c, p]
    return du


@kernel
def select_grad_a(dy, u):
    """da (n, m, c) = sum over p of u * dy"""
    da = output_tensor((u.shape[0], u.shape[1], u.shape[2]), u.dtype)
    for n in range(u.shape[0]):
        for m in range(u.shape[1]):
            for c in range(u.shape[2]):
                da[n, m, c] = float32(0.0)
                for p in range(u.shape[3]):
                    da[n, m, c] = da[n, m, c] + u[n, m, c, p] * dy[n, c, p]
    return da


@kernel
def norm_act(z, mean, inv_std, gamma, beta):
    """u = relu((z - mean) * inv_std * gamma + beta)"""
    u = output_tensor(z.shape, z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                for p in range(z.shape[3]):
                    if (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c] < float32(0.0):
                        u[n, m, c, p] = float32(0.0)
                    else:
                        u[n, m, c, p] = (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c]
    return u


@kernel
def pool_grad(dsums, u):
    """du like u = dsums (n, m, c)"""
    du = output_tensor(u.shape, u.dtype)
    for n in range(u.shape[0]):
        for m in range(u.shape[1]):
            for c in range(u.shape[2]):
                for p in range(u.shape[3]):
                    du[n, m, c, p] = dsums[n, m, c]
    return du


@kernel
def norm_act_grad_v(du, u):
    """Gradient behind the ReLU: du where u > 0, else 0"""
    dv = output_tensor(u.shape, u.dtype)
    for n in range(u.shape[0]):
        for m in range(u.shape[1]):
            for c in range(u.shape[2]):
                for p in range(u.shape[3]):
                    if u[n, m, c, p] <= float32(0.0):
                        dv[n, m, c, p] = float32(0.0)
                    else:
                        dv[n, m, c, p] = du[n, m, c, p]
    return dv


@kernel
def norm_act_grad_products(dv, z, mean, inv_std):
    """dv * (z - mean) * inv_std, whose sums are dgamma"""
    products = output_tensor(z.shape, z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                for p in range(z.shape[3]):
                    products[n, m, c, p] = dv[n, m, c, p] * ((z[n, m, c, p] - mean[m, c]) * inv_std[m, c])
    return products


@kernel
def norm_act_grad_z(dv, z, mean, inv_std, gamma, dbeta_mean, dgamma_mean):
    """dz = gamma * inv_std * (dv - dbeta_mean - (z - mean) * inv_std * dgamma_mean); the last two are 0 where the
    statistics do not depend on z"""
    dz = output_tensor(z.shape, z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                for p in range(z.shape[3]):
                    dz[n, m, c, p] = gamma[m, c] * inv_std[m, c] * (
                        dv[n, m, c, p]
                        - dbeta_mean[m, c]
                        - (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * dgamma_mean[m, c]
                    )
    return dz
