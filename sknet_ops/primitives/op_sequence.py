# SPDX-License-Identifier: Apache-2.0
"""Several ops in inference form, one after the other, as one op."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from mindspore import ops
from mindspore.ops import constexpr

from sknet_ops import checks
from sknet_ops.primitives.arity import arguments
from sknet_ops.primitives.custom import Attribute, make_custom
from sknet_ops.source import define

Shape = tuple[int, ...]
_SAMPLES = 8  # as in csrc/bindings/op_sequence.cc
_ALIGNED = 16


class Step(NamedTuple):
    """`operands`: numbers of the values that are its inputs. The inputs of the whole count from 0, then come constants,
    then the outputs of the steps."""

    op: str
    attrs: tuple[tuple[str, Attribute], ...]
    operands: tuple[int, ...]


@cache
def op_sequence(inputs: int, steps: tuple[Step, ...], constants: tuple[Shape, ...] = ()) -> ops.Custom:
    """Inputs: so many tensors, as the steps name them. Output: the first output of the last step.

    With `constants`, values of these shapes, the last input holds them all, made by :func:`pack_constants`: MindSpore
    spends some microseconds on each input of an op.

    The gradient runs the steps again, one by one, with what each of them keeps for its own gradient. With constants
    there is none.

    Raises:
        ValueError: A step reads a value that is not there before it; whoever differentiates an op with constants.
        RuntimeError: From the op: inputs that are not those that the constants were packed with.
    """
    outside = inputs + len(constants)
    for index, step in enumerate(steps):
        wrong = [value for value in step.operands if not 0 <= value < outside + index]
        if wrong:
            expected = f"numbers in 0..{outside + index - 1}"
            checks.fail(ValueError, "op_sequence", f"steps[{index}].operands", wrong, expected)
    attrs = attributes(inputs, steps, constants)
    about = f"{len(steps)} steps: {attrs['steps']}"
    gradient = _no_gradient(inputs) if constants else _gradient(inputs, steps)
    return make_custom("op_sequence", ["y"], attrs, gradient, about=about)


def attributes(inputs: int, steps: Sequence[Step], constants: Sequence[Shape]) -> dict[str, Attribute]:
    """What the C entry reads (csrc/bindings/op_sequence.cc)."""
    attrs: dict[str, Attribute] = dict(
        inputs=inputs,
        steps=",".join(step.op for step in steps),
        operands=tuple(value for step in steps for value in step.operands),
    )
    if constants:
        attrs["constants"] = tuple(number for shape in constants for number in (len(shape), *shape))
    for index, step in enumerate(steps):
        attrs |= {f"{index}.{name}": value for name, value in step.attrs}
    return attrs


def pack_constants(weights: Sequence[np.ndarray], constants: Sequence[np.ndarray]) -> np.ndarray:
    """The last input of an :func:`op_sequence` with constants: a sample of each other input but the first, by which the
    op knows whether the constants belong to it, and the constants."""
    pieces = []
    for weight in weights:
        values = weight.reshape(-1)
        pieces.append(values[(values.size - 1) * np.arange(_SAMPLES) // (_SAMPLES - 1)])
    size = _SAMPLES * len(weights)
    for constant in constants:
        pieces.append(np.zeros(-size % _ALIGNED, np.float32))
        pieces.append(constant.reshape(-1))
        size += pieces[-2].size + pieces[-1].size
    return np.concatenate(pieces)


def _no_gradient(inputs: int):
    source = f"def bprop({arguments(inputs)}, out, dout):\n    return refuse()\n"
    return define(source, "bprop", "gradient of a sequence", dict(refuse=_refuse))


@constexpr(check=False)
def _refuse():
    raise ValueError("op_sequence: no gradient after freeze(constant=True): unfreeze the network first")


def _gradient(inputs: int, steps: tuple[Step, ...]):
    from sknet_ops import primitives

    lines = [f"def replay({arguments(inputs)}):"]
    names = [f"a{i}" for i in range(inputs)]
    singles = {}
    for index, step in enumerate(steps):
        # Not frozen: that would keep the weights a second time.
        attrs = {name: value for name, value in step.attrs if name != "frozen"}
        singles[f"op{index}"] = getattr(primitives, step.op)(**attrs)
        lines.append(f"    v{index} = op{index}({', '.join(names[value] for value in step.operands)})[0]")
        names.append(f"v{index}")
    lines.append(f"    return {names[-1]}")
    replay = define("\n".join(lines) + "\n", "replay", "sequence", singles)
    source = f"def bprop({arguments(inputs)}, out, dout):\n    return gradient(replay)({arguments(inputs)}, dout[0])\n"
    gradient = ops.GradOperation(get_all=True, sens_param=True)
    return define(source, "bprop", "gradient of a sequence", dict(gradient=gradient, replay=replay))
