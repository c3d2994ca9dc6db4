# SPDX-License-Identifier: Apache-2.0
"""sknet benchmark: time of a network and of its exported forms."""

from __future__ import annotations

import dataclasses

from sknet.cli.commands import RunError
from sknet.cli.source_options import Parser, add_source_options, number, source_of, user_errors
from sknet.cli.table import FORMATS, render


def benchmark(argv: list[str]) -> int:
    parser = Parser("sknet benchmark", "Time a network and its exported forms, each in a process of its own.")
    parser.add_argument("--forms", nargs="+", choices=("native", "mindir", "onnx"), help="forms to time [all]")
    parser.add_argument("--batch_size", nargs="+", type=number(int, 1), default=[1, 8], metavar="N", help="[1 8]")
    parser.add_argument("--repeats", type=number(int, 1), default=30, metavar="N", help="timed calls [30]")
    parser.add_argument("--format", choices=FORMATS, default="table", help="of the output [table]")
    add_source_options(parser, random_weights=True)
    args = parser.parse_args(argv)

    with user_errors():
        source = source_of(args)
        from sknet.deploy.benchmark import FORMS, BenchmarkError, time_forms

        forms = args.forms or (FORMS if source.form == "native" else (source.form,))
        others = [form for form in forms if form != source.form]
        if source.form != "native" and others:
            raise RunError(f"forms: {source.path} is an exported form; {others[0]} needs the weights")
        try:
            rows = [dataclasses.asdict(t) for t in time_forms(source, forms, args.batch_size, args.repeats)]
        except BenchmarkError as error:
            raise RunError(str(error)) from None
    if args.format == "table":
        size = source.preprocessing.image_resize
        print(f"{source.model}, 3 x {size} x {size}, {source.num_classes} classes; milliseconds a call")
    print(render(rows, args.format))
    return 0
