# SPDX-License-Identifier: Apache-2.0
"""The ops in NumPy, written apart from the C++ reference (windows and einsum instead of loops), to check it.

Same names, arguments and results as `sknet_ops._native`: every function returns a dict; in training the moving
statistics are updated in place and the dict holds what the gradient needs. All arithmetic is that of the inputs' dtype
(meant: float64). Shapes are those of csrc/include/sknet_ops/params.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray
Result = dict[str, Any]


def out_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _windows(x: Array, kernel: int, stride: int, padding: int, dilation: int, groups: int) -> Array:
    """(n, groups, c_in / groups, h_out, w_out, kernel, kernel)"""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    span = dilation * (kernel - 1) + 1
    win = sliding_window_view(padded, (span, span), axis=(2, 3))[:, :, ::stride, ::stride, ::dilation, ::dilation]
    return win.reshape(x.shape[0], groups, x.shape[1] // groups, *win.shape[2:])


def conv2d(x: Array, weight: Array, stride: int, padding: int, dilation: int, groups: int) -> Array:
    win = _windows(x, weight.shape[2], stride, padding, dilation, groups)
    split = weight.reshape(groups, -1, *weight.shape[1:])
    # A matrix product a group: with the groups' axis left in, einsum would not take BLAS.
    z = np.stack([np.tensordot(win[:, g], split[g], ((1, 4, 5), (1, 2, 3))) for g in range(groups)], 1)
    return np.moveaxis(z, 4, 2).reshape(x.shape[0], weight.shape[0], *z.shape[2:4])


def conv2d_grad(
    dz: Array, x: Array, weight: Array, stride: int, padding: int, dilation: int, groups: int
) -> tuple[Array, Array]:
    """dx, dweight"""
    kernel = weight.shape[2]
    win = _windows(x, kernel, stride, padding, dilation, groups)
    dz_split = dz.reshape(dz.shape[0], groups, -1, *dz.shape[2:])
    over = (0, 2, 3)  # images and positions
    dweight = np.stack([np.tensordot(dz_split[:, g], win[:, g], (over, over)) for g in range(groups)])

    split = weight.reshape(groups, -1, *weight.shape[1:])
    n, c_in, h, w = x.shape
    h_out, w_out = dz.shape[2:]
    padded = np.zeros((n, c_in, h + 2 * padding, w + 2 * padding), x.dtype)
    for kh in range(kernel):
        for kw in range(kernel):
            taps = split[..., kh, kw]
            part = np.stack([np.tensordot(dz_split[:, g], taps[g], (1, 0)) for g in range(groups)], 1)
            rows = slice(kh * dilation, kh * dilation + stride * (h_out - 1) + 1, stride)
            columns = slice(kw * dilation, kw * dilation + stride * (w_out - 1) + 1, stride)
            padded[:, :, rows, columns] += np.moveaxis(part, 4, 2).reshape(n, c_in, h_out, w_out)
    return padded[:, :, padding : padding + h, padding : padding + w], dweight.reshape(weight.shape)


def _per_channel(vector: Array, like: Array) -> Array:
    return vector.reshape(1, -1, *[1] * (like.ndim - 2))


def _over(z: Array) -> tuple[int, ...]:
    return (0, *range(2, z.ndim))


def statistics(
    z: Array, moving_mean: Array, moving_variance: Array, eps: float, momentum: float, training: bool
) -> tuple[Array, Array]:
    """mean, inv_std that the normalisation uses; channels are axis 1."""
    eps, momentum = float(np.float32(eps)), float(np.float32(momentum))
    if not training:
        return moving_mean.copy(), 1 / np.sqrt(moving_variance + eps)
    count = z.size // z.shape[1]
    if count == 0:
        return np.zeros_like(moving_mean), np.zeros_like(moving_mean)
    mean, variance = z.mean(_over(z)), z.var(_over(z))
    moving_mean += momentum * (mean - moving_mean)
    moving_variance += momentum * (variance * (count / max(count - 1, 1)) - moving_variance)
    return mean, 1 / np.sqrt(variance + eps)


def affine(z: Array, gamma: Array, beta: Array, mean: Array, inv_std: Array) -> Array:
    normalised = (z - _per_channel(mean, z)) * _per_channel(inv_std, z)
    return normalised * _per_channel(gamma, z) + _per_channel(beta, z)


def affine_grad(
    dv: Array, z: Array, gamma: Array, mean: Array, inv_std: Array, training: bool
) -> tuple[Array, Array, Array]:
    """dz, dgamma, dbeta"""
    normalised = (z - _per_channel(mean, z)) * _per_channel(inv_std, z)
    dgamma, dbeta = (dv * normalised).sum(_over(z)), dv.sum(_over(z))
    dnormalised = dv * _per_channel(gamma, z)
    if training and z.size:
        average = dnormalised.mean(_over(z), keepdims=True)
        along = (dnormalised * normalised).mean(_over(z), keepdims=True)
        dnormalised = dnormalised - average - normalised * along
    return dnormalised * _per_channel(inv_std, z), dgamma, dbeta


def rectify(v: Array) -> Array:
    return np.where(v < 0, 0, v)


def rectify_grad(dy: Array, y: Array) -> Array:
    return np.where(y <= 0, 0, dy)


# ---- conv_bn_act ----


def conv_bn_act(
    x, weight, gamma, beta, moving_mean, moving_variance, residual=None, *, stride=1, padding=0, dilation=1, groups=1,
    eps=1e-5, momentum=0.1, relu=True, training=False,
) -> Result:  # fmt: skip
    z = conv2d(x, weight, stride, padding, dilation, groups)
    mean, inv_std = statistics(z, moving_mean, moving_variance, eps, momentum, training)
    y = affine(z, gamma, beta, mean, inv_std) + (0 if residual is None else residual)
    y = rectify(y) if relu else y
    return {"y": y, "z": z, "mean": mean, "inv_std": inv_std} if training else {"y": y}


def conv_bn_act_grad(
    dy, x, weight, gamma, beta, moving_mean, moving_variance, y, z=None, mean=None, inv_std=None, *, residual=False,
    stride=1, padding=0, dilation=1, groups=1, eps=1e-5, momentum=0.1, relu=True, training=False,
) -> Result:  # fmt: skip
    if not training:
        z = conv2d(x, weight, stride, padding, dilation, groups)
        mean, inv_std = statistics(z, moving_mean, moving_variance, eps, momentum, False)
    dv = rectify_grad(dy, y) if relu else dy
    dz, dgamma, dbeta = affine_grad(dv, z, gamma, mean, inv_std, training)
    dx, dweight = conv2d_grad(dz, x, weight, stride, padding, dilation, groups)
    grads = {"dx": dx, "dweight": dweight, "dgamma": dgamma, "dbeta": dbeta}
    return {**grads, "dresidual": dv} if residual else grads


# ---- sk_conv ----


def _parts(x: Array, branches: int, split_input: bool) -> list[Array]:
    return np.split(x, branches, axis=1) if split_input else [x] * branches


def sk_conv(
    x, weight, gamma, beta, moving_mean, moving_variance, *, padding, dilation, stride=1, groups=1, split_input=False,
    eps=1e-5, momentum=0.1, relu=True, training=False,
) -> Result:  # fmt: skip
    branches = [
        conv_bn_act(part, *tensors, stride=stride, padding=p, dilation=d, groups=groups, eps=eps, momentum=momentum,
                    relu=relu, training=training)
        for part, p, d, *tensors in zip(_parts(x, len(weight), split_input), padding, dilation, weight, gamma, beta,
                                        moving_mean, moving_variance, strict=True)
    ]  # fmt: skip
    result = {"u": np.stack([b["y"] for b in branches], axis=1)}
    if training:
        result["z"] = np.stack([b["z"] for b in branches], axis=1)
        result["mean"] = np.stack([b["mean"] for b in branches])
        result["inv_std"] = np.stack([b["inv_std"] for b in branches])
    return result


def sk_conv_grad(
    du, x, weight, gamma, beta, moving_mean, moving_variance, z=None, mean=None, inv_std=None, *, padding, dilation,
    stride=1, groups=1, split_input=False, eps=1e-5, momentum=0.1, relu=True, training=False,
) -> Result:  # fmt: skip
    grads = []
    for m, part in enumerate(_parts(x, len(weight), split_input)):
        tensors = part, weight[m], gamma[m], beta[m], moving_mean[m], moving_variance[m]
        attrs = {"stride": stride, "padding": padding[m], "dilation": dilation[m], "groups": groups, "eps": eps,
                 "momentum": momentum, "relu": relu, "training": training}  # fmt: skip
        if training:
            y = affine(z[:, m], gamma[m], beta[m], mean[m], inv_std[m])
            saved = z[:, m], mean[m], inv_std[m]
        else:
            y, saved = conv_bn_act(*tensors, **attrs)["y"], ()
        grads.append(conv_bn_act_grad(du[:, m], *tensors, y, *saved, **attrs))
    dx = [g["dx"] for g in grads]
    return {
        "dx": np.concatenate(dx, axis=1) if split_input else sum(dx),
        "dweight": [g["dweight"] for g in grads],
        "dgamma": [g["dgamma"] for g in grads],
        "dbeta": [g["dbeta"] for g in grads],
    }


# ---- sk_attention ----


def _matrix(weight: Array) -> Array:
    return weight.reshape(weight.shape[:2])


def sk_attention(
    u, fc_reduce, gamma, beta, moving_mean, moving_variance, fc_select, *, eps=1e-5, momentum=0.1, training=False
) -> Result:
    n, branches, c = u.shape[:3]
    pooled = u.sum(1).mean((2, 3))
    hidden = pooled @ _matrix(fc_reduce).T
    mean, inv_std = statistics(hidden, moving_mean, moving_variance, eps, momentum, training)
    logits = rectify(affine(hidden, gamma, beta, mean, inv_std)) @ _matrix(fc_select).T
    logits = logits.reshape(n, branches, c)
    power = np.exp(logits - logits.max(1, keepdims=True))
    result = {"attention": power / power.sum(1, keepdims=True)}
    if training:
        result.update(pooled=pooled, hidden=hidden, mean=mean, inv_std=inv_std)
    return result


def sk_attention_grad(
    dattention, u, fc_reduce, gamma, beta, moving_mean, moving_variance, fc_select, attention, pooled=None, hidden=None,
    mean=None, inv_std=None, *, eps=1e-5, momentum=0.1, training=False,
) -> Result:  # fmt: skip
    n, branches, c, h, w = u.shape
    if not training:
        pooled = u.sum(1).mean((2, 3))
        hidden = pooled @ _matrix(fc_reduce).T
        mean, inv_std = statistics(hidden, moving_mean, moving_variance, eps, momentum, False)
    activated = rectify(affine(hidden, gamma, beta, mean, inv_std))
    dlogits = attention * (dattention - (attention * dattention).sum(1, keepdims=True))
    dlogits = dlogits.reshape(n, branches * c)
    dactivated = rectify_grad(dlogits @ _matrix(fc_select), activated)
    dhidden, dgamma, dbeta = affine_grad(dactivated, hidden, gamma, mean, inv_std, training)
    dpooled = dhidden @ _matrix(fc_reduce)
    return {
        "du": np.broadcast_to(dpooled[:, None, :, None, None] / (h * w), u.shape).copy(),
        "dfc_reduce": (dhidden.T @ pooled).reshape(fc_reduce.shape),
        "dgamma": dgamma,
        "dbeta": dbeta,
        "dfc_select": (dlogits.T @ activated).reshape(fc_select.shape),
    }


# ---- sk_select ----


def sk_select(u, attention) -> Result:
    return {"y": np.einsum("nmchw,nmc->nchw", u, attention)}


def sk_select_grad(dy, u, attention) -> Result:
    return {"du": attention[..., None, None] * dy[:, None], "dattention": np.einsum("nmchw,nchw->nmc", u, dy)}


# ---- max_pool ----


def _pool_windows(x: Array, kernel: int, stride: int, padding: int, same: bool) -> tuple[Array, tuple[int, int]]:
    """(n, c, h_out, w_out, kernel * kernel), and the padding above and on the left."""
    pads, counts = [], []
    for size in x.shape[2:]:
        count = -(-size // stride) if same else (size + 2 * padding - kernel) // stride + 1
        missing = max((count - 1) * stride + kernel - size, 0)
        before = missing // 2 if same else padding
        pads.append((before, max(missing - before, 0)))
        counts.append(count)
    padded = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=-np.inf)
    win = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    win = win[:, :, : counts[0], : counts[1]]
    return win.reshape(*win.shape[:4], -1), (pads[0][0], pads[1][0])


def max_pool(x, *, kernel, stride=1, padding=0, same=False) -> Result:
    return {"y": _pool_windows(x, kernel, stride, padding, same)[0].max(-1)}


def max_pool_grad(dy, x, *, kernel, stride=1, padding=0, same=False) -> Result:
    """For finite x, where a window's first largest value is never padding."""
    win, (top, left) = _pool_windows(x, kernel, stride, padding, same)
    first = win.argmax(-1)
    n, c, oh, ow = np.indices(first.shape)
    dx = np.zeros_like(x)
    np.add.at(dx, (n, c, oh * stride - top + first // kernel, ow * stride - left + first % kernel), dy)
    return {"dx": dx}


# ---- selective_kernel ----


def selective_kernel(
    x, weight, gamma, beta, moving_mean, moving_variance, fc_reduce, attn_gamma, attn_beta, attn_moving_mean,
    attn_moving_variance, fc_select, *, training=False, attn_eps=1e-5, attn_momentum=0.1, **attrs,
) -> Result:  # fmt: skip
    conv = sk_conv(x, weight, gamma, beta, moving_mean, moving_variance, training=training, **attrs)
    attn = sk_attention(
        conv["u"], fc_reduce, attn_gamma, attn_beta, attn_moving_mean, attn_moving_variance, fc_select, eps=attn_eps,
        momentum=attn_momentum, training=training,
    )  # fmt: skip
    result = {**sk_select(conv["u"], attn["attention"]), "attention": attn["attention"]}
    if training:
        result.update(z=conv["z"], mean=conv["mean"], inv_std=conv["inv_std"], pooled=attn["pooled"],
                      hidden=attn["hidden"], attn_mean=attn["mean"], attn_inv_std=attn["inv_std"])  # fmt: skip
    return result


def _activated(z: Array, gamma: Sequence[Array], beta: Sequence[Array], mean: Array, inv_std: Array) -> Array:
    maps = [affine(z[:, m], gamma[m], beta[m], mean[m], inv_std[m]) for m in range(len(gamma))]
    return np.stack(maps, axis=1)


def selective_kernel_grad(
    dy, x, weight, gamma, beta, moving_mean, moving_variance, fc_reduce, attn_gamma, attn_beta, attn_moving_mean,
    attn_moving_variance, fc_select, attention, z=None, mean=None, inv_std=None, pooled=None, hidden=None,
    attn_mean=None, attn_inv_std=None, *, training=False, attn_eps=1e-5, attn_momentum=0.1, relu=True, **attrs,
) -> Result:  # fmt: skip
    branch = weight, gamma, beta, moving_mean, moving_variance
    if training:
        u = _activated(z, gamma, beta, mean, inv_std)
        u = rectify(u) if relu else u
    else:
        u = sk_conv(x, *branch, relu=relu, **attrs)["u"]
    select = sk_select_grad(dy, u, attention)
    attn = sk_attention_grad(
        select["dattention"], u, fc_reduce, attn_gamma, attn_beta, attn_moving_mean, attn_moving_variance, fc_select,
        attention, pooled, hidden, attn_mean, attn_inv_std, eps=attn_eps, momentum=attn_momentum, training=training,
    )  # fmt: skip
    conv = sk_conv_grad(select["du"] + attn["du"], x, *branch, z, mean, inv_std, relu=relu, training=training, **attrs)
    return {
        **conv,
        "dfc_reduce": attn["dfc_reduce"],
        "dattn_gamma": attn["dgamma"],
        "dattn_beta": attn["dbeta"],
        "dfc_select": attn["dfc_select"],
    }
