# SPDX-License-Identifier: Apache-2.0
"""load_weights: arrays into a network, all of them or none."""

import numpy as np
from mindspore import Parameter, Tensor, nn

from sknet.weights.naming import to_native
from sknet.weights.reading import WeightSource, read_weights

_SHOWN = 8
_CLASSIFIER = ("classifier.weight", "classifier.bias")


def _listing(title: str, lines: list[str]) -> str:
    more = f"\n    ... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"\n  {title} ({len(lines)}):\n    " + "\n    ".join(lines[:_SHOWN]) + more


def load_weights(net: nn.Cell, source: WeightSource, replace_classifier: bool = False) -> bool:
    """Load weights, strictly: every parameter of `net` and nothing else, or an error and `net` unchanged.

    Args:
        net: a model of ``create_model``, or any network with MindCV's names.
        source: path or http(s) address of a MindCV .ckpt or a timm .safetensors file, or a dict name -> array; arrays
            may be named as in MindCV or as in timm, whatever the model. Floats of any width are cast to the parameter's
            type.
        replace_classifier: leave `net`'s own classifier as it is if that of `source` is for another number of classes.

    Returns:
        Whether the classifier was left as it is.

    Raises:
        DownloadError: an address that cannot be fetched.
        FileNotFoundError, TypeError: see ``read_weights``.
        ValueError: a damaged file; or names or shapes do not fit: the message lists what is missing, what is
            unexpected and what has another shape.
    """
    arrays = read_weights(source)
    params = {param.name: param for param in net.get_parameters()}
    deep_stem = bool(getattr(net, "deep_stem", False))

    found: dict[str, np.ndarray] = {}
    unexpected: list[str] = []
    misshapen: dict[str, str] = {}
    for name, array in arrays.items():
        native = to_native(name, array.ndim, deep_stem)
        if native is None:
            continue
        if native not in params or native in found:
            unexpected.append(name)
        elif tuple(array.shape) != tuple(params[native].shape):
            misshapen[native] = f"{name}: expected {tuple(params[native].shape)}, got {tuple(array.shape)}"
            found[native] = array
        elif not np.issubdtype(array.dtype, np.floating):
            misshapen[native] = f"{name}: expected floating point, got {array.dtype}"
            found[native] = array
        else:
            found[native] = array
    kept = replace_classifier and _for_other_classes(found, params)
    if kept:
        for name in _CLASSIFIER:
            del found[name], params[name]
            misshapen.pop(name, None)
    missing = [name for name in params if name not in found]

    if missing or unexpected or misshapen:
        where = "the dict" if not isinstance(source, (str, bytes)) and hasattr(source, "items") else str(source)
        message = f"weights of {where} do not fit the network:"
        listed = (("missing", missing), ("unexpected", unexpected), ("misshapen", list(misshapen.values())))
        for title, lines in listed:
            if lines:
                message += _listing(title, lines)
        raise ValueError(message)
    for name, array in found.items():
        params[name].set_data(Tensor(np.ascontiguousarray(array, dtype=np.float32), params[name].dtype))
    return kept


def _for_other_classes(found: dict[str, np.ndarray], params: dict[str, Parameter]) -> bool:
    """Whether both have a classifier of the same features and different numbers of classes."""
    if not all(name in found and name in params for name in _CLASSIFIER):
        return False
    weight, bias = (found[name].shape for name in _CLASSIFIER)
    ours = tuple(params["classifier.weight"].shape)
    return len(weight) == 2 and bias == weight[:1] and weight[1] == ours[1] and weight[0] != ours[0]
