# SPDX-License-Identifier: Apache-2.0
"""sknet export: weights as MindIR or ONNX."""

from __future__ import annotations

from sknet.cli.source_options import Parser, add_source_options, source_of, user_errors

_SUFFIX = {"mindir": ".mindir", "onnx": ".onnx"}


def export(argv: list[str]) -> int:
    parser = Parser("sknet export", "Write a trained network as MindIR (our operators) or ONNX (standard ones only).")
    parser.add_argument("--format", choices=tuple(_SUFFIX), required=True, help="form to write")
    parser.add_argument("--output", metavar="FILE", help="[beside the weights, with the form's ending]")
    add_source_options(parser)
    args = parser.parse_args(argv)

    with user_errors():
        source = source_of(args)
        from sknet.deploy.export import export as write

        output = args.output or source.path.with_suffix(_SUFFIX[args.format])
        done = write(source, args.format, output)
    print(f"wrote {done.path} and {done.path.name}.json")
    if done.difference is None:
        print("not checked: onnxruntime is not installed; pip install 'sknet-ops[deploy]'")
    else:
        print(f"checked: the logits differ from the network's by at most {done.difference:.1e} of the largest")
    return 0
