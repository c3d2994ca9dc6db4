# SPDX-License-Identifier: Apache-2.0
"""The command `sknet`: from training to a service."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from sknet.interrupt import Interrupt

_USAGE = """\
usage: sknet COMMAND [OPTIONS]

commands:
  train      train a model on an image folder
  validate   score a checkpoint on an image folder
  info       list the models, or describe one
  predict    name the best classes of photos
  export     write a checkpoint as MindIR or ONNX
  benchmark  time a network and its exported forms
  serve      answer photos over HTTP
  attention  plot what the SK units attend to

`sknet COMMAND --help` lists the options of a command."""

# Each in a module of its own that is imported when it is asked for.
_DEPLOYMENT = ("predict", "export", "benchmark", "serve", "attention")
# Ctrl-C waits for a step of these to end.
_IN_STEPS = ("train", "validate")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors that a user can mend are one line on standard error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if argv else 2
    if argv[0] == "--version":
        from sknet import __version__

        print(f"sknet {__version__}")
        return 0
    try:
        # Before NumPy and MindSpore are imported, whose threads would take the signal.
        with Interrupt() if argv[0] in _IN_STEPS else contextlib.nullcontext():
            return _run(argv)
    except KeyboardInterrupt:
        print("sknet: interrupted", file=sys.stderr)
        return 130


def _run(argv: list[str]) -> int:
    from sknet.cli import commands
    from sknet.cli.info import info

    known = {"train": commands.train, "validate": commands.validate, "info": info}
    if argv[0] not in (*known, *_DEPLOYMENT):
        names = ", ".join((*known, *_DEPLOYMENT))
        print(f"sknet: unknown command {argv[0]!r}; expected one of {names}", file=sys.stderr)
        return 2
    try:
        if argv[0] in _DEPLOYMENT:
            return getattr(importlib.import_module(f"sknet.cli.{argv[0]}"), argv[0])(argv[1:])
        return known[argv[0]](argv[1:])
    except BrokenPipeError:
        # The reader, such as head, has seen enough. The interpreter's last flush must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except commands.USER_ERRORS as error:
        print(f"sknet {argv[0]}: error: {error}", file=sys.stderr)
        return 1
