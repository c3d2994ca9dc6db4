# SPDX-License-Identifier: Apache-2.0
"""The modules of benchmarks/cuda, which lie beside a script and import each other by name."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from tests.conftest import ROOT


def module(name: str) -> ModuleType:
    folder = str(ROOT / "benchmarks" / "cuda")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)
