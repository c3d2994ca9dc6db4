# SPDX-License-Identifier: Apache-2.0
"""Every model as one row of numbers. Needs no MindSpore, so that listing and checking names is instant."""

import difflib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelSpec:
    """What tells one network from another.

    Attributes:
        name: the registry's name.
        origin: where the structure comes from: "MindCV", "timm", "paper" or "sknet-ops".
        block: "basic" (SK convolution, 3x3), "bottleneck" (1x1, SK convolution, 1x1 to four times the width) or
            "plain" (the basic block with an ordinary 3x3 convolution in place of the SK convolution).
        layers: blocks of each stage; a stage after the first halves height and width.
        widths: channels of each stage, before the bottleneck's expansion.
        sk: arguments of the SelectiveKernel layers; none in plain blocks.
        groups, base_width: of the bottleneck, as in ResNeXt: inner width = width * base_width / 64 * groups.
        relu_after_conv1: False only in MindCV's bottleneck, which leaves that ReLU out.
        stem: "conv7" (7x7, stride 2), "deep" (three 3x3, the first of stride 2) or "conv3" (3x3, stride 1).
        pool: max-pooling after the stem: "same" (MindCV: pads at the end first), "centred" (timm: one on each
            side) or "none".
        avg_down: shortcuts that shrink do it by 2x2 average pooling and a 1x1 convolution of stride 1.
        weights_url: address of the weights that the origin published, if any.
    """

    name: str
    origin: str
    block: str
    layers: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    sk: dict[str, Any] = field(default_factory=dict)
    groups: int = 1
    base_width: int = 64
    relu_after_conv1: bool = True
    stem: str = "conv7"
    pool: str = "centred"
    avg_down: bool = False
    weights_url: str = ""

    @property
    def expansion(self) -> int:
        return 4 if self.block == "bottleneck" else 1


_BASIC_SK = {"rd_ratio": 1 / 8, "rd_divisor": 16, "split_input": True}
_SPLIT_SK = {"split_input": True}
_FULL_SK = {"rd_ratio": 1 / 16, "rd_divisor": 32, "split_input": False}
_MINDCV_WEIGHTS = "https://download.mindspore.cn/toolkits/mindcv/sknet/"

_SPECS: dict[str, ModelSpec] = {}


def _add(name: str, origin: str, block: str, layers: tuple[int, ...], **fields: Any) -> None:
    _SPECS[name] = ModelSpec(name, origin, block, layers, **fields)


# MindCV 0.3.0. Its skresnext50_32x4d is dense (groups 1, base width 64) in spite of its name: the published
# weights need exactly that.
_mindcv = {"pool": "same", "relu_after_conv1": False}
_add(
    "skresnet18",
    "MindCV",
    "basic",
    (2, 2, 2, 2),
    sk=_BASIC_SK,
    **_mindcv,
    # As on MindCV's page: the address in its code, sknet18-..., is dead (mindcv issue 608).
    weights_url=_MINDCV_WEIGHTS + "skresnet18-868228e5.ckpt",
)
_add(
    "skresnet34",
    "MindCV",
    "basic",
    (3, 4, 6, 3),
    sk=_BASIC_SK,
    **_mindcv,
    weights_url=_MINDCV_WEIGHTS + "skresnet34-d668b629.ckpt",
)
_add("skresnet50", "MindCV", "bottleneck", (3, 4, 6, 3), sk=_SPLIT_SK, **_mindcv)
_add(
    "skresnext50_32x4d",
    "MindCV",
    "bottleneck",
    (3, 4, 6, 3),
    sk=_FULL_SK,
    **_mindcv,
    weights_url=_MINDCV_WEIGHTS + "skresnext50_32x4d-395413a2.ckpt",
)

# timm.
_add("skresnet18.timm", "timm", "basic", (2, 2, 2, 2), sk=_BASIC_SK)
_add("skresnet34.timm", "timm", "basic", (3, 4, 6, 3), sk=_BASIC_SK)
_add("skresnet50.timm", "timm", "bottleneck", (3, 4, 6, 3), sk=_SPLIT_SK)
_add("skresnet50d.timm", "timm", "bottleneck", (3, 4, 6, 3), sk=_SPLIT_SK, stem="deep", avg_down=True)
_add("skresnext50_32x4d.timm", "timm", "bottleneck", (3, 4, 6, 3), sk=_FULL_SK, groups=32, base_width=4)

# Selective Kernel Networks (arXiv 1903.06586), table 1: SK[M=2, G=32, r=16], hidden layer at least L=32 wide.
_paper = {"sk": _FULL_SK, "groups": 32, "base_width": 4}
_add("sknet26", "paper", "bottleneck", (2, 2, 2, 2), **_paper)
_add("sknet50", "paper", "bottleneck", (3, 4, 6, 3), **_paper)
_add("sknet101", "paper", "bottleneck", (3, 4, 23, 3), **_paper)

# Ours, for small images: the stem keeps the resolution.
_small = {"stem": "conv3", "pool": "none"}
_add("sknet_tiny", "sknet-ops", "basic", (1, 1, 1), widths=(16, 32, 64), sk=_BASIC_SK, **_small)
_add("sknet_cifar", "sknet-ops", "basic", (2, 2, 2), widths=(32, 64, 128), sk=_BASIC_SK, **_small)
# What sknet_cifar is compared with. Its SK layers split their input, so that both branches together have the weights of
# one 3x3 convolution: without the attention (and a second norm) the same widths give 2 % fewer parameters.
_add("plain_cifar", "sknet-ops", "plain", (2, 2, 2), widths=(32, 64, 128), **_small)
# The two with one block a stage, 8 layers deep: for minutes on a processor.
_add("sknet8_cifar", "sknet-ops", "basic", (1, 1, 1), widths=(32, 64, 128), sk=_BASIC_SK, **_small)
_add("plain8_cifar", "sknet-ops", "plain", (1, 1, 1), widths=(32, 64, 128), **_small)


def list_models() -> list[str]:
    """Names that ``create_model`` takes."""
    return list(_SPECS)


def get_spec(name: str) -> ModelSpec:
    """The row of one model. ValueError, with the nearest names, if there is none."""
    if not isinstance(name, str):
        raise TypeError(f"model name: expected str, got {type(name).__name__}")
    if name not in _SPECS:
        near = difflib.get_close_matches(name, _SPECS, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"known models: {', '.join(_SPECS)}"
        raise ValueError(f"unknown model {name!r}: {hint}")
    return _SPECS[name]
