# SPDX-License-Identifier: Apache-2.0
"""sknet predict: the best classes of photos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sknet.cli.commands import RunError
from sknet.cli.source_options import Parser, add_source_options, number, source_of, user_errors
from sknet.cli.table import FORMATS, as_csv


def predict(argv: list[str]) -> int:
    parser = Parser("sknet predict", "Name the best classes of photos.")
    parser.add_argument(
        "input", nargs="+", metavar="IMAGE_OR_FOLDER", help="image files, or folders to search for them"
    )
    parser.add_argument("--top", type=number(int, 1), default=5, metavar="N", help="classes an image [5]")
    parser.add_argument("--batch_size", type=number(int, 1), default=16, metavar="N", help="images a step [16]")
    parser.add_argument("--format", choices=FORMATS, default="table", help="of the output [table]")
    parser.add_argument("--output", metavar="FILE", help="write there and not to standard output")
    add_source_options(parser)
    args = parser.parse_args(argv)

    with user_errors():
        from tqdm import tqdm

        from sknet.deploy.images import find_images

        paths = find_images(args.input)
        source = source_of(args)
        from sknet.deploy.predict import predict_files

        predictions = predict_files(source, paths, args.top, args.batch_size)
        bar = tqdm(predictions, total=len(paths), desc="predict", unit="image", leave=False, disable=None)
        done = list(bar)
        text = _render(done, args.format)
        if args.output:
            Path(args.output).write_text(text + "\n", encoding="utf-8")
        else:
            print(text)
    failed = [p for p in done if p.error]
    for prediction in failed:
        print(f"sknet predict: {prediction.path}: {prediction.error}", file=sys.stderr)
    if len(failed) == len(done):
        raise RunError("no image could be read")
    if failed:
        print(f"sknet predict: {len(failed)} of {len(done)} images could not be read", file=sys.stderr)
    return 0


def _render(predictions: list[Any], form: str) -> str:
    if form == "json":
        rows = [{"image": str(p.path), **({"error": p.error} if p.error else {"top": p.top})} for p in predictions]
        return json.dumps(rows, indent=1, ensure_ascii=False)
    if form == "csv":
        rows = []
        for p in predictions:
            for i, best in enumerate(p.top, 1):
                rows.append({"image": str(p.path), "rank": i, **best, "error": ""})
            if p.error:
                empty = dict.fromkeys(("rank", "index", "class", "probability"), "")
                rows.append({"image": str(p.path), **empty, "error": p.error})
        return as_csv(rows)
    lines = []
    for p in predictions:
        lines.append(str(p.path) + (f"\n  error: {p.error}" if p.error else ""))
        lines += [f"  {100 * best['probability']:6.2f} %  {best['class']}" for best in p.top]
    return "\n".join(lines)
