# SPDX-License-Identifier: Apache-2.0
"""Functions from source text that graph mode can compile.

MindSpore compiles a function from its source, which it finds by the function's file and line: so the text is made known
to ``linecache``, under a file name of its own. Names it looks up in the function's module and in its closure.
"""

from __future__ import annotations

import itertools
import linecache
import textwrap
import types
from collections.abc import Mapping
from typing import Any

_count = itertools.count()


def compile_known(source: str, about: str) -> types.CodeType:
    """The compiled module, whose functions can be found by their file name; `about` says in it what they are."""
    filename = f"<sknet_ops {about} {next(_count)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return compile(source, filename, "exec")


def define(source: str, name: str, about: str, closure: Mapping[str, Any]) -> types.FunctionType:
    """The function `name` that `source` defines over the names of `closure`."""
    made: dict[str, Any] = {"__name__": __name__}
    factory = f"def make({', '.join(closure)}):\n{textwrap.indent(source, '    ')}    return {name}\n"
    exec(compile_known(factory, about), made)
    function = made["make"](**closure)
    # Where MindSpore looks should linecache have been cleared.
    function.source = (source.splitlines(keepends=True), 1)
    return function
