# SPDX-License-Identifier: Apache-2.0
"""What a network does with its input, as far as that is a sequence of ops.

A method of a cell is run in Python with a stand-in for the input. The layers of this package note what they would do;
anything else that touches the stand-in cannot work with it and raises, and then the method is no sequence.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from mindspore import Parameter, dtype, nn

from sknet_ops.layers.holders import UnsupportedCellError, refuse_hooks, set_to_half
from sknet_ops.primitives.op_sequence import Step
from sknet_ops.sequences.steps import Dims, LayerStep, dense_step, layer_step, output_shape, pools_globally

# A stand-in would be told from a tensor by them: a method that asks is not taken.
_QUESTIONS = {"isinstance", "type", "callable", "id"}
_PASSED_THROUGH = (nn.SequentialCell.construct, nn.Identity.construct)  # of MindSpore's own cells


class Recording(NamedTuple):
    """Input 0 is the method's argument, then come `weights`, and then what holds the `constants` if there are any."""

    steps: tuple[Step, ...]
    weights: tuple[Parameter, ...]
    constants: tuple[Parameter, ...]
    cells: tuple[nn.Cell, ...]  # all that took part: the sequence is for when none of them is in training

    def program(self) -> Program:
        weights, constants = (tuple(tuple(p.shape) for p in group) for group in (self.weights, self.constants))
        return Program(self.steps, weights, constants)


class Program(NamedTuple):
    """A recording without the tensors: equal cells have equal ones."""

    steps: tuple[Step, ...]
    weights: tuple[Dims, ...]  # their shapes
    constants: tuple[Dims, ...]

    @property
    def inputs(self) -> int:
        return 1 + len(self.weights) + bool(self.constants)

    def result(self, shape: Dims) -> Dims | None:
        """Shape of the output for an input of this one; None if a step cannot take it."""
        holder = [(None,)] if self.constants else []
        shapes: list[Dims] = [shape, *self.weights, *holder, *self.constants]
        for step in self.steps:
            made = output_shape(step, [shapes[value] for value in step.operands])
            if made is None:
                return None
            shapes.append(made)
        return shapes[-1]


def record(cell: nn.Cell, method: str, constant: bool = False) -> Recording | None:
    """The method, a function of one tensor, as a sequence; None if it is none.

    `constant`: with all that is small as constants, and the classifier as a step."""
    function = getattr(type(cell), method, None)
    if not isinstance(function, types.FunctionType) or not _takes_one_argument(function):
        return None
    recorder = _Recorder(constant)
    try:
        # A layer by itself is one op as it is, but its inputs are fewer as constants.
        alone = constant and layer_step(cell, False) is not None
        arguments = (recorder.argument,)
        result = recorder.call(cell, arguments) if alone else recorder.run(cell, function, arguments)
    except Exception:  # whatever a foreign method makes of a stand-in
        return None
    return recorder.finish(result)


def _takes_one_argument(function: types.FunctionType) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    return kinds == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2


class _Value:
    """Stands for a tensor. It can be handed on, and that is all."""

    dtype = dtype.float32  # of the inputs that a sequence takes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedCellError(f"asks a tensor for its {name}")  # no AttributeError: getattr would let that pass

    def __bool__(self) -> bool:
        raise UnsupportedCellError("asks whether a tensor is true")

    def __eq__(self, other: object) -> bool:
        raise UnsupportedCellError("compares a tensor")

    __hash__ = object.__hash__


class _Pooled(_Value):
    """Stands for the mean of each map of `maps`, which no step computes by itself."""

    def __init__(self, maps: _Value) -> None:
        self.maps = maps


class _Recorder:
    def __init__(self, constant: bool) -> None:
        self.constant = constant
        self.argument = _Value()
        self.steps: list[tuple[str, dict[str, Any], list[Any]]] = []
        self.constants: list[Parameter] = []
        self.values: list[_Value] = []  # of the steps
        self.cells: dict[int, nn.Cell] = {}

    def call(self, cell: nn.Cell, arguments: tuple[Any, ...]) -> _Value:
        refuse_hooks(cell)
        kinds = [type(argument) for argument in arguments]
        made = None
        if kinds == [_Value] and self.constant and pools_globally(cell):
            self._note_cells(cell)
            return _Pooled(arguments[0])
        if kinds == [_Pooled]:
            made, arguments = dense_step(cell), (arguments[0].maps,)
        elif kinds in ([_Value], [_Value] * 2):
            made = layer_step(cell, len(arguments) == 2)
        return self.run(cell, type(cell).construct, arguments) if made is None else self._note(cell, made, arguments)

    def _note(self, cell: nn.Cell, made: LayerStep, arguments: tuple[_Value, ...]) -> _Value:
        self._note_cells(cell)
        self.steps.append((made.op, made.attrs, [arguments[0], *made.operands, *arguments[1:]]))
        if self.constant:
            self.constants += made.operands[made.large :]
        self.values.append(_Value())
        return self.values[-1]

    def run(self, cell: nn.Cell, function: types.FunctionType, arguments: tuple[Any, ...]) -> Any:
        """A method as it stands, with stand-ins for the cell too."""
        refuse_hooks(cell)
        if function.__module__.split(".")[0] == "mindspore" and function not in _PASSED_THROUGH:
            raise UnsupportedCellError("computes something else")
        if set_to_half(cell):
            raise UnsupportedCellError("set to a half precision by to_float")
        if _QUESTIONS & set(function.__code__.co_names):
            raise UnsupportedCellError("asks what a value is")
        self.cells[id(cell)] = cell
        return function(_CellStandIn(cell, self), *arguments)

    def finish(self, result: Any) -> Recording | None:
        if len(self.steps) + len(self.constants) < 2 or result is not self.values[-1]:
            return None
        held = {id(v): v for _, _, operands in self.steps for v in operands if isinstance(v, Parameter)}
        constants = {id(v): v for v in self.constants}
        weights = {key: v for key, v in held.items() if key not in constants}
        holder = [None] if constants else []
        order = [id(self.argument), *weights, *holder, *constants, *map(id, self.values)]
        numbers = {key: number for number, key in enumerate(order)}
        steps = tuple(
            Step(op, tuple(attrs.items()), tuple(numbers[id(operand)] for operand in operands))
            for op, attrs, operands in self.steps
        )
        return Recording(steps, tuple(weights.values()), tuple(constants.values()), tuple(self.cells.values()))

    def _note_cells(self, layer: nn.Cell) -> None:
        """The layer and what it holds, which need not be its children."""
        holders = [getattr(layer, name) for name in ("conv_holder", "norm_holder") if hasattr(layer, name)]
        for cell in (*holders, *getattr(layer, "conv_holders", ()), *getattr(layer, "norm_holders", ()), layer):
            self.cells |= {id(part): part for _, part in cell.cells_and_names()}


class _CellStandIn:
    """A cell whose children note what they are called with, and which is in inference mode."""

    def __init__(self, cell: nn.Cell, recorder: _Recorder) -> None:
        self.__dict__["_cell"], self.__dict__["_recorder"] = cell, recorder

    def __getattr__(self, name: str) -> Any:
        if name == "training":
            return False
        return self._wrapped(getattr(self._cell, name))

    def __setattr__(self, name: str, value: Any) -> None:
        raise UnsupportedCellError(f"sets {name}")

    def __call__(self, *arguments: Any) -> _Value:
        return self._recorder.call(self._cell, arguments)

    def __len__(self) -> int:
        return len(self._cell)

    def __iter__(self) -> Iterator[Any]:
        return (self._wrapped(entry) for entry in self._cell)

    def __getitem__(self, index: Any) -> Any:
        return self._wrapped(self._cell[index])

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, nn.Cell):
            return _CellStandIn(value, self._recorder)
        if type(value) in (tuple, list):
            return type(value)(self._wrapped(entry) for entry in value)
        if isinstance(value, types.MethodType) and value.__self__ is self._cell:
            return lambda *arguments: self._recorder.run(self._cell, value.__func__, arguments)
        return value
