# SPDX-License-Identifier: Apache-2.0
"""What was swapped, and what was not and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from mindspore import nn

_ATTRIBUTE = "sknet_fusion_report"


@dataclass(frozen=True)
class Swapped:
    """One fused op: where it stands and what it replaces."""

    name: str  # path of the cell (of the convolution, for a run)
    op: str  # "selective_kernel", "conv_bn_act" or "max_pool"
    replaces: str

    def __str__(self) -> str:
        return f"{self.name}: {self.op} for {self.replaces}"


@dataclass(frozen=True)
class Left:
    """A cell that stays as it is."""

    name: str
    cell: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.cell} stays: {self.reason}"


@dataclass
class FusionReport:
    """All of it; ``str()`` is a list to read."""

    swapped: list[Swapped] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.swapped)} swapped, {len(self.left)} left"]
        return "\n".join(lines + [f"  {entry}" for entry in [*self.swapped, *self.left]])


def attach(net: nn.Cell, result: FusionReport) -> None:
    object.__setattr__(net, _ATTRIBUTE, result)


def report(net: nn.Cell) -> FusionReport:
    """The report of :func:`sknet_ops.fuse` on this network.

    Raises:
        TypeError: If `net` is not a cell.
        ValueError: If it has not been through ``fuse``.
    """
    if not isinstance(net, nn.Cell):
        raise TypeError(f"fuse.report: net: got {type(net).__name__}, expected nn.Cell")
    found = net.__dict__.get(_ATTRIBUTE)
    if found is None:
        raise ValueError("fuse.report: net: got a network that fuse has not seen, expected fuse(net) before")
    return found
