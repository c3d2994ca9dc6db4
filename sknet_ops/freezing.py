# SPDX-License-Identifier: Apache-2.0
"""Inference with weights that do not change: what the kernels made of them is kept."""

from __future__ import annotations

from mindspore import nn

from sknet_ops import binary, checks
from sknet_ops.sequences import arrange, take_back


def freeze(net: nn.Cell, *, constant: bool = False) -> nn.Cell:
    """Lets the ops of a network keep their packed weights from call to call, and run as few ops, in inference.

    The CPU kernels want weights in an order of their own. Without this they bring them into it at every call, since
    anybody may have changed a parameter, and for single images that is much of the time; it costs the memory of the
    weights a second time (up to 16/9 of that, for 3x3 kernels in Winograd's way).

    And MindSpore spends some 0.1 ms on each op that it calls between others. So the largest parts of the network that
    do nothing but pass one tensor through layers of this package, often all that comes before the classifier, run as
    one op (``op_sequence``) that makes the same calls by itself; :func:`sknet_ops.profile` still tells them apart. A
    part of which a cell is in training, or has a hook, runs cell by cell.

    Results are the same bit for bit, and so are gradients. Training does not look at it, and other backends have
    nothing to keep.

    Call it once the weights are loaded. Graphs that were compiled of the network, or of its parts, are compiled anew;
    one of a cell around it keeps its old form. Parameters that move or change as a whole are noticed, a single changed
    value is not: freeze again after a change, or :func:`unfreeze`.

    With `constant` the network is for inference and nothing else until it is unfrozen, which makes it faster where
    images are few: MindSpore spends some 3 us on every *tensor* that goes into an op, and most of a network's are the
    norms' small ones. Present values of those, of the attentions' dense layers and of the classifier are copied, and
    the classifier after a global average pooling runs in the same op. Its results then differ from MindSpore's by
    rounding. Called by itself, not from within a graph, such a cell does without MindSpore's executor, which saves 0.25
    to 0.6 ms a call, and in PyNative, where MindSpore's waiting thread takes a core, more. Gradients are refused with
    an error, and so are other convolution weights than at the call, as far as some values of each show. Once `net` has
    been set to training it runs cell by cell until it is frozen again. Any other change of what has been copied is not
    noticed.

    Args:
        net: A network with layers of this package, its own or such as ``sknet_ops.fuse`` made.
        constant: All parameters keep their present values.

    Returns:
        `net` itself.

    Raises:
        TypeError: `net` is not a cell, `constant` not a bool.
        ValueError: It has no such layers.
        BinaryMissingError: If the native library has not been built.
    """
    checks.boolean("freeze", "constant", constant)
    _mark("freeze", net, True)
    arrange(net, constant)
    return net


def unfreeze(net: nn.Cell) -> nn.Cell:
    """Takes :func:`freeze` back. Argument, result and errors as there."""
    return _mark("unfreeze", net, False)


def _mark(name: str, net: nn.Cell, frozen: bool) -> nn.Cell:
    if not isinstance(net, nn.Cell):
        raise TypeError(f"{name}: net: got {type(net).__name__}, expected nn.Cell")
    holders = [cell for _, cell in net.cells_and_names() if hasattr(cell, "weights_frozen")]
    if not holders:
        raise ValueError(f"{name}: net: got {type(net).__name__} without layers of sknet_ops, expected some: see fuse")
    for conv in holders:
        object.__setattr__(conv, "weights_frozen", frozen)
    take_back(net)
    for _, cell in net.cells_and_names():
        cell.compile_cache.clear()  # so that graph mode compiles it anew
    binary.library().sknet_ops_forget_kept_weights()
    return net
