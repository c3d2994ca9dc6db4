# SPDX-License-Identifier: Apache-2.0
"""Several ops in inference form, one after the other, as one op."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from mindspore import ops

from sknet_ops import checks
from sknet_ops.primitives.arity import arguments
from sknet_ops.primitives.custom import Attribute, make_custom
from sknet_ops.source import define


class Step(NamedTuple):
    """`operands`: numbers of the values that are its inputs. The inputs count from 0, then the outputs of the steps."""

    op: str
    attrs: tuple[tuple[str, Attribute], ...]
    operands: tuple[int, ...]


@cache
def op_sequence(inputs: int, steps: tuple[Step, ...]) -> ops.Custom:
    """Inputs: so many tensors, as the steps name them. Output: the first output of the last step.

    The gradient runs the steps again, one by one, with what each of them keeps for its own gradient.

    Raises:
        ValueError: A step reads a value that is not there before it.
    """
    for index, step in enumerate(steps):
        wrong = [value for value in step.operands if not 0 <= value < inputs + index]
        if wrong:
            expected = f"numbers in 0..{inputs + index - 1}"
            checks.fail(ValueError, "op_sequence", f"steps[{index}].operands", wrong, expected)
    attrs: dict[str, Attribute] = dict(
        inputs=inputs,
        steps=",".join(step.op for step in steps),
        operands=tuple(value for step in steps for value in step.operands),
    )
    for index, step in enumerate(steps):
        attrs |= {f"{index}.{name}": value for name, value in step.attrs}
    about = f"{len(steps)} steps: {attrs['steps']}"
    return make_custom("op_sequence", ["y"], attrs, _gradient(inputs, steps), about=about)


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
