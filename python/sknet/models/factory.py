# SPDX-License-Identifier: Apache-2.0
"""create_model: from a name to a network."""

import os

from sknet.models.catalog import get_spec
from sknet.models.network import SKNet
from sknet.weights import load_weights


def _check_positive(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")


def create_model(
    name: str, num_classes: int = 1000, in_channels: int = 3, checkpoint_path: str | os.PathLike | None = None
) -> SKNet:
    """Build a network, newly initialised or with weights from a file.

    Args:
        name: one of ``list_models()``.
        num_classes: width of the classifier.
        in_channels: channels of the images.
        checkpoint_path: .ckpt or .safetensors file, loaded strictly (see ``sknet.load_weights``).

    Raises:
        TypeError, ValueError: on a bad argument, naming it; on an unknown name, with the nearest ones.
        FileNotFoundError: no file at checkpoint_path.
    """
    spec = get_spec(name)
    _check_positive("num_classes", num_classes)
    _check_positive("in_channels", in_channels)
    net = SKNet(spec, num_classes, in_channels)
    if checkpoint_path:
        load_weights(net, checkpoint_path)
    return net
