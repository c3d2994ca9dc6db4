# SPDX-License-Identifier: Apache-2.0
"""The SK units of the networks, at 224 x 224; nothing of PyTorch in here."""

from __future__ import annotations

from dataclasses import dataclass

from tests.cases import SkConvCase


@dataclass(frozen=True)
class Unit:
    """One SK unit of a network: channels in and out, size of the map, stride."""

    channels: int
    size: int
    stride: int
    groups: int = 32

    @property
    def out_size(self) -> int:
        return (self.size - 1) // self.stride + 1

    @property
    def hidden(self) -> int:
        return max(self.channels // 16, 32)

    def __str__(self) -> str:
        return f"{self.channels} x {self.size}^2 / {self.stride}"


# SKNet-26, 50 and 101 of the paper (arXiv 1903.06586) and timm's skresnext50_32x4d: M = 2, G = 32, r = 16, L = 32.
PAPER = (
    Unit(128, 56, 1),
    Unit(256, 56, 2),
    Unit(256, 28, 1),
    Unit(512, 28, 2),
    Unit(512, 14, 1),
    Unit(1024, 14, 2),
    Unit(1024, 7, 1),
)

# Dense units. Channels in and out, size, stride, reduced channels; the first two networks split the input.
_BOTTLENECKS = ((64, 56, 1, 8), (128, 56, 2, 8), (128, 28, 1, 8), (256, 28, 2, 16), (256, 14, 1, 16), (512, 14, 2, 32),
                (512, 7, 1, 32))  # fmt: skip
DENSE = {
    "skresnet18": ((64, 64, 56, 1, 16), (64, 128, 56, 2, 16), (128, 128, 28, 1, 16), (128, 256, 28, 2, 32),
                   (256, 256, 14, 1, 32), (256, 512, 14, 2, 64), (512, 512, 7, 1, 64)),
    "skresnet50": tuple((c, c, size, stride, reduced) for c, size, stride, reduced in _BOTTLENECKS),
    "skresnext50_32x4d": tuple((c, c, size, stride, 32) for c, size, stride, _ in _BOTTLENECKS),
}  # fmt: skip


def paper_cases(batch: int) -> list[SkConvCase]:
    return [
        SkConvCase(f"paper {unit}", batch, unit.channels, (unit.size, unit.size), unit.channels, stride=unit.stride,
                   groups=unit.groups, c_reduced=unit.hidden, op=op)
        for unit in PAPER
        for op in ("sk_conv", "selective_kernel")
    ]  # fmt: skip


def dense_cases(batch: int) -> list[SkConvCase]:
    return [
        SkConvCase(f"{network} {c_in} to {c_out} x {size}^2 / {stride}", batch, c_in, (size, size), c_out,
                   stride=stride, split_input=network != "skresnext50_32x4d", c_reduced=reduced, op="selective_kernel")
        for network, units in DENSE.items()
        for c_in, c_out, size, stride, reduced in units
    ]  # fmt: skip
