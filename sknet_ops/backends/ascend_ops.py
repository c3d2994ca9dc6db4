# SPDX-License-Identifier: Apache-2.0
"""The ops as sequences of Ascend C kernels, independent of who runs them.

A :class:`Device` runs one kernel and rearranges arrays: on an NPU that is MindSpore, in the tests NumPy over the
emulated core. Maps enter and leave as (n, c, h, w); between kernels they are (n, branches, h * w, c), and weights are
(c_out, taps, c_in per group). Maps and convolution weights are float16 or float32, everything else is float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sknet_ops.backends.ascend_sizes import ConvSizes, Maps

Array = Any
#: name -> (shape, dtype) of what a kernel writes
Outputs = dict[str, tuple[tuple[int, ...], str]]
_F32 = "float32"


class Device(Protocol):
    """Who runs the kernels."""

    soc: str

    def run(
        self, op: str, inputs: dict[str, Array], outputs: Outputs, ints: Sequence[int], numbers: Sequence[float],
        dtype: str,
    ) -> list[Array]:  # fmt: skip
        """Outputs of one kernel; ``dtype`` is that of the maps.

        Inputs that a kernel does not read in the form asked for are stood in for by another of the same type: so it
        need not be known what MindSpore makes of an input that is left out.
        """

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array: ...
    def transpose(self, x: Array, axes: tuple[int, ...]) -> Array: ...
    def flip_taps(self, x: Array) -> Array:
        """Reverses the last two axes."""

    def concat(self, arrays: Sequence[Array]) -> Array:
        """Of vectors."""

    def split(self, x: Array, sizes: Sequence[int]) -> list[Array]:
        """Of a vector."""

    def cast(self, x: Array, dtype: str) -> Array: ...
    def dtype(self, x: Array) -> str: ...
    def filled(self, shape: tuple[int, ...], value: int) -> Array:
        """float32; the value is 0 or 1."""

    def pad_parts(self, x: Array, size: int) -> Array:
        """Zeros behind along axis 1, up to that size."""

    def sum_parts(self, x: Array) -> Array:
        """Over axis 1."""


@dataclass(frozen=True)
class Norm:
    """How a normalisation computes; ``momentum`` is the weight of the new batch."""

    eps: float = 1e-5
    momentum: float = 0.1
    training: bool = False
    relu: bool = True

    @property
    def ints(self) -> list[int]:
        return [int(self.training), int(self.relu)]

    @property
    def numbers(self) -> list[float]:
        return [self.eps, self.momentum]


# ---- layouts ----


def to_rows(dev: Device, x: Array) -> Array:
    """(..., c, h, w) -> (n, branches, h * w, c); branches is 1 for rank 4."""
    n, m, c, h, w = x.shape if len(x.shape) == 5 else (x.shape[0], 1, *x.shape[1:])
    return dev.transpose(dev.reshape(x, (n, m, c, h * w)), (0, 1, 3, 2))


def from_rows(dev: Device, x: Array, shape: tuple[int, ...]) -> Array:
    """The reverse; ``shape`` is (..., c, h, w)."""
    n, m, positions, c = x.shape
    return dev.reshape(dev.transpose(x, (0, 1, 3, 2)), shape)


def stack(dev: Device, vectors: Sequence[Array]) -> Array:
    """Vectors of the branches -> (branches, channels)."""
    return dev.reshape(dev.concat(vectors), (len(vectors), vectors[0].shape[0]))


def unstack(dev: Device, x: Array) -> list[Array]:
    return dev.split(dev.reshape(x, (x.shape[0] * x.shape[1],)), [x.shape[1]] * x.shape[0])


# ---- convolutions ----


def conv(dev: Device, size: ConvSizes, x: Array, weights: Sequence[Array]) -> Array:
    """x (n, 1, h * w, c_in), weights (c_out, c_in per group, k, k) -> z (n, branches, h_out * w_out, c_out)."""
    dtype = dev.dtype(x)
    flat = [dev.reshape(dev.transpose(w, (0, 2, 3, 1)), (-1,)) for w in weights]
    packed = _pack(dev, size, dev.cast(dev.concat(flat), dtype), dtype, False)
    shape = (size.n, size.branches, size.out[0] * size.out[1], size.c_out)
    return dev.run("sk_conv", {"x": x, "weight": packed}, {"y": (shape, dtype)}, [*size.ints, 0], (), dtype)[0]


def _pack(dev: Device, size: ConvSizes, flat: Array, dtype: str, data_grad: bool) -> Array:
    if size.block_groups == 1:
        return flat
    sizes = [size.packed_transposed(m) if data_grad else size.packed(m) for m in range(size.branches)]
    outputs = {"packed": ((sum(sizes),), dtype)}
    return dev.run("sk_pack_weight", {"weight": flat}, outputs, [*size.ints, int(data_grad)], (), dtype)[0]


def conv_data_grad(dev: Device, size: ConvSizes, dz: Array, weights: Sequence[Array]) -> Array:
    """dz like z of :func:`conv` -> dx (n, 1, h * w, c_in)."""
    dtype = dev.dtype(dz)
    flat = []
    for w, k in zip(weights, size.kernel, strict=True):
        by_group = dev.flip_taps(dev.reshape(w, (size.groups, size.cout_group, size.cin_group, k, k)))
        flat.append(dev.reshape(dev.transpose(by_group, (0, 2, 3, 4, 1)), (-1,)))
    packed = _pack(dev, size, dev.cast(dev.concat(flat), dtype), dtype, True)
    shape = (size.n, 1, size.h * size.w, size.c_in)
    return dev.run("sk_conv", {"x": dz, "weight": packed}, {"y": (shape, dtype)}, [*size.ints, 1], (), dtype)[0]


def conv_weight_grad(dev: Device, size: ConvSizes, x: Array, dz: Array) -> list[Array]:
    """-> gradients (c_out, c_in per group, k, k), float32"""
    dtype = dev.dtype(x)
    splits = size.weight_grad_splits(dev.soc, dtype)
    partial = (splits * sum(size.packed(m) for m in range(size.branches)),)
    sums = dev.run("sk_conv_weight_grad", {"x": x, "dz": dz}, {"partial": (partial, _F32)}, [*size.ints, 0], (),
                   dtype)[0]  # fmt: skip
    sizes = [size.c_out * k * k * size.cin_group for k in size.kernel]
    flat = dev.run("sk_unpack_weight_grad", {"partial": sums, "like": x}, {"dweight": ((sum(sizes),), _F32)},
                   [*size.ints, 0], (), dtype)[0]  # fmt: skip
    parts = zip(dev.split(flat, sizes), size.kernel, strict=True)
    return [dev.transpose(dev.reshape(w, (size.c_out, k, k, size.cin_group)), (0, 3, 1, 2)) for w, k in parts]


# ---- normalise, ReLU, pool ----


@dataclass(frozen=True)
class NormResult:
    u: Array  # (n, branches, positions, channels)
    pooled: Array  # (n, shares, channels): shares of the mean over positions of the branches' sum
    mean: Array  # (branches, channels), as the three below
    inv_std: Array
    moving_mean: Array  # after this batch
    moving_variance: Array


def norm_act(
    dev: Device, z: Array, gamma: Array, beta: Array, moving_mean: Array, moving_variance: Array, norm: Norm
) -> NormResult:
    """z (n, branches, positions, channels); the others (branches, channels)."""
    maps, dtype = Maps(*z.shape), dev.dtype(z)
    partial = gamma  # not read in inference
    if norm.training:
        shape = (maps.branches, maps.statistics_splits(dev.soc), 2, maps.channels)
        partial = dev.run("sk_norm_partial", {"z": z}, {"partial": (shape, _F32)}, maps.ints, (), dtype)[0]
    inputs = {"z": z, "gamma": gamma, "beta": beta, "moving_mean": moving_mean, "moving_variance": moving_variance,
              "partial": partial}  # fmt: skip
    vector = ((maps.branches, maps.channels), _F32)
    outputs = {
        "u": (tuple(z.shape), dtype),
        "pooled": ((maps.n, maps.image_splits(dev.soc), maps.channels), _F32),
        "mean": vector, "inv_std": vector, "new_mean": vector, "new_variance": vector,
    }  # fmt: skip
    return NormResult(*dev.run("sk_norm_act", inputs, outputs, [*maps.ints, *norm.ints], norm.numbers, dtype))


def norm_act_grad(
    dev: Device, du: Array, z: Array, mean: Array, inv_std: Array, gamma: Array, beta: Array, norm: Norm
) -> tuple[Array, Array, Array]:
    """-> dz like z, dgamma and dbeta (branches, channels)"""
    maps, dtype = Maps(*z.shape), dev.dtype(z)
    inputs = {"du": du, "z": z, "mean": mean, "inv_std": inv_std, "gamma": gamma, "beta": beta}
    ints = [*maps.ints, *norm.ints]
    shape = (maps.branches, maps.statistics_splits(dev.soc), 2, maps.channels)
    partial = dev.run("sk_norm_grad_partial", inputs, {"partial": (shape, _F32)}, ints, norm.numbers, dtype)[0]
    vector = ((maps.branches, maps.channels), _F32)
    outputs = {"dz": (tuple(z.shape), dtype), "dgamma": vector, "dbeta": vector}
    dz, dgamma, dbeta = dev.run("sk_norm_grad", {**inputs, "partial": partial}, outputs, ints, norm.numbers, dtype)
    return dz, dgamma, dbeta


# ---- attention and select ----


@dataclass(frozen=True)
class AttentionResult:
    attention: Array  # (n, branches, channels)
    pooled: Array  # (n, channels)
    hidden: Array  # (reduced, n), before the norm
    activated: Array  # (reduced, n), after norm and ReLU
    mean: Array  # (reduced), as the three below
    inv_std: Array
    moving_mean: Array
    moving_variance: Array


def attention(
    dev: Device, maps: Maps, pooled_parts: Array, fc_reduce: Array, gamma: Array, beta: Array, moving_mean: Array,
    moving_variance: Array, fc_select: Array, norm: Norm, dtype: str,
) -> AttentionResult:  # fmt: skip
    """fc_reduce (reduced, channels), fc_select (branches * channels, reduced)"""
    reduced = fc_reduce.shape[0]
    ints = [*maps.ints, int(norm.training), reduced]
    inputs = {"pooled_parts": pooled_parts, "fc_reduce": fc_reduce, "gamma": gamma, "beta": beta,
              "moving_mean": moving_mean, "moving_variance": moving_variance}  # fmt: skip
    row, vector = ((reduced, maps.n), _F32), ((reduced,), _F32)
    outputs = {"pooled": ((maps.n, maps.channels), _F32), "hidden": row, "activated": row, "mean": vector,
               "inv_std": vector, "new_mean": vector, "new_variance": vector}  # fmt: skip
    hidden = dev.run("sk_attention_hidden", inputs, outputs, ints, norm.numbers, dtype)
    inputs = {"activated": hidden[2], "fc_select": dev.transpose(fc_select, (1, 0))}
    outputs = {"attention": ((maps.n, maps.branches, maps.channels), _F32)}
    return AttentionResult(*dev.run("sk_attention_select", inputs, outputs, ints, norm.numbers, dtype), *hidden)


@dataclass(frozen=True)
class AttentionGrad:
    dhidden: Array  # (reduced, n)
    dfc_reduce: Array
    dgamma: Array
    dbeta: Array
    dfc_select: Array


def attention_grad(
    dev: Device, maps: Maps, dattention_parts: Array, saved: AttentionResult, gamma: Array, fc_select: Array,
    norm: Norm, dtype: str,
) -> AttentionGrad:  # fmt: skip
    """dattention_parts (n, shares, branches, channels)"""
    reduced, everything = saved.hidden.shape[0], maps.branches * maps.channels
    inputs = {"attention": saved.attention, "dattention_parts": dattention_parts, "pooled": saved.pooled,
              "hidden": saved.hidden, "activated": saved.activated, "mean": saved.mean, "inv_std": saved.inv_std,
              "gamma": gamma, "fc_select": dev.transpose(fc_select, (1, 0))}  # fmt: skip
    vector = ((reduced,), _F32)
    outputs = {"dhidden": ((reduced, maps.n), _F32), "dfc_reduce": ((reduced, maps.channels), _F32), "dgamma": vector,
               "dbeta": vector, "dfc_select": ((reduced, everything), _F32)}  # fmt: skip
    ints = [*maps.ints, int(norm.training), reduced]
    *grads, dfc_select = dev.run("sk_attention_grad", inputs, outputs, ints, norm.numbers, dtype)
    return AttentionGrad(*grads, dev.transpose(dfc_select, (1, 0)))


def select(dev: Device, u: Array, attention: Array) -> Array:
    """u (n, branches, positions, channels), attention (n, branches, channels) -> y (n, 1, positions, channels)"""
    maps, dtype = Maps(*u.shape), dev.dtype(u)
    outputs = {"y": ((maps.n, 1, maps.positions, maps.channels), dtype)}
    return dev.run("sk_select", {"u": u, "attention": attention}, outputs, maps.ints, (), dtype)[0]


def attention_gradient(dev: Device, dy: Array, u: Array) -> Array:
    """-> shares (n, shares, branches, channels) of the gradient of the attention"""
    maps, dtype = Maps(*u.shape), dev.dtype(u)
    shape = (maps.n, maps.image_splits(dev.soc), maps.branches, maps.channels)
    return dev.run("sk_select_grad", {"dy": dy, "u": u}, {"dattention": (shape, _F32)}, maps.ints, (), dtype)[0]


def branch_gradient(
    dev: Device, maps: Maps, dy: Array, attention: Array, dhidden: Array, fc_reduce: Array, dtype: str,
    parts: tuple[bool, bool] = (True, True),
) -> Array:  # fmt: skip
    """du from dy through the weighted sum, from dhidden through the pooling, or from both, as `parts` says."""
    inputs = {"dy": dy, "attention": attention, "dhidden": dhidden, "fc_reduce": fc_reduce}
    ints = [*maps.ints, *map(int, parts), fc_reduce.shape[0] if parts[1] else 0]
    shape = (maps.n, maps.branches, maps.positions, maps.channels)
    return dev.run("sk_branch_grad", inputs, {"du": (shape, dtype)}, ints, (), dtype)[0]


# ---- what the ops need where they are called alone ----


def pool(dev: Device, u: Array) -> Array:
    """u (n, branches, positions, channels) -> shares (n, shares, channels) of the mean of the branches' sum.

    By the kernel that normalises, with a norm that changes nothing.
    """
    ones, zeros = (dev.filled((u.shape[1], u.shape[3]), value) for value in (1, 0))
    return norm_act(dev, u, ones, zeros, zeros, ones, Norm(eps=0.0, relu=False)).pooled


def as_parts(dev: Device, maps: Maps, dattention: Array) -> Array:
    """dattention (n, branches, channels) in the shares that the attention's gradient adds up: all in the first."""
    parts = dev.reshape(dattention, (maps.n, 1, maps.branches, maps.channels))
    return dev.pad_parts(parts, maps.image_splits(dev.soc))


def pool_gradient(dev: Device, maps: Maps, u: Array, dhidden: Array, fc_reduce: Array) -> Array:
    """du from dhidden alone; of u only the type is used."""
    return branch_gradient(dev, maps, u, fc_reduce, dhidden, fc_reduce, dev.dtype(u), (False, True))


def select_gradient(dev: Device, maps: Maps, dy: Array, attention: Array) -> Array:
    """du through the weighted sum alone."""
    return branch_gradient(dev, maps, dy, attention, attention, attention, dev.dtype(dy), (True, False))


# ---- the layer ----


@dataclass(frozen=True)
class LayerWeights:
    """As the primitives take them: lists have one entry a branch."""

    weight: Sequence[Array]
    gamma: Sequence[Array]
    beta: Sequence[Array]
    moving_mean: Sequence[Array]
    moving_variance: Sequence[Array]
    fc_reduce: Array
    attn_gamma: Array
    attn_beta: Array
    attn_moving_mean: Array
    attn_moving_variance: Array
    fc_select: Array

    def stacked(self, dev: Device) -> tuple[Array, Array, Array, Array]:
        return tuple(stack(dev, v) for v in (self.gamma, self.beta, self.moving_mean, self.moving_variance))


@dataclass(frozen=True)
class Layer:
    """One selective-kernel layer and how it is computed."""

    size: ConvSizes
    norm: Norm
    attn_norm: Norm

    @property
    def maps(self) -> Maps:
        return Maps(self.size.n, self.size.branches, self.size.out[0] * self.size.out[1], self.size.c_out)

    def forward(self, dev: Device, x: Array, w: LayerWeights) -> dict[str, Array]:
        """x (n, c_in, h, w) -> y, attention, and in training what backward needs and the new moving statistics.

        Saved maps (z) stay in the kernels' layout.
        """
        z = conv(dev, self.size, to_rows(dev, x), w.weight)
        result = norm_act(dev, z, *w.stacked(dev), self.norm)
        attn = self._attention(dev, result.pooled, w, dev.dtype(x))
        y = select(dev, result.u, attn.attention)
        shape = (self.size.n, self.size.c_out, *self.size.out)
        out = {"y": from_rows(dev, y, shape), "attention": attn.attention}
        if self.norm.training:
            out.update(z=z, mean=result.mean, inv_std=result.inv_std, pooled=attn.pooled, hidden=attn.hidden,
                       attn_mean=attn.mean, attn_inv_std=attn.inv_std, moving_mean=result.moving_mean,
                       moving_variance=result.moving_variance, attn_moving_mean=attn.moving_mean,
                       attn_moving_variance=attn.moving_variance)  # fmt: skip
        return out

    def _attention(self, dev: Device, pooled: Array, w: LayerWeights, dtype: str) -> AttentionResult:
        return attention(dev, self.maps, pooled, w.fc_reduce, w.attn_gamma, w.attn_beta, w.attn_moving_mean,
                         w.attn_moving_variance, w.fc_select, self.attn_norm, dtype)  # fmt: skip

    def backward(self, dev: Device, dy: Array, x: Array, w: LayerWeights, z: Array | None) -> dict[str, Array]:
        """Gradients, named as in ``selective_kernel_grad``; lists have one entry a branch.

        ``z`` is forward's in training. All that is cheaper to compute again than to keep is computed again.
        """
        dtype = dev.dtype(x)
        rows, dy_rows = to_rows(dev, x), to_rows(dev, dy)
        if z is None:
            z = conv(dev, self.size, rows, w.weight)
        gamma, beta, moving_mean, moving_variance = w.stacked(dev)
        result = norm_act(dev, z, gamma, beta, moving_mean, moving_variance, self.norm)
        attn = self._attention(dev, result.pooled, w, dtype)
        parts = attention_gradient(dev, dy_rows, result.u)
        grad = attention_grad(dev, self.maps, parts, attn, w.attn_gamma, w.fc_select, self.attn_norm, dtype)
        du = branch_gradient(dev, self.maps, dy_rows, attn.attention, grad.dhidden, w.fc_reduce, dtype)
        dz, dgamma, dbeta = norm_act_grad(dev, du, z, result.mean, result.inv_std, gamma, beta, self.norm)
        dx = conv_data_grad(dev, self.size, dz, w.weight)
        return {
            "dx": from_rows(dev, dx, tuple(x.shape)),
            "dweight": conv_weight_grad(dev, self.size, rows, dz),
            "dgamma": unstack(dev, dgamma),
            "dbeta": unstack(dev, dbeta),
            "dfc_reduce": grad.dfc_reduce,
            "dattn_gamma": grad.dgamma,
            "dattn_beta": grad.dbeta,
            "dfc_select": grad.dfc_select,
        }
