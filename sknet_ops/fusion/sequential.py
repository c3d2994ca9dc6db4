# SPDX-License-Identifier: Apache-2.0
"""Runs of convolution, norm[, ReLU] inside an nn.SequentialCell.

The children stay: what changes is ``cell_list``, which is all that ``SequentialCell.construct`` looks at.
"""

from __future__ import annotations

from collections.abc import Callable

from mindspore import nn

from sknet_ops.fusion.step import FusedRun
from sknet_ops.layers.holders import UnsupportedCellError, describe

# (convolution, reason): a convolution that could not be taken.
OnLeft = Callable[[nn.Cell, str], None]


def fuse_sequential(cell: nn.SequentialCell, on_left: OnLeft) -> list[FusedRun]:
    """Fuses what it can in the list; returns the runs."""
    if type(cell).construct is not nn.SequentialCell.construct:
        return []
    cells, steps, runs = list(cell.cell_list), [], []
    at = 0
    while at < len(cells):
        step, taken = _run_at(cells, at, on_left)
        if step is not None:
            runs.append(step)
        steps.append(step or cells[at])
        at += taken
    if runs:
        cell.cell_list = type(cell.cell_list)(steps)
    return runs


def only_run(cell: object) -> FusedRun | None:
    """The run, if that is all that the sequence consists of."""
    if isinstance(cell, nn.SequentialCell) and type(cell).construct is nn.SequentialCell.construct:
        steps = list(cell.cell_list)
        if len(steps) == 1 and isinstance(steps[0], FusedRun):
            return steps[0]
    return None


def _run_at(cells: list[nn.Cell], at: int, on_left: OnLeft) -> tuple[FusedRun | None, int]:
    conv = cells[at]
    if not isinstance(conv, nn.Conv2d):
        return None, 1
    norm = cells[at + 1] if at + 1 < len(cells) else None
    if not isinstance(norm, nn.BatchNorm2d):
        if norm is not None:
            on_left(conv, f"{describe(norm)} follows, expected nn.BatchNorm2d")
        return None, 1
    activation = cells[at + 2] if at + 2 < len(cells) and isinstance(cells[at + 2], nn.ReLU) else None
    try:
        return FusedRun.over(conv, norm, activation), 2 if activation is None else 3
    except UnsupportedCellError as error:
        on_left(conv, str(error))
        return None, 1
