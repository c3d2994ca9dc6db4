# SPDX-License-Identifier: Apache-2.0
"""What the commands that use a trained network have in common."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from sknet.cli import commands
from sknet.config import ConfigError, load_config
from sknet.config.parsing import convert
from sknet.deploy.images import Preprocessing
from sknet.deploy.optional import MissingPackageError


class Parser(argparse.ArgumentParser):
    """Errors leave as those of the other commands do."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=110),
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def number(kind: type, at_least: float, at_most: float | None = None) -> Callable[[str], Any]:
    """A number of `kind` within limits, for argparse."""

    def read(text: str) -> Any:
        value = kind(text)
        if not at_least <= value <= (float("inf") if at_most is None else at_most):
            limits = f"at least {at_least}" if at_most is None else f"{at_least}..{at_most}"
            raise argparse.ArgumentTypeError(f"expected {limits}, got {text}")
        return value

    read.__name__ = "whole number" if kind is int else "number"
    return read


def add_source_options(parser: argparse.ArgumentParser, random_weights: bool = False) -> None:
    """--ckpt_path, --model, the preprocessing and --class_names."""
    group = parser.add_argument_group("network")
    without = "; without it random weights, and --model is needed" if random_weights else ""
    group.add_argument(
        "--ckpt_path",
        required=not random_weights,
        metavar="FILE",
        help=f".ckpt or .safetensors, or an exported .mindir or .onnx{without}",
    )
    group.add_argument("-c", "--config", metavar="FILE", help="YAML recipe; by default what stands beside FILE decides")
    group.add_argument("--model", metavar="NAME", help="one of `sknet info`'s, if FILE does not tell")
    group.add_argument(
        "--class_names",
        metavar="SOURCE",
        help="text or JSON file, folder with a folder a class, or 'imagenet'; by default FILE's own",
    )
    if random_weights:
        group.add_argument("--num_classes", type=number(int, 1), metavar="N", help="outputs with random weights [1000]")
    group = parser.add_argument_group("preprocessing", "by default that of the training run")
    group.add_argument("--image_resize", metavar="INT", help="height and width of the network's input")
    group.add_argument("--crop_pct", metavar="FLOAT", help="share of the resized short side that the crop keeps")
    group.add_argument("--interpolation", metavar="NAME", help="nearest, bilinear, bicubic or area")
    for name, meaning in (("mean", "subtracted"), ("std", "divided by")):
        group.add_argument(f"--{name}", nargs=3, metavar=("R", "G", "B"), help=f"{meaning}, of 0..255")


def source_of(args: argparse.Namespace):
    """The ``Source`` that the options name."""
    from sknet.deploy.source import open_source

    options = {}
    for key in ("model", *Preprocessing.KEYS):
        value = getattr(args, key)
        if value is not None:
            options[key] = convert(key, value)
    source = open_source(
        args.ckpt_path,
        config=args.config,
        class_names=args.class_names,
        num_classes=getattr(args, "num_classes", None),
        **options,
    )
    if args.config and source.form == "native":
        for note in load_config(args.config).notes:
            print(note, file=sys.stderr)
    return source


@contextmanager
def user_errors() -> Iterator[None]:
    """Errors that a user can mend leave as one line."""
    try:
        yield
    except (*commands.USER_ERRORS, BrokenPipeError):
        raise
    except (OSError, ValueError, MissingPackageError) as error:
        raise commands.RunError(str(error)) from error
    finally:
        # MindSpore's cells complain when the interpreter's end takes them.
        gc.collect()
