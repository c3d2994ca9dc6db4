# SPDX-License-Identifier: Apache-2.0
"""Sizes of intermediate tensors on Ascend: the same arithmetic as csrc/ascend/op_host, which a test holds it to.

Outputs have to be allocated before the host's tiling runs, so Python has to know how many shares a sum comes in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Cube cores a chip; twice as many vector cores.
CUBE_CORES = {
    "Ascend910B1": 24, "Ascend910B2": 24, "Ascend910B2C": 24, "Ascend910B3": 20, "Ascend910B4": 20,
    "Ascend910B4-1": 20,
}  # fmt: skip

_L0B, _L0C, _MOST_POSITIONS = 64 * 1024, 128 * 1024, 112
_ITEM = {"float16": 2, "float32": 4}


def cube_cores(soc: str) -> int:
    """Raises ValueError for a chip that the kernels do not know."""
    if soc not in CUBE_CORES:
        raise ValueError(f"soc_version: got {soc!r}, expected one of {', '.join(CUBE_CORES)}")
    return CUBE_CORES[soc]


@dataclass(frozen=True)
class Maps:
    """Maps (n, branches, positions, channels), walked by the vector cores."""

    n: int
    branches: int
    positions: int
    channels: int

    @property
    def ints(self) -> list[int]:
        return [self.n, self.branches, self.positions, self.channels]

    def statistics_splits(self, soc: str) -> int:
        return self._shares(soc, self.branches * self._blocks, self.n)

    def image_splits(self, soc: str) -> int:
        return self._shares(soc, self.n * self._blocks, -(-self.positions // 96))

    @property
    def _blocks(self) -> int:
        return self.channels // math.gcd(self.channels, 64)

    @staticmethod
    def _shares(soc: str, tasks: int, most: int) -> int:
        return max(1, min(-(-2 * cube_cores(soc) // tasks), most))


@dataclass(frozen=True)
class ConvSizes:
    """Branches of convolutions: the integers that every convolution op takes, and what follows from them."""

    n: int
    c_in: int
    h: int
    w: int
    c_out: int
    groups: int
    stride: int
    split_input: bool
    kernel: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def branches(self) -> int:
        return len(self.kernel)

    @property
    def branch_c_in(self) -> int:
        return self.c_in // self.branches if self.split_input else self.c_in

    @property
    def out(self) -> tuple[int, int]:
        reach = self.dilation[0] * (self.kernel[0] - 1) - 2 * self.padding[0]
        return (self.h - reach - 1) // self.stride + 1, (self.w - reach - 1) // self.stride + 1

    @property
    def ints(self) -> list[int]:
        return [self.n, self.c_in, self.h, self.w, self.c_out, self.groups, self.stride, *self.out, self.branches,
                int(self.split_input), *self.kernel, *self.padding, *self.dilation]  # fmt: skip

    @property
    def cin_group(self) -> int:
        return self.branch_c_in // self.groups

    @property
    def cout_group(self) -> int:
        return self.c_out // self.groups

    @property
    def block_groups(self) -> int:
        """Groups that the cube multiplies at once, block-diagonally."""
        return max(16 // math.gcd(self.cin_group, 16), 16 // math.gcd(self.cout_group, 16))

    def packed(self, branch: int) -> int:
        """Elements of a branch's weights in the cube's form; of the data gradient's with cin and cout exchanged."""
        return self.c_out * self.kernel[branch] ** 2 * self.block_groups * self.cin_group

    def packed_transposed(self, branch: int) -> int:
        return self.branch_c_in * self.kernel[branch] ** 2 * self.block_groups * self.cout_group

    def weight_grad_splits(self, soc: str, dtype: str) -> int:
        positions = math.prod(self.out)
        kin, nout = self.block_groups * self.cin_group, self.block_groups * self.cout_group
        tasks, least_units = 0, self.n * positions
        for kernel in self.kernel:
            columns = kernel**2 * 16
            tile = min(_L0B // 2 // (columns * _ITEM[dtype]) // 16 * 16, _MOST_POSITIONS, -(-positions // 16) * 16)
            rows = math.gcd(nout, 64)
            while rows * columns * 4 > _L0C:
                rows //= 2
            least_units = min(least_units, self.n * -(-positions // max(tile, 16)))
            tasks += self.groups // self.block_groups * (nout // rows) * (kin // 16)
        return max(1, min(-(-cube_cores(soc) // tasks), least_units))
