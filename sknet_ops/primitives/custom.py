# SPDX-License-Identifier: Apache-2.0
"""One native op as a MindSpore primitive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mindspore import ops

from sknet_ops import backends

Attribute = bool | int | float | str | tuple[int, ...]


def make_custom(
    op: str,
    outputs: list[str],
    attrs: Mapping[str, Attribute],
    bprop: Callable | None = None,
    writes_inputs: bool = False,
    about: str | None = None,
) -> ops.Custom:
    """The primitive `op` of the native library.

    Args:
        op: Name of the C entry.
        outputs: Names of its outputs; it returns a tuple of so many tensors.
        attrs: Attributes that the C entry reads.
        bprop: Gradient, a function of fixed arity (see :mod:`sknet_ops.primitives.arity`); None for a gradient op.
        writes_inputs: The op updates running statistics in place. Without the mark graph mode merges equal calls and
            drops calls whose result is unused, and the update is lost.
        about: What the log says in place of the attributes.

    Raises:
        BinaryMissingError: If the native library has not been built.
        BackendUnavailableError: If the chosen backend cannot run here.
    """
    path = backends.library_path(op)
    if bprop is not None:
        backends.log_choice(op, about or ", ".join(f"{name}={value}" for name, value in attrs.items()))
    custom = ops.Custom(f"{path}:{op}", func_type="aot", bprop=bprop)
    custom.add_prim_attr("reg_op_name", op)
    custom.add_prim_attr("output_names", outputs)
    custom.add_prim_attr("multi_output", True)  # a tuple even of one: the C entries return a list of shapes
    for name, value in attrs.items():
        custom.add_prim_attr(name, list(value) if isinstance(value, tuple) else value)
    if writes_inputs:
        custom.add_prim_attr("side_effect_mem", True)
    return custom
