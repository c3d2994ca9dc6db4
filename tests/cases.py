# SPDX-License-Identifier: Apache-2.0
"""What the tests of the native code run: shapes, each with its reason, random tensors, and how gradients are called.

The lists cover the odd sizes between them; they are no full product. Tensors are float64 dicts under the arguments'
names (lists for one a branch); attributes are a dict of the keyword arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

Tensors = dict[str, Any]
Attrs = dict[str, Any]


@dataclass(frozen=True)
class Op:
    """How the gradient of an op is called."""

    name: str
    output: str  # the forward output whose gradient comes in ...
    cotangent: str  # ... under this name
    differentiable: tuple[str, ...]  # inputs; the gradient of `a` is called `da`
    passed: tuple[str, ...] = ()  # forward outputs that the gradient always takes
    saved: tuple[str, ...] = ()  # forward outputs that it takes in training
    has_modes: bool = True  # training and inference differ

    @property
    def modes(self) -> tuple[bool, ...]:
        return (True, False) if self.has_modes else (False,)


_BRANCH = ("weight", "gamma", "beta")
OPS = {
    op.name: op
    for op in (
        Op("conv_bn_act", "y", "dy", ("x", *_BRANCH, "residual"), ("y",), ("z", "mean", "inv_std")),
        Op("sk_conv", "u", "du", ("x", *_BRANCH), (), ("z", "mean", "inv_std")),
        Op("sk_attention", "attention", "dattention", ("u", "fc_reduce", "gamma", "beta", "fc_select"), ("attention",),
           ("pooled", "hidden", "mean", "inv_std")),
        Op("sk_select", "y", "dy", ("u", "attention"), has_modes=False),
        Op("selective_kernel", "y", "dy", ("x", *_BRANCH, "fc_reduce", "attn_gamma", "attn_beta", "fc_select"),
           ("attention",), ("z", "mean", "inv_std", "pooled", "hidden", "attn_mean", "attn_inv_std")),
        Op("max_pool", "y", "dy", ("x",), has_modes=False),
    )
}  # fmt: skip


def _norm(rng: np.random.Generator, channels: int, prefix: str = "") -> Tensors:
    return {
        prefix + "gamma": rng.uniform(0.5, 1.5, channels) * rng.choice([-1, 1], channels),
        prefix + "beta": rng.normal(0, 0.5, channels),
        prefix + "moving_mean": rng.normal(0, 0.5, channels),
        prefix + "moving_variance": rng.uniform(0.5, 2, channels),
    }


def _images(rng: np.random.Generator, n: int, c: int, h: int, w: int) -> np.ndarray:
    """Images that differ in their means too.

    Else, over large maps, a batch's pooled vectors would be nearly equal, and the hidden layer's statistics noise.
    """
    return rng.normal(0, 1, (n, c, h, w)) + rng.normal(0, 1, (n, c, 1, 1))


def _conv_weight(rng: np.random.Generator, c_out: int, c_in_per_group: int, kernel: int) -> np.ndarray:
    shape = (c_out, c_in_per_group, kernel, kernel)
    return rng.normal(0, (c_in_per_group * kernel**2) ** -0.5, shape)


@dataclass(frozen=True)
class ConvCase:
    why: str
    n: int
    c_in: int
    hw: tuple[int, int]
    c_out: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    groups: int = 1
    relu: bool = True
    residual: bool = False
    op: str = "conv_bn_act"

    def __str__(self) -> str:
        return self.why.replace(" ", "-")

    def attrs(self) -> Attrs:
        names = ("stride", "padding", "dilation", "groups", "relu")
        return {name: getattr(self, name) for name in names}

    def tensors(self, rng: np.random.Generator) -> Tensors:
        span = self.dilation * (self.kernel - 1) + 1
        out = [(size + 2 * self.padding - span) // self.stride + 1 for size in self.hw]
        tensors = {
            "x": rng.normal(0, 1, (self.n, self.c_in, *self.hw)),
            "weight": _conv_weight(rng, self.c_out, self.c_in // self.groups, self.kernel),
            **_norm(rng, self.c_out),
        }
        if self.residual:
            tensors["residual"] = rng.normal(0, 1, (self.n, self.c_out, *out))
        return tensors


@dataclass(frozen=True)
class SkConvCase:
    why: str
    n: int
    c_in: int
    hw: tuple[int, int]
    c_out: int
    kernel: tuple[int, ...] = (3, 3)
    dilation: tuple[int, ...] = (1, 2)
    stride: int = 1
    groups: int = 1
    split_input: bool = False
    relu: bool = True
    c_reduced: int = 8
    op: str = "sk_conv"

    def __str__(self) -> str:
        return self.why.replace(" ", "-")

    def attrs(self) -> Attrs:
        attrs = {name: getattr(self, name) for name in ("stride", "groups", "split_input", "relu")}
        # What keeps MindCV's output size.
        padding = [d * (k - 1) // 2 for k, d in zip(self.kernel, self.dilation, strict=True)]
        return {**attrs, "dilation": list(self.dilation), "padding": padding}

    def tensors(self, rng: np.random.Generator) -> Tensors:
        c_in = self.c_in // len(self.kernel) if self.split_input else self.c_in
        branches = [
            {"weight": _conv_weight(rng, self.c_out, c_in // self.groups, k), **_norm(rng, self.c_out)}
            for k in self.kernel
        ]
        tensors = {name: [branch[name] for branch in branches] for name in branches[0]}
        tensors["x"] = _images(rng, self.n, self.c_in, *self.hw)
        if self.op == "selective_kernel":
            tensors.update(_attention_weights(rng, self.c_out, len(self.kernel), self.c_reduced, "attn_"))
        return tensors


def _attention_weights(rng: np.random.Generator, c: int, branches: int, c_reduced: int, prefix: str) -> Tensors:
    return {
        "fc_reduce": rng.normal(0, c**-0.5, (c_reduced, c)),
        **_norm(rng, c_reduced, prefix),
        "fc_select": rng.normal(0, 2 * c_reduced**-0.5, (branches * c, c_reduced)),
    }


@dataclass(frozen=True)
class AttentionCase:
    why: str
    n: int
    c: int
    hw: tuple[int, int]
    branches: int = 2
    c_reduced: int = 8
    rank_4_weights: bool = False
    op: str = "sk_attention"

    def __str__(self) -> str:
        return self.why.replace(" ", "-")

    def attrs(self) -> Attrs:
        return {}

    def tensors(self, rng: np.random.Generator) -> Tensors:
        u = _images(rng, self.n, self.branches * self.c, *self.hw)
        u = u.reshape(self.n, self.branches, self.c, *self.hw)
        if self.op == "sk_select":
            return {"u": u, "attention": rng.uniform(0, 1, (self.n, self.branches, self.c))}
        weights = _attention_weights(rng, self.c, self.branches, self.c_reduced, "")
        if self.rank_4_weights:
            for name in ("fc_reduce", "fc_select"):
                weights[name] = weights[name][..., None, None]
        return {"u": u, **weights}


@dataclass(frozen=True)
class PoolCase:
    why: str
    n: int
    c: int
    hw: tuple[int, int]
    kernel: int = 3
    stride: int = 2
    padding: int = 0
    same: bool = False
    op: str = "max_pool"

    def __str__(self) -> str:
        return self.why.replace(" ", "-")

    def attrs(self) -> Attrs:
        return {name: getattr(self, name) for name in ("kernel", "stride", "padding", "same")}

    def tensors(self, rng: np.random.Generator) -> Tensors:
        return {"x": rng.normal(0, 1, (self.n, self.c, *self.hw))}


CONV = [
    ConvCase("one of everything", 1, 1, (1, 1), 1, kernel=1, padding=0),
    ConvCase("resnet stem", 2, 3, (13, 13), 17, kernel=7, stride=2, padding=3),
    ConvCase("pointwise with residual", 3, 17, (7, 7), 33, kernel=1, padding=0, residual=True),
    ConvCase("pointwise without ReLU", 1, 33, (13, 1), 15, kernel=1, padding=0, relu=False),
    ConvCase("strided pointwise shortcut", 2, 15, (7, 7), 33, kernel=1, stride=2, padding=0, relu=False),
    ConvCase("stride larger than the kernel", 1, 7, (13, 13), 7, kernel=1, stride=3, padding=0),
    ConvCase("dense 3x3 with odd channels", 1, 15, (7, 13), 17, residual=True),
    ConvCase("dense 3x3 over vector tails", 2, 7, (3, 35), 5),
    ConvCase("dense 3x3 without padding down to one value", 3, 7, (3, 3), 15, padding=0),
    ConvCase("dense 3x3 strided even map", 2, 16, (8, 16), 16, stride=2, residual=True, relu=False),
    ConvCase("2x2 patches", 2, 7, (8, 14), 9, kernel=2, stride=2, padding=0),
    ConvCase("4x4 with more padding than keeps the size", 2, 5, (6, 7), 8, kernel=4, padding=2, residual=True),
    ConvCase("5x5 stride 3", 1, 7, (13, 13), 15, kernel=5, stride=3, padding=2),
    ConvCase("map of one row", 2, 4, (1, 13), 4),
    ConvCase("map of one column", 2, 4, (13, 1), 4, stride=2),
    ConvCase("map smaller than the kernel", 3, 3, (2, 2), 5, kernel=5, padding=2),
    ConvCase("dilation larger than the map", 1, 7, (7, 7), 7, padding=20, dilation=20),
    ConvCase("dilation far larger than the map", 1, 2, (3, 2), 2, padding=999, dilation=999),
    ConvCase("padding beyond the kernel", 2, 3, (3, 2), 4, kernel=1, padding=2),
    ConvCase("depthwise", 2, 17, (7, 13), 17, groups=17),
    ConvCase("depthwise twice as wide", 1, 7, (13, 7), 14, groups=7, stride=2),
    ConvCase("4 channels a group", 2, 32, (13, 13), 32, groups=8),
    ConvCase("8 channels a group in 12 out", 1, 16, (7, 7), 24, groups=2, stride=2),
    ConvCase("16 channels a group", 1, 32, (7, 7), 32, groups=2, residual=True),
    ConvCase("32 channels a group", 1, 64, (7, 7), 64, groups=2),
    # Groups one at a time, whose weight gradient is a matrix product, over several rounds of images.
    ConvCase("groups of 16 in 32 out strided", 9, 128, (13, 10), 256, groups=8, stride=2),
    ConvCase(
        "groups of 16 in 48 out with taps that meet only padding", 2, 128, (3, 4), 384, groups=8, padding=5, dilation=5
    ),
    ConvCase("strided planes beyond a cache", 1, 8, (83, 85), 8, groups=8, stride=2, padding=3, dilation=3),
    ConvCase("many channels on a small map", 3, 130, (2, 3), 70),
    ConvCase("rows of many vectors", 1, 3, (5, 70), 3, kernel=7, padding=3),
    # Enough channels and positions for Winograd's way, and for several chunks of it.
    ConvCase("many channels on odd rows", 2, 64, (13, 11), 64, residual=True),
    ConvCase("many channels dilated", 1, 64, (14, 19), 64, padding=2, dilation=2),
    ConvCase("many channels dilated by 3 without padding", 1, 64, (19, 22), 64, padding=0, dilation=3, relu=False),
    ConvCase("more channels in than out with more padding", 1, 96, (17, 31), 64, padding=2),
    ConvCase("many channels and more padding than the kernel reaches", 3, 96, (8, 20), 32, padding=3),
    # The same by several images at a time, tiles at the edges with one row or column of outputs, or with no other.
    ConvCase("groups of 32 on odd maps", 6, 64, (7, 9), 64, groups=2),
    ConvCase("groups of 32 on odd maps dilated", 7, 96, (7, 5), 96, groups=3, padding=2, dilation=2),
    ConvCase("groups of 16 dilated by 3", 5, 32, (13, 8), 32, groups=2, padding=3, dilation=3),
    ConvCase("groups of 32 on one row", 7, 64, (1, 90), 64, groups=2),
    ConvCase("groups of 32 on one column", 7, 64, (90, 1), 64, groups=2),
    # Enough channels for the weight gradient as a matrix product, and enough images for several of them.
    ConvCase("many channels pointwise", 3, 48, (9, 11), 64, kernel=1, padding=0, residual=True),
    ConvCase("many channels pointwise on whole vectors", 7, 64, (32, 32), 128, kernel=1, padding=0, relu=False),
    ConvCase("many channels pointwise strided", 2, 80, (13, 14), 64, kernel=1, stride=2, padding=0, relu=False),
    # Products on tiles: more terms than a partial sum has, strips made once for all blocks, and shared-out positions.
    ConvCase("pointwise of a thousand channels", 2, 1060, (5, 7), 40, kernel=1, padding=0, residual=True),
    ConvCase("pointwise of many blocks on small maps", 3, 64, (7, 7), 176, kernel=1, padding=0),
    ConvCase("pointwise on a large map", 1, 33, (45, 47), 70, kernel=1, padding=0, relu=False),
    ConvCase("pointwise strided on an odd map", 2, 64, (23, 31), 48, kernel=1, stride=2, padding=0, residual=True),
    ConvCase("many channels pointwise at every third position", 2, 64, (13, 13), 64, kernel=1, stride=3, padding=0),
    ConvCase("many channels strided", 2, 32, (13, 11), 64, stride=2),
    ConvCase("many channels 5x5 dilated", 2, 16, (7, 9), 32, kernel=5, padding=4, dilation=2),
    ConvCase("many channels and taps that meet only padding", 2, 16, (3, 5), 32, padding=6, dilation=6),
]

SK_CONV = [
    SkConvCase("one of everything", 1, 1, (1, 1), 1, (1,), (1,)),
    SkConvCase("paper unit 4 channels a group", 2, 32, (13, 13), 32, groups=8),
    SkConvCase("paper unit 8 channels a group strided", 2, 32, (7, 13), 32, groups=4, stride=2),
    SkConvCase("paper unit 16 channels a group", 1, 32, (7, 7), 32, groups=2),
    SkConvCase("paper unit 32 channels a group", 3, 64, (7, 7), 64, groups=2),
    SkConvCase("many groups of 32 channels", 3, 256, (7, 7), 256, groups=8),
    SkConvCase(
        "many groups of 16 channels split and strided", 3, 256, (9, 7), 128, groups=8, stride=2, split_input=True
    ),
    SkConvCase("dense split as in skresnet18", 2, 16, (13, 13), 17, split_input=True),
    SkConvCase("dense split strided", 1, 30, (7, 7), 33, split_input=True, stride=2),
    SkConvCase("one branch", 3, 7, (3, 7), 15, (3,), (1,)),
    SkConvCase("one split branch", 1, 7, (3, 7), 15, (3,), (1,), split_input=True),
    SkConvCase("three branches", 2, 15, (7, 7), 17, (3, 3, 3), (1, 2, 3)),
    SkConvCase("three split branches", 2, 21, (7, 7), 7, (3, 3, 3), (1, 2, 3), split_input=True),
    SkConvCase("four branches of true size", 1, 16, (13, 7), 8, (1, 3, 5, 7), (1, 1, 1, 1), groups=4),
    SkConvCase("four split branches strided by 3", 1, 16, (13, 13), 8, (3, 5, 3, 7), (1, 1, 3, 1), 3, 2, True),
    SkConvCase("depthwise", 2, 17, (7, 7), 17, groups=17),
    SkConvCase("dilation larger than the map", 1, 7, (3, 2), 7, (3, 3), (5, 40)),
    SkConvCase("one value a map", 3, 33, (1, 1), 15),
    SkConvCase("without ReLU", 1, 8, (7, 3), 8, groups=2, relu=False),
    SkConvCase("rows over vector tails", 1, 8, (3, 35), 8, groups=2),
    SkConvCase("dense split of many channels", 2, 64, (13, 10), 64, split_input=True),
    SkConvCase("dense split of many channels strided", 2, 64, (13, 10), 64, split_input=True, stride=2),
]

ATTENTION = [
    AttentionCase("one of everything", 1, 1, (1, 1), 1, 1),
    AttentionCase("paper unit", 3, 64, (7, 7), 2, 32),
    AttentionCase("odd sizes", 3, 17, (3, 13), 3, 7),
    AttentionCase("one image", 1, 33, (13, 7), 4, 15),
    AttentionCase("convolution weights", 5, 15, (2, 2), 2, 9, rank_4_weights=True),
    AttentionCase("many channels on one value", 7, 130, (1, 1), 2, 17),
    AttentionCase("many images", 21, 70, (2, 3), 2, 35),
]

POOL = [
    PoolCase("one of everything", 1, 1, (1, 1), 1, 1),
    PoolCase("centred stem", 2, 5, (28, 28), padding=1),
    PoolCase("same stem", 2, 5, (28, 28), same=True),
    PoolCase("centred odd map", 3, 3, (13, 35), padding=1),
    PoolCase("same odd map", 3, 3, (13, 35), same=True),
    PoolCase("without padding on an even map", 2, 3, (8, 18)),
    PoolCase("rows of many vectors", 1, 2, (5, 131), padding=1),
    PoolCase("rows of whole vectors", 1, 2, (6, 64), same=True),
    PoolCase("map of one row", 2, 3, (1, 40), padding=1),
    PoolCase("map of one column", 2, 3, (40, 1), padding=1),
    PoolCase("same map of one row", 2, 3, (1, 33), same=True),
    PoolCase("same map of one column", 2, 3, (33, 1), same=True),
    PoolCase("one value a map", 3, 33, (1, 1), padding=1),
    PoolCase("2x2 patches", 2, 3, (8, 9), 2),
    PoolCase("same patches of an even kernel", 2, 3, (7, 9), 2, same=True),
    PoolCase("windows that overlap much", 2, 3, (9, 20), 5, 1, 2),
    PoolCase("stride larger than the kernel", 2, 3, (11, 10), 2, 3, 1),
    PoolCase("same stride larger than the kernel", 2, 3, (11, 10), 2, 3, same=True),
    PoolCase("same kernel larger than the map", 2, 3, (3, 4), 7, 2, same=True),
    PoolCase("global", 2, 3, (7, 7), 7, 1),
]


def with_op(cases: list, op: str) -> list:
    """The same shapes for another op."""
    return [type(case)(**{**case.__dict__, "op": op}) for case in cases]


SELECT = with_op(ATTENTION, "sk_select")
# The batch is more than 2, where the hidden layer's statistics would make most gradients rounding noise.
SELECTIVE_KERNEL = [type(case)(**{**case.__dict__, "op": "selective_kernel", "n": case.n + 2}) for case in SK_CONV]
ALL = [*CONV, *SK_CONV, *ATTENTION, *SELECT, *SELECTIVE_KERNEL, *POOL]
# One or two a kind of op, for tests that take long.
FEW = [
    ConvCase("dense", 2, 3, (5, 4), 4, stride=2, residual=True),
    ConvCase("grouped and dilated without ReLU", 2, 4, (5, 5), 6, groups=2, dilation=2, padding=2, relu=False),
    SkConvCase("two grouped branches", 2, 4, (4, 5), 4, groups=2),
    SkConvCase("three split branches", 2, 6, (5, 5), 3, (3, 5, 1), (1, 1, 1), stride=2, split_input=True),
    AttentionCase("three branches", 4, 5, (3, 2), 3, 3),
    AttentionCase("two branches", 3, 3, (2, 3), op="sk_select"),
    SkConvCase("whole layer", 4, 4, (4, 3), 4, groups=2, c_reduced=3, op="selective_kernel"),
    SkConvCase("whole split layer", 3, 4, (5, 5), 3, (3, 5), (1, 1), 2, 1, True, c_reduced=2, op="selective_kernel"),
    PoolCase("pooling", 2, 3, (7, 6), padding=1),
    PoolCase("same pooling", 2, 3, (6, 5), same=True),
]


def modes(cases: list) -> list:
    """(case, training) parameters, each op in each mode that it has."""
    import pytest  # the cases serve where there is none, too

    return [
        pytest.param(case, training, id=f"{case_id(case)}-{'training' if training else 'inference'}")
        for case in cases
        for training in OPS[case.op].modes
    ]


def case_id(case: Any) -> str:
    return f"{case.op}-{case}"


def map_tensors(function: Callable[[np.ndarray], Any], tensors: Tensors) -> Tensors:
    """The function on every array, lists kept."""
    return {
        name: [function(item) for item in value] if isinstance(value, list) else function(value)
        for name, value in tensors.items()
    }


def cast(tensors: Tensors, dtype: type) -> Tensors:
    """Contiguous copies; also what to call before an op that updates its inputs."""
    return map_tensors(lambda array: np.array(array, dtype, order="C"), tensors)


def gradient_arguments(op: Op, tensors: Tensors, forward: Tensors, cotangent: np.ndarray, training: bool) -> Tensors:
    """Arguments of the gradient op, besides the attributes."""
    names = op.passed + (op.saved if training else ())
    arguments = {op.cotangent: cotangent, **tensors, **{name: forward[name] for name in names}}
    if op.name == "conv_bn_act":
        arguments["residual"] = arguments.pop("residual", None) is not None
    return arguments


def mode(op: Op, training: bool) -> Attrs:
    return {"training": training} if op.has_modes else {}


@dataclass(frozen=True)
class Example:
    """One case with its tensors (float64 values that float32 holds) and a gradient of its output."""

    case: Any
    tensors: Tensors
    cotangent: np.ndarray = field(repr=False)

    @property
    def op(self) -> Op:
        return OPS[self.case.op]


def make_example(case: Any, native: ModuleType, training: bool, seed: int = 0, margin: float = 3e-6) -> Example:
    """Random tensors for a case.

    Redrawn while an activation lies so near to zero that rounding could close or open a ReLU: there the true gradient
    jumps, and no tolerance would tell a right kernel from a wrong one.
    """
    op = OPS[case.op]
    for attempt in range(100):
        rng = np.random.default_rng([seed, attempt])
        tensors = cast(cast(case.tensors(rng), np.float32), np.float64)
        attrs = {**case.attrs(), **mode(op, training)}
        forward = getattr(native, op.name)(**cast(tensors, np.float64), **attrs, backend="reference")
        if _least_activation(case, native, tensors, forward, training) > margin:
            cotangent = rng.normal(0, 1, forward[op.output].shape).astype(np.float32).astype(np.float64)
            return Example(case, tensors, cotangent)
    raise AssertionError(f"{case}: no well-conditioned tensors in 100 draws")


def _least_activation(case: Any, native: ModuleType, tensors: Tensors, forward: Tensors, training: bool) -> float:
    """The smallest absolute value that a ReLU of this op sees, relative to the largest."""
    seen = []
    if case.op in ("conv_bn_act", "sk_conv", "selective_kernel") and case.attrs()["relu"]:
        name = "conv_bn_act" if case.op == "conv_bn_act" else "sk_conv"
        wanted = ("x", "weight", "gamma", "beta", "moving_mean", "moving_variance", "residual")
        inputs = cast({key: tensors[key] for key in wanted if key in tensors}, np.float64)
        attrs = {**case.attrs(), "relu": False, "training": training}
        linear = getattr(native, name)(**inputs, **attrs, backend="reference")
        seen.append(linear[OPS[name].output])
    if case.op in ("sk_attention", "selective_kernel") and training:
        prefix = "" if case.op == "sk_attention" else "attn_"
        hidden = (forward["hidden"] - forward[prefix + "mean"]) * forward[prefix + "inv_std"]
        seen.append(hidden * tensors[prefix + "gamma"] + tensors[prefix + "beta"])
    ratios = [np.abs(v).min() / np.abs(v).max() for v in seen if v.size]
    return min(ratios, default=1.0)


def error(got: np.ndarray, expected: np.ndarray, floor: float = 0.0) -> float:
    """Largest difference relative to the largest value. NaN on one side only counts as infinite."""
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    if got.size == 0:
        return 0.0
    difference = np.abs(got.astype(np.float64) - expected).max()
    if np.isnan(difference):
        return np.inf
    return float(difference / max(np.abs(expected).max(), floor, np.finfo(np.float64).tiny))


def flat(result: Tensors) -> dict[str, np.ndarray]:
    """Every array under one name; those of a list under name[i]."""
    arrays = {}
    for name, value in result.items():
        if isinstance(value, list):
            arrays.update({f"{name}[{i}]": item for i, item in enumerate(value)})
        else:
            arrays[name] = value
    return arrays


def both_passes(module: Any, example: Example, training: bool, dtype: type, **backend: str) -> tuple[Tensors, Tensors]:
    """Forward outputs with the moving statistics as they then are, and all gradients. Asserts that inputs stay."""
    op = example.op
    attrs = {**example.case.attrs(), **mode(op, training)}
    tensors = cast(example.tensors, dtype)
    forward = getattr(module, op.name)(**tensors, **attrs, **backend)
    moving = {name: value for name, value in tensors.items() if "moving" in name}
    _assert_equal(tensors, example.tensors, except_for=moving if training else ())

    before = cast({**forward, **moving}, dtype)
    arguments = gradient_arguments(op, tensors, forward, example.cotangent.astype(dtype), training)
    gradients = getattr(module, op.name + "_grad")(**arguments, **attrs, **backend)
    _assert_equal(tensors, example.tensors, except_for=moving if training else ())
    _assert_equal({**forward, **moving}, before)
    return flat(before), flat(gradients)


def _assert_equal(got: Tensors, expected: Tensors, except_for: Collection[str] = ()) -> None:
    got, expected = ({n: a for n, a in t.items() if n not in except_for} for t in (got, expected))
    expected = flat(expected)
    changed = [name for name, array in flat(got).items() if not np.array_equal(array, expected[name], equal_nan=True)]
    assert not changed, f"the op changed its inputs {changed}"


def assert_close(got: Tensors, expected: Tensors, tolerance: float, floor: float = 0.0) -> None:
    """Every array of `got` against its namesake; the message lists the errors that are too large."""
    assert set(got) == set(expected)
    errors = {name: error(got[name], expected[name], floor) for name in expected}
    wrong = {name: value for name, value in errors.items() if not value <= tolerance}
    assert not wrong, f"relative errors above {tolerance}: {wrong}"
