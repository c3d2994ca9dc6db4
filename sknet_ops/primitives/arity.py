# SPDX-License-Identifier: Apache-2.0
"""Gradients of fixed arity.

MindSpore takes a ``bprop`` only as a function, in a source file, with one named argument for each input: no ``*args``.
"""

from __future__ import annotations

from collections.abc import Callable

from sknet_ops.source import define

Grad = Callable[[tuple, tuple, tuple], tuple]


def arguments(inputs: int) -> str:
    """Names for so many inputs, as they stand in a list of arguments."""
    return ", ".join(f"a{i}" for i in range(inputs))


def with_arity(inputs: int, grad: Grad) -> Callable:
    """``grad(inputs, out, dout)``, written for any number of inputs, as a ``bprop`` of an op with so many."""
    names = arguments(inputs)
    source = f"def bprop({names}, out, dout):\n    return grad(({names},), out, dout)\n"
    return define(source, "bprop", f"gradient of {inputs} inputs", {"grad": grad})
