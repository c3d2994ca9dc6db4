# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments of the functions: the type and the whole message of each error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import sknet_ops
from sknet_ops import functional
from tests.mindspore_tools import tensor


def ones(*shape: int, dtype: Any = np.float32) -> Tensor:
    return Tensor(np.ones(shape, dtype))


def norm(channels: int) -> dict[str, Tensor]:
    return {name: ones(channels) for name in ("gamma", "beta", "moving_mean", "moving_variance")}


def conv_bn_act() -> dict[str, Any]:
    return dict(x=ones(2, 4, 6, 6), weight=ones(8, 2, 3, 3), groups=2, **norm(8))


def sk_conv() -> dict[str, Any]:
    return dict(
        x=ones(2, 4, 6, 6),
        weights=[ones(8, 4, 3, 3)] * 2,
        dilation=[1, 2],
        **{f"{name}s": [value] * 2 for name, value in norm(8).items()},
    )


def sk_attention() -> dict[str, Any]:
    return dict(u=ones(2, 2, 8, 3, 3), fc_reduce=ones(4, 8), fc_select=ones(16, 4), **norm(4))


def sk_select() -> dict[str, Any]:
    return dict(u=ones(2, 2, 8, 3, 3), attention=ones(2, 2, 8))


def selective_kernel() -> dict[str, Any]:
    attn = {f"attn_{name}": value for name, value in norm(4).items()}
    return dict(**sk_conv(), fc_reduce=ones(4, 8), fc_select=ones(16, 4), **attn)


def max_pool() -> dict[str, Any]:
    return dict(x=ones(2, 4, 6, 6), kernel=3, stride=2, padding=1)


RIGHT: dict[str, Callable[[], dict[str, Any]]] = {
    f.__name__: f for f in (conv_bn_act, sk_conv, sk_attention, sk_select, selective_kernel, max_pool)
}
X = "(n, c_in, h, w)"
U = "(n, branches, c, h, w)"
# op, what is changed, error, message after "op: "
BAD = [
    # of a wrong type
    ("conv_bn_act", dict(x=np.ones((2, 4, 6, 6))), TypeError, "x: got ndarray, expected Tensor"),
    ("conv_bn_act", dict(weight=None), TypeError, "weight: got NoneType, expected Tensor"),
    ("conv_bn_act", dict(residual=1.0), TypeError, "residual: got float, expected Tensor"),
    ("conv_bn_act", dict(stride=1.5), TypeError, "stride: got float 1.5, expected an int in 1..4096"),
    ("conv_bn_act", dict(stride=True), TypeError, "stride: got bool True, expected an int in 1..4096"),
    ("conv_bn_act", dict(dilation="2"), TypeError, "dilation: got str '2', expected an int in 1..4096"),
    ("conv_bn_act", dict(padding=(1, 1)), TypeError, "padding: got tuple (1, 1), expected an int in 0..4096"),
    ("conv_bn_act", dict(relu=1), TypeError, "relu: got int 1, expected a bool"),
    ("conv_bn_act", dict(training="yes"), TypeError, "training: got str 'yes', expected a bool"),
    ("conv_bn_act", dict(eps="small"), TypeError, "eps: got str 'small', expected a finite number >= 0"),
    ("conv_bn_act", dict(momentum=None), TypeError, "momentum: got NoneType None, expected a number in 0..1"),
    ("sk_conv", dict(weights=ones(8, 4, 3, 3)), TypeError,
     "weights: got Tensor, expected a list or tuple of Tensors, one a branch"),
    ("sk_conv", dict(gammas=[ones(8), 1]), TypeError, "gammas[1]: got int, expected Tensor"),
    ("sk_conv", dict(split_input=None), TypeError, "split_input: got NoneType None, expected a bool"),
    ("sk_conv", dict(dilation=[1, 2.0]), TypeError, "dilation[1]: got float 2.0, expected an int in 1..4096"),
    ("sk_attention", dict(u=[1]), TypeError, "u: got list, expected Tensor"),
    ("sk_select", dict(attention=0.5), TypeError, "attention: got float, expected Tensor"),
    ("selective_kernel", dict(attn_eps=[1]), TypeError, "attn_eps: got list [1], expected a finite number >= 0"),
    ("max_pool", dict(x=2), TypeError, "x: got int, expected Tensor"),
    ("max_pool", dict(kernel=(3, 3)), TypeError, "kernel: got tuple (3, 3), expected an int in 1..4096"),
    ("max_pool", dict(same="same"), TypeError, "same: got str 'same', expected a bool"),
    # of a wrong dtype
    ("conv_bn_act", dict(x=ones(2, 4, 6, 6, dtype=np.float16)), TypeError, "x: got dtype float16, expected float32"),
    ("conv_bn_act", dict(x=ones(2, 4, 6, 6).astype(ms.bfloat16)), TypeError,
     "x: got dtype bfloat16, expected float32"),
    ("conv_bn_act", dict(weight=ones(8, 2, 3, 3, dtype=np.float64)), TypeError,
     "weight: got dtype float64, expected float32"),
    ("conv_bn_act", dict(gamma=ones(8, dtype=np.int32)), TypeError, "gamma: got dtype int32, expected float32"),
    ("sk_conv", dict(betas=[ones(8), ones(8, dtype=np.float16)]), TypeError,
     "betas[1]: got dtype float16, expected float32"),
    ("sk_attention", dict(fc_select=ones(16, 4, dtype=np.float16)), TypeError,
     "fc_select: got dtype float16, expected float32"),
    ("sk_select", dict(u=ones(2, 2, 8, 3, 3, dtype=np.float64)), TypeError, "u: got dtype float64, expected float32"),
    ("selective_kernel", dict(fc_reduce=ones(4, 8, dtype=np.float16)), TypeError,
     "fc_reduce: got dtype float16, expected float32"),
    ("max_pool", dict(x=ones(2, 4, 6, 6, dtype=np.float16)), TypeError, "x: got dtype float16, expected float32"),
    # out of range
    ("max_pool", dict(kernel=0), ValueError, "kernel: got 0, expected an int in 1..4096"),
    ("max_pool", dict(stride=0), ValueError, "stride: got 0, expected an int in 1..4096"),
    ("max_pool", dict(padding=-1), ValueError, "padding: got -1, expected an int in 0..4096"),
    ("max_pool", dict(padding=2), ValueError, "padding: got 2, expected an int in 0..1, half of kernel 3"),
    ("max_pool", dict(same=True), ValueError, "padding: got 1, expected 0, as same pads by itself"),
    ("conv_bn_act", dict(stride=0), ValueError, "stride: got 0, expected an int in 1..4096"),
    ("conv_bn_act", dict(padding=-1), ValueError, "padding: got -1, expected an int in 0..4096"),
    ("conv_bn_act", dict(dilation=5000), ValueError, "dilation: got 5000, expected an int in 1..4096"),
    ("conv_bn_act", dict(groups=0), ValueError, "groups: got 0, expected an int in 1..2147483647"),
    ("conv_bn_act", dict(eps=-1e-5), ValueError, "eps: got -1e-05, expected a finite number >= 0"),
    ("conv_bn_act", dict(eps=float("nan")), ValueError, "eps: got nan, expected a finite number >= 0"),
    ("conv_bn_act", dict(momentum=1.5), ValueError, "momentum: got 1.5, expected a number in 0..1"),
    ("selective_kernel", dict(attn_momentum=-0.1), ValueError,
     "attn_momentum: got -0.1, expected a number in 0..1"),
    # of a wrong shape
    ("conv_bn_act", dict(x=ones(4, 6, 6)), ValueError, f"x: got shape (4, 6, 6), expected rank 4: {X}"),
    ("conv_bn_act", dict(x=ones(2, 4, 0, 6)), ValueError,
     f"x: got shape (2, 4, 0, 6), expected {X} with dimension 2 of at least 1"),
    ("conv_bn_act", dict(x=ones(2, 6, 6, 6)), ValueError,
     "weight: got shape (8, 2, 3, 3), expected 3 in dimension 1: 6 input channels / 2 groups"),
    ("conv_bn_act", dict(groups=3), ValueError,
     "groups: got 3, expected a number that divides input channels (4) and output channels (8) of weight"),
    ("conv_bn_act", dict(weight=ones(8, 2, 3, 5)), ValueError,
     "weight: got shape (8, 2, 3, 5), expected a square kernel of at most 4096 in the last two dimensions"),
    ("conv_bn_act", dict(weight=ones(8, 2, 9)), ValueError,
     "weight: got shape (8, 2, 9), expected rank 4: (c_out, c_in / groups, kernel, kernel)"),
    ("conv_bn_act", dict(moving_mean=ones(7)), ValueError,
     "moving_mean: got shape (7,), expected (8,), one value a channel"),
    ("conv_bn_act", dict(beta=ones(8, 1)), ValueError, "beta: got shape (8, 1), expected rank 1: (channels,)"),
    ("conv_bn_act", dict(residual=ones(2, 8, 6, 5)), ValueError,
     "residual: got shape (2, 8, 6, 5), expected shape (2, 8, 6, 6): as the output"),
    ("conv_bn_act", dict(dilation=4, padding=0), ValueError,
     "x: got height 6 with kernel 3, dilation 4, padding 0, expected a kernel extent of at most the padded height (6, "
     "the kernel spans 9)"),
    ("sk_conv", dict(weights=[]), ValueError, "weights: got 0 tensors, expected 1..4, one a branch"),
    ("sk_conv", dict(weights=[ones(8, 4, 3, 3)] * 5), ValueError,
     "weights: got 5 tensors, expected 1..4, one a branch"),
    ("sk_conv", dict(gammas=[ones(8)]), ValueError, "gammas: got 1 tensors, expected 2, as in weights"),
    ("sk_conv", dict(dilation=[1]), ValueError, "dilation: got 1 values, expected an int, or 2, one a branch"),
    ("sk_conv", dict(padding=[1, 1, 1]), ValueError, "padding: got 3 values, expected an int, or 2, one a branch"),
    ("sk_conv", dict(padding=[1, 1]), ValueError,
     "padding[1]: got branch output 4 x 4, expected 6 x 6 as in branch 0"),
    ("sk_conv", dict(weights=[ones(8, 4, 3, 3), ones(6, 4, 3, 3)]), ValueError,
     "weights[1]: got 6 output channels, expected 8 as in branch 0"),
    ("sk_conv", dict(moving_variances=[ones(8), ones(9)]), ValueError,
     "moving_variances[1]: got shape (9,), expected (8,), one value a channel"),
    ("sk_conv", dict(x=ones(2, 5, 6, 6), split_input=True), ValueError,
     "x: got 5 channels, expected a multiple of 2, as split_input shares them among the branches"),
    ("sk_attention", dict(u=ones(2, 2, 8, 3)), ValueError, f"u: got shape (2, 2, 8, 3), expected rank 5: {U}"),
    ("sk_attention", dict(u=ones(2, 5, 8, 3, 3)), ValueError, "u: got 5 branches, expected 1..4"),
    ("sk_attention", dict(fc_reduce=ones(4, 7)), ValueError,
     "fc_reduce: got shape (4, 7), expected (c_reduced, 8) or (c_reduced, 8, 1, 1)"),
    ("sk_attention", dict(fc_reduce=ones(4, 8, 3, 3)), ValueError,
     "fc_reduce: got shape (4, 8, 3, 3), expected (c_reduced, 8) or (c_reduced, 8, 1, 1)"),
    ("sk_attention", dict(fc_select=ones(8, 4)), ValueError,
     "fc_select: got shape (8, 4), expected (16, 4) or (16, 4, 1, 1)"),
    ("sk_attention", dict(gamma=ones(8)), ValueError, "gamma: got shape (8,), expected (4,), one value a channel"),
    ("sk_select", dict(attention=ones(2, 2, 7)), ValueError,
     "attention: got shape (2, 2, 7), expected shape (2, 2, 8): (n, branches, c) of u"),
    ("selective_kernel", dict(attn_beta=ones(5)), ValueError,
     "attn_beta: got shape (5,), expected (4,), one value a channel"),
    ("selective_kernel", dict(fc_select=ones(16, 5)), ValueError,
     "fc_select: got shape (16, 5), expected (16, 4) or (16, 4, 1, 1)"),
    ("max_pool", dict(x=ones(4, 6, 6)), ValueError, "x: got shape (4, 6, 6), expected rank 4: (n, c, h, w)"),
    ("max_pool", dict(x=ones(2, 4, 6, 0)), ValueError,
     "x: got shape (2, 4, 6, 0), expected (n, c, h, w) with dimension 3 of at least 1"),
    ("max_pool", dict(kernel=9), ValueError,
     "x: got height 6 with kernel 9, dilation 1, padding 1, expected a kernel extent of at most the padded height (8, "
     "the kernel spans 9)"),
]  # fmt: skip


@pytest.mark.parametrize("op", RIGHT)
def test_right_input_is_taken(op: str, pynative_mode: None) -> None:
    assert getattr(functional, op)(**RIGHT[op]()).dtype == ms.float32


@pytest.mark.parametrize("op, change, error, message", BAD, ids=[f"{op}-{m[:40]}" for op, _, _, m in BAD])
def test_bad_input(op: str, change: dict[str, Any], error: type[Exception], message: str, pynative_mode: None) -> None:
    with pytest.raises(error, match=f"^{re.escape(f'{op}: {message}')}$"):
        getattr(functional, op)(**{**RIGHT[op](), **change})


class Call(nn.Cell):
    def __init__(self, stride: Any) -> None:
        super().__init__()
        self.stride = stride
        self.arguments = {name: value for name, value in conv_bn_act().items() if name not in ("x", "groups")}

    def construct(self, x: Tensor) -> Tensor:
        return functional.conv_bn_act(x, groups=2, stride=self.stride, **self.arguments)


@pytest.mark.parametrize(
    "stride, shape, dtype, error, message",
    [
        (1, (2, 4, 6, 6), np.float16, TypeError, "x: got dtype float16, expected float32"),
        (1, (4, 6, 6), np.float32, ValueError, "x: got shape (4, 6, 6), expected rank 4: (n, c_in, h, w)"),
        (0, (2, 4, 6, 6), np.float32, ValueError, "stride: got 0, expected an int in 1..4096"),
        ("1", (2, 4, 6, 6), np.float32, TypeError, "stride: got str '1', expected an int in 1..4096"),
    ],
)
def test_bad_input_in_graph_mode(
    stride: Any, shape: tuple, dtype: Any, error: type[Exception], message: str, graph_mode: None
) -> None:
    """The same checks, when the graph is compiled."""
    with pytest.raises(error, match=re.escape(f"conv_bn_act: {message}")):
        Call(stride)(Tensor(np.ones(shape, dtype)))


def test_process_survives(pynative_mode: None) -> None:
    """After an error the same op still works."""
    arguments = conv_bn_act()
    expected = functional.conv_bn_act(**arguments).asnumpy()
    with pytest.raises(ValueError):
        functional.conv_bn_act(**{**arguments, "x": tensor(np.ones((2, 4, 6)))})
    assert np.array_equal(functional.conv_bn_act(**arguments).asnumpy(), expected)


@pytest.mark.parametrize(
    "threads, error, message",
    [
        (2.0, TypeError, "set_num_threads: threads: got float, expected int"),
        (-1, ValueError, "set_num_threads: threads: got -1, expected 0..1024"),
    ],
)
def test_set_num_threads(threads: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        sknet_ops.set_num_threads(threads)
