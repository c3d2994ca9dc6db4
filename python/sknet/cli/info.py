# SPDX-License-Identifier: Apache-2.0
"""sknet info: the models, or one model's parameters, multiply-accumulates and layers."""

from __future__ import annotations

import argparse

from sknet.macs import activation_memory, count_layers
from sknet.models.catalog import get_spec, list_models


def _list_models(size: int) -> None:
    print(f"{'model':<24}{'origin':<12}{'parameters':>12}{'GMACs at ' + str(size):>16}")
    for name in list_models():
        spec = get_spec(name)
        layers = count_layers(spec, (size, size))
        print(
            f"{name:<24}{spec.origin:<12}{sum(layer.params for layer in layers):>12,}"
            f"{sum(layer.macs for layer in layers) / 1e9:>16.3f}"
        )


def _describe(name: str, size: int, num_classes: int, in_channels: int) -> None:
    spec = get_spec(name)
    layers = count_layers(spec, (size, size), num_classes, in_channels)
    params, macs = sum(layer.params for layer in layers), sum(layer.macs for layer in layers)
    print(f"{name} ({spec.origin}), input {in_channels} x {size} x {size}, {num_classes} classes")
    print(f"parameters  {params:,} trainable")
    print(f"MACs        {macs / 1e9:.3f} G an image")
    training, inference = (size / 1e6 for size in activation_memory(layers, (in_channels, size, size)))
    print(f"activations {training:.1f} MB an image kept in training, {inference:.1f} MB at once in inference (float32)")
    if spec.weights_url:
        print(f"weights     {spec.weights_url}")
    print(f"\n{'layer':<24}{'kind':<42}{'output':<18}{'parameters':>12}{'MMACs':>10}")
    for layer in layers:
        shape = " x ".join(map(str, layer.shape))
        print(f"{layer.name:<24}{layer.kind:<42}{shape:<18}{layer.params:>12,}{layer.macs / 1e6:>10.2f}")


def info(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="sknet info", description="List the models, or describe one.")
    parser.add_argument("model", nargs="?", help="model to describe; without it all are listed")
    parser.add_argument("--image_resize", type=int, default=224, metavar="SIZE", help="height and width [224]")
    parser.add_argument("--num_classes", type=int, default=1000, metavar="N", help="classes [1000]")
    parser.add_argument("--in_channels", type=int, default=3, metavar="N", help="channels of the images [3]")
    args = parser.parse_args(argv)
    for name in ("image_resize", "num_classes", "in_channels"):
        if getattr(args, name) < 1:
            parser.error(f"--{name}: expected at least 1, got {getattr(args, name)}")
    if args.model is None:
        _list_models(args.image_resize)
        return 0
    try:
        get_spec(args.model)
    except ValueError as error:
        parser.error(str(error))
    _describe(args.model, args.image_resize, args.num_classes, args.in_channels)
    return 0
