# SPDX-License-Identifier: Apache-2.0
"""The layer in float64, by the C++ reference, and with the weights of the golden results."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from sknet_ops.layers import SelectiveKernel
from tests.golden import golden_weight
from tests.mindspore_tools import tensor

# One branch's or the attention's norm: name in MindSpore, in timm.
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def timm_name(name: str) -> str:
    """``paths.0.features.1.gamma`` -> ``paths.0.bn.weight``."""
    name = name.replace(".features.0.", ".conv.").replace(".features.1.", ".bn.")
    head, _, tail = name.rpartition(".")
    return f"{head}.{NORM.get(tail, tail)}"


def load_golden_weights(net, seed: int) -> None:
    for parameter in net.get_parameters():
        parameter.set_data(tensor(golden_weight(timm_name(parameter.name), parameter.shape, seed)))


def float64_passes(
    native: ModuleType, net: SelectiveKernel, x: np.ndarray, cotangent: np.ndarray, training: bool
) -> dict[str, np.ndarray]:
    """What :func:`tests.mindspore_tools.both_passes` gives, in float64."""
    names, tensors = _tensors(net)
    attrs = dict(
        stride=net.stride,
        padding=list(net.padding),
        dilation=list(net.dilation),
        groups=net.groups,
        split_input=net.split_input,
        relu=net.relu,
        eps=net.eps,
        momentum=net.momentum,
        attn_eps=net.attn_eps,
        attn_momentum=net.attn_momentum,
        training=training,
        backend="reference",
    )
    x, cotangent = x.astype(np.float64), cotangent.astype(np.float64)
    forward = native.selective_kernel(x, **tensors, **attrs)
    saved = ["attention"] + ["z", "mean", "inv_std", "pooled", "hidden", "attn_mean", "attn_inv_std"] * training
    grads = native.selective_kernel_grad(cotangent, x, **tensors, **{name: forward[name] for name in saved}, **attrs)
    found = {"y": forward["y"], "grad.x": grads["dx"]}
    for argument, name in names.items():
        values = tensors[argument] if isinstance(name, list) else [tensors[argument]]
        gradients = grads.get(f"d{argument}")
        gradients = gradients if isinstance(name, list) else [gradients]
        for index, entry in enumerate(name if isinstance(name, list) else [name]):
            if "moving" in argument:
                found[entry] = values[index]
            else:
                found[f"grad.{entry}"] = gradients[index].reshape(values[index].shape)
    return found


def _tensors(net: SelectiveKernel) -> tuple[dict, dict]:
    """Arguments of the native op: the parameters' names, and their values in float64."""
    parameters = {
        "weight": [conv.weight for conv in net.conv_holders],
        **{name: [getattr(norm, name) for norm in net.norm_holders] for name in NORM},
        "fc_reduce": net.attn.fc_reduce.weight,
        **{f"attn_{name}": getattr(net.attn.bn, name) for name in NORM},
        "fc_select": net.attn.fc_select.weight,
    }
    names, tensors = {}, {}
    for argument, value in parameters.items():
        if isinstance(value, list):
            names[argument] = [p.name for p in value]
            tensors[argument] = [p.asnumpy().astype(np.float64) for p in value]
        else:
            names[argument], tensors[argument] = value.name, value.asnumpy().astype(np.float64)
    return names, tensors
