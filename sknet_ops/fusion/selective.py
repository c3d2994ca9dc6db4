# SPDX-License-Identifier: Apache-2.0
"""Recognising MindCV's SelectiveKernel, without importing MindCV."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable

from mindspore import nn

from sknet_ops.layers import SelectiveKernel
from sknet_ops.layers.holders import UnsupportedCellError, refuse_hooks

# What the cells must compute, name for name, for the fused op to stand in: MindCV 0.3.0.
_LAYER = """
def construct(self, x):
    x_paths = []
    if self.split_input:
        x_split = self.split(x)
        for i, op in enumerate(self.paths):
            x_paths.append(op(x_split[i]))
    else:
        for op in self.paths:
            x_paths.append(op(x))
    x = ops.stack(x_paths, axis=1)
    x_attn = self.attn(x)
    x = x * x_attn
    x = x.sum(1)
    return x
"""
_ATTENTION = """
def construct(self, x):
    x = self.mean(x.sum(1))
    x = self.fc_reduce(x)
    x = self.bn(x)
    x = self.act(x)
    x = self.fc_select(x)
    b, c, h, w = x.shape
    x = x.reshape((b, self.num_paths, c // self.num_paths, h, w))
    x = self.softmax(x)
    return x
"""
_BRANCH = """
def construct(self, x):
    output = self.features(x)
    return output
"""


def is_selective_kernel(cell: nn.Cell) -> bool:
    """Looks like MindCV's layer: the class name and the two attributes."""
    named = any(cls.__name__ == "SelectiveKernel" for cls in type(cell).__mro__)
    return named and not isinstance(cell, SelectiveKernel) and hasattr(cell, "paths") and hasattr(cell, "attn")


def adopt(cell: nn.Cell) -> None:
    """Makes the cell, in place, a fused one.

    Raises:
        UnsupportedCellError: The reason why it stays as it is.
    """
    _computes(cell, _LAYER)
    _computes(cell.attn, _ATTENTION)
    for path in cell.paths:
        _computes(path, _BRANCH)
        _computes_as(path.features, nn.SequentialCell)
    for _, child in cell.cells_and_names():
        if child is not cell:
            refuse_hooks(child)
    softmax = cell.attn.softmax
    if type(softmax) is not nn.Softmax or softmax.softmax.axis != (1,):
        raise UnsupportedCellError("attn.softmax is not nn.Softmax over the branches")
    SelectiveKernel.adopt(cell)


def _computes(cell: nn.Cell, source: str) -> None:
    if _normalised(_source(type(cell).construct)) != _normalised(source):
        raise UnsupportedCellError(f"the construct of {type(cell).__name__} is not that of MindCV's layer")


def _computes_as(cell: nn.Cell, cls: type[nn.Cell]) -> None:
    if type(cell).construct is not cls.construct:
        raise UnsupportedCellError(f"{type(cell).__name__} has a construct of its own")


def _source(function: Callable) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise UnsupportedCellError(f"the source of its construct cannot be read ({error})") from error


def _normalised(source: str) -> str:
    """The syntax tree without annotations and docstring."""
    try:
        function = ast.parse(source).body[0]
    except SyntaxError as error:
        raise UnsupportedCellError(f"the source of its construct cannot be parsed ({error})") from error
    if not isinstance(function, ast.FunctionDef):
        raise UnsupportedCellError("its construct is not a plain function")
    function.returns = None
    for argument in function.args.args:
        argument.annotation = None
    if ast.get_docstring(function) is not None:
        del function.body[0]
    return ast.dump(function)
