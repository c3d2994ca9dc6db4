# SPDX-License-Identifier: Apache-2.0
"""fuse(net): the one line that speeds up an existing network."""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import nn

from sknet_ops import backends
from sknet_ops.fusion import report as reports
from sknet_ops.fusion.pool import FusedMaxPool2d, adopt_pool
from sknet_ops.fusion.report import FusionReport, Left, Swapped
from sknet_ops.fusion.rewrite import fuse_methods, fused_before
from sknet_ops.fusion.selective import adopt, is_selective_kernel
from sknet_ops.fusion.sequential import fuse_sequential
from sknet_ops.fusion.step import FusedRun
from sknet_ops.layers import ConvBnAct, SelectiveKernel
from sknet_ops.layers.holders import UnsupportedCellError, describe

_OTHER_OPS = {SelectiveKernel: "selective_kernel", FusedMaxPool2d: "max_pool"}
_UNREAD = "no nn.BatchNorm2d was seen to follow it, in an nn.SequentialCell or in a method"


def fuse(net: nn.Cell, return_report: bool = False) -> nn.Cell | tuple[nn.Cell, FusionReport]:
    """Lets a network run on the fused ops, in place.

    Taken are MindCV's SelectiveKernel cells, nn.MaxPool2d, and runs of nn.Conv2d, nn.BatchNorm2d, optionally an
    addition, optionally ReLU: in an nn.SequentialCell, or written out in a method (``x = self.conv1(x)``,
    ``x = self.bn1(x)`` ...). All other cells stay as they are. Every cell stays where it is, and so do its parameters,
    with their names, order and identity: checkpoints, optimizers, ``set_train``, frozen norms work as before. Only what
    calls them changes.

    Call it before the network is first compiled or wrapped in a training cell: a graph that was compiled before keeps
    its old form. Cells that are to be replaced (a new stem, say) are replaced before too.

    Args:
        net: Any network.
        return_report: Also return what was swapped and what was not, and why; ``sknet_ops.fuse.report(net)`` gives it
            later as well.

    Returns:
        `net` itself, or `net` and the report.

    Raises:
        TypeError: If `net` is not a cell, or `return_report` not a bool.
        BinaryMissingError: If the native library has not been built.
        BackendUnavailableError: If the chosen backend cannot run here.
    """
    if not isinstance(net, nn.Cell):
        raise TypeError(f"fuse: net: got {type(net).__name__}, expected nn.Cell")
    if not isinstance(return_report, bool):
        raise TypeError(f"fuse: return_report: got {type(return_report).__name__}, expected bool")
    backends.active_backend()
    result = _Fusion(net).run()
    reports.attach(net, result)
    return (net, result) if return_report else net


class _Fusion:
    """One pass over a network."""

    def __init__(self, net: nn.Cell) -> None:
        self.net = net
        self.cells = list(net.cells_and_names())
        self.names = {id(cell): name for name, cell in self.cells}
        self.swapped: dict[int, Swapped] = {}  # by the identity of the unit, or of the convolution of a run
        self.left: dict[int, Left] = {}
        self.inside: set[int] = set()  # cells inside units, which are fused as a whole

    def run(self) -> FusionReport:
        for _, cell in self.cells:
            if is_selective_kernel(cell):
                self._selective_kernel(cell)
            elif isinstance(cell, SelectiveKernel):
                self._keep_inside(cell)
                self._swap(cell, cell, "a SelectiveKernel that was fused already")
            elif isinstance(cell, nn.MaxPool2d):
                self._max_pool(cell)
        for _, cell in self.cells:
            if isinstance(cell, ConvBnAct):
                self._swap(cell, cell.conv_holder, "a ConvBnAct that was fused already")
            elif isinstance(cell, nn.SequentialCell) and id(cell) not in self.inside:
                self._swap_before([step for step in cell.cell_list if isinstance(step, FusedRun)])
                for fused in fuse_sequential(cell, self._leave):
                    self._swap_run(fused, False)
        for _, cell in self.cells:
            if id(cell) not in self.inside:
                self._swap_before(fused_before(cell))
                for fused, residual in fuse_methods(cell, self._leave):
                    self._swap_run(fused, residual)
        for _, cell in self.cells:
            cell.compile_cache.clear()  # graphs compiled from the cell as it was
            if isinstance(cell, nn.Conv2d) and id(cell) not in self.inside and id(cell) not in self.swapped:
                self._leave(cell, _UNREAD)
        left = [entry for identity, entry in self.left.items() if identity not in self.swapped]
        return FusionReport(list(self.swapped.values()), left)

    def _selective_kernel(self, cell: nn.Cell) -> None:
        try:
            adopt(cell)
        except UnsupportedCellError as error:
            self._leave(cell, str(error))
            return
        self._keep_inside(cell)
        self._swap(cell, cell, "the SelectiveKernel")

    def _max_pool(self, cell: nn.MaxPool2d) -> None:
        if isinstance(cell, FusedMaxPool2d):
            self._swap(cell, cell, "an nn.MaxPool2d that was fused already")
            return
        try:
            adopt_pool(cell)
        except UnsupportedCellError as error:
            self._leave(cell, str(error))
            return
        self._swap(cell, cell, "the nn.MaxPool2d")

    def _keep_inside(self, cell: nn.Cell) -> None:
        self.inside |= {id(child) for _, child in cell.cells_and_names() if child is not cell}

    def _swap(self, cell: nn.Cell, key: nn.Cell, replaces: str) -> None:
        op = next((op for kind, op in _OTHER_OPS.items() if isinstance(cell, kind)), "conv_bn_act")
        self.swapped[id(key)] = Swapped(self.names.get(id(key), ""), op, replaces)

    def _swap_run(self, fused: FusedRun, residual: bool) -> None:
        parts = ["convolution", "norm"] + ["addition"] * residual + ["ReLU"] * fused.relu
        self._swap(fused, fused.conv_holder, ", ".join(parts))

    def _swap_before(self, runs: Sequence[FusedRun]) -> None:
        for fused in runs:
            self._swap(fused, fused.conv_holder, "a run that was fused already")

    def _leave(self, cell: nn.Cell, reason: str) -> None:
        # The first reason is the most specific one.
        self.left.setdefault(id(cell), Left(self.names.get(id(cell), ""), describe(cell), reason))
