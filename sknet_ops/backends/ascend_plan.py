# SPDX-License-Identifier: Apache-2.0
"""An op on Ascend as a straight line of steps, written down once for each set of attributes and shapes.

:class:`Recorder` is a device of :mod:`sknet_ops.backends.ascend_ops` that computes nothing and notes every call; what
it noted can be run at once or compiled into a graph. Imports neither MindSpore nor CANN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sknet_ops.backends import ascend_ops, ascend_sizes
from sknet_ops.backends.ascend_ops import Layer, LayerWeights, Norm
from sknet_ops.backends.ascend_sizes import ConvSizes, Maps

TYPES = ("float16", "float32")
#: (shape, dtype) of a tensor
Spec = tuple[tuple[int, ...], str]


@dataclass(frozen=True)
class Ref:
    """A tensor that a step reads or writes: the `index`-th, where the inputs of the op are the first."""

    index: int
    shape: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Kernel:
    """One Ascend C operator with its attributes."""

    op: str
    input_names: tuple[str, ...]
    outputs: tuple[tuple[str, Spec], ...]
    ints: tuple[int, ...]
    numbers: tuple[float, ...]
    dtype: str


@dataclass(frozen=True)
class Rearrange:
    """reshape, transpose, reverse, concat, slice, cast, zeros, ones, pad, sum; `arguments`: all but tensors."""

    name: str
    arguments: tuple


@dataclass(frozen=True)
class Step:
    what: Kernel | Rearrange
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Steps over a growing list of tensors that starts with the inputs; each step appends its outputs."""

    steps: tuple[Step, ...]
    outputs: tuple[int | None, ...]  # None: zeros like the input of that number
    updates: tuple[tuple[int, int], ...] = ()  # (input, tensor that it becomes)


class Recorder:
    """Notes every call; see :class:`ascend_ops.Device`."""

    def __init__(self, soc: str, inputs: Sequence[Spec]) -> None:
        self.soc = soc
        self.steps: list[Step] = []
        self.inputs = [Ref(i, tuple(shape), kind) for i, (shape, kind) in enumerate(inputs)]
        self._count = len(inputs)
        self._known: dict[tuple, Ref] = {}  # what was rearranged already

    def _note(self, what: Kernel | Rearrange, inputs: Sequence[Ref], outputs: Sequence[Spec]) -> list[Ref]:
        self.steps.append(Step(what, tuple(ref.index for ref in inputs)))
        refs = [Ref(self._count + i, tuple(shape), kind) for i, (shape, kind) in enumerate(outputs)]
        self._count += len(refs)
        return refs

    def _rearranged(self, name: str, inputs: Sequence[Ref], arguments: tuple, shape: tuple, kind: str) -> Ref:
        key = (name, arguments, tuple(inputs))
        if key not in self._known:
            self._known[key] = self._note(Rearrange(name, arguments), inputs, [(shape, kind)])[0]
        return self._known[key]

    def run(
        self, op: str, inputs: Mapping[str, Ref], outputs: ascend_ops.Outputs, ints: Sequence[int],
        numbers: Sequence[float], dtype: str,
    ) -> list[Ref]:  # fmt: skip
        kernel = Kernel(op, tuple(inputs), tuple(outputs.items()), tuple(ints), tuple(numbers), dtype)
        return self._note(kernel, list(inputs.values()), list(outputs.values()))

    def reshape(self, x: Ref, shape: tuple[int, ...]) -> Ref:
        known = math.prod(size for size in shape if size != -1)
        shape = tuple(math.prod(x.shape) // known if size == -1 else size for size in shape)
        return x if shape == x.shape else self._rearranged("reshape", [x], (shape,), shape, x.kind)

    def transpose(self, x: Ref, axes: tuple[int, ...]) -> Ref:
        return self._rearranged("transpose", [x], (axes,), tuple(x.shape[a] for a in axes), x.kind)

    def flip_taps(self, x: Ref) -> Ref:
        axes = (len(x.shape) - 2, len(x.shape) - 1)
        return self._rearranged("reverse", [x], (axes,), x.shape, x.kind)

    def concat(self, arrays: Sequence[Ref]) -> Ref:
        if len(arrays) == 1:
            return arrays[0]
        return self._rearranged("concat", arrays, (), (sum(a.shape[0] for a in arrays),), arrays[0].kind)

    def split(self, x: Ref, sizes: Sequence[int]) -> list[Ref]:
        if len(sizes) == 1:
            return [x]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [self._rearranged("slice", [x], ((start,), (size,)), (size,), x.kind)
                for start, size in zip(starts, sizes, strict=True)]  # fmt: skip

    def cast(self, x: Ref, dtype: str) -> Ref:
        return x if x.kind == dtype else self._rearranged("cast", [x], (dtype,), x.shape, dtype)

    def filled(self, shape: tuple[int, ...], value: int) -> Ref:
        # An input that is not used: graph mode cannot loop over none.
        return self._rearranged("ones" if value else "zeros", self.inputs[:1], (shape,), shape, "float32")

    def pad_parts(self, x: Ref, size: int) -> Ref:
        if size == x.shape[1]:
            return x
        ends = tuple((0, size - x.shape[1] if axis == 1 else 0) for axis in range(len(x.shape)))
        return self._rearranged("pad", [x], (ends,), (x.shape[0], size, *x.shape[2:]), x.kind)

    def sum_parts(self, x: Ref) -> Ref:
        return self._rearranged("sum", [x], (1,), (x.shape[0], *x.shape[2:]), x.kind)

    def dtype(self, x: Ref) -> str:
        return x.kind


# ---- the ops: attributes and inputs as in sknet_ops.primitives ----


def _branches(attrs: Mapping[str, Any], inputs: Sequence[Ref]) -> tuple[ConvSizes, Norm, list[list[Ref]]]:
    """Sizes, norm, and weight, gamma, beta, moving_mean, moving_variance, one a branch each."""
    m = len(attrs["dilation"])
    lists = [list(inputs[1 + i * m : 1 + (i + 1) * m]) for i in range(5)]
    kernel = tuple(w.shape[2] for w in lists[0])
    size = ConvSizes(*inputs[0].shape, lists[0][0].shape[0], attrs["groups"], attrs["stride"], attrs["split_input"],
                     kernel, tuple(attrs["padding"]), tuple(attrs["dilation"]))  # fmt: skip
    return size, Norm(attrs["eps"], attrs["momentum"], attrs["training"], attrs["relu"]), lists


def _matrix(dev: Recorder, weight: Ref) -> Ref:
    return dev.reshape(weight, weight.shape[:2])


def _layer(dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref]) -> tuple[Layer, LayerWeights]:
    size, norm, lists = _branches(attrs, inputs)
    fc_reduce, gamma, beta, mean, variance, fc_select = inputs[1 + 5 * size.branches :]
    layer = Layer(size, norm, Norm(attrs["attn_eps"], attrs["attn_momentum"], attrs["training"]))
    return layer, LayerWeights(*lists, _matrix(dev, fc_reduce), gamma, beta, mean, variance, _matrix(dev, fc_select))


def _moved(dev: Recorder, lists: list[list[Ref]], mean: Ref, variance: Ref) -> dict[int, Ref]:
    pairs = zip([*lists[3], *lists[4]], [*ascend_ops.unstack(dev, mean), *ascend_ops.unstack(dev, variance)],
                strict=True)  # fmt: skip
    return {parameter.index: value for parameter, value in pairs}


Outputs = tuple[list[Ref], dict[int, Ref]]


def _selective_kernel(dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref]) -> Outputs:
    layer, w = _layer(dev, attrs, inputs)
    out = layer.forward(dev, inputs[0], w)
    if not attrs["training"]:
        return [out["y"], out["attention"]], {}
    lists = [w.weight, w.gamma, w.beta, w.moving_mean, w.moving_variance]
    updates = _moved(dev, lists, out["moving_mean"], out["moving_variance"])
    updates[w.attn_moving_mean.index] = out["attn_moving_mean"]
    updates[w.attn_moving_variance.index] = out["attn_moving_variance"]
    saved = ("y", "attention", "z", "mean", "inv_std", "pooled", "hidden", "attn_mean", "attn_inv_std")
    return [out[name] for name in saved], updates


def _selective_kernel_grad(
    dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref], out: Sequence[Ref], dy: Ref
) -> list[Ref | None]:
    layer, w = _layer(dev, attrs, inputs)
    g = layer.backward(dev, dy, inputs[0], w, out[2] if attrs["training"] else None)
    weights = [dev.cast(d, v.kind) for d, v in zip(g["dweight"], w.weight, strict=True)]
    m = layer.size.branches
    return [g["dx"], *weights, *g["dgamma"], *g["dbeta"], *[None] * 2 * m,
            dev.reshape(g["dfc_reduce"], inputs[1 + 5 * m].shape), g["dattn_gamma"], g["dattn_beta"], None, None,
            dev.reshape(g["dfc_select"], inputs[-1].shape)]  # fmt: skip


def _sk_conv(dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref]) -> Outputs:
    size, norm, lists = _branches(attrs, inputs)
    z = ascend_ops.conv(dev, size, ascend_ops.to_rows(dev, inputs[0]), lists[0])
    result = ascend_ops.norm_act(dev, z, *(ascend_ops.stack(dev, v) for v in lists[1:]), norm)
    u = ascend_ops.from_rows(dev, result.u, (size.n, size.branches, size.c_out, *size.out))
    if not norm.training:
        return [u], {}
    updates = _moved(dev, lists, result.moving_mean, result.moving_variance)
    return [u, z, result.mean, result.inv_std], updates


def _sk_conv_grad(
    dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref], out: Sequence[Ref], du: Ref
) -> list[Ref | None]:
    size, norm, lists = _branches(attrs, inputs)
    rows = ascend_ops.to_rows(dev, inputs[0])
    vectors = [ascend_ops.stack(dev, v) for v in lists[1:]]
    if norm.training:
        z, mean, inv_std = out[1:]
    else:
        z = ascend_ops.conv(dev, size, rows, lists[0])
        result = ascend_ops.norm_act(dev, z, *vectors, norm)
        mean, inv_std = result.mean, result.inv_std
    dz, dgamma, dbeta = ascend_ops.norm_act_grad(dev, ascend_ops.to_rows(dev, du), z, mean, inv_std, *vectors[:2], norm)
    dx = ascend_ops.from_rows(dev, ascend_ops.conv_data_grad(dev, size, dz, lists[0]), inputs[0].shape)
    weights = ascend_ops.conv_weight_grad(dev, size, rows, dz)
    weights = [dev.cast(d, w.kind) for d, w in zip(weights, lists[0], strict=True)]
    return [dx, *weights, *ascend_ops.unstack(dev, dgamma), *ascend_ops.unstack(dev, dbeta),
            *[None] * 2 * size.branches]  # fmt: skip


def _attend(
    dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref]
) -> tuple[Maps, Norm, ascend_ops.AttentionResult]:
    u, fc_reduce, gamma, beta, mean, variance, fc_select = inputs
    norm = Norm(attrs["eps"], attrs["momentum"], attrs["training"])
    rows = ascend_ops.to_rows(dev, u)
    maps = Maps(*rows.shape)
    result = ascend_ops.attention(dev, maps, ascend_ops.pool(dev, rows), _matrix(dev, fc_reduce), gamma, beta, mean,
                                  variance, _matrix(dev, fc_select), norm, u.kind)  # fmt: skip
    return maps, norm, result


def _sk_attention(dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref]) -> Outputs:
    _, norm, result = _attend(dev, attrs, inputs)
    if not norm.training:
        return [result.attention], {}
    updates = {inputs[4].index: result.moving_mean, inputs[5].index: result.moving_variance}
    return [result.attention, result.pooled, result.hidden, result.mean, result.inv_std], updates


def _sk_attention_grad(
    dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref], out: Sequence[Ref], dattention: Ref
) -> list[Ref | None]:
    u, fc_reduce, gamma, _, _, _, fc_select = inputs
    maps, norm, result = _attend(dev, attrs, inputs)  # cheaper than to keep what its gradient needs
    parts = ascend_ops.as_parts(dev, maps, dattention)
    grad = ascend_ops.attention_grad(dev, maps, parts, result, gamma, _matrix(dev, fc_select), norm, u.kind)
    du = ascend_ops.pool_gradient(dev, maps, ascend_ops.to_rows(dev, u), grad.dhidden, _matrix(dev, fc_reduce))
    return [ascend_ops.from_rows(dev, du, u.shape), dev.reshape(grad.dfc_reduce, fc_reduce.shape), grad.dgamma,
            grad.dbeta, None, None, dev.reshape(grad.dfc_select, fc_select.shape)]  # fmt: skip


def _sk_select(dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref]) -> Outputs:
    u, attention = inputs
    n, _, c, h, w = u.shape
    y = ascend_ops.select(dev, ascend_ops.to_rows(dev, u), attention)
    return [ascend_ops.from_rows(dev, y, (n, c, h, w))], {}


def _sk_select_grad(
    dev: Recorder, attrs: Mapping[str, Any], inputs: Sequence[Ref], out: Sequence[Ref], dy: Ref
) -> list[Ref | None]:
    u, attention = inputs
    rows, dy_rows = ascend_ops.to_rows(dev, u), ascend_ops.to_rows(dev, dy)
    dattention = dev.sum_parts(ascend_ops.attention_gradient(dev, dy_rows, rows))
    du = ascend_ops.select_gradient(dev, Maps(*rows.shape), dy_rows, attention)
    return [ascend_ops.from_rows(dev, du, u.shape), dattention]


_OPS: dict[str, tuple[Callable, Callable]] = {
    "selective_kernel": (_selective_kernel, _selective_kernel_grad),
    "sk_conv": (_sk_conv, _sk_conv_grad),
    "sk_attention": (_sk_attention, _sk_attention_grad),
    "sk_select": (_sk_select, _sk_select_grad),
}
OPS = tuple(_OPS)


def _check(op: str, soc: str, specs: Sequence[Spec]) -> None:
    ascend_sizes.cube_cores(soc)
    shape, kind = specs[0]
    if kind not in TYPES:
        raise TypeError(f"{op}: got dtype {kind}, expected {' or '.join(TYPES)}")
    if any(size is None or size < 1 for shape, _ in specs for size in shape):
        raise ValueError(f"{op}: got shape {shape}, expected one without empty or unknown dimensions: backend ascend")


@cache
def forward(op: str, attrs: tuple[tuple[str, Any], ...], soc: str, specs: tuple[Spec, ...]) -> Plan:
    """The op itself. ``specs`` are of its inputs.

    Raises:
        TypeError: A dtype that the kernels lack.
        ValueError: A chip or shapes that they are not for.
    """
    _check(op, soc, specs)
    recorder = Recorder(soc, specs)
    outputs, updates = _OPS[op][0](recorder, dict(attrs), recorder.inputs)
    return Plan(tuple(recorder.steps), tuple(ref.index for ref in outputs),
                tuple((i, ref.index) for i, ref in updates.items()))  # fmt: skip


@cache
def backward(
    op: str, attrs: tuple[tuple[str, Any], ...], soc: str, specs: tuple[Spec, ...], inputs: int, outputs: int
) -> Plan:
    """Its gradient. ``specs`` are of its inputs, its outputs and the gradient of the first of them."""
    _check(op, soc, specs)
    recorder = Recorder(soc, specs)
    refs = recorder.inputs
    grads = _OPS[op][1](recorder, dict(attrs), refs[:inputs], refs[inputs : inputs + outputs], refs[inputs + outputs])
    return Plan(tuple(recorder.steps), tuple(None if ref is None else ref.index for ref in grads))
