# SPDX-License-Identifier: Apache-2.0
"""Layers for the emulated kernels, each with its reason, and what they should compute."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from sknet_ops.backends.ascend_ops import Layer, LayerWeights, Norm
from sknet_ops.backends.ascend_sizes import ConvSizes
from tests import reference_numpy as reference

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    why: str
    n: int
    c_in: int
    hw: tuple[int, int]
    c_out: int
    groups: int = 1
    stride: int = 1
    kernel: tuple[int, ...] = (3, 3)
    dilation: tuple[int, ...] = (1, 2)
    split_input: bool = False
    reduced: int = 16
    relu: bool = True

    def __str__(self) -> str:
        return self.why.replace(" ", "-")

    @property
    def size(self) -> ConvSizes:
        padding = tuple(d * (k - 1) // 2 for k, d in zip(self.kernel, self.dilation, strict=True))
        return ConvSizes(self.n, self.c_in, *self.hw, self.c_out, self.groups, self.stride, self.split_input,
                         self.kernel, padding, self.dilation)  # fmt: skip

    def layer(self, training: bool) -> Layer:
        return Layer(self.size, Norm(training=training, relu=self.relu), Norm(training=training))


# Small enough for fifty schedules each. Of two images the hidden layer's norm would leave signs only, and a gradient
# that is all cancellation: hence four.
SMALL = [
    Case("4 channels a group", 4, 32, (5, 7), 32, groups=8),
    Case("8 channels a group and stride 2", 4, 32, (7, 5), 32, groups=4, stride=2),
    Case("16 channels a group", 4, 32, (4, 5), 32, groups=2),
    Case("32 channels a group", 4, 64, (4, 3), 64, groups=2, reduced=8),
    Case("dense and split with stride 2", 4, 64, (6, 7), 32, stride=2, split_input=True),
    Case("dilation 3 and one branch with 5 taps a side", 4, 16, (9, 5), 16, kernel=(3, 5), dilation=(3, 1)),
    Case("four branches", 4, 32, (3, 6), 32, groups=2, kernel=(1, 3, 3, 3), dilation=(1, 1, 2, 3), reduced=24),
    Case("one branch and one position", 4, 32, (1, 1), 32, groups=8, kernel=(3,), dilation=(1,)),
    Case("more inputs than outputs a group", 4, 64, (5, 4), 16, groups=4, stride=2),
    Case("no ReLU", 4, 16, (4, 4), 16, groups=1, relu=False),
]
# Every stage of the SKNets; maps cut down, with a few odd sizes among them.
STAGES = [
    Case("sknet50 stage 1", 3, 128, (15, 14), 128, groups=32, reduced=32),
    Case("sknet50 stage 2 first", 3, 256, (14, 14), 256, groups=32, stride=2, reduced=32),
    Case("sknet50 stage 2", 3, 256, (9, 9), 256, groups=32, reduced=32),
    Case("sknet50 stage 3 first", 3, 512, (10, 9), 512, groups=32, stride=2, reduced=32),
    Case("sknet50 stage 3", 3, 512, (5, 6), 512, groups=32, reduced=32),
    Case("sknet50 stage 4 first", 3, 1024, (7, 7), 1024, groups=32, stride=2, reduced=64),
    Case("sknet50 stage 4", 3, 1024, (4, 4), 1024, groups=32, reduced=64),
    Case("skresnet18 stage 1", 3, 64, (16, 9), 64, split_input=True),
    Case("skresnet18 stage 2 first", 3, 64, (12, 12), 128, stride=2, split_input=True),
    Case("skresnet18 stage 3", 3, 256, (4, 5), 256, split_input=True, reduced=32),
    Case("skresnet18 stage 4", 3, 512, (2, 3), 512, split_input=True, reduced=64),
    Case("a map of many tiles", 3, 32, (35, 37), 32, groups=4),
]


def make(case: Case, dtype: str, rng: np.random.Generator) -> tuple[Array, Array, LayerWeights]:
    """x, dy and the weights; maps and convolution weights in `dtype`, the others float32."""
    size = case.size

    def norm(channels: int) -> list[Array]:
        sign = rng.choice([-1, 1], channels)
        gamma, variance = rng.uniform(0.5, 1.5, channels) * sign, rng.uniform(0.5, 2, channels)
        values = gamma, *rng.normal(0, 0.5, (2, channels)), variance
        return [v.astype(np.float32) for v in values]

    # Images differ in mean, else the hidden layer's variance over the batch would be rounding noise.
    x = rng.normal(0, 1, (case.n, case.c_in, *case.hw)) + rng.normal(0, 1, (case.n, case.c_in, 1, 1))
    weights = [rng.normal(0, (size.cin_group * k * k) ** -0.5, (case.c_out, size.cin_group, k, k)) for k in case.kernel]
    branches = list(zip(*(norm(case.c_out) for _ in case.kernel), strict=True))
    d, m = case.reduced, size.branches
    dense = rng.normal(0, case.c_out**-0.5, (d, case.c_out)), rng.normal(0, 2 * d**-0.5, (m * case.c_out, d))
    fc_reduce, fc_select = (w.astype(np.float32) for w in dense)
    dy = rng.normal(0, 1, (case.n, case.c_out, *size.out))
    packed = LayerWeights([w.astype(dtype) for w in weights], *map(list, branches), fc_reduce, *norm(d), fc_select)
    return x.astype(dtype), dy.astype(dtype), packed


def expected(native: ModuleType, case: Case, training: bool, x: Array, dy: Array, w: LayerWeights) -> dict[str, Any]:
    """What the C++ reference computes in double; moving statistics after the step."""
    size = case.size
    args = [x, w.weight, w.gamma, w.beta, w.moving_mean, w.moving_variance, w.fc_reduce, w.attn_gamma, w.attn_beta,
            w.attn_moving_mean, w.attn_moving_variance, w.fc_select]  # fmt: skip
    wide = [[v.astype(float) for v in a] if isinstance(a, list) else a.astype(float) for a in args]
    before = [[v.copy() for v in a] if isinstance(a, list) else a.copy() for a in wide]
    attrs = dict(padding=list(size.padding), dilation=list(size.dilation), stride=size.stride, groups=size.groups,
                 split_input=size.split_input, relu=case.relu, training=training, backend="reference")  # fmt: skip
    forward = native.selective_kernel(*wide, **attrs)
    saved = {k: v for k, v in forward.items() if k not in ("y", "attention")}
    grads = native.selective_kernel_grad(dy.astype(float), *before, forward["attention"], **saved, **attrs)
    result = {"y": forward["y"], "attention": forward["attention"], **grads}
    if training:
        result.update(moving_mean=wide[4], moving_variance=wide[5], attn_moving_mean=wide[9],
                      attn_moving_variance=wide[10])  # fmt: skip
    return result


def rounded(case: Case, training: bool, x: Array, dy: Array, w: LayerWeights, dtype: Any) -> dict[str, Any]:
    """The layer in double, each map that is stored rounded to `dtype` once: a correctly rounded computation."""
    size = case.size

    def store(v: Array) -> Array:
        return v.astype(dtype).astype(float)

    x, dy, m = x.astype(float), dy.astype(float), size.branches
    weight = [v.astype(float) for v in w.weight]
    vectors = [[v.astype(float) for v in a] for a in (w.gamma, w.beta, w.moving_mean, w.moving_variance)]
    gamma, beta, moving_mean, moving_variance = vectors
    attn = [v.astype(float) for v in (w.fc_reduce, w.attn_gamma, w.attn_beta, w.attn_moving_mean,
                                      w.attn_moving_variance, w.fc_select)]  # fmt: skip
    parts = np.split(x, m, 1) if size.split_input else [x] * m
    geometry = [(size.stride, size.padding[i], size.dilation[i], size.groups) for i in range(m)]
    z = [store(reference.conv2d(parts[i], weight[i], *geometry[i])) for i in range(m)]
    stats = [reference.statistics(z[i], moving_mean[i], moving_variance[i], 1e-5, 0.1, training) for i in range(m)]
    v = [reference.affine(z[i], gamma[i], beta[i], *stats[i]) for i in range(m)]
    v = [reference.rectify(a) if case.relu else a for a in v]
    u = np.stack([store(a) for a in v], 1)
    forward = reference.sk_attention(np.stack(v, 1), *attn, training=training)
    attention = forward["attention"]
    grads = reference.sk_select_grad(dy, u, attention)
    saved = [forward[k] for k in ("pooled", "hidden", "mean", "inv_std")] if training else []
    through = reference.sk_attention_grad(grads["dattention"], np.stack(v, 1), *attn, attention, *saved,
                                          training=training)  # fmt: skip
    du = store(grads["du"] + through["du"])
    result: dict[str, Any] = {"dweight": [], "dgamma": [], "dbeta": []}
    dx = []
    for i in range(m):
        dv = reference.rectify_grad(du[:, i], v[i]) if case.relu else du[:, i]
        dz, dgamma, dbeta = reference.affine_grad(dv, z[i], gamma[i], *stats[i], training)
        grad = reference.conv2d_grad(store(dz), parts[i], weight[i], *geometry[i])
        dx.append(grad[0])
        for name, value in (("dweight", grad[1]), ("dgamma", dgamma), ("dbeta", dbeta)):
            result[name].append(value)
    result["dx"] = store(np.concatenate(dx, 1) if size.split_input else sum(dx))
    result.update(y=store(np.einsum("nmchw,nmc->nchw", u, attention)), attention=attention,
                  dfc_reduce=through["dfc_reduce"], dattn_gamma=through["dgamma"], dattn_beta=through["dbeta"],
                  dfc_select=through["dfc_select"])  # fmt: skip
    if training:
        result.update(moving_mean=moving_mean, moving_variance=moving_variance, attn_moving_mean=attn[3],
                      attn_moving_variance=attn[4])  # fmt: skip
    return result


def error(got: Any, want: Any) -> float:
    """Largest difference, in units of the largest value if that is not 0; of lists, the worst entry."""
    if isinstance(want, list):
        return max(error(g, w) for g, w in zip(got, want, strict=True))
    assert got.shape == want.shape
    assert np.isfinite(got).all(), "a value that no kernel wrote, or an overflow"
    largest = np.abs(want).max()
    return float(np.abs(got.astype(float) - want).max() / (largest if largest > 0 else 1))


