# SPDX-License-Identifier: Apache-2.0
"""MindCV's layers and networks on MindSpore's own operators."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

from benchmarks.harness.cases import Case


def why_not() -> str | None:
    try:
        import mindcv.models.sknet  # noqa: F401
    except ImportError as error:
        return f"MindCV is missing ({error}): pip install mindcv==0.3.0"
    return None


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("mindspore", "mindcv")}


def build(case: Case) -> Any:
    from mindcv.models.layers.selective_kernel import SelectiveKernel
    from mindcv.models.sknet import SelectiveKernelBasic, SelectiveKernelBottleneck, SKNet

    s = case.shape
    if case.kind == "network":
        block = SelectiveKernelBasic if s["block"] == "basic" else SelectiveKernelBottleneck
        sk = {name: s[name] for name in ("rd_ratio", "rd_divisor", "split_input")}
        return SKNet(block, s["layers"], groups=s["groups"], base_width=s["base_width"], sk_kwargs=sk)
    if case.kind == "conv_bn_act":
        return _conv_bn_act(s)
    return SelectiveKernel(
        s["c_in"],
        s["c_out"],
        stride=s["stride"],
        groups=s["groups"],
        rd_channels=s["c_reduced"],
        split_input=s["split_input"],
    )


def _conv_bn_act(shape: dict[str, Any]) -> Any:
    """MindCV composes it in place, block by block; so here."""
    from mindspore import nn

    class ConvBnAct(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            size = {"pad_mode": "pad", "padding": shape["kernel"] // 2}
            self.conv = nn.Conv2d(shape["c_in"], shape["c_out"], shape["kernel"], shape["stride"], **size)
            self.norm = nn.BatchNorm2d(shape["c_out"])
            self.relu = nn.ReLU() if shape["relu"] else None

        def construct(self, x, residual=None):
            x = self.norm(self.conv(x))
            if residual is not None:
                x = x + residual
            return x if self.relu is None else self.relu(x)

    return ConvBnAct()


def variants(case: Case, threads: int) -> dict[str, Callable]:
    from benchmarks.peers import mindspore_common

    return mindspore_common.variants(case, build)


def to_numpy(result: Any) -> Any:
    from benchmarks.peers import mindspore_common

    return mindspore_common.to_numpy(result)


def memory(case: dict[str, Any], layers: int) -> dict[str, Any]:
    from benchmarks.peers import mindspore_common

    return mindspore_common.memory(build, Case.from_json(case), layers)
