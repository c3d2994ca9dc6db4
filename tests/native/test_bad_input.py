# SPDX-License-Identifier: Apache-2.0
"""Wrong input is refused before any kernel runs: TypeError or ValueError that names the op, the argument, and why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.cases import OPS, AttentionCase, ConvCase, PoolCase, SkConvCase, cast, gradient_arguments, mode

CASES = {
    "conv_bn_act": ConvCase("good", 2, 4, (5, 6), 6, groups=2, residual=True),
    "sk_conv": SkConvCase("good", 2, 4, (5, 6), 6, groups=2),
    "sk_attention": AttentionCase("good", 2, 6, (3, 3), 2, 5),
    "sk_select": AttentionCase("good", 2, 6, (3, 3), 2, op="sk_select"),
    "selective_kernel": SkConvCase("good", 2, 4, (5, 6), 6, groups=2, c_reduced=5, op="selective_kernel"),
    "max_pool": PoolCase("good", 2, 4, (5, 6), padding=1),
}


def _call(native: ModuleType, name: str, training: bool = True) -> tuple[Callable, dict[str, Any]]:
    """A function and arguments that it takes; `name` is that of an op or of its gradient."""
    op = OPS[name.removesuffix("_grad")]
    case = CASES[op.name]
    tensors = cast(case.tensors(np.random.default_rng(0)), np.float32)
    attrs = {**case.attrs(), **mode(op, training)}
    if not name.endswith("_grad"):
        return getattr(native, name), {**tensors, **attrs}
    forward = getattr(native, op.name)(**tensors, **attrs)
    cotangent = np.ones(forward[op.output].shape, np.float32)
    return getattr(native, name), {**gradient_arguments(op, tensors, forward, cotangent, training), **attrs}


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _swap(index: int, value: Any) -> Callable[[list], list]:
    """Another value for one branch."""
    return lambda items: [value(item) if i == index and callable(value) else value if i == index else item
                          for i, item in enumerate(items)]  # fmt: skip


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _misaligned(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(np.float32).reshape(array.shape)


TYPES = [
    ("conv_bn_act", "x", lambda v: v.tolist(), "x: got .*list.*expected a NumPy array"),
    ("conv_bn_act", "weight", lambda v: None, "weight: got .*NoneType"),
    ("conv_bn_act", "x", lambda v: v.astype(np.float64), "x: got dtype float64, expected float32"),
    ("conv_bn_act", "gamma", lambda v: v.astype(np.float16), "gamma: got dtype float16"),
    ("conv_bn_act", "x", lambda v: v.astype(">f4"), "x: got dtype >f4"),
    ("conv_bn_act", "residual", lambda v: v.astype(np.int32), "residual: got dtype int32"),
    ("sk_conv", "weight", _swap(1, lambda v: v.astype(np.int64)), r"weight\[1\]: got dtype int64"),
    ("sk_conv", "moving_mean", lambda v: None, "incompatible function arguments"),
    ("sk_attention", "fc_reduce", lambda v: v.astype(np.complex64), "fc_reduce: got dtype complex64"),
    ("sk_select_grad", "dy", lambda v: v.astype(bool), "dy: got dtype bool"),
    ("max_pool", "x", lambda v: v.astype(np.float64), "x: got dtype float64, expected float32"),
    ("max_pool_grad", "dy", lambda v: v.tolist(), "dy: got .*list"),
    ("conv_bn_act", "stride", lambda v: 1.5, "incompatible function arguments"),
    ("sk_conv", "dilation", lambda v: 1, "incompatible function arguments"),
]

VALUES = [
    # layout
    ("conv_bn_act", "x", lambda v: v[..., ::-1], "x: got a strided or misaligned array"),
    ("conv_bn_act", "x", lambda v: v.transpose(0, 2, 3, 1), "x: got a strided"),
    ("conv_bn_act", "x", _misaligned, "x: got a strided or misaligned array"),
    ("max_pool", "x", lambda v: v[:, ::2], "x: got a strided"),
    ("max_pool", "x", lambda v: v[0], r"x: got shape \(4, 5, 6\), expected rank 4"),
    ("max_pool", "x", lambda v: v[:, :0].copy(), "x: got shape .*dimension 1 in 1"),
    ("max_pool", "kernel", lambda v: 0, "kernel: got 0, expected an integer in 1"),
    ("max_pool", "kernel", lambda v: 9, "x: got height 5 with kernel 9"),
    ("max_pool", "stride", lambda v: -1, "stride: got -1"),
    ("max_pool", "padding", lambda v: 2, r"padding: got 2, expected an integer in 0\.\.1, half of kernel 3"),
    ("max_pool", "padding", lambda v: -1, "padding: got -1"),
    ("max_pool", "same", lambda v: True, "padding: got 1, expected 0, as same pads by itself"),
    ("max_pool_grad", "dy", lambda v: v[..., 1:].copy(), "dy: got shape .*expected shape"),
    ("conv_bn_act", "moving_mean", _read_only, "moving_mean: got a read-only array"),
    ("sk_conv", "moving_variance", _swap(1, _read_only), r"moving_variance\[1\]: got a read-only"),
    # rank and size
    ("conv_bn_act", "x", lambda v: v[0], r"x: got shape \(4, 5, 6\), expected rank 4"),
    ("conv_bn_act", "x", lambda v: _zeros(2, 4, 0, 6), r"x: got shape \(2, 4, 0, 6\).*dimension 2"),
    ("conv_bn_act", "x", lambda v: _zeros(2, 6, 5, 6), r"weight: got shape \(6, 2, 3, 3\), expected 3 in dimension 1"),
    ("conv_bn_act", "weight", lambda v: _zeros(6, 2, 3), "weight: got shape .*expected rank 4"),
    ("conv_bn_act", "weight", lambda v: _zeros(6, 2, 3, 5), "weight: .*square kernel"),
    ("conv_bn_act", "weight", lambda v: _zeros(0, 2, 3, 3), "weight: got shape"),
    ("conv_bn_act", "gamma", lambda v: v[:5].copy(), r"gamma: got shape \(5,\), expected \(6,\)"),
    ("conv_bn_act", "moving_variance", lambda v: v[None], r"moving_variance: got shape \(1, 6\)"),
    ("conv_bn_act", "residual", lambda v: v[:1].copy(), r"residual: got shape \(1, .*expected shape \(2, 6, 5, 6\)"),
    # attributes
    ("conv_bn_act", "groups", lambda v: 3, "groups: got 3, expected a number that divides"),
    ("conv_bn_act", "groups", lambda v: 0, "groups: got 0"),
    ("conv_bn_act", "stride", lambda v: 0, r"stride: got 0, expected an integer in 1\.\."),
    ("conv_bn_act", "dilation", lambda v: -1, "dilation: got -1"),
    ("conv_bn_act", "padding", lambda v: -1, r"padding: got -1, expected an integer in 0\.\."),
    ("conv_bn_act", "padding", lambda v: 2**40, "padding: got 1099511627776"),
    ("conv_bn_act", "dilation", lambda v: 4, "x: got height 5 with kernel 3, dilation 4, padding 1"),
    ("conv_bn_act", "eps", lambda v: -1.0, "eps: got -1"),
    ("conv_bn_act", "eps", lambda v: float("nan"), "eps: got nan"),
    ("conv_bn_act", "momentum", lambda v: 1.5, r"momentum: got 1\.5.*0\.\.1"),
    ("conv_bn_act", "backend", lambda v: "cuda", "backend: got 'cuda', expected 'cpu' or 'reference'"),
    ("conv_bn_act", "isa", lambda v: "mmx", "isa: got 'mmx', expected one of 'scalar'"),
    # branches
    ("sk_conv", "weight", lambda v: [], r"branches: got 0, expected 1\.\.4"),
    ("sk_conv", "weight", lambda v: v * 3, "branches: got 6"),
    ("sk_conv", "gamma", lambda v: v[:1], "gamma: got 1 arrays, expected 2"),
    ("sk_conv", "dilation", lambda v: [1, 2, 3], "dilation: got 3 values, expected 2"),
    ("sk_conv", "padding", _swap(1, 0), r"padding\[1\]: got branch output 1 x 2, expected 5 x 6"),
    ("sk_conv", "weight", _swap(1, _zeros(8, 2, 3, 3)), r"weight\[1\]: got 8 output channels, expected 6"),
    ("sk_conv", "beta", _swap(1, _zeros(1)), r"beta\[1\]: got shape \(1,\)"),
    ("sk_conv", "split_input", lambda v: True, r"weight\[0\]: got shape .*expected 1 in dimension 1: 2 input channels"),
    ("sk_conv", "groups", lambda v: 4, "groups: got 4"),
    # attention
    ("sk_attention", "u", lambda v: v[:, 0].copy(), "u: got shape .*expected rank 5"),
    ("sk_attention", "u", lambda v: _zeros(2, 5, 6, 3, 3), r"branches: got 5, expected 1\.\.4"),
    ("sk_attention", "fc_reduce", lambda v: _zeros(5, 7), r"fc_reduce: got shape \(5, 7\), expected \(c_reduced, 6\)"),
    ("sk_attention", "fc_reduce", lambda v: _zeros(0, 6), r"fc_reduce: got shape \(0, 6\)"),
    ("sk_attention", "fc_select", lambda v: _zeros(12, 5, 3, 3), r"fc_select: .*expected \(12, 5\) or \(12, 5, 1, 1\)"),
    ("sk_attention", "beta", lambda v: _zeros(6), r"beta: got shape \(6,\), expected \(5,\)"),
    ("sk_select", "attention", lambda v: v[:, :1].copy(), "attention: got shape .*expected shape"),
    ("selective_kernel", "attn_gamma", lambda v: _zeros(4), r"attn_gamma: got shape \(4,\)"),
    ("selective_kernel", "fc_select", lambda v: v[:6].copy(), "fc_select: got shape"),
    ("selective_kernel", "attn_eps", lambda v: float("inf"), "attn_eps: got inf"),
    # gradients
    ("conv_bn_act_grad", "dy", lambda v: v[:, :, 1:].copy(), "dy: got shape .*expected shape"),
    ("conv_bn_act_grad", "z", lambda v: None, "z: got None, expected what the forward op saved"),
    ("conv_bn_act_grad", "inv_std", lambda v: v[:1].copy(), "inv_std: got shape"),
    ("sk_conv_grad", "mean", lambda v: v.T.copy(), "mean: got shape"),
    ("sk_attention_grad", "hidden", lambda v: None, "hidden: got None"),
    ("sk_select_grad", "dy", lambda v: v[0], "dy: got shape"),
    ("selective_kernel_grad", "attention", lambda v: v[:1].copy(), "attention: got shape"),
    ("selective_kernel_grad", "pooled", lambda v: None, "pooled: got None"),
]


def _ids(rows: list) -> list[str]:
    return [f"{name}-{argument}-{i}" for i, (name, argument, *_) in enumerate(rows)]


def _refused(native: ModuleType, row: tuple, error: type[Exception]) -> None:
    name, argument, change, message = row
    function, arguments = _call(native, name)
    function(**arguments)  # good as it stands
    function, arguments = _call(native, name)
    arguments[argument] = change(arguments.get(argument))
    with pytest.raises(error, match=message) as caught:
        function(**arguments)
    assert name in str(caught.value)


@pytest.mark.parametrize("row", TYPES, ids=_ids(TYPES))
def test_type(row: tuple, native: ModuleType) -> None:
    _refused(native, row, TypeError)


@pytest.mark.parametrize("row", VALUES, ids=_ids(VALUES))
def test_value(row: tuple, native: ModuleType) -> None:
    _refused(native, row, ValueError)


def test_split_needs_a_multiple_of_the_branches(native: ModuleType) -> None:
    function, arguments = _call(native, "sk_conv")
    arguments.update(x=_zeros(2, 5, 5, 6), split_input=True)
    with pytest.raises(ValueError, match="sk_conv: x: got 5 channels, expected a multiple of 2"):
        function(**arguments)


@pytest.mark.parametrize(
    "images, error, message",
    [
        (100_000, ValueError, r"conv_bn_act: output: got shape \(100000, 1000000, 8191, 8191\), expected a size that"),
        (1_000, MemoryError, "Unable to allocate|std::bad_alloc"),
    ],
)
def test_output_too_large(images: int, error: type[Exception], message: str, native: ModuleType) -> None:
    """Small inputs whose output would overflow a 64-bit size, or the memory of any machine."""
    channels = 1_000_000
    norm = [_zeros(channels)] * 4
    with pytest.raises(error, match=message):
        native.conv_bn_act(_zeros(images, 1, 1, 1), _zeros(channels, 1, 1, 1), *norm, padding=4095)


NO_MEMORY = """
import importlib.util, resource, sys
import numpy as np
spec = importlib.util.spec_from_file_location("sknet_ops._native", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
x, norm = np.ones((1, 3000, 1, 1), np.float32), [np.ones(2, np.float32)] * 4
try:
    native.conv_bn_act(x, np.ones((2, 3000, 1, 1), np.float32), *norm, padding=4095, stride=4095)
except MemoryError:
    y = native.conv_bn_act(x, np.ones((2, 3000, 1, 1), np.float32), *norm, eps=0.0)["y"]
    print("refused, then", y.ravel().tolist())
"""


def test_out_of_memory_inside_a_kernel(native: ModuleType) -> None:
    """Scratch memory that cannot be had is a MemoryError, and the module still works after it."""
    # Other libraries' thread pools take address space, which is what is limited here.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", NO_MEMORY, native.__file__]
    done = subprocess.run(command, env=one_thread, capture_output=True, text=True)
    assert done.stdout.strip() == "refused, then [3000.0, 3000.0]", done.stdout + done.stderr


def test_reference_has_no_isa(native: ModuleType) -> None:
    with pytest.raises(ValueError, match="sk_select: isa: got 'scalar', expected None"):
        native.sk_select(_zeros(1, 1, 1, 1, 1), _zeros(1, 1, 1), backend="reference", isa="scalar")


def test_reference_refuses_mixed_dtypes(native: ModuleType) -> None:
    u, attention = np.zeros((1, 1, 1, 1, 1)), _zeros(1, 1, 1)
    with pytest.raises(TypeError, match="attention: got dtype float32, expected float64"):
        native.sk_select(u, attention, backend="reference")


def test_negative_threads(native: ModuleType) -> None:
    with pytest.raises(ValueError, match="set_num_threads: threads: got -1"):
        native.set_num_threads(-1)


def test_refusal_leaves_moving_statistics(native: ModuleType) -> None:
    function, arguments = _call(native, "sk_conv")
    before = [array.copy() for array in arguments["moving_mean"]]
    arguments["beta"] = arguments["beta"][:1]
    with pytest.raises(ValueError):
        function(**arguments)
    assert all(np.array_equal(a, b) for a, b in zip(arguments["moving_mean"], before, strict=True))
