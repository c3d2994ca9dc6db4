# SPDX-License-Identifier: Apache-2.0
"""sknet attention: how the attention moves to the larger kernel as objects are enlarged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sknet.cli.commands import RunError
from sknet.cli.source_options import Parser, add_source_options, number, source_of, user_errors
from sknet.config import ConfigError


def attention(argv: list[str]) -> int:
    parser = Parser(
        "sknet attention",
        "Plot the attention on the 5x5 minus the 3x3 branch of every SK unit as the photos' centres are enlarged.",
    )
    parser.add_argument("data", metavar="FOLDER", help="photos; one folder a class, FOLDER/CLASS/IMAGE, if there are")
    parser.add_argument(
        "--output", default="attention", metavar="FOLDER", help="for two PNG and two CSV files [attention]"
    )
    parser.add_argument(
        "--scales", nargs="+", type=number(float, 1, 10), default=[1.0, 1.5, 2.0], metavar="X", help="[1.0 1.5 2.0]"
    )
    parser.add_argument("--batch_size", type=number(int, 1), default=16, metavar="N", help="images a step [16]")
    add_source_options(parser, random_weights=True)
    args = parser.parse_args(argv)
    if len(set(args.scales)) != len(args.scales):
        raise ConfigError(f"scales: expected distinct numbers, got {' '.join(map(str, args.scales))}")

    with user_errors():
        from sknet.deploy.images import find_images
        from sknet.deploy.optional import require

        require("matplotlib", "deploy")
        paths = find_images([args.data])
        source = source_of(args)
        if source.form != "native":
            raise RunError(f"{source.path}: expected weights, .ckpt or .safetensors; exported forms tell no attention")
        _run(args, paths, source)
    return 0


def _run(args: Any, paths: list[Path], source: Any) -> None:
    from tqdm import tqdm

    from sknet.attention import measure, plot_by_class, plot_by_image, summarise, write_csv
    from sknet.deploy.images import ImageError, Preprocessor, decode_image
    from sknet.deploy.runner import build_network

    root, failed = Path(args.data), []

    def images() -> Iterator[tuple[str, str, np.ndarray]]:
        for path in tqdm(paths, desc="attention", unit="image", leave=False, disable=None):
            try:
                image = decode_image(path)
            except (ImageError, OSError) as error:
                failed.append(path)
                tqdm.write(f"sknet attention: {path}: {error}", file=sys.stderr)
                continue
            inside = path.relative_to(root) if root.is_dir() else Path(path.name)
            yield str(path), inside.parts[0] if len(inside.parts) > 1 else "all", image

    preprocessors = {scale: Preprocessor(source.preprocessing, scale) for scale in args.scales}
    found = list(measure(build_network(source), images(), preprocessors, args.batch_size))
    if not found:
        raise RunError("no image could be read")
    rows = summarise(found)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    weights = source.path.name if source.path else "random weights"
    title = f"{source.model}, {weights}, {len(paths) - len(failed)} images"
    write_csv(rows, output / "by_class.csv")
    write_csv(found, output / "by_image.csv")
    plot_by_class(rows, output / "by_class.png", title)
    plot_by_image(found, output / "by_image.png", title)
    if failed:
        print(f"sknet attention: {len(failed)} of {len(paths)} images could not be read", file=sys.stderr)
    if not source.path:
        print("random weights: the figures tell nothing about SKNets; give --ckpt_path FILE")
    for scale in args.scales:
        values = [m.difference for m in found if m.scale == scale]
        print(f"{scale:g} x: {np.mean(values):+.4f} on average over {len({m.unit for m in found})} units")
    print(f"wrote by_class.png, by_image.png, by_class.csv and by_image.csv in {output}")
