# SPDX-License-Identifier: Apache-2.0
"""Packages that only some commands need."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingPackageError(ImportError):
    """A package that the command needs is not installed; the message says what installs it."""


def require(module: str, extra: str) -> ModuleType:
    """Import a module that the extra `extra` of this package brings."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"{error.name} is not installed; run: pip install 'sknet-ops[{extra}]'") from None
