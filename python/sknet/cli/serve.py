# SPDX-License-Identifier: Apache-2.0
"""sknet serve: a network as an HTTP service."""

from __future__ import annotations

from sknet.cli.commands import RunError
from sknet.cli.source_options import Parser, add_source_options, number, source_of, user_errors
from sknet.serve.limits import Limits

_LIMITS = {
    "max_batch": (int, 1, "images in one call of the network"),
    "max_wait_ms": (float, 0, "how long a lone image waits for company"),
    "queue": (int, 1, "requests under way; one more gets 503"),
    "max_bytes": (int, 1, "of a request; a larger one gets 413"),
    "max_pixels": (int, 1, "of an image; a larger one gets 413"),
    "timeout_s": (float, 0.01, "for a request to arrive (408), then for the answer (504)"),
    "decoders": (int, 1, "threads that decode images"),
}


def serve(argv: list[str]) -> int:
    parser = Parser("sknet serve", "Answer photos over HTTP: POST /predict, GET /health, GET /metrics.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on [127.0.0.1]")
    parser.add_argument("--port", type=number(int, 0, 65535), default=8000, help="0: a free one [8000]")
    group = parser.add_argument_group("limits")
    for name, (kind, least, meaning) in _LIMITS.items():
        default = getattr(Limits, name)
        group.add_argument(
            f"--{name}", type=number(kind, least), default=default, metavar="N", help=f"{meaning} [{default}]"
        )
    add_source_options(parser)
    args = parser.parse_args(argv)

    from sknet.serve.server import ServeError
    from sknet.serve.server import serve as run

    with user_errors():
        try:
            run(
                lambda: source_of(args), args.host, args.port, Limits(**{name: getattr(args, name) for name in _LIMITS})
            )
        except ServeError as error:
            raise RunError(str(error)) from None
    return 0
