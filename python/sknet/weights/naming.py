# SPDX-License-Identifier: Apache-2.0
"""timm's parameter names turned into ours (MindCV's). Names that are ours already stay as they are."""

import re

_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
# Where a convolution and its norm stand, in timm's deep stem, a plain Sequential of conv, bn, relu, conv, ...
_DEEP_STEM = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2.0"}


def _norm_leaf(leaf: str) -> str:
    return _NORM.get(leaf, leaf)


def to_native(name: str, ndim: int, deep_stem: bool = False) -> str | None:
    """Our name for an array called `name` in a file, or None for what a file may hold that no model needs.

    Args:
        name: as in timm or in MindCV.
        ndim: dimensions of the array; tells a convolution from a norm in timm's downsample.
        deep_stem: whether the model's stem is three 3x3 convolutions.
    """
    if name.endswith("num_batches_tracked"):
        return None
    if name.startswith("fc."):
        return "classifier." + name[len("fc.") :]
    if deep_stem:
        match = re.fullmatch(r"conv1\.([01346])\.(\w+)", name)
        if match:
            place, leaf = match.groups()
            return f"conv1.{_DEEP_STEM[place]}.{leaf if place in '036' else _norm_leaf(leaf)}"
        match = re.fullmatch(r"bn1\.(\w+)", name)
        if match:
            return f"conv1.2.1.{_norm_leaf(match.group(1))}"
    match = re.fullmatch(r"(.*)\.downsample\.\d+\.(\w+)", name)
    if match:
        block, leaf = match.groups()
        return f"{block}.down_sample.0.{leaf}" if ndim == 4 else f"{block}.down_sample.1.{_norm_leaf(leaf)}"
    match = re.fullmatch(r"(.*\.paths\.\d+)\.(conv|bn)\.(\w+)", name)
    if match:
        path, kind, leaf = match.groups()
        return f"{path}.features.0.{leaf}" if kind == "conv" else f"{path}.features.1.{_norm_leaf(leaf)}"
    match = re.fullmatch(r"(layer\d+\.\d+\.conv\d)\.(conv|bn)\.(\w+)", name)
    if match:
        conv, kind, leaf = match.groups()
        return f"{conv}.0.{leaf}" if kind == "conv" else f"{conv}.1.{_norm_leaf(leaf)}"
    match = re.fullmatch(r"(bn1|.*\.attn\.bn)\.(\w+)", name)
    if match:
        return f"{match.group(1)}.{_norm_leaf(match.group(2))}"
    return name
