# SPDX-License-Identifier: Apache-2.0
"""Cells that run a recorded method as one op."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mindspore import Tensor, dtype, nn
from mindspore.ops import constexpr

from sknet_ops import backends, primitives
from sknet_ops.backends import cpu, reference
from sknet_ops.layers.holders import has_hook, uses_batch_statistics
from sknet_ops.layers.phase import stand_in_class
from sknet_ops.primitives.op_sequence import pack_constants
from sknet_ops.sequences import direct
from sknet_ops.sequences.recording import Program, Recording, record
from sknet_ops.sequences.steps import Dims

# The last is what MindCV and timm call all before the pooling and the classifier.
_METHODS = ("construct", "forward_features")

_programs: list[Program] = []  # graph mode's constants are numbers: a cell holds the index of its program
_classes: dict[tuple[type[nn.Cell], str], type[nn.Cell]] = {}
# Of a cell with constants, those around it up to the one that was frozen: a graph of theirs may hold the constants.
_above: weakref.WeakKeyDictionary[nn.Cell, tuple[weakref.ref, ...]] = weakref.WeakKeyDictionary()


class _Infers:
    """An attribute: whether of what took part nothing is in training or has a hook, and the backend has the op.

    Not a property: graph mode would compile its function, where of this one it takes the value.
    """

    def __get__(self, cell: nn.Cell | None, cls: type[nn.Cell]) -> bool:
        if cell is None:
            return False
        if any(map(_in_training, cell.sknet_cells)):
            _outdate(cell)
        elif backends.active_backend() in (cpu.NAME, reference.NAME):
            return not cell.sknet_outdated and not any(map(has_hook, cell.sknet_cells))
        return False


def _outdate(cell: nn.Cell) -> None:
    """What has been in training may have other values than its constants."""
    if _programs[cell.sknet_program].constants and not cell.sknet_outdated:
        object.__setattr__(cell, "sknet_outdated", True)
        for holder in (cell, *(above() for above in _above.get(cell, ()))):
            if holder is not None:
                holder.compile_cache.clear()


def _in_training(part: nn.Cell) -> bool:
    return uses_batch_statistics(part) if isinstance(part, nn.BatchNorm2d) else part.training


def arrange(net: nn.Cell, constant: bool = False, above: tuple[nn.Cell, ...] = ()) -> None:
    """Lets the largest parts of a network that are sequences of ops run as one op each, while in inference.

    `constant`: with the present values of all that is small, and with the classifier. `above`: cells around it."""
    for method in _METHODS:
        recording = record(net, method, constant)
        if recording is not None:
            _adopt(net, method, recording)
            if recording.constants:
                _above[net] = tuple(map(weakref.ref, above))
            return
    for child in net.cells():
        arrange(child, constant, (*above, net))


def take_back(net: nn.Cell) -> None:
    """Undoes :func:`arrange`."""
    for _, cell in net.cells_and_names():
        if hasattr(cell, "sknet_plain_class"):
            cell.__class__ = cell.sknet_plain_class
            for name in ("sknet_program", "sknet_weights", "sknet_cells", "sknet_outdated", "sknet_direct"):
                object.__delattr__(cell, name)


def _adopt(cell: nn.Cell, method: str, recording: Recording) -> None:
    program = recording.program()
    if program not in _programs:
        _programs.append(program)
    # Past Cell.__setattr__: parameters and children are where they were.
    object.__setattr__(cell, "sknet_program", _programs.index(program))
    weights = recording.weights
    if recording.constants:
        groups = ([p.asnumpy() for p in group] for group in (recording.weights, recording.constants))
        weights += (Tensor(pack_constants(*groups)),)
    object.__setattr__(cell, "sknet_weights", weights)
    object.__setattr__(cell, "sknet_cells", recording.cells)
    object.__setattr__(cell, "sknet_outdated", False)
    object.__setattr__(cell, "sknet_direct", None)  # made by its first direct call
    cell.__class__ = _subclass(type(cell), method)


def _subclass(cls: type[nn.Cell], method: str) -> type[nn.Cell]:
    key = (cls, method)
    if key not in _classes:
        plain = {"sknet_plain": getattr(cls, method), "sknet_plain_class": cls}
        # Graph mode remembers a method by the function's name.
        run = types.FunctionType(_run.__code__, _run.__globals__, method)

        def add_flags_recursive(self: nn.Cell, **flags: Any) -> nn.Cell:
            """What set_train comes down to, of this cell and of those around it."""
            if flags.get("training"):
                _outdate(self)
            return cls.add_flags_recursive(self, **flags)

        def call(self: nn.Cell, *arguments: Any, **named: Any) -> Any:
            program = _programs[self.sknet_program]
            if len(arguments) == 1 and not named and program.constants:
                y = direct.call(self, program, arguments[0])
                if y is not None:
                    return y
            return cls.__call__(self, *arguments, **named)

        if method == "construct" and cls.__call__ is nn.Cell.__call__:
            plain["__call__"] = call
        members = {method: run, "sknet_infers": _Infers(), "add_flags_recursive": add_flags_recursive, **plain}
        _classes[key] = stand_in_class(cls, members)
    return _classes[key]


def _run(self, x: Tensor) -> Tensor:
    """The method in its place. In graph mode the question is answered when the graph is compiled."""
    if isinstance(x, Tensor) and self.sknet_infers and _takes(self.sknet_program, x.shape, x.dtype):
        return _op(self.sknet_program)(x, *self.sknet_weights)[0]
    return self.sknet_plain(x)


@constexpr(check=False)
def _takes(program: int, shape, kind) -> bool:
    return kind == dtype.float32 and (shape is None or _takes_shape(program, tuple(shape)))


@lru_cache(maxsize=1024)  # PyNative asks at every call
def _takes_shape(program: int, shape: Dims) -> bool:
    return _programs[program].result(shape) is not None


@constexpr(check=False)
def _op(program: int) -> Callable:
    found = _programs[program]
    return primitives.op_sequence(found.inputs, found.steps, found.constants)
