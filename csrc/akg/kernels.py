# SPDX-License-Identifier: Apache-2.0
"""SK passes in AKG's hybrid DSL: normalise + ReLU + pool, and the select pass, forward and backward.

The DSL is a small part of Python that AKG parses; loops, no slices. Maps are (n, m, c, p): images, branches, channels,
positions; mean, inv_std, gamma and beta are (m, c). v = (z - mean) * inv_std * gamma + beta is the normalised map.
Everything is float32. Compiled once for each shape.

What AKG (MindSpore 2.10.0) compiles wrongly on the CPU, without a word: two outputs, an output read back by another
statement, and most sums. A sum is right where each addition stands under an ``if`` without ``else`` whose condition
reads the element that is added: hence the comparisons with 0. They also leave out NaN, for which the caller has to
care. An expression that is used twice is written out twice.
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
    """u = relu(v)"""
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
def norm_act_pool(z, mean, inv_std, gamma, beta):
    """sums (n, m, c) over p of relu(v): normalise, ReLU and pool in one, nothing between is stored"""
    sums = output_tensor((z.shape[0], z.shape[1], z.shape[2]), z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                sums[n, m, c] = float32(0.0)
                for p in range(z.shape[3]):
                    if (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c] > float32(0.0):
                        sums[n, m, c] = sums[n, m, c] + (
                            (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c]
                        )
    return sums


@kernel
def norm_act_select(z, mean, inv_std, gamma, beta, a):
    """y (n, c, p) = sum over m of a (n, m, c) * relu(v): the select pass, which computes the branches again"""
    y = output_tensor((z.shape[0], z.shape[2], z.shape[3]), z.dtype)
    for n in range(z.shape[0]):
        for c in range(z.shape[2]):
            for p in range(z.shape[3]):
                y[n, c, p] = float32(0.0)
                for m in range(z.shape[1]):
                    if (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c] > float32(0.0):
                        y[n, c, p] = y[n, c, p] + a[n, m, c] * (
                            (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c]
                        )
    return y


@kernel
def norm_act_select_grad_a(dy, z, mean, inv_std, gamma, beta):
    """da (n, m, c) = sum over p of relu(v) * dy"""
    sums = output_tensor((z.shape[0], z.shape[1], z.shape[2]), z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                sums[n, m, c] = float32(0.0)
                for p in range(z.shape[3]):
                    if (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c] > float32(0.0):
                        sums[n, m, c] = sums[n, m, c] + dy[n, c, p] * (
                            (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c]
                        )
    return sums


@kernel
def norm_act_grad_v(du, z, mean, inv_std, gamma, beta):
    """Gradient by v of u = relu(v)"""
    dv = output_tensor(z.shape, z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                for p in range(z.shape[3]):
                    if (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c] > float32(0.0):
                        dv[n, m, c, p] = du[n, m, c, p]
                    else:
                        dv[n, m, c, p] = float32(0.0)
    return dv


@kernel
def norm_act_pool_grad_v(dsums, z, mean, inv_std, gamma, beta):
    """Gradient by v of its pooled sums"""
    dv = output_tensor(z.shape, z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                for p in range(z.shape[3]):
                    if (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c] > float32(0.0):
                        dv[n, m, c, p] = dsums[n, m, c]
                    else:
                        dv[n, m, c, p] = float32(0.0)
    return dv


@kernel
def norm_act_select_grad_v(dy, a, z, mean, inv_std, gamma, beta):
    """Gradient by v of the weighted sum"""
    dv = output_tensor(z.shape, z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                for p in range(z.shape[3]):
                    if (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * gamma[m, c] + beta[m, c] > float32(0.0):
                        dv[n, m, c, p] = a[n, m, c] * dy[n, c, p]
                    else:
                        dv[n, m, c, p] = float32(0.0)
    return dv


@kernel
def pool(u):
    """sums (n, m, c) over p"""
    sums = output_tensor((u.shape[0], u.shape[1], u.shape[2]), u.dtype)
    for n in range(u.shape[0]):
        for m in range(u.shape[1]):
            for c in range(u.shape[2]):
                sums[n, m, c] = float32(0.0)
                for p in range(u.shape[3]):
                    if u[n, m, c, p] != float32(0.0):
                        sums[n, m, c] = sums[n, m, c] + u[n, m, c, p]
    return sums


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
def norm_grad_gamma(dv, z, mean, inv_std):
    """sums (n, m, c) over p of dv * (z - mean) * inv_std, which make dgamma"""
    sums = output_tensor((z.shape[0], z.shape[1], z.shape[2]), z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                sums[n, m, c] = float32(0.0)
                for p in range(z.shape[3]):
                    if dv[n, m, c, p] != float32(0.0):
                        sums[n, m, c] = sums[n, m, c] + dv[n, m, c, p] * ((z[n, m, c, p] - mean[m, c]) * inv_std[m, c])
    return sums


@kernel
def norm_grad_z(dv, z, mean, inv_std, gamma, dbeta_mean, dgamma_mean):
    """dz = gamma * inv_std * (dv - dbeta_mean - (z - mean) * inv_std * dgamma_mean); the last two are 0 where the
    statistics do not depend on z"""
    dz = output_tensor(z.shape, z.dtype)
    for n in range(z.shape[0]):
        for m in range(z.shape[1]):
            for c in range(z.shape[2]):
                for p in range(z.shape[3]):
                    dz[n, m, c, p] = (
                        gamma[m, c]
                        * inv_std[m, c]
                        * (
                            dv[n, m, c, p]
                            - dbeta_mean[m, c]
                            - (z[n, m, c, p] - mean[m, c]) * inv_std[m, c] * dgamma_mean[m, c]
                        )
                    )
    return dz
